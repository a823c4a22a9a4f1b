//! Whose turn a thread is: the runs that wait, are executed, or ended a while ago.
//!
//! Invariant: a run is stored before it is acknowledged, and stays in the queue's records
//! until its end is stored, so a run that was accepted is executed after a crash too. Of a
//! thread's runs at most one is executed at a time, in the order in which they came; a run
//! that is no longer there has given up its place. Deliberately absent: what a run does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lyceum_core::{Expect, RecordError, Scope, TenantId, UserId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    log::Log,
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{QUEUE, RUN, Run, THREAD, Thread, now},
    worker,
};
use crate::error::ApiError;

/// Runs that wait or are executed; more are refused.
const ACCEPTED: usize = 4_096;
/// Runs of one thread that wait; more than a person sends before losing patience.
const PER_THREAD: usize = 64;
/// Ended runs whose events are still kept for readers who come late.
const REMEMBERED: usize = 256;
/// What becomes of a run that is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is over; what it has merged is kept.
    Interrupt,
    /// It never was.
    Rollback,
    /// The process ends; it goes on after the next start.
    Shutdown,
}

/// A run that waits or is executed, or ended a while ago.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) run_id: String,
    pub(crate) log: Log,
    pub(crate) cancel: CancellationToken,
    pub(crate) result: Mutex<Value>,
    stop: Mutex<Stop>,
}

impl Live {
    pub(crate) fn stop(&self, how: Stop) {
        if !self.cancel.is_cancelled() {
            *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = how;
            self.cancel.cancel();
        }
    }

