//! A response as a stream of events, numbered from zero.

use bytes::{BufMut, BytesMut};
use lyceum_core::{ChatEvent, QueuePosition};
use serde_json::{Value, json};

use super::Reply;
use crate::{
    compat::{put, stream::Writer},
    error::ApiError,
};

/// Writes events.
#[derive(Debug)]
pub(crate) struct Events {
    reply: Reply,
    queue_events: bool,
    frames: Frames,
}

/// What numbers events.
#[derive(Debug, Default)]
struct Frames {
    next: u64,
}

impl Frames {
    fn write(&mut self, name: &str, mut fields: Value, out: &mut BytesMut) {
        fields["type"] = name.into();
        fields["sequence_number"] = self.next.into();
        self.next += 1;
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\ndata: ");
        put(out, &fields);
        out.put_slice(b"\n\n");
    }
}

impl Events {
    pub(crate) fn new(reply: Reply, queue_events: bool) -> Self {
        Self {
            reply,
            queue_events,
            frames: Frames::default(),
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.frames.next > 0 {
            return;
        }
        for name in ["response.created", "response.in_progress"] {
            let response = self.reply.response(None);
            self.frames
                .write(name, json!({ "response": response }), out);
        }
    }
}

impl Writer for Events {
    fn event(&mut self, event: ChatEvent, out: &mut BytesMut) {
        // It tells the model's name, which the first events hold.
        if !matches!(event, ChatEvent::Started { .. }) {
            self.start(out);
        }
        let Self { reply, frames, .. } = self;
        reply.push(&event, &mut |name, fields| frames.write(name, fields, out));
        if matches!(event, ChatEvent::Finished(_)) {
            let name = match reply.status() {
                "incomplete" => "response.incomplete",
                _ => "response.completed",
            };
            let response = reply.response(None);
            frames.write(name, json!({ "response": response }), out);
        }
    }

    fn queued(&mut self, place: QueuePosition, out: &mut BytesMut) {
        if !self.queue_events {
            return;
        }
        self.start(out);
        let mut response = self.reply.response(None);
        response["status"] = "queued".into();
        let wait = place.estimated_wait.map(|wait| wait.as_secs_f64());
        let queue = json!({"position": place.position, "wait_s": wait});
        let fields = json!({"response": response, "queue": queue});
        self.frames.write("response.queued", fields, out);
    }

    fn error(&mut self, error: &ApiError, out: &mut BytesMut) {
        self.start(out);
        let response = self.reply.response(Some(error));
        let failed = json!({ "response": response });
        self.frames.write("response.failed", failed, out);
    }
}
