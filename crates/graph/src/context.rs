//! What a running node knows beside the state, and what it can say and ask while it runs.
//!
//! Invariant: a context is valid for one attempt of one task. Deliberately absent: writes
//! to the state, which only a node's result makes.

use std::{fmt, future::Future, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::{
    CheckpointId, Interrupt, Mode, Namespace, NodeError, NodeName, RunConfig, Store, TaskId,
    digest::TaskKey,
    durable::Durable,
    message::Message,
    outlet::{Outlet, Told},
    task::{Effect, TaskState},
};

/// The context of one attempt of a node: the run's shared value of type `C`, and ways to
/// emit events of type `E`, to ask, and to run effects once.
pub struct Context<C = (), E = ()> {
    pub(crate) run: Arc<RunContext<C, E>>,
    pub(crate) task: Arc<TaskState>,
    pub(crate) attempt: u32,
}

/// What all tasks of one run share.
pub(crate) struct RunContext<C, E> {
    pub(crate) config: RunConfig<C>,
    pub(crate) outlet: Option<Arc<dyn Outlet<E>>>,
    pub(crate) durable: Option<Arc<Durable>>,
    /// The subgraph that the run is; the root for the outermost.
    pub(crate) namespace: Namespace,
}

impl<C, E> RunContext<C, E> {
    pub(crate) fn task_id(&self, task: &TaskState) -> TaskId {
        *task.id.get_or_init(|| {
            let (step, node) = (task.step, &task.node);
            self.planned_id(task.checkpoint, step, node, task.index)
        })
    }

    /// The id of a task of a checkpoint's plan.
    pub(crate) fn planned_id(
        &self,
        checkpoint: CheckpointId,
        step: u64,
        node: &NodeName,
        index: usize,
    ) -> TaskId {
        let durable = self.durable.as_ref();
        let key = TaskKey {
            thread: durable.map_or("", |durable| durable.held.lease.thread.as_str()),
            namespace: &self.namespace,
            checkpoint,
            step,
            node,
            index,
        };
        key.id()
    }

    /// Tells the run's stream what somebody has to wait for a place to tell.
    pub(crate) async fn tell(&self, mode: Mode, step: u64, told: impl FnOnce() -> Told<E>) {
        let outlet = self.outlet.as_ref().filter(|outlet| outlet.wants(mode));
        if let Some(outlet) = outlet {
            outlet.tell(self.namespace.clone(), step, told()).await;
        }
    }
}

impl<C, E> Context<C, E> {
    /// The value that the run was configured with: models, stores, the caller's identity.
    #[must_use]
    pub fn shared(&self) -> &Arc<C> {
        &self.run.config.shared
    }

    /// The store that the run was given, see [`RunConfig::store`].
    #[must_use]
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.run.config.store.as_ref()
    }

    /// The node that runs.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.task.node
    }

    /// The step it runs in; a thread's first is 1.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.task.step
    }

    /// The id of the task that this attempt belongs to: the same in every attempt.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.run.task_id(&self.task)
    }

    /// The subgraph that the node is in; the root for the run itself.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.run.namespace
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Cancelled when the run is. A cancelled node is dropped at its next await, so only
    /// work that the node has handed to other tasks needs this.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.run.config.cancel
    }

    /// Puts an event into the run's stream, e.g. a piece of text.
    ///
    /// Waits while the stream's buffer is full, and does nothing when nobody streams.
    ///
    /// # Cancel safety
    ///
    /// An event whose emission was dropped while it waited is not sent.
    pub async fn emit(&self, value: E) {
        self.task.touch();
        let told = || Told::Custom(self.task_id(), self.task.node.clone(), value);
        self.run.tell(Mode::Custom, self.task.step, told).await;
    }

    /// Begins a message that is told piece by piece, e.g. a model's answer by its tokens.
    ///
    /// Several messages may be open at once. Calls with one key are told apart by their
    /// order; calls that run side by side need different keys.
    #[must_use]
    pub fn message(&self, key: &str) -> Message<C, E> {
        let name = self.task.number("message", key);
        let id = format!("{}:{name}", self.task_id());
        Message::new(self.clone(), id.into())
    }

    /// Restarts the node's idle time-out, as every `emit` does.
    pub fn heartbeat(&self) {
        self.task.touch();
    }

    /// Asks something that is answered from outside the run, perhaps days later.
    ///
    /// The first time, this never resolves: when nothing else of the node is in flight (see
    /// [`Context::once`]) the node is dropped, its siblings finish, and the run ends as
    /// `Status::Interrupted`. When the thread is resumed with an answer the node starts from
    /// its top, and this call returns the answer. Racing it against something else is no use:
    /// asking is what stops the node. Several calls with one key are told apart
    /// by their order; calls that run side by side need different keys.
    ///
    /// # Errors
    ///
    /// A permanent [`NodeError`] when the payload cannot be serialised or the answer is not
    /// a `T`.
    pub async fn interrupt<T: DeserializeOwned>(
        &self,
        key: &str,
        payload: impl Serialize,
    ) -> Result<T, NodeError> {
        let id = self.id(&self.task.number("ask", key));
        let answer = self.task.memo().answers.get(&id).cloned();
        if let Some(answer) = answer {
            return serde_json::from_value(answer).map_err(NodeError::permanent);
        }
        let payload = serde_json::to_value(payload).map_err(NodeError::permanent)?;
        let (node, key) = (self.task.node.clone(), key.to_owned());
        self.task.memo().interrupts.push(Interrupt {
            id,
            node,
            key,
            payload,
        });
        std::future::pending().await
    }

    /// Runs an effect and records its value, so that a node that is started again gets the
    /// value instead of a second effect.
    ///
    /// The record is stored before this returns (with `Durability::Exit` only when the run
    /// ends). A crash between the effect and its record cannot be told from one before the
    /// effect: pass the [`EffectId`], which is the same each time, to the other side as its
    /// idempotency key. A failed effect is not recorded. Several calls with one key are told
    /// apart by their order; calls that run side by side need different keys.
    ///
    /// # Errors
    ///
    /// The effect's own error, or a [`NodeError`] when its value cannot be recorded.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the effect; what the effect has already done is not recorded. Dropped
    /// after the effect, it is recorded by the next attempt, which does not repeat it.
    pub async fn once<T, F, Fut>(&self, key: &str, effect: F) -> Result<T, NodeError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce(EffectId) -> Fut,
        Fut: Future<Output = Result<T, NodeError>>,
    {
        let name = self.task.number("effect", key);
        let known = self.task.memo().effects.get(&name).cloned();
        let _running = self.task.effect();
        let (value, json) = match known {
            Some(Effect { json, is_recorded }) => {
                let value = serde_json::from_str(&json).map_err(NodeError::permanent)?;
                if is_recorded {
                    return Ok(value);
                }
                // An attempt was cut off, or failed, between the effect and its record.
                (value, json)
            }
            None => {
                let value = effect(EffectId(self.id(&name))).await?;
                let json = serde_json::to_string(&value).map_err(NodeError::permanent)?;
                let done = Effect {
                    json: json.clone(),
                    is_recorded: false,
                };
                self.task.memo().effects.insert(name.clone(), done);
                (value, json)
            }
        };
        if let Some(durable) = &self.run.durable {
            durable
                .record(
                    self.task.checkpoint,
                    self.task.index,
                    name.clone(),
                    json.clone().into(),
                )
                .await
                .map_err(NodeError::from_saver)?;
        }
        let is_recorded = true;
        let recorded = Effect { json, is_recorded };
        self.task.memo().effects.insert(name, recorded);
        self.task.touch();
        Ok(value)
    }

    /// The id of a numbered call, unique in the thread and stable over restarts.
    fn id(&self, name: &str) -> String {
        let namespace = self
            .run
            .durable
            .as_ref()
            .map_or("", |durable| &durable.namespace);
        format!(
            "{namespace}@{}:{}:{name}",
            self.task.checkpoint, self.task.index
        )
    }
}

/// Names one effect of one thread, the same however often it is tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EffectId(String);

impl EffectId {
    /// The id within the thread; the other side needs the thread's id too.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<C, E> Clone for Context<C, E> {
    fn clone(&self) -> Self {
        Self {
            run: self.run.clone(),
            task: self.task.clone(),
            attempt: self.attempt,
        }
    }
}

impl<C, E> fmt::Debug for Context<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("node", &self.task.node)
            .field("step", &self.task.step)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
