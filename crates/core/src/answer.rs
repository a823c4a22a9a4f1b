//! A whole answer: a collected stream.
//!
//! Invariant: nothing a stream said is lost on the way into a [`ChatAnswer`], unknown
//! fields included.

use std::{mem::take, pin::pin, sync::Arc};

use futures_core::Stream;
use futures_util::StreamExt;
use serde_json::{Map, Value};

use crate::{
    ChatError, ChatEvent, Extra, ExtraPlace, FinishReason, Message, Origin, Reasoning,
    ReasoningSeal, ToolCall, ToolCallDelta, Usage,
};

/// A whole answer: a collected [`ChatStream`](crate::ChatStream).
#[derive(Debug, Clone, PartialEq)]
pub struct ChatAnswer {
    /// The provider that answered, where it said so.
    pub provider: Option<Arc<str>>,
    /// The model that answered, where it said so.
    pub model: Option<Arc<str>>,
    /// Where the answer comes from; `None` for a model that was asked just now.
    pub origin: Option<Origin>,
    /// The text.
    pub text: String,
    /// The reasoning, in pieces as the provider closed them.
    pub reasoning: Vec<Reasoning>,
    /// The tool calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// The last usage reported.
    pub usage: Option<Usage>,
    /// Fields Lyceum does not know.
    pub extra: AnswerExtra,
    /// The other choices that were finished, in order, where several were asked for.
    pub others: Vec<Self>,
    /// Why the model stopped.
    pub finish: FinishReason,
}

/// The fields of an answer that Lyceum does not know, by the part they belong to.
///
/// Pieces of a stream are joined: objects field by field, lists one behind the other, and
/// of other values the later one stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerExtra {
    /// Of the answer as a whole.
    pub answer: Map<String, Value>,
    /// Of the choice.
    pub choice: Map<String, Value>,
    /// Of the message.
    pub message: Map<String, Value>,
    /// Of the usage. These replace each other like the usage itself.
    pub usage: Map<String, Value>,
}

impl AnswerExtra {
    fn add(&mut self, extra: Extra) {
        match extra.place {
            ExtraPlace::Answer => self.answer.extend(extra.fields),
            ExtraPlace::Choice => join(&mut self.choice, extra.fields),
            ExtraPlace::Message => join(&mut self.message, extra.fields),
            ExtraPlace::Usage => self.usage = extra.fields,
        }
    }
}

fn join(all: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        match (all.get_mut(&name), value) {
            (Some(Value::Object(all)), Value::Object(more)) => join(all, more),
            (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
            (Some(_), Value::Null) => {}
            (_, value) => {
                all.insert(name, value);
            }
        }
    }
}

impl ChatAnswer {
    /// Reads a stream to its end.
    ///
    /// # Errors
    ///
    /// The stream's own error, or [`ChatError::Truncated`] when it ends without one
    /// and without [`ChatEvent::Finished`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream and so cancels the call.
    pub async fn collect<S>(stream: S) -> Result<Self, ChatError>
    where
        S: Stream<Item = Result<ChatEvent, ChatError>>,
    {
        let mut stream = pin!(stream);
        let mut partial = PartialAnswer::default();
        while let Some(event) = stream.next().await {
            if let Some(answer) = partial.push(event?) {
                return Ok(answer);
            }
        }
        Err(ChatError::Truncated)
    }

    /// The whole reasoning that can be read.
    #[must_use]
    pub fn reasoning_text(&self) -> String {
        self.reasoning.iter().map(|piece| &*piece.text).collect()
    }

    /// The answer as the assistant's message of the conversation.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message {
            reasoning: self.reasoning,
            tool_calls: self.tool_calls,
            ..Message::assistant(self.text)
        }
    }
}

#[derive(Debug, Default)]
struct PartialAnswer {
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    origin: Option<Origin>,
    text: String,
    reasoning: Vec<Reasoning>,
    /// Whether the last piece of reasoning may grow.
    reasons: bool,
    tool_calls: Vec<(u32, ToolCall)>,
    usage: Option<Usage>,
    extra: AnswerExtra,
    others: Vec<(u32, PartialAnswer, Option<ChatAnswer>)>,
}

