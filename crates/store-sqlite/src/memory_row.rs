//! A memory's row: its columns, its sealed texts, when it holds.
//!
//! Invariant: what a row says beside its texts for good is sealed with them; what may change later,
//! being superseded, is not.

use lyceum_memory::{Times, Timestamp};
use lyceum_vault::places;
use rusqlite::Row;

use crate::{
    error::Failure,
    scope::Owner,
    sealed::{At, Texts},
};

/// The columns of a memory's texts: what is sealed or clear, and what is sealed with it.
macro_rules! columns {
    () => {
        "name, kind, topic, text, importance, session, created_at, context, valid_from, valid_to, \
         recorded_at, sealed"
    };
}
pub(crate) use columns;

/// Whether a memory holds at a point: the first parameter is the valid moment, the second the
/// known one.
macro_rules! holds {
    ($valid:literal, $known:literal) => {
        concat!(
            "(recorded_at <= ",
            $known,
            " AND valid_from <= ",
            $valid,
            " AND (valid_to IS NULL OR valid_to > ",
            $valid,
            ") AND NOT (superseded_at IS NOT NULL \
            AND superseded_at <= ",
            $known,
            " AND superseded_from <= ",
            $valid,
            "))"
        )
    };
}
pub(crate) use holds;

/// What a row says beside its texts, for good; sealed with them.
pub(crate) struct Said<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) importance: f32,
    pub(crate) session: Option<&'a str>,
    pub(crate) times: Times,
    pub(crate) valid_to: Option<Timestamp>,
}

impl Said<'_> {
    pub(crate) fn at<T>(&self, owner: &Owner, then: impl FnOnce(At<'_>) -> T) -> T {
        let Times {
            created_at,
            recorded_at,
            valid_from,
        } = self.times;
        places::Memory {
            user: &owner.user,
            agent: &owner.agent,
            name: self.name,
            kind: self.kind,
            importance: self.importance,
            session: self.session,
            created_at: created_at.0,
            recorded_at: recorded_at.0,
            valid_from: valid_from.0,
            valid_to: self.valid_to.map(|end| end.0),
        }
        .texts(then)
    }
}

/// A memory's row with its texts as they are stored, from [`columns`].
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) kind: String,
    clear: [String; 3],
    pub(crate) importance: f32,
    pub(crate) session: Option<String>,
    pub(crate) times: Times,
    pub(crate) valid_to: Option<Timestamp>,
    pub(crate) sealed: Option<Vec<u8>>,
}

impl Stored {
    /// Reads the columns, the first of which stands at `at`.
    pub(crate) fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(at)?,
            kind: row.get(at + 1)?,
            clear: [row.get(at + 2)?, row.get(at + 3)?, row.get(at + 7)?],
            importance: row.get(at + 4)?,
            session: row.get(at + 5)?,
            times: Times {
                created_at: Timestamp(row.get(at + 6)?),
                recorded_at: Timestamp(row.get(at + 10)?),
                valid_from: Timestamp(row.get(at + 8)?),
            },
            valid_to: row.get::<_, Option<i64>>(at + 9)?.map(Timestamp),
            sealed: row.get(at + 11)?,
        })
    }

    fn said(&self) -> Said<'_> {
        Said {
            name: &self.name,
            kind: &self.kind,
            importance: self.importance,
            session: self.session.as_deref(),
            times: self.times,
            valid_to: self.valid_to,
        }
    }

    /// Topic, text and context.
    pub(crate) fn open(&mut self, owner: &Owner, texts: &Texts) -> rusqlite::Result<[String; 3]> {
        let (sealed, clear) = (self.sealed.take(), std::mem::take(&mut self.clear));
        self.said().at(owner, |at| texts.open(at, sealed, clear))
    }

    /// The same texts sealed anew.
    pub(crate) fn reseal(
        &self,
        owner: &Owner,
        texts: &Texts,
        words: &[String; 3],
    ) -> Result<Option<Vec<u8>>, Failure> {
        let words = words.each_ref().map(String::as_str);
        self.said().at(owner, |at| texts.seal(at, &words))
    }

    pub(crate) fn created_at(&self) -> Timestamp {
        self.times.created_at
    }
}
