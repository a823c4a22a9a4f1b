//! The feynman student, with and without a model, and the ReAct loop it thinks by.

mod gaps;
pub mod offline;
mod prompts;
mod questions;
mod react;
mod structured;

pub use gaps::{GapError, parse_gaps};
pub use questions::parse_questions;
pub use react::{ReAct, ReActEvent, ReActLimits, ReActOutcome};
pub use structured::extract_json;
