//! A request in the Anthropic dialect. It is written from borrowed parts: no message
//! is copied before it is serialised.

use lyceum_core::{
    ChatError, ChatRequest, Content, Message, ResponseFormat, Role, Tokens, ToolChoice,
};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value, json};

use super::{
    messages::{Messages, content_blocks, text_block},
    thinking::{self, allows_temperature, allows_top_p},
};
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
