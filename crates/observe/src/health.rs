//! Health of the process and of what it depends on, as data.
//!
//! Invariant: a report costs at most the longest time-out of its checks, and each
//! dependency is asked at most once per its freshness, however many clients ask.
//! Deliberately absent: HTTP, and any judgement of liveness by a dependency.

mod check;

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use metrics::gauge;
use serde::Serialize;

use check::Check;
pub use check::{CheckReport, Importance, Observation, Probe};

use crate::metrics::{HEALTH_CHECK, HEALTH_LIFECYCLE};

/// How well something is, in the words of `application/health+json`
/// (draft-inadarei-api-health-check-06). Ordered: worse is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Pass,
    /// It works, with something missing.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    /// The status' name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The phases of a process. It moves forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Migrations run, models load; no traffic yet.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it has; balancers should send traffic elsewhere.
    Draining,
}

impl Lifecycle {
    /// The phase's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Starting,
            1 => Self::Ready,
            _ => Self::Draining,
        }
    }
}

/// How long checks may take and how long their results last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// The longest a probe may take; default 2 s.
    pub timeout: Duration,
    /// How long a result is served before the dependency is asked again; default 2 s,
    /// within the 1 to 5 s that keep both the dependency and the answer useful.
    pub fresh_for: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            fresh_for: Duration::from_secs(2),
        }
    }
}

/// Everything that is known about the health of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The worst of the checks; an advisory check that fails counts as a warning.
    pub status: Status,
    /// The phase of the process.
    pub lifecycle: Lifecycle,
    /// The checks, in the order of registration.
    pub checks: Vec<CheckReport>,
}

impl Report {
    /// Whether traffic should be sent here: the process is ready and no critical check fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lifecycle == Lifecycle::Ready && self.status != Status::Fail
    }
}

/// The health registry. Clones share their state.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    config: HealthConfig,
    lifecycle: AtomicU8,
    checks: RwLock<Vec<Arc<Check>>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("lifecycle", &self.lifecycle())
            .finish_non_exhaustive()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(HealthConfig::default())
    }
}

impl Health {
    /// A registry without checks, starting.
    #[must_use]
    pub fn new(config: HealthConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            lifecycle: AtomicU8::new(Lifecycle::Starting as u8),
            checks: RwLock::default(),
        }))
    }

    /// Adds a dependency. `name` is bounded and stable, e.g. `database`; it becomes a label.
    pub fn register(
        &self,
        name: impl Into<String>,
        importance: Importance,
        probe: impl Probe + 'static,
    ) {
        let check = Check::new(name.into(), importance, self.0.config, Box::new(probe));
        let mut checks = self
            .0
            .checks
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        checks.push(Arc::new(check));
    }

    /// The phase of the process.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle::from_u8(self.0.lifecycle.load(Ordering::Acquire))
    }

    /// Moves to a later phase; a move backwards is ignored, so a drain cannot be undone.
    pub fn enter(&self, phase: Lifecycle) {
        let before = self.0.lifecycle.fetch_max(phase as u8, Ordering::AcqRel);
        if before < phase as u8 {
            gauge!(HEALTH_LIFECYCLE).set(f64::from(phase as u8));
            tracing::info!(lifecycle = phase.as_str(), "lifecycle changed");
        }
    }

    /// Asks every dependency whose last answer is stale, all at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the probes under way; nothing else is lost.
    pub async fn report(&self) -> Report {
        let checks = {
            let checks = self.0.checks.read().unwrap_or_else(PoisonError::into_inner);
            checks.clone()
        };
        let checks = join_all(checks.iter().map(|check| check.report())).await;
        for check in &checks {
            let value = match check.status {
                Status::Pass => 1.0,
                Status::Warn => 0.5,
                Status::Fail => 0.0,
            };
            gauge!(HEALTH_CHECK, "check" => check.name.clone()).set(value);
        }
        let worst = checks.iter().map(CheckReport::effect).max();
        Report {
            status: worst.unwrap_or(Status::Pass),
            lifecycle: self.lifecycle(),
            checks,
        }
    }
}

#[cfg(test)]
mod tests;