    pub(crate) fn how(&self) -> Stop {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Board {
    lanes: HashMap<(TenantId, String), Vec<Arc<Live>>>,
    live: HashMap<(TenantId, String), Arc<Live>>,
    ended: VecDeque<(TenantId, String)>,
    accepted: usize,
}

impl Platform {
    /// Takes up the runs that were accepted and not ended when the last process ended.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the records cannot be read.
    pub async fn recover(&self) -> Result<usize, RecordError> {
        let mut taken = 0;
        for (owner, queued) in self.0.records.every(QUEUE).await? {
            let Ok(Some(run)) = self.get::<Run>(&owner, RUN, &queued.id).await else {
                continue;
            };
            let Some(scope) = scope(&run) else {
                tracing::warn!(
                    run = run.run_id,
                    "a queued run names no valid user; it is left"
                );
                continue;
            };
            let (live, before) = Self::enter(&mut self.board(), &owner, &run);
            let place = Place {
                platform: self.clone(),
                owner,
                thread: run.thread_id.clone(),
                live,
            };
            self.execute(scope, place, run, before, true);
            taken += 1;
        }
        Ok(taken)
    }

    /// Stops what runs, to go on after the next start, and waits for it.
    pub async fn close(&self) {
        let live: Vec<_> = self.board().live.values().cloned().collect();
        for live in live {
            live.stop(Stop::Shutdown);
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === runs ===

    pub(crate) fn live(&self, owner: &TenantId, run: &str) -> Option<Arc<Live>> {
        let key = (owner.clone(), run.to_owned());
        self.board().live.get(&key).cloned()
    }

    /// The run of a thread that is executed or comes next, after this one.
    pub(crate) fn waiting(
        &self,
        owner: &TenantId,
        thread: &str,
        after: Option<&str>,
    ) -> Option<Arc<Live>> {
        let key = (owner.clone(), thread.to_owned());
        let board = self.board();
        let lane = board.lanes.get(&key)?;
        let next = lane.iter().find(|live| Some(live.run_id.as_str()) != after);
        next.cloned()
    }

    /// Whether a thread has a run that is not over.
    pub(crate) fn is_busy(&self, owner: &TenantId, thread: &str) -> bool {
        let key = (owner.clone(), thread.to_owned());
        self.board().lanes.contains_key(&key)
    }

    /// Whether a thread has another run that is not over.
    pub(crate) fn has_more(&self, owner: &TenantId, thread: &str) -> bool {
        let key = (owner.clone(), thread.to_owned());
        let board = self.board();
        board.lanes.get(&key).is_some_and(|lane| lane.len() > 1)
    }

    /// Puts a run at the end of its thread's lane: it starts when those before it are over.
    fn enter(board: &mut Board, owner: &TenantId, run: &Run) -> (Arc<Live>, Vec<Arc<Live>>) {
        let live = Arc::new(Live {
            run_id: run.run_id.clone(),
            log: Log::new(),
            cancel: CancellationToken::new(),
            result: Mutex::new(Value::Null),
            stop: Mutex::new(Stop::Interrupt),
        });
        board.accepted += 1;
        let lane = (owner.clone(), run.thread_id.clone());
        let lane = board.lanes.entry(lane).or_default();
        let before = lane.clone();
        lane.push(live.clone());
        let key = (owner.clone(), run.run_id.clone());
        board.live.insert(key, live.clone());
        (live, before)
    }

    /// The run is over: its thread's next may start.
    fn leave(&self, owner: &TenantId, thread: &str, live: &Arc<Live>) {
        let mut board = self.board();
        board.accepted = board.accepted.saturating_sub(1);
        let lane = (owner.clone(), thread.to_owned());
        if let Some(others) = board.lanes.get_mut(&lane) {
            others.retain(|other| !Arc::ptr_eq(other, live));
            if others.is_empty() {
                board.lanes.remove(&lane);
            }
        }
        board.ended.push_back((owner.clone(), live.run_id.clone()));
        if board.ended.len() > REMEMBERED
            && let Some(oldest) = board.ended.pop_front()
        {
            board.live.remove(&oldest);
        }
        drop(board);
        live.log.end();
        self.0.lanes_changed.send_replace(());
    }

    /// Accepts a run: stores it, with its thread where that is new, and starts it as its
    /// strategy says.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has changed nothing, or the run is accepted all the same.
    pub(crate) async fn submit(
        &self,
        owner: &TenantId,
        run: Run,
        thread: Option<Thread>,
    ) -> Answer<Arc<Live>> {
        let (live, before) = {
            let mut board = self.board();
            if board.accepted >= ACCEPTED {
                return Err(ApiError::Busy.into());
            }
            let lane = (owner.clone(), run.thread_id.clone());
            let others = board.lanes.get(&lane).cloned().unwrap_or_default();
            let strategy = run.multitask_strategy.as_str();
            if strategy == "reject" && !others.is_empty() {
                return Err(Refusal::invalid(
                    "Thread is already running a task. Wait for it to finish or choose a different multitask strategy.",
                ));
            }
            if others.len() >= PER_THREAD {
                return Err(ApiError::Busy.into());
            }
            match strategy {
                "interrupt" => others.iter().for_each(|one| one.stop(Stop::Interrupt)),
                "rollback" => others.iter().for_each(|one| one.stop(Stop::Rollback)),
                _ => {}
            }
            Self::enter(&mut board, owner, &run)
        };
        self.0.lanes_changed.send_replace(());
        let place = Place {
            platform: self.clone(),
            owner: owner.clone(),
            thread: run.thread_id.clone(),
            live: live.clone(),
        };
        // Not in the request's own task: that ends when the client leaves.
        let accepted = place.accept(run, thread, before).in_current_span();
        let accepted = self.0.tasks.spawn(accepted);
        match accepted.await {
            Ok(accepted) => accepted.map(|()| live),
            Err(_) => Err(ApiError::Internal { what: "run" }.into()),
        }
    }

    fn execute(&self, scope: Scope, place: Place, run: Run, before: Vec<Arc<Live>>, again: bool) {
        let platform = self.clone();
        let span = worker::span(&run);
        // The run outlives the request: a trace of its own, which names it.
        span.follows_from(tracing::Span::current());
        let work = async move {
            let (owner, live) = (&place.owner, &place.live);
            worker::execute(&platform, owner, &scope, run, live, before, again).await;
            drop(place);
        };
        self.0.tasks.spawn(work.instrument(span));
    }
}

/// In whose name a run is executed, also after a restart.
fn scope(run: &Run) -> Option<Scope> {
    Some(Scope {
        tenant: TenantId::new(&run.tenant).ok()?,
        user: UserId::new(&run.user).ok()?,
        ..Scope::local()
    })
}

/// A run's place in its thread's lane, given up when it is dropped.
struct Place {
    platform: Platform,
    owner: TenantId,
    thread: String,
    live: Arc<Live>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.platform.leave(&self.owner, &self.thread, &self.live);
    }
}

impl Place {
    /// Stores a run and executes it.
    async fn accept(self, run: Run, thread: Option<Thread>, before: Vec<Arc<Live>>) -> Answer<()> {
        let (platform, owner) = (&self.platform, &self.owner);
        let Some(scope) = scope(&run) else {
            return Err(ApiError::Internal { what: "scope" }.into());
        };
        let assistant = platform.assistant(owner, &run.assistant_id).await?;
        let graph = assistant.current().map(|one| one.graph_id.clone());
        let mut writes = vec![
            put_write(RUN, &run.run_id, &run.thread_id, &run, Expect::Absent),
            put_write(QUEUE, &run.run_id, "", &run.thread_id, Expect::Anything),
        ];
        if let Some(thread) = &thread {
            writes.push(put_write(
                THREAD,
                &run.thread_id,
                "",
                thread,
                Expect::Absent,
            ));
        }
        if !platform.put(owner, writes).await? {
            return Err(Refusal::conflict("Run already exists"));
        }
        let marked = platform
            .change::<Thread>(owner, THREAD, &run.thread_id, |thread| {
                thread.status = "busy".to_owned();
                thread.updated_at = now();
                let metadata = &mut thread.metadata;
                metadata.insert("assistant_id".to_owned(), run.assistant_id.clone().into());
                metadata.insert("graph_id".to_owned(), graph.clone().into());
            })
            .await;
        // Also when marking failed: a run that is stored is executed.
        platform.clone().execute(scope, self, run, before, false);
        marked.map(drop)
    }
}
