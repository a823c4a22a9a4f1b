//! A graph whose types its caller does not know: JSON in, JSON out.
//!
//! Invariant: what is written becomes the graph's own update type or is refused.
//! Deliberately absent: runs, whose events carry the graph's own types.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::{
    Channel, Checkpoint, CheckpointId, Edge, Graph, Interrupt, Metadata, Namespace, NodeName,
    RunError, Saver, Scope, State, TaskSnapshot, Thread, ThreadId, checkpoint::Plan,
    digest::TaskKey, shown::state_json,
};

/// Checkpoint heads read at once while the newest of one call of a subgraph is looked for.
const PAGE: usize = 64;

/// One graph's part of a thread: the whole of it, or what a subgraph keeps there.
#[derive(Debug, Clone)]
pub struct Part {
    /// What keeps the thread.
    pub saver: Arc<dyn Saver>,
    /// The thread.
    pub thread: ThreadId,
    /// The subgraph; the root for the outermost graph.
    pub namespace: Namespace,
}

/// A [`crate::Snapshot`] with its state as JSON.
#[derive(Debug, Clone)]
pub struct AnySnapshot {
    /// The state, channel by channel; untracked channels are left out.
    pub state: Value,
    /// The checkpoint it was read from.
    pub checkpoint: Checkpoint,
    /// What runs when the thread is resumed, with what is known of it.
    pub tasks: Vec<TaskSnapshot>,
    /// What waits for an answer.
    pub interrupts: Vec<Interrupt>,
}

/// A graph as readers and writers see it that do not know its types. Every [`Graph`] is one.
pub trait AnyGraph: Send + Sync + 'static {
    /// The names of the nodes, sorted.
    fn node_names(&self) -> &[NodeName];

    /// The edges that a run can take.
    fn edges(&self) -> Vec<Edge>;

    /// The fields of the state.
    fn channels(&self) -> &'static [Channel];

    /// The state of a thread that never ran.
    fn empty(&self) -> Value;

    /// The nodes that are graphs.
    fn subgraphs(&self) -> Vec<(NodeName, Arc<dyn AnyGraph>)>;

    /// Reads a checkpoint of the part of the thread that this graph keeps, or the newest. In a
    /// subgraph the newest is the one of the call that the namespace's last task began.
    ///
    /// Fails as [`Thread::snapshot`].
    fn read(
        &self,
        part: Part,
        at: Option<CheckpointId>,
    ) -> BoxFuture<'static, Result<Option<AnySnapshot>, RunError>>;

    /// Lists the checkpoints of one part, newest first, older than `before`; in a subgraph
    /// those of the call that the namespace's last task began.
    ///
    /// Fails as [`Thread::begun_by`].
    fn history(
        &self,
        part: Part,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Checkpoint>, RunError>>;

    /// Writes a state from outside, see [`Thread::update`]; an update as [`crate::START`] counts
    /// as an input. A member of `update` that names no
    /// field is refused.
    ///
    /// Fails as [`Thread::update`], and with [`RunError::Refused`].
    fn write(
        &self,
        part: Part,
        at: Option<CheckpointId>,
        update: Value,
        as_node: Option<NodeName>,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<CheckpointId, RunError>>;
}

impl fmt::Debug for dyn AnyGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyGraph")
            .field("nodes", &self.node_names())
            .finish_non_exhaustive()
    }
}

