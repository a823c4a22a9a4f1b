-- The keys of tenants, each wrapped by a master key that is not in the database. Where a row has
-- sealed content, its clear columns are empty; a digest is sealed in its place.
CREATE TABLE lyceum.tenant_key (
    tenant  text   COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    wrapped bytea  NOT NULL,
    PRIMARY KEY (tenant, version)
);
ALTER TABLE lyceum.tenant_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE lyceum.tenant_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenants ON lyceum.tenant_key USING (lyceum.is_visible(tenant));

ALTER TABLE lyceum.session ADD COLUMN sealed_topic bytea, ADD COLUMN sealed_summary bytea;
ALTER TABLE lyceum.message ADD COLUMN sealed bytea;
ALTER TABLE lyceum.memory ADD COLUMN sealed bytea;
ALTER TABLE lyceum.job ADD COLUMN sealed bytea;
ALTER TABLE lyceum.record ADD COLUMN sealed bytea;
-- Which version of its tenant's key the words of an owner are written with; 0 where they are clear.
ALTER TABLE lyceum.owner ADD COLUMN words_key bigint NOT NULL DEFAULT 0;

-- Whoever writes for a tenant holds the lock of its keys shared, until the transaction's end:
-- meanwhile none is added to them and none destroyed. Tenants share 64 locks.
CREATE FUNCTION lyceum.share_keys(tenant text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared(1819893605, hashtext(tenant) & 63)
$$;

-- Takes the lock of a tenant's keys alone, or all of them.
CREATE FUNCTION lyceum.hold_keys(tenant text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- In one order, so that two calls never wait for each other in a circle.
    FOR n IN 0..63 LOOP
        CONTINUE WHEN n <> hashtext(tenant) & 63;
        PERFORM pg_advisory_xact_lock(1819893605, n);
    END LOOP;
END $$;

-- As before, with the bodies clear or sealed. The state LY002 says that a clear body would be
-- written for a tenant whose texts are sealed: by a process that does not know of it.
CREATE FUNCTION lyceum.write_records(
    whose text, token bigint, kinds text[], names text[], groups text[], bodies text[],
    expected bigint[], seals bytea[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lyceum.share_keys(whose);
    IF EXISTS (SELECT FROM lyceum.tenant_key k WHERE k.tenant = whose) AND EXISTS (
        SELECT FROM unnest(bodies, seals) AS w (body, seal)
        WHERE w.body IS NOT NULL AND w.seal IS NULL
    ) THEN
        RAISE EXCEPTION 'the texts of the tenant are sealed' USING ERRCODE = 'LY002';
    END IF;
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
        UPDATE lyceum.record r SET grouped = groups[n], body = bodies[n], sealed = seals[n],
            written_by = token, revision = r.revision + 1
        WHERE r.tenant = whose AND r.kind = kinds[n] AND r.name = names[n]
            -- One that was created since the look above is not what was expected.
            AND (expected[n] < 0 OR r.revision = expected[n]);
        CONTINUE WHEN FOUND;
        INSERT INTO lyceum.record AS r (tenant, kind, name, grouped, written_by, body, sealed)
        VALUES (whose, kinds[n], names[n], groups[n], token, bodies[n], seals[n])
        ON CONFLICT (tenant, kind, name) DO UPDATE SET grouped = excluded.grouped,
            body = excluded.body, sealed = excluded.sealed, written_by = token,
            revision = r.revision + 1
        WHERE expected[n] < 0;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the record was created meanwhile' USING ERRCODE = 'LY001';
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- The one of format 9, for processes that are not yet brought up to date.
CREATE OR REPLACE FUNCTION lyceum.write_records(
    whose text, token bigint, kinds text[], names text[], groups text[], bodies text[],
    expected bigint[]
) RETURNS boolean LANGUAGE sql AS $$
    SELECT lyceum.write_records(whose, token, kinds, names, groups, bodies, expected,
        array_fill(NULL::bytea, ARRAY[cardinality(kinds)]))
$$;
