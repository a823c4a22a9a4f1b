//! Whose turn a thread is: the runs that wait or are executed, in any process.
//!
//! Invariant: a run, its place in its thread's lane and its entry in the queue are one write, made
//! before the run is acknowledged; they stay until one write stores its end, so a run that was
//! accepted is executed after a crash too. Of a thread's runs at most one is executed at a time, in
//! the order in which they came. Each place names the process that holds it, and only that one may
//! end the run. Deliberately absent: what a run does, and which processes live.

use std::{sync::Arc, time::Duration};

use lyceum_core::{Expect, Record, RecordError, RecordWrite, Scope, TenantId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument as _;

use super::{
    board::{Live, Seat, Stop},
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{QUEUE, Queued, RUN, Run, STOP, THREAD, Thread, now},
    worker,
};
use crate::error::ApiError;

/// Runs of one thread that wait; more than a person sends before losing patience.
const PER_THREAD: usize = 64;
/// How often it is looked what became of a write whose answer was lost, and the pause between.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// An entry of the queue: enough to find the runs of a process that is gone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) thread: String,
    pub(crate) holder: String,
}

impl Entry {
    pub(super) fn of(record: &Record) -> Self {
        // Before entries named their holder they were the thread's name.
        let old = || Self {
            thread: serde_json::from_str(&record.body).unwrap_or_default(),
            holder: String::new(),
        };
        serde_json::from_str(&record.body).unwrap_or_else(|_| old())
    }
}

/// How the execution of a run begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// Whether nobody was before it when it came.
    pub(crate) is_first: bool,
    /// Whether another process may have begun with it.
    pub(crate) again: bool,
    /// How many processes ended while they held it.
    pub(crate) tries: u32,
}

/// The topic under which news of a thread is told.
pub(crate) fn topic(owner: &TenantId, thread: &str) -> String {
    format!("thread/{owner}/{thread}")
}

/// The topic under which it is told that a run is to stop.
pub(crate) const STOPS: &str = "stop";

/// The topic under which it is told that there are runs without a process.
pub(crate) const ORPHANS: &str = "orphans";

impl Platform {
    /// Accepts a run: stores it, with its thread where that is new and what else is to happen
    /// with it, and starts it as its strategy says.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has changed nothing, or the run is accepted all the same.
    pub(crate) async fn submit(
        &self,
        owner: &TenantId,
        run: Run,
        thread: Option<Thread>,
        also: Vec<RecordWrite>,
    ) -> Answer<Arc<Live>> {
        let seat = self.seat(owner, &run.run_id)?;
        let (platform, owner) = (self.clone(), owner.clone());
        // Not in the request's own task: that ends when the client leaves.
        let accepted = async move {
            let accepting = platform.accept(&owner, run, thread, also, seat);
            accepting.await
        };
        let accepted = self.0.tasks.spawn(accepted.in_current_span());
        match accepted.await {
            Ok(accepted) => accepted,
            Err(_) => Err(ApiError::Internal { what: "run" }.into()),
        }
    }

