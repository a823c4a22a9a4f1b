//! Keeps one server connected: starts it, reads its tools, watches it, starts it again.
//!
//! Invariant: one task a server, so servers never wait for each other; every step of it ends
//! within a time limit.

use std::{io, sync::Arc, time::Duration};

use lyceum_core::Tool;
use rmcp::{
    RoleClient,
    model::{ClientRequest, ProtocolVersion},
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, Peer, PeerRequestOptions,
        RunningService, ServiceError,
    },
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Reach, ServerName,
    backoff::Backoff,
    catalog::{Catalog, Taken},
    guard::Guarded,
    handler::Handler,
    link::{Link, Offered, State},
    list, metrics,
    plain::line,
    remote::Remote,
    servers::Dress,
    transport::{self, ProcessTransport},
};

/// How long writing one message to a process may take.
const WRITE: Duration = Duration::from_secs(10);
/// How long a server may take to say that it is there.
const CHECK: Duration = Duration::from_secs(10);
/// How long closing a connection may take.
const CLOSE: Duration = Duration::from_secs(8);
/// A connection that held so long begins the waits anew.
const STABLE: Duration = Duration::from_secs(30);
/// The least time between two readings of the list of tools.
const REFRESH: Duration = Duration::from_secs(1);

/// Why a server could not be connected.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("start it")]
    Start(#[source] io::Error),
    #[error("greet it")]
    Greet(#[source] Box<ClientInitializeError>),
    #[error("read its tools")]
    List(#[source] Box<ServiceError>),
    #[error("have it ready within {0:?}")]
    Timeout(Duration),
}

impl ConnectError {
    fn label(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Greet(_) => "greet",
            Self::List(_) => "list",
            Self::Timeout(_) => "timeout",
        }
    }

    /// The error and its sources in one bounded line.
    fn words(&self) -> String {
        let mut words = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            words = format!("{words}: {error}");
            source = error.source();
        }
        line(&words, 500)
    }
}

/// A connection.
struct Session {
    service: RunningService<RoleClient, Handler>,
    ended: CancellationToken,
}

/// See the module's text.
pub(crate) struct Supervisor {
    link: Arc<Link>,
    reach: Reach,
    catalog: Catalog,
    dress: Dress,
    /// Servers that know only the newest protocol refuse the older greeting.
    modern: bool,
}

impl Supervisor {
    pub(crate) fn new(link: Arc<Link>, reach: Reach, catalog: Catalog, dress: Dress) -> Self {
        Self {
            link,
            reach,
            catalog,
            dress,
            modern: false,
        }
    }

    fn name(&self) -> &ServerName {
        self.link.name()
    }

