//! What encryption at rest costs: the same turns stored and searched in the clear and sealed.
//!
//! CPU time of the process, so that a busy machine moves it little; bytes of the closed file.

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::Result;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    Memory, MemoryConfig, MemoryStore as _, NewMessage, NewTurn, SessionStore as _, TurnId,
};
use lyceum_store_sqlite::{Encryption, SqliteOptions, SqliteStore, Unsealed};
use lyceum_vault::Masters;

use crate::{
    Options,
    machine::cpu_time,
    report::{Figures, say},
};

/// Turns of two messages and one memory each.
const TURNS: usize = 4_000;
const SESSIONS: usize = 40;
const SEARCHES: usize = 1_000;
/// Rows of a turn that hold something sealed: two messages, a memory, a digest.
const ROWS: f64 = 4.0;

/// What one store took.
struct Cost {
    write: f64,
    search: f64,
    read: f64,
    bytes: f64,
}

pub(super) fn run(figures: Figures, options: &Options) -> Result<()> {
    say("storing and searching in the clear and sealed");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let directory = tempfile::tempdir_in(&options.data)?;
    let clear = runtime.block_on(cost(&directory.path().join("clear.db"), None))?;
    let encryption = Encryption {
        masters: Masters::new(&[7; 32]),
        unsealed: Unsealed::Refuse,
    };
    let sealed = runtime.block_on(cost(&directory.path().join("sealed.db"), Some(encryption)))?;
    let print = |metric: &str, value: f64, unit: &str| {
        figures.print("encryption", metric, value, unit, None)
    };
    print("file in the clear", clear.bytes, "bytes/turn")?;
    print("file sealed", sealed.bytes, "bytes/turn")?;
    print(
        "file overhead",
        (sealed.bytes - clear.bytes) / ROWS,
        "bytes/row",
    )?;
    for (what, clear, sealed, unit) in [
        ("writing", clear.write, sealed.write, "us/turn"),
        ("searching", clear.search, sealed.search, "us/search"),
        ("reading ten messages", clear.read, sealed.read, "us/read"),
    ] {
        print(&format!("{what} in the clear, CPU"), clear, unit)?;
        print(&format!("{what} sealed, CPU"), sealed, unit)?;
    }
    print(
        "writing overhead, CPU",
        (sealed.write - clear.write) / ROWS,
        "us/row",
    )
}

fn scope(number: usize) -> Result<Scope> {
    let session = SessionId::new(format!("session-{}", number % SESSIONS))?;
    Ok(Scope::local().with_session(session))
}

fn turn(number: usize) -> Result<NewTurn> {
    let message = |role, content: String| NewMessage { role, content };
    Ok(NewTurn {
        turn_id: TurnId::new(format!("turn-{number}"))?,
        topic: "photosynthesis".into(),
        messages: vec![
            message(
                Role::User,
                format!(
                    "Plants take in carbon dioxide and water number {number}, and with light they \
                     make sugar and oxygen in chloroplasts, as leaf {} shows.",
                    number % 97
                ),
            ),
            message(
                Role::Assistant,
                "What happens to the oxygen, and where does the energy come from?".into(),
            ),
        ],
        memories: Vec::new(),
        jobs: Vec::new(),
    })
}

async fn cost(path: &Path, encryption: Option<Encryption>) -> Result<Cost> {
    let options = SqliteOptions {
        encryption,
        ..SqliteOptions::default()
    };
    let store = Arc::new(SqliteStore::open(path, options)?);
    let config = MemoryConfig::default();
    let memory = Memory::new(store.clone(), store.clone(), store.clone(), config);
    let per = |cpu: std::time::Duration, count: usize| cpu.as_secs_f64() * 1e6 / count as f64;
    let (started, before) = (Instant::now(), cpu_time()?);
    for number in 0..TURNS {
        memory
            .save_heard(&scope(number)?, turn(number)?, None)
            .await?;
    }
    let write = per(cpu_time()?.saturating_sub(before), TURNS);
    say(&format!("{TURNS} turns in {:?}", started.elapsed()));
    let before = cpu_time()?;
    for number in 0..SEARCHES {
        let query = format!("which leaf number {number} makes sugar");
        store.search(&scope(number)?, &query, 10).await?;
    }
    let search = per(cpu_time()?.saturating_sub(before), SEARCHES);
    let before = cpu_time()?;
    for number in 0..SEARCHES {
        store.messages(&scope(number)?, None, 10).await?;
    }
    let read = per(cpu_time()?.saturating_sub(before), SEARCHES);
    store.close().await;
    let bytes = fs::metadata(path)?.len() as f64 / TURNS as f64;
    Ok(Cost {
        write,
        search,
        read,
        bytes,
    })
}