impl PartialAnswer {
    fn push(&mut self, event: ChatEvent) -> Option<ChatAnswer> {
        match event {
            ChatEvent::Queued(_) => {}
            ChatEvent::Started { provider, model } => {
                self.provider = Some(provider);
                self.model = Some(model);
            }
            ChatEvent::Origin(origin) => self.origin = Some(origin),
            ChatEvent::Text(text) => append(&mut self.text, text),
            ChatEvent::Reasoning(text) => append(self.open_reasoning(), text),
            ChatEvent::ReasoningEnd(seal) => self.seal(seal),
            ChatEvent::ToolCall(delta) => self.tool_call(delta),
            ChatEvent::Usage(usage) => self.usage = Some(usage),
            ChatEvent::Extra(extra) => self.extra.add(extra),
            ChatEvent::Choice { index, event } => self.choice(index, *event),
            ChatEvent::Finished(finish) => return Some(self.finish(finish)),
        }
        None
    }

    fn finish(&mut self, finish: FinishReason) -> ChatAnswer {
        let mut whole = take(self);
        whole.others.sort_by_key(|(index, ..)| *index);
        let others = whole.others.into_iter();
        ChatAnswer {
            provider: whole.provider,
            model: whole.model,
            origin: whole.origin,
            text: whole.text,
            reasoning: whole.reasoning,
            tool_calls: whole.tool_calls.into_iter().map(|(_, call)| call).collect(),
            usage: whole.usage,
            extra: whole.extra,
            others: others.filter_map(|(_, _, answer)| answer).collect(),
            finish,
        }
    }

    fn open_reasoning(&mut self) -> &mut String {
        if !self.reasons || self.reasoning.is_empty() {
            self.reasons = true;
            self.reasoning.push(Reasoning {
                text: String::new(),
                seal: None,
            });
        }
        let last = self.reasoning.len() - 1;
        &mut self.reasoning[last].text
    }

    fn seal(&mut self, seal: ReasoningSeal) {
        match seal {
            ReasoningSeal::Signature(_) => {
                self.open_reasoning();
                if let Some(last) = self.reasoning.last_mut() {
                    last.seal = Some(seal);
                }
            }
            ReasoningSeal::Redacted(_) => self.reasoning.push(Reasoning {
                text: String::new(),
                seal: Some(seal),
            }),
        }
        self.reasons = false;
    }

    fn choice(&mut self, index: u32, event: ChatEvent) {
        let known = self.others.iter().position(|(known, ..)| *known == index);
        let at = known.unwrap_or_else(|| {
            self.others.push((index, Self::default(), None));
            self.others.len() - 1
        });
        let (_, partial, answer) = &mut self.others[at];
        if let Some(finished) = partial.push(event) {
            *answer = Some(finished);
        }
    }

    fn tool_call(&mut self, delta: ToolCallDelta) {
        let calls = &mut self.tool_calls;
        let known = calls.iter().position(|(index, _)| *index == delta.index);
        let at = known.unwrap_or_else(|| {
            calls.push((delta.index, ToolCall::new("", "", "")));
            calls.len() - 1
        });
        let call = &mut calls[at].1;
        if let Some(id) = delta.id {
            call.id = id;
        }
        if let Some(name) = delta.name {
            call.name = name;
        }
        append(&mut call.arguments, delta.arguments);
        call.extra.extend(delta.extra);
    }
}

