//! Reading a chat completion request, with the vendor's own checks.

use serde::Deserialize;
use serde_json::Value;

use super::super::{Problem, content::Content};
use crate::{
    ask::{Ask, JsonForm, TOKENS_PER_MESSAGE, ToolChoice, ToolOffer},
    tokens,
};

#[derive(Deserialize)]
struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    tool_choice: Option<Choice>,
    #[serde(default)]
    response_format: Option<Format>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    stop: Option<Content<String>>,
    #[serde(default)]
    n: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    #[serde(default)]
    content: Option<Content<Part>>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    Developer,
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    function: CallFunction,
}

#[derive(Deserialize)]
struct CallFunction {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Tool {
    function: ToolFunction,
}

#[derive(Deserialize)]
struct ToolFunction {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Mode(Mode),
    Function { function: Named },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Auto,
    None,
    Required,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchema },
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Value,
}

/// Reads a request body.
pub(crate) fn read(body: &[u8]) -> Result<Ask, Problem> {
    let request: Request = serde_json::from_slice(body)
        .map_err(|error| Problem::invalid(format!("We could not parse the request: {error}")))?;
    check(&request)?;
    let mut ask = Ask {
        max_output: request.max_completion_tokens.or(request.max_tokens),
        stream: request.stream.unwrap_or(false),
        stream_usage: request
            .stream_options
            .is_some_and(|options| options.include_usage.unwrap_or(false)),
        stop: match request.stop {
            None => Vec::new(),
            Some(Content::Text(stop)) => vec![stop],
            Some(Content::Blocks(stops)) => stops,
        },
        tool_choice: match request.tool_choice {
            None | Some(Choice::Mode(Mode::Auto)) => ToolChoice::Auto,
            Some(Choice::Mode(Mode::None)) => ToolChoice::None,
            Some(Choice::Mode(Mode::Required)) => ToolChoice::Required,
            Some(Choice::Function { function }) => ToolChoice::Named(function.name),
        },
        json: match request.response_format {
            None | Some(Format::Text) => None,
            Some(Format::JsonObject) => Some(JsonForm::Object),
            Some(Format::JsonSchema { json_schema }) => Some(JsonForm::Schema(json_schema.schema)),
        },
        model: request.model,
        ..Ask::default()
    };
    for message in request.messages {
        add_message(&mut ask, message);
    }
    for tool in request.tools.into_iter().flatten() {
        add_tool(&mut ask, tool.function);
    }
    Ok(ask)
}

fn add_message(ask: &mut Ask, message: Message) {
    let text = match message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Blocks(parts)) => {
            let texts: Vec<String> = parts.into_iter().filter_map(|part| part.text).collect();
            texts.join("\n")
        }
    };
    ask.input_tokens += TOKENS_PER_MESSAGE + tokens::count(&text);
    for call in message.tool_calls.iter().flatten() {
        ask.input_tokens +=
            tokens::count(&call.function.name) + tokens::count(&call.function.arguments);
    }
    match message.role {
        Role::Tool => match &mut ask.tool_result {
            Some(results) => {
                results.push('\n');
                results.push_str(&text);
            }
            None => ask.tool_result = Some(text),
        },
        role => {
            ask.tool_result = None;
            match role {
                Role::User => ask.user = text,
                Role::System | Role::Developer if ask.system.is_empty() => ask.system = text,
                Role::System | Role::Developer => {
                    ask.system.push('\n');
                    ask.system.push_str(&text);
                }
                Role::Assistant | Role::Tool => {}
            }
        }
    }
}

fn add_tool(ask: &mut Ask, tool: ToolFunction) {
    ask.input_tokens += tokens::count(&tool.name)
        + tokens::count(tool.description.as_deref().unwrap_or_default())
        + tokens::count(&tool.parameters.to_string());
    ask.tools.push(ToolOffer {
        name: tool.name,
        schema: tool.parameters,
    });
}

/// What the vendor refuses with status 400.
fn check(request: &Request) -> Result<(), Problem> {
    if request.messages.is_empty() {
        return Err(Problem::about(
            "messages",
            "Invalid 'messages': the array is empty.",
        ));
    }
    if request.n.is_some_and(|n| n != 1) {
        return Err(Problem::about("n", "This simulator gives one choice only."));
    }
    if request.max_tokens == Some(0) || request.max_completion_tokens == Some(0) {
        return Err(Problem::about(
            "max_tokens",
            "The output limit must be at least 1.",
        ));
    }
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(Problem::about(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    if request.tool_choice.is_some() && request.tools.as_ref().is_none_or(Vec::is_empty) {
        return Err(Problem::about(
            "tool_choice",
            "'tool_choice' is only allowed when 'tools' are specified.",
        ));
    }
    check_tool_calls(&request.messages)
}

/// Every tool call is answered by the tool messages that follow it at once.
fn check_tool_calls(messages: &[Message]) -> Result<(), Problem> {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        if message.role == Role::Tool {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let Some(at) = open.iter().position(|known| *known == id) else {
                return Err(Problem::about(
                    "messages",
                    "A message with role 'tool' must answer a preceding message with 'tool_calls'.",
                ));
            };
            open.swap_remove(at);
            continue;
        }
        if !open.is_empty() {
            break;
        }
        let calls = message.tool_calls.iter().flatten();
        open.extend(calls.map(|call| call.id.as_str()));
        let empty = message.content.is_none() && open.is_empty();
        if empty {
            return Err(Problem::about(
                "messages",
                "Invalid 'content': expected a string or an array.",
            ));
        }
    }
    match open.first() {
        None => Ok(()),
        Some(id) => Err(Problem::about(
            "messages",
            format!(
                "An assistant message with 'tool_calls' must be followed by tool messages for each 'tool_call_id'; missing: {id}"
            ),
        )),
    }
}
