//! How the checkpoints of a thread are shown: its state, its history, those of its subgraphs.
//!
//! A graph here keeps one checkpoint for an input; clients know two, the input itself
//! (`__start__` comes next) and the state it made. The first is shown from the second.
//!
//! Invariant: a checkpoint has the same id wherever it is shown, and ids sort by age.
//! Deliberately absent: writes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lyceum_core::TenantId;
use lyceum_graph::{
    AnyGraph, AnySnapshot, Checkpoint, CheckpointId, Namespace, Part, Scope, Source, TaskId,
};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    erased::{Erased, shown},
    platform::Platform,
    refusal::{Answer, Refusal},
    request::has,
    resources::{Thread, stamp},
    served::without_unset,
};

/// Checkpoints listed at once.
const PAGE: usize = 64;
/// The member of a checkpoint's metadata that holds how far the steps shown are ahead of the
/// steps kept; clients do not see it.
pub(crate) const OFFSET: &str = "__offset";
/// Subgraphs inside one another that are shown at once.
const DEPTH: usize = 8;

/// A checkpoint as clients name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) id: CheckpointId,
    /// Before the input was taken in.
    pub(crate) is_input: bool,
}

impl From<CheckpointId> for At {
    fn from(id: CheckpointId) -> Self {
        let is_input = false;
        Self { id, is_input }
    }
}

/// A checkpoint's number in the form of a UUID, whose text has the number's order.
pub(crate) fn checkpoint_id(at: impl Into<At>) -> String {
    let at = at.into();
    let number = at.id.0.saturating_mul(2) - u64::from(at.is_input);
    format!("1f000000-0000-6000-8000-{number:012x}")
}

pub(crate) fn parse(text: &str) -> Option<At> {
    let (_, number) = text.rsplit_once('-')?;
    let number = u64::from_str_radix(number, 16).ok()?;
    Some(At {
        id: CheckpointId(number.div_ceil(2)),
        is_input: number % 2 == 1,
    })
}

/// The subgraph that a `checkpoint_ns` names, e.g. `outer:1f…|inner:2e…`.
pub(crate) fn namespace(text: &str) -> Answer<Namespace> {
    let scopes = text.split('|').filter(|part| !part.is_empty()).map(|part| {
        let (node, task) = part.rsplit_once(':')?;
        let (node, task) = (node.into(), task.parse().ok()?);
        // Whether it was sent is found where it is looked for.
        let sent = None;
        Some(Scope { node, task, sent })
    });
    let scopes: Option<Vec<_>> = scopes.collect();
    let scopes = scopes.filter(|scopes| scopes.len() <= DEPTH);
    scopes
        .map(Namespace::of)
        .ok_or_else(|| Refusal::not_found("Subgraph"))
}

fn text(namespace: &Namespace) -> String {
    let scopes = namespace.scopes().iter();
    let scopes: Vec<_> = scopes
        .map(|scope| format!("{}:{}", scope.node, scope.task))
        .collect();
    scopes.join("|")
}

/// Where a checkpoint is.
pub(crate) fn place(thread_id: &str, namespace: &str, at: At) -> Value {
    json!({
        "thread_id": thread_id, "checkpoint_ns": namespace,
        "checkpoint_id": checkpoint_id(at), "checkpoint_map": null,
    })
}

/// What a checkpoint continues, as clients see it.
pub(crate) fn parent(head: &Checkpoint) -> Option<At> {
    match head.source {
        Source::Input => Some(At {
            id: head.id,
            is_input: true,
        }),
        _ => head.parent.map(At::from),
    }
}

pub(crate) fn offset(head: &Checkpoint) -> i64 {
    let offset = head.metadata.get(OFFSET);
    offset.and_then(Value::as_i64).unwrap_or_default()
}

/// A checkpoint's metadata, as clients see it.
pub(crate) fn metadata(thread_id: &str, is_root: bool, head: &Checkpoint, at: At) -> Value {
    let mut metadata = head.metadata.clone();
    metadata.remove(OFFSET);
    let offset = if is_root { offset(head) } else { 0 };
    let step = i64::try_from(head.step).unwrap_or(i64::MAX) + offset - i64::from(at.is_input);
    let source = match head.source {
        Source::Input if at.is_input => "input",
        Source::Update => "update",
        Source::Fork => "fork",
        _ => "loop",
    };
    metadata.insert("thread_id".to_owned(), thread_id.into());
    metadata.insert("step".to_owned(), step.into());
    metadata.insert("source".to_owned(), source.into());
    metadata.insert("parents".to_owned(), json!({}));
    Value::Object(metadata)
}

fn is_written(head: &Checkpoint) -> impl Fn(&str) -> bool {
    |name| head.values.iter().any(|value| value.channel == name)
}

/// The values of a checkpoint, as clients see them.
pub(crate) fn values(snapshot: &AnySnapshot) -> Value {
    without_unset(snapshot.state.clone(), is_written(&snapshot.checkpoint))
}

