//! A message as a stream of events: each block is started, grown and stopped.
//!
//! Invariant: one block is open at a time, and a stopped one is never grown. What comes
//! while a tool call is incomplete and belongs elsewhere waits for the end, so calls whose
//! pieces are interleaved come out one behind the other.

use bytes::{BufMut, BytesMut};
use lyceum_core::{
    ChatEvent, FinishReason, QueuePosition, ReasoningSeal, RequestId, ToolCallDelta, Usage,
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{stop_reason, usage};
use crate::{
    compat::{problem::Problem, put, stream::Writer},
    error::ApiError,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Tool(u32),
}

/// Writes events.
#[derive(Debug)]
pub(crate) struct Events {
    id: RequestId,
    model: String,
    queue_events: bool,
    started: bool,
    /// The open block.
    open: Option<Block>,
    /// The next block's place.
    next: u32,
    /// The arguments of the open tool call so far.
    arguments: String,
    /// The tool calls whose blocks are stopped.
    called: Vec<u32>,
    /// What waits until the open tool call is complete, in its order.
    later: Vec<ChatEvent>,
    usage: Usage,
    stop_sequence: Option<Value>,
}

impl Events {
    pub(crate) fn new(id: RequestId, model: &str, queue_events: bool) -> Self {
        Self {
            id,
            model: model.to_owned(),
            queue_events,
            started: false,
            open: None,
            next: 0,
            arguments: String::new(),
            called: Vec::new(),
            later: Vec::new(),
            usage: Usage::default(),
            stop_sequence: None,
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.started {
            return;
        }
        self.started = true;
        let message = json!({
            "id": format!("msg_{}", self.id), "type": "message", "role": "assistant",
            "model": self.model, "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": usage(self.usage),
        });
        event(
            out,
            "message_start",
            &json!({"type": "message_start", "message": message}),
        );
    }

    /// Makes sure that such a block is open; a new one starts with `content`.
    fn block(&mut self, block: Block, content: impl FnOnce() -> Value, out: &mut BytesMut) {
        if self.open == Some(block) {
            return;
        }
        self.stop(out);
        let start = json!({
            "type": "content_block_start", "index": self.next, "content_block": content(),
        });
        event(out, "content_block_start", &start);
        self.open = Some(block);
        self.next += 1;
    }

    fn stop(&mut self, out: &mut BytesMut) {
        if let Some(block) = self.open.take() {
            if let Block::Tool(index) = block {
                self.called.push(index);
                self.arguments.clear();
            }
            let stop = json!({"type": "content_block_stop", "index": self.next - 1});
            event(out, "content_block_stop", &stop);
        }
    }

    fn delta(&self, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
        out.put_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        put(out, &(self.next - 1));
        out.put_slice(b",\"delta\":{\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",\"");
        out.put_slice(field.as_bytes());
        out.put_slice(b"\":");
        put(out, text);
        out.put_slice(b"}}\n\n");
    }

    fn text(&mut self, text: &str, out: &mut BytesMut) {
        self.block(Block::Text, || json!({"type": "text", "text": ""}), out);
        self.delta("text_delta", "text", text, out);
    }

    fn thinking(&mut self, out: &mut BytesMut) {
        let content = || json!({"type": "thinking", "thinking": "", "signature": ""});
        self.block(Block::Thinking, content, out);
    }

    fn seal(&mut self, seal: &ReasoningSeal, out: &mut BytesMut) {
        match seal {
            ReasoningSeal::Signature(signature) => {
                self.thinking(out);
                self.delta("signature_delta", "signature", signature, out);
            }
            ReasoningSeal::Redacted(data) => {
                self.stop(out);
                let content = || json!({"type": "redacted_thinking", "data": data});
                self.block(Block::Thinking, content, out);
            }
        }
        self.stop(out);
    }

    fn call(&mut self, delta: &ToolCallDelta, out: &mut BytesMut) {
        // The arguments were complete: more of them can only be blank.
        if self.called.contains(&delta.index) {
            return;
        }
        let content = || {
            let (id, name) = (delta.id.as_deref(), delta.name.as_deref());
            let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
            json!({"type": "tool_use", "id": id, "name": name, "input": {}})
        };
        self.block(Block::Tool(delta.index), content, out);
        if !delta.arguments.is_empty() {
            self.arguments.push_str(&delta.arguments);
            self.delta("input_json_delta", "partial_json", &delta.arguments, out);
        }
    }

    /// Whether an event belongs behind a tool call that is not complete.
    fn must_wait(&self, event: &ChatEvent) -> bool {
        let Some(Block::Tool(open)) = self.open else {
            return false;
        };
        if matches!(event, ChatEvent::ToolCall(delta) if delta.index == open) {
            return false;
        }
        let complete = || {
            self.arguments.trim_start().starts_with('{')
                && serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
        };
        !self.later.is_empty() || !complete()
    }

    /// Writes a piece of the content, or keeps it for later.
    fn piece(&mut self, event: ChatEvent, out: &mut BytesMut) {
        if self.must_wait(&event) {
            self.later.push(event);
            return;
        }
        match event {
            ChatEvent::Text(text) => self.text(&text, out),
            ChatEvent::Reasoning(text) => {
                self.thinking(out);
                self.delta("thinking_delta", "thinking", &text, out);
            }
            ChatEvent::ReasoningEnd(seal) => self.seal(&seal, out),
            ChatEvent::ToolCall(delta) => self.call(&delta, out),
            _ => {}
        }
    }

    fn finish(&mut self, reason: &FinishReason, out: &mut BytesMut) {
        self.stop(out);
        // Each round writes at least the first call that waits, whole.
        while !self.later.is_empty() {
            for event in std::mem::take(&mut self.later) {
                self.piece(event, out);
            }
            self.stop(out);
        }
        let reason = match self.stop_sequence {
            Some(_) => "stop_sequence",
            None => stop_reason(reason),
        };
        let delta = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": self.stop_sequence},
            "usage": usage(self.usage),
        });
        event(out, "message_delta", &delta);
        event(out, "message_stop", &json!({"type": "message_stop"}));
    }
}

impl Writer for Events {
    fn event(&mut self, event: ChatEvent, out: &mut BytesMut) {
        match event {
            ChatEvent::Started { model, .. } => self.model = (*model).to_owned(),
            ChatEvent::Usage(usage) => self.usage = usage,
            ChatEvent::Extra(mut extra) => {
                let sequence = extra.fields.remove("stop_sequence");
                self.stop_sequence = sequence
                    .filter(Value::is_string)
                    .or(self.stop_sequence.take());
            }
            ChatEvent::Finished(reason) => {
                self.start(out);
                self.finish(&reason, out);
            }
            event => {
                self.start(out);
                self.piece(event, out);
            }
        }
    }

    fn queued(&mut self, place: QueuePosition, out: &mut BytesMut) {
        if self.queue_events {
            let queue = json!({"status": "queued", "position": place.position});
            event(out, "ping", &json!({"type": "ping", "queue": queue}));
        }
    }

    fn heartbeat(&mut self, out: &mut BytesMut) {
        event(out, "ping", &json!({"type": "ping"}));
    }

    fn error(&mut self, error: &ApiError, out: &mut BytesMut) {
        event(out, "error", &Problem::of(error).anthropic(Some(&self.id)));
    }
}

fn event(out: &mut BytesMut, name: &str, data: &Value) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    put(out, data);
    out.put_slice(b"\n\n");
}
