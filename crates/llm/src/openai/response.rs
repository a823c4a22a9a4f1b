//! An answer in the OpenAI dialect, event by event or whole.

use std::borrow::Cow;

use lyceum_core::{ChatError, ChatEvent, ExtraPlace, FinishReason, Tokens, ToolCallDelta, Usage};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, value::RawValue};

use super::content::Said;
use crate::{
    decode::{Origin, Reader},
    failure::{Complaint, protocol},
    json::{self, Kind, Rest, Template, Text, object},
    wire::unknown_reason,
};

object! {
    /// A chunk of a stream (`choices[].delta`) or a whole answer (`choices[].message`).
    Chunk {
        model: Text<'a> = "model",
        choices: Vec<Choice<'a>> = "choices",
        usage: WireUsage<'a> = "usage",
        error: Value = "error",
        // One says what the document is, the other is noise against eavesdroppers
        // ("Streaming events", `include_obfuscation`): both are passed over unread.
        object: IgnoredAny = "object",
        obfuscation: IgnoredAny = "obfuscation",
    }
}

object! {
    Choice {
        index: u32 = "index",
        delta: Delta<'a> = "delta",
        message: Delta<'a> = "message",
        finish_reason: Text<'a> = "finish_reason",
        // Moonshot reports it here.
        usage: WireUsage<'a> = "usage",
    }
}

object! {
    Delta {
        role: &'a RawValue = "role",
        content: Said<'a> = "content",
        // DeepSeek, Ark, Qwen.
        reasoning_content: Text<'a> = "reasoning_content",
        // vLLM, Ollama, OpenRouter.
        reasoning: Text<'a> = "reasoning",
        // What the model says instead of an answer that it refuses.
        refusal: Text<'a> = "refusal",
        tool_calls: Vec<Call<'a>> = "tool_calls",
    }
}

object! {
    Call {
        index: u32 = "index",
        id: Text<'a> = "id",
        r#type: &'a RawValue = "type",
        function: Function<'a> = "function",
    }
}

object! {
    Function {
        name: Text<'a> = "name",
        // A text; some servers write the object itself.
        arguments: &'a RawValue = "arguments",
    }
}

object! {
    WireUsage {
        prompt_tokens: u64 = "prompt_tokens",
        completion_tokens: u64 = "completion_tokens",
    }
}

impl WireUsage<'_> {
    fn read(self, out: &mut Vec<ChatEvent>) {
        let details = self.rest.read();
        let number = |value: Option<&Value>| value.and_then(Value::as_u64);
        let cached = details
            .get("prompt_tokens_details")
            .and_then(|details| number(details.get("cached_tokens")))
            // The names of DeepSeek and of Moonshot.
            .or_else(|| number(details.get("prompt_cache_hit_tokens")))
            .or_else(|| number(details.get("cached_tokens")));
        out.push(ChatEvent::Usage(Usage {
            input: Tokens(self.prompt_tokens.unwrap_or(0)),
            output: Tokens(self.completion_tokens.unwrap_or(0)),
            cached_input: Tokens(cached.unwrap_or(0)),
            cache_write: Tokens(0),
        }));
        out.extend(json::event(ExtraPlace::Usage, details));
    }
}

/// One choice so far.
#[derive(Default)]
struct Progress {
    /// Whether there was any content.
    spoke: bool,
    /// Whether it was a refusal.
    refused: bool,
    /// Tool calls so far, for servers that do not number them.
    calls: u32,
    finish: Option<FinishReason>,
}

/// More choices than any server gives.
const MAX_CHOICES: usize = 128;

/// Reads one answer.
pub(crate) struct ChunkReader {
    origin: Origin,
    started: bool,
    first: Progress,
    others: Vec<(u32, Progress)>,
    /// The answer's own unknown fields that were sent on.
    known: Known,
    template: Template,
    done: bool,
}

impl ChunkReader {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            started: false,
            first: Progress::default(),
            others: Vec::new(),
            known: Known::default(),
            template: Template::default(),
            done: false,
        }
    }

    /// Takes a chunk. Returns its only text where it had nothing else to say.
    fn take<'a>(
        &mut self,
        chunk: Chunk<'a>,
        whole: bool,
        out: &mut Vec<ChatEvent>,
    ) -> Result<Option<(Kind, Cow<'a, str>)>, ChatError> {
        if let Some(error) = &chunk.error {
            return Err(Complaint::of_value(error).into_stream_error(self.origin.key.as_ref()));
        }
        let before = out.len();
        if !self.started {
            self.started = true;
            out.push(self.origin.started(chunk.model));
        }
        if let Some(news) = self.known.news(&chunk.rest) {
            out.extend(json::event(ExtraPlace::Answer, news));
        }
        let mut only = None;
        for choice in chunk.choices.into_iter().flatten() {
            only = self.choice(choice, whole, out);
        }
        if let Some(usage) = chunk.usage {
            usage.read(out);
        }
        Ok(only.filter(|_| out.len() == before + 1))
    }

    fn choice<'a>(
        &mut self,
        choice: Choice<'a>,
        whole: bool,
        out: &mut Vec<ChatEvent>,
    ) -> Option<(Kind, Cow<'a, str>)> {
        let index = choice.index.unwrap_or(0);
        let at = out.len();
        let progress = match index {
            0 => &mut self.first,
            _ => {
                let known = self.others.iter().position(|(known, _)| *known == index);
                let place = match known {
                    Some(place) => place,
                    None if self.others.len() >= MAX_CHOICES => return None,
                    None => {
                        self.others.push((index, Progress::default()));
                        self.others.len() - 1
                    }
                };
                &mut self.others[place].1
            }
        };
        // Some servers repeat the whole message at the end of a stream.
        let said = if whole { choice.message } else { choice.delta };
        let only = said.and_then(|said| progress.say(said, out));
        out.extend(choice.rest.event(ExtraPlace::Choice));
        let had_finish = progress.finish.is_some();
        progress.stop(choice.finish_reason.as_ref().map(|reason| &*reason.0));
        if index > 0 {
            let finished = progress.finish.clone().filter(|_| !had_finish);
            out.extend(finished.map(ChatEvent::Finished));
            for event in out.drain(at..).collect::<Vec<_>>() {
                let event = Box::new(event);
                out.push(ChatEvent::Choice { index, event });
            }
        }
        if let Some(usage) = choice.usage {
            usage.read(out);
        }
        only.filter(|_| index == 0 && choice.finish_reason.is_none())
    }
}

