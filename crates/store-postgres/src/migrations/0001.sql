-- Times are milliseconds since the Unix epoch, UTC, by the server's clock.

CREATE SCHEMA IF NOT EXISTS lyceum;

CREATE TABLE lyceum.migration (
    number     integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The present, not the transaction's beginning: a lease is judged at the moment its row is locked.
CREATE FUNCTION lyceum.now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Threads of graphs. A lease ends at an instant; one that was released ended in 1970.
-- Every commit updates a row in place, for which its page keeps room.
CREATE TABLE lyceum.thread (
    id              bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text    COLLATE "C" NOT NULL UNIQUE,
    epoch           bigint  NOT NULL,
    leased_until    bigint  NOT NULL,
    -- Which call made the lease: a call that is repeated finds its own.
    claimed_by      bigint  NOT NULL,
    -- The highest id ever given to a checkpoint; it survives pruning.
    last_checkpoint bigint
) WITH (fillfactor = 50);

-- The rows of a thread are written under its lease only, and threads are never deleted, so no
-- foreign keys: each would cost every row a lookup and a lock.

CREATE TABLE lyceum.checkpoint (
    thread     bigint   NOT NULL,
    namespace  text     COLLATE "C" NOT NULL,
    id         bigint   NOT NULL,
    head       text     NOT NULL,
    -- Which values the head names: channel by channel, and which checkpoint wrote each.
    channels   text[]   COLLATE "C" NOT NULL,
    written_by bigint[] NOT NULL,
    PRIMARY KEY (thread, namespace, id)
);

-- A channel's value as the checkpoint `written_by` wrote it; later ones refer to it.
CREATE TABLE lyceum.channel_value (
    thread     bigint NOT NULL,
    channel    text   COLLATE "C" NOT NULL,
    written_by bigint NOT NULL,
    bytes      bytea  NOT NULL,
    PRIMARY KEY (thread, channel, written_by)
);

-- The key is the UTF-8 of a text that a program chose; as bytes it may be any text.
CREATE TABLE lyceum.task_record (
    thread     bigint NOT NULL,
    checkpoint bigint NOT NULL,
    task       bigint NOT NULL,
    key        bytea  NOT NULL,
    bytes      bytea  NOT NULL,
    PRIMARY KEY (thread, checkpoint, task, key)
);
