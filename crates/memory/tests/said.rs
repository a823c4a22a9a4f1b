//! What was said is found by its own words, by those before it, and by its day; and a context
//! keeps to its budget.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    Budget, InMemory, Item, Memory, MemoryConfig, MemoryKind, NewMemory, NewMessage, NewTurn,
    Timestamp, TurnId, Verdict, estimate_tokens, said_id,
};

const MAY: Timestamp = Timestamp(1_683_554_160_000);

fn memory() -> Memory {
    let store = Arc::new(InMemory::default());
    Memory::new(store.clone(), store.clone(), store, MemoryConfig::default())
}

fn scope() -> Scope {
    Scope::local().with_session(SessionId::new("one").unwrap())
}

fn turn(id: &str, said: &[(Role, &str)]) -> NewTurn {
    NewTurn {
        turn_id: TurnId::new(id).unwrap(),
        topic: String::new(),
        messages: said
            .iter()
            .map(|&(role, content)| NewMessage {
                role,
                content: content.to_owned(),
            })
            .collect(),
        memories: Vec::new(),
        jobs: Vec::new(),
    }
}

async fn found(memory: &Memory, query: &str) -> Vec<String> {
    let found = memory.find(&Scope::local(), query, 9).await.unwrap();
    found.memories.into_iter().map(|hit| hit.text).collect()
}

#[tokio::test]
async fn an_answer_is_found_by_its_question_and_its_day() {
    let memory = memory();
    let asked = turn("a", &[(Role::User, "Did you go to the pottery class?")]);
    memory.save_said(&scope(), asked, Some(MAY)).await.unwrap();
    let said = turn("b", &[(Role::Assistant, "Yes, with my sister.")]);
    memory.save_said(&scope(), said, Some(MAY)).await.unwrap();
    assert_eq!(
        found(&memory, "pottery").await,
        ["Did you go to the pottery class?", "Yes, with my sister."]
    );
    // What stands beside a hit comes with it.
    assert_eq!(
        found(&memory, "sister").await,
        ["Yes, with my sister.", "Did you go to the pottery class?"]
    );
    assert_eq!(found(&memory, "8 May 2023").await.len(), 2);
}

#[tokio::test]
async fn a_turn_said_again_changes_nothing() {
    let memory = memory();
    let said = || {
        turn(
            "a",
            &[
                (Role::System, "be brief"),
                (Role::User, "I like tea"),
                (Role::Assistant, "  "),
            ],
        )
    };
    let first = memory.save_said(&scope(), said(), None).await.unwrap();
    let again = memory.save_said(&scope(), said(), None).await.unwrap();
    assert!(again.replayed && again.first_seq == first.first_seq);
    assert_eq!(found(&memory, "tea brief").await, ["I like tea"]);
    let id = said_id(&scope(), &TurnId::new("a").unwrap(), 1).unwrap();
    let stored = memory.memories().get(&scope(), &id).await.unwrap().unwrap();
    assert!(stored.context.starts_with("be brief"));
}

