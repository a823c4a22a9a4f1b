//! How many turns a second this machine's disk acknowledges, by the number of callers.
//!
//! `cargo run --release -p lyceum-store-sqlite --example append_rate -- DIRECTORY`; the
//! directory decides, because every commit is synced to it.

use std::{path::PathBuf, time::Instant};

use futures_util::future::try_join_all;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{NewMessage, NewTurn, SessionStore, TurnId};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

const TURNS: usize = 4_000;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the figures are the purpose")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent)?;
    let store = SqliteStore::open(directory.path().join("l.db"), SqliteOptions::default())?;
    for callers in [1, 8, 64, 512] {
        let turns = TURNS.min(callers * 200);
        let started = Instant::now();
        try_join_all((0..callers).map(|caller| append(&store, caller, turns / callers))).await?;
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{callers:4} callers: {:7.0} turns/s",
            turns as f64 / seconds
        );
    }
    store.close().await;
    Ok(())
}

async fn append(
    store: &SqliteStore,
    caller: usize,
    turns: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let scope = Scope::local().with_session(SessionId::new(format!("s{caller}"))?);
    for _ in 0..turns {
        let message = |role, length| NewMessage {
            role,
            content: "word ".repeat(length),
        };
        let turn = NewTurn {
            turn_id: TurnId::random(),
            topic: "rate".into(),
            messages: vec![message(Role::User, 40), message(Role::Assistant, 80)],
            memories: Vec::new(),
            jobs: Vec::new(),
        };
        store.append(&scope, &turn).await?;
    }
    Ok(())
}
