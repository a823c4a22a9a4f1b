//! A response while it grows: a model's events go in, items and the vendor's events come out.
//!
//! Invariant: an item is added once, then grown, then done, and a done one is never grown.
//! Calls of functions that a provider interleaves are open side by side; text and
//! reasoning are open alone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use lyceum_core::{
    ChatEvent, Extra, ExtraPlace, FinishReason, ReasoningSeal, ToolCallDelta, Usage,
};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::input::seal;
use crate::{
    catalog::unix_seconds,
    compat::{agent, problem::Problem},
    error::ApiError,
};

/// One item of the output.
#[derive(Debug)]
struct Item {
    kind: Kind,
    /// What was said, thought, or given as arguments.
    text: String,
    done: bool,
}

#[derive(Debug)]
enum Kind {
    Text,
    Reasoning {
        sealed: Option<String>,
    },
    Call {
        index: u32,
        id: String,
        name: String,
    },
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reply {
    id: String,
    created: u64,
    model: String,
    echo: Map<String, Value>,
    /// Whether it can be gone on from; cleared when it could not be kept.
    stored: Arc<AtomicBool>,
    items: Vec<Item>,
    usage: Option<Usage>,
    reasoning_tokens: u64,
    /// What an agent adds to a model's answer.
    added: Map<String, Value>,
    finish: Option<FinishReason>,
}

impl Reply {
    pub(crate) fn new(
        id: &str,
        model: &str,
        echo: Map<String, Value>,
        stored: Arc<AtomicBool>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            created: unix_seconds(),
            model: model.to_owned(),
            echo,
            stored,
            items: Vec::new(),
            usage: None,
            reasoning_tokens: 0,
            added: Map::new(),
            finish: None,
        }
    }

    /// Takes an event, and tells what happened as type and fields.
    pub(crate) fn push(&mut self, event: &ChatEvent, tell: &mut impl FnMut(&str, Value)) {
        match event {
            ChatEvent::Started { model, .. } => model.as_ref().clone_into(&mut self.model),
            ChatEvent::Text(text) if !text.is_empty() => {
                let at = self.single(|kind| matches!(kind, Kind::Text), || Kind::Text, tell);
                self.items[at].text.push_str(text);
                tell(
                    "response.output_text.delta",
                    json!({"item_id": self.item_id(at), "output_index": at, "content_index": 0,
                        "delta": text, "logprobs": []}),
                );
            }
            ChatEvent::Reasoning(text) if !text.is_empty() => {
                let at = self.reasoning(tell);
                self.items[at].text.push_str(text);
                tell(
                    "response.reasoning_summary_text.delta",
                    json!({"item_id": self.item_id(at), "output_index": at, "summary_index": 0,
                        "delta": text}),
                );
            }
            ChatEvent::ReasoningEnd(seal) => self.seal(seal, tell),
            ChatEvent::ToolCall(delta) => self.call(delta, tell),
            ChatEvent::Usage(usage) => self.usage = Some(*usage),
            ChatEvent::Extra(extra) => self.extra(extra),
            ChatEvent::Finished(reason) => {
                for at in 0..self.items.len() {
                    self.done(at, tell);
                }
                self.finish = Some(reason.clone());
            }
            _ => {}
        }
    }

    fn extra(&mut self, extra: &Extra) {
        match extra.place {
            ExtraPlace::Usage => {
                let details = extra.fields.get("completion_tokens_details");
                let tokens = details.and_then(|details| details["reasoning_tokens"].as_u64());
                self.reasoning_tokens = tokens.unwrap_or(self.reasoning_tokens);
            }
            ExtraPlace::Answer => {
                self.added.extend(agent::fields(&extra.fields));
            }
            _ => {}
        }
    }

    fn item_id(&self, at: usize) -> String {
        let kind = match self.items[at].kind {
            Kind::Text => "msg",
            Kind::Reasoning { .. } => "rs",
            Kind::Call { .. } => "fc",
        };
        let id = self.id.strip_prefix("resp_").unwrap_or(&self.id);
        format!("{kind}_{id}_{at}")
    }

