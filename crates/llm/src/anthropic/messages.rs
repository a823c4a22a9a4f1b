//! The messages of a request in the Anthropic dialect, as blocks.

use lyceum_core::{Content, Message, Part, ReasoningSeal, Role, ToolCall};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value, json, value::RawValue};

use crate::wire::extra_fields;

/// Fields of a message in the other dialect that this one refuses.
const FOREIGN_MESSAGE_FIELDS: &[&str] = &[
    "annotations",
    "audio",
    "function_call",
    "name",
    "reasoning",
    "reasoning_content",
    "refusal",
];

/// The conversation without the system's words. Results of tool calls that follow each
/// other are one message of the user, as the API wants the results of one turn together.
pub(super) struct Messages<'a>(pub(super) &'a [Message]);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut messages = serializer.serialize_seq(None)?;
        let groups = self
            .0
            .chunk_by(|a, b| a.role == Role::Tool && b.role == Role::Tool);
        for group in groups {
            let silent = |message: &Message| {
                message.role == Role::Assistant
                    && message.content.is_empty()
                    && message.tool_calls.is_empty()
            };
            match group {
                [message] if message.role == Role::System || silent(message) => {}
                group => messages.serialize_element(&Turn(group))?,
            }
        }
        messages.end()
    }
}

/// One message, or several results of tools.
struct Turn<'a>(&'a [Message]);

impl Serialize for Turn<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let role = match self.0 {
            [message, ..] if message.role == Role::Assistant => "assistant",
            _ => "user",
        };
        map.serialize_entry("role", role)?;
        map.serialize_entry("content", &Blocks(self.0))?;
        if let [message] = self.0 {
            extra_fields(&mut map, &message.extra, |name| {
                matches!(name, "role" | "content") || FOREIGN_MESSAGE_FIELDS.contains(&name)
            })?;
        }
        map.end()
    }
}

struct Blocks<'a>(&'a [Message]);

impl Serialize for Blocks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut blocks = serializer.serialize_seq(None)?;
        for message in self.0 {
            if message.role == Role::Tool {
                blocks.serialize_element(&ToolResult(message))?;
                continue;
            }
            for piece in &message.reasoning {
                if let Some(seal) = &piece.seal {
                    blocks.serialize_element(&sealed(&piece.text, seal))?;
                }
            }
            content_blocks(&message.content, &mut blocks)?;
            for call in &message.tool_calls {
                blocks.serialize_element(&ToolUse(call))?;
            }
        }
        blocks.end()
    }
}

/// Writes a content's blocks. The API refuses empty texts, so they are left out.
pub(super) fn content_blocks<Q: SerializeSeq>(
    content: &Content,
    blocks: &mut Q,
) -> Result<(), Q::Error> {
    match content {
        Content::Text(text) if text.is_empty() => Ok(()),
        Content::Text(text) => blocks.serialize_element(&text_block(text)),
        Content::Parts(parts) => parts.iter().try_for_each(|part| match part {
            Part::Text { text, .. } if text.is_empty() => Ok(()),
            part => blocks.serialize_element(&WirePart(part)),
        }),
    }
}

#[derive(Serialize)]
pub(super) struct TextBlock<'a> {
    r#type: &'static str,
    text: &'a str,
}

pub(super) fn text_block(text: &str) -> TextBlock<'_> {
    TextBlock {
        r#type: "text",
        text,
    }
}

/// Reasoning as the API wants it back: unchanged, and in front ("Extended thinking").
fn sealed<'a>(text: &'a str, seal: &'a ReasoningSeal) -> impl Serialize + 'a {
    #[derive(Serialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Sealed<'a> {
        Thinking {
            thinking: &'a str,
            signature: &'a str,
        },
        RedactedThinking {
            data: &'a str,
        },
    }
    match seal {
        ReasoningSeal::Signature(signature) => Sealed::Thinking {
            thinking: text,
            signature,
        },
        ReasoningSeal::Redacted(data) => Sealed::RedactedThinking { data },
    }
}

struct WirePart<'a>(&'a Part);

impl Serialize for WirePart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Part::Text { text, extra } => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
                extra_fields(&mut map, extra, |name| matches!(name, "type" | "text"))?;
                map.end()
            }
            Part::Image { url, extra } => image(url, extra, serializer),
            Part::Other(value) => value.serialize(serializer),
        }
    }
}

/// An image by address, or its bytes when the address is a `data:` URL in base64.
fn image<S: Serializer>(
    url: &str,
    extra: &Map<String, Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Source<'a> {
        Url { url: &'a str },
        Base64 { media_type: &'a str, data: &'a str },
    }
    let embedded = url
        .strip_prefix("data:")
        .and_then(|data| data.split_once(";base64,"));
    let source = match embedded {
        Some((media_type, data)) => Source::Base64 { media_type, data },
        None => Source::Url { url },
    };
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("type", "image")?;
    map.serialize_entry("source", &source)?;
    // `detail` belongs to the other dialect and is refused by this one.
    extra_fields(&mut map, extra, |name| {
        matches!(name, "type" | "source" | "detail")
    })?;
    map.end()
}

struct ToolResult<'a>(&'a Message);

impl Serialize for ToolResult<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Content<'a>(&'a lyceum_core::Content);
        impl Serialize for Content<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut blocks = serializer.serialize_seq(None)?;
                content_blocks(self.0, &mut blocks)?;
                blocks.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "tool_result")?;
        let id = self.0.tool_call_id.as_deref().unwrap_or_default();
        map.serialize_entry("tool_use_id", id)?;
        map.serialize_entry("content", &Content(&self.0.content))?;
        extra_fields(&mut map, &self.0.extra, |name| {
            matches!(name, "type" | "tool_use_id" | "content" | "name")
        })?;
        map.end()
    }
}

struct ToolUse<'a>(&'a ToolCall);

impl Serialize for ToolUse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let call = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "tool_use")?;
        map.serialize_entry("id", &call.id)?;
        map.serialize_entry("name", &call.name)?;
        let arguments = call.arguments.trim();
        match serde_json::from_str::<&RawValue>(arguments) {
            Ok(raw) if arguments.starts_with('{') => map.serialize_entry("input", raw)?,
            _ if arguments.is_empty() => map.serialize_entry("input", &json!({}))?,
            // The API takes objects only; what the model wrote is kept readable.
            _ => map.serialize_entry("input", &json!({"arguments": arguments}))?,
        }
        extra_fields(&mut map, &call.extra, |name| {
            !matches!(name, "cache_control" | "caller")
        })?;
        map.end()
    }
}