/// One thread, to be read.
#[derive(Clone)]
pub(crate) struct Reader {
    platform: Platform,
    owner: TenantId,
    thread: Thread,
    pub(crate) graph: Arc<dyn Erased>,
}

impl Reader {
    /// `None` for a thread that no graph has run on.
    pub(crate) fn open(
        platform: &Platform,
        owner: &TenantId,
        thread: &Thread,
    ) -> Answer<Option<Self>> {
        let Some(graph) = thread.graph() else {
            return Ok(None);
        };
        let null = Value::Null;
        let configurable = thread.config.get("configurable").unwrap_or(&null);
        let graph = platform.graph(graph)?.graph(configurable)?;
        Ok(Some(Self {
            platform: platform.clone(),
            owner: owner.clone(),
            thread: thread.clone(),
            graph,
        }))
    }

    pub(crate) fn part(&self, namespace: Namespace) -> Answer<Part> {
        Ok(Part {
            saver: self.platform.0.saver.clone(),
            thread: Platform::key(&self.owner, &self.thread.thread_id)?,
            namespace,
        })
    }

    /// The graph that is the subgraph of this namespace.
    pub(crate) fn inside(&self, namespace: &Namespace) -> Answer<Arc<dyn AnyGraph>> {
        let mut graph = self.graph.any();
        for scope in namespace.scopes() {
            let subgraphs = graph.subgraphs().into_iter();
            let found = subgraphs.into_iter().find(|(name, _)| *name == scope.node);
            let (_, inner) = found.ok_or_else(|| Refusal::not_found("Subgraph"))?;
            graph = inner;
        }
        Ok(graph)
    }

    /// The newest checkpoint that was not taken back, or this one.
    pub(crate) async fn snapshot(
        &self,
        namespace: &Namespace,
        at: Option<At>,
    ) -> Answer<Option<AnySnapshot>> {
        let at = match at {
            Some(at) => Some(at.id),
            None if namespace.is_root() => {
                let head = self.platform.head(&self.owner, &self.thread).await?;
                match head {
                    Some((head, _)) => Some(head),
                    None => return Ok(None),
                }
            }
            None => None,
        };
        let part = self.part(namespace.clone())?;
        let graph = self.inside(namespace)?;
        let found = graph.read(part, at).await?;
        Ok(found.filter(|found| at.is_none_or(|at| at == found.checkpoint.id)))
    }

    /// A state as the endpoints show it; `None` where there is no such checkpoint.
    pub(crate) async fn state(
        &self,
        namespace: &Namespace,
        at: Option<At>,
        subgraphs: bool,
    ) -> Answer<Option<Value>> {
        let Some(snapshot) = self.snapshot(namespace, at).await? else {
            return Ok(None);
        };
        let at = at.unwrap_or(snapshot.checkpoint.id.into());
        if at.is_input {
            if snapshot.checkpoint.source != Source::Input {
                return Ok(None);
            }
            return self.input(namespace, &snapshot.checkpoint).await.map(Some);
        }
        let depth = if subgraphs { DEPTH } else { 0 };
        let mut shown = self.loop_state(namespace, &snapshot, depth).await?;
        let asked = snapshot.tasks.iter().flat_map(|task| {
            let shown = shown_of(task);
            shown.as_array().cloned().unwrap_or_default()
        });
        shown["interrupts"] = asked.collect();
        shown["checkpoint_id"] = checkpoint_id(at).into();
        Ok(Some(shown))
    }

    /// The state before an input was taken in.
    async fn input(&self, namespace: &Namespace, head: &Checkpoint) -> Answer<Value> {
        let before = match head.parent {
            Some(parent) => self.snapshot(namespace, Some(parent.into())).await?,
            None => None,
        };
        let values = match &before {
            Some(before) => values(before),
            None => without_unset(self.inside(namespace)?.empty(), |_| false),
        };
        let at = At {
            id: head.id,
            is_input: true,
        };
        let (thread_id, ns) = (&self.thread.thread_id, text(namespace));
        let task = Uuid::new_v5(&Uuid::NAMESPACE_OID, checkpoint_id(at).as_bytes());
        let parent = head
            .parent
            .map(|parent| place(thread_id, &ns, parent.into()));
        Ok(json!({
            "values": values, "next": ["__start__"],
            "tasks": [{
                "id": task.to_string(), "name": "__start__", "error": null,
                "path": ["__pregel_pull", "__start__"], "interrupts": [],
                "checkpoint": null, "state": null, "result": null,
            }],
            "metadata": metadata(thread_id, namespace.is_root(), head, at),
            "created_at": created(head), "checkpoint": place(thread_id, &ns, at),
            "parent_checkpoint": parent,
        }))
    }

