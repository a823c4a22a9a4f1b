//! The summary of a conversation that needs no model.
//!
//! Invariant: it holds the learner's own sentences only, never an invention.

use lyceum_core::{Role, Turn};

use super::{
    phrases,
    shape::{central, short_body},
    text::{Document, Language, head, language_of},
};

/// Claims kept of a conversation.
const CLAIMS: usize = 5;
/// Bytes of conversation that are read, from the end.
const READ_BYTES: usize = 128 * 1024;

/// Summarises a conversation: the topic, the number of turns and the central claims of
/// what the learner said, in the learner's language.
#[must_use]
pub fn summary(topic: &str, turns: &[Turn]) -> String {
    let mut said: Vec<&str> = Vec::new();
    let mut bytes = 0;
    for turn in turns.iter().rev().filter(|turn| turn.role == Role::User) {
        bytes += turn.content.len();
        if bytes > READ_BYTES && !said.is_empty() {
            break;
        }
        said.push(&turn.content);
    }
    said.reverse();
    let all = said.join("\n");
    let language = if all.chars().any(char::is_alphabetic) {
        language_of(&all)
    } else {
        language_of(topic)
    };
    let topic = head(topic.trim(), 300);
    let topic = if topic.is_empty() {
        phrases::unnamed_topic(language)
    } else {
        topic
    };
    let document = Document::new(&all);
    let mut indices = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for index in central(&document, topic) {
        let claim = document.quote(&short_body(&document.sentences[index]));
        if indices.len() < CLAIMS && seen.insert(claim.to_lowercase()) {
            indices.push(index);
        }
    }
    indices.sort_unstable();
    let count = turns.len();
    let mut out = match language {
        Language::English => {
            let noun = if count == 1 { "turn" } else { "turns" };
            format!("Topic: {topic}. {count} {noun}.")
        }
        Language::Chinese => format!("主题：{topic}。共 {count} 轮。"),
    };
    if !indices.is_empty() {
        out.push_str(match language {
            Language::English => "\nThe learner explained:",
            Language::Chinese => "\n学习者讲解的要点：",
        });
        for index in indices {
            out.push_str("\n- ");
            out.push_str(document.quote(&short_body(&document.sentences[index])));
        }
    }
    out
}
