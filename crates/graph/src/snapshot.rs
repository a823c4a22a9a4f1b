//! A thread as a reader sees it: its state at any checkpoint, what runs next, its history.
//!
//! Invariant: reading needs no lease and changes nothing. Deliberately absent: the states of
//! subgraphs, whose types the reader does not know; [`crate::AnyGraph`] shows them as JSON.

use std::{fmt, sync::Arc};

use crate::{
    CheckpointId, Interrupt, Metadata, Namespace, NodeName, RunError, SaverError, State, TaskId,
    Thread,
    checkpoint::Plan,
    digest::TaskKey,
    journal::recorded,
    saver::{Checkpoint, Saved, Source},
};

/// Heads read at once while a history is searched.
const PAGE: usize = 64;

/// A thread's state at one checkpoint.
#[derive(Clone)]
pub struct Snapshot<S> {
    /// The state.
    pub state: Arc<S>,
    /// The checkpoint it was read from: its number, its parent, its metadata.
    pub checkpoint: Checkpoint,
    /// What runs when the thread is resumed; empty when it is done.
    pub next: Vec<NodeName>,
    /// The tasks of `next`, in the same order, with what is known of them.
    pub tasks: Vec<TaskSnapshot>,
    /// What waits for an answer.
    pub interrupts: Vec<Interrupt>,
}

/// What is known of a task that is not merged yet.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSnapshot {
    /// The task.
    pub id: TaskId,
    /// Its node.
    pub node: NodeName,
    /// What the node was sent, as JSON text.
    pub payload: Option<String>,
    /// What it waits for.
    pub interrupts: Vec<Interrupt>,
    /// What its last error said; a task without a result is tried again when the thread is
    /// resumed.
    pub error: Option<String>,
    /// What it wrote, as JSON, if it is done: it will not run again.
    pub result: Option<serde_json::Value>,
}

/// Which checkpoints of a thread to list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistoryQuery {
    before: Option<CheckpointId>,
    limit: Option<usize>,
    source: Option<Source>,
    metadata: Metadata,
}

impl HistoryQuery {
    /// All of them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only older ones than this.
    #[must_use]
    pub fn before(mut self, checkpoint: CheckpointId) -> Self {
        self.before = Some(checkpoint);
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, checkpoints: usize) -> Self {
        self.limit = Some(checkpoints);
        self
    }

    /// Only those that were made for this reason.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Only those whose metadata has this key with this very value. Several may be given.
    #[must_use]
    pub fn metadata(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    fn matches(&self, head: &Checkpoint) -> bool {
        let mut wanted = self.metadata.iter();
        self.source.is_none_or(|source| source == head.source)
            && wanted.all(|(key, value)| head.metadata.get(key) == Some(value))
    }
}

impl<S, C, E> Thread<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// Reads the thread's newest state, or the one of a checkpoint. Needs no lease. Without
    /// an argument, a thread [at](Thread::at) a checkpoint reads that one.
    ///
    /// # Errors
    ///
    /// [`RunError::Saver`], and [`RunError::Decode`] or [`RunError::UnknownInPlan`] when
    /// what is stored does not fit the graph.
    pub async fn snapshot(
        &self,
        checkpoint: Option<CheckpointId>,
    ) -> Result<Option<Snapshot<S>>, RunError> {
        let checkpoint = checkpoint.or(self.base.checkpoint());
        let place = self.namespace.place();
        let saved = self.saver.load(&self.id, &place, checkpoint).await?;
        saved.map(|saved| self.read(saved)).transpose()
    }

