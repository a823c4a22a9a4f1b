//! The same small answer in both dialects and both forms, in parts that can be left out,
//! cut and broken.

use lyceum_llm::Dialect;
use serde_json::json;

use crate::support::{END, Step, chunk};

/// How a provider answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As an event stream.
    Events,
    /// As one JSON document, as it does when it does not stream.
    Document,
}

/// A provider's way to say something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) dialect: Dialect,
    pub(crate) form: Form,
}

/// Input and output tokens of every answer together.
pub(crate) const USED: u64 = 7 + 5;

impl Wire {
    /// The head of an answer in chunks.
    pub(crate) fn head(self) -> Vec<u8> {
        self.head_with("transfer-encoding: chunked\r\n")
    }

    /// The head of an answer with other headers beside its type.
    pub(crate) fn head_with(self, headers: &str) -> Vec<u8> {
        let kind = match self.form {
            Form::Events => "text/event-stream",
            Form::Document => "application/json",
        };
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{headers}\r\n").into_bytes()
    }

    /// What comes before the first word.
    pub(crate) fn before(self) -> String {
        let message = json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 7, "output_tokens": 1}}});
        let block = json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}});
        match (self.dialect, self.form) {
            (Dialect::OpenAi, Form::Events) => event(&json!({"model": "m",
                "choices": [{"index": 0, "delta": {"role": "assistant"}}]})),
            (Dialect::Anthropic, Form::Events) => event(&message) + &event(&block),
            (Dialect::OpenAi, Form::Document) => {
                r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":""#
                    .to_owned()
            }
            (Dialect::Anthropic, Form::Document) => {
                r#"{"id":"msg_1","type":"message","model":"m","content":[{"type":"text","text":""#
                    .to_owned()
            }
        }
    }

    /// Words of the answer.
    pub(crate) fn words(self, words: &str) -> String {
        match (self.dialect, self.form) {
            (Dialect::OpenAi, Form::Events) => event(&json!({"model": "m",
                "choices": [{"index": 0, "delta": {"content": words}}]})),
            (Dialect::Anthropic, Form::Events) => event(&json!({"type": "content_block_delta",
                "index": 0, "delta": {"type": "text_delta", "text": words}})),
            (_, Form::Document) => words.to_owned(),
        }
    }

    /// Why it ends and what it used.
    pub(crate) fn reason(self) -> String {
        let stop = json!({"type": "content_block_stop", "index": 0});
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn",
            "stop_sequence": null}, "usage": {"output_tokens": 5}});
        let finish = json!({"model": "m",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        let usage = json!({"model": "m", "choices": [],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}});
        match (self.dialect, self.form) {
            (Dialect::OpenAi, Form::Events) => event(&finish) + &event(&usage),
            (Dialect::Anthropic, Form::Events) => event(&stop) + &event(&delta),
            (Dialect::OpenAi, Form::Document) => {
                r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#
                    .to_owned()
            }
            (Dialect::Anthropic, Form::Document) => {
                r#""}],"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":5}}"#
                    .to_owned()
            }
        }
    }

    /// What says that nothing follows.
    pub(crate) fn closing(self) -> String {
        match (self.dialect, self.form) {
            (Dialect::OpenAi, Form::Events) => "data: [DONE]\n\n".to_owned(),
            (Dialect::Anthropic, Form::Events) => event(&json!({"type": "message_stop"})),
            (_, Form::Document) => String::new(),
        }
    }

    /// The body of a whole answer.
    pub(crate) fn body(self, words: &str) -> String {
        [
            self.before(),
            self.words(words),
            self.reason(),
            self.closing(),
        ]
        .concat()
    }

    /// A whole answer.
    pub(crate) fn answer(self, words: &str) -> Vec<Step> {
        vec![Step::Send(
            [self.head(), chunk(self.body(words)), END.to_vec()].concat(),
        )]
    }

    /// An answer up to its first words.
    pub(crate) fn begun(self, words: &str) -> Vec<u8> {
        let body = self.before() + &self.words(words);
        [self.head(), chunk(body)].concat()
    }

    /// Bytes that mean nothing and may stand before an answer.
    pub(crate) fn nothing(self) -> &'static str {
        match self.form {
            Form::Events => ": x\n\n",
            Form::Document => " ",
        }
    }

    /// What only the beginning of something can be.
    pub(crate) fn malformed(self) -> String {
        match self.form {
            Form::Events => "data: {\"choices\":[{]}\n\n".to_owned(),
            Form::Document => "{\"choices\":[{]}".to_owned(),
        }
    }

    /// An error of this kind in the middle of an event stream.
    pub(crate) fn error(self, kind: &str) -> String {
        event(&json!({"type": "error", "error": {"type": kind, "message": "no"}}))
    }
}

fn event(data: &serde_json::Value) -> String {
    match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}
