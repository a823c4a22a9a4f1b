//! An answer in the Anthropic dialect, event by event or whole.

use std::borrow::Cow;

use lyceum_core::{
    ChatError, ChatEvent, ExtraPlace, FinishReason, ReasoningSeal, Tokens, ToolCallDelta, Usage,
};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    decode::{Origin, Reader},
    failure::{Complaint, protocol},
    json::{self, Kind, Template, Text, object},
    wire::unknown_reason,
};

object! {
    /// Any event of a stream. One struct with the fields of all: internally tagged enums
    /// cannot borrow, and this is the path of every token.
    Event {
        r#type: Text<'a> = "type",
        index: u32 = "index",
        message: WireMessage<'a> = "message",
        content_block: Block<'a> = "content_block",
        delta: Delta<'a> = "delta",
        usage: WireUsage<'a> = "usage",
        error: Value = "error",
    }
}

object! {
    /// The beginning of a stream, or a whole answer.
    WireMessage {
        r#type: &'a RawValue = "type",
        role: &'a RawValue = "role",
        model: Text<'a> = "model",
        content: Vec<Block<'a>> = "content",
        stop_reason: Text<'a> = "stop_reason",
        stop_sequence: &'a RawValue = "stop_sequence",
        usage: WireUsage<'a> = "usage",
    }
}

object! {
    Block {
        r#type: Text<'a> = "type",
        text: Text<'a> = "text",
        thinking: Text<'a> = "thinking",
        signature: Text<'a> = "signature",
        data: Text<'a> = "data",
        id: Text<'a> = "id",
        name: Text<'a> = "name",
        input: &'a RawValue = "input",
    }
}

object! {
    /// `text_delta`, `thinking_delta`, `signature_delta`, `input_json_delta`,
    /// `citations_delta`, or the delta of the message.
    Delta {
        r#type: Text<'a> = "type",
        text: Text<'a> = "text",
        thinking: Text<'a> = "thinking",
        signature: Text<'a> = "signature",
        partial_json: Text<'a> = "partial_json",
        citation: Value = "citation",
        stop_reason: Text<'a> = "stop_reason",
        stop_sequence: &'a RawValue = "stop_sequence",
    }
}

object! {
    WireUsage {
        input_tokens: u64 = "input_tokens",
        output_tokens: u64 = "output_tokens",
        cache_read_input_tokens: u64 = "cache_read_input_tokens",
        cache_creation_input_tokens: u64 = "cache_creation_input_tokens",
    }
}

/// Counts so far. Those of input are given at the beginning and often again at the end;
/// each count replaces the one before.
#[derive(Default)]
struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_creation: Option<u64>,
    details: Map<String, Value>,
}

/// A block in progress.
struct Open {
    block: u32,
    what: What,
}

enum What {
    /// A tool call.
    Call {
        /// Its number among the answer's tool calls.
        index: u32,
        has_arguments: bool,
    },
    /// The call that was forced to get JSON: its arguments are the answer.
    Answer,
    Thinking {
        signature: String,
    },
    /// A kind of block Lyceum does not know, with the pieces of its input.
    Unknown {
        block: Map<String, Value>,
        input: String,
    },
}

/// Reads one answer.
pub(crate) struct EventReader {
    origin: Origin,
    /// The tool that was forced to get JSON of a schema.
    answer_tool: Option<&'static str>,
    counts: Counts,
    calls: u32,
    /// Whether the forced tool was called.
    answered: bool,
    open: Option<Open>,
    finish: Option<FinishReason>,
    template: Template,
    done: bool,
}

impl EventReader {
    pub(crate) fn new(origin: Origin, answer_tool: Option<&'static str>) -> Self {
        Self {
            origin,
            answer_tool,
            counts: Counts::default(),
            calls: 0,
            answered: false,
            open: None,
            finish: None,
            template: Template::default(),
            done: false,
        }
    }