#[tokio::test]
async fn a_context_keeps_to_its_budget_and_says_why() {
    let memory = memory();
    for n in 0..40 {
        let text = format!("the {n}th apple tree of the orchard bears {n} red fruits");
        let new = NewMemory {
            created_at: Some(Timestamp(MAY.0 + i64::from(n % 3) * 86_400_000)),
            ..NewMemory::new(MemoryKind::Fact, "", text)
        };
        memory.remember(&scope(), new).await.unwrap();
    }
    for n in 0..30 {
        let said = format!("message number {n} about nothing much");
        let said = turn(&format!("t{n}"), &[(Role::User, &said)]);
        memory.save_turn(&scope(), said).await.unwrap();
    }
    let budget = Budget {
        tokens: 400,
        ..Budget::default()
    };
    let context = memory.assemble(&scope(), "apple", &budget).await.unwrap();
    assert_eq!(context, {
        memory.assemble(&scope(), "apple", &budget).await.unwrap()
    });
    assert!(context.tokens <= 280, "{} tokens", context.tokens);
    let seqs: Vec<u64> = context.messages.iter().map(|message| message.seq).collect();
    let first = 31 - seqs.len() as u64;
    assert!(seqs.len() > 5 && seqs.iter().copied().eq(first..=30));
    let times = context.knowledge.iter().map(|memory| memory.created_at);
    assert!(times.is_sorted() && !context.knowledge.is_empty());
    let spoken: usize = context
        .messages
        .iter()
        .map(|message| estimate_tokens(&message.content))
        .sum();
    assert!(estimate_tokens(&context.render()) + spoken <= context.tokens);
    let verdict = |verdict| {
        context
            .trace
            .iter()
            .filter(|d| d.verdict == verdict)
            .count()
    };
    assert_eq!(verdict(Verdict::Always), 5);
    assert!(verdict(Verdict::TooLong) > 0);
    assert_eq!(context.trace[0].item, Item::Message(26));
}

#[tokio::test]
async fn what_was_said_already_is_not_said_again() {
    let memory = memory();
    let text = "my sister Anna moved to Lisbon last spring";
    let said = turn("a", &[(Role::User, text)]);
    memory.save_said(&scope(), said, Some(MAY)).await.unwrap();
    let context = memory
        .assemble(&scope(), "Lisbon", &Budget::default())
        .await
        .unwrap();
    assert!(context.knowledge.is_empty());
    assert_eq!(context.trace[1].verdict, Verdict::Repeats);
    let other = memory
        .assemble(&Scope::local(), "Lisbon", &Budget::default())
        .await
        .unwrap();
    assert_eq!(other.render(), format!("8 May 2023:\n- {text}\n"));
}

#[tokio::test]
async fn what_the_agent_says_itself_is_not_what_it_heard() {
    let memory = memory();
    let said = |id: &str, text: &str| {
        turn(
            id,
            &[
                (Role::User, text),
                (Role::Assistant, "Why does the piano sound?"),
            ],
        )
    };
    let first = said("a", "I play an instrument");
    memory.save_heard(&scope(), first, None).await.unwrap();
    assert!(found(&memory, "piano").await.is_empty());
    let second = said("b", "Its strings are struck");
    memory.save_heard(&scope(), second, None).await.unwrap();
    // The answer is found by the question, and the message beside it with it.
    assert_eq!(
        found(&memory, "piano").await,
        ["Its strings are struck", "I play an instrument"]
    );
}

#[tokio::test]
async fn what_is_shown_word_for_word_is_no_memory_and_their_number_is_kept() {
    let memory = memory();
    let said = turn("a", &[(Role::User, "Lisbon, spring")]);
    memory.save_said(&scope(), said, Some(MAY)).await.unwrap();
    for n in 0..5 {
        let text = format!("Lisbon has a hill number {n} with a view of the river");
        let new = NewMemory::new(MemoryKind::Fact, "", text);
        memory.remember(&scope(), new).await.unwrap();
    }
    let budget = Budget {
        memories: 2,
        repeats: 1.0,
        ..Budget::default()
    };
    let context = memory.assemble(&scope(), "Lisbon", &budget).await.unwrap();
    assert_eq!(context.knowledge.len(), 2);
    assert!(
        context
            .knowledge
            .iter()
            .all(|hit| hit.text.contains("hill"))
    );
    let over = |d: &&lyceum_memory::Decision| d.verdict == Verdict::ShareUsed;
    assert_eq!(context.trace.iter().filter(over).count(), 3);
    let budget = Budget {
        messages: 0,
        ..Budget::default()
    };
    let context = memory.assemble(&scope(), "Lisbon", &budget).await.unwrap();
    assert!(context.messages.is_empty() && context.knowledge.len() == 6);
}
