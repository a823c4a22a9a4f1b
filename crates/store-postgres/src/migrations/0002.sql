-- Sessions, memories and jobs. Names are the ids that callers know; the integer ids stay inside
-- the database. Texts are escaped where they hold U+0000, which the server cannot keep.

-- Whose data it is. The statistics are those of the owner's memories, for ranking.
CREATE TABLE lyceum.owner (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text   COLLATE "C" NOT NULL,
    user_id      text   COLLATE "C" NOT NULL,
    agent        text   COLLATE "C" NOT NULL,
    documents    bigint NOT NULL DEFAULT 0,
    total_length bigint NOT NULL DEFAULT 0,
    UNIQUE (tenant, user_id, agent)
) WITH (fillfactor = 70);

CREATE TABLE lyceum.session (
    id           bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text    COLLATE "C" NOT NULL,
    owner        bigint  NOT NULL REFERENCES lyceum.owner (id),
    name         text    COLLATE "C" NOT NULL,
    topic        text    NOT NULL,
    messages     bigint  NOT NULL DEFAULT 0,
    completed    boolean NOT NULL DEFAULT false,
    summary      text,
    summary_upto bigint  NOT NULL DEFAULT 0,
    created_at   bigint  NOT NULL,
    updated_at   bigint  NOT NULL,
    -- The times of its messages lie between these, which names the partitions that hold them.
    oldest_at    bigint  NOT NULL,
    newest_at    bigint  NOT NULL,
    UNIQUE (owner, name)
) WITH (fillfactor = 70);
CREATE INDEX session_by_age ON lyceum.session (owner, created_at DESC, name DESC);
CREATE INDEX session_by_idleness ON lyceum.session (updated_at) WHERE completed;

-- What belongs to a session is written under the lock of the session's row and deleted with it,
-- so it needs no foreign key, which would cost every row a lookup.
CREATE TABLE lyceum.turn (
    tenant    text   COLLATE "C" NOT NULL,
    session   bigint NOT NULL,
    name      text   COLLATE "C" NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL,
    -- NULL where the turn was imported: its content is taken on trust.
    digest    bytea,
    PRIMARY KEY (session, name)
);

-- One partition a month, made ahead; what is older or has no partition lies in the last one.
CREATE TABLE lyceum.message (
    tenant     text   COLLATE "C" NOT NULL,
    session    bigint NOT NULL,
    seq        bigint NOT NULL,
    turn       text   COLLATE "C" NOT NULL,
    role       text   NOT NULL,
    content    text   NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (session, seq, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE lyceum.message_other PARTITION OF lyceum.message DEFAULT;
ALTER TABLE lyceum.message_other ENABLE ROW LEVEL SECURITY;
ALTER TABLE lyceum.message_other FORCE ROW LEVEL SECURITY;

CREATE TABLE lyceum.memory (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text   COLLATE "C" NOT NULL,
    owner      bigint NOT NULL REFERENCES lyceum.owner (id),
    name       text   COLLATE "C" NOT NULL,
    kind       text   NOT NULL,
    topic      text   NOT NULL,
    text       text   NOT NULL,
    importance real   NOT NULL,
    session    text   COLLATE "C",
    created_at bigint NOT NULL,
    UNIQUE (owner, name)
);
CREATE INDEX memory_by_age ON lyceum.memory (owner, created_at DESC, name DESC);

-- Which memories hold a term. The words of one owner stand together, so that a search reads
-- nothing of another's; the index holds all that it reads.
CREATE TABLE lyceum.posting (
    tenant text    COLLATE "C" NOT NULL,
    owner  bigint  NOT NULL,
    term   text    COLLATE "C" NOT NULL,
    memory bigint  NOT NULL,
    count  bigint  NOT NULL,
    length bigint  NOT NULL,
    PRIMARY KEY (owner, term, memory) INCLUDE (tenant, count, length)
);

-- phase: 0 waits until due_at, 1 is leased until due_at, 2 died at due_at.
CREATE TABLE lyceum.job (
    id         bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text     COLLATE "C" NOT NULL,
    name       text     COLLATE "C" NOT NULL UNIQUE,
    session    bigint   NOT NULL,
    owner      bigint   NOT NULL,
    kind       text     COLLATE "C" NOT NULL,
    payload    text     NOT NULL,
    phase      smallint NOT NULL DEFAULT 0,
    due_at     bigint   NOT NULL,
    epoch      bigint   NOT NULL DEFAULT 0,
    attempts   bigint   NOT NULL DEFAULT 0,
    reason     text     NOT NULL DEFAULT '',
    created_at bigint   NOT NULL
);
CREATE INDEX job_due ON lyceum.job (kind, due_at, id) WHERE phase < 2;
CREATE INDEX job_dead ON lyceum.job (owner, due_at DESC, id) WHERE phase = 2;
CREATE INDEX job_by_session ON lyceum.job (session);

-- A statement sees the rows of the tenant that its transaction names, and none where it names
-- none; the operator's clean-up and the hand-out of jobs see all. This is a second wall: every
-- statement names its owner as well. It holds for the tables' owner too, not for a superuser.
CREATE FUNCTION lyceum.is_visible(tenant text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT tenant = current_setting('lyceum.tenant', true)
            OR current_setting('lyceum.operator', true) = 'on'
    $$;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['owner', 'session', 'turn', 'message', 'memory', 'posting', 'job'] LOOP
        EXECUTE format('ALTER TABLE lyceum.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE lyceum.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenants ON lyceum.%I USING (lyceum.is_visible(tenant))', t);
    END LOOP;
END $$;

-- Makes the partitions of the messages of this month and the `ahead` next ones, where they are
-- absent. One that the last partition already has rows of cannot be made; those rows stay there.
CREATE FUNCTION lyceum.make_partitions(ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month  timestamp;
    name   text;
    bounds bigint[];
BEGIN
    FOR n IN 0..ahead LOOP
        month := date_trunc('month', to_timestamp(lyceum.now_ms() / 1000.0) AT TIME ZONE 'UTC')
            + n * interval '1 month';
        name := 'message_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('lyceum.' || name) IS NOT NULL;
        bounds := ARRAY[
            extract(epoch FROM month AT TIME ZONE 'UTC') * 1000,
            extract(epoch FROM (month + interval '1 month') AT TIME ZONE 'UTC') * 1000
        ];
        BEGIN
            EXECUTE format(
                'CREATE TABLE lyceum.%I PARTITION OF lyceum.message FOR VALUES FROM (%s) TO (%s)',
                name, bounds[1], bounds[2]);
            EXECUTE format('ALTER TABLE lyceum.%I ENABLE ROW LEVEL SECURITY', name);
            EXECUTE format('ALTER TABLE lyceum.%I FORCE ROW LEVEL SECURITY', name);
        EXCEPTION
            WHEN duplicate_table THEN
                NULL; -- Another process was faster.
            WHEN check_violation THEN
                RAISE WARNING 'no partition %: rows of that month lie elsewhere', name;
        END;
    END LOOP;
END $$;