impl<S, C, E> AnyGraph for Graph<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    fn node_names(&self) -> &[NodeName] {
        Graph::node_names(self)
    }

    fn edges(&self) -> Vec<Edge> {
        Graph::edges(self)
    }

    fn channels(&self) -> &'static [Channel] {
        S::CHANNELS
    }

    fn empty(&self) -> Value {
        state_json(&S::default())
    }

    fn subgraphs(&self) -> Vec<(NodeName, Arc<dyn AnyGraph>)> {
        let nodes = self.topology.names.iter().zip(self.nodes.iter());
        let graphs = nodes.filter_map(|(name, node)| Some((name.clone(), node.inner.clone()?)));
        graphs.collect()
    }

    fn read(
        &self,
        part: Part,
        at: Option<CheckpointId>,
    ) -> BoxFuture<'static, Result<Option<AnySnapshot>, RunError>> {
        let thread = self.part(part);
        Box::pin(async move {
            let thread = thread.located().await?;
            let at = match at {
                None if !thread.namespace.is_root() => match thread.newest_of_call().await? {
                    Some(newest) => Some(newest),
                    None => return Ok(None),
                },
                at => at,
            };
            let snapshot = thread.snapshot(at).await?;
            Ok(snapshot.map(|snapshot| AnySnapshot {
                state: state_json(&*snapshot.state),
                checkpoint: snapshot.checkpoint,
                tasks: snapshot.tasks,
                interrupts: snapshot.interrupts,
            }))
        })
    }

    fn history(
        &self,
        part: Part,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Checkpoint>, RunError>> {
        let thread = self.part(part);
        Box::pin(async move { thread.located().await?.of_call(before, limit).await })
    }

    fn write(
        &self,
        part: Part,
        at: Option<CheckpointId>,
        update: Value,
        as_node: Option<NodeName>,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<CheckpointId, RunError>> {
        let mut thread = self.part(part).metadata(metadata);
        if let Some(at) = at {
            thread = thread.at(at);
        }
        Box::pin(async move {
            let update = if update.is_null() {
                Value::Object(Metadata::new())
            } else {
                update
            };
            let update = serde_json::from_value(update);
            let update = update.map_err(|source| RunError::Refused { source })?;
            let thread = thread.located().await?;
            thread.written(update, as_node.as_ref()).await
        })
    }
}

impl<S, C, E> Graph<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    fn part(&self, part: Part) -> Thread<S, C, E> {
        self.thread(part.saver, part.thread).within(part.namespace)
    }
}

impl<S, C, E> Thread<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// The same part, with what its caller may not know: whether the tasks on the way to it
    /// were sent, see [`Scope::sent`].
    async fn located(self) -> Result<Self, RunError> {
        let mut found: Vec<Scope> = Vec::new();
        for scope in self.namespace.scopes() {
            let outer = Namespace::of(found.iter().cloned());
            let sent = match scope.sent {
                Some(index) => Some(index),
                None => self.place_in_plan(&outer, scope).await?,
            };
            found.push(Scope {
                sent,
                ..scope.clone()
            });
        }
        Ok(self.within(Namespace::of(found)))
    }

    /// The place of a task among the tasks of the checkpoint that planned it, if it was sent.
    async fn place_in_plan(
        &self,
        outer: &Namespace,
        scope: &Scope,
    ) -> Result<Option<usize>, RunError> {
        let place = outer.place();
        let mut before = None;
        loop {
            let page = self.saver.history(&self.id, &place, before, PAGE).await?;
            for head in &page {
                for (index, task) in Plan::read(head)?.tasks.iter().enumerate() {
                    let key = TaskKey {
                        thread: self.id.as_str(),
                        namespace: outer,
                        checkpoint: head.id,
                        step: head.step + 1,
                        node: &task.node,
                        index,
                    };
                    if task.node == scope.node && key.id() == scope.task {
                        return Ok(task.payload.is_some().then_some(index));
                    }
                }
            }
            before = match page.last() {
                Some(last) => Some(last.id),
                None => return Ok(None),
            };
        }
    }

    async fn newest_of_call(&self) -> Result<Option<CheckpointId>, RunError> {
        let newest = self.of_call(None, 1).await?;
        Ok(newest.first().map(|head| head.id))
    }

    /// The checkpoints of one call of a subgraph, or those of the outermost graph.
    async fn of_call(
        &self,
        mut before: Option<CheckpointId>,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, RunError> {
        let call = self.namespace.scopes().last().map(|scope| scope.task);
        if call.is_none() {
            return Ok(self.history(before, limit).await?);
        }
        let mut found = Vec::new();
        while found.len() < limit {
            let page = Thread::history(self, before, PAGE).await?;
            before = page.last().map(|head| head.id);
            let is_last = page.len() < PAGE;
            for head in page {
                if found.len() < limit && self.begun_by(&head).await? == call {
                    found.push(head);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}
