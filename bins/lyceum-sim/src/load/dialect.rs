//! What each endpoint is sent and how its answer is read.
//!
//! The shapes of `/chat` and `/chat/stream` are those of Lyceum's own API; the others are
//! the vendors'.

use http::{HeaderMap, HeaderValue, header, header::InvalidHeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::LoadConfig;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Lyceum's `POST /chat`.
    Chat,
    /// Lyceum's `POST /chat/stream`.
    ChatStream,
    /// OpenAI's `POST /v1/chat/completions`.
    OpenAi,
    /// The same, streamed.
    OpenAiStream,
    /// Anthropic's `POST /v1/messages`.
    Anthropic,
    /// The same, streamed.
    AnthropicStream,
}

impl Endpoint {
    /// The endpoint's name on the command line and in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatStream => "chat-stream",
            Self::OpenAi => "openai",
            Self::OpenAiStream => "openai-stream",
            Self::Anthropic => "anthropic",
            Self::AnthropicStream => "anthropic-stream",
        }
    }

    /// Whether answers come as server-sent events.
    #[must_use]
    pub fn is_stream(self) -> bool {
        matches!(
            self,
            Self::ChatStream | Self::OpenAiStream | Self::AnthropicStream
        )
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat",
            Self::ChatStream => "/chat/stream",
            Self::OpenAi | Self::OpenAiStream => "/v1/chat/completions",
            Self::Anthropic | Self::AnthropicStream => "/v1/messages",
        }
    }

    pub(super) fn headers(self, key: Option<&str>) -> Result<HeaderMap, InvalidHeaderValue> {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        let anthropic = matches!(self, Self::Anthropic | Self::AnthropicStream);
        if anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        match key {
            None => {}
            Some(key) if anthropic => {
                headers.insert("x-api-key", HeaderValue::from_str(key)?);
            }
            Some(key) => {
                let bearer = HeaderValue::from_str(&format!("Bearer {key}"))?;
                headers.insert(header::AUTHORIZATION, bearer);
            }
        }
        Ok(headers)
    }
}

/// One turn of a user's conversation.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) session: &'a str,
    pub(super) text: &'a str,
    /// Lyceum's `short_term_memory` as the last answer gave it.
    pub(super) memory: &'a RawValue,
}

#[derive(Serialize)]
struct LyceumTurn<'a> {
    topic: &'static str,
    explanation: &'a str,
    session_id: &'a str,
    short_term_memory: &'a RawValue,
}

#[derive(Serialize)]
struct VendorTurn<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    messages: [VendorMessage<'a>; 1],
}

#[derive(Serialize)]
struct VendorMessage<'a> {
    role: &'static str,
    content: &'a str,
}

/// The request body of a turn.
pub(super) fn body(config: &LoadConfig, turn: &Turn<'_>) -> Vec<u8> {
    let written = match config.endpoint {
        Endpoint::Chat | Endpoint::ChatStream => serde_json::to_vec(&LyceumTurn {
            topic: "load",
            explanation: turn.text,
            session_id: turn.session,
            short_term_memory: turn.memory,
        }),
        _ => serde_json::to_vec(&VendorTurn {
            model: &config.model,
            max_tokens: 1_024,
            stream: config.endpoint.is_stream(),
            messages: [VendorMessage {
                role: "user",
                content: turn.text,
            }],
        }),
    };
    // These structs are always JSON; an empty body would be refused and counted.
    written.unwrap_or_default()
}

/// What a whole answer says.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The model's words.
    pub(super) text: String,
    /// The session that the server thinks this is, where it says so.
    pub(super) session: Option<String>,
    /// Lyceum's `short_term_memory`.
    pub(super) memory: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct LyceumAnswer {
    questions: Vec<String>,
    session_id: String,
    short_term_memory: Box<RawValue>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Words,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<Words>,
}

#[derive(Deserialize)]
struct Words {
    #[serde(default, alias = "text")]
    content: Option<String>,
}

