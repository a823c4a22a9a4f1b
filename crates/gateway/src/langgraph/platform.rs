//! The service behind the API: what is stored, what runs, and whose turn a thread is.
//!
//! Invariant: a run is stored before it is acknowledged, and stays in the queue's records
//! until its end is stored, so a run that was accepted is executed after a crash too. Of a
//! thread's runs at most one is executed at a time, in the order in which they came.
//! Deliberately absent: several processes over one store of records.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lyceum_core::{
    Expect, Record, RecordError, RecordList, RecordStore, RecordWrite, Scope, TenantId, UserId,
};
use lyceum_graph::{CheckpointId, Saver, ThreadId};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    log::Log,
    refusal::{Answer, Refusal},
    resources::{Assistant, QUEUE, RUN, Run, THREAD, Thread, Versions, now},
    served::Served,
    worker,
};
use crate::error::ApiError;

/// Runs that are executed at once; a run that waits for a model costs little.
const RUNNING: usize = 256;
/// Runs that wait or are executed; more are refused.
const ACCEPTED: usize = 4_096;
/// Runs of one thread that wait; more than a person sends before losing patience.
const PER_THREAD: usize = 64;
/// Ended runs whose events are still kept for readers who come late.
const REMEMBERED: usize = 256;
/// Records read at once.
const PAGE: usize = 256;
/// The namespace in which a graph's own assistant gets its id (RFC 9562, section 5.5).
const ASSISTANTS: Uuid = Uuid::from_u128(0x6ba7_b821_9dad_11d1_80b4_00c0_4fd4_30c8);

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
struct Board {
    lanes: HashMap<(TenantId, String), Vec<Arc<Live>>>,
    live: HashMap<(TenantId, String), Arc<Live>>,
    ended: VecDeque<(TenantId, String)>,
    accepted: usize,
}

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Platform(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) saver: Arc<dyn Saver>,
    pub(crate) graphs: BTreeMap<String, Served>,
    pub(crate) slots: Semaphore,
    board: Mutex<Board>,
    tasks: TaskTracker,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("graphs", &self.0.graphs.keys())
            .finish_non_exhaustive()
    }
}

