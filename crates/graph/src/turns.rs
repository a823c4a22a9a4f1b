//! Whose turn a thread is when several runs want it: what a server does when a person
//! writes again before the answer is there.
//!
//! Invariant: of the runs that use one `Turns`, a thread has at most one at a time; the
//! others wait in the order in which they came, at most a fixed number of them.
//! Deliberately absent: other processes, which the thread's lease keeps out.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{CheckpointId, RunError, SaverError, ThreadId};

/// Runs that wait for one thread: more than a person sends before losing patience.
const MOST_WAITING: usize = 16;

/// What a run does when another one of its [`Turns`] has the thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Multitask {
    /// Fails with [`SaverError::Busy`].
    #[default]
    Reject,
    /// Waits until all that came before are over.
    Enqueue,
    /// Cancels the other, displaces those that wait, and goes on from where it stopped: what
    /// it has merged is kept.
    Interrupt,
    /// As `Interrupt`, but goes on from where the other began. What that one has stored stays
    /// in the history as a branch that nothing continues.
    Rollback,
}

/// Hands out the turns of any number of threads within one process. Clones share them.
#[derive(Clone)]
pub struct Turns {
    lanes: Arc<Lanes>,
    most_waiting: usize,
}

type Lanes = Mutex<HashMap<ThreadId, Lane>>;

/// One thread that has a run.
struct Lane {
    cancel: CancellationToken,
    /// Where the run began, once it has: `Some(None)` is an empty thread.
    began_at: Option<Option<CheckpointId>>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    begin: oneshot::Sender<Turn>,
    cancel: CancellationToken,
    is_rollback: bool,
}

/// The right to run on a thread; the next in line has it when this is dropped.
pub(crate) struct Turn {
    lanes: Option<Arc<Lanes>>,
    thread: ThreadId,
    /// Cancelled when another run displaces this one.
    pub(crate) cancel: CancellationToken,
    /// Where to begin instead of at the newest checkpoint.
    pub(crate) base: Option<Option<CheckpointId>>,
}

impl Turns {
    /// Turns for any number of threads; of each, at most so many runs wait. One more is
    /// refused with [`SaverError::Busy`].
    #[must_use]
    pub fn new(most_waiting: usize) -> Self {
        Self {
            lanes: Arc::default(),
            most_waiting,
        }
    }

    /// Waits for a thread as the strategy says.
    pub(crate) async fn take(
        &self,
        thread: &ThreadId,
        strategy: Multitask,
        cancel: &CancellationToken,
    ) -> Result<Turn, RunError> {
        let mine = cancel.child_token();
        let begun = {
            let mut lanes = lock(&self.lanes);
            let Some(lane) = lanes.get_mut(thread) else {
                let lane = Lane {
                    cancel: mine.clone(),
                    began_at: None,
                    waiting: VecDeque::new(),
                };
                lanes.insert(thread.clone(), lane);
                return Ok(Turn {
                    lanes: Some(self.lanes.clone()),
                    thread: thread.clone(),
                    cancel: mine,
                    base: None,
                });
            };
            lane.waiting.retain(|waiting| !waiting.begin.is_closed());
            let displaces = matches!(strategy, Multitask::Interrupt | Multitask::Rollback);
            if displaces {
                lane.cancel.cancel();
                lane.waiting.clear();
            }
            if strategy == Multitask::Reject || lane.waiting.len() >= self.most_waiting.max(1) {
                let thread = thread.clone();
                return Err(SaverError::Busy { thread }.into());
            }
            let (begin, begun) = oneshot::channel();
            lane.waiting.push_back(Waiting {
                begin,
                cancel: mine,
                is_rollback: strategy == Multitask::Rollback,
            });
            begun
        };
        tokio::select! {
            biased;
            turn = begun => turn.map_err(|_displaced| RunError::NotStarted),
            () = cancel.cancelled() => Err(RunError::NotStarted),
        }
    }
}

impl Default for Turns {
    /// At most 16 runs wait for a thread.
    fn default() -> Self {
        Self::new(MOST_WAITING)
    }
}

impl Turn {
    /// Notes where the run began, for one that rolls it back.
    pub(crate) fn began_at(&self, checkpoint: Option<CheckpointId>) {
        if let Some(lanes) = &self.lanes
            && let Some(lane) = lock(lanes).get_mut(&self.thread)
        {
            lane.began_at = Some(checkpoint);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(lanes) = self.lanes.take() else {
            return;
        };
        let mut locked = lock(&lanes);
        let Some(lane) = locked.get_mut(&self.thread) else {
            return;
        };
        let began_at = lane.began_at.take();
        while let Some(next) = lane.waiting.pop_front() {
            let turn = Turn {
                lanes: Some(lanes.clone()),
                thread: self.thread.clone(),
                cancel: next.cancel.clone(),
                base: began_at.filter(|_| next.is_rollback),
            };
            lane.cancel = next.cancel;
            match next.begin.send(turn) {
                Ok(()) => return,
                // Nobody waits there any more. Dropping this turn must not come back here.
                Err(mut unwanted) => unwanted.lanes = None,
            }
        }
        locked.remove(&self.thread);
    }
}

fn lock(lanes: &Lanes) -> MutexGuard<'_, HashMap<ThreadId, Lane>> {
    // No code panics while it holds the lanes.
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns")
            .field("threads", &lock(&self.lanes).len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
