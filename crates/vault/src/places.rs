//! Where the texts of a store stand: the tables, columns, rows and the rest that each is sealed with.
//!
//! Invariant: these are associated data of what stores have sealed. Whoever changes one makes
//! existing rows unreadable.
//! Deliberately absent: what only one store seals, which says that itself.

use crate::At;

/// A session of an owner.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// The owner's user.
    pub user: &'a str,
    /// The owner's agent.
    pub agent: &'a str,
    /// The session's name.
    pub name: &'a str,
}

/// What a message's row says beside its content.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its number in the session.
    pub seq: i64,
    /// The turn it is of.
    pub turn: &'a str,
    /// Whose message it is.
    pub role: &'a str,
    /// When it was stored, in milliseconds since 1970 in UTC.
    pub created_at: i64,
}

/// What a memory's row says beside its texts, for good. Times are in milliseconds since 1970 in UTC.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// The owner's user.
    pub user: &'a str,
    /// The owner's agent.
    pub agent: &'a str,
    /// The memory's name.
    pub name: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its importance.
    pub importance: f32,
    /// The session it was made in.
    pub session: Option<&'a str>,
    /// When it was made.
    pub created_at: i64,
    /// When it was recorded.
    pub recorded_at: i64,
    /// Since when it is valid.
    pub valid_from: i64,
    /// Until when it is valid.
    pub valid_to: Option<i64>,
}

impl Session<'_> {
    /// Where the topic stands.
    pub fn topic<T>(self, then: impl FnOnce(At<'_>) -> T) -> T {
        then(At {
            table: "session",
            column: "topic",
            row: &[self.user, self.agent, self.name],
            rest: &[],
        })
    }

    /// Where the summary stands, which covers the messages up to this number.
    pub fn summary<T>(self, upto: i64, then: impl FnOnce(At<'_>) -> T) -> T {
        then(At {
            table: "session",
            column: "summary",
            row: &[self.user, self.agent, self.name],
            rest: &[&upto.to_string()],
        })
    }

    /// Where the content of a message stands.
    pub fn message<T>(self, message: Message<'_>, then: impl FnOnce(At<'_>) -> T) -> T {
        let Message {
            seq,
            turn,
            role,
            created_at,
        } = message;
        then(At {
            table: "message",
            column: "sealed",
            row: &[self.user, self.agent, self.name, &seq.to_string()],
            rest: &[turn, role, &created_at.to_string()],
        })
    }

    /// Where the digest of a turn stands.
    pub fn turn<T>(self, name: &str, then: impl FnOnce(At<'_>) -> T) -> T {
        then(At {
            table: "turn",
            column: "digest",
            row: &[self.user, self.agent, self.name, name],
            rest: &[],
        })
    }

    /// Where the payload of a job of this name and kind stands.
    pub fn job<T>(self, (name, kind): (&str, &str), then: impl FnOnce(At<'_>) -> T) -> T {
        then(At {
            table: "job",
            column: "sealed",
            row: &[self.user, self.agent, self.name, name],
            rest: &[kind],
        })
    }
}

impl Memory<'_> {
    /// Where the texts stand.
    pub fn texts<T>(self, then: impl FnOnce(At<'_>) -> T) -> T {
        let numbers = format!(
            "{:08x} {} {} {} {:?}",
            self.importance.to_bits(),
            self.created_at,
            self.recorded_at,
            self.valid_from,
            self.valid_to
        );
        then(At {
            table: "memory",
            column: "sealed",
            row: &[self.user, self.agent, self.name],
            rest: &[self.kind, self.session.unwrap_or(""), &numbers],
        })
    }
}

/// Where the body of a record of this kind, id and group stands; the group says whose it is.
pub fn record<T>((kind, id, group): (&str, &str, &str), then: impl FnOnce(At<'_>) -> T) -> T {
    then(At {
        table: "record",
        column: "body",
        row: &[kind, id],
        rest: &[group],
    })
}
