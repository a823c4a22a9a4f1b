//! Reading a messages request, with the vendor's own checks.

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
    max_tokens: Option<u64>,
    #[serde(default)]
    system: Option<Content<Block>>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    tool_choice: Option<Choice>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    #[serde(default)]
    output_config: Option<OutputConfig>,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: Content<Block>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

/// A content block; kinds that this simulator has no use for are accepted and cost
/// nothing.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(default)]
        content: Option<Content<Block>>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    input_schema: Value,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Choice {
    Auto,
    None,
    Any,
    Tool { name: String },
}

#[derive(Deserialize)]
struct OutputConfig {
    #[serde(default)]
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    schema: Value,
}

/// Reads the body of a messages request.
pub(crate) fn read(body: &[u8]) -> Result<Ask, Problem> {
    let request = parse(body)?;
    if request.max_tokens.is_none() {
        return Err(Problem::about("max_tokens", "Field required"));
    }
    Ok(into_ask(request))
}

/// Reads the body of a token count, which has no `max_tokens`.
pub(crate) fn read_for_count(body: &[u8]) -> Result<Ask, Problem> {
    parse(body).map(into_ask)
}

fn parse(body: &[u8]) -> Result<Request, Problem> {
    let request: Request = serde_json::from_slice(body)
        .map_err(|error| Problem::invalid(format!("the request cannot be read: {error}")))?;
    check(&request)?;
    Ok(request)
}

fn into_ask(request: Request) -> Ask {
    let mut ask = Ask {
        model: request.model,
        max_output: request.max_tokens,
        stream: request.stream,
        stream_usage: true,
        stop: request.stop_sequences,
        system: request.system.as_ref().map(text_of).unwrap_or_default(),
        tool_choice: match request.tool_choice {
            None | Some(Choice::Auto) => ToolChoice::Auto,
            Some(Choice::None) => ToolChoice::None,
            Some(Choice::Any) => ToolChoice::Required,
            Some(Choice::Tool { name }) => ToolChoice::Named(name),
        },
        json: request
            .output_config
            .and_then(|config| config.format)
            .map(|format| JsonForm::Schema(format.schema)),
        ..Ask::default()
    };
    ask.input_tokens = tokens::count(&ask.system);
    for message in &request.messages {
        add_message(&mut ask, message);
    }
    for tool in request.tools {
        ask.input_tokens += tokens::count(&tool.name)
            + tokens::count(tool.description.as_deref().unwrap_or_default())
            + tokens::count(&tool.input_schema.to_string());
        ask.tools.push(ToolOffer {
            name: tool.name,
            schema: tool.input_schema,
        });
    }
    ask
}

fn add_message(ask: &mut Ask, message: &Message) {
    ask.input_tokens += TOKENS_PER_MESSAGE + cost_of(&message.content);
    ask.tool_result = None;
    if message.role == Role::Assistant {
        return;
    }
    let results: Vec<String> = blocks(&message.content)
        .filter_map(|block| match block {
            Block::ToolResult { content, .. } => {
                Some(content.as_ref().map(text_of).unwrap_or_default())
            }
            _ => None,
        })
        .collect();
    let text = text_of(&message.content);
    // Results alone are the tools' words, not the user's.
    if !text.is_empty() || results.is_empty() {
        ask.user = text;
    }
    if !results.is_empty() {
        ask.tool_result = Some(results.join("\n"));
    }
}

fn blocks(content: &Content<Block>) -> impl Iterator<Item = &Block> {
    match content {
        Content::Text(_) => [].iter(),
        Content::Blocks(blocks) => blocks.iter(),
    }
}

fn text_of(content: &Content<Block>) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Blocks(blocks) => {
            let texts = blocks.iter().filter_map(|block| match block {
                Block::Text { text } => Some(text.as_str()),
                _ => None,
            });
            texts.collect::<Vec<_>>().join("\n")
        }
    }
}

fn cost_of(content: &Content<Block>) -> u64 {
    match content {
        Content::Text(text) => tokens::count(text),
        Content::Blocks(blocks) => blocks
            .iter()
            .map(|block| match block {
                Block::Text { text } => tokens::count(text),
                Block::ToolUse { name, input, .. } => {
                    tokens::count(name) + tokens::count(&input.to_string())
                }
                Block::ToolResult { content, .. } => content.as_ref().map_or(0, cost_of),
                Block::Other => 0,
            })
            .sum(),
    }
}

/// What the vendor refuses with status 400.
fn check(request: &Request) -> Result<(), Problem> {
    if request.messages.is_empty() {
        return Err(Problem::about(
            "messages",
            "at least one message is required",
        ));
    }
    if request.max_tokens == Some(0) {
        return Err(Problem::about(
            "max_tokens",
            "must be greater than or equal to 1",
        ));
    }
    if request.tool_choice.is_some() && request.tools.is_empty() {
        return Err(Problem::about(
            "tool_choice",
            "may only be specified while providing tools",
        ));
    }
    let last = request.messages.len() - 1;
    for (at, message) in request.messages.iter().enumerate() {
        let empty = match &message.content {
            Content::Text(text) => text.is_empty(),
            Content::Blocks(blocks) => blocks.is_empty(),
        };
        if empty && (at < last || message.role == Role::User) {
            return Err(Problem::about(
                "messages",
                "all messages must have non-empty content",
            ));
        }
        let blank = |block: &Block| matches!(block, Block::Text { text } if text.is_empty());
        if blocks(&message.content).any(blank) {
            return Err(Problem::about(
                "messages",
                "text content blocks must be non-empty",
            ));
        }
    }
    check_tool_uses(&request.messages)
}

/// Every `tool_use` is answered by a `tool_result` in the very next message.
fn check_tool_uses(messages: &[Message]) -> Result<(), Problem> {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        for block in blocks(&message.content) {
            if let Block::ToolResult { tool_use_id, .. } = block {
                let Some(at) = open.iter().position(|id| id == tool_use_id) else {
                    return Err(Problem::about(
                        "messages",
                        format!("unexpected `tool_use_id` in a `tool_result` block: {tool_use_id}"),
                    ));
                };
                open.swap_remove(at);
            }
        }
        if !open.is_empty() {
            break;
        }
        for block in blocks(&message.content) {
            if let Block::ToolUse { id, .. } = block {
                open.push(id);
            }
        }
    }
    match open.first() {
        None => Ok(()),
        Some(id) => Err(Problem::about(
            "messages",
            format!("`tool_use` id without a `tool_result` block right after it: {id}"),
        )),
    }
}
