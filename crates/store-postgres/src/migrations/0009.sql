-- Small documents of a server, by kind and name. They are listed by the number that their creation
-- got, which replacing keeps. Most are replaced often and in place, for which pages keep room.
CREATE TABLE lyceum.record (
    tenant     text   COLLATE "C" NOT NULL,
    kind       text   COLLATE "C" NOT NULL,
    name       text   COLLATE "C" NOT NULL,
    grouped    text   COLLATE "C" NOT NULL,
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    revision   bigint NOT NULL DEFAULT 1,
    -- Which call wrote it: a call that is repeated finds its own.
    written_by bigint NOT NULL,
    body       text   NOT NULL
) WITH (fillfactor = 70);
-- In this order: of a table without statistics all indexes look alike, and the last is taken.
CREATE INDEX record_by_kind ON lyceum.record (kind, seq);
CREATE INDEX record_by_age ON lyceum.record (tenant, kind, seq);
CREATE INDEX record_by_group ON lyceum.record (tenant, kind, grouped, seq);
ALTER TABLE lyceum.record ADD PRIMARY KEY (tenant, kind, name);

ALTER TABLE lyceum.record ENABLE ROW LEVEL SECURITY;
ALTER TABLE lyceum.record FORCE ROW LEVEL SECURITY;
CREATE POLICY tenants ON lyceum.record USING (lyceum.is_visible(tenant));

-- Does all writes or, where an expectation is not met, none; a body of NULL removes. Expected is a
-- revision, 0 for no such record, below it nothing. One call is one round trip. Where another call
-- creates the same record meanwhile, the state LY001 undoes this one.
CREATE FUNCTION lyceum.write_records(
    whose text, token bigint, kinds text[], names text[], groups text[], bodies text[],
    expected bigint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- In one order, so that two calls never wait for each other in a circle.
    PERFORM FROM lyceum.record r WHERE r.tenant = whose
        AND (r.kind, r.name) IN (SELECT * FROM unnest(kinds, names))
        ORDER BY r.kind, r.name FOR UPDATE;
    IF EXISTS (
        SELECT FROM unnest(kinds, names, bodies) AS w (kind, name, body)
        JOIN lyceum.record r ON r.tenant = whose AND r.kind = w.kind AND r.name = w.name
        WHERE w.body IS NOT NULL AND r.written_by = token
    ) THEN
        RETURN true; -- The answer to an earlier attempt of this call was lost.
    END IF;
    IF EXISTS (
        SELECT FROM unnest(kinds, names, expected) AS w (kind, name, expected)
        LEFT JOIN lyceum.record r ON r.tenant = whose AND r.kind = w.kind AND r.name = w.name
        WHERE w.expected >= 0 AND w.expected <> coalesce(r.revision, 0)
    ) THEN
        RETURN false;
    END IF;
    FOR n IN 1..cardinality(kinds) LOOP
        IF bodies[n] IS NULL THEN
            DELETE FROM lyceum.record r
            WHERE r.tenant = whose AND r.kind = kinds[n] AND r.name = names[n];
            CONTINUE;
        END IF;
        -- First as if it were there: a number is used up by every attempt to create.
        UPDATE lyceum.record r SET grouped = groups[n], body = bodies[n], written_by = token,
            revision = r.revision + 1
        WHERE r.tenant = whose AND r.kind = kinds[n] AND r.name = names[n]
            -- One that was created since the look above is not what was expected.
            AND (expected[n] < 0 OR r.revision = expected[n]);
        CONTINUE WHEN FOUND;
        INSERT INTO lyceum.record AS r (tenant, kind, name, grouped, written_by, body)
        VALUES (whose, kinds[n], names[n], groups[n], token, bodies[n])
        ON CONFLICT (tenant, kind, name) DO UPDATE SET grouped = excluded.grouped,
            body = excluded.body, written_by = token, revision = r.revision + 1
        WHERE expected[n] < 0;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the record was created meanwhile' USING ERRCODE = 'LY001';
        END IF;
    END LOOP;
    RETURN true;
END $$;
