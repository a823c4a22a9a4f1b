//! One Redis server as this crate speaks to it: one connection, made again when it fails.
//!
//! Invariants: no operation takes longer than its time-out, and after one that failed the
//! next one has a new connection, so that a server that froze or went away silently is
//! not waited for. The address, which may hold a password, is never printed.
//! Deliberately absent: retries. Whoever asks knows whether a repetition is harmless.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, aio::MultiplexedConnection,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

/// Why an address cannot be used. Its text is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "read the address of the Redis server: it must look like redis://:PASSWORD@HOST:6379/0 or unix:///PATH"
)]
pub struct AddressError;

/// A Redis server. Clones share a connection, which is made at the first use.
#[derive(Clone)]
pub struct RedisServer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    timeout: Duration,
    /// The present connection and its number.
    present: Mutex<(u64, Arc<OnceCell<MultiplexedConnection>>)>,
    made: AtomicU64,
}

impl RedisServer {
    /// A server at an address such as `redis://:PASSWORD@HOST:6379/0`, to which nothing is
    /// sent yet. `timeout` bounds every operation and connecting, each.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when the address has another form.
    pub fn new(address: &SecretString, timeout: Duration) -> Result<Self, AddressError> {
        let info = address
            .expose_secret()
            .into_connection_info()
            .map_err(|_| AddressError)?;
        let shared = Shared {
            client: Client::open(info).map_err(|_| AddressError)?,
            timeout,
            present: Mutex::default(),
            made: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The same server over a connection of its own, so that one user's load does not
    /// delay another's.
    #[must_use]
    pub fn apart(&self) -> Self {
        let shared = Shared {
            client: self.shared.client.clone(),
            timeout: self.shared.timeout,
            present: Mutex::default(),
            made: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Connections made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.made.load(Ordering::Relaxed)
    }

    /// Runs an operation on the connection; one that fails takes the connection with it.
    pub(crate) async fn run<T>(
        &self,
        operation: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (number, cell) = {
            let present = self.present();
            (present.0, Arc::clone(&present.1))
        };
        // Dropped before its end, an operation fails as well: nobody knows why it was given up.
        let mut guard = Guard {
            server: self,
            number,
            failed: true,
        };
        let mut connection = cell.get_or_try_init(|| self.connect()).await?.clone();
        let result = operation(&mut connection).await;
        guard.failed = result.as_ref().is_err_and(is_connection_lost);
        result
    }

    /// What makes connections of another kind.
    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let limit = Some(self.shared.timeout);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(limit)
            .set_response_timeout(limit);
        let client = &self.shared.client;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.shared.made.fetch_add(1, Ordering::Relaxed);
        Ok(connection)
    }

    fn present(&self) -> std::sync::MutexGuard<'_, (u64, Arc<OnceCell<MultiplexedConnection>>)> {
        let present = &self.shared.present;
        present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("timeout", &self.shared.timeout)
            .finish_non_exhaustive()
    }
}

/// Whether an error says anything about the connection, and not only about the command.
fn is_connection_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

/// Lets go of a connection after an operation that failed or was dropped.
struct Guard<'a> {
    server: &'a RedisServer,
    number: u64,
    failed: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.failed {
            return;
        }
        let mut present = self.server.present();
        if present.0 == self.number {
            *present = (self.number + 1, Arc::default());
        }
    }
}
