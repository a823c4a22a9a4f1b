//! One dependency: how it is asked, and what it last answered.
//!
//! Invariant: at most one probe of a check runs at a time; who asks meanwhile waits
//! for its result. A probe that takes too long is a failure, not a wait.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{HealthConfig, Status};
use crate::metrics::HEALTH_DURATION;

/// What a failing dependency means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Importance {
    /// Without it the process cannot serve and is not ready.
    Critical,
    /// Without it the process serves less; it stays ready.
    Advisory,
}

/// What a probe found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// How well the dependency is.
    pub status: Status,
    /// Why, for the operator; never shown to a client that is not authenticated.
    pub detail: Option<String>,
    /// Figures worth showing, e.g. `("queued", 3.0)`; the names are bounded.
    pub values: Vec<(&'static str, f64)>,
}

impl Observation {
    /// All is well.
    #[must_use]
    pub fn pass() -> Self {
        Self {
            status: Status::Pass,
            detail: None,
            values: Vec::new(),
        }
    }

    /// It works, with something missing.
    #[must_use]
    pub fn warn(detail: impl Into<String>) -> Self {
        Self {
            status: Status::Warn,
            detail: Some(detail.into()),
            values: Vec::new(),
        }
    }

    /// It does not work.
    #[must_use]
    pub fn fail(detail: impl Into<String>) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(detail)
        }
    }

    /// The same observation with one more figure.
    #[must_use]
    pub fn with_value(mut self, name: &'static str, value: f64) -> Self {
        self.values.push((name, value));
        self
    }
}

/// Asks one dependency how it is.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Observes the dependency. It should cost little: it runs every few seconds.
    ///
    /// # Cancel safety
    ///
    /// It is dropped when it takes longer than [`HealthConfig::timeout`].
    async fn probe(&self) -> Observation;
}

/// A closure that needs no waiting is a probe.
#[async_trait]
impl<F: Fn() -> Observation + Send + Sync> Probe for F {
    async fn probe(&self) -> Observation {
        self()
    }
}

/// The last known state of one dependency.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// The dependency.
    pub name: String,
    /// What its failure means.
    pub importance: Importance,
    /// How well it is.
    pub status: Status,
    /// Why, for the operator.
    pub detail: Option<String>,
    /// Figures of the probe.
    pub values: Vec<(&'static str, f64)>,
    /// How long the probe took.
    pub took: Duration,
    /// How long ago it was asked.
    pub age: Duration,
}

impl CheckReport {
    /// What the state means for the whole process.
    #[must_use]
    pub fn effect(&self) -> Status {
        match self.importance {
            Importance::Critical => self.status,
            Importance::Advisory => self.status.min(Status::Warn),
        }
    }
}

/// A registered dependency.
pub(super) struct Check {
    name: String,
    importance: Importance,
    config: HealthConfig,
    probe: Box<dyn Probe>,
    last: Mutex<Option<Answer>>,
}

#[derive(Clone)]
struct Answer {
    at: Instant,
    took: Duration,
    observation: Observation,
}

impl Check {
    pub(super) fn new(
        name: String,
        importance: Importance,
        config: HealthConfig,
        probe: Box<dyn Probe>,
    ) -> Self {
        Self {
            name,
            importance,
            config,
            probe,
            last: Mutex::default(),
        }
    }

    pub(super) async fn report(&self) -> CheckReport {
        let answer = self.answer().await;
        CheckReport {
            name: self.name.clone(),
            importance: self.importance,
            status: answer.observation.status,
            detail: answer.observation.detail,
            values: answer.observation.values,
            took: answer.took,
            age: answer.at.elapsed(),
        }
    }

    async fn answer(&self) -> Answer {
        let mut last = self.last.lock().await;
        if let Some(answer) = &*last
            && answer.at.elapsed() < self.config.fresh_for
        {
            return answer.clone();
        }
        let started = Instant::now();
        let observation = timeout(self.config.timeout, self.probe.probe())
            .await
            .unwrap_or_else(|_| {
                Observation::fail(format!("no answer within {:?}", self.config.timeout))
            });
        let answer = Answer {
            at: Instant::now(),
            took: started.elapsed(),
            observation,
        };
        metrics::histogram!(HEALTH_DURATION, "check" => self.name.clone())
            .record(answer.took.as_secs_f64());
        self.log_change(last.as_ref(), &answer.observation);
        *last = Some(answer.clone());
        answer
    }

    fn log_change(&self, last: Option<&Answer>, now: &Observation) {
        let before = last.map_or(Status::Pass, |answer| answer.observation.status);
        if before != now.status {
            tracing::warn!(
                check = self.name,
                before = before.as_str(),
                status = now.status.as_str(),
                detail = now.detail,
                "health changed"
            );
        }
    }
}
