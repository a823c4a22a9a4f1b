//! The accept loop: connections in, connections out, and an orderly stop.
//!
//! It is our own because axum's `serve` gives hyper no timer, so hyper's header
//! time-out never fires there, and because draining and the connection limit are ours.
//! Invariant: every connection is bounded in headers, buffers, idle time and stalls.
//! Deliberately absent: HTTP/3.

mod connection;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod handover;
mod http1;
mod listener;
mod proxied;
mod sniff;
pub(crate) mod tls;
mod watch;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lyceum_observe::Lifecycle;
use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    select,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    connection::Manner,
    listener::{Accepted, Listener},
    tls::Tls,
};
use crate::{
    config::ServerConfig, edge::address::Peer, gateway::Gateway, metrics::REFUSED_CONNECTIONS,
};

pub use self::listener::Address;

/// Connections beyond the limit that are still told so; more are closed unheard.
const BUSY_CONNECTIONS: usize = 256;

/// The pause after the system refused to hand over a connection, e.g. for want of file
/// descriptors: trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long streams get to say goodbye once the time to finish is over.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Others could reach the address, and nothing asks them who they are.
    #[error(
        "serve {address} without API keys: other machines could reach it and act as you; \
         listen on 127.0.0.1, or configure API keys"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// Another program has the address.
    #[error("listen on {address}: another program does already; stop it or choose another port")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not allow it.
    #[error("listen on {address}: the system does not allow it; choose a port above 1023")]
    Forbidden {
        /// The address.
        address: SocketAddr,
    },
    /// The machine does not have the address.
    #[error("listen on {address}: this machine has no such address; check the host")]
    NotHere {
        /// The address.
        address: SocketAddr,
    },
    /// A Unix socket cannot be made.
    #[error("listen on {path}: {}", match source.kind() {
        io::ErrorKind::AddrInUse => "another program does already; stop it or choose another path",
        io::ErrorKind::AlreadyExists => "there is a file that is no socket; choose another path",
        io::ErrorKind::NotFound => "its folder does not exist",
        _ => "the system does not allow it",
    })]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// Something else.
    #[error("listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Forbidden { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Other { address, source },
        }
    }
}

/// A gateway about to be served.
#[derive(Debug, Clone)]
pub struct Server {
    gateway: Gateway,
    config: ServerConfig,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// Serves a gateway in a certain way.
    #[must_use]
    pub fn new(gateway: Gateway, config: ServerConfig) -> Self {
        Self {
            gateway,
            config,
            tls: None,
        }
    }

    /// Speaks TLS. While it is served the certificate follows its files, which are looked at
    /// every few seconds.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<Tls>) -> Self {
        self.tls = Some(tls);
        self
    }

    fn manner(&self, finish: CancellationToken) -> Manner {
        Manner {
            gateway: self.gateway.clone(),
            config: self.config,
            tls: self.tls.as_ref().map(|tls| tls.acceptor()),
            finish,
        }
    }

    /// Takes an address.
    ///
    /// # Errors
    ///
    /// [`BindError::Unprotected`] for an address that other machines reach while no API
    /// keys are configured; else what the system said.
    pub async fn bind(self, address: SocketAddr) -> Result<Bound, BindError> {
        if self.gateway.is_anonymous() && !address.ip().to_canonical().is_loopback() {
            return Err(BindError::Unprotected { address });
        }
        let failed = |source| BindError::new(address, source);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Bound {
            server: self,
            listener: Listener::Tcp(listener),
            address: Address::Net(address),
        })
    }

    /// Listens on a Unix socket, which its owner and group may connect to. What an ended
    /// process left there is replaced; the file is removed when serving ends.
    ///
    /// # Errors
    ///
    /// [`BindError::Socket`].
    pub async fn bind_unix(self, path: impl AsRef<Path>) -> Result<Bound, BindError> {
        let path = path.as_ref().to_owned();
        let listening = Listener::unix(&path);
        let listener = listening.map_err(|source| BindError::Socket {
            path: path.clone(),
            source,
        })?;
        Ok(Bound {
            server: self,
            listener,
            address: Address::Unix(path),
        })
    }

    /// Serves one connection that something else accepted, such as a Unix socket or a
    /// test, until it closes. Who may connect is then the caller's to decide.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection.
    pub async fn connection(&self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let manner = self.manner(CancellationToken::new());
        connection::serve(Box::new(manner), io, Peer::Local).await;
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were still busy at the deadline and were cut.
    pub cut: usize,
}

