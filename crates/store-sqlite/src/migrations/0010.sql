-- When a memory holds and since when that is known. `bounded` marks those that may not hold now.
ALTER TABLE memory ADD COLUMN valid_from INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memory ADD COLUMN valid_to INTEGER;
ALTER TABLE memory ADD COLUMN recorded_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memory ADD COLUMN superseded_by TEXT;
ALTER TABLE memory ADD COLUMN superseded_at INTEGER;
ALTER TABLE memory ADD COLUMN superseded_from INTEGER;
ALTER TABLE memory ADD COLUMN bounded INTEGER NOT NULL DEFAULT 0;
UPDATE memory SET valid_from = created_at, recorded_at = created_at;
CREATE INDEX memory_bounded ON memory (owner) WHERE bounded = 1;

-- The keys of tenants, each wrapped by a master key that is not in the file. Where a row has
-- sealed content, its clear columns are empty; a digest and a vector are sealed in their place.
CREATE TABLE tenant_key (
    tenant  TEXT    NOT NULL,
    version INTEGER NOT NULL,
    wrapped BLOB    NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT, WITHOUT ROWID;
ALTER TABLE session ADD COLUMN sealed_topic BLOB;
ALTER TABLE session ADD COLUMN sealed_summary BLOB;
ALTER TABLE message ADD COLUMN sealed BLOB;
ALTER TABLE memory ADD COLUMN sealed BLOB;
ALTER TABLE job ADD COLUMN sealed BLOB;
ALTER TABLE record ADD COLUMN sealed BLOB;
-- Which version of its tenant's key the words of an owner are written with; 0 where they are clear.
ALTER TABLE owner ADD COLUMN words_key INTEGER NOT NULL DEFAULT 0;