    /// Runs until it is stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let limits = self.link.limits().clone();
        let mut backoff = Backoff::new(limits.retry_first, limits.retry_most);
        loop {
            let connected = tokio::time::timeout(limits.start, self.connect());
            let connected = match stop.run_until_cancelled(connected).await {
                None => break,
                Some(Ok(connected)) => connected,
                Some(Err(_)) => Err(ConnectError::Timeout(limits.start)),
            };
            let why = match connected {
                Ok(session) => {
                    metrics::connected(self.name().as_str(), "ok");
                    let since = Instant::now();
                    let ended = stop.run_until_cancelled(self.attend(&session)).await;
                    let why = ended.unwrap_or("we stop");
                    self.link.enter(State::Down {
                        until: Instant::now() + limits.retry_first,
                        why: why.into(),
                    });
                    close(session).await;
                    if since.elapsed() >= STABLE {
                        backoff.reset();
                    }
                    why.to_owned()
                }
                Err(error) => {
                    metrics::connected(self.name().as_str(), error.label());
                    if matches!(error, ConnectError::Greet(_)) {
                        self.modern = !self.modern;
                    }
                    error.words()
                }
            };
            if stop.is_cancelled() {
                break;
            }
            let wait = backoff.next(rand::random());
            tracing::warn!(server = %self.name(), why, ?wait, "the MCP server is away");
            let until = Instant::now() + wait;
            self.link.enter(State::Down {
                until,
                why: why.into(),
            });
            if stop.run_until_cancelled(sleep_until(until)).await.is_none() {
                break;
            }
        }
        self.link.enter(State::Closed);
    }

    async fn connect(&mut self) -> Result<Session, ConnectError> {
        let ended = CancellationToken::new();
        let handler = Handler(Arc::clone(&self.link));
        let limits = self.link.limits();
        let lifecycle = match self.modern {
            false => ClientLifecycleMode::Initialize,
            true => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::LATEST],
            },
        };
        let greeted = match &self.reach {
            Reach::Process(config) => {
                let process = ProcessTransport::start(self.name(), config, limits)
                    .map_err(ConnectError::Start)?;
                let transport = Guarded::new(process, Some(WRITE), ended.clone());
                handler.serve_with_lifecycle(transport, lifecycle).await
            }
            Reach::Http(config) => {
                let http = transport::http(config, limits).map_err(ConnectError::Start)?;
                let transport = Guarded::new(http, None, ended.clone());
                handler.serve_with_lifecycle(transport, lifecycle).await
            }
        };
        let service = greeted.map_err(|error| ConnectError::Greet(Box::new(error)))?;
        let session = Session { service, ended };
        self.refresh(session.service.peer())
            .await
            .map_err(|error| ConnectError::List(Box::new(error)))?;
        let peer = session.service.peer().clone();
        self.link.enter(State::Up(peer));
        let tools = self.link.offered().len();
        tracing::info!(server = %self.name(), tools, "the MCP server is there");
        Ok(session)
    }

    /// Watches a connection until it is over, and says why it is.
    async fn attend(&mut self, session: &Session) -> &'static str {
        let link = Arc::clone(&self.link);
        let peer = session.service.peer();
        let every = link.limits().check_every;
        let mut check = Instant::now() + every;
        let mut read = Instant::now();
        let mut refresh: Option<Instant> = None;
        loop {
            tokio::select! {
                () = session.ended.cancelled() => return "the connection ended",
                () = link.change() => {
                    refresh.get_or_insert((read + REFRESH).max(Instant::now()));
                }
                () = link.doubt() => {
                    if !is_there(peer).await {
                        return "it does not answer";
                    }
                }
                () = sleep_until(check) => {
                    check = Instant::now() + every;
                    // A server may do one thing at a time; a busy one is there.
                    if link.is_idle() {
                        if !is_there(peer).await {
                            return "it does not answer";
                        }
                        refresh.get_or_insert_with(Instant::now);
                    }
                }
                () = sleep_until(refresh.unwrap_or(check)), if refresh.is_some() => {
                    refresh = None;
                    if let Err(error) = self.refresh(peer).await {
                        let error = line(&error.to_string(), 500);
                        tracing::warn!(server = %link.name(), error, "its tools cannot be read again");
                    }
                    read = Instant::now();
                }
            }
        }
    }

    /// Reads the list of tools and offers what is taken of it. A tool that is as it was stays
    /// the same object, with whatever it was dressed in.
    async fn refresh(&mut self, peer: &Peer<RoleClient>) -> Result<(), ServiceError> {
        let has_tools = peer
            .peer_info()
            .is_none_or(|info| info.capabilities.tools.is_some());
        let listed = match has_tools {
            true => {
                let (listed, unread) = list::tools(peer, self.link.limits().start).await?;
                if unread > 0 {
                    tracing::warn!(server = %self.name(), unread, "tools that cannot be read");
                }
                listed
            }
            false => Vec::new(),
        };
        let taken = self.catalog.take(listed);
        self.tell(&taken);
        let before = self.link.offered();
        let offered = taken.tools.into_iter().map(|(remote, spec)| {
            let same = |old: &&Offered| old.remote == remote && old.spec == spec;
            if let Some(old) = before.iter().find(same) {
                return old.clone();
            }
            let tool: Arc<dyn Tool> = Arc::new(Remote::new(
                Arc::clone(&self.link),
                remote.clone(),
                spec.clone(),
            ));
            Offered {
                remote,
                spec,
                tool: (self.dress)(tool),
            }
        });
        self.link.offer(offered.collect());
        Ok(())
    }

    fn tell(&self, taken: &Taken) {
        for refusal in taken.refused.iter().take(5) {
            tracing::error!(server = %self.name(), error = %refusal, "a tool of the MCP server is not offered");
        }
        if taken.refused.len() > 5 {
            let refused = taken.refused.len() - 5;
            tracing::error!(server = %self.name(), refused, "more tools of the MCP server are not offered");
        }
        if taken.left_out > 0 {
            tracing::warn!(server = %self.name(), left_out = taken.left_out, "the MCP server has more tools than are taken");
        }
        if !taken.missing.is_empty() {
            tracing::warn!(server = %self.name(), missing = ?taken.missing, "the MCP server lacks tools that are allowed");
        }
    }
}

/// Whether the server says anything when asked; that it does not know the question is an
/// answer too.
async fn is_there(peer: &Peer<RoleClient>) -> bool {
    let ask = async {
        let request = ClientRequest::PingRequest(Default::default());
        let options = PeerRequestOptions::with_timeout(CHECK);
        let asked = peer.send_request_with_option(request, options).await?;
        asked.await_response().await
    };
    match tokio::time::timeout(CHECK, ask).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => !matches!(
            error,
            ServiceError::TransportClosed
                | ServiceError::TransportSend(_)
                | ServiceError::Timeout { .. }
        ),
        Err(_) => false,
    }
}

async fn close(mut session: Session) {
    // What does not close in time is dropped, and with it the process.
    let _ = session.service.close_with_timeout(CLOSE).await;
}
