//! Finding by words and by meaning, and what happens without the second arm.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Scope, Usage, Vector};
use lyceum_memory::{
    Context, ContextLimits, Fusion, InMemory, Languages, Meaning, Memory, MemoryConfig, MemoryKind,
    NewMemory,
};

/// Knows two subjects, animals and tools, and fails when told to.
#[derive(Debug, Default)]
struct Subjects {
    is_down: AtomicBool,
}

#[async_trait]
impl Embedder for Subjects {
    fn model(&self) -> &str {
        "subjects"
    }

    fn dimensions(&self) -> usize {
        2
    }

    async fn embed(
        &self,
        _: &CallContext,
        _: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(EmbedError::Closed);
        }
        let of = |text: &Arc<str>| {
            let has = |words: [&str; 2]| words.iter().any(|word| text.contains(word));
            let animal = f32::from(u8::from(has(["cat", "kitten"])));
            let tool = f32::from(u8::from(has(["hammer", "saw"])));
            Vector::from([animal + 0.1, tool + 0.1])
        };
        Ok(Embeddings {
            vectors: texts.iter().map(of).collect(),
            usage: Usage::default(),
        })
    }
}

fn memory() -> (Memory, Arc<Subjects>) {
    let (store, model) = (Arc::new(InMemory::default()), Arc::new(Subjects::default()));
    let meaning = Meaning::new(
        store.clone(),
        model.clone(),
        Languages::Spaced,
        Fusion::default(),
    );
    let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default());
    (memory.with_meaning(meaning), model)
}

async fn teach(memory: &Memory, text: &str) {
    let new = NewMemory::new(MemoryKind::Fact, "", text);
    memory.remember(&Scope::local(), new).await.unwrap();
}

async fn texts(memory: &Memory, query: &str) -> Vec<String> {
    let found = memory.find(&Scope::local(), query, 1).await.unwrap();
    assert!(found.degraded.is_empty());
    found.memories.into_iter().map(|hit| hit.text).collect()
}

#[tokio::test]
async fn what_shares_no_word_is_found_once_it_has_a_vector() {
    let (memory, _) = memory();
    teach(&memory, "a cat sleeps").await;
    teach(&memory, "a hammer hits").await;
    assert!(texts(&memory, "kitten").await.is_empty());
    assert_eq!(texts(&memory, "cat").await, ["a cat sleeps"]);
    assert_eq!(memory.embed_waiting(9).await.unwrap(), 2);
    assert_eq!(memory.embed_waiting(9).await.unwrap(), 0);
    assert_eq!(texts(&memory, "kitten").await, ["a cat sleeps"]);
    assert_eq!(texts(&memory, "saw").await, ["a hammer hits"]);
}

#[tokio::test]
async fn what_has_no_vector_yet_is_found_by_its_words() {
    let (memory, _) = memory();
    teach(&memory, "a cat sleeps").await;
    memory.embed_waiting(9).await.unwrap();
    teach(&memory, "the swordfish is new").await;
    assert_eq!(texts(&memory, "swordfish").await, ["the swordfish is new"]);
}

#[tokio::test]
async fn a_text_the_model_cannot_read_is_settled_and_found_by_its_words() {
    let (memory, model) = memory();
    teach(&memory, "叶绿素吸收红光").await;
    model.is_down.store(true, Ordering::Relaxed);
    assert_eq!(texts(&memory, "叶绿素").await, ["叶绿素吸收红光"]);
    model.is_down.store(false, Ordering::Relaxed);
    assert_eq!(memory.embed_waiting(9).await.unwrap(), 1);
    let meaning = memory.meaning().unwrap();
    let count = meaning
        .store()
        .count_vectors(meaning.space())
        .await
        .unwrap();
    assert_eq!((count.settled, count.vectors), (1, 0));
}

#[tokio::test]
async fn without_the_model_words_answer_and_the_answer_says_so() {
    let (memory, model) = memory();
    teach(&memory, "a cat sleeps").await;
    memory.embed_waiting(9).await.unwrap();
    model.is_down.store(true, Ordering::Relaxed);
    let limits = ContextLimits::default();
    let context = memory.context(&Scope::local(), "cat", limits).await;
    let Context {
        knowledge,
        degraded,
        ..
    } = context.unwrap();
    assert_eq!(knowledge[0].text, "a cat sleeps");
    assert_eq!(degraded, ["embedding"]);
    teach(&memory, "a saw cuts").await;
    assert_eq!(memory.embed_waiting(9).await.unwrap_err().label(), "closed");
    model.is_down.store(false, Ordering::Relaxed);
    assert_eq!(memory.embed_waiting(9).await.unwrap(), 1);
}
