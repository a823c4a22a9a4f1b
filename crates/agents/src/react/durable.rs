//! The ReAct loop as a graph, so that it can wait for a person.
//!
//! Two nodes take turns: `think` calls the model, `act` runs the tools that it wishes for.
//! Tools that need approval make `act` an interrupt: the run ends, its thread is kept, and
//! goes on when somebody answers each question with `true` or `false`, perhaps in another
//! process. Invariants: the model is not asked again for what it said before the interrupt;
//! a tool call that ended is recorded and not made again.

use std::sync::Arc;

use futures_util::future::join_all;
use lyceum_core::{
    Approval, CallContext, ChatAnswer, ChatModel, Message, Reasoning, Role, Tool, ToolCall,
    ToolTrace, Usage,
};
use lyceum_graph::{CompileError, Context, END, Graph, GraphBuilder, NodeError, START, State};
use serde::{Deserialize, Serialize};

use super::{
    ReActLimits,
    act::{Agreed, act, find},
    observation::observation,
    request, wanted,
};

const THINK: &str = "think";
const ACT: &str = "act";

/// One message of a durable loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Said {
    /// Instructions.
    System {
        /// The words.
        text: String,
    },
    /// The person, or what a tool answered to a model without native tool calls.
    User {
        /// The words.
        text: String,
    },
    /// The model.
    Assistant {
        /// The words.
        text: String,
        /// What it wishes for.
        calls: Vec<ToolCall>,
        /// What it was reasoned by, for providers that want it back.
        reasoning: Vec<Reasoning>,
    },
    /// A tool.
    Tool {
        /// Which call it answers.
        call_id: String,
        /// The result between its delimiters.
        text: String,
    },
}

impl Said {
    fn message(&self) -> Message {
        match self {
            Self::System { text } => Message::system(text.clone()),
            Self::User { text } => Message::user(text.clone()),
            Self::Assistant {
                text,
                calls,
                reasoning,
            } => Message {
                reasoning: reasoning.clone(),
                tool_calls: calls.clone(),
                ..Message::assistant(text.clone())
            },
            Self::Tool { call_id, text } => Message::tool(call_id.clone(), text.clone()),
        }
    }

    fn observed(message: &Message) -> Self {
        let text = message.content.text();
        match (message.role, &message.tool_call_id) {
            (Role::Tool, Some(call_id)) => Self::Tool {
                call_id: call_id.clone(),
                text,
            },
            _ => Self::User { text },
        }
    }
}

/// What a durable loop knows; its `messages` are the input, its `answer` the result.
#[derive(State, Debug, Clone, Default)]
pub struct ReActState {
    /// The conversation.
    #[state(append)]
    pub messages: Vec<Said>,
    /// The tool calls that the model wishes for now.
    pub wishes: Vec<ToolCall>,
    /// The tool calls made, in order.
    #[state(append)]
    pub tools: Vec<ToolTrace>,
    /// All model calls together.
    #[state(add)]
    pub usage: Usage,
    /// The model calls made.
    #[state(add)]
    pub steps: u64,
    /// The model's final answer.
    pub answer: String,
}

/// What a person is asked: the payload of an interrupt. The answer is a boolean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// The tool.
    pub tool: String,
    /// Its arguments, as the model wrote them.
    pub arguments: String,
}

#[derive(Debug)]
struct Parts {
    model: Arc<dyn ChatModel>,
    tools: Vec<Arc<dyn Tool>>,
    limits: ReActLimits,
}

type Ctx = Context<CallContext, ()>;

