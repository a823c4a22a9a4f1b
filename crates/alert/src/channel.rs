//! Where notices go.

mod email;
mod http;

use std::fmt;

use async_trait::async_trait;

use crate::Notice;

pub use email::{Email, EmailConfig};
pub use http::{PagerDuty, Slack, Webhook};

/// One way to tell people.
#[async_trait]
pub trait Channel: Send + Sync + fmt::Debug {
    /// Its name for labels and logs, e.g. `slack`.
    fn name(&self) -> &'static str;

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// [`SendError`]; no secret of the channel is in it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the message sent or not.
    async fn send(&self, notice: &Notice) -> Result<(), SendError>;
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver cannot be reached or does not answer.
    #[error("reach the receiver: {detail}")]
    Unreachable {
        /// What failed.
        detail: String,
    },
    /// The receiver answered with an error.
    #[error("be taken by the receiver: status {status}")]
    Refused {
        /// Its HTTP status or SMTP code.
        status: u16,
        /// Whether the same message may be taken later.
        is_retryable: bool,
    },
    /// The message cannot be written in the channel's form.
    #[error("write the message: {detail}")]
    Message {
        /// What is wrong.
        detail: String,
    },
}

impl SendError {
    /// Whether the same message may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { is_retryable, .. } => *is_retryable,
            Self::Message { .. } => false,
        }
    }
}

/// Why a channel cannot be built. What was configured is not repeated: it may be a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The address cannot be used.
    #[error("use the address of the {channel} channel: {reason}")]
    Address {
        /// The channel.
        channel: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be set up.
    #[error("set up the {channel} channel")]
    Client {
        /// The channel.
        channel: &'static str,
        /// What failed.
        #[source]
        source: reqwest::Error,
    },
}