    /// Takes an event. Returns its text where it is nothing else.
    fn take<'a>(
        &mut self,
        event: Event<'a>,
        out: &mut Vec<ChatEvent>,
    ) -> Result<Option<(Kind, Cow<'a, str>)>, ChatError> {
        let index = event.index.unwrap_or(0);
        match event.r#type.as_ref().map(|kind| &*kind.0) {
            Some("content_block_delta") => {
                return Ok(event.delta.and_then(|delta| self.delta(index, delta, out)));
            }
            Some("message_start") => {
                if let Some(message) = event.message {
                    self.message(message, out);
                }
            }
            Some("content_block_start") => {
                if let Some(block) = event.content_block {
                    self.start_block(index, block, out);
                }
            }
            Some("content_block_stop") => self.stop_block(index, out),
            Some("message_delta") => {
                if let Some(delta) = event.delta {
                    if let Some(reason) = delta.stop_reason {
                        self.finish = Some(self.finish_reason(&reason.0));
                    }
                    out.extend(stop_sequence(delta.stop_sequence));
                    out.extend(delta.rest.event(ExtraPlace::Answer));
                }
                out.extend(event.rest.event(ExtraPlace::Answer));
                self.count(event.usage, out);
            }
            Some("message_stop") => self.done = true,
            Some("error") => {
                let error = event.error.unwrap_or_default();
                let complaint = Complaint::of_value(&error);
                return Err(complaint.into_stream_error(self.origin.key.as_ref()));
            }
            // "ping", and kinds of events that may be added ("Streaming messages").
            Some(_) => {}
            None => return Err(protocol("an event has no type")),
        }
        Ok(None)
    }

    fn message(&mut self, message: WireMessage<'_>, out: &mut Vec<ChatEvent>) {
        out.push(self.origin.started(message.model));
        out.extend(message.rest.event(ExtraPlace::Answer));
        for (index, block) in (0..).zip(message.content.into_iter().flatten()) {
            self.start_block(index, block, out);
            self.stop_block(index, out);
        }
        out.extend(stop_sequence(message.stop_sequence));
        self.count(message.usage, out);
        self.finish = message
            .stop_reason
            .map(|reason| self.finish_reason(&reason.0));
    }

    fn start_block(&mut self, block: u32, start: Block<'_>, out: &mut Vec<ChatEvent>) {
        let kind = start.r#type.as_ref().map_or("", |kind| &kind.0);
        let what = match kind {
            "text" => {
                out.extend(Text::non_empty(start.text).map(ChatEvent::Text));
                out.extend(start.rest.event(ExtraPlace::Message));
                return;
            }
            "thinking" => {
                out.extend(Text::non_empty(start.thinking).map(ChatEvent::Reasoning));
                What::Thinking {
                    signature: Text::non_empty(start.signature).unwrap_or_default(),
                }
            }
            "redacted_thinking" => {
                let data = Text::non_empty(start.data).unwrap_or_default();
                out.push(ChatEvent::ReasoningEnd(ReasoningSeal::Redacted(data)));
                return;
            }
            "tool_use" => self.start_call(start, out),
            _ => What::Unknown {
                block: unknown_block(start),
                input: String::new(),
            },
        };
        self.open = Some(Open { block, what });
    }

    fn start_call(&mut self, start: Block<'_>, out: &mut Vec<ChatEvent>) -> What {
        // A stream begins with an empty object and sends the arguments in pieces.
        let arguments = match start.input.map(RawValue::get) {
            None | Some("{}") => String::new(),
            Some(whole) => whole.to_owned(),
        };
        let name = Text::non_empty(start.name);
        if self.answer_tool.is_some() && name.as_deref() == self.answer_tool {
            self.answered = true;
            if !arguments.is_empty() {
                out.push(ChatEvent::Text(arguments));
            }
            return What::Answer;
        }
        let index = self.calls;
        self.calls += 1;
        let has_arguments = !arguments.is_empty();
        out.push(ChatEvent::ToolCall(ToolCallDelta {
            index,
            id: Text::non_empty(start.id),
            name,
            arguments,
            extra: start.rest.read(),
        }));
        What::Call {
            index,
            has_arguments,
        }
    }

    fn delta<'a>(
        &mut self,
        block: u32,
        delta: Delta<'a>,
        out: &mut Vec<ChatEvent>,
    ) -> Option<(Kind, Cow<'a, str>)> {
        let mut only = None;
        for (kind, text) in [(Kind::Text, delta.text), (Kind::Reasoning, delta.thinking)] {
            if let Some(text) = text.filter(|text| !text.0.is_empty()) {
                out.push(kind.event(text.0.as_ref().to_owned()));
                only = match only {
                    None => Some((kind, text.0)),
                    Some(_) => return None,
                };
            }
        }
        if let Some(citation) = delta.citation {
            let mut fields = Map::new();
            fields.insert("citations".to_owned(), Value::Array(vec![citation]));
            out.extend(json::event(ExtraPlace::Message, fields));
            return None;
        }
        if delta.partial_json.is_none() && delta.signature.is_none() {
            return only;
        }
        let open = self.open.as_mut().filter(|open| open.block == block)?;
        let more = Text::non_empty(delta.partial_json);
        match (&mut open.what, more) {
            (
                What::Call {
                    index,
                    has_arguments,
                },
                Some(arguments),
            ) => {
                *has_arguments = true;
                out.push(ChatEvent::ToolCall(ToolCallDelta {
                    index: *index,
                    arguments,
                    ..ToolCallDelta::default()
                }));
            }
            (What::Answer, Some(text)) => out.push(ChatEvent::Text(text)),
            (What::Unknown { input, .. }, Some(more)) if input.len() < MAX_UNKNOWN_INPUT => {
                input.push_str(&more);
            }
            (What::Thinking { signature }, _) if signature.len() < MAX_UNKNOWN_INPUT => {
                signature.push_str(delta.signature.as_ref().map_or("", |more| &more.0));
            }
            _ => {}
        }
        None
    }

    fn stop_block(&mut self, block: u32, out: &mut Vec<ChatEvent>) {
        let Some(open) = self.open.take_if(|open| open.block == block) else {
            return;
        };
        match open.what {
            What::Call {
                index,
                has_arguments: false,
            } => out.push(ChatEvent::ToolCall(ToolCallDelta {
                index,
                arguments: "{}".to_owned(),
                ..ToolCallDelta::default()
            })),
            What::Call { .. } | What::Answer => {}
            What::Thinking { signature } if signature.is_empty() => {}
            What::Thinking { signature } => {
                out.push(ChatEvent::ReasoningEnd(ReasoningSeal::Signature(signature)));
            }
            What::Unknown { mut block, input } => {
                if let Ok(input) = serde_json::from_str(&input) {
                    block.insert("input".to_owned(), input);
                }
                let mut fields = Map::new();
                let blocks = Value::Array(vec![Value::Object(block)]);
                fields.insert("content_blocks".to_owned(), blocks);
                out.extend(json::event(ExtraPlace::Message, fields));
            }
        }
    }

    fn count(&mut self, usage: Option<WireUsage<'_>>, out: &mut Vec<ChatEvent>) {
        let Some(new) = usage else { return };
        let all = &mut self.counts;
        for (count, new) in [
            (&mut all.input, new.input_tokens),
            (&mut all.output, new.output_tokens),
            (&mut all.cache_read, new.cache_read_input_tokens),
            (&mut all.cache_creation, new.cache_creation_input_tokens),
        ] {
            *count = new.or(*count);
        }
        let tokens = |count: Option<u64>| Tokens(count.unwrap_or(0));
        let cached_input = tokens(all.cache_read);
        let cache_write = tokens(all.cache_creation);
        out.push(ChatEvent::Usage(Usage {
            // `input_tokens` counts only what came neither from nor into the cache.
            input: tokens(all.input) + cached_input + cache_write,
            output: tokens(all.output),
            cached_input,
            cache_write,
        }));
        if !new.rest.is_empty() {
            all.details.extend(new.rest.read());
            out.extend(json::event(ExtraPlace::Usage, all.details.clone()));
        }
    }

    fn finish_reason(&self, reason: &str) -> FinishReason {
        match reason {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "tool_use" if self.answered && self.calls == 0 => FinishReason::Stop,
            "tool_use" => FinishReason::ToolCalls,
            "refusal" => FinishReason::ContentFilter,
            other => FinishReason::Other(unknown_reason(other)),
        }
    }
}

