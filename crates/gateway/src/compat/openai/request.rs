//! A chat completion as it is asked for.

use lyceum_core::{
    ChatRequest, Content, Message, Reasoning, ResponseFormat, Role, Tokens, ToolCall, ToolChoice,
    ToolSpec,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::content::ContentIn;
use crate::{
    compat::{Asked, invalid},
    config::Limits,
    error::ApiError,
    whole,
};

/// The most answers of one request.
const MOST_CHOICES: u32 = 8;

/// The body of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatIn {
    model: String,
    messages: Vec<MessageIn>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<ToolIn>>,
    tool_choice: Option<Value>,
    response_format: Option<FormatIn>,
    #[serde(default, deserialize_with = "whole::optional")]
    max_tokens: Option<u64>,
    #[serde(default, deserialize_with = "whole::optional")]
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<StopIn>,
    #[serde(default, deserialize_with = "whole::optional")]
    seed: Option<i64>,
    #[serde(default, deserialize_with = "whole::optional")]
    n: Option<u32>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// How the answer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// As a stream.
    pub(crate) stream: bool,
    /// With a last event that holds the usage.
    pub(crate) usage: bool,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct MessageIn {
    role: Role,
    content: Option<ContentIn>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallIn>>,
    tool_call_id: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct CallIn {
    id: String,
    function: FunctionCallIn,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct FunctionCallIn {
    name: String,
    #[serde(default)]
    arguments: String,
    /// Further fields change nothing; a list of values is no object.
    #[serde(flatten)]
    _others: IgnoredAny,
}

#[derive(Debug, Deserialize)]
struct ToolIn {
    r#type: String,
    function: Option<FunctionIn>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct FunctionIn {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FormatIn {
    Text,
    JsonObject,
    JsonSchema { json_schema: SchemaIn },
}

#[derive(Debug, Deserialize)]
struct SchemaIn {
    name: String,
    schema: Option<Value>,
    strict: Option<bool>,
    /// Further fields change nothing; a list of values is no object.
    #[serde(flatten)]
    _others: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum StopIn {
    One(String),
    Many(Vec<String>),
}

impl ChatIn {
    /// Checks the rules that types cannot say.
    pub(crate) fn check(self, limits: &Limits) -> Result<(Asked, Options), ApiError> {
        check_messages(self.messages.len(), limits)?;
        let temperature = within("temperature", self.temperature, 2.0)?;
        let top_p = within("top_p", self.top_p, 1.0)?;
        let max_tokens = most("max_tokens", self.max_tokens)?;
        let max_output = most("max_completion_tokens", self.max_completion_tokens)?.or(max_tokens);
        let choices = self.n.unwrap_or(1);
        if !(1..=MOST_CHOICES).contains(&choices) {
            return Err(invalid("n", &format!("it must be 1 to {MOST_CHOICES}")));
        }
        let mut extra = self.extra;
        extra.retain(|_, value| !value.is_null());
        if choices > 1 {
            extra.insert("n".to_owned(), choices.into());
        }
        let usage = self.stream_options.map(|options| {
            if !options.extra.is_empty() {
                extra.insert("stream_options".to_owned(), options.extra.into());
            }
            options.include_usage == Some(true)
        });
        let options = Options {
            stream: self.stream == Some(true),
            usage: usage == Some(true),
        };
        let user = extra.get("user").and_then(Value::as_str).map(str::to_owned);
        let (mut tools, mut other_tools) = (Vec::new(), Vec::new());
        for (at, tool) in self.tools.into_iter().flatten().enumerate() {
            match tool.function {
                Some(function) if tool.r#type == "function" => tools.push(function.into()),
                None if tool.r#type != "function" => {
                    let mut other = tool.extra;
                    other.insert("type".to_owned(), tool.r#type.into());
                    other_tools.push(Value::Object(other));
                }
                _ => {
                    let path = format!("tools[{at}].function");
                    return Err(invalid(&path, "a tool of type function needs it"));
                }
            }
        }
        let tool_choice = tool_choice(self.tool_choice.as_ref(), &mut tools)?;
        let request = ChatRequest {
            model: None,
            messages: self.messages.into_iter().map(Message::from).collect(),
            tools,
            tool_choice,
            response_format: self
                .response_format
                .map_or(ResponseFormat::Text, Into::into),
            max_output,
            temperature,
            top_p,
            stop: match self.stop {
                None => Vec::new(),
                Some(StopIn::One(text)) => vec![text],
                Some(StopIn::Many(texts)) => texts,
            },
            seed: self.seed,
            other_tools,
            extra,
            ..ChatRequest::default()
        };
        let asked = Asked {
            model: self.model,
            request,
            choices,
            user,
        };
        Ok((asked, options))
    }
}

/// Refuses none and too many messages.
pub(crate) fn check_messages(count: usize, limits: &Limits) -> Result<(), ApiError> {
    let most = limits.messages;
    match count {
        0 => Err(invalid("messages", "it is empty: say something")),
        count if count > most => Err(invalid(
            "messages",
            &format!("it has {count} entries: at most {most} are allowed"),
        )),
        _ => Ok(()),
    }
}

/// Refuses a number outside `0..=most`.
pub(crate) fn within(name: &str, value: Option<f64>, most: f64) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !(0.0..=most).contains(&value) => {
            Err(invalid(name, &format!("it must be 0 to {most}")))
        }
        value => Ok(value.map(|value| value as f32)),
    }
}

/// The largest number that all readers of JSON read alike (RFC 7493, section 2.2).
const LARGEST: u64 = (1 << 53) - 1;

/// Refuses a limit of tokens that lets nothing through, or that not everybody can read.
pub(crate) fn most(name: &str, limit: Option<u64>) -> Result<Option<Tokens>, ApiError> {
    match limit {
        Some(limit) if !(1..=LARGEST).contains(&limit) => {
            Err(invalid(name, &format!("it must be 1 to {LARGEST}")))
        }
        limit => Ok(limit.map(Tokens)),
    }
}

fn tool_choice(choice: Option<&Value>, tools: &mut Vec<ToolSpec>) -> Result<ToolChoice, ApiError> {
    if let Some(choice) = choice
        && choice["type"] == "allowed_tools"
    {
        return allow(&choice["allowed_tools"], "/function/name", tools);
    }
    let named = |choice: &Value| {
        let name = choice.pointer("/function/name").and_then(Value::as_str);
        let name = name.filter(|_| choice["type"] == "function");
        name.map(|name| ToolChoice::Named(name.to_owned()))
    };
    match choice {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) if word == "auto" => Ok(ToolChoice::Auto),
        Some(Value::String(word)) if word == "none" => Ok(ToolChoice::None),
        Some(Value::String(word)) if word == "required" => Ok(ToolChoice::Required),
        Some(choice) => named(choice).ok_or_else(|| {
            let forms = "it must be auto, none, required or name a function";
            invalid("tool_choice", forms)
        }),
    }
}

/// Leaves the functions that may be called, each named by a field of `tools`; a provider need
/// not know that there are others.
pub(crate) fn allow(
    allowed: &Value,
    name: &str,
    tools: &mut Vec<ToolSpec>,
) -> Result<ToolChoice, ApiError> {
    let wrong = |detail| invalid("tool_choice", detail);
    let choice = match allowed.get("mode").and_then(Value::as_str) {
        Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        _ => return Err(wrong("the mode of allowed tools must be auto or required")),
    };
    let named = allowed.get("tools").and_then(Value::as_array);
    let named = named.ok_or_else(|| wrong("allowed tools need a list of tools"))?;
    let named: Vec<&str> = named
        .iter()
        .map(|tool| {
            tool.pointer(name)
                .and_then(Value::as_str)
                .filter(|_| tool["type"] == "function")
        })
        .collect::<Option<_>>()
        .ok_or_else(|| wrong("only functions can be allowed"))?;
    tools.retain(|tool| named.contains(&&*tool.name));
    Ok(choice)
}

impl From<FunctionIn> for ToolSpec {
    fn from(function: FunctionIn) -> Self {
        Self {
            name: function.name,
            description: function.description.unwrap_or_default(),
            parameters: function
                .parameters
                .unwrap_or_else(|| serde_json::json!({"type": "object", "properties": {}}))
                .into(),
            extra: function.extra,
        }
    }
}

impl From<FormatIn> for ResponseFormat {
    fn from(format: FormatIn) -> Self {
        match format {
            FormatIn::Text => Self::Text,
            FormatIn::JsonObject => Self::JsonObject,
            FormatIn::JsonSchema { json_schema } => Self::JsonSchema {
                name: json_schema.name,
                schema: json_schema.schema.unwrap_or_else(|| Map::new().into()),
                strict: json_schema.strict == Some(true),
            },
        }
    }
}

impl From<MessageIn> for Message {
    fn from(message: MessageIn) -> Self {
        let reasoning = message.reasoning_content.filter(|text| !text.is_empty());
        let calls = message.tool_calls.into_iter().flatten();
        let mut extra = message.extra;
        extra.retain(|_, value| !value.is_null());
        Self {
            role: message.role,
            content: message.content.map_or_else(Content::default, |c| c.0),
            reasoning: reasoning
                .map(|text| Reasoning { text, seal: None })
                .into_iter()
                .collect(),
            tool_calls: calls.map(ToolCall::from).collect(),
            tool_call_id: message.tool_call_id,
            extra,
        }
    }
}

impl From<CallIn> for ToolCall {
    fn from(call: CallIn) -> Self {
        let mut extra = call.extra;
        extra.remove("type");
        extra.remove("index");
        Self {
            id: call.id,
            name: call.function.name,
            arguments: call.function.arguments,
            extra,
        }
    }
}
