//! A context that fits a budget of tokens, and the trace of what was taken and why.
//!
//! What changes least stands first, so that a provider's prompt cache keeps it: the summary, then
//! what was recalled, then the conversation. Inside each part the order is that of time.
//!
//! Pure and deterministic: the same parts and budget give the same context.
//! Deliberately absent: reading stores, and a tokenizer, which differs from model to model.

mod taken;

use std::collections::HashSet;

use self::taken::Taken;
use crate::{MemoryId, Recollection, StoredMessage, Summary};

/// How many tokens a text has: exact, or an estimate that is rather too high.
pub type CountTokens = fn(&str) -> usize;

/// How the tokens are shared out, in the order in which parts are filled.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// All that may be used. Default 100,000.
    pub tokens: usize,
    /// The newest messages, which are always there. Default 5.
    pub recent: usize,
    /// How many of the newest messages are looked at, the former included. Default 1,000.
    pub messages: usize,
    /// Memories are taken while less than this share is used. Default 0.5.
    pub knowledge_share: f64,
    /// Further messages, newest first, are taken while less than this share is used. Default 0.7:
    /// the rest is room for the answer.
    pub history_share: f64,
    /// How many memories are looked at. Default 100.
    pub candidates: usize,
    /// The most memories that are taken. Default no bound but the share.
    pub memories: usize,
    /// A memory is left out when this share of its words stands in one that was taken, or all
    /// of it in a message. Default 0.9.
    pub repeats: f64,
    /// Counts the tokens. Default [`estimate_tokens`].
    pub count: CountTokens,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: 100_000,
            recent: 5,
            messages: 1_000,
            knowledge_share: 0.5,
            history_share: 0.7,
            candidates: 100,
            memories: usize::MAX,
            repeats: 0.9,
            count: estimate_tokens,
        }
    }
}

/// Estimates tokens: a quarter of an ASCII character's count, one for each other character.
///
/// English prose has 4 to 5 characters a token and Chinese 1 to 1.7 in the tokenizers of current
/// models, so it is up to a quarter too high for prose; for code, digits and rare words it can be
/// a third too low.
#[must_use]
pub fn estimate_tokens(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let other = text.chars().count() - ascii;
    ascii.div_ceil(4) + other
}

/// What a context may be made of.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The summary of the session's beginning.
    pub summary: Option<Summary>,
    /// The session's messages, oldest first.
    pub messages: Vec<StoredMessage>,
    /// The memories that fit the query, best first.
    pub knowledge: Vec<Recollection>,
}

/// What something in a trace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The summary.
    Summary,
    /// A memory.
    Memory(MemoryId),
    /// The message of this number.
    Message(u64),
}

/// Why something was taken or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken: it is always there, whatever it costs.
    Always,
    /// Taken: the best of what still fitted.
    Fits,
    /// Left: it would not fit.
    TooLong,
    /// Left: the part's share was used, or its number reached.
    ShareUsed,
    /// Left: what was taken says it already.
    Repeats,
}

impl Verdict {
    /// Whether it is in the context.
    #[must_use]
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Always | Self::Fits)
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Fits => "fits",
            Self::TooLong => "too_long",
            Self::ShareUsed => "share_used",
            Self::Repeats => "repeats",
        }
    }
}

/// A line of the trace, in the order of the decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was looked at.
    pub item: Item,
    /// What it costs, in tokens.
    pub tokens: usize,
    /// What became of it.
    pub verdict: Verdict,
}

/// A context that fits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assembled {
    /// The summary of the session's beginning, where one was made.
    pub summary: Option<Summary>,
    /// What was recalled, in the order of time.
    pub knowledge: Vec<Recollection>,
    /// The end of the conversation without gaps, oldest message first.
    pub messages: Vec<StoredMessage>,
    /// What the rendered context costs, in tokens.
    pub tokens: usize,
    /// Every decision.
    pub trace: Vec<Decision>,
    /// The parts that are missing because their store failed or was slow.
    pub degraded: Vec<&'static str>,
}

