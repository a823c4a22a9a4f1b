//! What one task knows beside the state: answers it was given, effects it has recorded,
//! questions it has asked.
//!
//! Invariant: names are numbered per key in the order of calls, so a node that is started
//! again finds its own answers and effects. Deliberately absent: storing them.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use crate::{Interrupt, NodeName, TaskId, checkpoint::Children, saver::CheckpointId};

/// One task of the running step.
pub(crate) struct TaskState {
    pub(crate) node: NodeName,
    pub(crate) step: u64,
    pub(crate) index: usize,
    pub(crate) checkpoint: CheckpointId,
    /// It has a payload of its own.
    pub(crate) is_sent: bool,
    /// Where the subgraphs of the graph stand.
    pub(crate) children: Arc<Children>,
    /// Computed when somebody asks for it.
    pub(crate) id: OnceLock<TaskId>,
    memo: Mutex<Memo>,
    /// Effects that were started and not recorded yet.
    effects: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Memo {
    /// Answers by interrupt id.
    pub(crate) answers: BTreeMap<String, serde_json::Value>,
    /// Effects that took place, by numbered key.
    pub(crate) effects: HashMap<String, Effect>,
    counts: HashMap<String, u32>,
    pub(crate) interrupts: Vec<Interrupt>,
    pub(crate) touched: Option<Instant>,
    /// A subgraph stopped at its step boundary.
    pub(crate) drained: bool,
    /// A subgraph stopped where it was told to.
    pub(crate) paused: bool,
    /// A subgraph that an attempt began and did not end.
    pub(crate) left: Option<Box<dyn Any + Send>>,
}

/// An effect that took place.
#[derive(Clone)]
pub(crate) struct Effect {
    /// Its value as JSON.
    pub(crate) json: String,
    /// Whether it is known to be recorded.
    pub(crate) is_recorded: bool,
}

impl TaskState {
    pub(crate) fn new(
        node: NodeName,
        step: u64,
        index: usize,
        checkpoint: CheckpointId,
        memo: Memo,
    ) -> Self {
        let (memo, effects) = (Mutex::new(memo), AtomicUsize::new(0));
        Self {
            node,
            step,
            index,
            checkpoint,
            is_sent: false,
            children: Arc::default(),
            id: OnceLock::new(),
            memo,
            effects,
        }
    }

    pub(crate) fn memo(&self) -> MutexGuard<'_, Memo> {
        // No code panics while it holds the memo.
        self.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the next call with this key: `kind:key#n`.
    pub(crate) fn number(&self, kind: &str, key: &str) -> String {
        let name = format!("{kind}:{key}");
        let mut memo = self.memo();
        let count = memo.counts.entry(name.clone()).or_default();
        *count += 1;
        format!("{name}#{count}")
    }

    /// Forgets what a failed attempt counted and asked; answers and effects stay.
    pub(crate) fn restart(&self) {
        let mut memo = self.memo();
        memo.counts.clear();
        memo.interrupts.clear();
        memo.touched = None;
    }

    /// Takes what has to outlive this start of the task.
    pub(crate) fn take_memo(&self) -> Memo {
        self.restart();
        std::mem::take(&mut *self.memo())
    }

    /// Notes a sign of life for the idle time-out.
    pub(crate) fn touch(&self) {
        self.memo().touched = Some(Instant::now());
    }

    /// Counts an effect as started until the guard is dropped.
    pub(crate) fn effect(&self) -> EffectGuard<'_> {
        self.effects.fetch_add(1, Ordering::Relaxed);
        EffectGuard(&self.effects)
    }

    /// Whether the task can only go on with an answer from outside.
    pub(crate) fn is_waiting(&self) -> bool {
        let memo = self.memo();
        let waits = memo.drained || memo.paused || !memo.interrupts.is_empty();
        waits && self.effects.load(Ordering::Relaxed) == 0
    }
}

/// Holds an effect as running.
pub(crate) struct EffectGuard<'a>(&'a AtomicUsize);

impl Drop for EffectGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
