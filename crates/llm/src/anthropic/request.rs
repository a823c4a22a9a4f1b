//! A request in the Anthropic dialect. It is written from borrowed parts: no message
//! is copied before it is serialised.

use lyceum_core::{
    ChatError, ChatRequest, Content, Message, Part, ReasoningSeal, ResponseFormat, Role, Tokens,
    ToolCall, ToolChoice,
};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value, json, value::RawValue};

use super::thinking::{self, allows_temperature, allows_top_p};
use crate::wire::{extra_fields, object_instruction, unwritable};

/// Fields that `extra` never overrides: they are Lyceum's own.
const OWN_FIELDS: &[&str] = &[
    "model",
    "messages",
    "system",
    "max_tokens",
    "stream",
    "tools",
    "tool_choice",
    "temperature",
    "top_p",
    "stop_sequences",
];

/// Fields of the other dialect that this one refuses. What means the same here is written
/// in this dialect's form.
const FOREIGN_FIELDS: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "store",
    "stream_options",
    "top_logprobs",
    "user",
    "verbosity",
    "web_search_options",
];

/// The same for the fields of a message.
const FOREIGN_MESSAGE_FIELDS: &[&str] = &[
    "annotations",
    "audio",
    "function_call",
    "name",
    "reasoning",
    "reasoning_content",
    "refusal",
];

/// The tool that a model has to call where JSON is got by a tool.
pub(super) const ANSWER_TOOL: &str = "answer_in_json";

/// The request's JSON.
pub(super) fn body(
    request: &ChatRequest,
    model: &str,
    max_output: Tokens,
    json_by_tool: bool,
) -> Result<Vec<u8>, ChatError> {
    let body = Body {
        request,
        model,
        forced: forced_schema(request, json_by_tool),
        max_output: request.max_output.unwrap_or(max_output),
    };
    serde_json::to_vec(&body).map_err(unwritable)
}

/// The schema that is got by a forced tool. A request with tools of its own needs the
/// choice of tools for them, so its schema goes the other way.
pub(super) fn forced_schema(request: &ChatRequest, json_by_tool: bool) -> Option<&Value> {
    let alone = request.tools.is_empty() && request.other_tools.is_empty();
    match &request.response_format {
        ResponseFormat::JsonSchema { schema, .. } if json_by_tool && alone => Some(schema),
        _ => None,
    }
}

struct Body<'a> {
    request: &'a ChatRequest,
    forced: Option<&'a Value>,
    model: &'a str,
    max_output: Tokens,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("max_tokens", &self.max_output)?;
        map.serialize_entry("stream", &true)?;
        let system = System(request);
        if !system.is_empty() {
            map.serialize_entry("system", &system)?;
        }
        map.serialize_entry("messages", &Messages(&request.messages))?;
        self.tools(&mut map)?;
        let mut own_format = false;
        if let (None, ResponseFormat::JsonSchema { schema, .. }) =
            (self.forced, &request.response_format)
        {
            own_format = true;
            let others = request
                .extra
                .get("output_config")
                .and_then(Value::as_object);
            map.serialize_entry("output_config", &OutputConfig { schema, others })?;
        }
        let budget = thinking::budget(request, self.max_output, self.forced.is_some());
        if let Some(budget) = budget {
            let enabled = json!({"type": "enabled", "budget_tokens": budget});
            map.serialize_entry("thinking", &enabled)?;
        }
        let free = budget.is_none();
        if let Some(temperature) = request
            .temperature
            .filter(|t| free || allows_temperature(*t))
        {
            // The API's scale ends at 1, the request's at 2.
            map.serialize_entry("temperature", &temperature.min(1.0))?;
        }
        if let Some(top_p) = request.top_p.filter(|p| free || allows_top_p(*p)) {
            map.serialize_entry("top_p", &top_p)?;
        }
        if !request.stop.is_empty() {
            map.serialize_entry("stop_sequences", &request.stop)?;
        }
        self.user(&mut map)?;
        extra_fields(&mut map, &request.extra, |name| {
            OWN_FIELDS.contains(&name)
                || FOREIGN_FIELDS.contains(&name)
                || own_format && name == "output_config"
                || name == "metadata"
                || name == "service_tier" && !self.has_own_tier()
        })?;
        map.end()
    }
}

