//! A message as it is asked for.

use lyceum_core::{
    ChatRequest, Content, Message, Part, Reasoning, ReasoningSeal, ResponseFormat, Role, ToolCall,
    ToolChoice, ToolSpec,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    compat::{
        Asked, invalid,
        openai::{check_messages, most, within},
    },
    config::Limits,
    error::ApiError,
    whole,
};

type Fields = Map<String, Value>;

/// The body of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct MessagesIn {
    model: String,
    #[serde(default, deserialize_with = "whole::optional")]
    max_tokens: Option<u64>,
    messages: Vec<MessageIn>,
    system: Option<Blocks>,
    tools: Option<Vec<Fields>>,
    tool_choice: Option<ChoiceIn>,
    stop_sequences: Option<Vec<String>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stream: Option<bool>,
    #[serde(flatten)]
    extra: Fields,
}

#[derive(Debug, Deserialize)]
struct MessageIn {
    role: Role,
    content: Blocks,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Blocks {
    Text(String),
    Blocks(Vec<Fields>),
}

#[derive(Debug, Deserialize)]
struct ChoiceIn {
    r#type: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

impl MessagesIn {
    /// A token for four bytes of text.
    fn estimate(&self) -> usize {
        let blocks = |blocks: &Blocks| match blocks {
            Blocks::Text(text) => text.len(),
            Blocks::Blocks(blocks) => blocks
                .iter()
                .map(|block| match block.get("text") {
                    Some(Value::String(text)) => text.len(),
                    _ => json!(block).to_string().len(),
                })
                .sum(),
        };
        let messages: usize = self.messages.iter().map(|m| 12 + blocks(&m.content)).sum();
        let tools = self.tools.iter().flatten();
        let tools: usize = tools.map(|tool| json!(tool).to_string().len()).sum();
        let system = self.system.as_ref().map_or(0, blocks);
        (messages + tools + system).div_ceil(4)
    }