impl Progress {
    /// Returns the last text said.
    fn say<'a>(
        &mut self,
        said: Delta<'a>,
        out: &mut Vec<ChatEvent>,
    ) -> Option<(Kind, Cow<'a, str>)> {
        let before = out.len();
        let mut last = None;
        let mut say = |kind: Kind, text: Option<Cow<'a, str>>| {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                out.push(kind.event(text.as_ref().to_owned()));
                last = Some((kind, text));
            }
        };
        let reasoning = said.reasoning_content.or(said.reasoning);
        say(Kind::Reasoning, reasoning.map(|text| text.0));
        match said.content {
            Some(Said::Text(text)) => say(Kind::Text, Some(text)),
            Some(Said::Parts(parts)) => {
                for (kind, text) in parts {
                    say(kind, Some(Cow::Owned(text)));
                }
            }
            None => {}
        }
        let refusal = said.refusal.map(|text| text.0);
        self.refused |= refusal.as_ref().is_some_and(|text| !text.is_empty());
        say(Kind::Text, refusal);
        for call in said.tool_calls.into_iter().flatten() {
            out.push(ChatEvent::ToolCall(self.call(call)));
        }
        self.spoke |= out.len() > before;
        out.extend(said.rest.event(ExtraPlace::Message));
        last
    }

    fn stop(&mut self, reason: Option<&str>) {
        self.finish = match reason {
            None | Some("") => return,
            // A model that refuses says so in a field of its own and ends as usual.
            Some("stop") if self.refused => Some(FinishReason::ContentFilter),
            // Some servers end with "stop" although they called tools.
            Some("stop") if self.calls > 0 => Some(FinishReason::ToolCalls),
            Some("stop") => Some(FinishReason::Stop),
            Some("length") => Some(FinishReason::Length),
            Some("tool_calls" | "function_call") => Some(FinishReason::ToolCalls),
            Some("content_filter") => Some(FinishReason::ContentFilter),
            Some(other) => Some(FinishReason::Other(unknown_reason(other))),
        };
    }

    fn call(&mut self, call: Call<'_>) -> ToolCallDelta {
        let id = Text::non_empty(call.id);
        let index = match (call.index, &id) {
            (Some(index), _) => index,
            // Without numbers a new id begins a new call.
            (None, Some(_)) => self.calls,
            (None, None) => self.calls.saturating_sub(1),
        };
        self.calls = self.calls.max(index.saturating_add(1));
        let function = call.function.unwrap_or_default();
        ToolCallDelta {
            index,
            id,
            name: Text::non_empty(function.name),
            arguments: function.arguments.map(arguments).unwrap_or_default(),
            extra: call.rest.read(),
        }
    }
}

fn arguments(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

/// The answer's own unknown fields, which most servers repeat in every chunk.
#[derive(Default)]
struct Known(Vec<(String, String)>);

impl Known {
    /// How many fields are remembered, and how long they may be; others are always news.
    const MOST: usize = 32;
    const LONGEST: usize = 1 << 10;

    fn news(&mut self, rest: &Rest<'_>) -> Option<Map<String, Value>> {
        let mut news = None;
        for (name, raw) in rest.iter() {
            let full = self.0.len() >= Self::MOST;
            let known = self.0.iter_mut().find(|(known, _)| known == name);
            if known.as_ref().is_some_and(|(_, value)| value == raw.get()) {
                continue;
            }
            let Some(value) = json::value(raw) else {
                continue;
            };
            match known {
                Some((_, old)) if raw.get().len() <= Self::LONGEST => raw.get().clone_into(old),
                None if !full && name.len() + raw.get().len() <= Self::LONGEST => {
                    self.0.push((name.to_owned(), raw.get().to_owned()));
                }
                _ => {}
            }
            news.get_or_insert_with(Map::new)
                .insert(name.to_owned(), value);
        }
        news
    }
}

impl Reader for ChunkReader {
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let data = data.trim_ascii();
        if let Some((kind, text)) = self.template.read(data) {
            if !text.is_empty() {
                out.push(kind.event(text.to_owned()));
            }
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        if data.is_empty() {
            return Ok(());
        }
        let chunk = json::document(data)
            .map_err(|error| protocol(format_args!("an event is no chunk: {error}")))?;
        match self.take(chunk, false, out)? {
            Some((kind, text)) => self.template.learn(data, &text, kind),
            None => self.template.forget(),
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let answer = serde_json::from_slice(body)
            .map_err(|error| protocol(format_args!("it is no chat completion: {error}")))?;
        self.take(answer, true, out)?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&self) -> Option<FinishReason> {
        // "[DONE]" says that the answer is complete, for servers that give no reason.
        let implied = match self.first.refused {
            true => FinishReason::ContentFilter,
            false => FinishReason::Stop,
        };
        let implied = (self.done && self.first.spoke).then_some(implied);
        let others = self.done || self.others.iter().all(|(_, other)| other.finish.is_some());
        self.first.finish.clone().or(implied).filter(|_| others)
    }
}