    async fn accept(
        &self,
        owner: &TenantId,
        run: Run,
        new: Option<Thread>,
        also: Vec<RecordWrite>,
        seat: Seat,
    ) -> Answer<Arc<Live>> {
        let Some(scope) = scope(&run) else {
            return Err(ApiError::Internal { what: "scope" }.into());
        };
        let assistant = self.assistant(owner, &run.assistant_id).await?;
        let graph = assistant.current().map(|one| one.graph_id.clone());
        let holder = self.me();
        let stop = match run.multitask_strategy.as_str() {
            "interrupt" => Some(Stop::Interrupt),
            "rollback" => Some(Stop::Rollback),
            _ => None,
        };
        let others = loop {
            let (mut thread, expect) = match &new {
                Some(thread) => (thread.clone(), Expect::Absent),
                None => {
                    let found = self.0.records.read(owner, THREAD, &run.thread_id).await?;
                    let found = found.ok_or_else(|| Refusal::not_found("Thread"))?;
                    let expect = Expect::Revision(found.revision);
                    (serde_json::from_str::<Thread>(&found.body)?, expect)
                }
            };
            let others = std::mem::take(&mut thread.lane);
            if run.multitask_strategy == "reject" && !others.is_empty() {
                return Err(Refusal::invalid(
                    "Thread is already running a task. Wait for it to finish or choose a different multitask strategy.",
                ));
            }
            if others.len() >= PER_THREAD {
                return Err(ApiError::Busy.into());
            }
            thread.lane.clone_from(&others);
            thread.lane.push(Queued {
                run: run.run_id.clone(),
                holder: holder.clone(),
                tries: 0,
            });
            thread.status = "busy".to_owned();
            thread.updated_at = now();
            let metadata = &mut thread.metadata;
            metadata.insert("assistant_id".to_owned(), run.assistant_id.clone().into());
            metadata.insert("graph_id".to_owned(), graph.clone().into());
            let (id, thread_id) = (&run.run_id, &run.thread_id);
            let mut writes = vec![
                put_write(THREAD, thread_id, "", &thread, expect),
                put_write(RUN, id, thread_id, &run, Expect::Absent),
                queue_write(id, thread_id, &holder, Expect::Anything),
            ];
            if let Some(how) = stop {
                let elsewhere = others.iter().filter(|one| one.holder != holder);
                writes.extend(elsewhere.map(|one| stop_write(&one.run, thread_id, how)));
            }
            writes.extend(also.iter().cloned());
            if self.put_held(owner, writes, id, &holder).await? {
                break others;
            }
            // Another run may have come to the thread at the same time; then once more.
            let found = self.0.records.read(owner, THREAD, &run.thread_id).await?;
            let revision = found.map(|found| Expect::Revision(found.revision));
            let is_moved = new.is_none() && revision.is_some_and(|revision| revision != expect);
            if !is_moved || self.get::<Run>(owner, RUN, id).await?.is_some() {
                return Err(Refusal::conflict("Run already exists"));
            }
        };
        let live = self.enter(owner, &run, &holder);
        if let Some(how) = stop {
            for other in &others {
                if let Some(other) = self.live(owner, &other.run) {
                    other.stop(how);
                }
            }
            self.0.bell.tell(STOPS).await;
        }
        self.0.lanes_changed.send_replace(());
        self.0.bell.tell(&topic(owner, &run.thread_id)).await;
        let beginning = Beginning {
            is_first: others.is_empty(),
            again: false,
            tries: 0,
        };
        self.execute(scope, owner, run, live.clone(), beginning, seat);
        Ok(live)
    }

    pub(super) fn execute(
        &self,
        scope: Scope,
        owner: &TenantId,
        run: Run,
        live: Arc<Live>,
        beginning: Beginning,
        seat: Seat,
    ) {
        let place = Place {
            platform: self.clone(),
            owner: owner.clone(),
            live: Some(live),
            _seat: seat,
        };
        let span = worker::span(&run);
        // The run outlives the request: a trace of its own, which names it.
        span.follows_from(tracing::Span::current());
        let work = async move {
            let (platform, owner) = (&place.platform, &place.owner);
            let Some(live) = place.live.clone() else {
                return;
            };
            let ended = worker::execute(platform, owner, &scope, run, &live, beginning).await;
            if ended == worker::Ended::Elsewhere {
                place.lose();
            }
        };
        self.0.tasks.spawn(work.instrument(span));
    }

