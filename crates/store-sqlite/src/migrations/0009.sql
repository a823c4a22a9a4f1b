-- Items that nodes of graphs keep beside their threads. A shelf is a path, each part ended by
-- U+001F; a vector is its numbers, little-endian.
CREATE TABLE item (
    shelf      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    vector     BLOB,
    expires_at INTEGER,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (shelf, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX item_by_end ON item (expires_at) WHERE expires_at IS NOT NULL;
