//! Shapes requests so that a provider's prompt cache can serve their beginning.
//!
//! A provider reads from its cache the longest beginning that it has seen before. So what
//! stays the same stands first and in the same order, and Anthropic is told where such
//! beginnings end. Invariant: the words of a request and the order of its messages are
//! not changed; a request that carries marks of its own is left alone. Pure.
//!
//! Source: Claude API documentation, "Prompt caching" (up to 4 marks, 1,024 tokens at
//! least for most models, five minutes); OpenAI, DeepSeek and Alibaba documentation on
//! context caching (automatic, by beginning).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lyceum_core::{
    CallContext, ChatModel, ChatRequest, ChatStream, Content, Message, ModelTraits, Part, Role,
    Tokens,
};
use serde_json::{Map, Value, json};

use crate::estimate::{text_tokens, tool_tokens};

/// The most marks of a request.
const MARKS: usize = 4;

/// The field of a mark.
const FIELD: &str = "cache_control";

/// How a provider's prompt cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptCache {
    /// It finds beginnings itself; a stable order is enough.
    Automatic,
    /// It wants the end of each cacheable part marked, as Anthropic does.
    Marked {
        /// The fewest tokens from the last mark or the beginning on that are worth a mark.
        /// Smaller parts are merged with the next. Usually 1,024.
        min: Tokens,
    },
}

impl PromptCache {
    /// Marks parts of at least 1,024 tokens.
    pub const MARKED: Self = Self::Marked { min: Tokens(1_024) };

    /// The request in the form that the cache serves best.
    #[must_use]
    pub fn plan(self, request: &ChatRequest) -> ChatRequest {
        let mut planned = request.clone();
        if is_marked(request) {
            return planned;
        }
        // The order of tools means nothing to a model, and a map of them may give another
        // one each time.
        planned.tools.sort_by(|a, b| a.name.cmp(&b.name));
        if let Self::Marked { min } = self {
            mark(&mut planned, min);
        }
        planned
    }
}

/// Whether the caller set marks.
fn is_marked(request: &ChatRequest) -> bool {
    let in_part = |part: &Part| match part {
        Part::Text { extra, .. } | Part::Image { extra, .. } => extra.contains_key(FIELD),
        Part::Other(value) => value.get(FIELD).is_some(),
    };
    let in_message = |message: &Message| match &message.content {
        Content::Text(_) => message.extra.contains_key(FIELD),
        Content::Parts(parts) => parts.iter().any(in_part),
    };
    request
        .tools
        .iter()
        .any(|tool| tool.extra.contains_key(FIELD))
        || request.messages.iter().any(in_message)
}

/// Where a cacheable beginning may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Tools,
    Message(usize),
}

/// Marks the ends of beginnings that will come again: the tools, the instructions, and the
/// conversation up to the last message, which is new. Where there are more than may be
/// marked, the instructions and the last ones are kept: a longer beginning serves more.
fn mark(request: &mut ChatRequest, min: Tokens) {
    let ends = ends(request, min);
    for end in ends {
        match end {
            End::Tools => {
                if let Some(tool) = request.tools.last_mut() {
                    tool.extra.insert(FIELD.to_owned(), ephemeral());
                }
            }
            End::Message(at) => mark_message(&mut request.messages[at]),
        }
    }
}

fn ends(request: &ChatRequest, min: Tokens) -> Vec<End> {
    let tools: Tokens = request.tools.iter().map(tool_tokens).sum();
    let is_system = |message: &Message| message.role == Role::System;
    let last = request.messages.len().saturating_sub(1);
    // In the order of the provider: tools, instructions, conversation.
    let order = request.messages.iter().enumerate();
    let (system, talk): (Vec<_>, Vec<_>) = order.partition(|(_, message)| is_system(message));
    let mut ends = Vec::new();
    let mut since = tools;
    if since >= min && !request.tools.is_empty() {
        ends.push(End::Tools);
        since = Tokens(0);
    }
    let mut stable = ends.len();
    for (at, message) in &system {
        since += text_tokens(&message.content.text());
        if since >= min && can_be_marked(message) {
            ends.push(End::Message(*at));
            since = Tokens(0);
        }
    }
    stable = stable.max(ends.len());
    for (at, message) in talk {
        since += text_tokens(&message.content.text());
        if at != last && since >= min && can_be_marked(message) {
            ends.push(End::Message(at));
            since = Tokens(0);
        }
    }
    if ends.len() > MARKS {
        let instructions = ends[..stable].last().copied();
        let late = ends.split_off(ends.len() - MARKS);
        ends = match instructions {
            Some(end) if !late.contains(&end) => std::iter::once(end)
                .chain(late.into_iter().skip(1))
                .collect(),
            _ => late,
        };
    }
    ends
}

