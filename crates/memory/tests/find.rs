//! Finding by words and by meaning, and what happens without the second arm.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, Role, Scope, Scrubbed,
    Scrubber, SessionId, Usage, UserId, Vector,
};
use lyceum_memory::{
    AsOf, Beside, Context, ContextLimits, InMemory, Languages, Meaning, Memory, MemoryConfig,
    MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory, NewMessage, NewTurn,
    Recollection, StoreError, TurnId,
};

/// Knows two subjects, animals and tools, and fails when told to. It refuses poison, and notes
/// whose texts it is asked for.
#[derive(Debug, Default)]
struct Subjects {
    is_down: AtomicBool,
    /// Refuses every text.
    is_picky: AtomicBool,
    asked: Mutex<Vec<(String, usize)>>,
    seen: Mutex<Vec<String>>,
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
        call: &CallContext,
        _: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let whose = (call.scope.user.to_string(), texts.len());
        self.asked.lock().unwrap().push(whose);
        let seen = texts.iter().map(|text| text.to_string());
        self.seen.lock().unwrap().extend(seen);
        let is_poison = |text: &Arc<str>| text.contains("poison");
        if self.is_picky.load(Ordering::Relaxed) || texts.iter().any(is_poison) {
            let error = ChatError::Rejected {
                status: 400,
                message: "no".into(),
            };
            return Err(EmbedError::Call(Arc::new(error)));
        }
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
    let meaning = Meaning::new(store.clone(), model.clone(), Languages::Spaced);
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

async fn say(memory: &Memory, session: &str, said: &[&str]) {
    let scope = Scope::local().with_session(SessionId::new(session).unwrap());
    for (place, said) in said.iter().enumerate() {
        let turn = NewTurn {
            turn_id: TurnId::new(place.to_string()).unwrap(),
            topic: String::new(),
            messages: vec![NewMessage {
                role: Role::User,
                content: (*said).to_owned(),
            }],
            memories: Vec::new(),
            jobs: Vec::new(),
        };
        memory.save_said(&scope, turn, None).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_said_beside_a_hit_is_found_with_it() {
    let (memory, _) = memory();
    let talk = [
        "Ann: It was in the harbour, by the lighthouse.",
        "Bo: So where did the photograph hang?",
        "Ann: Above our kitchen table.",
    ];
    say(&memory, "one", &talk).await;
    say(&memory, "two", &["Ann: The weather is fine."]).await;
    let found = memory.find(&Scope::local(), "photograph", 9).await.unwrap();
    let found: Vec<String> = found.memories.into_iter().map(|hit| hit.text).collect();
    assert_eq!(found, [talk[1], talk[2], talk[0]]);
}

#[tokio::test]
async fn the_speaker_who_is_asked_for_comes_first() {
    let (memory, _) = memory();
    let talk = ["Ann: I love jazz music.", "Bo: I love jazz music, too."];
    say(&memory, "one", &talk[..1]).await;
    say(&memory, "two", &talk[1..]).await;
    let query = "What music does Bo love, jazz?";
    let found = memory.find(&Scope::local(), query, 9).await.unwrap();
    assert_eq!(found.memories[0].text, talk[1]);
    let query = "What music does Ann love, jazz?";
    let found = memory.find(&Scope::local(), query, 9).await.unwrap();
    assert_eq!(found.memories[0].text, talk[0]);
}

/// Memories whose words cannot be searched, or whose neighbours cannot be read.
#[derive(Debug)]
struct Broken {
    memories: Arc<InMemory>,
    hangs: bool,
}

#[async_trait]
impl MemoryStore for Broken {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        self.memories.put(scope, memory).await
    }
    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        self.memories.get(scope, id).await
    }
    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.memories.get_many(scope, ids).await
    }
    async fn search(&self, _: &Scope, _: &str, _: usize) -> Result<Vec<Recollection>, StoreError> {
        match self.hangs {
            true => std::future::pending().await,
            false => Err(StoreError::Closed),
        }
    }
    async fn search_as_of(
        &self,
        scope: &Scope,
        _: AsOf,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        self.search(scope, query, limit).await
    }
    async fn beside(&self, _: &Scope, _: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        Err(StoreError::Closed)
    }
    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.memories.list(scope, after, limit).await
    }
    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.memories.list_as_of(scope, as_of, after, limit).await
    }
    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        self.memories.delete(scope, id).await
    }
}

