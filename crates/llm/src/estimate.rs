//! How many tokens a request will probably need, from its length alone.
//!
//! A queue reserves by this and learns the rest from what calls really used, so the
//! estimate has to be cheap and of the right size, not exact. Deliberately absent: a
//! tokenizer, which differs from model to model.

use lyceum_core::{ChatRequest, Content, Message, Part, Tokens, ToolSpec};
use lyceum_queue::Estimate;

/// Tenths of a token per ASCII character; DeepSeek API documentation, "Token & Token
/// Usage": an English character is about 0.3 tokens.
const TENTHS_PER_ASCII: usize = 3;

/// Tenths of a token per other character; the same page: a Chinese one is about 0.6
/// tokens. Other scripts lie between 0.3 and 1.
const TENTHS_PER_OTHER: usize = 6;

/// What the frame of a message takes; OpenAI cookbook, "How to count tokens with
/// tiktoken": three for each message and three for the answer's beginning.
const PER_MESSAGE: u64 = 3;

/// An image of about 1,000 × 750 pixels; Anthropic "Vision": width × height / 750.
const PER_IMAGE: u64 = 1_000;

/// What an answer is taken to need when the request sets no limit, until experience knows.
const UNLIMITED_OUTPUT: Tokens = Tokens(1_000);

/// Estimates the tokens of a text, English, Chinese or mixed.
///
/// ```
/// use lyceum_core::Tokens;
/// use lyceum_llm::text_tokens;
///
/// assert_eq!(text_tokens("Plants turn light into sugar."), Tokens(9));
/// assert_eq!(text_tokens("植物把光变成糖。"), Tokens(5));
/// ```
#[must_use]
pub fn text_tokens(text: &str) -> Tokens {
    Tokens(tenths(text).div_ceil(10) as u64)
}

/// Estimates what a request needs: its messages and tools as input, its own limit as
/// output, or where it has none a first guess of 1,000 tokens.
#[must_use]
pub fn estimate(request: &ChatRequest) -> Estimate {
    let messages = request.messages.iter().map(message).sum::<Tokens>();
    let tools: usize = request.tools.iter().map(tool).sum();
    let input = messages + Tokens(tools.div_ceil(10) as u64 + PER_MESSAGE);
    match request.max_output {
        Some(limit) => Estimate::new(input.0, limit.0),
        None => Estimate::unlimited(input.0, UNLIMITED_OUTPUT.0),
    }
}

/// Estimates the tokens of a tool's description.
pub(crate) fn tool_tokens(spec: &ToolSpec) -> Tokens {
    Tokens(tool(spec).div_ceil(10) as u64)
}

/// In tenths.
fn tool(tool: &ToolSpec) -> usize {
    tenths(&tool.name) + tenths(&tool.description) + tenths(&tool.parameters.to_string())
}

fn message(message: &Message) -> Tokens {
    let (texts, images) = match &message.content {
        Content::Text(text) => (tenths(text), 0),
        Content::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text { text, .. } => (tenths(text), 0),
                Part::Image { .. } => (0, PER_IMAGE),
                Part::Other(value) => (tenths(&value.to_string()), 0),
            })
            .fold((0, 0), |all, part| (all.0 + part.0, all.1 + part.1)),
    };
    let calls: usize = message
        .tool_calls
        .iter()
        .map(|call| tenths(&call.name) + tenths(&call.arguments))
        .sum();
    Tokens((texts + calls).div_ceil(10) as u64 + images + PER_MESSAGE)
}

fn tenths(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let others = text.chars().count() - ascii;
    ascii * TENTHS_PER_ASCII + others * TENTHS_PER_OTHER
}

#[cfg(test)]
mod tests {
    use super::*;
    use lyceum_core::ToolCall;
    use serde_json::{Map, json};

    #[test]
    fn everything_that_is_sent_counts() {
        let mut request = ChatRequest::new([Message::user("x".repeat(1_000))]);
        assert_eq!(estimate(&request).input, Tokens(300 + 3 + 3));
        assert_eq!(estimate(&request).output, UNLIMITED_OUTPUT);

        request.max_output = Some(Tokens(50));
        request.messages[0].tool_calls =
            vec![ToolCall::new("not counted", "x".repeat(10), "x".repeat(90))];
        request.tools = vec![ToolSpec::new("xxxx", "x".repeat(94), json!({}))];
        let image = Part::Image {
            url: "data:image/png;base64,".to_owned() + &"A".repeat(1 << 20),
            extra: Map::new(),
        };
        request
            .messages
            .push(Message::user(Content::Parts(vec![image])));
        let expected = Estimate::new(300 + 30 + 3 + 1_000 + 3 + 30 + 3, 50);
        assert_eq!(estimate(&request), expected);
    }
}
