//! What is logged, changed while the process runs.
//!
//! Invariant: a change ends by itself, so that a level that fills the log cannot be forgotten;
//! a filter that does not parse changes nothing. Deliberately absent: keeping a change over a
//! restart.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::TelemetryError;

/// Reads a filter in `tracing-subscriber`'s syntax.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let wrong = |source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    };
    EnvFilter::builder().parse(filter).map_err(wrong)
}

/// The filter of the process' log. Clones share it.
#[derive(Clone)]
pub struct LogLevels(Arc<Shared>);

struct Shared {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: String,
    now: Mutex<Now>,
}

struct Now {
    filter: String,
    /// Counts the changes, so that only the last one ends.
    change: u64,
}

impl LogLevels {
    pub(crate) fn new(handle: reload::Handle<EnvFilter, Registry>, configured: &str) -> Self {
        Self(Arc::new(Shared {
            handle,
            configured: configured.to_owned(),
            now: Mutex::new(Now {
                filter: configured.to_owned(),
                change: 0,
            }),
        }))
    }

    /// The filter that is in force.
    #[must_use]
    pub fn filter(&self) -> String {
        self.0.lock().filter.clone()
    }

    /// Logs by another filter for so long, then by the configured one again. `None` goes back
    /// to the configured one at once. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Filter`] for a filter that does not parse.
    pub fn set(&self, filter: Option<&str>, lasting: Duration) -> Result<(), TelemetryError> {
        let Some(filter) = filter else {
            return self.0.change(&self.0.configured).map(drop);
        };
        let change = self.0.change(filter)?;
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(lasting).await;
            let is_last = shared.lock().change == change;
            if is_last && shared.change(&shared.configured).is_ok() {
                tracing::warn!(filter = shared.configured, "the log's filter is back");
            }
        });
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, filter: &str) -> Result<u64, TelemetryError> {
        let parsed = parse(filter)?;
        let mut now = self.lock();
        // It fails only when the subscriber is gone, and the process with it.
        let _ = self.handle.reload(parsed);
        now.filter = filter.to_owned();
        now.change += 1;
        Ok(now.change)
    }
}

impl fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLevels")
            .field("filter", &self.filter())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_ends_by_itself_and_a_wrong_filter_changes_nothing() {
        let (filter, handle) = reload::Layer::new(parse("info").unwrap());
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        let _guard = tracing::subscriber::set_default(subscriber);
        let levels = LogLevels::new(handle, "info");
        let is_debug = || tracing::enabled!(tracing::Level::DEBUG);
        assert!(!is_debug());
        let minute = Duration::from_secs(60);
        levels.set(Some("debug"), minute).unwrap();
        assert!(is_debug());
        assert!(levels.set(Some("lyceum=shout"), minute).is_err());
        assert_eq!(levels.filter(), "debug");
        // A later change outlives the end of an earlier one.
        tokio::time::sleep(minute / 2).await;
        levels.set(Some("trace"), minute).unwrap();
        tokio::time::sleep(minute * 3 / 4).await;
        assert_eq!(levels.filter(), "trace");
        tokio::time::sleep(minute).await;
        assert_eq!(levels.filter(), "info");
        assert!(!is_debug());
        levels.set(Some("debug"), minute).unwrap();
        levels.set(None, minute).unwrap();
        assert!(!is_debug());
    }
}
