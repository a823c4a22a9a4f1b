//! A request in the OpenAI dialect. It is written from borrowed parts: no message is
//! copied before it is serialised.

use lyceum_core::{
    ChatError, ChatRequest, Content, Message, Part, ResponseFormat, Role, ToolCall, ToolChoice,
    ToolSpec,
};
use serde::{Serialize, Serializer, ser::SerializeMap, ser::SerializeSeq};
use serde_json::{Map, Value, json};

use crate::{
    OutputLimit, Quirks, SchemaSupport,
    wire::{extra_fields, schema_instruction, unwritable},
};

/// Fields that `extra` never overrides: they are Lyceum's own.
const OWN_FIELDS: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "response_format",
    "temperature",
    "top_p",
    "stop",
    "seed",
];

/// The request's JSON.
pub(super) fn body(
    request: &ChatRequest,
    model: &str,
    quirks: Quirks,
) -> Result<Vec<u8>, ChatError> {
    let instruction = match (&request.response_format, quirks.json_schema) {
        (ResponseFormat::JsonSchema { schema, .. }, SchemaSupport::Instructed) => {
            Some(schema_instruction(schema))
        }
        _ => None,
    };
    let body = Body {
        request,
        model,
        quirks,
        instruction,
    };
    serde_json::to_vec(&body).map_err(unwritable)
}

struct Body<'a> {
    request: &'a ChatRequest,
    model: &'a str,
    quirks: Quirks,
    /// Added to the system's words.
    instruction: Option<String>,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        let messages = Messages {
            messages: &request.messages,
            instruction: self.instruction.as_deref(),
            reasoning_back: self.quirks.reasoning_back,
        };
        map.serialize_entry("messages", &messages)?;
        map.serialize_entry("stream", &true)?;
        let mut options = match request.extra.get("stream_options") {
            Some(Value::Object(options)) => options.clone(),
            _ => Map::new(),
        };
        if self.quirks.usage_in_stream {
            options.insert("include_usage".to_owned(), Value::Bool(true));
        }
        if self.quirks.obfuscates {
            let own = options.entry("include_obfuscation");
            own.or_insert(Value::Bool(false));
        }
        if !options.is_empty() {
            map.serialize_entry("stream_options", &options)?;
        }
        if !request.tools.is_empty() || !request.other_tools.is_empty() {
            map.serialize_entry("tools", &Tools(request))?;
            match &request.tool_choice {
                ToolChoice::Auto => {}
                ToolChoice::None => map.serialize_entry("tool_choice", "none")?,
                ToolChoice::Required => map.serialize_entry("tool_choice", "required")?,
                ToolChoice::Named(name) => {
                    let choice = json!({"type": "function", "function": {"name": name}});
                    map.serialize_entry("tool_choice", &choice)?;
                }
            }
        }
        self.response_format(&mut map)?;
        if let Some(limit) = request.max_output {
            let field = match self.quirks.output_limit {
                OutputLimit::MaxTokens => "max_tokens",
                OutputLimit::MaxCompletionTokens => "max_completion_tokens",
            };
            map.serialize_entry(field, &limit)?;
        }
        if let Some(temperature) = request.temperature {
            map.serialize_entry("temperature", &temperature)?;
        }
        if let Some(top_p) = request.top_p {
            map.serialize_entry("top_p", &top_p)?;
        }
        if !request.stop.is_empty() {
            map.serialize_entry("stop", &request.stop)?;
        }
        if let Some(seed) = request.seed {
            map.serialize_entry("seed", &seed)?;
        }
        if let Some(effort) = effort(&request.extra) {
            map.serialize_entry("reasoning_effort", effort)?;
        }
        let limited = request.max_output.is_some();
        extra_fields(&mut map, &request.extra, |name| {
            OWN_FIELDS.contains(&name)
                || name == "output_config"
                || limited && matches!(name, "max_tokens" | "max_completion_tokens")
        })?;
        map.end()
    }
}

impl Body<'_> {
    fn response_format<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match &self.request.response_format {
            ResponseFormat::Text => Ok(()),
            ResponseFormat::JsonSchema {
                name,
                schema,
                strict,
            } if self.instruction.is_none() => {
                #[derive(Serialize)]
                struct Format<'a> {
                    r#type: &'a str,
                    json_schema: Schema<'a>,
                }
                #[derive(Serialize)]
                struct Schema<'a> {
                    name: &'a str,
                    schema: &'a Value,
                    strict: bool,
                }
                let format = Format {
                    r#type: "json_schema",
                    json_schema: Schema {
                        name,
                        schema,
                        strict: *strict,
                    },
                };
                map.serialize_entry("response_format", &format)
            }
            ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. } => {
                map.serialize_entry("response_format", &json!({"type": "json_object"}))
            }
        }
    }
}

