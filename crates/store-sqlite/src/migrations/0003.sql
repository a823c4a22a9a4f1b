-- A step of a graph writes a row into each of three tables; every further tree costs it a page
-- of the log. Values therefore stand in their key's own tree, and leases have no index: they
-- are all ended once, when the file is opened.
DROP INDEX thread_by_lease;

CREATE TABLE channel_value_by_key (
    thread     INTEGER NOT NULL REFERENCES thread (id),
    channel    TEXT NOT NULL,
    written_by INTEGER NOT NULL,
    bytes      BLOB NOT NULL,
    PRIMARY KEY (thread, channel, written_by)
) STRICT, WITHOUT ROWID;
INSERT INTO channel_value_by_key SELECT thread, channel, written_by, bytes FROM channel_value;
DROP TABLE channel_value;
ALTER TABLE channel_value_by_key RENAME TO channel_value;