    /// Asks the process that holds a run to stop it.
    pub(crate) async fn ask_to_stop(
        &self,
        owner: &TenantId,
        thread: &str,
        run: &str,
        how: Stop,
    ) -> Answer<()> {
        loop {
            let Some(record) = self.0.records.read(owner, THREAD, thread).await? else {
                return Ok(());
            };
            let kept: Thread = serde_json::from_str(&record.body)?;
            if !kept.lane.iter().any(|one| one.run == run) {
                return Ok(());
            }
            // The thread is written as it is, so that nothing is asked of a run that has ended.
            let expect = Expect::Revision(record.revision);
            let writes = vec![
                put_write(THREAD, thread, &record.group, &kept, expect),
                stop_write(run, thread, how),
            ];
            if self.put(owner, writes).await? {
                self.0.bell.tell(STOPS).await;
                return Ok(());
            }
        }
    }

    /// Stops the runs of this process that others asked to stop.
    pub(crate) async fn heed_stops(&self) -> Result<(), RecordError> {
        // Without runs there is nothing to look for, which happens every second.
        if self.all_live().is_empty() {
            return Ok(());
        }
        for (owner, record) in self.0.records.every(STOP).await? {
            if let Some(live) = self.live(&owner, &record.id) {
                live.stop(match record.body.contains("rollback") {
                    true => Stop::Rollback,
                    false => Stop::Interrupt,
                });
            }
        }
        Ok(())
    }

    /// Writes what makes a process the holder of a run. Where the answer is lost, the queue's
    /// record says whether it was done.
    pub(super) async fn put_held(
        &self,
        owner: &TenantId,
        writes: Vec<RecordWrite>,
        run: &str,
        holder: &str,
    ) -> Answer<bool> {
        let error = match self.put(owner, writes).await {
            Ok(is_put) => return Ok(is_put),
            Err(error) => error,
        };
        for _ in 0..LOOKS {
            match self.get::<Entry>(owner, QUEUE, run).await {
                Ok(Some(entry)) if entry.holder == holder => return Ok(true),
                Ok(_) => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(error.into())
    }

    /// Lets go of a run, so that another process takes it up at once.
    pub(crate) async fn let_go(&self, owner: &TenantId, run: &Run, holder: &str) -> Answer<()> {
        loop {
            let found = self.0.records.read(owner, THREAD, &run.thread_id).await?;
            let Some(record) = found else {
                return Ok(());
            };
            let mut thread: Thread = serde_json::from_str(&record.body)?;
            let place = thread.lane.iter_mut().find(|one| one.run == run.run_id);
            let Some(place) = place.filter(|place| place.holder == holder) else {
                return Ok(());
            };
            place.holder.clear();
            let expect = Expect::Revision(record.revision);
            let writes = vec![
                put_write(THREAD, &run.thread_id, &record.group, &thread, expect),
                queue_write(&run.run_id, &run.thread_id, "", Expect::Anything),
            ];
            if self.put(owner, writes).await? {
                return Ok(());
            }
        }
    }
}

pub(super) fn queue_write(run: &str, thread: &str, holder: &str, expect: Expect) -> RecordWrite {
    let entry = Entry {
        thread: thread.to_owned(),
        holder: holder.to_owned(),
    };
    put_write(QUEUE, run, "", &entry, expect)
}

fn stop_write(run: &str, thread: &str, how: Stop) -> RecordWrite {
    let how = Value::from(match how {
        Stop::Rollback => "rollback",
        _ => "interrupt",
    });
    put_write(STOP, run, thread, &how, Expect::Anything)
}

/// In whose name a run is executed, also after a restart.
pub(super) fn scope(run: &Run) -> Option<Scope> {
    Some(Scope {
        tenant: TenantId::new(&run.tenant).ok()?,
        user: UserId::new(&run.user).ok()?,
        ..Scope::local()
    })
}

/// A run's place among those of this process, given up when it is dropped.
struct Place {
    platform: Platform,
    owner: TenantId,
    live: Option<Arc<Live>>,
    _seat: Seat,
}

impl Place {
    /// Another process has the run: its readers here go on with what that one tells.
    fn lose(mut self) {
        if let Some(live) = self.live.take() {
            self.platform.lose(&self.owner, &live);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            self.platform.leave(&self.owner, live);
        }
    }
}
