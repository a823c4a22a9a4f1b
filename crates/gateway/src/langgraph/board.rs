//! The runs that this process knows: those it executes, and copies of what others tell of theirs.
//!
//! Invariant: readers find a run under one form, wherever it is executed, and its log ends after
//! its end is stored. Deliberately absent: whose turn it is, which stands in the thread's record.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lyceum_core::TenantId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    lanes::Entry,
    log::Log,
    platform::Platform,
    refusal::{Answer, Refusal},
    resources::{QUEUE, Run},
    tape,
};
use crate::error::ApiError;

/// Runs that wait or are executed here; more are refused.
const ACCEPTED: usize = 4_096;
/// Ended runs whose events are still kept for readers who come late.
const REMEMBERED: usize = 256;
/// How often another process' run is looked at where nobody tells of it.
const POLL: Duration = Duration::from_millis(500);

/// What becomes of a run that is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is over; what it has merged is kept.
    Interrupt,
    /// It never was.
    Rollback,
    /// The process ends; it goes on after the next start, or in another process.
    Shutdown,
    /// Another process has taken it.
    Lost,
}

/// A run that waits or is executed, or ended a while ago.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) run_id: String,
    pub(crate) thread_id: String,
    /// The process that holds it, as far as this one knows; empty for a copy.
    pub(crate) holder: String,
    pub(crate) log: Log,
    /// What followers of the thread are told, where the run was started for them.
    pub(crate) told: Log,
    pub(crate) cancel: CancellationToken,
    pub(crate) result: Mutex<Value>,
    stop: Mutex<Stop>,
    /// Who asks the process that has it, where this is a copy.
    elsewhere: Option<(Platform, TenantId)>,
}

impl Live {
    fn new(run: &str, thread: &str, holder: &str, elsewhere: Option<(Platform, TenantId)>) -> Self {
        Self {
            run_id: run.to_owned(),
            thread_id: thread.to_owned(),
            holder: holder.to_owned(),
            log: Log::new(),
            told: Log::new(),
            cancel: CancellationToken::new(),
            result: Mutex::new(Value::Null),
            stop: Mutex::new(Stop::Interrupt),
            elsewhere,
        }
    }

    pub(crate) fn stop(&self, how: Stop) {
        if self.cancel.is_cancelled() {
            return;
        }
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = how;
        self.cancel.cancel();
        if let Some((platform, owner)) = self.elsewhere.clone() {
            let (thread, run) = (self.thread_id.clone(), self.run_id.clone());
            tokio::spawn(async move {
                let asked = platform.ask_to_stop(&owner, &thread, &run, how).await;
                if let Err(refusal) = asked {
                    tracing::warn!(?refusal, run, "a run elsewhere cannot be told to stop");
                }
            });
        }
    }

    pub(crate) fn how(&self) -> Stop {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_with(&self, result: Value) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = result;
        self.told.end();
        self.log.end();
    }
}

type Key = (TenantId, String);

#[derive(Debug, Default)]
pub(crate) struct Board {
    lanes: HashMap<Key, Vec<Arc<Live>>>,
    live: HashMap<Key, Arc<Live>>,
    ended: VecDeque<Key>,
    copies: HashMap<Key, Weak<Live>>,
    /// The runs that are being accepted, wait or are executed.
    seated: HashSet<Key>,
}

/// Room for one run; dropping it frees it.
pub(crate) struct Seat {
    platform: Platform,
    of: Key,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.platform.board().seated.remove(&self.of);
    }
}

impl Platform {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for a run.
    ///
    /// # Errors
    ///
    /// [`ApiError::Busy`] when there is none, a conflict when the run has it already.
    pub(crate) fn seat(&self, owner: &TenantId, run: &str) -> Answer<Seat> {
        let of = (owner.clone(), run.to_owned());
        let mut board = self.board();
        if board.seated.len() >= ACCEPTED {
            return Err(ApiError::Busy.into());
        }
        if !board.seated.insert(of.clone()) {
            return Err(Refusal::conflict("Run already exists"));
        }
        drop(board);
        let platform = self.clone();
        Ok(Seat { platform, of })
    }

    /// Whether a run is being accepted here, waits or is executed.
    pub(crate) fn has_seat(&self, owner: &TenantId, run: &str) -> bool {
        let key = (owner.clone(), run.to_owned());
        self.board().seated.contains(&key)
    }

    /// A run that this process holds, or held a while ago.
    pub(crate) fn live(&self, owner: &TenantId, run: &str) -> Option<Arc<Live>> {
        let key = (owner.clone(), run.to_owned());
        self.board().live.get(&key).cloned()
    }

    /// The runs that are not over, of those that this process holds.
    pub(crate) fn all_live(&self) -> Vec<Arc<Live>> {
        let board = self.board();
        board.lanes.values().flatten().cloned().collect()
    }

    /// A run, wherever it waits or is executed, or ended a while ago. With a thread, only if it
    /// is one of that thread.
    pub(crate) async fn find(
        &self,
        owner: &TenantId,
        thread: Option<&str>,
        run: &str,
    ) -> Answer<Option<Arc<Live>>> {
        if let Some(live) = self.live(owner, run) {
            let is_of = thread.is_none_or(|thread| thread == live.thread_id);
            return Ok(is_of.then_some(live));
        }
        if !self.0.bell.is_shared() {
            return Ok(None);
        }
        let of = match tape::thread_of(self, owner, run).await? {
            Some(of) => of,
            None => match self.get::<Entry>(owner, QUEUE, run).await? {
                Some(entry) => entry.thread,
                None => return Ok(None),
            },
        };
        Ok(thread
            .is_none_or(|thread| thread == of)
            .then(|| self.copy(owner, &of, run)))
    }

