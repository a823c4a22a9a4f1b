#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`Redactor`] reads a text once. A table of bytes says where something may begin or be
//! recognised (`scan`); there one matcher looks at a bounded neighbourhood, or at bytes that
//! no other look will read again, so the work is linear in the text whatever the text is.
//!
//! Invariants: what was replaced is replaced with a placeholder that no matcher finds anything
//! in, so redacting twice is redacting once; nothing panics. Deliberately absent: names and
//! addresses of people, which rules cannot find; and data that is spelt out or hidden on purpose.

mod address;
mod audit;
mod email;
mod fold;
mod iban;
mod kind;
mod number;
mod redactor;
mod scan;
mod secret;

pub use audit::{AuditKey, Digest};
pub use kind::Kind;
pub use redactor::{Found, Redacted, Redactor};
