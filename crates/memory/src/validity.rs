//! When a memory holds, and when that was known: two axes of time.
//!
//! A memory holds from one moment of the world to another, and is known from the moment it was
//! recorded. What is superseded stays stored: from then on it is known to have held only until its
//! successor's time began. Invariant: an answer as of a known moment never changes afterwards,
//! deletions aside. Deliberately absent: finding out what contradicts what.

use serde::{Deserialize, Serialize};

use crate::{MemoryId, MemoryRecord, NewMemory, Timestamp};

/// A point on both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// What was the case at this moment …
    pub valid: Timestamp,
    /// … as far as it was known at this one.
    pub known: Timestamp,
}

impl AsOf {
    /// What is the case at a moment, as known then.
    #[must_use]
    pub fn at(moment: Timestamp) -> Self {
        Self {
            valid: moment,
            known: moment,
        }
    }
}

/// What took a memory's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The memory that did.
    pub by: MemoryId,
    /// Since when that is known.
    pub at: Timestamp,
    /// From when on the older memory is no longer the case.
    pub from: Timestamp,
}

/// How another store recorded a memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// What took its place there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Superseded>,
}

impl MemoryRecord {
    /// Whether it is the case at that point.
    #[must_use]
    pub fn holds(&self, as_of: AsOf) -> bool {
        let AsOf { valid, known } = as_of;
        let is_over = |end: Timestamp| end <= valid;
        let was_replaced = |past: &Superseded| past.at <= known && past.from <= valid;
        self.recorded_at <= known
            && self.valid_from <= valid
            && !self.valid_to.is_some_and(is_over)
            && !self.superseded.as_ref().is_some_and(was_replaced)
    }

    /// Whether [`holds`](Self::holds) may be false at a present moment: it has an end, was
    /// superseded, or began after it was recorded.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.valid_to.is_some() || self.superseded.is_some() || self.valid_from > self.recorded_at
    }
}

impl NewMemory {
    /// When it came to be, is stored, and begins to hold, where it is stored now.
    #[must_use]
    pub fn times(&self, now: Timestamp) -> Times {
        let recorded_at = self.recorded.as_ref().map_or(now, |recorded| recorded.at);
        let created_at = self.created_at.unwrap_or(now);
        Times {
            created_at,
            recorded_at,
            // A date that lies ahead is no promise that it begins then.
            valid_from: self.valid_from.unwrap_or(created_at.min(recorded_at)),
        }
    }
}

impl From<MemoryRecord> for NewMemory {
    /// The memory as it is stored, for another store.
    fn from(record: MemoryRecord) -> Self {
        Self {
            id: record.id,
            kind: record.kind,
            topic: record.topic,
            text: record.text,
            context: record.context,
            importance: record.importance,
            created_at: Some(record.created_at),
            valid_from: Some(record.valid_from),
            valid_to: record.valid_to,
            supersedes: Vec::new(),
            recorded: Some(Recorded {
                at: record.recorded_at,
                superseded: record.superseded,
            }),
        }
    }
}

/// The moments of a memory that is being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it came to be.
    pub created_at: Timestamp,
    /// When it is recorded.
    pub recorded_at: Timestamp,
    /// From when on it holds.
    pub valid_from: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryKind;

    fn record() -> MemoryRecord {
        MemoryRecord {
            id: MemoryId::new("a").unwrap(),
            kind: MemoryKind::Fact,
            topic: String::new(),
            text: String::new(),
            context: String::new(),
            importance: 0.5,
            session: None,
            created_at: Timestamp(10),
            valid_from: Timestamp(10),
            valid_to: Some(Timestamp(50)),
            recorded_at: Timestamp(20),
            superseded: Some(Superseded {
                by: MemoryId::new("b").unwrap(),
                at: Timestamp(40),
                from: Timestamp(30),
            }),
        }
    }

    #[test]
    fn both_axes_decide() {
        let holds = |valid, known| {
            record().holds(AsOf {
                valid: Timestamp(valid),
                known: Timestamp(known),
            })
        };
        assert!(holds(10, 20) && holds(49, 39) && holds(29, 99));
        assert!(!holds(9, 20), "not yet the case");
        assert!(!holds(10, 19), "not yet known");
        assert!(!holds(50, 39), "over");
        assert!(!holds(30, 40), "superseded");
    }

    #[test]
    fn an_older_record_says_when_by_its_creation() {
        let line = r#"{"id":"a","kind":"fact","topic":"","text":"","importance":0.5,
            "session":null,"created_at":7}"#;
        let old: MemoryRecord = serde_json::from_str(line).unwrap();
        assert_eq!(
            (old.valid_from, old.recorded_at),
            (Timestamp(7), Timestamp(7))
        );
        assert_eq!((old.valid_to, old.superseded), (None, None));
        let text = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            serde_json::from_str::<MemoryRecord>(&text).unwrap(),
            record()
        );
    }
}