/// A server that has its address and does not accept yet.
#[derive(Debug)]
pub struct Bound {
    server: Server,
    listener: Listener,
    address: Address,
}

impl Bound {
    /// Where it listens, with the port that the system chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same where it is a port of the network; for a Unix socket `0.0.0.0:0`.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match self.address {
            Address::Net(address) => address,
            Address::Unix(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.server.tls.is_some()
    }

    /// What is served.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.server.gateway
    }

    /// Serves until `shutdown` is cancelled, then stops in order: [`Lifecycle::Draining`] is
    /// entered and answers carry `Connection: close` while it keeps accepting for
    /// [`ServerConfig::drain`]; then no more is accepted and requests under way have
    /// [`ServerConfig::finish`]; then streams are told to come back; then the rest is cut.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts everything at once.
    pub async fn serve(self, shutdown: CancellationToken) -> Stopped {
        let Self {
            server, listener, ..
        } = self;
        let config = server.config;
        let followed = server.tls.clone();
        let _following = followed.map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.follow())));
        let mut accepting = Accepting {
            slots: Arc::new(Semaphore::new(
                config.connections.min(Semaphore::MAX_PERMITS),
            )),
            busy_slots: Arc::new(Semaphore::new(BUSY_CONNECTIONS)),
            finish: CancellationToken::new(),
            served: JoinSet::new(),
            refused: JoinSet::new(),
            listener,
            server,
        };
        accepting.until(shutdown.cancelled()).await;
        accepting.server.gateway.health().enter(Lifecycle::Draining);
        accepting.until(sleep(config.drain)).await;
        accepting.stop().await
    }
}

struct Accepting {
    listener: Listener,
    server: Server,
    slots: Arc<Semaphore>,
    busy_slots: Arc<Semaphore>,
    finish: CancellationToken,
    served: JoinSet<()>,
    refused: JoinSet<()>,
}

impl Accepting {
    async fn until(&mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        loop {
            select! {
                biased;
                () = &mut end => return,
                Some(ended) = self.served.join_next() => log_panic(ended),
                Some(ended) = self.refused.join_next() => log_panic(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok(Accepted::Tcp(stream, peer)) => self.admit(stream, peer),
                    Ok(Accepted::Unix(stream)) => self.admit(stream, Peer::Local),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "cannot accept connections");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: Peer) {
        // Whoever is refused is told so only where that takes no handshake.
        let is_told = self.server.tls.is_none() && !self.server.config.proxy_protocol;
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            let manner = Box::new(self.server.manner(self.finish.clone()));
            self.served.spawn(async move {
                connection::serve(manner, stream, peer).await;
                drop(slot);
            });
        } else if is_told && let Ok(slot) = Arc::clone(&self.busy_slots).try_acquire_owned() {
            let config = self.server.config;
            counter!(REFUSED_CONNECTIONS, "how" => "busy").increment(1);
            self.refused.spawn(async move {
                connection::refuse(config, stream).await;
                drop(slot);
            });
        } else {
            counter!(REFUSED_CONNECTIONS, "how" => "closed").increment(1);
        }
    }

    async fn stop(self) -> Stopped {
        let Self {
            listener,
            server: Server {
                gateway, config, ..
            },
            finish,
            mut served,
            ..
        } = self;
        drop(listener);
        finish.cancel();
        gateway.drain();
        let finished = async {
            while served.join_next().await.is_some() {}
            gateway.runs_ended().await;
        };
        if timeout(config.finish, finished).await.is_err() {
            gateway.close_streams();
            let goodbye = async {
                while served.join_next().await.is_some() {}
                gateway.runs_ended().await;
            };
            let _ = timeout(GOODBYE, goodbye).await;
        }
        let cut = served.len() + gateway.left();
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the deadline");
        }
        served.shutdown().await;
        Stopped { cut }
    }
}

/// Whether an accept failed because of the client alone, so that the next may succeed at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}
