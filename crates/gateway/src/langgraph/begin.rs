//! How a run begins: what is configured, and from which checkpoint with what.
//!
//! Invariant: what a run was asked is read from its record alone, so it begins the same way
//! after a restart. Deliberately absent: the run itself.

use std::{collections::BTreeMap, sync::Arc};

use lyceum_core::{Scope, TenantId};
use lyceum_graph::{Answers, CheckpointId, Durability, Interrupt, Namespace};
use serde_json::{Map, Value, json};

use super::{
    erased::{Erased, Goto, Start, Write},
    platform::Platform,
    refusal::Refusal,
    resources::{Assistant, Run, Thread},
    served::Invocation,
    shelf::Shelf,
    states::{self, OFFSET, Reader, offset},
};

/// A run that may begin.
pub(crate) struct Begun {
    pub(crate) graph: Arc<dyn Erased>,
    pub(crate) thread: Thread,
    pub(crate) configurable: Map<String, Value>,
    pub(crate) invocation: Invocation,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) at: Option<CheckpointId>,
    pub(crate) start: Start,
    /// The state that it begins on, and the fields that were written.
    pub(crate) before: Value,
    pub(crate) fields: Vec<String>,
}

/// Fields of a configuration, the assistant's below the run's.
fn merged(of: &[&Value], name: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for config in of {
        if let Some(Value::Object(fields)) = config.get(name) {
            all.extend(fields.clone());
        }
    }
    all
}

fn configurable(assistant: &Assistant, run: &Run, scope: &Scope) -> (Map<String, Value>, Value) {
    let null = Value::Null;
    let asked = &run.asked;
    let config = asked.get("config").unwrap_or(&null);
    let contexts = json!({
        "of": [assistant.context, asked.get("context").unwrap_or(&null)],
    });
    let contexts = contexts["of"].as_array().cloned().unwrap_or_default();
    let mut context = Map::new();
    for fields in contexts.iter().filter_map(Value::as_object) {
        context.extend(fields.clone());
    }
    let mut configurable = run.headers.clone();
    configurable.extend(merged(&[&assistant.config, config], "configurable"));
    configurable.extend(context.clone());
    if context.is_empty() {
        context.clone_from(&configurable);
    }
    for (name, value) in [
        ("run_id", run.run_id.as_str()),
        ("thread_id", &run.thread_id),
        ("assistant_id", &run.assistant_id),
        ("graph_id", &assistant.graph_id),
        ("langgraph_auth_user_id", scope.user.as_str()),
    ] {
        configurable.insert(name.to_owned(), value.into());
    }
    (configurable, Value::Object(context))
}

