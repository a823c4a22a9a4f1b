//! How a provider is reached: time-outs, connections, and why a provider cannot be built.

use std::time::Duration;

/// How long to wait for a provider. Each limit is its own; zero ends a call at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, name look-up and TLS included. Default 5 s.
    pub connect: Duration,
    /// From the start of the call to the first piece of text, reasoning or tool call.
    /// Default 60 s: large models that think in silence and local models that load first
    /// need most of it.
    pub first_token: Duration,
    /// Between two events after that. Bytes that complete no event, and comments, do not
    /// count as progress, so a trickle ends here. Default 30 s.
    pub between_chunks: Duration,
    /// For the whole call; a caller's deadline shortens it. Default 300 s.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            between_chunks: Duration::from_secs(30),
            total: Duration::from_secs(300),
        }
    }
}

/// The connections that are kept open between calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The most idle connections to the provider's host; zero for none. A provider's client
    /// speaks to one host only. Default 100: with ten, 50 calls at once made a new
    /// connection for every other call, 8 to 12 % of a server's CPU time per turn as measured.
    pub max_idle: usize,
    /// How long an idle connection is kept. Default 90 s.
    pub idle_timeout: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_idle: 100,
            idle_timeout: Duration::from_secs(90),
        }
    }
}

/// Why a provider cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The address cannot be used. It is not repeated here: it may hold a password.
    #[error("use the base URL of {provider}: {reason}")]
    BaseUrl {
        /// The provider's name.
        provider: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key holds characters that no HTTP header may carry, such as a line break.
    #[error("use the API key of {provider}: it holds characters that no header may carry")]
    Key {
        /// The provider's name.
        provider: String,
    },
    /// The HTTP client could not be set up, e.g. without root certificates.
    #[error("set up the HTTP client of {provider}")]
    Client {
        /// The provider's name.
        provider: String,
        /// What failed.
        #[source]
        source: reqwest::Error,
    },
}
