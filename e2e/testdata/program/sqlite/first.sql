create table sale (item text, amount integer);
begin;
insert into sale values ('tea', 3), ('tea', 4), ('coffee', 35);
commit;
create index by_item on sale (item);
begin;
delete from sale;
rollback;