    fn read(&self, saved: Saved) -> Result<Snapshot<S>, RunError> {
        let mut machine = self.machine();
        machine.restore(&saved)?;
        let plan = Plan::read(&saved.checkpoint)?;
        let mut recorded = recorded::<S>(&saved)?;
        let head = saved.checkpoint;
        let tasks = plan.tasks.into_iter().enumerate().map(|(index, planned)| {
            let key = TaskKey {
                thread: self.id.as_str(),
                namespace: &self.namespace,
                checkpoint: head.id,
                step: head.step + 1,
                node: &planned.node,
                index,
            };
            let id = key.id();
            let recorded = recorded.remove(&index);
            let (interrupts, error, result) = recorded.map_or((Vec::new(), None, None), |task| {
                (task.pending, task.error, task.result)
            });
            TaskSnapshot {
                id,
                node: planned.node,
                payload: planned.payload,
                // A task that asks has outlived its error.
                error: error.filter(|_| interrupts.is_empty() && result.is_none()),
                interrupts,
                result: result
                    .map(|command| serde_json::to_value(command.update).unwrap_or_default()),
            }
        });
        let tasks: Vec<_> = tasks.collect();
        let asked = tasks
            .iter()
            .flat_map(|task| task.interrupts.iter().cloned());
        Ok(Snapshot {
            state: machine.state().clone(),
            next: tasks.iter().map(|task| task.node.clone()).collect(),
            interrupts: asked.collect(),
            checkpoint: head,
            tasks,
        })
    }

    /// The task of the enclosing graph that began what a subgraph's checkpoint belongs to;
    /// `None` for the outermost graph, and where that task's checkpoint was removed.
    ///
    /// # Errors
    ///
    /// What the saver gives, and [`RunError::Decode`].
    pub async fn begun_by(&self, head: &Checkpoint) -> Result<Option<TaskId>, RunError> {
        let (Some((inner, outer)), Some(origin)) = (
            self.namespace.scopes().split_last(),
            Plan::read(head)?.origin,
        ) else {
            return Ok(None);
        };
        let Some((checkpoint, index)) = origin.split_once(':') else {
            return Ok(None);
        };
        let (Ok(checkpoint), Ok(index)) = (checkpoint.parse(), index.parse()) else {
            return Ok(None);
        };
        let namespace = Namespace::of(outer.iter().cloned());
        let before = Some(CheckpointId(checkpoint + 1));
        let place = namespace.place();
        let heads = self.saver.history(&self.id, &place, before, 1).await?;
        let outer = heads.first().filter(|head| head.id.0 == checkpoint);
        let key = |step: u64| TaskKey {
            thread: self.id.as_str(),
            namespace: &namespace,
            checkpoint: CheckpointId(checkpoint),
            step: step + 1,
            node: &inner.node,
            index,
        };
        Ok(outer.map(|head| key(head.step).id()))
    }

    /// Lists the thread's checkpoints, newest first, older than `before`.
    ///
    /// # Errors
    ///
    /// What the saver gives.
    pub async fn history(
        &self,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, SaverError> {
        let place = self.namespace.place();
        self.saver.history(&self.id, &place, before, limit).await
    }

    /// Lists the checkpoints that a query finds, newest first. The saver is read page by
    /// page; a search that finds little reads the whole thread.
    ///
    /// # Errors
    ///
    /// What the saver gives.
    pub async fn search(&self, query: &HistoryQuery) -> Result<Vec<Checkpoint>, SaverError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut before = query.before;
        while found.len() < limit {
            let page = self.history(before, PAGE).await?;
            let is_last = page.len() < PAGE;
            before = page.last().map(|head| head.id);
            let matching = page.into_iter().filter(|head| query.matches(head));
            found.extend(matching.take(limit - found.len()));
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Reads the snapshots of the checkpoints that a query finds, newest first.
    ///
    /// # Errors
    ///
    /// As [`Thread::snapshot`].
    pub async fn snapshots(&self, query: &HistoryQuery) -> Result<Vec<Snapshot<S>>, RunError> {
        let mut snapshots = Vec::new();
        for head in self.search(query).await? {
            // One that was pruned meanwhile is left out.
            snapshots.extend(self.snapshot(Some(head.id)).await?);
        }
        Ok(snapshots)
    }
}

/// Shows numbers and names, not values: a log is no place for a state.
impl<S> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("checkpoint", &self.checkpoint.id)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
