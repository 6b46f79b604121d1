-- +goose Up
-- What authenticates a row (store.Guard). Rows from before have no MAC, and grant nothing until they are adopted.
ALTER TABLE tokens ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
ALTER TABLE tokens ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE policies ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
ALTER TABLE policies ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE kept ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
ALTER TABLE kept ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
