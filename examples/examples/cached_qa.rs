//! A bot that answers questions from its notes, with a cache in front: equal questions at one time
//! are one answer, what is known to have no answer is not asked again, and a changed note ends
//! the answers that came from it.
//!
//! ```console
//! cargo run -p lyceum-examples --example cached_qa
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use futures::future::join_all;
use lyceum_cache::{Cache, CacheConfig, Glob, Namespace};
use lyceum_core::{Scope, TenantId};
use lyceum_memory::{InMemory, MemoryId, MemoryKind, MemoryStore, NewMemory, StoreError, lexical};

/// Finds the note that fits a question best. It stands for a model: slow, and paid by the call.
#[derive(Debug, Default)]
struct Notes {
    store: InMemory,
    asked: AtomicU32,
}

impl Notes {
    async fn write(&self, name: &str, text: &str) -> Result<()> {
        let note = NewMemory {
            id: MemoryId::new(name)?,
            ..NewMemory::new(MemoryKind::Fact, name, text)
        };
        self.store.delete(&Scope::local(), &note.id).await?;
        self.store.put(&Scope::local(), &note).await?;
        Ok(())
    }

    async fn answer(&self, question: &str) -> Result<Option<String>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let found = self.store.search(&Scope::local(), question, 1).await?;
        Ok(found.into_iter().next().map(|note| note.text))
    }
}

/// Questions that differ in small words and endings only are the same one.
fn key(question: &str) -> String {
    format!("answer:{}", lexical::query_terms(question).join(" "))
}

struct Bot {
    notes: Arc<Notes>,
    cache: Cache<String>,
    tenant: TenantId,
}

impl Bot {
    async fn ask(&self, question: &str) -> Result<String> {
        let (notes, asked) = (self.notes.clone(), question.to_owned());
        let load = || async move { notes.answer(&asked).await };
        let answer = self
            .cache
            .get_or_load(&self.tenant, &key(question), load)
            .await?;
        Ok(answer.map_or_else(|| "I do not know.".to_owned(), |answer| (*answer).clone()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let notes = Arc::new(Notes::default());
    notes.write("tides", "The Moon pulls the sea.").await?;
    notes.write("bread", "Yeast makes dough rise.").await?;
    let bot = Bot {
        notes: notes.clone(),
        cache: Cache::new(Namespace::new("qa")?, CacheConfig::default())?,
        tenant: TenantId::new("school")?,
    };
    let asked = || notes.asked.load(Ordering::Relaxed);

    // A class asks at once: one of them pays.
    let questions = [
        "What pulls the sea?",
        "what is pulling the sea",
        "Sea: what pulls it?",
    ];
    let class = questions.iter().cycle().take(30);
    let answers = join_all(class.map(|question| bot.ask(question))).await;
    for answer in answers {
        assert_eq!(answer?, "The Moon pulls the sea.");
    }
    println!("30 questions at once, {} looked up", asked());
    assert!(asked() <= 2, "two wordings of one question at most");

    let before = asked();
    for _ in 0..3 {
        assert_eq!(bot.ask("Who painted the ceiling?").await?, "I do not know.");
    }
    assert_eq!(
        asked() - before,
        1,
        "that there is no answer is remembered too"
    );

    // A note changes: what was answered from it is forgotten, and the truth is given at once.
    notes
        .write("tides", "The Moon and the Sun pull the sea.")
        .await?;
    bot.cache
        .invalidate_pattern(&bot.tenant, &Glob::new("answer:*sea*"))
        .await;
    let answer = bot.ask(questions[0]).await?;
    println!("after the note changed: {answer}");
    assert_eq!(answer, "The Moon and the Sun pull the sea.");

    let stats = bot.cache.get_stats().await;
    println!(
        "answered without looking up: {:.0} %",
        100.0 * (1.0 - stats.loads as f64 / 34.0)
    );
    assert!(stats.loads <= 4, "{stats:?}");
    Ok(())
}
