//! The ledger: one file to which every life of the program appends what it does.
//!
//! Invariant: lines are in the order in which things happened, whatever thread wrote them,
//! and a line that was written survives a kill. Only a life's last line may be torn.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// What happened to a thread of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The program was started.
    Life,
    /// The thread was found to have no checkpoint, and was begun.
    Begun {
        /// The thread.
        thread: String,
    },
    /// A node was started.
    Started {
        /// The thread.
        thread: String,
        /// The graph's namespace.
        namespace: String,
        /// The step.
        step: u64,
        /// The task's place in the step's plan.
        task: u32,
    },
    /// A side effect took place.
    Effect {
        /// The thread.
        thread: String,
        /// The id that the runtime gave it.
        id: String,
        /// What came of it.
        value: u64,
    },
    /// The saver said that a batch is stored.
    Stored {
        /// The thread.
        thread: String,
        /// The checkpoints in the batch.
        checkpoints: Vec<StoredCheckpoint>,
        /// The records in the batch: checkpoint, task, key.
        records: Vec<(u64, u32, String)>,
    },
    /// The thread's run ended, with its state as JSON.
    Ended {
        /// The thread.
        thread: String,
        /// The state.
        state: String,
    },
}

/// The part of a stored checkpoint that the test needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCheckpoint {
    /// Its number.
    pub id: u64,
    /// Its graph.
    pub namespace: String,
    /// Steps merged before it.
    pub step: u64,
}

/// The writing end, with the failpoint of this life.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<File>,
    failpoint: Option<Failpoint>,
}

/// The `count`th arrival at `point` is this life's end.
#[derive(Debug)]
struct Failpoint {
    point: String,
    count: u64,
    arrivals: AtomicU64,
}

/// The variable that names a failpoint, as `point:count`; `count` begins with 1.
pub const FAILPOINT: &str = "LYCEUM_CRASH_AT";

impl Ledger {
    /// Opens the ledger for a new life; `failpoint` is what [`FAILPOINT`] holds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or the failpoint cannot be read.
    pub fn open(path: &Path, failpoint: Option<&str>) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let failpoint = failpoint.map(|text| {
            let (point, count) = text.split_once(':').context("want point:count")?;
            anyhow::Ok(Failpoint {
                point: point.to_owned(),
                count: count.parse()?,
                arrivals: AtomicU64::new(0),
            })
        });
        let ledger = Self {
            file: Mutex::new(file),
            failpoint: failpoint.transpose()?,
        };
        ledger.note(&Entry::Life)?;
        Ok(ledger)
    }

    /// Appends an entry.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn note(&self, entry: &Entry) -> io::Result<()> {
        // The newline is first: what a kill has torn stays a line of its own.
        let line = format!("\n{}", serde_json::to_string(entry)?);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
    }

    /// Appends an entry and waits until it is on the disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn note_durably(&self, entry: &Entry) -> io::Result<()> {
        self.note(entry)?;
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_data()
    }

    /// Whether this arrival is the one that the failpoint waits for.
    #[must_use]
    pub fn arrives(&self, point: &str) -> bool {
        self.failpoint.as_ref().is_some_and(|failpoint| {
            failpoint.point == point
                && failpoint.arrivals.fetch_add(1, Ordering::Relaxed) + 1 == failpoint.count
        })
    }

    /// Ends the process with SIGKILL where the failpoint says so.
    pub fn pass(&self, point: &str) {
        if self.arrives(point) {
            // A signal to oneself is delivered before the call returns.
            let _ends_here = kill_process(getpid(), Signal::KILL);
        }
    }
}

/// Reads a ledger.
///
/// # Errors
///
/// When a line is torn that is not the last of a life.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let mut entries: Vec<Entry> = Vec::with_capacity(lines.len());
    for (n, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            Err(_) if lines.get(n + 1).is_none_or(|next| *next == "\"Life\"") => {}
            Err(error) => bail!("line {n} of the ledger is torn in mid-life: {error}: {line}"),
        }
    }
    Ok(entries)
}