/// Reads a whole answer; `None` if it is not one.
pub(super) fn read_whole(endpoint: Endpoint, body: &[u8]) -> Option<Said> {
    let text = match endpoint {
        Endpoint::Chat | Endpoint::ChatStream => {
            let answer: LyceumAnswer = serde_json::from_slice(body).ok()?;
            return Some(Said {
                text: answer.questions.join("\n"),
                session: Some(answer.session_id),
                memory: Some(answer.short_term_memory),
            });
        }
        Endpoint::OpenAi | Endpoint::OpenAiStream => {
            let answer: Completion = serde_json::from_slice(body).ok()?;
            answer.choices.into_iter().next()?.message.content?
        }
        Endpoint::Anthropic | Endpoint::AnthropicStream => {
            let answer: Message = serde_json::from_slice(body).ok()?;
            answer
                .content
                .into_iter()
                .filter_map(|block| block.content)
                .collect()
        }
    };
    Some(Said {
        text,
        ..Said::default()
    })
}

/// One event of a streamed answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// Something that is not text: progress, usage.
    Other,
    /// The regular end.
    End,
    /// The server says that the answer failed.
    Failed,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    delta: Option<Words>,
    #[serde(default)]
    choices: Vec<Choice>,
}

/// Reads the value of a `data:` line; `None` if it is not an event.
pub(super) fn read_piece(endpoint: Endpoint, data: &[u8]) -> Option<Piece> {
    if matches!(endpoint, Endpoint::Chat | Endpoint::ChatStream) && data.first() == Some(&b'"') {
        let text: String = serde_json::from_slice(data).ok()?;
        return Some(match text.as_str() {
            "[END_OF_STREAM]" => Piece::End,
            _ => Piece::Text(text),
        });
    }
    if data == b"[DONE]" {
        return Some(Piece::End);
    }
    let event: Event = serde_json::from_slice(data).ok()?;
    if event.error.is_some() || event.kind.as_deref() == Some("error") {
        return Some(Piece::Failed);
    }
    if event.kind.as_deref() == Some("message_stop") {
        return Some(Piece::End);
    }
    let choice = event
        .choices
        .into_iter()
        .next()
        .map(|choice| choice.message);
    let text = event.delta.or(choice).and_then(|words| words.content);
    Some(text.map_or(Piece::Other, Piece::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_formats_are_read() {
        let text = |text: &str| Some(Piece::Text(text.into()));
        let cases = [
            (Endpoint::ChatStream, r#""hi \"you\"""#, text("hi \"you\"")),
            (
                Endpoint::ChatStream,
                r#""[END_OF_STREAM]""#,
                Some(Piece::End),
            ),
            (
                Endpoint::ChatStream,
                r#"{"error":{"message":"m"}}"#,
                Some(Piece::Failed),
            ),
            (
                Endpoint::ChatStream,
                r#"{"queue":{"position":1}}"#,
                Some(Piece::Other),
            ),
            (Endpoint::ChatStream, "{", None),
            (
                Endpoint::OpenAiStream,
                r#"{"choices":[{"delta":{"content":"a"}}]}"#,
                text("a"),
            ),
            (
                Endpoint::OpenAiStream,
                r#"{"choices":[],"usage":{}}"#,
                Some(Piece::Other),
            ),
            (Endpoint::OpenAiStream, "[DONE]", Some(Piece::End)),
            (
                Endpoint::AnthropicStream,
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"b"}}"#,
                text("b"),
            ),
            (
                Endpoint::AnthropicStream,
                r#"{"type":"message_stop"}"#,
                Some(Piece::End),
            ),
            (
                Endpoint::AnthropicStream,
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                Some(Piece::Failed),
            ),
        ];
        for (endpoint, data, expected) in cases {
            assert_eq!(read_piece(endpoint, data.as_bytes()), expected, "{data}");
        }
    }
}
