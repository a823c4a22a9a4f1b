//! An answer in the Anthropic dialect, event by event or whole.

use std::sync::Arc;

use lyceum_core::{ChatError, ChatEvent, FinishReason, Tokens, ToolCallDelta, Usage};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    answer::Reader,
    failure::{Complaint, protocol},
    transport::Transport,
    wire::{Text, unknown_reason},
};

/// Any event of a stream. One struct with the fields of all: internally tagged enums
/// cannot borrow, and this is the path of every token.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    message: Option<WireMessage<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Value>,
}

/// The beginning of a stream, or a whole answer.
#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    content: Vec<Block<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

/// `text_delta`, `thinking_delta`, `input_json_delta`, or the delta of the message.
#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
}

/// Counts of input are given at the beginning and often again at the end; each count
/// replaces the one before.
#[derive(Deserialize, Default, Clone, Copy)]
struct WireUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

/// A tool call in progress.
struct OpenCall {
    block: u32,
    /// Its number among the answer's tool calls.
    index: u32,
    has_arguments: bool,
}

/// Reads one answer.
pub(super) struct EventReader {
    transport: Arc<Transport>,
    /// The model that was asked, for servers that do not say which one answers.
    asked: Arc<str>,
    usage: WireUsage,
    calls: u32,
    open: Option<OpenCall>,
    finish: Option<FinishReason>,
    done: bool,
}

impl EventReader {
    pub(super) fn new(transport: Arc<Transport>, asked: Arc<str>) -> Self {
        Self {
            transport,
            asked,
            usage: WireUsage::default(),
            calls: 0,
            open: None,
            finish: None,
            done: false,
        }
    }

    fn take(&mut self, event: Event<'_>, out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        match event.r#type.0.as_ref() {
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.delta(event.index, delta, out);
                }
            }
            "message_start" => {
                if let Some(message) = event.message {
                    self.message(message, out);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.start_block(event.index, block, out);
                }
            }
            "content_block_stop" => self.stop_block(event.index, out),
            "message_delta" => {
                if let Some(reason) = event.delta.and_then(|delta| delta.stop_reason) {
                    self.finish = Some(finish_reason(&reason.0));
                }
                self.count(event.usage, out);
            }
            "message_stop" => self.done = true,
            "error" => {
                let error = event.error.unwrap_or_default();
                return Err(Complaint::of_value(&error).into_stream_error(self.transport.key()));
            }
            // "ping", and kinds of events that may be added ("Streaming messages").
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self, message: WireMessage<'_>, out: &mut Vec<ChatEvent>) {
        out.push(ChatEvent::Started {
            provider: Arc::clone(&self.transport.provider),
            model: match message.model {
                Some(model) => model.0.into(),
                None => Arc::clone(&self.asked),
            },
        });
        for (index, block) in (0..).zip(message.content) {
            self.start_block(index, block, out);
            self.stop_block(index, out);
        }
        self.count(message.usage, out);
        self.finish = message.stop_reason.map(|reason| finish_reason(&reason.0));
    }

    fn start_block(&mut self, block: u32, start: Block<'_>, out: &mut Vec<ChatEvent>) {
        let texts = start.text.filter(|text| !text.is_empty());
        let thoughts = start.thinking.filter(|text| !text.is_empty());
        out.extend(texts.map(ChatEvent::Text));
        out.extend(thoughts.map(ChatEvent::Reasoning));
        if start.r#type.0 != "tool_use" {
            return;
        }
        let index = self.calls;
        self.calls += 1;
        // A stream begins with an empty object and sends the arguments in pieces.
        let arguments = match start.input.map(RawValue::get) {
            None | Some("{}") => String::new(),
            Some(whole) => whole.to_owned(),
        };
        self.open = Some(OpenCall {
            block,
            index,
            has_arguments: !arguments.is_empty(),
        });
        out.push(ChatEvent::ToolCall(ToolCallDelta {
            index,
            id: Text::non_empty(start.id),
            name: Text::non_empty(start.name),
            arguments,
            ..ToolCallDelta::default()
        }));
    }

    fn delta(&mut self, block: u32, delta: Delta<'_>, out: &mut Vec<ChatEvent>) {
        let full = |text: &String| !text.is_empty();
        out.extend(delta.text.filter(full).map(ChatEvent::Text));
        out.extend(delta.thinking.filter(full).map(ChatEvent::Reasoning));
        if let Some(arguments) = delta.partial_json.filter(full)
            && let Some(call) = self.open.as_mut().filter(|call| call.block == block)
        {
            call.has_arguments = true;
            out.push(ChatEvent::ToolCall(ToolCallDelta {
                index: call.index,
                arguments,
                ..ToolCallDelta::default()
            }));
        }
    }

    fn stop_block(&mut self, block: u32, out: &mut Vec<ChatEvent>) {
        if let Some(call) = self.open.take_if(|call| call.block == block)
            && !call.has_arguments
        {
            out.push(ChatEvent::ToolCall(ToolCallDelta {
                index: call.index,
                arguments: "{}".to_owned(),
                ..ToolCallDelta::default()
            }));
        }
    }

    fn count(&mut self, usage: Option<WireUsage>, out: &mut Vec<ChatEvent>) {
        let Some(new) = usage else { return };
        let all = &mut self.usage;
        for (count, new) in [
            (&mut all.input_tokens, new.input_tokens),
            (&mut all.output_tokens, new.output_tokens),
            (
                &mut all.cache_read_input_tokens,
                new.cache_read_input_tokens,
            ),
            (
                &mut all.cache_creation_input_tokens,
                new.cache_creation_input_tokens,
            ),
        ] {
            *count = new.or(*count);
        }
        let tokens = |count: Option<u64>| Tokens(count.unwrap_or(0));
        let cached_input = tokens(all.cache_read_input_tokens);
        let cache_write = tokens(all.cache_creation_input_tokens);
        out.push(ChatEvent::Usage(Usage {
            // `input_tokens` counts only what came neither from nor into the cache.
            input: tokens(all.input_tokens) + cached_input + cache_write,
            output: tokens(all.output_tokens),
            cached_input,
            cache_write,
        }));
    }
}

impl Reader for EventReader {
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let event = serde_json::from_slice(data)
            .map_err(|error| protocol(format_args!("an event has another form: {error}")))?;
        self.take(event, out)
    }

    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let message = serde_json::from_slice(body)
            .map_err(|error| protocol(format_args!("it is no message: {error}")))?;
        self.message(message, out);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&self) -> Option<FinishReason> {
        self.finish.clone()
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        other => FinishReason::Other(unknown_reason(other)),
    }
}
