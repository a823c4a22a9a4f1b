//! The port of what takes personal data and secrets out of a text before it goes where it need
//! not: to a model that makes vectors, into a log.

use std::{borrow::Cow, fmt};

/// Takes out of texts what must not leave. Pure: the same text gives the same.
pub trait Scrubber: Send + Sync + fmt::Debug {
    /// The text without what was found in it; the text itself where nothing was.
    fn scrub<'a>(&self, text: &'a str) -> Scrubbed<'a>;
}

/// A text that may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed<'a> {
    /// The text, with a placeholder for each thing that was found.
    pub text: Cow<'a, str>,
    /// What was found, in order.
    pub found: Vec<Finding>,
}

/// Something that was taken out of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind, of a bounded set, e.g. `email`.
    pub kind: &'static str,
    /// A keyed digest of the original in hexadecimal digits, where there is a key: it tells
    /// whether two originals are the same, and cannot be guessed without the key.
    pub digest: Option<String>,
}
