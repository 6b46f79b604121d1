-- +goose Up
-- Up to which record of the log decisions were purged; 0: none.
ALTER TABLE state ADD COLUMN retained INTEGER NOT NULL DEFAULT 0;