/// Appends a text, or takes it over where it is the first.
fn append(all: &mut String, more: String) {
    if all.is_empty() {
        *all = more;
    } else {
        all.push_str(&more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, stream};
    use serde_json::json;

    fn collect(events: Vec<Result<ChatEvent, ChatError>>) -> Result<ChatAnswer, ChatError> {
        block_on(ChatAnswer::collect(Box::pin(stream::iter(events))))
    }

    fn answer(events: Vec<ChatEvent>) -> ChatAnswer {
        let end = ChatEvent::Finished(FinishReason::Stop);
        collect(events.into_iter().chain([end]).map(Ok).collect()).unwrap()
    }

    #[test]
    fn pieces_of_tool_calls_are_joined_by_index() {
        let piece = |index, id: Option<&str>, arguments: &str| {
            ChatEvent::ToolCall(ToolCallDelta {
                index,
                id: id.map(Into::into),
                name: id.map(|_| "calculate".into()),
                arguments: arguments.into(),
                ..ToolCallDelta::default()
            })
        };
        let answer = answer(vec![
            piece(0, Some("a"), "{\"x\""),
            piece(1, Some("b"), "{}"),
            piece(0, None, ":1}"),
        ]);
        let arguments: Vec<&str> = answer
            .tool_calls
            .iter()
            .map(|c| c.arguments.as_str())
            .collect();
        assert_eq!(arguments, ["{\"x\":1}", "{}"]);
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let cut = collect(vec![Ok(ChatEvent::Text("half an ans".into()))]);
        assert!(matches!(cut, Err(ChatError::Truncated)));
    }

    #[test]
    fn reasoning_is_kept_in_the_pieces_that_were_sealed() {
        let sealed = |seal| ChatEvent::ReasoningEnd(seal);
        let (proof, secret) = (
            ReasoningSeal::Signature("s".into()),
            ReasoningSeal::Redacted("r".into()),
        );
        let answer = answer(vec![
            ChatEvent::Reasoning("a".into()),
            ChatEvent::Reasoning("b".into()),
            sealed(proof.clone()),
            sealed(secret.clone()),
            ChatEvent::Reasoning("c".into()),
        ]);
        let piece = |text: &str, seal| Reasoning {
            text: text.into(),
            seal,
        };
        let expected = [
            piece("ab", Some(proof)),
            piece("", Some(secret)),
            piece("c", None),
        ];
        assert_eq!(answer.reasoning, expected);
        assert_eq!(answer.reasoning_text(), "abc");
        assert_eq!(answer.into_message().reasoning, expected);
    }

    #[test]
    fn unknown_fields_are_joined_by_place() {
        let extra = |place, fields: Value| {
            let Value::Object(fields) = fields else {
                panic!("{fields}");
            };
            ChatEvent::Extra(Extra { place, fields })
        };
        let answer = answer(vec![
            extra(ExtraPlace::Answer, json!({"id": "1", "tier": "a"})),
            extra(ExtraPlace::Answer, json!({"tier": "b"})),
            extra(
                ExtraPlace::Choice,
                json!({"logprobs": {"content": [1], "refusal": null}}),
            ),
            extra(
                ExtraPlace::Choice,
                json!({"logprobs": {"content": [2, 3], "refusal": null}}),
            ),
            extra(ExtraPlace::Usage, json!({"total": 1})),
            extra(ExtraPlace::Usage, json!({"total": 2})),
        ]);
        assert_eq!(json!(answer.extra.answer), json!({"id": "1", "tier": "b"}));
        let logprobs = json!({"logprobs": {"content": [1, 2, 3], "refusal": null}});
        assert_eq!(json!(answer.extra.choice), logprobs);
        assert_eq!(json!(answer.extra.usage), json!({"total": 2}));
    }

    #[test]
    fn other_choices_are_collected_apart() {
        let of = |index, event| ChatEvent::Choice {
            index,
            event: Box::new(event),
        };
        let answer = answer(vec![
            of(2, ChatEvent::Text("third".into())),
            ChatEvent::Text("first".into()),
            of(1, ChatEvent::Text("sec".into())),
            of(2, ChatEvent::Finished(FinishReason::Length)),
            of(1, ChatEvent::Text("ond".into())),
            of(1, ChatEvent::Finished(FinishReason::Stop)),
            of(3, ChatEvent::Text("cut".into())),
        ]);
        assert_eq!(answer.text, "first");
        let others: Vec<_> = answer
            .others
            .iter()
            .map(|other| (&*other.text, &other.finish))
            .collect();
        let expected = [
            ("second", &FinishReason::Stop),
            ("third", &FinishReason::Length),
        ];
        assert_eq!(others, expected);
    }
}
