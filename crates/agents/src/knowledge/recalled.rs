//! What was taught in other conversations, beside what was taught in this one.
//!
//! Invariant: only statements that speak of the question are taken, and their ids are no
//! ids of the conversation's. Deliberately absent: how they were found.

use lyceum_core::{Claim, Knowledge};

use crate::offline::taught;

/// The most statements taken.
const MOST: usize = 12;

/// The knowledge with statements of other conversations that share words with a question.
pub(crate) fn with(knowledge: &Knowledge, recalled: &[String], question: &str) -> Knowledge {
    let mut all = knowledge.clone();
    let words = taught::words(question);
    let statements = recalled.iter().flat_map(|text| taught::statements(text));
    let speaking = statements.filter(|statement| statement.shares(&words) > 0);
    for statement in speaking.take(MOST) {
        let same = |known: &Claim| known.text.trim() == statement.text.trim();
        if all.claims.iter().any(same) {
            continue;
        }
        all.last_id += 1;
        all.claims.push(Claim {
            id: all.last_id,
            text: statement.text,
            support: statement.support,
            follows: None,
            turn: 0,
            concepts: Vec::new(),
        });
    }
    all
}
