-- Threads of graphs. A lease ends at an instant; one that was released ended in 1970.
CREATE TABLE thread (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    epoch           INTEGER NOT NULL,
    leased_until    INTEGER NOT NULL,
    -- The highest id ever given to a checkpoint; it survives pruning.
    last_checkpoint INTEGER
) STRICT;
CREATE INDEX thread_by_lease ON thread (leased_until) WHERE leased_until > 0;

CREATE TABLE checkpoint (
    thread    INTEGER NOT NULL REFERENCES thread (id),
    namespace TEXT NOT NULL,
    id        INTEGER NOT NULL,
    head      TEXT NOT NULL,
    PRIMARY KEY (thread, namespace, id)
) STRICT, WITHOUT ROWID;

-- A channel's value as the checkpoint `written_by` wrote it; later ones refer to it.
CREATE TABLE channel_value (
    thread     INTEGER NOT NULL REFERENCES thread (id),
    channel    TEXT NOT NULL,
    written_by INTEGER NOT NULL,
    bytes      BLOB NOT NULL,
    UNIQUE (thread, channel, written_by)
) STRICT;

CREATE TABLE task_record (
    thread     INTEGER NOT NULL REFERENCES thread (id),
    checkpoint INTEGER NOT NULL,
    task       INTEGER NOT NULL,
    key        TEXT NOT NULL,
    bytes      BLOB NOT NULL,
    PRIMARY KEY (thread, checkpoint, task, key)
) STRICT, WITHOUT ROWID;
