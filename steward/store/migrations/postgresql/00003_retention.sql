-- +goose Up
-- Up to which record of the log decisions were purged; 0: none.
ALTER TABLE state ADD COLUMN retained BIGINT NOT NULL DEFAULT 0;
-- Records and details are 3 KiB or so: within the page they cost neither a try to compress them (details are already) nor rows of
-- another table with an index of its own.
ALTER TABLE audit SET (toast_tuple_target = 8160);
ALTER TABLE decisions SET (toast_tuple_target = 8160);