/// Reads what a run was asked.
pub(crate) async fn begin(
    platform: &Platform,
    owner: &TenantId,
    scope: &Scope,
    run: &Run,
    again: bool,
) -> Result<Begun, Refusal> {
    let asked = &run.asked;
    let assistant = platform.assistant(owner, &run.assistant_id).await?;
    let assistant = assistant
        .current()
        .cloned()
        .ok_or_else(|| Refusal::not_found("Assistant"))?;
    let (configurable, context) = configurable(&assistant, run, scope);
    let served = platform.graph(&assistant.graph_id)?;
    let mut thread = platform.thread(owner, &run.thread_id).await?;
    thread
        .metadata
        .insert("graph_id".to_owned(), assistant.graph_id.clone().into());
    thread.config = json!({ "configurable": configurable });
    let graph = served.graph(&Value::Object(configurable.clone()))?;
    let mut metadata = run.metadata.clone();
    for (name, value) in [
        ("run_id", &run.run_id),
        ("thread_id", &run.thread_id),
        ("assistant_id", &run.assistant_id),
        ("graph_id", &assistant.graph_id),
    ] {
        metadata.insert(name.to_owned(), value.as_str().into());
    }
    let root = Namespace::default();
    let head = platform.head(owner, &thread).await?;
    let mut at = head.and_then(|(id, is_newest)| (!is_newest).then_some(id));
    let null = Value::Null;
    let config = asked.get("config").unwrap_or(&null);
    let from = asked
        .get("checkpoint_id")
        .or_else(|| asked.get("checkpoint")?.get("checkpoint_id"))
        .or_else(|| config.get("configurable")?.get("checkpoint_id"));
    if let Some(from) = from.and_then(Value::as_str).and_then(states::parse) {
        at = Some(from.id);
    }
    let reader = Reader::open(platform, owner, &thread)?;
    let reader = reader.ok_or_else(|| Refusal::not_found("Graph"))?;
    let newest = at.map(states::At::from);
    let found = reader.snapshot(&root, newest).await?;
    let head = found.as_ref().map(|found| &found.checkpoint);
    let is_mine = |run_id: &Value| run_id.as_str() == Some(run.run_id.as_str());
    let was_begun = head.is_some_and(|head| head.metadata.get("run_id").is_some_and(is_mine));
    let mut ahead = head.map(offset);
    let command = asked.get("command").filter(|command| !command.is_null());
    let start = if again && was_begun {
        Start::Resume(Answers::None, None)
    } else if let Some(command) = command {
        let pending = found.as_ref().map(|found| found.interrupts.as_slice());
        let answers = answers(command.get("resume"), pending.unwrap_or_default());
        let write = write(command);
        match (answers, write) {
            (Answers::None, Some(write)) => {
                // Without an answer, what is written is a state of its own.
                ahead = ahead.map(|ahead| ahead + 1);
                metadata.insert(OFFSET.to_owned(), ahead.unwrap_or_default().into());
                let key = Platform::key(owner, &run.thread_id)?;
                let saver = platform.0.saver.clone();
                let about = metadata.clone();
                graph.command(saver, key, at, write, about).await?;
                at = None;
                Start::Resume(Answers::None, None)
            }
            (answers, write) => Start::Resume(answers, write),
        }
    } else {
        match asked.get("input") {
            None | Some(Value::Null) if head.is_some() => Start::Resume(Answers::None, None),
            None | Some(Value::Null) => Start::Input(json!({})),
            Some(input) => {
                // An input is a step of its own to clients, and what it makes another.
                ahead = ahead.map(|ahead| ahead + 2);
                Start::Input(input.clone())
            }
        }
    };
    metadata.insert(OFFSET.to_owned(), ahead.unwrap_or_default().into());
    let channels = head.map(|head| head.values.iter().map(|value| value.channel.clone()));
    let mut fields: Vec<_> = channels.into_iter().flatten().collect();
    if let Start::Input(Value::Object(input)) = &start {
        fields.extend(input.keys().cloned());
    }
    let before = match &found {
        Some(found) => states::values(found),
        None => super::served::without_unset(graph.any().empty(), |_| false),
    };
    let invocation = Invocation {
        scope: scope.clone(),
        thread_id: run.thread_id.clone(),
        configurable: Value::Object(configurable.clone()),
        context,
        store: Some(Shelf::new(platform.clone(), owner.clone())),
    };
    Ok(Begun {
        graph,
        thread,
        configurable,
        invocation,
        metadata,
        at,
        start,
        before,
        fields,
    })
}

/// When the run's progress is to be stored.
pub(crate) fn durability(asked: &Value) -> Durability {
    let named = asked.get("durability").and_then(Value::as_str);
    // What older clients say instead.
    let during = asked.get("checkpoint_during").and_then(Value::as_bool);
    match (named, during) {
        (Some("exit"), _) | (None, Some(false)) => Durability::Exit,
        (Some("async"), _) | (None, Some(true)) => Durability::Async,
        _ => Durability::Sync,
    }
}

/// What a command writes and where it goes, if it does either.
fn write(command: &Value) -> Option<Write> {
    let given = |name: &str| command.get(name).filter(|value| !value.is_null());
    let mut goto = Vec::new();
    match given("goto") {
        Some(Value::Array(many)) => goto.extend(many.iter().filter_map(target)),
        Some(one) => goto.extend(target(one)),
        None => {}
    }
    let update = given("update").cloned();
    (update.is_some() || !goto.is_empty()).then(|| Write {
        update: update.unwrap_or_default(),
        goto,
    })
}

fn target(goto: &Value) -> Option<Goto> {
    match goto {
        Value::String(node) => Some(Goto::Node(node.clone())),
        send => {
            let node = send.get("node")?.as_str()?.to_owned();
            let payload = send.get("input").or_else(|| send.get("arg"));
            Some(Goto::Send(node, payload.cloned().unwrap_or_default()))
        }
    }
}

fn answers(resume: Option<&Value>, pending: &[Interrupt]) -> Answers {
    let resume = resume.filter(|resume| !resume.is_null());
    let Some(resume) = resume.filter(|_| !pending.is_empty()) else {
        return Answers::None;
    };
    let by_id = resume.as_object().filter(|answers| {
        !answers.is_empty()
            && answers
                .keys()
                .all(|id| pending.iter().any(|one| one.id == *id))
    });
    match by_id {
        Some(answers) => Answers::ById(answers.clone().into_iter().collect::<BTreeMap<_, _>>()),
        None => Answers::Only(resume.clone()),
    }
}