#[tokio::test(start_paused = true)]
async fn without_words_meaning_answers_and_the_answer_says_so() {
    for hangs in [false, true] {
        let (store, model) = (Arc::new(InMemory::default()), Arc::new(Subjects::default()));
        let memories = Arc::new(Broken {
            memories: store.clone(),
            hangs,
        });
        let meaning = Meaning::new(store.clone(), model.clone(), Languages::Spaced);
        let memory = Memory::new(store.clone(), memories, store, MemoryConfig::default());
        let memory = memory.with_meaning(meaning);
        teach(&memory, "a cat sleeps").await;
        memory.embed_waiting(9).await.unwrap();
        let limits = ContextLimits::default();
        let context = memory.context(&Scope::local(), "kitten", limits).await;
        let context = context.unwrap();
        assert_eq!(context.knowledge[0].text, "a cat sleeps");
        assert_eq!(context.degraded, ["words", "beside"]);
        model.is_down.store(true, Ordering::Relaxed);
        let context = memory.context(&Scope::local(), "kitten", limits).await;
        assert_eq!(context.unwrap().degraded, ["knowledge"]);
    }
}

async fn counted(memory: &Memory) -> (u64, u64) {
    let meaning = memory.meaning().unwrap();
    let count = meaning.store().count_vectors(meaning.space()).await;
    let count = count.unwrap();
    (count.settled, count.vectors)
}

#[tokio::test]
async fn a_text_that_the_model_refuses_keeps_no_other_from_its_vector() {
    let (memory, model) = memory();
    for n in 0..9 {
        let text = if n == 4 { "poison" } else { "a cat sleeps" };
        teach(&memory, text).await;
    }
    model.is_picky.store(true, Ordering::Relaxed);
    let refused = memory.embed_waiting(99).await.unwrap_err();
    assert_eq!(
        (refused.label(), counted(&memory).await),
        ("rejected", (0, 0))
    );
    model.is_picky.store(false, Ordering::Relaxed);
    assert_eq!(memory.embed_waiting(99).await.unwrap(), 9);
    assert_eq!(counted(&memory).await, (9, 8));
    assert_eq!(texts(&memory, "kitten").await, ["a cat sleeps"]);
    // One that comes alone is tried against another text.
    teach(&memory, "more poison").await;
    assert_eq!(memory.embed_waiting(99).await.unwrap(), 1);
    assert_eq!(counted(&memory).await, (10, 8));
}

#[tokio::test]
async fn each_user_pays_for_their_own_vectors() {
    let (memory, model) = memory();
    for n in 0..6 {
        let mut scope = Scope::local();
        scope.user = UserId::new(format!("user-{}", n % 2)).unwrap();
        let new = NewMemory::new(MemoryKind::Fact, "", "a saw cuts");
        memory.remember(&scope, new).await.unwrap();
    }
    assert_eq!(memory.embed_waiting(99).await.unwrap(), 6);
    let mut asked = model.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [("user-0".into(), 3), ("user-1".into(), 3)]);
}

/// Takes out all digits.
#[derive(Debug)]
struct NoDigits;

impl Scrubber for NoDigits {
    fn scrub<'a>(&self, text: &'a str) -> Scrubbed<'a> {
        let kept = text.chars().filter(|c| !c.is_ascii_digit());
        Scrubbed {
            text: kept.collect::<String>().into(),
            found: Vec::new(),
        }
    }
}

#[tokio::test]
async fn the_model_sees_nothing_that_is_taken_out() {
    let (memory, model) = memory();
    let memory = memory.with_scrubber(Arc::new(NoDigits));
    teach(&memory, "a cat has 4 legs and the number 555").await;
    memory.embed_waiting(9).await.unwrap();
    let found = memory.find(&Scope::local(), "cat 555", 1).await.unwrap();
    assert_eq!(
        found.memories[0].text,
        "a cat has 4 legs and the number 555"
    );
    let seen = model.seen.lock().unwrap().clone();
    assert_eq!(seen, ["a cat has  legs and the number ", "cat "]);
}