impl Assembled {
    /// The summary and what was recalled, as text: a line for each memory under the day it is
    /// from. Empty where there is neither.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Some(summary) = &self.summary {
            text.push_str(&summary.text);
            text.push('\n');
        }
        let mut last = None;
        for memory in &self.knowledge {
            let day = memory.created_at.day();
            if last.replace(day) != Some(day) {
                text.push_str(&format!("{day}:\n"));
            }
            text.push_str(&line(memory));
        }
        text
    }
}

fn line(memory: &Recollection) -> String {
    match memory.topic.is_empty() {
        true => format!("- {}\n", memory.text),
        false => format!("- {}: {}\n", memory.topic, memory.text),
    }
}

/// Puts a context together.
#[must_use]
pub fn assemble(parts: Parts, budget: &Budget) -> Assembled {
    let mut desk = Desk {
        budget,
        out: Assembled::default(),
    };
    if let Some(summary) = parts.summary {
        let tokens = (budget.count)(&summary.text);
        let fits = desk.out.tokens + tokens <= budget.tokens;
        let verdict = if fits {
            Verdict::Fits
        } else {
            Verdict::TooLong
        };
        if desk.decide(Item::Summary, tokens, verdict) {
            desk.out.summary = Some(summary);
        }
    }
    let mut messages = parts.messages;
    let recent = messages.split_off(messages.len().saturating_sub(budget.recent));
    for message in &recent {
        let tokens = (budget.count)(&message.content);
        desk.decide(Item::Message(message.seq), tokens, Verdict::Always);
    }
    desk.knowledge(parts.knowledge, &recent);
    desk.history(messages);
    desk.out.messages.reverse();
    desk.out.messages.extend(recent);
    desk.out
}

struct Desk<'a> {
    budget: &'a Budget,
    out: Assembled,
}

impl Desk<'_> {
    /// Notes a decision; says whether the item is taken.
    fn decide(&mut self, item: Item, tokens: usize, verdict: Verdict) -> bool {
        let decision = Decision {
            item,
            tokens,
            verdict,
        };
        self.out.trace.push(decision);
        if verdict.is_taken() {
            self.out.tokens += tokens;
        }
        verdict.is_taken()
    }

    fn share(&self, share: f64) -> usize {
        (self.budget.tokens as f64 * share.clamp(0.0, 1.0)) as usize
    }

    fn knowledge(&mut self, found: Vec<Recollection>, recent: &[StoredMessage]) {
        let most = self.share(self.budget.knowledge_share);
        let mut taken = Taken::default();
        for message in recent {
            let words = taken.words(&message.content);
            taken.keep(&words);
        }
        let shown: HashSet<&str> = recent.iter().map(|m| m.content.as_str()).collect();
        let mut days = HashSet::new();
        for memory in found {
            let words = taken.words(&memory.text);
            let day = memory.created_at.day();
            let mut tokens = (self.budget.count)(&line(&memory));
            if !days.contains(&day) {
                tokens += (self.budget.count)(&format!("{day}:\n"));
            }
            let is_known = shown.contains(memory.text.as_str());
            let is_over = self.out.knowledge.len() >= self.budget.memories;
            let verdict = if is_known || taken.has(&words, self.budget.repeats) {
                Verdict::Repeats
            } else if is_over || self.out.tokens >= most {
                Verdict::ShareUsed
            } else if self.out.tokens + tokens > most {
                Verdict::TooLong
            } else {
                Verdict::Fits
            };
            if self.decide(Item::Memory(memory.id.clone()), tokens, verdict) {
                days.insert(day);
                taken.keep(&words);
                self.out.knowledge.push(memory);
            }
        }
        self.out
            .knowledge
            .sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    }

    /// The newest come first; the first that does not fit ends it, so that nothing is missing
    /// in between.
    fn history(&mut self, older: Vec<StoredMessage>) {
        let most = self.share(self.budget.history_share);
        for message in older.into_iter().rev() {
            let tokens = (self.budget.count)(&message.content);
            let verdict = if self.out.tokens >= most {
                Verdict::ShareUsed
            } else if self.out.tokens + tokens > most {
                Verdict::TooLong
            } else {
                Verdict::Fits
            };
            if !self.decide(Item::Message(message.seq), tokens, verdict) {
                return;
            }
            self.out.messages.push(message);
        }
    }
}
