-- Documents of the server's own. The number gives the order of lists and is never used twice.
CREATE TABLE record (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    grouped  TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body     TEXT NOT NULL,
    UNIQUE (tenant, kind, name)
) STRICT;
CREATE INDEX record_by_group ON record (tenant, kind, grouped, seq);
CREATE INDEX record_by_kind ON record (kind, tenant, seq);
