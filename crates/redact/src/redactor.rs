//! The entry: text in, redacted text out.

use std::{borrow::Cow, ops::Range};

use lyceum_core::{Finding, Scrubbed, Scrubber};

use crate::{AuditKey, Digest, Kind, scan::scan};

/// Finds and replaces. Cheap to make and to clone.
///
/// ```
/// # use lyceum_redact::{Kind, Redactor};
/// let redactor = Redactor::new();
/// let redacted = redactor.redact("Write to ada@example.org or call 13800138000.");
/// assert_eq!(redacted.text, "Write to [email] or call [phone].");
/// assert_eq!(redacted.found[1].kind, Kind::Phone);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    audit: Option<AuditKey>,
}

/// Something that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it was.
    pub kind: Kind,
    /// Where it stood in the original, in bytes.
    pub span: Range<usize>,
    /// The keyed digest of the original, where the redactor has a key.
    pub digest: Option<Digest>,
}

/// A text without what was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// The text; the original itself where nothing was found.
    pub text: Cow<'a, str>,
    /// What was found, in order.
    pub found: Vec<Found>,
}

impl Redactor {
    /// A redactor that keeps nothing of originals.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A redactor that gives a keyed digest of every original, for an audit.
    #[must_use]
    pub fn with_audit(key: AuditKey) -> Self {
        Self { audit: Some(key) }
    }

    /// Replaces everything that is found. Linear in the text; never fails.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Redacted<'a> {
        let found = self.find(text);
        Redacted {
            text: replace(text, found.iter().map(|found| (found.kind, &found.span))),
            found,
        }
    }

    /// What would be replaced, in order.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        scan(text, |hit| {
            let span = hit.start..hit.end;
            let digest = self
                .audit
                .as_ref()
                .map(|key| key.digest(&text[span.clone()]));
            found.push(Found {
                kind: hit.kind,
                span,
                digest,
            });
        });
        found
    }

    /// The redacted text alone.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut spans = Vec::new();
        scan(text, |hit| spans.push((hit.kind, hit.start..hit.end)));
        replace(text, spans.iter().map(|(kind, span)| (*kind, span)))
    }
}

impl Scrubber for Redactor {
    fn scrub<'a>(&self, text: &'a str) -> Scrubbed<'a> {
        let Redacted { text, found } = self.redact(text);
        let found = found.into_iter().map(|found| Finding {
            kind: found.kind.label(),
            digest: found.digest.map(|digest| digest.to_string()),
        });
        Scrubbed {
            text,
            found: found.collect(),
        }
    }
}

fn replace<'a, 'b>(
    text: &'a str,
    spans: impl ExactSizeIterator<Item = (Kind, &'b Range<usize>)>,
) -> Cow<'a, str> {
    if spans.len() == 0 {
        return Cow::Borrowed(text);
    }
    let mut redacted = String::with_capacity(text.len());
    let mut kept = 0;
    for (kind, span) in spans {
        redacted.push_str(&text[kept..span.start]);
        redacted.push_str(kind.placeholder());
        kept = span.end;
    }
    redacted.push_str(&text[kept..]);
    Cow::Owned(redacted)
}
