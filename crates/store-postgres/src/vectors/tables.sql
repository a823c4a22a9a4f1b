-- What keeps vectors, made where the extension `vector` is there. All of it can be made anew from
-- the memories.

-- A model and its dimensions. One that nobody used for a week collects nothing until it is used.
CREATE TABLE lyceum.vector_space (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model      text   COLLATE "C" NOT NULL,
    dimensions bigint NOT NULL,
    used_at    bigint NOT NULL,
    UNIQUE (model, dimensions)
);

-- A memory's vector, of length one; NULL where the model has nothing to say to it. Its name is not the
-- type's: a user called lyceum looks for types in this schema first.
CREATE TABLE lyceum.embedding (
    tenant text   COLLATE "C" NOT NULL,
    space  bigint NOT NULL REFERENCES lyceum.vector_space (id),
    owner  bigint NOT NULL,
    memory bigint NOT NULL REFERENCES lyceum.memory (id) ON DELETE CASCADE,
    data   vector,
    PRIMARY KEY (memory, space)
);
-- In the row itself as long as it fits there: a comparison reads all of an owner's.
ALTER TABLE lyceum.embedding ALTER COLUMN data SET STORAGE MAIN;
CREATE INDEX embedding_by_owner ON lyceum.embedding (space, owner);

ALTER TABLE lyceum.embedding ENABLE ROW LEVEL SECURITY;
ALTER TABLE lyceum.embedding FORCE ROW LEVEL SECURITY;
-- As for the other tables; the settings are looked at once a statement, not once a row.
CREATE POLICY tenants ON lyceum.embedding USING (
    tenant = (SELECT current_setting('lyceum.tenant', true))
    OR (SELECT current_setting('lyceum.operator', true)) = 'on'
);

-- The memories that wait for a vector.
CREATE TABLE lyceum.vector_waiting (
    memory bigint NOT NULL REFERENCES lyceum.memory (id) ON DELETE CASCADE,
    space  bigint NOT NULL REFERENCES lyceum.vector_space (id),
    PRIMARY KEY (memory, space)
);

-- The owners who have so many vectors that an index of their own is searched.
CREATE TABLE lyceum.vector_graph (
    space bigint NOT NULL REFERENCES lyceum.vector_space (id),
    owner bigint NOT NULL REFERENCES lyceum.owner (id) ON DELETE CASCADE,
    PRIMARY KEY (owner, space)
);

CREATE FUNCTION lyceum.await_vectors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lyceum.vector_waiting (memory, space)
    SELECT n.id, s.id FROM new_rows n CROSS JOIN lyceum.vector_space s
    WHERE s.used_at > lyceum.now_ms() - 604800000;
    RETURN NULL;
END $$;
CREATE TRIGGER memory_waits AFTER INSERT ON lyceum.memory REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION lyceum.await_vectors();