    /// About how many tokens the input has. Nothing is asked, so no limit is needed.
    pub(crate) fn count(mut self, limits: &Limits) -> Result<usize, ApiError> {
        let estimate = self.estimate();
        self.max_tokens = Some(1);
        self.check(limits)?;
        Ok(estimate)
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// Checks the rules that types cannot say. The flag says whether a stream is wanted.
    pub(crate) fn check(self, limits: &Limits) -> Result<(Asked, bool), ApiError> {
        check_messages(self.messages.len(), limits)?;
        let temperature = within("temperature", self.temperature, 1.0)?;
        let top_p = within("top_p", self.top_p, 1.0)?;
        let needed = || invalid("max_tokens", "it is needed: 1 or more");
        let max_output = most("max_tokens", self.max_tokens)?.ok_or_else(needed)?;
        let mut extra = self.extra;
        if extra
            .remove("thread")
            .is_some_and(|thread| !thread.is_null())
        {
            return Err(ApiError::NoThreads);
        }
        let response_format = format(&mut extra)?;
        let mut tool_choice = ToolChoice::Auto;
        if let Some(choice) = self.tool_choice {
            tool_choice = match (&*choice.r#type, choice.name) {
                ("auto", _) => ToolChoice::Auto,
                ("none", _) => ToolChoice::None,
                ("any", _) => ToolChoice::Required,
                ("tool", Some(name)) => ToolChoice::Named(name),
                _ => {
                    return Err(invalid(
                        "tool_choice",
                        "it must be auto, any, none or tool with a name",
                    ));
                }
            };
            if choice.disable_parallel_tool_use == Some(true) {
                extra.insert("parallel_tool_calls".to_owned(), false.into());
            }
        }
        let mut messages = Vec::with_capacity(self.messages.len() + 1);
        if let Some(system) = self.system {
            read(Role::System, system, "system", &mut messages)?;
        }
        for (at, message) in self.messages.into_iter().enumerate() {
            if message.role == Role::Tool {
                let path = format!("messages[{at}].role");
                return Err(invalid(&path, "it must be user, assistant or system"));
            }
            let path = format!("messages[{at}].content");
            read(message.role, message.content, &path, &mut messages)?;
        }
        let (mut tools, mut other_tools) = (Vec::new(), Vec::new());
        for (at, mut tool) in self.tools.into_iter().flatten().enumerate() {
            match tool.get("type") {
                None | Some(Value::Null) => {}
                Some(Value::String(kind)) if kind == "custom" => {}
                Some(Value::String(_)) => {
                    other_tools.push(Value::Object(tool));
                    continue;
                }
                Some(_) => return Err(invalid(&format!("tools[{at}].type"), "it must be a text")),
            }
            tool.remove("type");
            let name = take(&mut tool, "name");
            let name = name.ok_or_else(|| invalid(&format!("tools[{at}].name"), "it is needed"))?;
            let description = match tool.remove("description") {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(_) => {
                    let path = format!("tools[{at}].description");
                    return Err(invalid(&path, "it must be a text"));
                }
            };
            let parameters = tool.remove("input_schema");
            tools.push(ToolSpec {
                name,
                description,
                parameters: parameters
                    .unwrap_or_else(|| json!({"type": "object"}))
                    .into(),
                extra: tool,
            });
        }
        let user = extra.get("metadata").and_then(|m| m.get("user_id"));
        let user = user.and_then(Value::as_str).map(str::to_owned);
        let request = ChatRequest {
            messages,
            tools,
            tool_choice,
            response_format,
            max_output: Some(max_output),
            temperature,
            top_p,
            stop: self.stop_sequences.unwrap_or_default(),
            other_tools,
            extra,
            ..ChatRequest::default()
        };
        let asked = Asked {
            model: self.model,
            request,
            choices: 1,
            user,
        };
        Ok((asked, self.stream == Some(true)))
    }
}

/// How the answer is to be written, taken out of `output_config` or its older name.
fn format(extra: &mut Fields) -> Result<ResponseFormat, ApiError> {
    let older = extra.remove("output_format");
    let config = extra
        .get_mut("output_config")
        .and_then(Value::as_object_mut);
    let format = config.and_then(|config| config.remove("format")).or(older);
    if extra
        .get("output_config")
        .is_some_and(|config| *config == json!({}))
    {
        extra.remove("output_config");
    }
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(ResponseFormat::Text);
    };
    match (
        format.get("type").and_then(Value::as_str),
        format.get("schema"),
    ) {
        (Some("json_schema"), Some(schema @ Value::Object(_))) => Ok(ResponseFormat::JsonSchema {
            name: "answer".to_owned(),
            schema: schema.clone(),
            strict: true,
        }),
        _ => {
            let detail = "it must be a json_schema with its schema";
            Err(invalid("output_config.format", detail))
        }
    }
}

fn take(fields: &mut Fields, name: &str) -> Option<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Reads one message, of which results of tools are messages of their own.
fn read(
    role: Role,
    blocks: Blocks,
    path: &str,
    messages: &mut Vec<Message>,
) -> Result<(), ApiError> {
    let blocks = match blocks {
        Blocks::Text(text) => {
            messages.push(Message::new(role, text));
            return Ok(());
        }
        Blocks::Blocks(blocks) => blocks,
    };
    let mut message = Message::new(role, "");
    let mut parts = Vec::new();
    let mut results = false;
    for (at, mut block) in blocks.into_iter().enumerate() {
        let wrong = |what: &str| invalid(&format!("{path}[{at}]"), what);
        let kind = take(&mut block, "type").ok_or_else(|| wrong("a block needs its type"))?;
        match &*kind {
            "tool_result" => {
                results = true;
                messages.push(result(block).ok_or_else(|| wrong("it needs its tool_use_id"))?);
            }
            "tool_use" => {
                let (id, name) = (take(&mut block, "id"), take(&mut block, "name"));
                let (Some(id), Some(name)) = (id, name) else {
                    return Err(wrong("it needs its id and name"));
                };
                let input = block.remove("input").unwrap_or_else(|| json!({}));
                if !input.is_object() {
                    return Err(wrong("its input must be an object"));
                }
                message.tool_calls.push(ToolCall {
                    extra: block,
                    ..ToolCall::new(id, name, input.to_string())
                });
            }
            "thinking" => message.reasoning.push(Reasoning {
                text: take(&mut block, "thinking").unwrap_or_default(),
                seal: take(&mut block, "signature").map(ReasoningSeal::Signature),
            }),
            "redacted_thinking" => message.reasoning.push(Reasoning {
                text: String::new(),
                seal: take(&mut block, "data").map(ReasoningSeal::Redacted),
            }),
            _ => parts.push(part(kind, block).map_err(wrong)?),
        }
    }
    message.content = Content::Parts(parts);
    if !results || !message.content.is_empty() {
        messages.push(message);
    }
    Ok(())
}

fn result(mut block: Fields) -> Option<Message> {
    let id = take(&mut block, "tool_use_id")?;
    let content = match block.remove("content") {
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(blocks)) => {
            let parts = blocks.into_iter().map(|block| match block {
                Value::Object(mut block) => {
                    let kind = take(&mut block, "type").unwrap_or_default();
                    part(kind, block).unwrap_or(Part::Other(Value::Null))
                }
                other => Part::Other(other),
            });
            Content::Parts(parts.collect())
        }
        _ => Content::default(),
    };
    block.retain(|name, value| name != "is_error" || *value == Value::Bool(true));
    Some(Message {
        extra: block,
        ..Message::tool(id, content)
    })
}

fn part(kind: String, mut block: Fields) -> Result<Part, &'static str> {
    match &*kind {
        "text" => {
            let text = take(&mut block, "text").ok_or("a block of type text needs its text")?;
            Ok(Part::Text { text, extra: block })
        }
        "image" => {
            let source = block.remove("source").unwrap_or_default();
            let field = |name| source.get(name).and_then(Value::as_str);
            let url = match (field("url"), field("media_type"), field("data")) {
                (Some(url), ..) => url.to_owned(),
                (None, Some(media), Some(data)) => format!("data:{media};base64,{data}"),
                _ => return Err("an image needs its data or address: files are not kept here"),
            };
            Ok(Part::Image { url, extra: block })
        }
        _ => {
            block.insert("type".to_owned(), kind.into());
            Ok(Part::Other(block.into()))
        }
    }
}
