//! The statements of the vector port.

use crate::{memories::holds, memory_row::columns};

/// Whether a space was used within the hour, and so is not written; whether the trigger has noted
/// all new memories since, which it does for a week (a day of it is left for this call and clocks
/// that differ); and whether older memories are still to be noted.
pub(super) const SPACE: &str = "\
    SELECT id, used_at > lyceum.now_ms() - 3600000, used_at > lyceum.now_ms() - 518400000, \
        EXISTS (SELECT FROM lyceum.setting WHERE key = 'await_vectors ' || s.id) \
    FROM lyceum.vector_space s WHERE model = $1 AND dimensions = $2";

pub(super) const TOUCH: &str =
    "UPDATE lyceum.vector_space SET used_at = lyceum.now_ms() WHERE id = $1";

/// Nobody stores a memory meanwhile, so the trigger notes all that come later.
pub(super) const LOCK: &str = "LOCK TABLE lyceum.memory IN SHARE ROW EXCLUSIVE MODE";

pub(super) const USE: &str = "\
    INSERT INTO lyceum.vector_space AS s (model, dimensions, used_at) \
    VALUES ($1, $2, lyceum.now_ms()) \
    ON CONFLICT (model, dimensions) DO UPDATE SET used_at = excluded.used_at RETURNING id";

/// How far the memories are noted that were there before the space.
pub(super) const BEGIN: &str = "\
    INSERT INTO lyceum.setting (key, value) VALUES ('await_vectors ' || $1::bigint, '0') \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
pub(super) const PROGRESS: &str = "\
    SELECT value::bigint FROM lyceum.setting WHERE key = 'await_vectors ' || $1::bigint FOR UPDATE";
pub(super) const NEXT: &str = "\
    UPDATE lyceum.setting SET value = $2::bigint::text WHERE key = 'await_vectors ' || $1::bigint";
pub(super) const DONE: &str =
    "DELETE FROM lyceum.setting WHERE key = 'await_vectors ' || $1::bigint";

pub(super) const PORTION_END: &str = "\
    SELECT max(id) FROM (SELECT id FROM lyceum.memory WHERE id > $1 ORDER BY id LIMIT $2) portion";

/// The memories of a portion wait that are not settled. They are locked, so that none is deleted
/// meanwhile. Each is looked up by itself: a join would be planned by statistics, which lag behind
/// where much was just stored.
pub(super) const WAIT: &str = "\
    INSERT INTO lyceum.vector_waiting (memory, space) \
    SELECT m.id, $1 FROM lyceum.memory m \
    WHERE m.id > $2 AND m.id <= $3 AND (SELECT v.memory FROM lyceum.embedding v \
        WHERE v.memory = m.id AND v.space = $1) IS NULL \
    FOR KEY SHARE OF m ON CONFLICT DO NOTHING";

pub(super) const WAITING: &str = concat!(
    "SELECT ",
    columns!("m."),
    ", o.tenant, o.user_id, o.agent \
    FROM lyceum.vector_waiting w JOIN lyceum.memory m ON m.id = w.memory \
    JOIN lyceum.owner o ON o.id = m.owner WHERE w.space = $1 ORDER BY w.memory LIMIT $2"
);

/// Of what stands twice among those given the last counts. The memories are locked first, so that
/// none is deleted meanwhile.
pub(super) const SET: &str = "\
    WITH locked AS MATERIALIZED ( \
        SELECT m.id, m.owner, g.tenant, g.data, g.place \
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::vector[]) \
            WITH ORDINALITY AS g (tenant, user_id, agent, name, data, place) \
        JOIN lyceum.owner o ON o.tenant = g.tenant AND o.user_id = g.user_id AND o.agent = g.agent \
        JOIN lyceum.memory m ON m.owner = o.id AND m.name = g.name FOR KEY SHARE OF m \
    ), found AS MATERIALIZED ( \
        SELECT DISTINCT ON (id) id, owner, tenant, data FROM locked ORDER BY id, place DESC \
    ), settled AS ( \
        DELETE FROM lyceum.vector_waiting w USING found WHERE w.space = $1 AND w.memory = found.id \
    ) \
    INSERT INTO lyceum.embedding (tenant, space, owner, memory, data) \
    SELECT tenant, $1, owner, id, data FROM found \
    ON CONFLICT (memory, space) DO UPDATE SET data = excluded.data";

/// The owners with the most memories, of those who have more than so many. One who has an index counts
/// double, so that it is not built and dropped in turns with another's of about the same size.
macro_rules! largest {
    () => {
        "SELECT o.id FROM lyceum.owner o \
            LEFT JOIN lyceum.vector_graph v ON v.space = $1 AND v.owner = o.id \
            WHERE o.documents * CASE WHEN v.owner IS NULL THEN 1 ELSE 2 END > $2 \
            ORDER BY o.documents * CASE WHEN v.owner IS NULL THEN 1 ELSE 2 END DESC, o.id LIMIT $3"
    };
}

/// Those of them who have no index of their own.
pub(super) const LARGE: &str = concat!(
    "SELECT l.id FROM (",
    largest!(),
    ") l WHERE NOT EXISTS (SELECT FROM lyceum.vector_graph g WHERE g.space = $1 AND g.owner = l.id)"
);

/// Those who have one and are none of them, and the spaces that collect nothing any more, lose theirs.
pub(super) const GIVE_UP: &str = concat!(
    "DELETE FROM lyceum.vector_graph g WHERE g.space = $1 AND g.owner NOT IN (",
    largest!(),
    ") OR g.space IN (SELECT id FROM lyceum.vector_space \
        WHERE used_at <= lyceum.now_ms() - 604800000)"
);

