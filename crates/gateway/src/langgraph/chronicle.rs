//! What happened on a thread, for clients of its stream: one log over all its runs.
//!
//! Invariant: events have numbers that rise by one from 1, and a reader that comes back with
//! the last number it has read misses nothing that is still kept. Where several processes share the
//! records each has numbers of its own, which tell a reader that comes from another one: it begins
//! with the newest run. Deliberately absent: the disk; after a restart a reader gets the
//! thread's state.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lyceum_core::TenantId;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use super::log::{Entry, Log};

/// Threads whose events are kept; the ones that were used least recently go first.
const THREADS: usize = 256;
/// The most that is kept of one thread, in bytes.
const BYTES: usize = 4 << 20;
/// Between the parts of an entry's name.
const BETWEEN: char = '\u{1f}';
/// How long a question is held back from a reader of questions alone: a client that opens its
/// other streams when it starts a run is to read there what came before the question.
const HOLD: Duration = Duration::from_millis(100);
/// How long such a reader waits for the others at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// The channels of a thread's stream; `custom:NAME` is one too.
pub(crate) const CHANNELS: [&str; 9] = [
    "values",
    "updates",
    "messages",
    "tools",
    "lifecycle",
    "input",
    "checkpoints",
    "tasks",
    "custom",
];

/// What a reader wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) channels: Vec<String>,
    pub(crate) namespaces: Option<Vec<Vec<String>>>,
    pub(crate) depth: Option<usize>,
}

impl Filter {
    /// Whether it is for what steers a client, not for what a client shows.
    fn is_control(&self) -> bool {
        self.channels
            .iter()
            .all(|channel| channel == "lifecycle" || channel == "input")
    }

    fn wants(&self, entry: &Entry) -> bool {
        let (channel, namespace) = parts(entry);
        let is_asked = self
            .channels
            .iter()
            .any(|asked| asked == channel || (asked == "custom" && channel.starts_with("custom:")));
        is_asked && self.is_near(&namespace)
    }

    fn is_near(&self, namespace: &[&str]) -> bool {
        let Some(prefixes) = self.namespaces.as_ref().filter(|all| !all.is_empty()) else {
            return self.depth.is_none_or(|depth| namespace.len() <= depth);
        };
        prefixes.iter().any(|prefix| {
            let is_deep = |depth| namespace.len() - prefix.len() <= depth;
            namespace.len() >= prefix.len()
                && prefix.iter().zip(namespace).all(|(wanted, given)| {
                    wanted == given
                        || (!wanted.contains(':') && given.split(':').next() == Some(wanted))
                })
                && self.depth.is_none_or(is_deep)
        })
    }
}

fn parts(entry: &Entry) -> (&str, Vec<&str>) {
    let (channel, path) = entry
        .event
        .split_once(BETWEEN)
        .unwrap_or((&entry.event, ""));
    let namespace = path.split('|').filter(|part| !part.is_empty());
    (channel, namespace.collect())
}

/// The log of one thread.
#[derive(Debug)]
pub(crate) struct Chronicle {
    log: Log,
    /// Where the newest run begins: what a reader without a number starts at.
    newest: AtomicU64,
    /// How far readers of more than questions are.
    readers: Mutex<Vec<Weak<AtomicU64>>>,
    used: Mutex<Instant>,
    first: u64,
    /// How far each run of another process is told here, and each that others may tell on.
    known: Mutex<HashMap<String, u64>>,
    /// Whether somebody tells what other processes run.
    echoed: AtomicBool,
}

impl Chronicle {
    fn new(first: u64) -> Self {
        Self {
            log: Log::beginning_at(first, BYTES),
            newest: AtomicU64::new(first),
            readers: Mutex::default(),
            used: Mutex::new(Instant::now()),
            first,
            known: Mutex::default(),
            echoed: AtomicBool::new(false),
        }
    }

    /// Takes on to tell what other processes run, unless somebody does.
    pub(crate) fn begin_echo(&self) -> bool {
        !self.echoed.swap(true, Ordering::AcqRel)
    }