/// A result of a tool call has no place for a mark, nor has an empty text.
fn can_be_marked(message: &Message) -> bool {
    let has_text = match &message.content {
        Content::Text(text) => !text.is_empty(),
        Content::Parts(parts) => {
            matches!(parts.last(), Some(Part::Text { text, .. }) if !text.is_empty())
        }
    };
    has_text && message.role != Role::Tool && message.tool_calls.is_empty()
}

fn mark_message(message: &mut Message) {
    if let Content::Text(text) = &mut message.content {
        message.content = Content::Parts(vec![Part::Text {
            text: std::mem::take(text),
            extra: Map::new(),
        }]);
    }
    if let Content::Parts(parts) = &mut message.content
        && let Some(Part::Text { extra, .. }) = parts.last_mut()
    {
        extra.insert(FIELD.to_owned(), ephemeral());
    }
}

fn ephemeral() -> Value {
    json!({"type": "ephemeral"})
}

/// Whether a text is the same in the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Instructions, examples, documents.
    Stable,
    /// The time, the person's name, what was just looked up.
    Dynamic,
}

/// Puts instructions in the order that a prompt cache serves best: stable blocks first, as
/// one text that grows to at least `min` tokens where there is enough, dynamic ones after.
///
/// ```
/// use lyceum_core::Tokens;
/// use lyceum_llm::{Stability::{Dynamic, Stable}, arrange};
///
/// let blocks = [(Dynamic, "It is Monday."), (Stable, "Be kind."), (Stable, "Be short.")];
/// let [instructions, today] = &arrange(blocks, Tokens(1_024))[..] else { panic!() };
/// assert_eq!(instructions.content.text(), "Be kind.\n\nBe short.");
/// assert_eq!(today.content.text(), "It is Monday.");
/// ```
#[must_use]
pub fn arrange<'a>(
    blocks: impl IntoIterator<Item = (Stability, &'a str)>,
    min: Tokens,
) -> Vec<Message> {
    let (stable, dynamic): (Vec<_>, Vec<_>) = blocks
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .partition(|(stability, _)| *stability == Stability::Stable);
    let mut messages: Vec<String> = Vec::new();
    let mut grown = false;
    for (_, text) in stable {
        match messages.last_mut() {
            Some(last) if !grown => {
                last.push_str("\n\n");
                last.push_str(text);
            }
            _ => messages.push(text.to_owned()),
        }
        grown = messages.last().is_some_and(|last| text_tokens(last) >= min);
    }
    messages.extend(dynamic.into_iter().map(|(_, text)| text.to_owned()));
    messages.into_iter().map(Message::system).collect()
}

/// When a cached beginning is worth being kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// How long the provider keeps a beginning after its last use. Default 5 min.
    pub lifetime: Duration,
    /// From which age on it is refreshed. Default 4 min.
    pub after: Duration,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(5 * 60),
            after: Duration::from_secs(4 * 60),
        }
    }
}

impl Refresh {
    /// Whether to ask again for a beginning that was last used at `used`, when so many more
    /// calls with it are expected after its end. Without an expected call it is left to
    /// end: a refresh costs money too. One that has ended is not refreshed, the next call
    /// writes it anew.
    #[must_use]
    pub fn is_due(&self, used: Instant, expected: u32, now: Instant) -> bool {
        let age = now.saturating_duration_since(used);
        expected > 0 && age >= self.after && age < self.lifetime
    }
}

/// Plans every request of a model for its provider's prompt cache.
#[derive(Debug, Clone)]
pub struct Planned {
    model: Arc<dyn ChatModel>,
    cache: PromptCache,
}

impl Planned {
    /// Plans requests of `model`.
    #[must_use]
    pub fn new(model: impl ChatModel + 'static, cache: PromptCache) -> Self {
        Self {
            model: Arc::new(model),
            cache,
        }
    }
}

impl ChatModel for Planned {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let in_order = request.tools.is_sorted_by(|a, b| a.name <= b.name);
        // A long conversation is not copied for nothing.
        if self.cache == PromptCache::Automatic && in_order {
            return self.model.stream(call, request);
        }
        let planned = self.cache.plan(&request);
        self.model.stream(call, Arc::new(planned))
    }
}

#[cfg(test)]
mod tests;