    /// The id of a planned task. What a copied thread has behind it is named as it was in the
    /// thread that it was copied from; what it may still do has its own name.
    fn named(&self, namespace: &Namespace, snapshot: &AnySnapshot, index: usize) -> Answer<TaskId> {
        let head = &snapshot.checkpoint;
        let task = snapshot.tasks.get(index);
        let task = task.ok_or_else(|| Refusal::not_found("Task"))?;
        let copied = self.thread.copied.iter();
        let from = copied.into_iter().find(|copied| head.id.0 < copied.until);
        let Some(from) = from.filter(|_| namespace.is_root()) else {
            return Ok(task.id);
        };
        let thread = Platform::key(&self.owner, &from.thread_id)?;
        Ok(TaskId::planned(&thread, head, &task.node, index))
    }

    fn loop_state<'a>(
        &'a self,
        namespace: &'a Namespace,
        snapshot: &'a AnySnapshot,
        depth: usize,
    ) -> BoxFuture<'a, Answer<Value>> {
        Box::pin(async move {
            let (thread_id, ns) = (&self.thread.thread_id, text(namespace));
            let graphs = self.inside(namespace)?.subgraphs();
            let mut tasks = Vec::new();
            for (index, task) in snapshot.tasks.iter().enumerate() {
                let id = self.named(namespace, snapshot, index)?.to_string();
                let (mut checkpoint, mut state) = (Value::Null, Value::Null);
                if graphs.iter().any(|(name, _)| *name == task.node) {
                    let scope = Scope {
                        node: task.node.clone(),
                        task: task.id,
                        sent: task.payload.as_ref().map(|_| index),
                    };
                    let inner = namespace.scopes().iter().cloned().chain([scope]);
                    let inner = Namespace::of(inner);
                    if depth == 0 {
                        checkpoint = json!({
                            "checkpoint_ns": text(&inner), "thread_id": thread_id,
                        });
                    } else if let Some(found) = self.snapshot(&inner, None).await? {
                        state = self.loop_state(&inner, &found, depth - 1).await?;
                    }
                }
                tasks.push(json!({
                    "id": id, "name": task.node.to_string(), "error": task.error,
                    "path": ["__pregel_pull", task.node.to_string()],
                    "interrupts": shown_of(task), "checkpoint": checkpoint, "state": state,
                    "result": task.result,
                }));
            }
            let head = &snapshot.checkpoint;
            let next: Vec<_> = snapshot
                .tasks
                .iter()
                .map(|task| task.node.to_string())
                .collect();
            let is_root = namespace.is_root();
            Ok(json!({
                "values": values(snapshot), "next": next, "tasks": tasks,
                "metadata": metadata(thread_id, is_root, head, head.id.into()),
                "created_at": created(head),
                "checkpoint": place(thread_id, &ns, head.id.into()),
                "parent_checkpoint": parent(head).map(|parent| place(thread_id, &ns, parent)),
            }))
        })
    }

    /// States that a filter keeps, newest first.
    pub(crate) async fn history(
        &self,
        namespace: &Namespace,
        before: Option<At>,
        limit: usize,
        filter: &Map<String, Value>,
    ) -> Answer<Vec<Value>> {
        let graph = self.inside(namespace)?;
        let thread_id = &self.thread.thread_id;
        // The input of a checkpoint is older than the checkpoint.
        let mut from = before.map(|at| CheckpointId(at.id.0 + u64::from(!at.is_input)));
        let mut found = Vec::new();
        while found.len() < limit {
            let part = self.part(namespace.clone())?;
            let page = graph.history(part, from, PAGE).await?;
            from = page.last().map(|head| head.id);
            for head in &page {
                let run = head.metadata.get("run_id").and_then(Value::as_str);
                if run.is_some_and(|run| self.thread.undone.iter().any(|id| id == run)) {
                    continue;
                }
                let both = [false, true].map(|is_input| At {
                    id: head.id,
                    is_input,
                });
                for at in both {
                    let is_there = !at.is_input || head.source == Source::Input;
                    let about = || metadata(thread_id, namespace.is_root(), head, at);
                    if found.len() < limit
                        && is_there
                        && before != Some(at)
                        && has(&about(), filter)
                    {
                        found.extend(self.state(namespace, Some(at), false).await?);
                    }
                }
            }
            if page.len() < PAGE {
                break;
            }
        }
        Ok(found)
    }
}

fn shown_of(task: &lyceum_graph::TaskSnapshot) -> Value {
    shown(&task.interrupts, Some(&task.id.to_string()))
}

pub(crate) fn created(head: &Checkpoint) -> String {
    let at = i128::from(head.created_at_ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(at);
    at.map(stamp).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_checkpoints_and_their_inputs_sort_by_age_and_are_read_back() {
        let all: Vec<_> = [(1, true), (1, false), (2, false), (3, true), (3, false)]
            .map(|(id, is_input)| At {
                id: CheckpointId(id),
                is_input,
            })
            .to_vec();
        let ids: Vec<_> = all.iter().map(|at| checkpoint_id(*at)).collect();
        assert!(ids.is_sorted());
        let back: Vec<_> = ids.iter().filter_map(|id| parse(id)).collect();
        assert_eq!(back, all);
    }
}
