//! The service behind the API: what it keeps, and how that is read.
//!
//! Invariant: nothing is read but for one owner. Deliberately absent: whose turn a thread is.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use lyceum_core::{
    Expect, Hints, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId,
};
use lyceum_graph::{CheckpointId, Saver, ThreadId};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    board::Board,
    chronicle::Chronicles,
    expiry::Expiries,
    refusal::{Answer, Refusal},
    resources::{Assistant, RUN, Run, THREAD, Thread, Versions},
    served::Served,
    webhooks::WebhookSender,
};
use crate::bell::Bell;

/// Runs that are executed at once; a run that waits for a model costs little.
const RUNNING: usize = 256;
/// Records read at once.
const PAGE: usize = 256;
/// The namespace in which a graph's own assistant gets its id (RFC 9562, section 5.5).
const ASSISTANTS: Uuid = Uuid::from_u128(0x6ba7_b821_9dad_11d1_80b4_00c0_4fd4_30c8);

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Platform(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) saver: Arc<dyn Saver>,
    pub(crate) graphs: BTreeMap<String, Served>,
    /// Whether clients may remove all they have at once.
    pub(crate) truncates: bool,
    pub(crate) slots: Semaphore,
    pub(crate) board: Mutex<Board>,
    pub(crate) tasks: TaskTracker,
    pub(crate) chronicles: Chronicles,
    /// The name of this process among those that share the records.
    pub(crate) me: Mutex<String>,
    /// What they tell each other.
    pub(crate) bell: Bell,
    /// Told when a lane of runs changes.
    pub(crate) lanes_changed: watch::Sender<()>,
    /// Told when a cron changes.
    pub(crate) crons_changed: Notify,
    /// What is known of the entries of things with a time to live.
    pub(crate) expiries: Expiries,
    /// What tells addresses of the ends of runs, where anything does.
    pub(crate) webhooks: Option<Arc<dyn WebhookSender>>,
    /// Told when something is owed to an address.
    pub(crate) webhooks_changed: Notify,
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
            truncates: false,
            slots: Semaphore::new(RUNNING),
            board: Mutex::default(),
            tasks: TaskTracker::new(),
            chronicles: Chronicles::default(),
            me: Mutex::new(Uuid::now_v7().to_string()),
            bell: Bell::default(),
            lanes_changed: watch::Sender::new(()),
            crons_changed: Notify::new(),
            expiries: Expiries::default(),
            webhooks: None,
            webhooks_changed: Notify::new(),
        }))
    }

    /// Lets clients remove all that they have at once, by `POST /internal/truncate`, as test
    /// suites of the API do. It takes effect on a platform that was not cloned yet.
    #[must_use]
    pub fn with_truncate(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.truncates = true;
        }
        self
    }

    /// Shares the records with other processes, which tell each other of what is new in them;
    /// [`Platform::tend_peers`] is to run then. It takes effect on a platform that was not cloned
    /// yet, and needs a tokio runtime.
    #[must_use]
    pub fn shared(mut self, hints: Arc<dyn Hints>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.bell = Bell::new(hints);
        }
        self
    }

    // === records ===

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        owner: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Answer<Option<T>> {
        let record = self.0.records.read(owner, kind, id).await?;
        Ok(record.and_then(|record| serde_json::from_str(&record.body).ok()))
    }

    /// All records of a kind that can be read as one, newest first.
    pub(crate) async fn all<T: DeserializeOwned>(
        &self,
        owner: &TenantId,
        kind: &'static str,
        group: Option<&str>,
    ) -> Answer<Vec<T>> {
        let records = self.records_of(owner, kind, group).await?;
        let read = records.iter();
        let read = read.filter_map(|record| serde_json::from_str(&record.body).ok());
        Ok(read.collect())
    }

    pub(crate) async fn records_of(
        &self,
        owner: &TenantId,
        kind: &'static str,
        group: Option<&str>,
    ) -> Answer<Vec<Record>> {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let list = RecordList {
                kind,
                group,
                before,
                limit: PAGE,
            };
            let page: Vec<Record> = self.0.records.list(owner, list).await?;
            let is_last = page.len() < PAGE;
            before = page.last().map(|record| record.seq);
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn put(
        &self,
        owner: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        self.0.records.write(owner, writes).await
    }

    /// Reads a record, changes it and writes it back, again where somebody else was faster.
    pub(crate) async fn change<T: Serialize + DeserializeOwned>(
        &self,
        owner: &TenantId,
        kind: &'static str,
        id: &str,
        change: impl FnMut(&mut T),
    ) -> Answer<Option<T>> {
        self.change_with(owner, (kind, id), &[], change).await
    }

    /// The same, with what is to be written with the record, or neither.
    pub(crate) async fn change_with<T: Serialize + DeserializeOwned>(
        &self,
        owner: &TenantId,
        (kind, id): (&'static str, &str),
        also: &[RecordWrite],
        mut change: impl FnMut(&mut T),
    ) -> Answer<Option<T>> {
        loop {
            let Some(record) = self.0.records.read(owner, kind, id).await? else {
                return Ok(None);
            };
            let mut value: T = serde_json::from_str(&record.body)?;
            change(&mut value);
            let expect = Expect::Revision(record.revision);
            let mut writes = vec![put_write(kind, id, &record.group, &value, expect)];
            writes.extend(also.iter().cloned());
            if self.put(owner, writes).await? {
                return Ok(Some(value));
            }
        }
    }

    // === assistants and threads ===

    /// The id of a graph's own assistant.
    pub(crate) fn default_id(graph: &str) -> String {
        Uuid::new_v5(&ASSISTANTS, graph.as_bytes()).to_string()
    }

    fn built_in(graph: &str, served: &Served) -> Versions {
        let given = |value: &Option<Value>| value.clone().unwrap_or_else(|| serde_json::json!({}));
        let assistant = Assistant {
            assistant_id: Self::default_id(graph),
            graph_id: graph.to_owned(),
            config: given(&served.about.config),
            context: given(&served.about.context),
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

    /// The assistants that everybody has: one per graph.
    pub(crate) fn built_ins(&self) -> impl Iterator<Item = Versions> {
        let graphs = self.0.graphs.iter();
        graphs.map(|(graph, served)| Self::built_in(graph, served))
    }

    pub(crate) async fn assistant(&self, owner: &TenantId, id: &str) -> Answer<Versions> {
        if let Some(found) = self
            .get::<Versions>(owner, super::resources::ASSISTANT, id)
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

    pub(crate) async fn thread(&self, owner: &TenantId, id: &str) -> Answer<Thread> {
        let found = self.get(owner, THREAD, id).await?;
        found.ok_or_else(|| Refusal::not_found("Thread"))
    }

    pub(crate) async fn run(&self, owner: &TenantId, thread: &str, id: &str) -> Answer<Run> {
        let found: Option<Run> = self.get(owner, RUN, id).await?;
        found
            .filter(|run| run.thread_id == thread)
            .ok_or_else(|| Refusal::not_found("Run"))
    }

    pub(crate) fn graph(&self, name: &str) -> Answer<Served> {
        let found = self.0.graphs.get(name).cloned();
        found.ok_or_else(|| Refusal::not_found("Graph"))
    }

    /// The saver's name of a thread: no owner reaches another's.
    pub(crate) fn key(owner: &TenantId, thread: &str) -> Answer<ThreadId> {
        ThreadId::new(format!("langgraph/{owner}/{thread}"))
            .map_err(|error| Refusal::invalid(error.to_string()))
    }

    /// The newest checkpoint that was not taken back; the second tells whether it is simply
    /// the newest.
    pub(crate) async fn head(
        &self,
        owner: &TenantId,
        thread: &Thread,
    ) -> Answer<Option<(CheckpointId, bool)>> {
        let key = Self::key(owner, &thread.thread_id)?;
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