    /// The open item of a kind of which one is open at a time.
    fn single(
        &mut self,
        is_it: impl Fn(&Kind) -> bool,
        make: impl FnOnce() -> Kind,
        tell: &mut impl FnMut(&str, Value),
    ) -> usize {
        let last = self.items.len().wrapping_sub(1);
        match self.items.last() {
            Some(item) if !item.done && is_it(&item.kind) => last,
            _ => self.add(make(), tell),
        }
    }

    fn add(&mut self, kind: Kind, tell: &mut impl FnMut(&str, Value)) -> usize {
        for at in 0..self.items.len() {
            // A call whose arguments are not complete goes on beside the new item.
            let waits = matches!(self.items[at].kind, Kind::Call { .. })
                && !is_object(&self.items[at].text);
            if !waits {
                self.done(at, tell);
            }
        }
        self.items.push(Item {
            kind,
            text: String::new(),
            done: false,
        });
        let at = self.items.len() - 1;
        let item = self.item(at, "in_progress");
        tell(
            "response.output_item.added",
            json!({"output_index": at, "item": item}),
        );
        let id = self.item_id(at);
        match self.items[at].kind {
            Kind::Text => tell(
                "response.content_part.added",
                json!({"item_id": id, "output_index": at, "content_index": 0, "part": said("")}),
            ),
            Kind::Reasoning { .. } => tell(
                "response.reasoning_summary_part.added",
                json!({"item_id": id, "output_index": at, "summary_index": 0, "part": thought("")}),
            ),
            Kind::Call { .. } => {}
        }
        at
    }

    fn reasoning(&mut self, tell: &mut impl FnMut(&str, Value)) -> usize {
        let is_it = |kind: &Kind| matches!(kind, Kind::Reasoning { sealed: None });
        self.single(is_it, || Kind::Reasoning { sealed: None }, tell)
    }

    fn seal(&mut self, by: &ReasoningSeal, tell: &mut impl FnMut(&str, Value)) {
        let at = match by {
            ReasoningSeal::Signature(_) => self.reasoning(tell),
            ReasoningSeal::Redacted(_) => self.add(Kind::Reasoning { sealed: None }, tell),
        };
        self.items[at].kind = Kind::Reasoning {
            sealed: Some(seal(by)),
        };
        self.done(at, tell);
    }

    fn call(&mut self, delta: &ToolCallDelta, tell: &mut impl FnMut(&str, Value)) {
        let is_it =
            |item: &Item| matches!(item.kind, Kind::Call { index, .. } if index == delta.index);
        let at = match self.items.iter().position(is_it) {
            Some(at) => at,
            None => {
                let kind = Kind::Call {
                    index: delta.index,
                    id: delta.id.clone().unwrap_or_default(),
                    name: delta.name.clone().unwrap_or_default(),
                };
                self.add(kind, tell)
            }
        };
        // Complete arguments can only be followed by blanks.
        if self.items[at].done || delta.arguments.is_empty() {
            return;
        }
        self.items[at].text.push_str(&delta.arguments);
        tell(
            "response.function_call_arguments.delta",
            json!({"item_id": self.item_id(at), "output_index": at, "delta": delta.arguments}),
        );
    }

