//! An answer in the OpenAI dialect, event by event or whole.

use std::sync::Arc;

use lyceum_core::{ChatError, ChatEvent, FinishReason, Tokens, ToolCallDelta, Usage};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    answer::Reader,
    failure::{Complaint, protocol},
    transport::Transport,
    wire::{Text, unknown_reason},
};

/// A chunk of a stream (`choices[].delta`) or a whole answer (`choices[].message`).
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(default)]
    content: Option<String>,
    /// DeepSeek, Ark, Qwen.
    #[serde(default)]
    reasoning_content: Option<String>,
    /// vLLM, Ollama.
    #[serde(default)]
    reasoning: Option<String>,
    /// What the model says instead of an answer that it refuses.
    #[serde(default)]
    refusal: Option<String>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    /// DeepSeek's name for the cached part.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl WireUsage {
    fn read(&self) -> Usage {
        let details = self.prompt_tokens_details.as_ref();
        let cached = details
            .and_then(|details| details.cached_tokens)
            .or(self.prompt_cache_hit_tokens);
        Usage {
            input: Tokens(self.prompt_tokens.unwrap_or(0)),
            output: Tokens(self.completion_tokens.unwrap_or(0)),
            cached_input: Tokens(cached.unwrap_or(0)),
            cache_write: Tokens(0),
        }
    }
}

/// Reads one answer.
pub(super) struct ChunkReader {
    transport: Arc<Transport>,
    /// The model that was asked, for servers that do not say which one answers.
    asked: Arc<str>,
    started: bool,
    /// Whether there was any content.
    spoke: bool,
    /// Tool calls so far, for servers that do not number them.
    calls: u32,
    finish: Option<FinishReason>,
    done: bool,
}

impl ChunkReader {
    pub(super) fn new(transport: Arc<Transport>, asked: Arc<str>) -> Self {
        Self {
            transport,
            asked,
            started: false,
            spoke: false,
            calls: 0,
            finish: None,
            done: false,
        }
    }

    fn take(
        &mut self,
        chunk: Chunk<'_>,
        whole: bool,
        out: &mut Vec<ChatEvent>,
    ) -> Result<(), ChatError> {
        if let Some(error) = &chunk.error
            && !error.is_null()
        {
            return Err(Complaint::of_value(error).into_stream_error(self.transport.key()));
        }
        if !self.started {
            self.started = true;
            let model = match chunk.model {
                Some(model) => model.0.into(),
                None => Arc::clone(&self.asked),
            };
            let provider = Arc::clone(&self.transport.provider);
            out.push(ChatEvent::Started { provider, model });
        }
        for choice in chunk.choices.into_iter().flatten() {
            if choice.index == 0 {
                // Some servers repeat the whole message at the end of a stream.
                let said = if whole { choice.message } else { choice.delta };
                self.say(said, out);
                self.stop(choice.finish_reason.as_ref().map(|reason| &*reason.0));
            }
        }
        if let Some(usage) = &chunk.usage {
            out.push(ChatEvent::Usage(usage.read()));
        }
        Ok(())
    }

    fn say(&mut self, said: Option<Delta<'_>>, out: &mut Vec<ChatEvent>) {
        let Some(said) = said else { return };
        let before = out.len();
        let full = |text: &String| !text.is_empty();
        let reasoning = said.reasoning_content.or(said.reasoning);
        out.extend(reasoning.filter(full).map(ChatEvent::Reasoning));
        out.extend(said.content.filter(full).map(ChatEvent::Text));
        out.extend(said.refusal.filter(full).map(ChatEvent::Text));
        for call in said.tool_calls.into_iter().flatten() {
            out.push(ChatEvent::ToolCall(self.call(call)));
        }
        self.spoke |= out.len() > before;
    }

    fn stop(&mut self, reason: Option<&str>) {
        self.finish = match reason {
            None | Some("") => return,
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
        let (name, arguments) = match call.function {
            Some(function) => (Text::non_empty(function.name), function.arguments),
            None => (None, None),
        };
        ToolCallDelta {
            index,
            id,
            name,
            arguments: arguments.unwrap_or_default(),
            ..ToolCallDelta::default()
        }
    }
}

impl Reader for ChunkReader {
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        if data.is_empty() {
            return Ok(());
        }
        let chunk = serde_json::from_slice(data)
            .map_err(|error| protocol(format_args!("an event is no chunk: {error}")))?;
        self.take(chunk, false, out)
    }

    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        let answer = serde_json::from_slice(body)
            .map_err(|error| protocol(format_args!("it is no chat completion: {error}")))?;
        self.take(answer, true, out)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&self) -> Option<FinishReason> {
        // "[DONE]" says that the answer is complete, for servers that give no reason.
        let implied = (self.done && self.spoke).then_some(FinishReason::Stop);
        self.finish.clone().or(implied)
    }
}