impl Platform {
    /// Serves these graphs over what keeps their threads and records.
    #[must_use]
    pub fn new(
        graphs: impl IntoIterator<Item = Served>,
        records: Arc<dyn RecordStore>,
        saver: Arc<dyn Saver>,
    ) -> Self {
        let graphs = graphs.into_iter().map(|one| (one.name.to_string(), one));
        Self(Arc::new(Inner {
            records,
            saver,
            graphs: graphs.collect(),
            slots: Semaphore::new(RUNNING),
            board: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Takes up the runs that were accepted and not ended when the last process ended.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the records cannot be read.
    pub async fn recover(&self) -> Result<usize, RecordError> {
        let mut taken = 0;
        for (tenant, queued) in self.0.records.every(QUEUE).await? {
            let Ok(Some(run)) = self.get::<Run>(&tenant, RUN, &queued.id).await else {
                continue;
            };
            let (live, before) = Self::enter(&mut self.board(), &tenant, &run);
            self.execute(tenant, run, live, before, true);
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

    // === records ===

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Answer<Option<T>> {
        let record = self.0.records.read(tenant, kind, id).await?;
        Ok(record.and_then(|record| serde_json::from_str(&record.body).ok()))
    }

    /// All records of a kind that a filter keeps, newest first.
    pub(crate) async fn all<T: DeserializeOwned>(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        group: Option<&str>,
    ) -> Answer<Vec<T>> {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let list = RecordList {
                kind,
                group,
                before,
                limit: PAGE,
            };
            let page: Vec<Record> = self.0.records.list(tenant, list).await?;
            let is_last = page.len() < PAGE;
            before = page.last().map(|record| record.seq);
            let read = page
                .iter()
                .filter_map(|record| serde_json::from_str(&record.body).ok());
            found.extend(read);
            if is_last {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn put(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        self.0.records.write(tenant, writes).await
    }

    /// Reads a record, changes it and writes it back, again where somebody else was faster.
    pub(crate) async fn change<T: Serialize + DeserializeOwned>(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
        mut change: impl FnMut(&mut T),
    ) -> Answer<Option<T>> {
        loop {
            let Some(record) = self.0.records.read(tenant, kind, id).await? else {
                return Ok(None);
            };
            let mut value: T = serde_json::from_str(&record.body)?;
            change(&mut value);
            let expect = Expect::Revision(record.revision);
            let write = put_write(kind, id, &record.group, &value, expect);
            if self.put(tenant, vec![write]).await? {
                return Ok(Some(value));
            }
        }
    }

    // === assistants and threads ===

    /// The id of a graph's own assistant.
    pub(crate) fn default_id(graph: &str) -> String {
        Uuid::new_v5(&ASSISTANTS, graph.as_bytes()).to_string()
    }

    fn built_in(graph: &str) -> Versions {
        let assistant = Assistant {
            assistant_id: Self::default_id(graph),
            graph_id: graph.to_owned(),
            config: serde_json::json!({}),
            context: serde_json::json!({}),
            created_at: "2025-01-01T00:00:00Z".to_owned(),
            updated_at: "2025-01-01T00:00:00Z".to_owned(),
            metadata: serde_json::json!({ "created_by": "system" }),
            version: 1,
            name: graph.to_owned(),
            description: None,
        };
        Versions {
            latest: 1,
            all: vec![assistant],
        }
    }

    /// The assistants that every tenant has: one per graph.
    pub(crate) fn built_ins(&self) -> impl Iterator<Item = Versions> {
        self.0.graphs.keys().map(|graph| Self::built_in(graph))
    }

    pub(crate) async fn assistant(&self, tenant: &TenantId, id: &str) -> Answer<Versions> {
        if let Some(found) = self
            .get::<Versions>(tenant, super::resources::ASSISTANT, id)
            .await?
        {
            return Ok(found);
        }
        self.built_ins()
            .find(|one| {
                one.all
                    .first()
                    .is_some_and(|one| one.assistant_id == id || one.graph_id == id)
            })
            .ok_or_else(|| Refusal::not_found("Assistant"))
    }

    pub(crate) async fn thread(&self, tenant: &TenantId, id: &str) -> Answer<Thread> {
        let found = self.get(tenant, THREAD, id).await?;
        found.ok_or_else(|| Refusal::not_found("Thread"))
    }

    pub(crate) async fn run(&self, tenant: &TenantId, thread: &str, id: &str) -> Answer<Run> {
        let found: Option<Run> = self.get(tenant, RUN, id).await?;
        found
            .filter(|run| run.thread_id == thread)
            .ok_or_else(|| Refusal::not_found("Run"))
    }

    pub(crate) fn graph(&self, name: &str) -> Answer<Served> {
        let found = self.0.graphs.get(name).cloned();
        found.ok_or_else(|| Refusal::not_found("Graph"))
    }

    /// The saver's name of a thread: no tenant reaches another's.
    pub(crate) fn key(tenant: &TenantId, thread: &str) -> Answer<ThreadId> {
        ThreadId::new(format!("langgraph/{tenant}/{thread}"))
            .map_err(|error| Refusal::invalid(error.to_string()))
    }

    /// The newest checkpoint that was not taken back; the second tells whether it is simply
    /// the newest.
    pub(crate) async fn head(
        &self,
        tenant: &TenantId,
        thread: &Thread,
    ) -> Answer<Option<(CheckpointId, bool)>> {
        let key = Self::key(tenant, &thread.thread_id)?;
        let (mut before, mut is_newest) = (None, true);
        loop {
            let page = self.0.saver.history(&key, "", before, 64).await?;
            for head in &page {
                let run = head.metadata.get("run_id").and_then(Value::as_str);
                if !run.is_some_and(|run| thread.undone.iter().any(|undone| undone == run)) {
                    return Ok(Some((head.id, is_newest)));
                }
                is_newest = false;
            }
            before = page.last().map(|head| head.id);
            if page.len() < 64 {
                return Ok(None);
            }
        }
    }

    // === runs ===

    pub(crate) fn live(&self, tenant: &TenantId, run: &str) -> Option<Arc<Live>> {
        let key = (tenant.clone(), run.to_owned());
        self.board().live.get(&key).cloned()
    }

    /// Whether a thread has a run that is not over.
    pub(crate) fn is_busy(&self, tenant: &TenantId, thread: &str) -> bool {
        let key = (tenant.clone(), thread.to_owned());
        self.board().lanes.contains_key(&key)
    }

    /// Whether a thread has another run that is not over.
    pub(crate) fn has_more(&self, tenant: &TenantId, thread: &str) -> bool {
        let key = (tenant.clone(), thread.to_owned());
        let board = self.board();
        board.lanes.get(&key).is_some_and(|lane| lane.len() > 1)
    }

    /// Puts a run at the end of its thread's lane: it starts when those before it are over.
    fn enter(board: &mut Board, tenant: &TenantId, run: &Run) -> (Arc<Live>, Vec<Arc<Live>>) {
        let live = Arc::new(Live {
            run_id: run.run_id.clone(),
            log: Log::new(),
            cancel: CancellationToken::new(),
            result: Mutex::new(Value::Null),
            stop: Mutex::new(Stop::Interrupt),
        });
        board.accepted += 1;
        let lane = (tenant.clone(), run.thread_id.clone());
        let lane = board.lanes.entry(lane).or_default();
        let before = lane.clone();
        lane.push(live.clone());
        let key = (tenant.clone(), run.run_id.clone());
        board.live.insert(key, live.clone());
        (live, before)
    }

    /// The run is over: its thread's next may start.
    pub(crate) fn leave(&self, tenant: &TenantId, thread: &str, live: &Arc<Live>) {
        let mut board = self.board();
        board.accepted = board.accepted.saturating_sub(1);
        let lane = (tenant.clone(), thread.to_owned());
        if let Some(others) = board.lanes.get_mut(&lane) {
            others.retain(|other| !Arc::ptr_eq(other, live));
            if others.is_empty() {
                board.lanes.remove(&lane);
            }
        }
        board.ended.push_back((tenant.clone(), live.run_id.clone()));
        if board.ended.len() > REMEMBERED
            && let Some(oldest) = board.ended.pop_front()
        {
            board.live.remove(&oldest);
        }
        drop(board);
        live.log.end();
    }

    /// Accepts a run: stores it and starts it as its strategy says.
    pub(crate) async fn submit(&self, scope: &Scope, run: Run) -> Answer<Arc<Live>> {
        let tenant = &scope.tenant;
        let lane = (tenant.clone(), run.thread_id.clone());
        let (live, before) = {
            let mut board = self.board();
            if board.accepted >= ACCEPTED {
                return Err(ApiError::Busy.into());
            }
            let others = board.lanes.get(&lane).cloned().unwrap_or_default();
            if !others.is_empty() {
                match run.multitask_strategy.as_str() {
                    "reject" => {
                        return Err(Refusal::invalid(
                            "Thread is already running a task. Wait for it to finish or choose a different multitask strategy.",
                        ));
                    }
                    "interrupt" => others.iter().for_each(|one| one.stop(Stop::Interrupt)),
                    "rollback" => others.iter().for_each(|one| one.stop(Stop::Rollback)),
                    _ if others.len() >= PER_THREAD => return Err(ApiError::Busy.into()),
                    _ => {}
                }
            }
            Self::enter(&mut board, tenant, &run)
        };
        let writes = vec![
            put_write(RUN, &run.run_id, &run.thread_id, &run, Expect::Absent),
            put_write(QUEUE, &run.run_id, "", &run.thread_id, Expect::Anything),
        ];
        let stored = self.put(tenant, writes).await;
        let marked = match &stored {
            Ok(_) => {
                let assistant = run.assistant_id.clone();
                let graph = self.assistant(tenant, &assistant).await?;
                let graph = graph.current().map(|one| one.graph_id.clone());
                self.change::<Thread>(tenant, THREAD, &run.thread_id, |thread| {
                    thread.status = "busy".to_owned();
                    thread.updated_at = now();
                    let metadata = &mut thread.metadata;
                    metadata.insert("assistant_id".to_owned(), assistant.clone().into());
                    metadata.insert("graph_id".to_owned(), graph.clone().into());
                })
                .await
                .map(|_| ())
            }
            Err(_) => Ok(()),
        };
        if let Err(refusal) = stored.map_err(Refusal::from).and(marked) {
            self.leave(tenant, &run.thread_id, &live);
            return Err(refusal);
        }
        self.execute(tenant.clone(), run, live.clone(), before, false);
        Ok(live)
    }

    fn execute(
        &self,
        tenant: TenantId,
        run: Run,
        live: Arc<Live>,
        before: Vec<Arc<Live>>,
        again: bool,
    ) {
        let user = UserId::new(&run.user).unwrap_or_else(|_| Scope::local().user);
        let scope = Scope {
            tenant,
            user,
            ..Scope::local()
        };
        let platform = self.clone();
        self.0.tasks.spawn(async move {
            worker::execute(&platform, &scope, run, &live, before, again).await;
        });
    }
}

/// A record of something that always serialises.
pub(crate) fn put_write<T: Serialize + ?Sized>(
    kind: &'static str,
    id: &str,
    group: &str,
    value: &T,
    expect: Expect,
) -> RecordWrite {
    RecordWrite::Put {
        kind,
        id: id.to_owned(),
        group: group.to_owned(),
        body: serde_json::to_string(value).unwrap_or_default(),
        expect,
    }
}