    fn done(&mut self, at: usize, tell: &mut impl FnMut(&str, Value)) {
        if std::mem::replace(&mut self.items[at].done, true) {
            return;
        }
        let id = self.item_id(at);
        let Item { kind, text, .. } = &self.items[at];
        match kind {
            Kind::Text => {
                let place = |mut value: Value| {
                    value["item_id"] = id.as_str().into();
                    value["output_index"] = at.into();
                    value["content_index"] = 0.into();
                    value
                };
                let whole = place(json!({"text": text, "logprobs": []}));
                tell("response.output_text.done", whole);
                let part = place(json!({"part": said(text)}));
                tell("response.content_part.done", part);
            }
            Kind::Reasoning { .. } => {
                tell(
                    "response.reasoning_summary_text.done",
                    json!({"item_id": id, "output_index": at, "summary_index": 0, "text": text}),
                );
                tell(
                    "response.reasoning_summary_part.done",
                    json!({"item_id": id, "output_index": at, "summary_index": 0, "part": thought(text)}),
                );
            }
            Kind::Call { name, .. } => tell(
                "response.function_call_arguments.done",
                json!({"item_id": id, "output_index": at, "name": name, "arguments": text}),
            ),
        }
        let item = self.item(at, "completed");
        tell(
            "response.output_item.done",
            json!({"output_index": at, "item": item}),
        );
    }

    fn item(&self, at: usize, status: &str) -> Value {
        let Item { kind, text, done } = &self.items[at];
        let id = self.item_id(at);
        match kind {
            Kind::Text => {
                let content = if *done { vec![said(text)] } else { Vec::new() };
                json!({"type": "message", "id": id, "status": status, "role": "assistant",
                    "content": content})
            }
            Kind::Reasoning { sealed } => {
                let has_text = *done && !text.is_empty();
                let summary = if has_text {
                    vec![thought(text)]
                } else {
                    Vec::new()
                };
                let mut item = json!({"type": "reasoning", "id": id, "summary": summary});
                if let Some(sealed) = sealed {
                    item["encrypted_content"] = sealed.as_str().into();
                }
                item
            }
            Kind::Call { id: call, name, .. } => json!({
                "type": "function_call", "id": id, "status": status, "call_id": call,
                "name": name, "arguments": if *done { text.as_str() } else { "" },
            }),
        }
    }

    /// The items that are done.
    pub(crate) fn output(&self) -> Vec<Value> {
        let done = (0..self.items.len()).filter(|at| self.items[*at].done);
        done.map(|at| self.item(at, "completed")).collect()
    }

    /// How it ended, as the event's name says too.
    pub(crate) fn status(&self) -> &'static str {
        match self.finish {
            None => "in_progress",
            Some(FinishReason::Length | FinishReason::ContentFilter) => "incomplete",
            Some(_) => "completed",
        }
    }

    /// The response as it is now, or as `failure` left it.
    pub(crate) fn response(&self, failure: Option<&ApiError>) -> Value {
        let reason = match self.finish {
            Some(FinishReason::Length) => json!({"reason": "max_output_tokens"}),
            Some(FinishReason::ContentFilter) => json!({"reason": "content_filter"}),
            _ => Value::Null,
        };
        let mut response = json!({
            "id": self.id, "object": "response", "created_at": self.created,
            "status": self.status(), "background": false, "error": null,
            "incomplete_details": reason, "model": self.model, "output": self.output(),
            "store": self.stored.load(Relaxed), "usage": self.usage.map(|used| self.usage(used)),
        });
        if let Value::Object(fields) = &mut response {
            fields.extend(self.echo.clone());
            fields.extend(self.added.clone());
        }
        if let Some(error) = failure {
            let problem = Problem::of(error).openai();
            let code = match problem["error"]["code"].as_str() {
                Some("rate_limit_exceeded") => "rate_limit_exceeded",
                _ if error.compat_status().is_client_error() => "invalid_prompt",
                _ => "server_error",
            };
            response["status"] = "failed".into();
            response["store"] = false.into();
            response["error"] = json!({"code": code, "message": problem["error"]["message"]});
        }
        response
    }

    fn usage(&self, used: Usage) -> Value {
        json!({
            "input_tokens": used.input.0,
            "input_tokens_details": {
                "cached_tokens": used.cached_input.0, "cache_write_tokens": used.cache_write.0,
            },
            "output_tokens": used.output.0,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": used.total().0,
        })
    }
}

fn said(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn thought(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}