    /// Gives that up where nobody reads; whoever calls holds one of two references then.
    pub(crate) fn end_echo(self: &Arc<Self>) -> bool {
        let is_unread = || Arc::strong_count(self) <= 2;
        if !is_unread() {
            return false;
        }
        // Who comes after this tells it again; who came just before found it told.
        self.echoed.swap(false, Ordering::AcqRel);
        is_unread() || !self.begin_echo()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an event of a run is told here; gives its name, the same at all processes.
    pub(crate) fn know(&self, run: &str, place: u64) -> String {
        self.known().insert(run.to_owned(), place + 1);
        format!("{run}/{place}")
    }

    /// The first event of a run that is not told here; `None` where none of it is.
    pub(crate) fn next_of(&self, run: &str) -> Option<u64> {
        self.known().get(run).copied()
    }

    /// Takes all of a run for told.
    pub(crate) fn skip(&self, run: &str) {
        self.known().insert(run.to_owned(), u64::MAX);
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Notes that a run is about to be accepted; gives the number of the last event before it.
    pub(crate) fn run_begins(&self) -> u64 {
        let next = self.log.next_id();
        self.newest.store(next, Ordering::Relaxed);
        next
    }

    /// Writes an event.
    pub(crate) fn tell(
        &self,
        method: &str,
        namespace: &[String],
        data: &Value,
        event_id: Option<String>,
    ) {
        let channel = match method {
            "input.requested" => "input".to_owned(),
            "custom" => match data.get("name").and_then(Value::as_str) {
                Some(name) => format!("custom:{name}"),
                None => "custom".to_owned(),
            },
            method => method.to_owned(),
        };
        let at = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let at = i64::try_from(at).unwrap_or_default();
        let name = format!("{channel}{BETWEEN}{}", namespace.join("|"));
        self.log.push_with(name, |id| {
            json!({
                "type": "event", "seq": id + 1,
                "event_id": event_id.unwrap_or_else(|| (id + 1).to_string()),
                "method": method,
                "params": { "namespace": namespace, "timestamp": at, "data": data },
            })
        });
    }

    /// A reader from after this number on, or from where the newest run begins.
    pub(crate) fn read(self: &Arc<Self>, filter: Filter, since: Option<u64>) -> Reading {
        self.touch();
        let newest = self.newest.load(Ordering::Relaxed);
        let given = self.first..=self.log.next_id();
        let since = since.filter(|since| *since == 0 || given.contains(since));
        let place = Arc::new(AtomicU64::new(since.unwrap_or(newest)));
        if !filter.is_control() {
            let mut readers = self.readers();
            readers.retain(|reader| reader.strong_count() > 0);
            readers.push(Arc::downgrade(&place));
        }
        Reading {
            chronicle: self.clone(),
            filter,
            place,
        }
    }

    /// Waits until the other readers have read what came before an event.
    async fn others(&self, id: u64) {
        let until = Instant::now() + PATIENCE;
        sleep(HOLD).await;
        while Instant::now() < until {
            let is_behind = |reader: &Weak<AtomicU64>| {
                let place = reader.upgrade();
                place.is_some_and(|place| place.load(Ordering::Relaxed) < id)
            };
            if !self.readers().iter().any(is_behind) {
                return;
            }
            sleep(HOLD / 10).await;
        }
    }
}

/// One reader's place in a thread's log.
#[derive(Debug)]
pub(crate) struct Reading {
    chronicle: Arc<Chronicle>,
    pub(crate) filter: Filter,
    /// The number of the last event read.
    place: Arc<AtomicU64>,
}

impl Reading {
    /// The next event that the reader wants: its number, method and text.
    ///
    /// Cancel safe: an event that was not given is given by the next call.
    pub(crate) async fn next(&mut self) -> Option<(u64, String, String)> {
        loop {
            let id = self.place.load(Ordering::Relaxed);
            let entry = self.chronicle.log.at(id).await?;
            self.chronicle.touch();
            if !self.filter.wants(&entry) {
                self.place.store(entry.id + 1, Ordering::Relaxed);
                continue;
            }
            let (channel, _) = parts(&entry);
            if channel == "input" && self.filter.is_control() {
                self.chronicle.others(entry.id).await;
            }
            let method = match channel.split(':').next().unwrap_or_default() {
                "input" => "input.requested".to_owned(),
                method => method.to_owned(),
            };
            self.place.store(entry.id + 1, Ordering::Relaxed);
            return Some((entry.id + 1, method, entry.data));
        }
    }
}

/// The logs of all threads that somebody follows.
#[derive(Debug, Default)]
pub(crate) struct Chronicles(Mutex<HashMap<(TenantId, String), Arc<Chronicle>>>);

impl Chronicles {
    fn all(&self) -> MutexGuard<'_, HashMap<(TenantId, String), Arc<Chronicle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a thread that somebody follows.
    pub(crate) fn find(&self, owner: &TenantId, thread: &str) -> Option<Arc<Chronicle>> {
        let key = (owner.clone(), thread.to_owned());
        self.all().get(&key).cloned()
    }

    /// The log of a thread, begun now where nobody followed it before, with this number.
    pub(crate) fn open(&self, owner: &TenantId, thread: &str, first: u64) -> Arc<Chronicle> {
        let key = (owner.clone(), thread.to_owned());
        let mut all = self.all();
        if let Some(found) = all.get(&key) {
            return found.clone();
        }
        if all.len() >= THREADS {
            let unread = all.iter().filter(|(_, one)| Arc::strong_count(one) == 1);
            let used =
                |one: &Arc<Chronicle>| *one.used.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = unread.min_by_key(|(_, one)| used(one));
            let oldest = oldest.map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                all.remove(&oldest);
            }
        }
        let new = Arc::new(Chronicle::new(first));
        all.insert(key, new.clone());
        new
    }

    /// Forgets a thread.
    pub(crate) fn forget(&self, owner: &TenantId, thread: &str) {
        let key = (owner.clone(), thread.to_owned());
        self.all().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(channels: &[&str]) -> Filter {
        Filter {
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            ..Filter::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readers_get_their_channels_and_namespaces_from_where_they_were() {
        let chronicles = Chronicles::default();
        let owner = TenantId::new("o").unwrap();
        let chronicle = chronicles.open(&owner, "t", 0);
        chronicle.run_begins();
        chronicle.tell("values", &[], &json!({ "a": 1 }), None);
        chronicle.tell(
            "custom",
            &[],
            &json!({ "name": "progress", "step": 1 }),
            None,
        );
        chronicle.tell("values", &["child:1f".to_owned()], &json!({ "a": 2 }), None);
        let mut reading = chronicle.read(filter(&["values"]), None);
        assert_eq!(reading.next().await.unwrap().0, 1);
        assert_eq!(reading.next().await.unwrap().0, 3);
        let mut near = filter(&["values", "custom"]);
        near.depth = Some(0);
        let mut reading = chronicle.read(near, Some(1));
        let (seq, method, text) = reading.next().await.unwrap();
        assert_eq!((seq, method.as_str()), (2, "custom"));
        assert!(text.contains("\"seq\":2"), "{text}");
        let mut inside = filter(&["values"]);
        inside.namespaces = Some(vec![vec!["child".to_owned()]]);
        let mut reading = chronicle.read(inside, None);
        assert_eq!(reading.next().await.unwrap().0, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_for_those_who_read_what_came_before_it() {
        let chronicle = Arc::new(Chronicle::new(0));
        chronicle.tell("values", &[], &json!({}), None);
        chronicle.tell(
            "input.requested",
            &[],
            &json!({ "interrupt_id": "i" }),
            None,
        );
        let mut slow = chronicle.read(filter(&["values"]), None);
        let mut control = chronicle.read(filter(&["lifecycle", "input"]), None);
        let early = tokio::time::timeout(HOLD * 2, control.next()).await;
        assert!(early.is_err());
        slow.next().await.unwrap();
        let (seq, method, _) = control.next().await.unwrap();
        assert_eq!((seq, method.as_str()), (2, "input.requested"));
    }
}
