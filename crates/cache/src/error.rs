//! Why no value could be loaded.

use std::{error::Error, sync::Arc, time::Duration};

/// Why the source gave no value. All callers that waited for one load get the same error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The source failed.
    #[error("load the value")]
    Source {
        /// Its error.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The source took too long.
    #[error("load the value within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// The load panicked, or its runtime was shut down.
    #[error("load the value: the load was interrupted")]
    Interrupted,
}

impl LoadError {
    /// The source's error, where it is of this type.
    #[must_use]
    pub fn source_as<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Source { source } => source.downcast_ref(),
            Self::Timeout { .. } | Self::Interrupted => None,
        }
    }

    /// Whether the same call may succeed later; of the source's own errors nothing is known.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Source { .. } => "source",
            Self::Timeout { .. } => "timeout",
            Self::Interrupted => "interrupted",
        }
    }
}
