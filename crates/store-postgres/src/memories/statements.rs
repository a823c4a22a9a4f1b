//! The statements of the memory port.
//!
//! Invariant: each names the tenant, or an owner's row that was found by it, so that an index of
//! theirs is used; row-level security holds beside. Deliberately absent: the search for words, see `words`.

/// Whether a memory holds at a point of both axes.
macro_rules! holds {
    ($of:literal, $valid:literal, $known:literal) => {
        concat!(
            "(",
            $of,
            "recorded_at <= ",
            $known,
            " AND ",
            $of,
            "valid_from <= ",
            $valid,
            " AND (",
            $of,
            "valid_to IS NULL OR ",
            $of,
            "valid_to > ",
            $valid,
            ") AND NOT (",
            $of,
            "superseded_at IS NOT NULL AND ",
            $of,
            "superseded_at <= ",
            $known,
            " AND ",
            $of,
            "superseded_from <= ",
            $valid,
            "))"
        )
    };
}
pub(crate) use holds;

use crate::memory_row::columns;

macro_rules! memory {
    ($which:expr) => {
        concat!(
            "SELECT ",
            columns!(""),
            ", superseded_by, superseded_at, superseded_from FROM lyceum.memory \
            WHERE owner = (SELECT id FROM lyceum.owner \
                WHERE tenant = $1 AND user_id = $2 AND agent = $3) ",
            $which
        )
    };
}

pub(super) const GET: &str = memory!("AND name = $4");

/// A join, because the plan for an array of unknown length may read all that the owner has.
pub(crate) const GET_MANY: &str = concat!(
    "SELECT ",
    columns!("m."),
    ", m.superseded_by, m.superseded_at, m.superseded_from \
    FROM (SELECT DISTINCT name FROM unnest($4::text[]) AS given (name)) asked \
    JOIN lyceum.memory m ON m.name = asked.name AND m.owner = (SELECT id FROM lyceum.owner \
        WHERE tenant = $1 AND user_id = $2 AND agent = $3)"
);

/// The newest memories; [`LIST_AFTER`] is the page after a cursor.
pub(crate) const LIST: &str = memory!("ORDER BY created_at DESC, name DESC LIMIT $4");

pub(crate) const LIST_AFTER: &str =
    memory!("AND (created_at, name) < ($5, $6) ORDER BY created_at DESC, name DESC LIMIT $4");

/// A page of those that held at a point; the first page begins behind everything.
pub(super) const LIST_AS_OF: &str = memory!(concat!(
    "AND (created_at, name) < ($5, $6) AND ",
    holds!("", "$7::bigint", "$8::bigint"),
    " ORDER BY created_at DESC, name DESC LIMIT $4"
));

/// The first of several of one id is stored, and those that are there already stay.
pub(super) const INSERT: &str = "\
    INSERT INTO lyceum.memory \
        (tenant, owner, name, kind, topic, text, importance, session, created_at, context, \
        valid_from, valid_to, recorded_at, superseded_by, superseded_at, superseded_from, bounded, \
        sealed) \
    SELECT $1, $2, m.name, m.kind, m.topic, m.text, m.importance, $3, m.created_at, m.context, \
        m.valid_from, m.valid_to, m.recorded_at, m.superseded_by, m.superseded_at, \
        m.superseded_from, m.valid_to IS NOT NULL OR m.superseded_at IS NOT NULL \
            OR m.valid_from > m.recorded_at, m.sealed \
    FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::real[], $9::bigint[], \
        $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], \
        $16::bigint[], $17::bytea[]) AS m (name, kind, topic, text, importance, created_at, \
        context, valid_from, valid_to, recorded_at, superseded_by, superseded_at, \
        superseded_from, sealed) \
    ON CONFLICT (owner, name) DO NOTHING RETURNING id, name";

/// The place of memories is taken by one that was stored just now.
pub(super) const SUPERSEDE: &str = "\
    UPDATE lyceum.memory old SET superseded_by = new.name, superseded_at = new.recorded_at, \
        superseded_from = new.valid_from, bounded = true \
    FROM lyceum.memory new WHERE new.owner = $1 AND new.name = $2 AND old.owner = $1 \
        AND old.name = ANY ($3::text[]) AND old.superseded_at IS NULL AND old.id <> new.id";

pub(super) const DELETE: &str = concat!(
    "DELETE FROM lyceum.memory m USING lyceum.owner o \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND m.owner = o.id AND m.name = $4 \
    RETURNING ",
    columns!("m."),
    ", m.id, m.owner"
);

pub(super) const FOUND: &str = concat!(
    "SELECT ",
    columns!("m."),
    ", f.score FROM unnest($4::bigint[], $5::float8[]) AS f (id, score) \
    JOIN lyceum.memory m ON m.id = f.id JOIN lyceum.owner o ON o.id = m.owner \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 \
    ORDER BY f.score DESC, m.created_at DESC, m.name LIMIT $6"
);

/// What was said directly before and after each memory: two steps in the index of its session.
/// `OFFSET 0` keeps the look-up of the memory itself apart, which else may go through all episodes.
pub(crate) const BESIDE: &str = concat!(
    "SELECT ",
    columns!("n."),
    ", m.name FROM unnest($4::text[]) WITH ORDINALITY AS asked (name, place) \
    CROSS JOIN LATERAL (SELECT id, owner, name, session, kind FROM lyceum.memory \
        WHERE name = asked.name AND owner = (SELECT id FROM lyceum.owner \
            WHERE tenant = $1 AND user_id = $2 AND agent = $3) OFFSET 0) m \
    CROSS JOIN LATERAL ( \
        (SELECT * FROM lyceum.memory \
            WHERE owner = m.owner AND session = m.session AND kind = 'episode' AND id < m.id \
            ORDER BY id DESC LIMIT 1) \
        UNION ALL \
        (SELECT * FROM lyceum.memory \
            WHERE owner = m.owner AND session = m.session AND kind = 'episode' AND id > m.id \
            ORDER BY id LIMIT 1) \
    ) n WHERE m.kind = 'episode' AND ",
    holds!("n.", "(SELECT lyceum.now_ms())", "(SELECT lyceum.now_ms())"),
    " ORDER BY asked.place, n.id"
);