/// A ReAct loop that waits for a person where a tool needs one. Each run is given its
/// [`CallContext`] as what its nodes share.
///
/// # Errors
///
/// [`CompileError`] when the graph does not compile, which only a change of its code can
/// cause.
pub fn react_graph(
    model: Arc<dyn ChatModel>,
    tools: Vec<Arc<dyn Tool>>,
    limits: ReActLimits,
) -> Result<Graph<ReActState, CallContext, ()>, CompileError> {
    let parts = Arc::new(Parts {
        model,
        tools,
        limits,
    });
    let acting = parts.clone();
    GraphBuilder::new()
        .node(THINK, move |state, ctx| think(parts.clone(), state, ctx))
        .node(ACT, move |state, ctx| perform(acting.clone(), state, ctx))
        .edge(START, THINK)
        .route(THINK, [ACT, END], |state: &ReActState| {
            match state.wishes.is_empty() {
                true => END,
                false => ACT,
            }
        })
        .edge(ACT, THINK)
        .compile()
}

async fn think(
    parts: Arc<Parts>,
    state: Arc<ReActState>,
    ctx: Ctx,
) -> Result<ReActStateUpdate, NodeError> {
    let native = parts.model.traits().native_tools;
    let step = usize::try_from(state.steps).map_or(usize::MAX, |steps| steps.saturating_add(1));
    let last = parts.limits.is_last(step, &state.usage);
    let messages: Vec<Message> = state.messages.iter().map(Said::message).collect();
    let request = request(&parts.tools, &parts.limits, native, last, messages)
        .map_err(NodeError::permanent)?;
    let call = CallContext::clone(ctx.shared());
    let stream = parts.model.stream(call, Arc::new(request));
    let answer = ChatAnswer::collect(stream)
        .await
        .map_err(NodeError::permanent)?;
    let wishes = match last {
        true => Vec::new(),
        false => wanted(&answer, native, &parts.tools),
    };
    let usage = answer.usage.unwrap_or_default();
    let text = answer.text.clone();
    let message = answer.into_message();
    let said = Said::Assistant {
        text: text.clone(),
        calls: match native && !wishes.is_empty() {
            true => message.tool_calls,
            false => Vec::new(),
        },
        reasoning: message.reasoning,
    };
    let update = ReActStateUpdate::new()
        .messages([said])
        .usage(usage)
        .steps(1u64);
    Ok(match wishes.is_empty() {
        true => update.wishes(wishes).answer(text),
        false => update.wishes(wishes),
    })
}

async fn perform(
    parts: Arc<Parts>,
    state: Arc<ReActState>,
    ctx: Ctx,
) -> Result<ReActStateUpdate, NodeError> {
    // All questions are asked before anything is done, and at once.
    let asked = state.wishes.iter().enumerate().map(async |(at, wish)| {
        let tool = find(&parts.tools, wish);
        match tool.map(|tool| tool.traits().approval) {
            Some(Approval::Needed) => {
                let request = ApprovalRequest {
                    tool: wish.name.clone(),
                    arguments: wish.arguments.clone(),
                };
                match ctx.interrupt(&format!("approve {at}"), request).await? {
                    true => Ok(Agreed::Yes),
                    false => Ok(Agreed::No),
                }
            }
            _ => Ok(Agreed::NotAsked),
        }
    });
    let agreed: Vec<Result<Agreed, NodeError>> = join_all(asked).await;
    let agreed = agreed.into_iter().collect::<Result<Vec<_>, _>>()?;
    let calls = state.wishes.iter().zip(agreed).enumerate();
    let calls = calls.map(async |(at, (wish, agreed))| {
        let call = ctx.shared();
        let work = async |_| Ok(act(&parts.tools, call, at, wish, agreed).await);
        ctx.once(&format!("call {at}"), work).await
    });
    let traces: Vec<Result<ToolTrace, NodeError>> = join_all(calls).await;
    let traces = traces.into_iter().collect::<Result<Vec<_>, _>>()?;
    let native = parts.model.traits().native_tools;
    let results = state.wishes.iter().zip(&traces);
    let results = results.map(|(wish, trace)| Said::observed(&observation(wish, trace, native)));
    Ok(ReActStateUpdate::new()
        .messages(results.collect::<Vec<_>>())
        .wishes(Vec::new())
        .tools(traces))
}
