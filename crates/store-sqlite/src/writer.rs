//! The one thread that writes, and its group commit.
//!
//! Writes that wait while a commit is being synced share the next one: N concurrent callers
//! cost one fsync, and a lone caller waits for nobody. Each write has a savepoint of its own,
//! so one that fails takes no other with it.
//!
//! Invariant: a caller hears of success only after the commit that holds its write.

use std::{
    fs::File,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use lyceum_memory::{Clock, StoreError, Timestamp};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{Failure, classify};

/// The most writes that share a transaction, so that the first does not wait for too many.
const BATCH: usize = 256;

type Committed = Result<(), Arc<rusqlite::Error>>;
type Settle = Box<dyn FnOnce(&Committed) + Send>;
type Begun<'a> = Result<(&'a Connection, Timestamp), &'a Arc<rusqlite::Error>>;
type Write = Box<dyn FnOnce(Begun<'_>) -> Option<Settle> + Send>;

enum Order {
    Write(Write),
    Stop(oneshot::Sender<()>),
}

/// The way to the writing thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    orders: SyncSender<Order>,
    capacity: usize,
}

/// What the thread owns.
pub(crate) struct Thread {
    pub(crate) connection: Connection,
    pub(crate) clock: Arc<dyn Clock>,
    /// Joined before the connection closes, so that the last to close is the writer.
    pub(crate) readers: Vec<JoinHandle<()>>,
    /// Held until everything is closed.
    pub(crate) lock: File,
}

impl Writer {
    pub(crate) fn spawn(capacity: usize, thread: Thread) -> std::io::Result<Self> {
        let (orders, inbox) = sync_channel(capacity);
        thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || thread.run(&inbox))?;
        Ok(Self { orders, capacity })
    }

    /// Runs `write` inside a transaction and waits until that is committed.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Write(Box::new(move |begun| {
            if reply.is_closed() {
                return None;
            }
            let result = match begun {
                Ok((connection, now)) => in_savepoint(connection, || write(connection, now)),
                Err(error) => Err(classify(error).into()),
            };
            Some(Box::new(move |committed: &Committed| {
                let outcome = match (result, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Err(failure), _) => Err(failure.into()),
                    (Ok(_), Err(error)) => Err(classify(error)),
                };
                // Nobody waits any more: the caller knows that the write may have happened.
                drop(reply.send(outcome));
            }))
        })))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Ends the thread once the writes before this one are done, and waits for it.
    pub(crate) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.order(Order::Stop(reply)).is_ok() {
            // An error means that the thread has ended already.
            drop(stopped.await);
        }
    }

    fn order(&self, order: Order) -> Result<(), StoreError> {
        self.orders
            .try_send(order)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Overloaded {
                    waiting: self.capacity,
                },
                TrySendError::Disconnected(_) => StoreError::Closed,
            })
    }
}

impl Thread {
    fn run(self, inbox: &Receiver<Order>) {
        let mut stopped = None;
        while stopped.is_none() {
            match inbox.recv() {
                Ok(Order::Write(first)) => stopped = self.batch(first, inbox),
                Ok(Order::Stop(reply)) => stopped = Some(reply),
                Err(_) => break,
            }
        }
        self.close();
        if let Some(reply) = stopped {
            // Whoever closed the store may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// Commits a write together with those that wait behind it; gives the order to stop
    /// where it met one.
    fn batch(&self, first: Write, inbox: &Receiver<Order>) -> Option<oneshot::Sender<()>> {
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            let error = Arc::new(error);
            if let Some(settle) = first(Err(&error)) {
                settle(&Ok(()));
            }
            return None;
        }
        let mut settles: Vec<Settle> = Vec::new();
        let mut stopped = None;
        let mut next = Some(first);
        while let Some(write) = next.take() {
            settles.extend(write(Ok((&self.connection, self.clock.now()))));
            // Some failures, a full disk among them, end the whole transaction.
            if self.connection.is_autocommit() || settles.len() >= BATCH {
                break;
            }
            match inbox.try_recv() {
                Ok(Order::Write(write)) => next = Some(write),
                Ok(Order::Stop(reply)) => stopped = Some(reply),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
        }
        let committed = self.commit().map_err(Arc::new);
        for settle in settles {
            settle(&committed);
        }
        stopped
    }

    fn commit(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            let aborted = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
            return Err(rusqlite::Error::SqliteFailure(aborted, None));
        }
        let committed = self.connection.execute_batch("COMMIT");
        if committed.is_err() && !self.connection.is_autocommit() {
            // What a failed commit leaves open would swallow the next one.
            self.connection.execute_batch("ROLLBACK")?;
        }
        committed
    }

    fn close(self) {
        for reader in self.readers {
            if reader.join().is_err() {
                tracing::error!("a reading thread of the store panicked");
            }
        }
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let closed = self.connection.close().map_err(|(_, error)| error);
        if let Err(error) = checkpoint.and(closed) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the store closes with its log unmerged; the next start merges it"
            );
        }
        drop(self.lock);
    }
}

/// Runs a write so that its failure undoes what it did and nothing else.
fn in_savepoint<T>(
    connection: &Connection,
    write: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.prepare_cached("SAVEPOINT write")?.execute([])?;
    let result = write();
    if connection.is_autocommit() {
        return result;
    }
    let ended = match &result {
        Ok(_) => connection.execute_batch("RELEASE write"),
        Err(_) => connection.execute_batch("ROLLBACK TO write; RELEASE write"),
    };
    if let Err(error) = ended {
        // Half of a write must not be committed with the others.
        connection.execute_batch("ROLLBACK")?;
        return Err(error.into());
    }
    result
}