    /// A copy of what another process tells of its run.
    fn copy(&self, owner: &TenantId, thread: &str, run: &str) -> Arc<Live> {
        let key = (owner.clone(), run.to_owned());
        let mut board = self.board();
        // It may have been taken up here meanwhile.
        let known = board.live.get(&key).cloned();
        let copied = || board.copies.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.or_else(copied) {
            return known;
        }
        board.copies.retain(|_, copy| copy.strong_count() > 0);
        let elsewhere = Some((self.clone(), owner.clone()));
        let copy = Arc::new(Live::new(run, thread, "", elsewhere));
        board.copies.insert(key, Arc::downgrade(&copy));
        drop(board);
        let (platform, owner, weak) = (self.clone(), owner.clone(), Arc::downgrade(&copy));
        let run = run.to_owned();
        tokio::spawn(async move { platform.feed(&owner, &run, weak).await });
        copy
    }

    /// Tells a copy what the records say, until the run is over or nobody reads it.
    async fn feed(&self, owner: &TenantId, run: &str, copy: Weak<Live>) {
        let mut news = self.0.bell.listen(&tape::topic(run));
        let mut next = 0;
        while let Some(copy) = copy.upgrade() {
            match tape::read(self, owner, run, next).await {
                Ok(Some(found)) => {
                    copy.told.take_in(found.told);
                    copy.log.take_in(found.entries);
                    next = found.next;
                    if let Some(result) = found.result {
                        return copy.end_with(result);
                    }
                }
                Ok(None) => match self.is_gone(owner, run).await {
                    Ok(true) => return copy.end_with(Value::Null),
                    Ok(false) => {}
                    Err(refusal) => tracing::warn!(?refusal, "a run elsewhere cannot be read"),
                },
                Err(refusal) => tracing::warn!(?refusal, "a run elsewhere cannot be read"),
            }
            drop(copy);
            news.news(POLL).await;
        }
    }

    /// Whether nothing is left of a run. Its end is one write, so it is looked for in this order.
    async fn is_gone(&self, owner: &TenantId, run: &str) -> Answer<bool> {
        let queued = self.0.records.read(owner, QUEUE, run).await?;
        Ok(queued.is_none() && tape::thread_of(self, owner, run).await?.is_none())
    }

    /// The run of a thread that is executed or comes next, after this one.
    pub(crate) async fn following(
        &self,
        owner: &TenantId,
        thread: &str,
        after: Option<&str>,
    ) -> Answer<Option<Arc<Live>>> {
        let is_other = |run: &str| Some(run) != after;
        if !self.0.bell.is_shared() {
            let key = (owner.clone(), thread.to_owned());
            let board = self.board();
            let lane = board.lanes.get(&key);
            let next = lane.and_then(|lane| lane.iter().find(|live| is_other(&live.run_id)));
            return Ok(next.cloned());
        }
        let lane = self.thread(owner, thread).await?.lane;
        match lane.iter().find(|one| is_other(&one.run)) {
            Some(next) => self.find(owner, Some(thread), &next.run).await,
            None => Ok(None),
        }
    }

    /// Puts a run among those of this process.
    pub(crate) fn enter(&self, owner: &TenantId, run: &Run, holder: &str) -> Arc<Live> {
        let live = Live::new(&run.run_id, &run.thread_id, holder, None);
        let live = Arc::new(live);
        let mut board = self.board();
        let lane = (owner.clone(), run.thread_id.clone());
        board.lanes.entry(lane).or_default().push(live.clone());
        let key = (owner.clone(), run.run_id.clone());
        board.live.insert(key, live.clone());
        live
    }

    /// The run is over: its thread's next may start.
    pub(crate) fn leave(&self, owner: &TenantId, live: &Arc<Live>) {
        let mut board = self.board();
        board.leave_lane(owner, live);
        board.ended.push_back((owner.clone(), live.run_id.clone()));
        if board.ended.len() > REMEMBERED
            && let Some(oldest) = board.ended.pop_front()
        {
            board.live.remove(&oldest);
        }
        drop(board);
        live.told.end();
        live.log.end();
        self.0.lanes_changed.send_replace(());
    }

    /// Another process has the run now: who reads it here goes on with what that one tells.
    pub(crate) fn lose(&self, owner: &TenantId, live: &Arc<Live>) {
        let mut board = self.board();
        board.leave_lane(owner, live);
        board.live.remove(&(owner.clone(), live.run_id.clone()));
        drop(board);
        self.0.lanes_changed.send_replace(());
        let (platform, owner, weak) = (self.clone(), owner.clone(), Arc::downgrade(live));
        let run = live.run_id.clone();
        tokio::spawn(async move { platform.feed(&owner, &run, weak).await });
    }
}

impl Board {
    fn leave_lane(&mut self, owner: &TenantId, live: &Arc<Live>) {
        let lane = (owner.clone(), live.thread_id.clone());
        if let Some(others) = self.lanes.get_mut(&lane) {
            others.retain(|other| !Arc::ptr_eq(other, live));
            if others.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }
}
