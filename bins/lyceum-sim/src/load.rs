//! Many users at once who check that every answer is their own.
//!
//! Each user has one connection, one conversation at a time, and sends the next turn when
//! the last one is answered (a closed loop). Every sentence of a turn carries a mark of
//! the user and the turn; an answer with somebody else's mark or session is mixed up.
//! Deliberately absent: a fixed rate of arrivals, which would need to know the server's
//! capacity, and TLS.

mod connection;
mod dialect;
mod histogram;
mod report;
mod sse;
mod user;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Uri, header};
use tokio::{task::JoinSet, time::Instant};

pub use dialect::Endpoint;
pub use histogram::Histogram;
pub use report::{Metric, Report};

/// What the users do.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// The server's address, e.g. `http://127.0.0.1:8080`; a path is put before those of
    /// the endpoint.
    pub target: String,
    /// What is called.
    pub endpoint: Endpoint,
    /// How many users there are, at least 1.
    pub users: usize,
    /// When the run ends.
    pub end: End,
    /// What counts from here on; the time before warms the server up.
    pub warm_up: Duration,
    /// Turns of a conversation before the user begins a new one, at least 1.
    pub turns: u64,
    /// The least length of a turn's text in bytes.
    pub text_bytes: usize,
    /// How long a user thinks between an answer and the next turn.
    pub think: Duration,
    /// After it a request has failed.
    pub timeout: Duration,
    /// The model asked for, for the vendors' formats.
    pub model: String,
    /// The key sent, as the endpoint's format wants it.
    pub api_key: Option<String>,
    /// The names under which the figures are reported.
    pub bench: String,
    /// The case of the benchmark; empty for the endpoint and the number of users.
    pub case: String,
}

impl Default for LoadConfig {
    /// One user for one second against `/chat` on port 8080.
    fn default() -> Self {
        Self {
            target: "http://127.0.0.1:8080".into(),
            endpoint: Endpoint::Chat,
            users: 1,
            end: End::After(Duration::from_secs(1)),
            warm_up: Duration::ZERO,
            turns: 4,
            text_bytes: 200,
            think: Duration::ZERO,
            timeout: Duration::from_secs(60),
            model: "sim".into(),
            api_key: None,
            bench: "load".into(),
            case: String::new(),
        }
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After this time; requests that run then are finished and counted.
    After(Duration),
    /// After this many requests of all users together.
    Requests(u64),
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The target is not an address that this client can call.
    #[error("use the target {target:?}: expected http://HOST:PORT")]
    Target {
        /// The target.
        target: String,
    },
    /// The target's host is unknown.
    #[error("find the host of {target:?}")]
    Resolve {
        /// The target.
        target: String,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// The API key cannot be sent in a header.
    #[error("send the API key: it holds characters that no header can")]
    Key,
    /// There are no users or no turns.
    #[error("run {users} users with {turns} turns a conversation: both must be at least 1")]
    Empty {
        /// The number of users.
        users: usize,
        /// The number of turns.
        turns: u64,
    },
}

/// Where all requests go, and what all of them carry.
#[derive(Debug)]
struct Target {
    addr: SocketAddr,
    path: Uri,
    headers: HeaderMap,
    /// Tells the sessions of this run from those of earlier ones on the same server.
    run: u64,
}

impl Target {
    async fn resolve(config: &LoadConfig) -> Result<Self, LoadError> {
        let target = config.target.as_str();
        let wrong = || LoadError::Target {
            target: target.to_owned(),
        };
        let uri: Uri = target.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong());
        }
        let host = (authority.host(), authority.port_u16().unwrap_or(80));
        let found = tokio::net::lookup_host(host).await;
        let addr = found
            .map_err(|source| LoadError::Resolve {
                target: target.to_owned(),
                source,
            })?
            .next()
            .ok_or_else(wrong)?;
        let prefix = uri.path().trim_end_matches('/');
        let prefix = prefix.strip_suffix("/v1").unwrap_or(prefix);
        let path = format!("{prefix}{}", config.endpoint.path());
        let key = config.api_key.as_deref();
        let mut headers = config.endpoint.headers(key).map_err(|_| LoadError::Key)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        headers.insert(header::HOST, host);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            addr,
            path: path.parse().map_err(|_| wrong())?,
            headers,
            run: now.map_or(0, |since| since.as_secs()),
        })
    }
}

/// Runs the users to the end, on the current Tokio runtime.
///
/// # Errors
///
/// [`LoadError`] when the run cannot begin. A request that fails is counted in the report.
///
/// # Cancel safety
///
/// Dropping the future ends all users.
pub async fn run(config: LoadConfig) -> Result<Report, LoadError> {
    if config.users == 0 || config.turns == 0 {
        return Err(LoadError::Empty {
            users: config.users,
            turns: config.turns,
        });
    }
    let target = Arc::new(Target::resolve(&config).await?);
    let config = Arc::new(config);
    let clock = Arc::new(user::Clock::new(&config, Instant::now()));
    let mut users = JoinSet::new();
    for number in 0..config.users as u64 {
        let user = user::User::new(
            number,
            Arc::clone(&config),
            Arc::clone(&target),
            Arc::clone(&clock),
        );
        users.spawn(user.run());
    }
    let mut report = Report::new(&config);
    while let Some(tally) = users.join_next().await {
        match tally {
            Ok(tally) => report.add(&tally),
            Err(_) => report.user_died(),
        }
    }
    report.finish(clock.counted_time(Instant::now()));
    Ok(report)
}
