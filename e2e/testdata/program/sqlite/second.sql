select item, sum(amount) from sale group by item order by item;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) select sum(i) from n;
pragma integrity_check;
