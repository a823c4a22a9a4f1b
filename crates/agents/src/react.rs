//! The ReAct loop: the model reasons, calls tools, reads the results, until it answers.
//!
//! Invariant: at most `max_steps` model calls and `max_tokens` tokens; the tools of one
//! step run in parallel, their results keep the order of the calls, and a failing tool
//! is a result, never the end of the loop. The tools given are all that can be called, and
//! none that needs a person's approval is. Tool output is data: it is delimited and grants
//! nothing. Source: Yao et al., "ReAct: Synergizing Reasoning and Acting in
//! Language Models", ICLR 2023.

mod act;
pub(crate) mod durable;
mod observation;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, future::join_all};
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Message,
    QueuePosition, Tokens, Tool, ToolCall, ToolChoice, ToolTrace, Usage,
};
use serde_json::Value;

use self::{
    act::{Agreed, act},
    observation::observation,
};
use crate::structured::extract_json;

/// Characters of arguments and results kept in a trace.
const TRACE_CHARS: usize = 200;

/// What a loop may spend.
#[derive(Debug, Clone, Copy)]
pub struct ReActLimits {
    /// Model calls, the last of which gets no tools and so must answer. Default 4.
    pub max_steps: usize,
    /// Input and output tokens of all calls together. Default 60,000.
    pub max_tokens: Tokens,
    /// Output tokens of one call, silent reasoning included. Default 4,000.
    pub max_output: Tokens,
}

impl Default for ReActLimits {
    fn default() -> Self {
        Self {
            max_steps: 4,
            max_tokens: Tokens(60_000),
            max_output: Tokens(4_000),
        }
    }
}

/// What happens on the way, for whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum ReActEvent {
    /// A model call waits for its turn.
    Queued(QueuePosition),
    /// More of the answer's text.
    Text(String),
    /// A tool was called.
    Tool(ToolTrace),
}

/// Somebody who watches a loop. The loop waits for it, so a slow watcher slows the loop.
#[async_trait]
pub trait Watch: Send + Sync {
    /// Sees an event.
    async fn saw(&self, event: ReActEvent);
}

/// The end of a loop.
#[derive(Debug, Clone)]
pub struct ReActOutcome {
    /// The model's final answer.
    pub answer: ChatAnswer,
    /// The tool calls made, in order.
    pub tools: Vec<ToolTrace>,
    /// All model calls together.
    pub usage: Usage,
}

/// A model with tools.
#[derive(Debug, Clone)]
pub struct ReAct {
    model: Arc<dyn ChatModel>,
    tools: Vec<Arc<dyn Tool>>,
    limits: ReActLimits,
}

impl ReAct {
    /// A loop over a model and the tools it may call.
    #[must_use]
    pub fn new(model: Arc<dyn ChatModel>, tools: Vec<Arc<dyn Tool>>, limits: ReActLimits) -> Self {
        Self {
            model,
            tools,
            limits,
        }
    }

    /// Runs the loop to the model's answer.
    ///
    /// # Errors
    ///
    /// The model's [`ChatError`]. Tools never fail the loop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the running model and tool calls.
    pub async fn run(
        &self,
        call: &CallContext,
        mut messages: Vec<Message>,
        watch: &dyn Watch,
    ) -> Result<ReActOutcome, ChatError> {
        let native = self.model.traits().native_tools;
        let mut tools = Vec::new();
        let mut usage = Usage::default();
        let mut step = 1;
        loop {
            let last = step >= self.limits.max_steps || usage.total() >= self.limits.max_tokens;
            let request = self.request(messages.clone(), native && !last);
            let stream = self.model.stream(call.clone(), Arc::new(request));
            let answer = ChatAnswer::collect(watched(stream, watch)).await?;
            usage += answer.usage.unwrap_or_default();
            let wanted = wanted(&answer, native, &self.tools);
            if last || wanted.is_empty() {
                return Ok(ReActOutcome {
                    answer,
                    tools,
                    usage,
                });
            }
            let results = join_all(
                wanted
                    .iter()
                    .enumerate()
                    .map(|(at, wish)| act(&self.tools, call, at, wish, Agreed::NotAsked)),
            )
            .await;
            messages.push(if native {
                answer.into_message()
            } else {
                Message::assistant(answer.text)
            });
            for (wish, trace) in wanted.iter().zip(results) {
                messages.push(observation(wish, &trace, native));
                let trace = shorten(trace);
                watch.saw(ReActEvent::Tool(trace.clone())).await;
                tools.push(trace);
            }
            step += 1;
        }
    }

    fn request(&self, messages: Vec<Message>, offer_tools: bool) -> ChatRequest {
        let tools = match offer_tools {
            true => self.tools.iter().map(|tool| tool.spec().clone()).collect(),
            false => Vec::new(),
        };
        ChatRequest {
            tools,
            tool_choice: ToolChoice::Auto,
            max_output: Some(self.limits.max_output),
            ..ChatRequest::new(messages)
        }
    }
}

/// The tool calls of an answer; a text-only model writes `{"tool": …, "arguments": …}`.
fn wanted(answer: &ChatAnswer, native: bool, tools: &[Arc<dyn Tool>]) -> Vec<ToolCall> {
    if native || tools.is_empty() {
        return answer.tool_calls.clone();
    }
    let value = extract_json(&answer.text);
    let name = value
        .as_ref()
        .and_then(|value| value.get("tool"))
        .and_then(Value::as_str);
    match (name, &value) {
        (Some(name), Some(value)) => {
            let arguments = value.get("arguments").cloned().unwrap_or_default();
            vec![ToolCall::new("", name, arguments.to_string())]
        }
        _ => Vec::new(),
    }
}

/// The same stream; what it says is seen before it goes on.
pub(crate) fn watched<'a>(
    stream: ChatStream,
    watch: &'a dyn Watch,
) -> impl Stream<Item = Result<ChatEvent, ChatError>> + Send + 'a {
    stream.then(async move |event| {
        match &event {
            Ok(ChatEvent::Queued(position)) => watch.saw(ReActEvent::Queued(*position)).await,
            Ok(ChatEvent::Text(text)) => watch.saw(ReActEvent::Text(text.clone())).await,
            _ => {}
        }
        event
    })
}

fn shorten(trace: ToolTrace) -> ToolTrace {
    let cap = |text: String| match text.char_indices().nth(TRACE_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    };
    ToolTrace {
        arguments: cap(trace.arguments),
        result: cap(trace.result),
        ..trace
    }
}
