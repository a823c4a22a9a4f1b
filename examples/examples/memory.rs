//! Memory on a SQLite file: turns are saved, facts are found by their words, and both are
//! there again after the file was closed and opened.
//!
//! ```console
//! cargo run -p lyceum-examples --example memory
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{path::Path, sync::Arc};

use lyceum_core::{Role, Scope, SessionId, UserId};
use lyceum_memory::{
    Context, ContextLimits, Memory, MemoryConfig, MemoryKind, NewMemory, NewMessage, NewTurn,
    TurnId,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

/// One store implements all three ports: sessions, memories and background jobs.
fn open(path: &Path) -> anyhow::Result<(Memory, Arc<SqliteStore>)> {
    let store = Arc::new(SqliteStore::open(path, SqliteOptions::default())?);
    let config = MemoryConfig::default();
    let memory = Memory::new(store.clone(), store.clone(), store.clone(), config);
    Ok((memory, store))
}

fn turn(said: &str, answered: &str) -> NewTurn {
    let message = |role, text: &str| NewMessage {
        role,
        content: text.to_owned(),
    };
    NewTurn {
        turn_id: TurnId::random(),
        topic: "tides".to_owned(),
        messages: vec![
            message(Role::User, said),
            message(Role::Assistant, answered),
        ],
        memories: Vec::new(),
        jobs: Vec::new(), // stored in the same transaction, for a worker to pick up
    }
}

fn show(context: &Context) {
    for message in &context.recent {
        println!(
            "  {}. {}: {}",
            message.seq,
            message.role.as_str(),
            message.content
        );
    }
    for found in &context.knowledge {
        println!("  knows about {}: {}", found.topic, found.text);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("lyceum.db");
    // Every call says whose data it may touch: tenant, user, agent, and here a conversation.
    let scope = Scope::local().with_session(SessionId::new("monday")?);

    let (memory, store) = open(&path)?;
    memory
        .save_turn(&scope, turn("The Moon pulls the sea.", "Why twice a day?"))
        .await?;
    let second = turn("There is a bulge on both sides.", "Why on the far side?");
    let saved = memory.save_turn(&scope, second.clone()).await?;
    // The same turn id again changes nothing: a client that lost the answer may repeat itself.
    let again = memory.save_turn(&scope, second).await?;
    assert_eq!((again.last_seq, again.replayed), (saved.last_seq, true));

    for (topic, text) in [
        ("Moon", "The Moon orbits the Earth."),
        ("bread", "Yeast makes dough rise."),
    ] {
        memory
            .remember(&scope, NewMemory::new(MemoryKind::Fact, topic, text))
            .await?;
    }
    store.close().await;

    println!("After opening the file again:");
    let (memory, store) = open(&path)?;
    let context = memory
        .context(&scope, "what do moons orbit?", ContextLimits::default())
        .await?;
    show(&context);
    assert_eq!(context.recent.len(), 4);
    assert_eq!(context.knowledge.len(), 1, "bread is not about moons");
    assert_eq!(context.knowledge[0].topic, "Moon");

    println!("Another conversation shares the knowledge, not the words:");
    let tuesday = Scope::local().with_session(SessionId::new("tuesday")?);
    let context = memory
        .context(&tuesday, "moon", ContextLimits::default())
        .await?;
    show(&context);
    assert_eq!((context.recent.len(), context.knowledge.len()), (0, 1));

    println!("Another user sees nothing:");
    let stranger = Scope {
        user: UserId::new("stranger")?,
        ..scope
    };
    let context = memory
        .context(&stranger, "moon", ContextLimits::default())
        .await?;
    show(&context);
    assert!(context.recent.is_empty() && context.knowledge.is_empty());
    store.close().await;
    Ok(())
}
