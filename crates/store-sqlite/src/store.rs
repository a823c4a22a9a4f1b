//! The store: one file, one writing thread, a few reading ones.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lyceum_memory::{Clock, StoreError, SystemClock, Timestamp};
use lyceum_vault::{Encryption, Unsealed};
use rusqlite::Connection;

use crate::{
    OpenError,
    error::Failure,
    file,
    inbox::IfFull,
    readers::Readers,
    sealed::{Db, Keys},
    vectors::Matrices,
    writer::{Survives, Thread, Writer},
};

/// How a file is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The number of reading threads, at least 1. Default 4.
    pub readers: usize,
    /// The most calls that wait for the writing thread, and as many for the reading ones;
    /// more are refused as overloaded. Beside them as many calls of graphs' runs wait, and
    /// those beyond wait outside: a run is slowed down, never failed. Default 4,096.
    pub waiting: usize,
    /// The largest size of the file in bytes; writes beyond it fail as if the disk were
    /// full. Default none.
    pub max_bytes: Option<u64>,
    /// A call that takes longer is logged. Default 250 ms.
    pub slow: Duration,
    /// Where the time comes from. Default the machine's.
    pub clock: Arc<dyn Clock>,
    /// With what texts are sealed. Default none: they are kept in the clear.
    pub encryption: Option<Encryption>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            waiting: 4096,
            max_bytes: None,
            slow: Duration::from_millis(250),
            clock: Arc::new(SystemClock::default()),
            encryption: None,
        }
    }
}

/// Sessions, memories and jobs in one SQLite file. It implements all ports of `lyceum-memory`.
///
/// An acknowledged write survives the end of the process and of the power.
/// Dropping the store closes the file soon; [`close`](Self::close) waits for it.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    matrices: Arc<Matrices>,
    keys: Arc<Keys>,
    slow: Duration,
    clock: Arc<dyn Clock>,
}

impl SqliteStore {
    /// Opens the file, makes it where it is absent, and brings it to the newest format.
    /// Blocks for the file's sake, for milliseconds as a rule.
    ///
    /// # Errors
    ///
    /// [`OpenError`], whose text tells the user what to do.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let lock = file::lock(path)?;
        let (masters, unsealed) = match options.encryption {
            Some(Encryption { masters, unsealed }) => (Some(masters), unsealed),
            None => (None, Unsealed::Refuse),
        };
        let keys = Arc::new(Keys::new(masters));
        let now = options.clock.now();
        let connection = file::writer(path, options.max_bytes, now, (&keys, unsealed))?;
        let waiting = options.waiting.max(1);
        let (readers, handles) = Readers::spawn(path, options.readers.max(1), waiting)?;
        let clock = options.clock.clone();
        let thread = Thread {
            connection,
            survives: Survives::Power,
            clock: options.clock,
            readers: handles,
            lock,
        };
        let writer = Writer::spawn(waiting, thread).map_err(|source| OpenError::Engine {
            path: path.to_owned(),
            source: source.into(),
        })?;
        Ok(Self {
            writer,
            readers,
            matrices: Arc::default(),
            keys,
            slow: options.slow,
            clock,
        })
    }

    /// Whether texts are sealed before they are stored.
    #[must_use]
    pub fn is_encrypting(&self) -> bool {
        self.keys.masters().is_some()
    }

    /// Ends the threads, merges the log into the file and closes it. Calls that came before
    /// are finished, later ones fail with [`StoreError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call closes the store as well, without waiting for it.
    pub async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }

    /// Runs `write` in the writing thread, inside the transaction that it shares with other
    /// waiting writes, and returns once that is on the disk. An error undoes this write alone.
    /// The second argument is the present.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        write: impl FnOnce(&Db<'_>, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let written = self
            .writer
            .write(Survives::Power, IfFull::Refuse, self.with_keys(write));
        self.timed(name, written).await
    }

    /// The same, and it waits for room instead of being refused.
    pub(crate) async fn write_in_turn<T: Send + 'static>(
        &self,
        name: &'static str,
        write: impl FnOnce(&Db<'_>, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let written = self
            .writer
            .write(Survives::Power, IfFull::Wait, self.with_keys(write));
        self.timed(name, written).await
    }

    /// The same as [`write_in_turn`](Self::write_in_turn) for what means nothing once the
    /// process has ended: it is not synced, unless it shares a transaction with something
    /// that is.
    pub(crate) async fn write_for_now<T: Send + 'static>(
        &self,
        name: &'static str,
        write: impl FnOnce(&Db<'_>, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let written = self
            .writer
            .write(Survives::Process, IfFull::Wait, self.with_keys(write));
        self.timed(name, written).await
    }

    /// Runs `work` in the writing thread outside of any transaction, when those before it are
    /// done; no other write happens meanwhile.
    pub(crate) async fn maintain<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.timed(name, self.writer.maintain(work)).await
    }

    /// Runs `read` in a reading thread, inside a transaction.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Db<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.timed(name, self.readers.read(IfFull::Refuse, self.reading(read)))
            .await
    }

    /// The same, and it waits for room instead of being refused.
    pub(crate) async fn read_in_turn<T: Send + 'static>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Db<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.timed(name, self.readers.read(IfFull::Wait, self.reading(read)))
            .await
    }

    fn with_keys<T, W: FnOnce(&Db<'_>, Timestamp) -> T>(
        &self,
        write: W,
    ) -> impl FnOnce(&Connection, Timestamp) -> T + use<T, W> {
        let keys = Arc::clone(&self.keys);
        move |connection, now| {
            let keys = &keys;
            write(&Db { connection, keys }, now)
        }
    }

    fn reading<T, R: FnOnce(&Db<'_>) -> T>(
        &self,
        read: R,
    ) -> impl FnOnce(&Connection) -> T + use<T, R> {
        let keys = Arc::clone(&self.keys);
        move |connection| {
            let keys = &keys;
            read(&Db { connection, keys })
        }
    }

    /// The keys that texts are sealed with.
    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The vectors that are kept between reads.
    pub(crate) fn matrices(&self) -> Arc<Matrices> {
        Arc::clone(&self.matrices)
    }

    async fn timed<T>(&self, name: &'static str, call: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = call.await;
        let elapsed = started.elapsed();
        if elapsed > self.slow {
            tracing::warn!(operation = name, ?elapsed, "the store is slow");
        }
        result
    }
}
