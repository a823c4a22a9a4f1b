//! A response as it is asked for.

use lyceum_core::{ChatRequest, ResponseFormat, ToolChoice, ToolSpec};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

use crate::{
    compat::{
        Asked, invalid,
        openai::{allow, most, within},
    },
    error::ApiError,
    whole,
};

/// The body of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct ResponseIn {
    model: String,
    input: Option<Value>,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    stream: Option<bool>,
    store: Option<bool>,
    tools: Option<Vec<Map<String, Value>>>,
    tool_choice: Option<Value>,
    text: Option<TextIn>,
    reasoning: Option<ReasoningIn>,
    #[serde(default, deserialize_with = "whole::optional")]
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    metadata: Option<Map<String, Value>>,
    user: Option<String>,
    parallel_tool_calls: Option<bool>,
    include: Option<Vec<String>>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct TextIn {
    format: Option<FormatIn>,
    verbosity: Option<String>,
    /// Further fields change nothing; a list of values is no object.
    #[serde(flatten)]
    _others: IgnoredAny,
}

#[derive(Debug, Deserialize)]
struct ReasoningIn {
    effort: Option<String>,
    /// Further fields change nothing; a list of values is no object.
    #[serde(flatten)]
    _others: IgnoredAny,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FormatIn {
    Text,
    JsonObject,
    JsonSchema {
        name: String,
        schema: Option<Value>,
        strict: Option<bool>,
    },
}

/// What is to be done beside asking the model.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What was said, as a list of items.
    pub(crate) input: Vec<Value>,
    /// What stands before everything else.
    pub(crate) instructions: Option<String>,
    /// The response that this one goes on from.
    pub(crate) previous: Option<String>,
    /// Whether it may be gone on from.
    pub(crate) store: bool,
    /// Whether it is wanted as a stream.
    pub(crate) stream: bool,
    /// What the answer repeats of the request.
    pub(crate) echo: Map<String, Value>,
}

/// Fields that ask for what is not here, unless they are null or this value.
const REFUSED: [(&str, Option<bool>, &str); 5] = [
    (
        "background",
        Some(false),
        "there is no background work here: leave it out",
    ),
    (
        "conversation",
        None,
        "conversations are not kept here: use previous_response_id",
    ),
    (
        "prompt",
        None,
        "prompts are not kept here: send instructions",
    ),
    (
        "top_logprobs",
        None,
        "probabilities are not told here: leave it out",
    ),
    (
        "context_management",
        None,
        "contexts are not shortened here: leave it out",
    ),
];

/// Fields that mean the same to a chat completion.
const PASSED: [&str; 4] = [
    "service_tier",
    "prompt_cache_key",
    "safety_identifier",
    "prompt_cache_retention",
];

