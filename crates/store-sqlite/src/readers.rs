//! A few threads that read, each with a connection and its prepared statements.
//!
//! Invariant: each read sees one state of the file, and that state holds every write that
//! was acknowledged before the read began.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use lyceum_memory::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    OpenError,
    error::Failure,
    file,
    inbox::{IfFull, Inbox, Orders},
};

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading threads. They end when this is closed or dropped.
#[derive(Debug)]
pub(crate) struct Readers(Inbox<Read>);

impl Readers {
    /// Starts `threads` readers of the file; also gives the handles to join them by.
    pub(crate) fn spawn(
        path: &Path,
        threads: usize,
        capacity: usize,
    ) -> Result<(Self, Vec<JoinHandle<()>>), OpenError> {
        let (inbox, orders) = Inbox::new(capacity);
        let orders = Arc::new(Mutex::new(orders));
        let spawn = |_| {
            let connection = file::reader(path)?;
            let orders = Arc::clone(&orders);
            thread::Builder::new()
                .name("sqlite-reader".into())
                .spawn(move || run(&connection, &orders))
                .map_err(|source| OpenError::Engine {
                    path: path.to_owned(),
                    source: source.into(),
                })
        };
        let handles = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok((Self(inbox), handles))
    }

    /// Runs `read` inside a transaction, so that all its statements see the same state.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        if_full: IfFull,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            if reply.is_closed() {
                return;
            }
            let result = in_transaction(connection, read).map_err(StoreError::from);
            // Where this fails nobody waits any more, and nothing was changed.
            drop(reply.send(result));
        });
        self.0.send(read, if_full).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Ends the threads once the reads before this are done; does not wait for that.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

fn run(connection: &Connection, orders: &Mutex<Orders<Read>>) {
    loop {
        // One thread waits for an order, the others for it: whoever gets one lets go.
        let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match order {
            Some(read) => read(connection),
            None => return,
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
