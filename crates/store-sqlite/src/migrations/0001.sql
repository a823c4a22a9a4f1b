-- Times are milliseconds since the Unix epoch, UTC. Names are the ids that callers know;
-- the integer ids stay inside the file.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Whose data it is. The statistics are those of the owner's memories, for ranking.
CREATE TABLE owner (
    id           INTEGER PRIMARY KEY,
    tenant       TEXT NOT NULL,
    user         TEXT NOT NULL,
    agent        TEXT NOT NULL,
    documents    INTEGER NOT NULL DEFAULT 0,
    total_length INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, user, agent)
) STRICT;

CREATE TABLE session (
    id           INTEGER PRIMARY KEY,
    owner        INTEGER NOT NULL REFERENCES owner (id),
    name         TEXT NOT NULL,
    topic        TEXT NOT NULL,
    messages     INTEGER NOT NULL DEFAULT 0,
    completed    INTEGER NOT NULL DEFAULT 0,
    summary      TEXT,
    summary_upto INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (owner, name)
) STRICT;
CREATE INDEX session_by_age ON session (owner, created_at DESC, name DESC);
CREATE INDEX session_by_idleness ON session (updated_at) WHERE completed = 1;

CREATE TABLE turn (
    session   INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    -- NULL where the turn was imported: its content is taken on trust.
    digest    BLOB,
    PRIMARY KEY (session, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    id         INTEGER PRIMARY KEY,
    session    INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    seq        INTEGER NOT NULL,
    turn       TEXT NOT NULL,
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX message_by_seq ON message (session, seq DESC);

CREATE TABLE memory (
    id         INTEGER PRIMARY KEY,
    owner      INTEGER NOT NULL REFERENCES owner (id),
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    topic      TEXT NOT NULL,
    text       TEXT NOT NULL,
    importance REAL NOT NULL,
    session    TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (owner, name)
) STRICT;
CREATE INDEX memory_by_age ON memory (owner, created_at DESC, name DESC);

-- Which memories hold a term, packed (see postings.rs). The words of one owner stand together,
-- so that a search reads nothing of another's.
CREATE TABLE posting (
    owner   INTEGER NOT NULL,
    term    TEXT NOT NULL,
    first   INTEGER NOT NULL,
    entries BLOB NOT NULL,
    PRIMARY KEY (owner, term, first)
) STRICT, WITHOUT ROWID;

-- phase: 0 waits until due_at, 1 is leased until due_at, 2 died at due_at.
CREATE TABLE job (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    session    INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    owner      INTEGER NOT NULL REFERENCES owner (id),
    kind       TEXT NOT NULL,
    payload    TEXT NOT NULL,
    phase      INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL,
    epoch      INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX job_due ON job (kind, due_at, id) WHERE phase < 2;
CREATE INDEX job_dead ON job (owner, due_at DESC, id) WHERE phase = 2;
CREATE INDEX job_by_session ON job (session);