impl ResponseIn {
    /// Checks the rules that types cannot say. The request has no messages yet.
    pub(crate) fn check(self) -> Result<(Asked, Plan), ApiError> {
        let temperature = within("temperature", self.temperature, 2.0)?;
        let top_p = within("top_p", self.top_p, 1.0)?;
        let max_output = most("max_output_tokens", self.max_output_tokens)?;
        for (name, harmless, advice) in REFUSED {
            let value = self.extra.get(name);
            let harmless = harmless.map(Value::Bool);
            if value.is_some_and(|value| !value.is_null() && Some(value) != harmless.as_ref()) {
                return Err(invalid(name, advice));
            }
        }
        let included = self.include.iter().flatten();
        if let Some(other) = included.into_iter().find(|name| name.ends_with("logprobs")) {
            let detail = format!("{other:?} is not told here: leave it out");
            return Err(invalid("include", &detail));
        }
        let echo = self.echo();
        let mut extra = Map::new();
        for name in PASSED {
            if let Some(value) = self.extra.get(name).filter(|value| !value.is_null()) {
                extra.insert(name.to_owned(), value.clone());
            }
        }
        let tools = self.tools.unwrap_or_default();
        let mut tools: Vec<ToolSpec> = tools
            .into_iter()
            .enumerate()
            .map(|(at, tool)| function(at, tool))
            .collect::<Result<_, _>>()?;
        let tool_choice = tool_choice(self.tool_choice.as_ref(), &mut tools)?;
        let more = [
            ("metadata", self.metadata.map(Value::Object)),
            ("user", self.user.clone().map(Value::String)),
            (
                "verbosity",
                self.text
                    .as_ref()
                    .and_then(|text| text.verbosity.clone())
                    .map(Value::String),
            ),
            (
                "reasoning_effort",
                self.reasoning
                    .and_then(|reasoning| reasoning.effort)
                    .map(Value::String),
            ),
            (
                "parallel_tool_calls",
                self.parallel_tool_calls
                    .filter(|_| !tools.is_empty())
                    .map(Value::Bool),
            ),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                extra.insert(name.to_owned(), value);
            }
        }
        let format = self.text.and_then(|text| text.format);
        let request = ChatRequest {
            tools,
            tool_choice,
            response_format: format.map_or(ResponseFormat::Text, Into::into),
            max_output,
            temperature,
            top_p,
            extra,
            ..ChatRequest::default()
        };
        let input = match self.input {
            Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
            Some(Value::Array(items)) => items,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(invalid("input", "it must be a text or a list of items")),
        };
        let plan = Plan {
            input,
            instructions: self.instructions.filter(|text| !text.is_empty()),
            previous: self.previous_response_id,
            store: self.store != Some(false),
            stream: self.stream == Some(true),
            echo,
        };
        let asked = Asked {
            model: self.model,
            request,
            choices: 1,
            user: self.user,
        };
        Ok((asked, plan))
    }

    fn echo(&self) -> Map<String, Value> {
        let format = match self.text.as_ref().and_then(|text| text.format.as_ref()) {
            None | Some(FormatIn::Text) => json!({"type": "text"}),
            Some(FormatIn::JsonObject) => json!({"type": "json_object"}),
            Some(FormatIn::JsonSchema {
                name,
                schema,
                strict,
            }) => {
                json!({"type": "json_schema", "name": name, "schema": schema, "strict": strict})
            }
        };
        let effort = self.reasoning.as_ref().and_then(|r| r.effort.as_ref());
        let echo = json!({
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata.clone().unwrap_or_default(),
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": self.previous_response_id,
            "reasoning": {"effort": effort, "summary": null},
            "temperature": self.temperature,
            "text": {"format": format},
            "tool_choice": self.tool_choice.clone().unwrap_or_else(|| "auto".into()),
            "tools": self.tools.clone().unwrap_or_default(),
            "top_p": self.top_p,
            "truncation": "disabled",
            "user": self.user,
        });
        match echo {
            Value::Object(echo) => echo,
            _ => Map::new(),
        }
    }
}

fn function(at: usize, mut tool: Map<String, Value>) -> Result<ToolSpec, ApiError> {
    let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != "function" {
        let detail = format!("there is no tool of type {kind:?} here: only functions of your own");
        return Err(invalid(&format!("tools[{at}].type"), &detail));
    }
    let Some(Value::String(name)) = tool.remove("name") else {
        return Err(invalid(&format!("tools[{at}].name"), "a function needs it"));
    };
    let wrong = |field: &str, detail| Err(invalid(&format!("tools[{at}].{field}"), detail));
    let description = match tool.get("description") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(_) => return wrong("description", "it must be a text"),
    };
    let mut extra = Map::new();
    match tool.get("strict") {
        None | Some(Value::Null) => {}
        Some(strict @ Value::Bool(_)) => {
            extra.insert("strict".to_owned(), strict.clone());
        }
        Some(_) => return wrong("strict", "it must be true or false"),
    }
    let parameters = tool.get("parameters").filter(|value| !value.is_null());
    let none = || json!({"type": "object", "properties": {}});
    Ok(ToolSpec {
        name,
        description: description.to_owned(),
        parameters: parameters.cloned().unwrap_or_else(none).into(),
        extra,
    })
}

fn tool_choice(choice: Option<&Value>, tools: &mut Vec<ToolSpec>) -> Result<ToolChoice, ApiError> {
    let forms = "it must be auto, none, required or name a function";
    match choice {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match &**word {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(invalid("tool_choice", forms)),
        },
        Some(choice) => match (&choice["type"], &choice["name"]) {
            (Value::String(kind), _) if kind == "allowed_tools" => allow(choice, "/name", tools),
            (Value::String(kind), Value::String(name)) if kind == "function" => {
                Ok(ToolChoice::Named(name.clone()))
            }
            _ => Err(invalid("tool_choice", forms)),
        },
    }
}

impl From<FormatIn> for ResponseFormat {
    fn from(format: FormatIn) -> Self {
        match format {
            FormatIn::Text => Self::Text,
            FormatIn::JsonObject => Self::JsonObject,
            FormatIn::JsonSchema {
                name,
                schema,
                strict,
            } => Self::JsonSchema {
                name,
                schema: schema.unwrap_or_else(|| Map::new().into()),
                strict: strict == Some(true),
            },
        }
    }
}
