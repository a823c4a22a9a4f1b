//! A memory's row: its columns and its sealed texts.
//!
//! Invariant: what a row says beside its texts for good is sealed with them; what may change later,
//! being superseded, is not.

use lyceum_memory::{Times, Timestamp};
use lyceum_vault::{At, SealError, SealedRow, Texts, places};
use tokio_postgres::Row;

use crate::{error::Failure, row::time, scope::Owner, text::original};

/// The columns that [`Stored::read`] reads: what is sealed or clear, and what is sealed with it.
macro_rules! columns {
    ($of:literal) => {
        concat!(
            $of,
            "name, ",
            $of,
            "kind, ",
            $of,
            "topic, ",
            $of,
            "text, ",
            $of,
            "importance, ",
            $of,
            "session, ",
            $of,
            "created_at, ",
            $of,
            "context, ",
            $of,
            "valid_from, ",
            $of,
            "valid_to, ",
            $of,
            "recorded_at, ",
            $of,
            "sealed"
        )
    };
}
pub(crate) use columns;

/// How many columns these are.
pub(crate) const COLUMNS: usize = 12;

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
    pub(crate) fn at<T>(&self, owner: Owner<'_>, then: impl FnOnce(At<'_>) -> T) -> T {
        let Times {
            created_at,
            recorded_at,
            valid_from,
        } = self.times;
        places::Memory {
            user: owner.user,
            agent: owner.agent,
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

/// A memory's row with its texts as they are stored.
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
    /// Reads the columns, which stand first.
    pub(crate) fn read(row: &Row) -> Result<Self, Failure> {
        Ok(Self {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            clear: [row.try_get(2)?, row.try_get(3)?, row.try_get(7)?],
            importance: row.try_get(4)?,
            session: row.try_get(5)?,
            times: Times {
                created_at: time(row, 6)?,
                recorded_at: time(row, 10)?,
                valid_from: time(row, 8)?,
            },
            valid_to: row.try_get::<_, Option<i64>>(9)?.map(Timestamp),
            sealed: row.try_get(11)?,
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
    pub(crate) fn open(
        &mut self,
        owner: Owner<'_>,
        texts: &Texts,
    ) -> Result<[String; 3], SealedRow> {
        let (sealed, clear) = (self.sealed.take(), std::mem::take(&mut self.clear));
        self.said()
            .at(owner, |at| texts.open(at, sealed, clear.map(original)))
    }

    /// These texts sealed anew.
    pub(crate) fn reseal(
        &self,
        owner: Owner<'_>,
        texts: &Texts,
        words: &[String; 3],
    ) -> Result<Option<Vec<u8>>, SealError> {
        let words = words.each_ref().map(String::as_str);
        self.said().at(owner, |at| texts.seal(at, &words))
    }
}
