//! What the tools of a server share: whether it is there, and a bounded way to ask it.
//!
//! Invariant: a question ends within the server's time limit, waiting included; while the
//! server is away it fails at once and says when to come back.

use std::{
    error::Error,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use lyceum_core::{Tool, ToolError, ToolSpec};
use rmcp::{
    RoleClient,
    model::ErrorCode,
    service::{Peer, ServiceError},
    transport::streamable_http_client::HttpStatusError,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

use crate::{ServerLimits, ServerName, plain::line};

/// The most characters of a server's words in an error.
const MAX_WORDS: usize = 1_000;
/// When to come back where nothing better is known.
const SOON: Duration = Duration::from_secs(1);
/// The longest time a server may tell us to stay away.
const MAX_AWAY: Duration = Duration::from_secs(300);

/// Why a server did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It is not connected, or too busy.
    #[error("reach the server; retry in {retry_after:?}")]
    Unavailable {
        /// When a new attempt may succeed.
        retry_after: Duration,
    },
    /// It took too long.
    #[error("get an answer within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// It does not accept the question.
    #[error("get the question accepted: {words}")]
    Refused {
        /// The server's words, bounded.
        words: String,
    },
    /// It failed, or answered something that is no answer.
    #[error("get an answer: {words}")]
    Failed {
        /// The server's words, bounded.
        words: String,
    },
}

impl ServerError {
    /// Whether the same question may be answered later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
        }
    }
}

impl From<ServerError> for ToolError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Unavailable { retry_after } => Self::Unavailable { retry_after },
            ServerError::Timeout { after } => Self::Timeout { after },
            ServerError::Refused { words } => Self::Arguments { detail: words },
            ServerError::Failed { words } => Self::Failed { detail: words },
        }
    }
}

/// Whether a server is there.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Starting,
    Up(Peer<RoleClient>),
    Down { until: Instant, why: Arc<str> },
    Closed,
}

/// A tool as it is offered, and what it was made from.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) remote: String,
    pub(crate) spec: ToolSpec,
    pub(crate) tool: Arc<dyn Tool>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Link {
    name: ServerName,
    limits: ServerLimits,
    state: watch::Sender<State>,
    offered: RwLock<Arc<[Offered]>>,
    calls: Semaphore,
    suspect: Notify,
    changed: Notify,
}

impl Link {
    pub(crate) fn new(name: ServerName, limits: ServerLimits) -> Self {
        Self {
            name,
            calls: Semaphore::new(limits.max_concurrent),
            limits,
            state: watch::Sender::new(State::Starting),
            offered: RwLock::default(),
            suspect: Notify::new(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &ServerName {
        &self.name
    }

    pub(crate) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn enter(&self, state: State) {
        crate::metrics::up(self.name.as_str(), matches!(state, State::Up(_)));
        self.state.send_replace(state);
    }

    /// Returns when the first attempt to connect is over.
    pub(crate) async fn settled(&self) {
        let mut states = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = states
            .wait_for(|state| !matches!(state, State::Starting))
            .await;
    }

    pub(crate) fn offered(&self) -> Arc<[Offered]> {
        let offered = self.offered.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&offered)
    }

    pub(crate) fn offer(&self, tools: Vec<Offered>) {
        crate::metrics::tools(self.name.as_str(), tools.len());
        *self.offered.write().unwrap_or_else(PoisonError::into_inner) = tools.into();
    }

    /// Whether nobody waits for an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls.available_permits() == self.limits.max_concurrent
    }

    pub(crate) fn tools_changed(&self) {
        self.changed.notify_one();
    }

    pub(crate) async fn change(&self) {
        self.changed.notified().await;
    }

    /// Returns when a call went wrong in a way that makes one doubt the connection.
    pub(crate) async fn doubt(&self) {
        self.suspect.notified().await;
    }

    /// Asks the server, if it is there.
    ///
    /// Cancel safety: dropping the future tells the server that nobody waits any more.
    pub(crate) async fn ask<T>(
        &self,
        deadline: Option<std::time::Instant>,
        question: impl AsyncFnOnce(Peer<RoleClient>) -> Result<T, ServiceError>,
    ) -> Result<T, ServerError> {
        let left = deadline.map(|end| end.saturating_duration_since(std::time::Instant::now()));
        let within = left.map_or(self.limits.call, |left| left.min(self.limits.call));
        let asked = async {
            // Nobody waits for a turn at a server that is away.
            self.peer()?;
            let Ok(_turn) = self.calls.acquire().await else {
                return Err(ServerError::Unavailable { retry_after: SOON });
            };
            let peer = self.peer()?;
            question(peer).await.map_err(|error| self.failed(&error))
        };
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(ServerError::Timeout { after: within }),
        }
    }

    fn peer(&self) -> Result<Peer<RoleClient>, ServerError> {
        match &*self.state.borrow() {
            State::Up(peer) if !peer.is_transport_closed() => Ok(peer.clone()),
            State::Down { until, .. } => Err(ServerError::Unavailable {
                retry_after: until
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(100)),
            }),
            State::Starting | State::Up(_) | State::Closed => {
                Err(ServerError::Unavailable { retry_after: SOON })
            }
        }
    }

    fn failed(&self, error: &ServiceError) -> ServerError {
        match error {
            ServiceError::McpError(error) => {
                let words = line(&error.message, MAX_WORDS);
                match error.code {
                    ErrorCode::INVALID_PARAMS | ErrorCode::RESOURCE_NOT_FOUND => {
                        ServerError::Refused { words }
                    }
                    _ => ServerError::Failed { words },
                }
            }
            ServiceError::TransportSend(error) => {
                self.suspect.notify_one();
                ServerError::Unavailable {
                    retry_after: told_to_wait(error).unwrap_or(SOON),
                }
            }
            ServiceError::TransportClosed => {
                self.suspect.notify_one();
                ServerError::Unavailable { retry_after: SOON }
            }
            ServiceError::UnexpectedResponse => ServerError::Failed {
                words: "the answer is of a kind that is not understood".to_owned(),
            },
            other => ServerError::Failed {
                words: line(&other.to_string(), MAX_WORDS),
            },
        }
    }
}

/// How long an HTTP server said to stay away: seconds, or a date.
fn told_to_wait(error: &(dyn Error + 'static)) -> Option<Duration> {
    let mut source = Some(error);
    let status = loop {
        let error = source?;
        match error.downcast_ref::<HttpStatusError>() {
            Some(status) => break status,
            None => source = error.source(),
        }
    };
    let words = status.retry_after.as_deref()?;
    let wait = match words.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(words).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_AWAY))
}
