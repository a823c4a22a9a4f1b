//! What one unit of work costs, as `cargo xtask capacity` measured it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file that the measurement writes.
const FIGURES: &str = include_str!("measured.toml");

/// Costs by unit of work, on the machine that is named.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    /// When.
    pub day: String,
    /// On what.
    pub machine: String,
    /// A turn of `POST /chat` that a SQLite file keeps.
    pub turn: Turn,
    /// What the same turn is to a PostgreSQL server.
    pub postgres: Postgres,
    /// A discussion of `POST /panel`.
    pub discussion: Discussion,
    /// The process.
    pub server: Process,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    /// Microseconds of CPU in the server.
    pub cpu_us: f64,
    /// Bytes by which the store grew.
    pub store_bytes: f64,
    /// Input tokens of its model calls together, as the provider's simulator counts them.
    pub input_tokens: f64,
    /// Its model calls.
    pub model_calls: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    /// Microseconds of CPU in all of its processes.
    pub cpu_us: f64,
    /// Transactions.
    pub transactions: f64,
    /// The whole turn's time with one user: no transaction holds a connection longer.
    pub latency_ms: f64,
    /// Bytes by which the database grew.
    pub bytes: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Discussion {
    /// Microseconds of CPU in the server.
    pub cpu_us: f64,
    /// Its model calls.
    pub model_calls: f64,
    /// Input tokens of its model calls together.
    pub input_tokens: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    /// Resident memory of a server that nobody asks.
    pub idle_bytes: f64,
    /// What an open stream with a discussion behind it adds.
    pub stream_bytes: f64,
}

impl Measured {
    /// The figures compiled in.
    ///
    /// # Errors
    ///
    /// A file of another form, which a test finds.
    pub(super) fn built_in() -> Result<Self> {
        toml::from_str(FIGURES).context("read bins/lyceum/src/capacity/measured.toml")
    }
}
