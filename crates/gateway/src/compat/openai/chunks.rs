//! A chat completion as a stream of chunks.
//!
//! What stays the same in every chunk is written once and copied. Source: OpenAI API
//! reference, "Chat", "Streaming".

use bytes::{BufMut, BytesMut};
use lyceum_core::{
    ChatEvent, ExtraPlace, FinishReason, QueuePosition, RequestId, ToolCallDelta, Usage,
};
use serde_json::{Map, Value, json};

use super::{
    Options,
    answer::{is_own_choice_field, is_own_message_field, usage},
    finish_name, is_own,
};
use crate::{
    catalog::unix_seconds,
    compat::{problem::Problem, put, put_fields, stream::Writer},
    error::ApiError,
};

/// Writes chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    id: RequestId,
    model: String,
    created: u64,
    /// The beginning of every chunk, up to and without `,"choices"`.
    head: Vec<u8>,
    fields: Map<String, Value>,
    options: Options,
    queue_events: bool,
    usage: Option<Usage>,
    usage_extra: Map<String, Value>,
    /// The choices that have begun.
    begun: Vec<u32>,
}

impl Chunks {
    pub(crate) fn new(id: RequestId, model: &str, options: Options, queue_events: bool) -> Self {
        let mut this = Self {
            id,
            model: model.to_owned(),
            created: unix_seconds(),
            head: Vec::new(),
            fields: Map::new(),
            options,
            queue_events,
            usage: None,
            usage_extra: Map::new(),
            begun: Vec::new(),
        };
        this.write_head();
        this
    }

    fn write_head(&mut self) {
        let mut head = BytesMut::with_capacity(256);
        head.put_slice(b"data: {\"id\":\"chatcmpl-");
        head.put_slice(self.id.as_str().as_bytes());
        head.put_slice(b"\",\"object\":\"chat.completion.chunk\",\"created\":");
        put(&mut head, &self.created);
        head.put_slice(b",\"model\":");
        put(&mut head, &*self.model);
        put_fields(&mut head, &self.fields, is_own);
        self.head = head.into();
    }

    /// Opens a chunk up to the fields of its delta.
    fn open(&mut self, index: u32, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(b",\"choices\":[{\"index\":");
        put(out, &index);
        out.put_slice(b",\"delta\":{");
        if !self.begun.contains(&index) {
            self.begun.push(index);
            out.put_slice(b"\"role\":\"assistant\",");
        }
    }

    fn close(&self, out: &mut BytesMut) {
        out.put_slice(b",\"finish_reason\":null}]");
        self.end(out);
    }

    fn end(&self, out: &mut BytesMut) {
        if self.options.usage {
            out.put_slice(b",\"usage\":null");
        }
        out.put_slice(b"}\n\n");
    }

    fn text(&mut self, index: u32, field: &[u8], text: &str, out: &mut BytesMut) {
        self.open(index, out);
        out.put_slice(field);
        put(out, text);
        out.put_u8(b'}');
        self.close(out);
    }

    fn call(&mut self, index: u32, delta: &ToolCallDelta, out: &mut BytesMut) {
        self.open(index, out);
        out.put_slice(b"\"tool_calls\":[{\"index\":");
        put(out, &delta.index);
        if let Some(id) = &delta.id {
            out.put_slice(b",\"id\":");
            put(out, id);
            out.put_slice(b",\"type\":\"function\"");
        }
        out.put_slice(b",\"function\":{");
        if let Some(name) = &delta.name {
            out.put_slice(b"\"name\":");
            put(out, name);
            out.put_u8(b',');
        }
        out.put_slice(b"\"arguments\":");
        put(out, &delta.arguments);
        out.put_u8(b'}');
        put_fields(out, &delta.extra, |name| {
            matches!(name, "index" | "id" | "type" | "function")
        });
        out.put_slice(b"}]}");
        self.close(out);
    }

    fn choice(&mut self, index: u32, event: ChatEvent, out: &mut BytesMut) {
        match event {
            ChatEvent::Text(text) => self.text(index, b"\"content\":", &text, out),
            ChatEvent::Reasoning(text) => {
                self.text(index, b"\"reasoning_content\":", &text, out);
            }
            ChatEvent::ToolCall(delta) => self.call(index, &delta, out),
            ChatEvent::Extra(extra) if extra.place == ExtraPlace::Message => {
                self.open(index, out);
                let begin = out.len();
                put_fields(out, &extra.fields, is_own_message_field);
                // The fields come behind a comma that the delta has already.
                if out.len() > begin {
                    let fields = out.split_off(begin);
                    out.put_slice(&fields[1..]);
                } else if out.ends_with(b",") {
                    out.truncate(begin - 1);
                }
                out.put_u8(b'}');
                self.close(out);
            }
            ChatEvent::Extra(extra) => {
                self.begin(index, out);
                put_fields(out, &extra.fields, is_own_choice_field);
                self.close(out);
            }
            ChatEvent::Finished(reason) => self.finish(index, &reason, out),
            _ => {}
        }
    }

    /// Opens a chunk whose delta says nothing.
    fn begin(&mut self, index: u32, out: &mut BytesMut) {
        self.open(index, out);
        if out.ends_with(b",") {
            out.put_slice(b"\"content\":\"\"");
        }
        out.put_u8(b'}');
    }

    fn finish(&mut self, index: u32, reason: &FinishReason, out: &mut BytesMut) {
        self.begin(index, out);
        out.put_slice(b",\"finish_reason\":");
        put(out, finish_name(reason));
        out.put_slice(b"}]");
        self.end(out);
    }

    fn last(&mut self, out: &mut BytesMut) {
        if self.options.usage {
            out.put_slice(&self.head);
            out.put_slice(b",\"choices\":[],\"usage\":");
            usage(self.usage.unwrap_or_default(), &self.usage_extra, out);
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }
}

impl Writer for Chunks {
    fn event(&mut self, event: ChatEvent, out: &mut BytesMut) {
        match event {
            ChatEvent::Started { model, .. } => {
                self.model = (*model).to_owned();
                self.write_head();
            }
            ChatEvent::Usage(usage) => self.usage = Some(usage),
            ChatEvent::Extra(extra) if extra.place == ExtraPlace::Usage => {
                self.usage_extra = extra.fields;
            }
            ChatEvent::Extra(extra) if extra.place == ExtraPlace::Answer => {
                self.fields.extend(extra.fields);
                self.write_head();
            }
            ChatEvent::Choice { index, event } => self.choice(index, *event, out),
            ChatEvent::Finished(reason) => {
                self.finish(0, &reason, out);
                self.last(out);
            }
            event => self.choice(0, event, out),
        }
    }

    fn queued(&mut self, place: QueuePosition, out: &mut BytesMut) {
        if !self.queue_events {
            return;
        }
        let wait = place.estimated_wait.map(|wait| wait.as_secs_f64());
        let queue = json!({"status": "queued", "position": place.position, "wait_s": wait});
        out.put_slice(b"data: ");
        put(out, &json!({ "queue": queue }));
        out.put_slice(b"\n\n");
    }

    fn error(&mut self, error: &ApiError, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        put(out, &Problem::of(error).openai());
        out.put_slice(b"\n\n");
    }
}
