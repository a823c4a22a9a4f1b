//! Samples for clients of the runs' streams: subgraphs, a stop inside one, a failure, a wait, a
//! graph that depends on its configuration.
//!
//! Invariant: no sample needs a model or the network. Deliberately absent: anything useful.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use lyceum_gateway::langgraph::{Invocation, Messages, Raised, Served, add_messages};
use lyceum_graph::{Command, END, Graph, GraphBuilder, Input, NodeError, START, State, Worker};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::{Ctx, agent};

type Sample<S> = Graph<S, Invocation, Value>;

/// The samples.
///
/// # Errors
///
/// When one does not compile.
pub(super) fn all() -> Result<Vec<Served>> {
    let agent = agent::agent()?.with_config(json!({ "configurable": { "model_name": "openai" } }));
    Ok(vec![
        agent,
        simple()?,
        nested()?,
        weather()?,
        error()?,
        delay()?,
        Served::made("dynamic", dynamic),
        runtime()?,
    ])
}

fn said(text: &str) -> Messages {
    Messages::from_text(text)
}

// === agent_simple ===

#[derive(State, Clone, Debug, Default)]
struct Simple {
    #[state(fold = add_messages)]
    messages: Messages,
    key_one: Option<String>,
    key_two: Option<String>,
    sleep: Option<f64>,
}

const TOOL: Worker<Value> = Worker::new("tool");

fn simple() -> Result<Served> {
    let graph = GraphBuilder::<Simple, Invocation, Value>::new()
        .node("agent", async |state: Arc<Simple>, ctx: Ctx| {
            let configurable = &ctx.shared().configurable;
            if let Some(header) = configurable.get("x-configurable-header") {
                let text = format!("end: {}", header.as_str().unwrap_or_default());
                return Ok(SimpleUpdate::new().messages(said(&text)));
            }
            if let Some(store) = &ctx.shared().store
                && store.get(&["ALL"], "key_one").await?.is_none()
            {
                let text = json!({ "text": state.messages.last_text() });
                store.put(&["ALL"], "key_one", text).await?;
            }
            let is_tool = state.messages.last_text().starts_with("tool_call__");
            let words = if is_tool { "end\u{2028}" } else { "begin" };
            let mut message = ctx.message("answer");
            for letter in words.chars() {
                message.send(letter.to_string().into()).await;
            }
            Ok(SimpleUpdate::new().messages(Messages::ai(message.id(), words)))
        })
        .worker(TOOL, async |last: Value, _: Arc<Simple>, _: Ctx| {
            let text = last.get("content").and_then(Value::as_str);
            let text = format!("tool_call__{}", text.unwrap_or_default());
            Ok(SimpleUpdate::new().messages(Messages::tool(&text, "tool_call_id")))
        })
        .route("agent", ["tool", END], |state: &Simple| {
            let last = state.messages.0.last();
            let send = last.filter(|_| !state.messages.last_text().starts_with("end"));
            // A message is JSON, so that it can be sent.
            let send = send.and_then(|last| TOOL.send(last).ok());
            Vec::from_iter(send)
        })
        .edge(START, "agent")
        .edge("tool", "agent")
        .compile()?;
    Ok(Served::new("agent_simple", graph))
}

// === nested ===

#[derive(State, Clone, Debug, Default)]
struct Child {
    #[state(append)]
    messages: Vec<String>,
    child: Option<String>,
}

#[derive(State, Clone, Debug, Default)]
struct Parent {
    #[state(append)]
    messages: Vec<String>,
    parent: Option<String>,
}

#[derive(State, Clone, Debug, Default)]
struct GrandParent {
    #[state(append)]
    messages: Vec<String>,
}

fn entered(node: &str) -> Vec<String> {
    vec![format!("Entered {node} node")]
}

fn nested() -> Result<Served> {
    let child = GraphBuilder::<Child, Invocation, Value>::new()
        .node("c_one", async |_, _| {
            Ok(ChildUpdate::new().messages(entered("c_one")))
        })
        .node("c_two", async |_, _| {
            Ok(ChildUpdate::new().messages(entered("c_two")))
        })
        .edge(START, "c_one")
        .edge("c_one", "c_two")
        .edge("c_two", END)
        .compile()?;
    let parent = GraphBuilder::<Parent, Invocation, Value>::new()
        .node("p_one", async |_, _| {
            Ok(ParentUpdate::new().messages(entered("p_one")))
        })
        .subgraph(
            "p_two",
            child,
            |outer: &Parent| {
                let update = ChildUpdate::new().messages(outer.messages.clone());
                Input::Update(update)
            },
            |inner: &Child| ParentUpdate::new().messages(inner.messages.clone()),
        )
        .edge(START, "p_one")
        .edge("p_one", "p_two")
        .edge("p_two", END)
        .compile()?;
    let graph = GraphBuilder::<GrandParent, Invocation, Value>::new()
        .node("gp_one", async |_, _| {
            Ok(GrandParentUpdate::new().messages(entered("gp_one")))
        })
        .subgraph(
            "gp_two",
            parent,
            |outer: &GrandParent| {
                let update = ParentUpdate::new().messages(outer.messages.clone());
                Input::Update(update)
            },
            |inner: &Parent| GrandParentUpdate::new().messages(inner.messages.clone()),
        )
        .edge(START, "gp_one")
        .edge("gp_one", "gp_two")
        .edge("gp_two", END)
        .compile()?;
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let one_of = |field: &str| {
        let values = [format!("{field}_one"), format!("{field}_two")];
        json!({ "properties": {
            "messages": texts, field: { "type": "string", "enum": values },
        }})
    };
    Ok(Served::new("nested", graph)
        .with_state_schema("", json!({ "properties": { "messages": texts } }))
        .with_state_schema("gp_two", one_of("parent"))
        .with_state_schema("gp_two|p_two", one_of("child")))
}