/// Whether there are too many indexes, or one of these owners may get one: where all that may be are
/// there, by having more than twice the memories of another.
pub(super) const IS_DUE: &str = "\
    SELECT b.count > $6 OR EXISTS (SELECT FROM unnest($3::text[], $4::text[], $5::text[]) \
            AS g (tenant, user_id, agent) \
        JOIN lyceum.owner o ON o.tenant = g.tenant AND o.user_id = g.user_id AND o.agent = g.agent \
        WHERE o.documents > $2 AND (b.count < $6 OR o.documents > 2 * b.least) \
            AND NOT EXISTS (SELECT FROM lyceum.vector_graph v \
                WHERE v.space = $1 AND v.owner = o.id)) \
    FROM (SELECT count(*) AS count, min(o.documents) AS least FROM lyceum.vector_graph v \
        JOIN lyceum.owner o ON o.id = v.owner WHERE v.space = $1) b";

pub(super) const LOOK: &str = "\
    SELECT s.id, o.id, EXISTS (SELECT FROM lyceum.vector_graph g \
        WHERE g.space = s.id AND g.owner = o.id) \
    FROM lyceum.vector_space s, lyceum.owner o \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND s.model = $4 AND s.dimensions = $5";

/// From the nearest vectors of an owner to its memories. A few more are taken than asked for,
/// because equals are put in the order of their ids.
macro_rules! nearest {
    ($best:literal, $also:literal) => {
        concat!(
            "WITH best AS MATERIALIZED ( \
                SELECT v.memory, ",
            $best,
            " AS far FROM lyceum.embedding v \
                WHERE v.space = $1 AND v.owner = $2",
            $also,
            " AND v.data IS NOT NULL \
                    AND v.memory NOT IN (SELECT p.id FROM lyceum.memory p \
                        WHERE p.owner = $2 AND p.bounded AND NOT ",
            holds!("p.", "(SELECT lyceum.now_ms())", "(SELECT lyceum.now_ms())"),
            ") ORDER BY far LIMIT $4::bigint + 16 \
            ), first AS MATERIALIZED ( \
                SELECT b.memory, b.far FROM best b JOIN lyceum.memory m ON m.id = b.memory \
                ORDER BY b.far, m.name LIMIT $4::bigint \
            ), chosen AS ( \
                SELECT memory, far FROM first \
                UNION \
                SELECT v.memory, v.data <#> $3::vector FROM lyceum.memory m \
                JOIN lyceum.embedding v ON v.memory = m.id AND v.space = $1 \
                WHERE m.owner = $2 AND m.name = ANY ($5) AND v.data IS NOT NULL AND ",
            holds!("m.", "(SELECT lyceum.now_ms())", "(SELECT lyceum.now_ms())"),
            " AND NOT EXISTS (SELECT FROM first WHERE first.memory = m.id) \
            ) \
            SELECT ",
            columns!("m."),
            ", -c.far FROM chosen c JOIN lyceum.memory m ON m.id = c.memory ORDER BY c.far, m.name"
        )
    };
}

/// By an exact comparison with all of the owner's.
pub(super) const NEAREST: &str = nearest!("v.data <#> $3::vector", "");

/// By the owner's own index; `SPACE`, `OWNER` and `DIMENSIONS` stand for numbers, which name it.
pub(super) const NEAREST_BY_GRAPH: &str = nearest!(
    "(v.data::vector(DIMENSIONS)) <#> $3::vector(DIMENSIONS)",
    " AND v.space = SPACE AND v.owner = OWNER"
);

pub(super) const COUNT: &str = "\
    SELECT (SELECT count(*) FROM lyceum.memory), \
        (SELECT count(*) FROM lyceum.embedding WHERE space = $1), \
        (SELECT count(data) FROM lyceum.embedding WHERE space = $1), \
        (SELECT count(*) FROM lyceum.memory m WHERE EXISTS \
                (SELECT FROM lyceum.vector_space WHERE id = $1) \
            AND NOT EXISTS (SELECT FROM lyceum.embedding v WHERE v.memory = m.id AND v.space = $1) \
            AND NOT EXISTS (SELECT FROM lyceum.vector_waiting w \
                WHERE w.memory = m.id AND w.space = $1))";

pub(super) const FORGET: &str = "\
    WITH gone AS (DELETE FROM lyceum.embedding \
        WHERE space = $1 AND memory > $2 AND memory <= $3 RETURNING data IS NOT NULL AS had) \
    SELECT count(*) FILTER (WHERE had) FROM gone";

/// Vectors of a wrong shape, and of another owner than their memory's.
pub(super) const BROKEN: &str = "\
    SELECT s.model, \
        (SELECT count(*) FROM lyceum.embedding v WHERE v.space = s.id \
            AND vector_dims(v.data) <> s.dimensions), \
        (SELECT count(*) FROM lyceum.embedding v JOIN lyceum.memory m ON m.id = v.memory \
            WHERE v.space = s.id AND v.owner <> m.owner) \
    FROM lyceum.vector_space s";

pub(super) const MEND: &str = "\
    DELETE FROM lyceum.embedding v WHERE v.memory > $1 AND v.memory <= $2 AND ( \
        vector_dims(v.data) <> (SELECT s.dimensions FROM lyceum.vector_space s WHERE s.id = v.space) \
        OR v.owner <> (SELECT m.owner FROM lyceum.memory m WHERE m.id = v.memory))";
