//! The student that you teach: two turns of a lesson, by rules alone, without a model.
//!
//! ```console
//! cargo run -p lyceum-examples --example student
//! ```
//!
//! With `Mind::Model(..)` the same student thinks with any `ChatModel`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use futures::StreamExt;
use lyceum_agents::{Feynman, FeynmanConfig, Mind};
use lyceum_core::{CallContext, Explanation, Lesson, Scope, SessionId, Student, TeachEvent};
use lyceum_memory::{InMemory, Memory, MemoryConfig};

/// Explains something and listens until the student is done.
async fn teach(student: &dyn Student, explanation: Explanation) -> anyhow::Result<Lesson> {
    println!("you: {}", explanation.text);
    let mut events = student.teach(CallContext::new(Scope::local()), explanation);
    while let Some(event) = events.next().await {
        match event? {
            TeachEvent::Gaps(gaps) => {
                for gap in gaps {
                    println!("  gap {}: {:?}", gap.kind.as_str(), gap.quote);
                }
            }
            TeachEvent::Text(text) => print!("{text}"), // the questions, as they are written
            TeachEvent::Finished(lesson) => {
                println!("\n");
                return Ok(*lesson);
            }
            _ => {}
        }
    }
    anyhow::bail!("the lesson ended without a result")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let store = Arc::new(InMemory::default());
    let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default());
    let student = Feynman::new(Mind::Offline, Vec::new(), memory, FeynmanConfig::default())?;

    let mut explanation = Explanation {
        topic: "photosynthesis".to_owned(),
        text: "Plants always make sugar from light, because chlorophyll does something with it."
            .to_owned(),
        session: SessionId::new("lesson-1")?,
        short_term_memory: Vec::new(), // the student remembers the conversation itself
        tone: None,
    };
    let first = teach(&student, explanation.clone()).await?;
    assert!(!first.gaps.is_empty() && !first.questions.is_empty());

    explanation.text =
        "Chlorophyll absorbs red light, which splits water. Plants never make sugar from light."
            .to_owned();
    let second = teach(&student, explanation).await?;
    assert_eq!(
        second.short_term_memory.len(),
        4,
        "two turns were remembered"
    );
    assert!(
        second
            .questions
            .iter()
            .all(|question| !first.questions.contains(question))
    );
    Ok(())
}