/// How much is kept of what is put together from pieces without being understood.
const MAX_UNKNOWN_INPUT: usize = 4 << 20;

/// A block of a kind Lyceum does not know, e.g. of a tool that the provider runs itself.
fn unknown_block(start: Block<'_>) -> Map<String, Value> {
    let mut block = start.rest.read();
    let texts = [
        ("type", start.r#type),
        ("text", start.text),
        ("thinking", start.thinking),
        ("signature", start.signature),
        ("data", start.data),
        ("id", start.id),
        ("name", start.name),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            block.insert(name.to_owned(), Value::String(text.0.into_owned()));
        }
    }
    if let Some(input) = start.input.and_then(json::value) {
        block.insert("input".to_owned(), input);
    }
    block
}

fn stop_sequence(raw: Option<&RawValue>) -> Option<ChatEvent> {
    let mut fields = Map::new();
    fields.insert("stop_sequence".to_owned(), json::value(raw?)?);
    json::event(ExtraPlace::Choice, fields)
}

impl Reader for EventReader {
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        if let Some((kind, text)) = self.template.read(data) {
            if !text.is_empty() {
                out.push(kind.event(text.to_owned()));
            }
            return Ok(());
        }
        let event = json::document(data)
            .map_err(|error| protocol(format_args!("an event has another form: {error}")))?;
        match self.take(event, out)? {
            Some((kind, text)) => self.template.learn(data, &text, kind),
            None => self.template.forget(),
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let message: WireMessage<'_> = serde_json::from_slice(body)
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
