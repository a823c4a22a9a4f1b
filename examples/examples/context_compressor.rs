//! A long conversation in a small budget: its beginning becomes a summary that grows with it, and
//! a context is put together of summary, memories and the newest messages, with a trace of why.
//!
//! ```console
//! cargo run -p lyceum-examples --example context_compressor
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Context as _, Result};
use lyceum_agents::{Consolidator, Mind};
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    Budget, Claim, InMemory, Item, Memory, MemoryConfig, NewJob, NewMessage, NewTurn, TurnId,
    estimate_tokens,
};
use serde_json::Value;

const LESSON: [&str; 4] = [
    "Tides are the rise and fall of the sea, because the Moon pulls the water.",
    "There is a second bulge on the far side, because the Earth is pulled away from that water.",
    "Spring tides are the highest, because the Sun and the Moon then pull along one line.",
    "A neap tide is the lowest, because the Sun then pulls across the Moon's line.",
];

fn turn(number: usize) -> Result<NewTurn> {
    let said = format!("{} That was point {number}.", LESSON[number % LESSON.len()]);
    let message = |role, content: String| NewMessage { role, content };
    Ok(NewTurn {
        turn_id: TurnId::new(format!("turn-{number}"))?,
        topic: "tides".to_owned(),
        messages: vec![
            message(Role::User, said),
            message(
                Role::Assistant,
                format!("And what follows from point {number}?"),
            ),
        ],
        memories: Vec::new(),
        // From twenty messages on a server makes such a job every ten.
        jobs: vec![NewJob {
            kind: "consolidate".to_owned(),
            payload: Value::Null,
        }],
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let store = Arc::new(InMemory::default());
    let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default());
    let scope = Scope::local().with_session(SessionId::new("long")?);
    let mut all = 0;
    for number in 0..60 {
        let turn = turn(number)?;
        all += turn
            .messages
            .iter()
            .map(|one| estimate_tokens(&one.content))
            .sum::<usize>();
        // Every message becomes a memory as well, found by its words and by those before it.
        memory.save_said(&scope, turn, None).await?;
    }

    // Without a model rules write the summary; with one, `Mind::Model` does.
    let worker = Consolidator::new(memory.clone(), Mind::Offline);
    while let Claim::Job(job) = memory.claim_job(&["consolidate"]).await? {
        worker.work(&job).await?;
    }
    let session = memory
        .sessions()
        .session(&scope)
        .await?
        .context("it was saved")?;
    let summary = session
        .summary
        .context("it is long enough to be summarised")?;
    let tokens = estimate_tokens(&summary.text);
    println!(
        "{} messages of {all} tokens; the first {} as {tokens} tokens:",
        session.messages, summary.upto_seq
    );
    println!("{}\n", summary.text);
    assert_eq!(summary.upto_seq, 110, "all but the last ten");
    assert!(tokens <= 500 && tokens * 4 < all);

    let budget = Budget {
        tokens: 900,
        ..Budget::default()
    };
    let query = "Why is a neap tide the lowest?";
    let context = memory.assemble(&scope, query, &budget).await?;
    println!("a context of {} tokens for {query:?}:", context.tokens);
    for decision in context
        .trace
        .iter()
        .filter(|decision| decision.verdict.is_taken())
    {
        let item = match &decision.item {
            Item::Summary => "the summary".to_owned(),
            Item::Memory(id) => format!("memory {id}"),
            Item::Message(seq) => format!("message {seq}"),
        };
        println!(
            "  {:>4} tokens, {}: {item}",
            decision.tokens,
            decision.verdict.label()
        );
    }
    assert!(context.tokens <= 900 && context.summary.is_some());
    let neap = |text: &str| text.contains("neap tide is the lowest");
    let is_known = context.knowledge.iter().any(|memory| neap(&memory.text));
    assert!(
        is_known
            || context
                .messages
                .iter()
                .any(|message| neap(&message.content))
    );
    // The end of the conversation is there without a gap.
    let seqs: Vec<u64> = context.messages.iter().map(|message| message.seq).collect();
    assert!(seqs.len() >= 5 && seqs.last() == Some(&120));
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1));
    Ok(())
}
