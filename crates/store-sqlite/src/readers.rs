//! A few threads that read, each with a connection and its prepared statements.
//!
//! Invariant: each read sees one state of the file, and that state holds every write that
//! was acknowledged before the read began.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use lyceum_memory::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{OpenError, error::Failure, file};

enum Order {
    Read(Box<dyn FnOnce(&Connection) + Send>),
    Stop,
}

/// The way to the reading threads. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Readers {
    orders: SyncSender<Order>,
    capacity: usize,
    threads: usize,
}

impl Readers {
    /// Starts `threads` readers of the file; also gives the handles to join them by.
    pub(crate) fn spawn(
        path: &Path,
        threads: usize,
        capacity: usize,
    ) -> Result<(Self, Vec<JoinHandle<()>>), OpenError> {
        let (orders, inbox) = sync_channel(capacity);
        let inbox = Arc::new(Mutex::new(inbox));
        let spawn = |_| {
            let connection = file::reader(path)?;
            let inbox = Arc::clone(&inbox);
            thread::Builder::new()
                .name("sqlite-reader".into())
                .spawn(move || run(&connection, &inbox))
                .map_err(|source| OpenError::Engine {
                    path: path.to_owned(),
                    source: source.into(),
                })
        };
        let handles = (0..threads).map(spawn).collect::<Result<Vec<_>, _>>()?;
        let readers = Self {
            orders,
            capacity,
            threads,
        };
        Ok((readers, handles))
    }

    /// Runs `read` inside a transaction, so that all its statements see the same state.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Read(Box::new(move |connection| {
            if reply.is_closed() {
                return;
            }
            let result = in_transaction(connection, read).map_err(StoreError::from);
            // Nobody waits any more where this fails, and nothing was changed.
            drop(reply.send(result));
        }));
        self.orders
            .try_send(order)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Overloaded {
                    waiting: self.capacity,
                },
                TrySendError::Disconnected(_) => StoreError::Closed,
            })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Ends the threads once the reads before this are done; does not wait for that.
    /// A full queue keeps a thread alive until this is dropped.
    pub(crate) fn stop(&self) {
        for _ in 0..self.threads {
            drop(self.orders.try_send(Order::Stop));
        }
    }
}

fn run(connection: &Connection, inbox: &Mutex<Receiver<Order>>) {
    loop {
        // One thread waits in the queue, the others for it: whoever gets an order lets go.
        let order = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match order {
            Ok(Order::Read(read)) => read(connection),
            Ok(Order::Stop) | Err(_) => return,
        }
    }
}

fn in_transaction<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = read(connection);
    if !connection.is_autocommit() {
        connection.prepare_cached("ROLLBACK")?.execute([])?;
    }
    result
}
