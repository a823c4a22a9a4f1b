//! Memories that are found by what they mean: the encoder inside this program turns texts into
//! vectors, which stand beside the rows in one file; words and meaning are searched at once.
//!
//! ```console
//! cargo run -p lyceum-examples --example vector_memory
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use lyceum_core::{Scope, UserId};
use lyceum_encoder::Encoder;
use lyceum_memory::{
    Languages, Meaning, Memory, MemoryConfig, MemoryKind, NewMemory, VectorStore as _,
};
use lyceum_redact::Redactor;
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

const FACTS: [&str; 5] = [
    "The kitten sleeps on the couch all afternoon.",
    "Our central bank raised its interest rate in spring.",
    "She plays the violin in an orchestra.",
    "The recipe needs flour, yeast and a warm oven.",
    "Reach the landlord at landlord@example.org about the heating.",
];

async fn best(memory: &Memory, scope: &Scope, query: &str) -> Result<String> {
    let found = memory.find(scope, query, 1).await?;
    assert!(found.degraded.is_empty(), "{:?}", found.degraded);
    let best = found.memories.into_iter().next();
    Ok(best.map_or_else(String::new, |hit| hit.text))
}

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("memory.db");
    let store = Arc::new(SqliteStore::open(file, SqliteOptions::default())?);
    let encoder = Arc::new(Encoder::bundled()?);
    // The encoder knows English; Chinese, Japanese and Korean are found by their words.
    let meaning = Meaning::new(store.clone(), encoder, Languages::Spaced);
    let config = MemoryConfig {
        // A server answers by words alone after a fraction of a second; here the first call, which
        // unpacks the encoder, is waited for.
        part_timeout: Duration::from_secs(60),
        ..MemoryConfig::default()
    };
    let memory = Memory::new(store.clone(), store.clone(), store.clone(), config)
    .with_meaning(meaning)
    // A hosted encoder would see no address, number or key; the store keeps what was said.
    .with_scrubber(Arc::new(Redactor::new()));

    let scope = Scope::local();
    for fact in FACTS {
        let new = NewMemory::new(MemoryKind::Fact, "", fact);
        memory.remember(&scope, new).await?;
    }
    // Writing waits for no model: until a memory has its vector it is found by its words.
    assert_eq!(best(&memory, &scope, "violin").await?, FACTS[2]);
    assert_eq!(best(&memory, &scope, "young cat naps").await?, "");

    // A server does this in the background.
    while memory.embed_waiting(32).await? > 0 {}
    let space = memory.meaning().context("there is an encoder")?.space();
    let count = store.count_vectors(space).await?;
    println!(
        "{} memories, {} vectors of {} numbers",
        count.memories, count.vectors, space.dimensions
    );
    assert_eq!((count.vectors, count.missed), (5, 0));

    for (query, fact) in [
        ("young cat naps on the sofa", FACTS[0]),
        ("monetary policy gets tighter", FACTS[1]),
        ("a musician with a string instrument", FACTS[2]),
        ("baking bread at home", FACTS[3]),
    ] {
        let found = best(&memory, &scope, query).await?;
        println!("{query:?} finds {found:?}");
        assert_eq!(found, fact);
    }

    // Nobody else finds anything, however near it is.
    let stranger = Scope {
        user: UserId::new("stranger")?,
        ..scope
    };
    assert_eq!(best(&memory, &stranger, "young cat naps").await?, "");
    store.close().await;
    Ok(())
}
