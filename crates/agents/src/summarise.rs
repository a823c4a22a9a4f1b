//! Summaries of conversations: by the model where there is a capable one, else by rules.
//!
//! Invariant: summarising never fails; a model that does is answered for by the rules,
//! and the caller learns who wrote the summary.

use std::sync::Arc;

use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Message, Role, Tokens, Turn,
};
use lyceum_memory::estimate_tokens;
use serde_json::json;

use crate::{Mind, metrics, mind::OFFLINE, offline, prompts};

/// The longest summary.
pub(crate) const MAX_TOKENS: usize = 500;
/// Output tokens of a summary: its own, and room for models that reason first.
const MAX_OUTPUT: Tokens = Tokens(2_000);
/// Characters of one message that are shown to the model.
pub(crate) const MESSAGE_CHARS: usize = 4_000;
/// Characters that say who speaks, and end a line.
pub(crate) const WHO_CHARS: usize = 10;
/// Characters of all messages together.
pub(crate) const TOTAL_CHARS: usize = 40_000;

/// A summary and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) text: String,
    pub(crate) provider: String,
}

/// What is to be summarised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk<'a> {
    pub(crate) topic: &'a str,
    /// The summary of the conversation's beginning, where there is one.
    pub(crate) earlier: Option<&'a str>,
    /// What was said since.
    pub(crate) turns: &'a [Turn],
    /// How many turns the summary will cover.
    pub(crate) covered: usize,
}

impl<'a> Talk<'a> {
    /// A conversation of which nothing was summarised before.
    pub(crate) fn new(topic: &'a str, turns: &'a [Turn]) -> Self {
        Self {
            topic,
            earlier: None,
            turns,
            covered: turns.len(),
        }
    }
}

/// Summarises a conversation in at most [`MAX_TOKENS`], and measures by how much it shrank.
pub(crate) async fn summarise(mind: &Mind, call: CallContext, talk: Talk<'_>) -> Summary {
    let mut summary = written(mind, call, talk).await;
    summary.text = clipped(&summary.text);
    let said = talk.turns.iter().map(|turn| estimate_tokens(&turn.content));
    let before = said.sum::<usize>() + talk.earlier.map_or(0, estimate_tokens);
    let after = estimate_tokens(&summary.text);
    metrics::shrunk(before, after);
    tracing::info!(
        covered = talk.covered,
        before,
        after,
        provider = %summary.provider,
        ratio = before as f64 / after.max(1) as f64,
        "a conversation was summarised"
    );
    summary
}

async fn written(mind: &Mind, call: CallContext, talk: Talk<'_>) -> Summary {
    if let Mind::Model(model) = mind
        && !model.traits().small
    {
        match by_model(model, call, talk).await {
            Ok(summary) => return summary,
            Err(error) => {
                tracing::warn!(error = %error, label = error.label(), "the model gave no summary; the rules write it");
            }
        }
    }
    let Talk {
        topic,
        earlier,
        turns,
        covered,
    } = talk;
    let fits = |text: &str| estimate_tokens(text) <= MAX_TOKENS;
    Summary {
        text: match earlier {
            Some(earlier) => offline::rolling_summary(topic, earlier, turns, covered, fits),
            None => offline::summary(topic, turns),
        },
        provider: OFFLINE.to_owned(),
    }
}

/// The text within [`MAX_TOKENS`], cut after a line or a sentence where there is one.
fn clipped(text: &str) -> String {
    if estimate_tokens(text) <= MAX_TOKENS {
        return text.to_owned();
    }
    let mut tokens = Estimate::default();
    let end = text
        .char_indices()
        .find(|(_, c)| tokens.after(*c) > MAX_TOKENS);
    let kept = &text[..end.map_or(text.len(), |(at, _)| at)];
    let ends = [".\n", ". ", "。", "！", "？", "! ", "? ", "\n"];
    let whole = ends
        .iter()
        .filter_map(|end| Some(kept.rfind(end)? + end.len()));
    let whole = whole.max().filter(|&at| at * 2 > kept.len());
    kept[..whole.unwrap_or(kept.len())].trim_end().to_owned()
}

/// [`estimate_tokens`] character by character.
#[derive(Debug, Default)]
struct Estimate {
    ascii: usize,
    other: usize,
}

impl Estimate {
    fn after(&mut self, c: char) -> usize {
        match c.is_ascii() {
            true => self.ascii += 1,
            false => self.other += 1,
        }
        self.ascii.div_ceil(4) + self.other
    }
}

async fn by_model(
    model: &Arc<dyn ChatModel>,
    call: CallContext,
    talk: Talk<'_>,
) -> Result<Summary, ChatError> {
    let values = json!({"topic": talk.topic, "earlier": talk.earlier});
    let prompt = prompts::render("summary", values).map_err(|error| ChatError::Protocol {
        detail: error.to_string(),
    })?;
    let request = ChatRequest {
        max_output: Some(MAX_OUTPUT),
        ..ChatRequest::new([
            Message::system(prompt),
            Message::user(transcript(talk.turns)),
        ])
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

/// The conversation as text, its newest part where it is too long for one call.
fn transcript(turns: &[Turn]) -> String {
    let mut lines = Vec::new();
    let mut left = TOTAL_CHARS;
    for turn in turns.iter().rev() {
        let who = match turn.role {
            Role::User => "Teacher: ",
            _ => "Student: ",
        };
        let room = left.saturating_sub(WHO_CHARS).min(MESSAGE_CHARS);
        let line: String = who.chars().chain(turn.content.chars().take(room)).collect();
        left = left.saturating_sub(line.chars().count() + 1);
        lines.push(line);
        if left <= WHO_CHARS {
            break;
        }
    }
    lines.reverse();
    lines.join("\n")
}
