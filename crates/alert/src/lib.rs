#![doc = include_str!("../README.md")]
//!
//! Invariant: a condition that lasts is told once, again after the repeat interval, and
//! once when it is over, per channel and however often it is evaluated; a channel that is
//! slow or away delays no other. Deliberately absent: where readings come from, and routing:
//! that is AlertManager's.

mod alerts;
mod channel;
mod dispatch;
pub mod metrics;
mod notice;
mod outbox;
mod rule;

pub use alerts::Alerts;
pub use channel::{BuildError, Channel, Email, EmailConfig, PagerDuty, SendError, Slack, Webhook};
pub use dispatch::{Dispatcher, watch};
pub use notice::{Notice, State};
pub use rule::{Bound, Rule, Severity};
