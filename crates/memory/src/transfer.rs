//! Export and import of what belongs to one scope, as JSON Lines.
//!
//! One object a line, named by its `type`: a `session` followed by its `message`s, then
//! `memory`s. An import can be repeated: what is there stays as it is.
//! Deliberately absent: jobs, which are work in progress and not knowledge.

use std::io::{self, BufRead, Read, Write};

use lyceum_core::Scope;
use serde::{Deserialize, Serialize};

use crate::{
    MemoryCursor, MemoryRecord, MemoryStore, NewMemory, Session, SessionArchive, SessionCursor,
    SessionStore, StoreError, StoredMessage,
};

/// The longest line that is read, in bytes: a message of the default limit whose every byte JSON
/// writes as six (`\u0000`), and what stands around it.
const LINE_BYTES: u64 = 6 * 1024 * 1024 + 64 * 1024;

/// The most messages of one session that are read.
const SESSION_MESSAGES: usize = 100_000;

/// How many items are read from a store at a time.
const PAGE: usize = 200;

/// How much was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Sessions; of an import, those that were new.
    pub sessions: usize,
    /// Messages of these sessions.
    pub messages: usize,
    /// Memories; of an import, those that were new.
    pub memories: usize,
}

/// Why an export or import ended early. What was moved until then stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file failed.
    #[error("read or write the file")]
    File(#[from] io::Error),
    /// A line is not what an export writes.
    #[error("read line {line}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A line, or the messages of a session, are too many to read.
    #[error(
        "read line {line}: it is longer than {LINE_BYTES} bytes, or message {SESSION_MESSAGES} of its session"
    )]
    TooLarge {
        /// Its number, from 1.
        line: usize,
    },
    /// A message stands before any session.
    #[error("read line {line}: a message without its session before it")]
    Stray {
        /// Its number, from 1.
        line: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Session(Session),
    Message(StoredMessage),
    Memory(MemoryRecord),
}

/// Writes all sessions and memories of the scope's user and agent. Writes to `out` directly,
/// so it is for a file or a buffer.
///
/// # Errors
///
/// [`TransferError::Store`] and [`TransferError::File`].
pub async fn export(
    sessions: &dyn SessionStore,
    memories: &dyn MemoryStore,
    scope: &Scope,
    out: &mut (dyn Write + Send),
) -> Result<Transferred, TransferError> {
    let mut moved = Transferred::default();
    let mut cursor = None;
    loop {
        let page = sessions.sessions(scope, cursor.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        cursor = Some(SessionCursor::from(last));
        for session in page {
            let scope = scope.clone().with_session(session.id.clone());
            moved.sessions += 1;
            moved.messages += export_session(sessions, &scope, session, out).await?;
        }
    }
    let mut cursor = None;
    loop {
        let page = memories.list(scope, cursor.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        cursor = Some(MemoryCursor::from(last));
        for memory in page {
            moved.memories += 1;
            write(&Line::Memory(memory), out)?;
        }
    }
    out.flush()?;
    Ok(moved)
}

/// Writes a session as it was when it was listed: a turn that comes meanwhile is left out.
async fn export_session(
    store: &dyn SessionStore,
    scope: &Scope,
    session: Session,
    out: &mut (dyn Write + Send),
) -> Result<usize, TransferError> {
    let mut pages = Vec::new();
    let mut before = session.messages + 1;
    loop {
        let page = store.messages(scope, Some(before), PAGE).await?;
        let Some(first) = page.first() else { break };
        before = first.seq;
        pages.push(page);
    }
    write(&Line::Session(session), out)?;
    let mut count = 0;
    for message in pages.into_iter().rev().flatten() {
        count += 1;
        write(&Line::Message(message), out)?;
    }
    Ok(count)
}

fn write(line: &Line, out: &mut (dyn Write + Send)) -> Result<(), TransferError> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Reads what [`export`] wrote into the scope's user and agent. Sessions and memories that are
/// there already stay as they are.
///
/// # Errors
///
/// [`TransferError`], whose variants name the line.
pub async fn import(
    sessions: &dyn SessionArchive,
    memories: &dyn MemoryStore,
    scope: &Scope,
    lines: &mut (dyn BufRead + Send),
) -> Result<Transferred, TransferError> {
    let mut moved = Transferred::default();
    let mut open: Option<(Session, Vec<StoredMessage>)> = None;
    for number in 1.. {
        let Some(line) = read(lines, number)? else {
            break;
        };
        match (line, &mut open) {
            (Line::Message(_), None) => return Err(TransferError::Stray { line: number }),
            (Line::Message(message), Some((_, messages))) => {
                if messages.len() == SESSION_MESSAGES {
                    return Err(TransferError::TooLarge { line: number });
                }
                messages.push(message);
            }
            (Line::Session(session), open) => {
                let whole = open.replace((session, Vec::new()));
                restore(sessions, scope, whole, &mut moved).await?;
            }
            (Line::Memory(memory), open) => {
                restore(sessions, scope, open.take(), &mut moved).await?;
                moved.memories += usize::from(remember(memories, scope, memory).await?);
            }
        }
    }
    restore(sessions, scope, open, &mut moved).await?;
    Ok(moved)
}

/// The next line; `None` at the end.
fn read(lines: &mut (dyn BufRead + Send), number: usize) -> Result<Option<Line>, TransferError> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 == LINE_BYTES {
        return Err(TransferError::TooLarge { line: number });
    }
    let parsed = serde_json::from_slice(&line);
    let source = |source| TransferError::Line {
        line: number,
        source,
    };
    parsed.map(Some).map_err(source)
}

async fn restore(
    store: &dyn SessionArchive,
    scope: &Scope,
    whole: Option<(Session, Vec<StoredMessage>)>,
    moved: &mut Transferred,
) -> Result<(), TransferError> {
    let Some((session, messages)) = whole else {
        return Ok(());
    };
    let scope = scope.clone().with_session(session.id.clone());
    if store.restore(&scope, &session, &messages).await? {
        moved.sessions += 1;
        moved.messages += messages.len();
    }
    Ok(())
}

async fn remember(
    store: &dyn MemoryStore,
    scope: &Scope,
    memory: MemoryRecord,
) -> Result<bool, TransferError> {
    let mut scope = scope.clone();
    scope.session.clone_from(&memory.session);
    let new = NewMemory::from(memory);
    Ok(store.put(&scope, &new).await?)
}
