//! The ReAct loop: the model reasons, calls tools, reads the results, until it answers.
//!
//! Invariant: at most `max_steps` model calls; once the tokens or the money are spent, the
//! next call is the last. The tools of one step run in parallel, their results keep the
//! order of the calls, and a failing tool is a result, never the end of the loop. The tools
//! given are all that can be called, and none that needs a person's approval is. Tool output
//! is data: it is delimited and grants nothing. Source: Yao et al., "ReAct: Synergizing
//! Reasoning and Acting in Language Models", ICLR 2023.

mod act;
pub(crate) mod durable;
mod limits;
pub(crate) mod observation;
mod text_calls;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Message,
    QueuePosition, Tool, ToolCall, ToolChoice, ToolTrace, Usage,
};

use self::{
    act::{Agreed, act},
    observation::observation,
};

pub use limits::{MaxCost, ReActLimits, TokenRates};

/// Characters of arguments and results kept in a trace.
const TRACE_CHARS: usize = 200;

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
            let last = self.limits.is_last(step, &usage);
            let request = request(&self.tools, &self.limits, native, last, messages.clone())?;
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
}

/// The next call of a loop. The last one keeps the tools that the conversation speaks of,
/// which providers insist on, and may not call them.
fn request(
    tools: &[Arc<dyn Tool>],
    limits: &ReActLimits,
    native: bool,
    last: bool,
    messages: Vec<Message>,
) -> Result<ChatRequest, ChatError> {
    let specs: Vec<_> = match native {
        true => tools.iter().map(|tool| tool.spec().clone()).collect(),
        false => Vec::new(),
    };
    let messages = match native || tools.is_empty() {
        true => messages,
        false => text_calls::told(messages, tools, last)?,
    };
    Ok(ChatRequest {
        tool_choice: match last && !specs.is_empty() {
            true => ToolChoice::None,
            false => ToolChoice::Auto,
        },
        tools: specs,
        max_output: Some(limits.max_output),
        ..ChatRequest::new(messages)
    })
}

/// The tool calls of an answer, which a text-only model writes into its text.
fn wanted(answer: &ChatAnswer, native: bool, tools: &[Arc<dyn Tool>]) -> Vec<ToolCall> {
    match native || tools.is_empty() {
        true => answer.tool_calls.clone(),
        false => text_calls::read(&answer.text),
    }
}

/// The same stream; what it says is seen before it goes on. Boxed, because whoever waits for
/// it holds it more than once.
pub(crate) fn watched<'a>(
    stream: ChatStream,
    watch: &'a dyn Watch,
) -> BoxStream<'a, Result<ChatEvent, ChatError>> {
    let seen = stream.then(async move |event| {
        match &event {
            Ok(ChatEvent::Queued(position)) => watch.saw(ReActEvent::Queued(*position)).await,
            Ok(ChatEvent::Text(text)) => watch.saw(ReActEvent::Text(text.clone())).await,
            _ => {}
        }
        event
    });
    Box::pin(seen)
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
