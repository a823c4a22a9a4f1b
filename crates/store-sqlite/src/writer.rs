//! The one thread that writes, and its group commit.
//!
//! Writes that wait while a commit is being synced share the next one: N concurrent callers
//! cost one fsync, and a lone caller waits for nobody. Each write has a savepoint of its own,
//! so one that fails takes no other with it.
//!
//! Invariant: a caller hears of success only after the commit that holds its write, and of
//! one that must survive the power only after that commit is synced.

use std::{
    fs::File,
    sync::Arc,
    thread::{self, JoinHandle},
};

use lyceum_memory::{Clock, StoreError, Timestamp};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::{
    error::{Failure, classify},
    inbox::{IfFull, Inbox, Orders},
};

/// The most writes that share a transaction, so that the first does not wait for too many.
const BATCH: usize = 256;

type Committed = Result<(), Arc<rusqlite::Error>>;
type Settle = Box<dyn FnOnce(&Committed) + Send>;
type Begun<'a> = Result<(&'a Connection, Timestamp), &'a Arc<rusqlite::Error>>;
type Write = Box<dyn FnOnce(Begun<'_>) -> Option<Settle> + Send>;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    /// The end of the process and of the power: it was synced.
    Power,
    /// The end of the process. The log is in order, so the next synced commit holds it too.
    Process,
}

enum Order {
    /// Shares a transaction with others.
    Write(Write, Survives),
    /// Alone, outside of any.
    Maintain(Box<dyn FnOnce(&Connection) + Send>),
}

/// The way to the writing thread. The thread ends when this is closed or dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    inbox: Inbox<Order>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

/// What the thread owns.
pub(crate) struct Thread {
    pub(crate) connection: Connection,
    /// What the connection's commits survive at present.
    pub(crate) survives: Survives,
    pub(crate) clock: Arc<dyn Clock>,
    /// Joined before the connection closes, so that the last to close is the writer.
    pub(crate) readers: Vec<JoinHandle<()>>,
    /// Held until everything is closed.
    pub(crate) lock: File,
}

impl Writer {
    pub(crate) fn spawn(capacity: usize, mut thread: Thread) -> std::io::Result<Self> {
        let (inbox, orders) = Inbox::new(capacity);
        let (running, ended) = watch::channel(());
        thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                thread.run(&orders);
                thread.close();
                drop(running);
            })?;
        Ok(Self { inbox, ended })
    }

    /// Runs `write` inside a transaction and waits until that is committed.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        survives: Survives,
        if_full: IfFull,
        write: impl FnOnce(&Connection, Timestamp) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let write: Write = Box::new(move |begun| {
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
        });
        let order = Order::Write(write, survives);
        self.inbox.send(order, if_full).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs `work` outside of any transaction.
    pub(crate) async fn maintain<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Maintain(Box::new(move |connection| {
            // Nobody waits any more where this fails.
            drop(reply.send(work(connection)));
        }));
        self.inbox.send(order, IfFull::Refuse).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Ends the thread once the writes before this are done, and waits until it has
    /// closed the file.
    pub(crate) async fn close(&self) {
        self.inbox.close();
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Thread {
    fn run(&mut self, orders: &Orders<Order>) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| orders.recv()) {
            match first {
                Order::Write(write, survives) => next = self.batch(write, survives, orders),
                Order::Maintain(work) => work(&self.connection),
            }
        }
    }

    /// Commits a write together with those that wait behind it. One that need not be synced
    /// goes alone when nothing waits, for nothing; else it shares what the others pay for.
    /// Gives an order that was taken and not run.
    fn batch(&mut self, first: Write, survives: Survives, orders: &Orders<Order>) -> Option<Order> {
        let mut next = orders.try_recv();
        let survives = match &next {
            Some(Order::Write(..)) => Survives::Power,
            Some(Order::Maintain(_)) | None => survives,
        };
        if let Err(error) = self.begin(survives) {
            let error = Arc::new(error);
            if let Some(settle) = first(Err(&error)) {
                settle(&Ok(()));
            }
            return next;
        }
        let mut settles: Vec<Settle> = Vec::new();
        let mut taken = Some(first);
        while let Some(write) = taken.take() {
            settles.extend(write(Ok((&self.connection, self.clock.now()))));
            // Some failures, a full disk among them, end the whole transaction.
            let is_over = self.connection.is_autocommit() || settles.len() >= BATCH;
            if is_over || survives == Survives::Process {
                break;
            }
            next = next.take().or_else(|| orders.try_recv());
            taken = match next.take() {
                Some(Order::Write(write, _)) => Some(write),
                other => {
                    next = other;
                    None
                }
            };
        }
        let committed = self.commit().map_err(Arc::new);
        for settle in settles {
            settle(&committed);
        }
        next
    }

    fn begin(&mut self, survives: Survives) -> rusqlite::Result<()> {
        if self.survives != survives {
            let level = match survives {
                Survives::Power => "FULL",
                Survives::Process => "NORMAL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.survives = survives;
        }
        run(&self.connection, "BEGIN IMMEDIATE")
    }

    fn commit(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            let aborted = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
            return Err(rusqlite::Error::SqliteFailure(aborted, None));
        }
        let committed = run(&self.connection, "COMMIT");
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
    run(connection, "SAVEPOINT write")?;
    let result = write();
    if connection.is_autocommit() {
        return result;
    }
    let ended = match &result {
        Ok(_) => run(connection, "RELEASE write"),
        Err(_) => connection.execute_batch("ROLLBACK TO write; RELEASE write"),
    };
    if let Err(error) = ended {
        // Half of a write must not be committed with the others.
        connection.execute_batch("ROLLBACK")?;
        return Err(error.into());
    }
    result
}

/// Runs a statement without parameters that every batch needs, parsed once.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
