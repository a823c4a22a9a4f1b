//! OpenAI's responses: a request's items become messages, a model's events become items.
//!
//! Source: OpenAI API reference, "Responses" and "Streaming events". Invariant: a streamed
//! answer and a whole one come from the same [`Reply`], so they never differ. Deliberately
//! absent: OpenAI's own tools, files, background work and its stored conversations and
//! prompts, which are refused because an answer without them would be another answer.

mod events;
mod input;
mod kept;
mod reply;
mod request;

pub(crate) use events::Events;
pub(crate) use input::messages;
pub(crate) use kept::{Keeper, Kept, keeping};
pub(crate) use reply::Reply;
pub(crate) use request::{Plan, ResponseIn};
