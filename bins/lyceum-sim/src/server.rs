//! The accept loop and what all connections share.
//!
//! Invariant: every task that serves a connection ends when [`Running`] is dropped.
//! Deliberately absent: TLS, HTTP/2 and a graceful drain, which a stand-in on loopback
//! does not need.

mod exchange;
mod respond;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};

use crate::{
    SimConfig,
    call::ResetFlag,
    quota::{Meter, Ticket},
    script::Script,
    socket::Socket,
    stats::{Counters, Stats, add},
};

/// Below this machine's usual hard limit of open files (20,000).
const MAX_CONNECTIONS: usize = 16_384;
/// Pairs of key and model beyond it share one meter.
const MAX_METERS: usize = 4_096;
/// A client that has not sent its headers by then is not one of ours.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A provider that is simulated.
#[derive(Debug)]
pub struct Simulator;

/// A simulator that runs. Dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accept: JoinHandle<()>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The path, e.g. `/v1/messages`.
    pub path: String,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Recorded {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SimConfig,
    pub(crate) script: Script,
    pub(crate) counters: Counters,
    /// Told of every change of the counters that a caller may wait for.
    pub(crate) changed: Notify,
    /// The number of the latest request that was not wrong in itself.
    pub(crate) numbered: AtomicU64,
    meters: Mutex<HashMap<u64, Meter>>,
    recorded: Mutex<VecDeque<Recorded>>,
}

impl Simulator {
    /// Starts a simulator in the current Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn start(config: SimConfig) -> io::Result<Running> {
        let listener = TcpListener::bind(config.listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Script::new(config.script.clone()),
            config,
            counters: Counters::default(),
            changed: Notify::new(),
            numbered: AtomicU64::new(0),
            meters: Mutex::default(),
            recorded: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let accept = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Running {
            addr,
            shared,
            stop,
            accept,
        })
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base address for Anthropic's SDK, e.g. `http://127.0.0.1:4000`. OpenAI's
    /// wants `/v1` after it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Waits until the counters are as wanted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Stats) -> bool) -> Stats {
        loop {
            // Made before the look, so that no change between the two is missed.
            let changed = self.shared.changed.notified();
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            changed.await;
        }
    }

    /// The latest requests, oldest first; at most [`SimConfig::record`] of them.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        let recorded = self.shared.recorded.lock();
        let recorded = recorded.unwrap_or_else(PoisonError::into_inner);
        recorded.iter().cloned().collect()
    }

    /// Closes the port and all connections, and says what was counted.
    pub async fn shutdown(mut self) -> Stats {
        self.stop.send_replace(true);
        // A panic in the accept loop has nothing more to tell at this point.
        let _ = (&mut self.accept).await;
        self.stats()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    /// Runs something on the meter of a key and model.
    pub(crate) fn with_meter<R>(&self, key: u64, run: impl FnOnce(&mut Meter) -> R) -> R {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if meters.len() >= MAX_METERS && !meters.contains_key(&key) {
            0
        } else {
            key
        };
        let new = || Meter::new(self.config.quotas.clone());
        run(meters.entry(key).or_insert_with(new))
    }

    pub(crate) fn settle(&self, now: Instant, key: u64, ticket: Ticket, produced: u64) {
        self.with_meter(key, |meter| meter.settle(now, ticket, produced));
    }

    /// Keeps a request if the settings ask for it.
    pub(crate) fn record(&self, request: impl FnOnce() -> Recorded) {
        if self.config.record == 0 {
            return;
        }
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() == self.config.record {
            recorded.pop_front();
        }
        recorded.push_back(request());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let connection = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            connection = listener.accept() => connection,
        };
        let Ok((stream, _)) = connection else {
            // Out of file descriptors or a client that left at once: the next one may
            // succeed, and trying again at once would spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        add(&shared.counters.connections, 1);
        let shared = Arc::clone(&shared);
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                () = serve(stream, shared) => {}
            }
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Small events must not wait for each other; without it they only come later.
    let _ = stream.set_nodelay(true);
    let reset = ResetFlag::new(AtomicBool::new(false));
    let socket = Socket::new(stream, Arc::clone(&reset));
    let service = service_fn(move |request| {
        let (shared, reset) = (Arc::clone(&shared), Arc::clone(&reset));
        async move { Ok::<_, Infallible>(respond::respond(shared, reset, request).await) }
    });
    // An error here is a client that left or broke the protocol; the counters of the
    // calls it had tell the rest.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .await;
}
