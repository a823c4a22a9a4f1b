//! `agent`: says "begin", calls a tool, and says "end".
//!
//! On the way it shows what a graph can do: it asks, waits, emits, and keeps items in the
//! caller's store. Deliberately absent: a model.

#![expect(
    non_snake_case,
    reason = "the names of the fields are what clients send"
)]

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use lyceum_gateway::langgraph::{Invocation, Messages, Served, Shelf, add_messages, text};
use lyceum_graph::{END, GraphBuilder, NodeError, START, State};
use serde_json::{Value, json};

use super::Ctx;

/// Where the last user's id is kept.
const SHARED: [&str; 2] = ["sharedState", "data"];
/// What the agent is asked to look for in the store.
const ASKED: [&str; 2] = ["inputtedState", "data"];

/// What the agent holds.
#[derive(State, Clone, Debug, Default)]
pub(super) struct Agent {
    #[state(fold = add_messages)]
    messages: Messages,
    /// Who spoke before, for this `user_id`.
    sharedStateValue: Option<Value>,
    /// What the store has of the user.
    sharedStateFromStoreConfig: Option<Value>,
    /// Whether to ask before anything is said.
    interrupt: Option<bool>,
    keyOne: Option<Value>,
    keyTwo: Option<Value>,
    /// How long to wait: seconds, or `steps` of `ms` milliseconds.
    sleep: Option<Value>,
}

/// The graph.
///
/// # Errors
///
/// When it does not compile.
pub(super) fn agent() -> Result<Served> {
    let graph = GraphBuilder::<Agent, Invocation, Value>::new()
        .node("agent", speak)
        .node("tool", tool)
        .node("checkSharedState", check)
        .edge(START, "agent")
        .route(
            "agent",
            ["tool", "checkSharedState", END],
            |agent: &Agent| {
                let first = agent.messages.0.first().and_then(text);
                match (first.unwrap_or_default(), agent.messages.last_text()) {
                    ("should_end", _) | (_, "end") => END,
                    ("___check_state_value", _) => "checkSharedState",
                    _ => "tool",
                }
            },
        )
        .edge("tool", "agent")
        .edge("checkSharedState", END)
        .compile()?;
    Ok(Served::new("agent", graph).with_context_schema(json!({
        "properties": { "model_name": { "type": "string" } },
    })))
}

/// Waits as long as a client wants to see it wait.
async fn pause(sleep: &Value, ctx: &Ctx) -> Result<(), NodeError> {
    if let Some(seconds) = sleep.as_f64() {
        let pause = Duration::try_from_secs_f64(seconds).map_err(NodeError::permanent)?;
        tokio::time::sleep(pause).await;
    }
    let number = |name: &str| sleep.get(name).and_then(Value::as_u64);
    for step in 0..number("steps").unwrap_or_default() {
        ctx.emit(json!({ "type": "sleep", "step": step })).await;
        let pause = Duration::from_millis(number("ms").unwrap_or_default());
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

fn store(ctx: &Ctx) -> Result<&Shelf, NodeError> {
    let store = ctx.shared().store.as_ref();
    store.ok_or_else(|| NodeError::permanent("there is no store"))
}

async fn speak(agent: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    if agent.interrupt == Some(true) {
        let _answer: Value = ctx.interrupt("ask", "i want to interrupt").await?;
    }
    let last = agent.messages.0.last();
    let kind = last
        .and_then(|last| last.get("type"))
        .and_then(Value::as_str);
    if let (Some(sleep), Some("human")) = (&agent.sleep, kind) {
        pause(sleep, &ctx).await?;
    }
    let user = ctx.shared().configurable.get("user_id").cloned();
    let mut shared = Value::Null;
    if let Some(Value::String(user)) = &user {
        let (store, place) = (store(&ctx)?, ["sharedState", user.as_str()]);
        shared = store.get(&place, "user_id").await?.unwrap_or_default();
        if agent.sharedStateFromStoreConfig.is_none() {
            store.put(&SHARED, "user_id", json!({ "id": user })).await?;
        }
        store.put(&place, "user_id", user.as_str().into()).await?;
    }
    let words = if kind == Some("tool") { "end" } else { "begin" };
    let mut message = ctx.message("answer");
    for letter in words.chars() {
        message.send(letter.to_string().into()).await;
    }
    Ok(AgentUpdate::new()
        .messages(Messages::ai(message.id(), words))
        .sharedStateValue(Some(shared))
        .interrupt(Some(false)))
}

async fn tool(agent: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    let said = format!("tool_call__{}", agent.messages.last_text());
    let update = AgentUpdate::new().messages(Messages::tool(&said, "tool_call_id"));
    let kept = store(&ctx)?.get(&SHARED, "user_id").await?;
    Ok(match kept {
        Some(kept) => update.sharedStateFromStoreConfig(Some(kept)),
        None => update,
    })
}

async fn check(_: Arc<Agent>, ctx: Ctx) -> Result<(), NodeError> {
    let item = store(&ctx)?.get(&ASKED, "my_key").await?;
    match item.and_then(|item| item.get("isTrue").cloned()) {
        Some(Value::Bool(true)) => Ok(()),
        _ => Err(NodeError::permanent("the value is not true")),
    }
}