// === weather ===

#[derive(State, Clone, Debug, Default)]
struct Weather {
    #[state(fold = add_messages)]
    messages: Messages,
    city: Option<String>,
}

#[derive(State, Clone, Debug, Default)]
struct Router {
    #[state(fold = add_messages)]
    messages: Messages,
    route: Option<String>,
}

/// A subgraph that stops before it answers, so that the city can be corrected.
fn weather() -> Result<Served> {
    let weather = GraphBuilder::<Weather, Invocation, Value>::new()
        .node("model_node", async |_, _| {
            Ok(WeatherUpdate::new().city(Some("San Francisco".to_owned())))
        })
        .node("weather_node", async |state: Arc<Weather>, ctx: Ctx| {
            let city = state.city.as_deref().unwrap_or_default();
            let id = ctx.message("answer").id().to_owned();
            let answer = Messages::ai(&id, &format!("It's sunny in {city}!"));
            Ok(WeatherUpdate::new().messages(answer))
        })
        .edge(START, "model_node")
        .edge("model_node", "weather_node")
        .edge("weather_node", END)
        .interrupt_before("weather_node")
        .compile()?;
    let graph = GraphBuilder::<Router, Invocation, Value>::new()
        .node("router_node", async |_, _| {
            Ok(RouterUpdate::new().route(Some("weather".to_owned())))
        })
        .node("normal_llm_node", async |_, ctx: Ctx| {
            let id = ctx.message("answer").id().to_owned();
            Ok(RouterUpdate::new().messages(Messages::ai(&id, "Hello")))
        })
        .subgraph(
            "weather_graph",
            weather,
            |outer: &Router| {
                let update = WeatherUpdate::new().messages(outer.messages.clone());
                Input::Update(update)
            },
            |inner: &Weather| RouterUpdate::new().messages(inner.messages.clone()),
        )
        .edge(START, "router_node")
        .route(
            "router_node",
            ["weather_graph", "normal_llm_node"],
            |state: &Router| match state.route.as_deref() {
                Some("weather") => "weather_graph",
                _ => "normal_llm_node",
            },
        )
        .edge("weather_graph", END)
        .edge("normal_llm_node", END)
        .compile()?;
    Ok(Served::new("weather", graph))
}

// === error, delay ===

#[derive(State, Clone, Debug, Default)]
struct Talk {
    #[state(fold = add_messages)]
    messages: Messages,
    delay: Option<f64>,
}

fn error() -> Result<Served> {
    let graph = GraphBuilder::<Talk, Invocation, Value>::new()
        .node("error", async |_, _| {
            Err::<(), _>(NodeError::permanent(Raised::new("CustomError", "Boo!")))
        })
        .edge(START, "error")
        .edge("error", END)
        .compile()?;
    Ok(Served::new("error", graph))
}

fn delay() -> Result<Served> {
    let graph = GraphBuilder::<Talk, Invocation, Value>::new()
        .node("long_running", async |state: Arc<Talk>, _| {
            let delay = state.delay.unwrap_or_default();
            let pause = Duration::try_from_secs_f64(delay / 1_000.0);
            tokio::time::sleep(pause.map_err(NodeError::permanent)?).await;
            Ok(TalkUpdate::new().messages(said(&format!("finished after {delay}ms"))))
        })
        .edge(START, "long_running")
        .edge("long_running", END)
        .compile()?;
    Ok(Served::new("delay", graph))
}

// === dynamic, simple_runtime ===

/// One text, or several.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Many(Vec<String>),
            One(String),
        }
        Ok(match Given::deserialize(deserializer)? {
            Given::Many(texts) => Self(texts),
            Given::One(text) => Self(vec![text]),
        })
    }
}

fn add_texts(texts: &mut Texts, written: Texts) {
    texts.0.extend(written.0);
}

#[derive(State, Clone, Debug, Default)]
struct Named {
    #[state(fold = add_texts)]
    messages: Texts,
    node: Option<String>,
}

/// A graph whose only node is called as the client configures it.
fn dynamic(configurable: &Value) -> Result<Sample<Named>, lyceum_graph::CompileError> {
    let name = configurable.get("nodeName").and_then(Value::as_str);
    let name = name.unwrap_or("default").to_owned();
    let node = name.clone();
    GraphBuilder::<Named, Invocation, Value>::new()
        .node(name.as_str(), move |_, _| {
            let node = node.clone();
            async move {
                let update = NamedUpdate::new().messages(Texts(vec![node.clone()]));
                Ok(Command::update(update.node(Some(node))))
            }
        })
        .edge(START, name.as_str())
        .edge(name.as_str(), END)
        .compile()
}

#[derive(State, Clone, Debug, Default)]
struct Runtime {
    message: Option<String>,
    model: Option<Value>,
}

fn runtime() -> Result<Served> {
    let graph = GraphBuilder::<Runtime, Invocation, Value>::new()
        .node("use_context", async |_, ctx: Ctx| {
            let model = ctx.shared().context.get("model").cloned();
            Ok(RuntimeUpdate::new().model(model))
        })
        .edge(START, "use_context")
        .edge("use_context", END)
        .compile()?;
    let models = json!({ "type": "string", "enum": ["openai", "anthropic", "unknown"] });
    Ok(Served::new("simple_runtime", graph)
        .with_context(json!({ "model": "unknown" }))
        .with_context_schema(json!({ "properties": { "model": models } })))
}
