//! The two wire formats.
//!
//! Each is written from the vendor's public API reference with structs of its own, apart
//! from `crates/llm`, so that a mistake there is not repeated here. A format reads a
//! request into an [`Ask`] and writes an [`Answer`] as a body or as events. Deliberately
//! absent: everything of the APIs that a chat client does not use.

pub(crate) mod anthropic;
pub(crate) mod content;
pub(crate) mod embeddings;
pub(crate) mod limits;
pub(crate) mod openai;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::{answer::Answer, ask::Ask, quota::Limit};

/// The vendor whose format a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
}

/// What identifies an answer.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Unique in this server's life; repeatable for the same seed and request number.
    pub(crate) bits: u64,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// A reason for not answering, in no particular format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    Invalid {
        message: String,
        param: Option<&'static str>,
    },
    WrongKey,
    UnknownModel(String),
    UnknownPath(String),
    TooLarge,
    RateLimited {
        limit: Limit,
        retry_after: Option<Duration>,
    },
    ServerError,
    Overloaded,
}

impl Problem {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            param: None,
        }
    }

    pub(crate) fn about(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            param: Some(param),
        }
    }
}

/// The events of a streamed answer, each with the output tokens it carries.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: Vec<u8>,
    ends: Vec<(usize, u64)>,
}

impl Events {
    /// Appends a `data:` line, after an `event:` line where there is a name.
    pub(crate) fn push(&mut self, name: Option<&str>, data: &impl Serialize, tokens: u64) {
        if let Some(name) = name {
            self.buffer.extend_from_slice(b"event: ");
            self.buffer.extend_from_slice(name.as_bytes());
            self.buffer.push(b'\n');
        }
        self.buffer.extend_from_slice(b"data: ");
        write_json(&mut self.buffer, data);
        self.end(tokens);
    }

    /// Appends a `data:` line that is not JSON.
    pub(crate) fn push_literal(&mut self, data: &str) {
        self.buffer.extend_from_slice(b"data: ");
        self.buffer.extend_from_slice(data.as_bytes());
        self.end(0);
    }

    fn end(&mut self, tokens: u64) {
        self.buffer.extend_from_slice(b"\n\n");
        self.ends.push((self.buffer.len(), tokens));
    }

    /// All events in one piece, and the tokens of all.
    pub(crate) fn whole(self) -> (Bytes, u64) {
        (
            self.buffer.into(),
            self.ends.iter().map(|(_, tokens)| tokens).sum(),
        )
    }

    /// The events one by one.
    pub(crate) fn split(self) -> Vec<(Bytes, u64)> {
        let mut rest = Bytes::from(self.buffer);
        let mut start = 0;
        let events = self.ends.into_iter().map(|(end, tokens)| {
            let event = rest.split_to(end - start);
            start = end;
            (event, tokens)
        });
        events.collect()
    }
}

pub(crate) fn write_json(buffer: &mut Vec<u8>, data: &impl Serialize) {
    // Writing these structs to memory cannot fail; if it ever did, the checks of every
    // client would find the missing data.
    let _ = serde_json::to_writer(buffer, data);
}

pub(crate) fn to_json(data: &impl Serialize) -> Bytes {
    let mut buffer = Vec::with_capacity(512);
    write_json(&mut buffer, data);
    buffer.into()
}

impl Dialect {
    /// A whole answer.
    pub(crate) fn body(self, identity: &Identity, ask: &Ask, answer: &Answer) -> Bytes {
        match self {
            Self::OpenAi => openai::body(identity, ask, answer),
            Self::Anthropic => anthropic::body(identity, ask, answer),
        }
    }

    /// A streamed answer.
    pub(crate) fn events(self, identity: &Identity, ask: &Ask, answer: &Answer) -> Events {
        match self {
            Self::OpenAi => openai::events(identity, ask, answer),
            Self::Anthropic => anthropic::events(identity, ask, answer),
        }
    }

    /// A refusal.
    pub(crate) fn problem(self, identity: &Identity, problem: &Problem) -> (StatusCode, Bytes) {
        match self {
            Self::OpenAi => openai::problem(problem),
            Self::Anthropic => anthropic::problem(identity, problem),
        }
    }

    /// An error in the middle of a stream.
    pub(crate) fn error_event(self, identity: &Identity) -> Bytes {
        let mut events = Events::default();
        match self {
            Self::OpenAi => openai::error_event(&mut events),
            Self::Anthropic => anthropic::error_event(&mut events, identity),
        }
        events.whole().0
    }
}
