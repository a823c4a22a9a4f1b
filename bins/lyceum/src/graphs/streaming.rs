//! Samples for clients of a thread's stream: messages, tools, a question, a subgraph.
//!
//! Invariant: no sample needs a model or the network. Deliberately absent: anything useful.

use std::sync::Arc;

use anyhow::Result;
use lyceum_gateway::langgraph::{
    Invocation, Messages, Served, add_messages, tool_finished, tool_started,
};
use lyceum_graph::{END, GraphBuilder, Input, NodeError, START, State};
use serde_json::{Value, json};

use super::Ctx;

/// The samples.
///
/// # Errors
///
/// When one does not compile.
pub(super) fn all() -> Result<Vec<Served>> {
    Ok(vec![agent()?, tools()?, deep()?, factory()?])
}

/// Messages as they are.
fn messages(all: Value) -> Result<Messages, NodeError> {
    serde_json::from_value(all).map_err(NodeError::permanent)
}

// === agent ===

#[derive(State, Clone, Debug, Default)]
struct Agent {
    #[state(fold = add_messages)]
    messages: Messages,
    value: Option<String>,
    #[state(append)]
    items: Vec<String>,
}

async fn progress(ctx: &Ctx, step: &str, phase: &str) {
    ctx.emit(json!({ "name": "progress", "step": step, "phase": phase }))
        .await;
}

fn did(item: &str) -> AgentUpdate {
    AgentUpdate::new().items(vec![item.to_owned()])
}

fn agent() -> Result<Served> {
    let graph = GraphBuilder::<Agent, Invocation, Value>::new()
        .node("stream_message", stream_message)
        .node("call_tool", call_tool)
        .node("ask_human", ask_human)
        .node("run_subgraph", run_subgraph)
        .edge(START, "stream_message")
        .edge("stream_message", "call_tool")
        .edge("call_tool", "ask_human")
        .edge("ask_human", "run_subgraph")
        .edge("run_subgraph", END)
        .compile()?;
    Ok(Served::new("agent", graph))
}

async fn stream_message(_: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    progress(&ctx, "stream_message", "start").await;
    let mut message = ctx.message("answer");
    for piece in ["Hello,", " world!"] {
        message.send(piece.into()).await;
    }
    progress(&ctx, "stream_message", "end").await;
    Ok(did("streamed")
        .messages(Messages::ai(message.id(), "Hello, world!"))
        .value(Some("x".to_owned())))
}

async fn call_tool(_: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    progress(&ctx, "call_tool", "start").await;
    let called = called("v3");
    let found = found("v3");
    progress(&ctx, "call_tool", "end").await;
    Ok(did("tool").messages(messages(json!([called, found]))?))
}

async fn ask_human(_: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    progress(&ctx, "ask_human", "start").await;
    let answer: Value = ctx.interrupt("ask", "Are we good?").await?;
    progress(&ctx, "ask_human", "end").await;
    let answer = answer
        .as_str()
        .map_or_else(|| answer.to_string(), str::to_owned);
    let id = ctx.message("answer").id().to_owned();
    Ok(did("asked").messages(Messages::ai(&id, &format!("Human said: {answer}"))))
}

async fn run_subgraph(_: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    progress(&ctx, "run_subgraph", "start").await;
    progress(&ctx, "sub_node", "start").await;
    progress(&ctx, "sub_node", "end").await;
    progress(&ctx, "run_subgraph", "end").await;
    let id = ctx.message("answer").id().to_owned();
    Ok(did("sub").messages(Messages::ai(&id, "from subgraph")))
}

// === tools_agent ===

const CALL: &str = "tc-1";

/// A model's message that calls the tool.
fn called(query: &str) -> Value {
    json!({
        "type": "ai", "content": "", "invalid_tool_calls": [],
        "tool_calls": [{
            "id": CALL, "name": "search", "args": { "query": query }, "type": "tool_call",
        }],
    })
}

/// What the tool finds.
fn found(query: &str) -> Value {
    json!({
        "type": "tool", "name": "search", "tool_call_id": CALL, "status": "success",
        "content": format!("result for '{query}'"),
    })
}

#[derive(State, Clone, Debug, Default)]
struct Chat {
    #[state(fold = add_messages)]
    messages: Messages,
}

/// A model that calls a tool once, and the tool.
fn tools() -> Result<Served> {
    let graph = GraphBuilder::<Chat, Invocation, Value>::new()
        .node("model", async |chat: Arc<Chat>, ctx: Ctx| {
            let last = chat.messages.0.last();
            let kind = last.and_then(|last| last.get("type")?.as_str());
            if kind == Some("tool") {
                let mut message = ctx.message("answer");
                message.send("done.".into()).await;
                return Ok(ChatUpdate::new().messages(Messages::ai(message.id(), "done.")));
            }
            Ok(ChatUpdate::new().messages(messages(json!([called("v3")]))?))
        })
        .node("tools", async |_, ctx: Ctx| {
            let input = json!({ "query": "v3" });
            ctx.emit(tool_started(CALL, "search", &input)).await;
            let found = found("v3");
            ctx.emit(tool_finished(CALL, &found)).await;
            Ok(ChatUpdate::new().messages(messages(json!([found]))?))
        })
        .edge(START, "model")
        .route("model", ["tools", END], |chat: &Chat| {
            let last = chat.messages.0.last();
            let calls = last.and_then(|last| last.get("tool_calls")?.as_array());
            match calls {
                Some(calls) if !calls.is_empty() => "tools",
                _ => END,
            }
        })
        .edge("tools", "model")
        .compile()?;
    Ok(Served::new("tools_agent", graph))
}

// === deep_agent, factory_agent ===

fn deep() -> Result<Served> {
    let child = GraphBuilder::<Chat, Invocation, Value>::new()
        .node("research", async |_, ctx: Ctx| {
            let id = ctx.message("answer").id().to_owned();
            let text = "A thread's stream tells events by their channel.";
            Ok(ChatUpdate::new().messages(Messages::ai(&id, text)))
        })
        .edge(START, "research")
        .edge("research", END)
        .compile()?;
    let graph = GraphBuilder::<Chat, Invocation, Value>::new()
        .subgraph(
            "researcher",
            child,
            |outer: &Chat| Input::Update(ChatUpdate::new().messages(outer.messages.clone())),
            |inner: &Chat| ChatUpdate::new().messages(inner.messages.clone()),
        )
        .edge(START, "researcher")
        .edge("researcher", END)
        .compile()?;
    Ok(Served::new("deep_agent", graph))
}

#[derive(State, Clone, Debug, Default)]
struct Echo {
    text: Option<String>,
    access_context: Option<String>,
    is_for_execution: Option<bool>,
}

fn factory() -> Result<Served> {
    let make = |_: &Value| {
        GraphBuilder::<Echo, Invocation, Value>::new()
            .node("echo", async |state: Arc<Echo>, _| {
                let text = format!("{} echoed", state.text.as_deref().unwrap_or_default());
                Ok(EchoUpdate::new()
                    .text(Some(text))
                    .access_context(Some("threads.create_run".to_owned()))
                    .is_for_execution(Some(true)))
            })
            .edge(START, "echo")
            .edge("echo", END)
            .compile()
    };
    Ok(Served::made("factory_agent", make))
}
