//! Summaries of conversations: by the model where there is a capable one, else by rules.
//!
//! Invariant: summarising never fails; a model that does is answered for by the rules,
//! and the caller learns who wrote the summary.

use std::sync::Arc;

use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Message, Role, Tokens, Turn,
};
use serde_json::json;

use crate::{Mind, mind::OFFLINE, offline, prompts};

/// Output tokens of a summary: the 500 that the prompt's word limit stays within, and room
/// for models that reason first.
const MAX_OUTPUT: Tokens = Tokens(2_000);
/// Characters of one message that are shown to the model.
const MESSAGE_CHARS: usize = 4_000;
/// Characters of all messages together.
const TOTAL_CHARS: usize = 40_000;

/// A summary and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) text: String,
    pub(crate) provider: String,
}

/// Summarises a conversation.
pub(crate) async fn summarise(
    mind: &Mind,
    call: CallContext,
    topic: &str,
    turns: &[Turn],
) -> Summary {
    if let Mind::Model(model) = mind
        && !model.traits().small
    {
        match by_model(model, call, topic, turns).await {
            Ok(summary) => return summary,
            Err(error) => {
                tracing::warn!(error = %error, label = error.label(), "the model gave no summary; the rules write it");
            }
        }
    }
    Summary {
        text: offline::summary(topic, turns),
        provider: OFFLINE.to_owned(),
    }
}

async fn by_model(
    model: &Arc<dyn ChatModel>,
    call: CallContext,
    topic: &str,
    turns: &[Turn],
) -> Result<Summary, ChatError> {
    let prompt = prompts::render("summary", json!({"topic": topic})).map_err(|error| {
        ChatError::Protocol {
            detail: error.to_string(),
        }
    })?;
    let request = ChatRequest {
        max_output: Some(MAX_OUTPUT),
        ..ChatRequest::new([Message::system(prompt), Message::user(transcript(turns))])
    };
    let call = call.with_purpose("summary", 0);
    let answer = ChatAnswer::collect(model.stream(call, Arc::new(request))).await?;
    let text = answer.text.trim();
    if text.is_empty() {
        return Err(ChatError::Protocol {
            detail: "the summary is empty".to_owned(),
        });
    }
    let provider = answer.provider.as_deref().unwrap_or(model.name());
    Ok(Summary {
        text: text.to_owned(),
        provider: provider.to_owned(),
    })
}

/// The conversation as text, its newest part where it is too long.
fn transcript(turns: &[Turn]) -> String {
    let mut lines = Vec::new();
    let mut left = TOTAL_CHARS;
    for turn in turns.iter().rev() {
        let who = if turn.role == Role::User {
            "Teacher"
        } else {
            "Student"
        };
        let line: String = format!("{who}: {}", turn.content)
            .chars()
            .take(MESSAGE_CHARS.min(left))
            .collect();
        left -= line.chars().count();
        lines.push(line);
        if left == 0 {
            break;
        }
    }
    lines.reverse();
    lines.join("\n")
}