/// The effort that a caller named in Anthropic's words and not in these.
fn effort(extra: &Map<String, Value>) -> Option<&str> {
    let effort = extra.get("output_config")?.get("effort")?.as_str()?;
    let is_own = extra.contains_key("reasoning_effort");
    // The greatest effort has no name here that all models know.
    let known = if effort == "max" { "high" } else { effort };
    (!is_own).then_some(known)
}

struct Messages<'a> {
    messages: &'a [Message],
    instruction: Option<&'a str>,
    reasoning_back: bool,
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut messages = serializer.serialize_seq(None)?;
        let mut rest = self.messages;
        if let Some(instruction) = self.instruction {
            // One system message in front is the form that every server accepts.
            let mut words = String::new();
            if let Some((first, tail)) = rest.split_first()
                && first.role == Role::System
            {
                words = first.content.text() + "\n\n";
                rest = tail;
            }
            let system = Message::system(words + instruction);
            messages.serialize_element(&self.message(&system))?;
        }
        for message in rest {
            messages.serialize_element(&self.message(message))?;
        }
        messages.end()
    }
}

impl Messages<'_> {
    fn message<'m>(&self, message: &'m Message) -> WireMessage<'m> {
        WireMessage {
            message,
            reasoning_back: self.reasoning_back,
        }
    }
}

struct WireMessage<'a> {
    message: &'a Message,
    reasoning_back: bool,
}

impl Serialize for WireMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.message;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", message.role.as_str())?;
        if message.content.is_empty() && !message.tool_calls.is_empty() {
            map.serialize_entry("content", &())?;
        } else {
            map.serialize_entry("content", &WireContent(&message.content))?;
        }
        if !message.tool_calls.is_empty() {
            map.serialize_entry("tool_calls", &WireCalls(&message.tool_calls))?;
            if self.reasoning_back && !message.reasoning.is_empty() {
                let pieces = message.reasoning.iter().map(|piece| &*piece.text);
                map.serialize_entry("reasoning_content", &pieces.collect::<String>())?;
            }
        }
        if let Some(id) = &message.tool_call_id {
            map.serialize_entry("tool_call_id", id)?;
        }
        extra_fields(&mut map, &message.extra, |name| {
            matches!(name, "role" | "content" | "tool_calls" | "tool_call_id")
        })?;
        map.end()
    }
}

struct WireContent<'a>(&'a Content);

impl Serialize for WireContent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Content::Text(text) => serializer.serialize_str(text),
            Content::Parts(parts) => serializer.collect_seq(parts.iter().map(WirePart)),
        }
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
            Part::Image { url, extra } => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("type", "image_url")?;
                map.serialize_entry("image_url", &ImageUrl { url, extra })?;
                map.end()
            }
            Part::Other(value) => value.serialize(serializer),
        }
    }
}

struct ImageUrl<'a> {
    url: &'a str,
    extra: &'a Map<String, Value>,
}

impl Serialize for ImageUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("url", self.url)?;
        extra_fields(&mut map, self.extra, |name| name == "url")?;
        map.end()
    }
}

struct WireCalls<'a>(&'a [ToolCall]);

impl Serialize for WireCalls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            id: &'a str,
            r#type: &'a str,
            function: Function<'a>,
            #[serde(flatten)]
            extra: &'a Map<String, Value>,
        }
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        serializer.collect_seq(self.0.iter().map(|call| Call {
            id: &call.id,
            r#type: "function",
            function: Function {
                name: &call.name,
                arguments: &call.arguments,
            },
            extra: &call.extra,
        }))
    }
}

struct Tools<'a>(&'a ChatRequest);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tool<'a> {
            r#type: &'a str,
            function: &'a ToolSpec,
        }
        let mut tools = serializer.serialize_seq(None)?;
        for function in &self.0.tools {
            let r#type = "function";
            tools.serialize_element(&Tool { r#type, function })?;
        }
        for tool in &self.0.other_tools {
            tools.serialize_element(tool)?;
        }
        tools.end()
    }
}