impl Body<'_> {
    fn tools<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let request = self.request;
        if let Some(schema) = self.forced {
            let tool = json!({"name": ANSWER_TOOL, "description": object_instruction(),
                "input_schema": schema});
            map.serialize_entry("tools", &[tool])?;
            let choice = json!({"type": "tool", "name": ANSWER_TOOL});
            return map.serialize_entry("tool_choice", &choice);
        }
        if request.tools.is_empty() && request.other_tools.is_empty() {
            return Ok(());
        }
        map.serialize_entry("tools", &Tools(request))?;
        let one_by_one = request.extra.get("parallel_tool_calls") == Some(&Value::Bool(false));
        let mut choice = match &request.tool_choice {
            ToolChoice::Auto if !one_by_one => return Ok(()),
            ToolChoice::Auto => json!({"type": "auto"}),
            ToolChoice::None => json!({"type": "none"}),
            ToolChoice::Required => json!({"type": "any"}),
            ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
        };
        if one_by_one && request.tool_choice != ToolChoice::None {
            choice["disable_parallel_tool_use"] = Value::Bool(true);
        }
        map.serialize_entry("tool_choice", &choice)
    }

    /// Who asks, under this dialect's name or one of the other's.
    fn user<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let extra = &self.request.extra;
        let metadata = extra.get("metadata");
        let user = metadata
            .and_then(|metadata| metadata.get("user_id"))
            .or_else(|| extra.get("user"))
            .or_else(|| extra.get("safety_identifier"))
            .filter(|user| user.is_string());
        match user {
            Some(user) => map.serialize_entry("metadata", &json!({"user_id": user})),
            None => Ok(()),
        }
    }

    /// Whether the service tier is one of this dialect ("Service tiers").
    fn has_own_tier(&self) -> bool {
        let tier = self.request.extra.get("service_tier");
        matches!(tier.and_then(Value::as_str), Some("auto" | "standard_only"))
    }
}

/// `output_config` with a JSON schema ("Structured outputs"), and what the caller has there
/// beside it.
struct OutputConfig<'a> {
    schema: &'a Value,
    others: Option<&'a Map<String, Value>>,
}

impl Serialize for OutputConfig<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Format<'a> {
            r#type: &'a str,
            schema: &'a Value,
        }
        let mut map = serializer.serialize_map(None)?;
        let format = Format {
            r#type: "json_schema",
            schema: self.schema,
        };
        map.serialize_entry("format", &format)?;
        let others = self.others.into_iter().flatten();
        for (name, value) in others.filter(|(name, _)| *name != "format") {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The system's words, which stand apart from the conversation.
struct System<'a>(&'a ChatRequest);

impl System<'_> {
    fn contents(&self) -> impl Iterator<Item = &Content> {
        let system = |message: &&Message| message.role == Role::System;
        self.0.messages.iter().filter(system).map(|m| &m.content)
    }

    fn wants_object(&self) -> bool {
        self.0.response_format == ResponseFormat::JsonObject
    }

    fn is_empty(&self) -> bool {
        !self.wants_object() && self.contents().all(Content::is_empty)
    }
}

impl Serialize for System<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut blocks = serializer.serialize_seq(None)?;
        for content in self.contents() {
            content_blocks(content, &mut blocks)?;
        }
        if self.wants_object() {
            blocks.serialize_element(&text_block(object_instruction()))?;
        }
        blocks.end()
    }
}

/// The conversation without the system's words. Results of tool calls that follow each
/// other are one message of the user, as the API wants the results of one turn together.
struct Messages<'a>(&'a [Message]);

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
fn content_blocks<Q: SerializeSeq>(content: &Content, blocks: &mut Q) -> Result<(), Q::Error> {
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
struct TextBlock<'a> {
    r#type: &'static str,
    text: &'a str,
}

fn text_block(text: &str) -> TextBlock<'_> {
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

struct Tools<'a>(&'a ChatRequest);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tool<'a> {
            name: &'a str,
            description: &'a str,
            input_schema: &'a Value,
            #[serde(flatten)]
            extra: &'a Map<String, Value>,
        }
        let mut tools = serializer.serialize_seq(None)?;
        for tool in &self.0.tools {
            tools.serialize_element(&Tool {
                name: &tool.name,
                description: &tool.description,
                input_schema: &tool.parameters,
                extra: &tool.extra,
            })?;
        }
        for tool in &self.0.other_tools {
            tools.serialize_element(tool)?;
        }
        tools.end()
    }
}
