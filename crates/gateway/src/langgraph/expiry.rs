//! Threads and items that are kept for a while only.
//!
//! Invariant: what has a time to live has an entry in an index of its own, written before it or with
//! it, which is due no later than the thing itself; so what is due is found without reading
//! everything, and an entry that is left over removes nothing whose time has not come.
//! Deliberately absent: a time for what names none.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use lyceum_core::{Expect, Record, RecordWrite, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    due::{Found, LOOK, Looks, later, sift, until},
    ending::clear,
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    removal,
    resources::{EXPIRY, ITEM, THREAD, Thread},
    shelf::Item,
};
use crate::fenced::remove_at;

/// How long a thread that runs is left alone.
const BUSY: Duration = Duration::from_secs(60);
/// The most that one look removes; what is left is removed by the next.
const AT_ONCE: usize = 1_000;
/// The most entries of one owner.
const ENTRIES: usize = 50_000;

/// How long a thread is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ttl {
    strategy: Strategy,
    ttl_minutes: f64,
    expires_at: Timestamp,
}

/// What becomes of a thread whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    Delete,
    /// It is kept, with its newest checkpoint alone.
    KeepLatest,
}

impl Ttl {
    /// What a body says: minutes, or minutes and a strategy.
    ///
    /// # Errors
    ///
    /// A refusal when it is neither.
    pub(crate) fn read(asked: Option<&Value>) -> Answer<Option<Self>> {
        let Some(asked) = asked else {
            return Ok(None);
        };
        let minutes = asked.get("ttl").unwrap_or(asked).as_f64();
        let strategy = match asked.get("strategy").map(Value::as_str) {
            None | Some(Some("delete")) => Some(Strategy::Delete),
            Some(Some("keep_latest")) => Some(Strategy::KeepLatest),
            Some(_) => None,
        };
        let lasts = minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
        match (minutes, strategy, lasts) {
            (Some(ttl_minutes), Some(strategy), Some(lasts)) => Ok(Some(Self {
                strategy,
                ttl_minutes,
                expires_at: later(Timestamp::now(), lasts),
            })),
            _ => Err(Refusal::invalid(
                "ttl must be a number of minutes, or an object of ttl and strategy (delete or keep_latest)",
            )),
        }
    }

    /// When the thread's time comes.
    pub(crate) fn due(&self) -> Timestamp {
        self.expires_at
    }

    /// The entry of the index for a thread.
    pub(crate) fn entry(&self, thread: &str) -> RecordWrite {
        entry(&thread_entry(thread), self.expires_at, Expect::Anything)
    }
}

fn thread_entry(thread: &str) -> String {
    format!("thread/{thread}")
}

/// Takes the entry of a thread that is removed with it away.
pub(crate) fn no_thread_entry(thread: &str) -> RecordWrite {
    RecordWrite::Delete {
        kind: EXPIRY,
        id: thread_entry(thread),
    }
}

/// The entry of the index for an item.
pub(crate) fn item_entry(item: &str, due: Timestamp) -> RecordWrite {
    entry(&format!("item/{item}"), due, Expect::Anything)
}

/// Takes the entry of an item that is removed with it away.
pub(crate) fn no_item_entry(item: &str) -> RecordWrite {
    RecordWrite::Delete {
        kind: EXPIRY,
        id: format!("item/{item}"),
    }
}

fn entry(id: &str, due: Timestamp, expect: Expect) -> RecordWrite {
    put_write(EXPIRY, id, "", &due, expect)
}

/// What this process knows of the entries.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    /// Told when the next look is to be earlier.
    changed: Notify,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// When the next look is; the end of time while there is one.
    next: Timestamp,
    /// The entries of each owner: those of the last look and those added since.
    held: HashMap<TenantId, usize>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            next: Timestamp::MAX,
            held: HashMap::new(),
        }
    }
}

impl Expiries {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an entry that is to be written.
    ///
    /// # Errors
    ///
    /// A refusal when its owner has as many as one may.
    pub(crate) fn add(&self, owner: &TenantId) -> Answer<()> {
        let mut seen = self.seen();
        let held = seen.held.entry(owner.clone()).or_default();
        if *held < ENTRIES {
            *held += 1;
            return Ok(());
        }
        // One that was written again counts twice until they are counted.
        self.changed.notify_one();
        Err(Refusal::invalid(format!(
            "at most {ENTRIES} threads and items may have a ttl: remove some, or leave ttl out"
        )))
    }

    /// Says that an entry was written.
    pub(crate) fn written(&self, due: Timestamp) {
        if due < self.seen().next {
            self.changed.notify_one();
        }
    }
}

impl Platform {
    /// Removes threads and items whose time has come, until it is cancelled. Of several calls on
    /// one platform each removes some.
    pub async fn tend_expiries(&self, stop: CancellationToken) {
        let mut looks = Looks::new(Instant::now());
        loop {
            let began = Instant::now();
            if looks.is_due(began) {
                let wait = self.expire(Timestamp::now()).await;
                let wait = wait.unwrap_or_else(|refusal| {
                    tracing::error!(?refusal, "what has expired cannot be removed");
                    LOOK
                });
                looks.looked(began, Instant::now(), wait);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.expiries.changed.notified() => looks.by(Instant::now()),
                () = sleep_until(looks.next()) => {}
            }
        }
    }

    /// Removes what is due; gives the time until something is.
    async fn expire(&self, now: Timestamp) -> Answer<Duration> {
        let mut held = HashMap::new();
        // What is written from here on may be missed.
        self.0.expiries.seen().next = Timestamp::MAX;
        let all = self.0.records.every(EXPIRY).await?.into_iter();
        let all = all.map(|(owner, record)| {
            *held.entry(owner.clone()).or_default() += 1;
            // One that cannot be read is looked at, and so is what it stands for.
            let at = serde_json::from_str(&record.body).unwrap_or(Timestamp::MIN);
            (owner, at, record)
        });
        let Found { due, mut wait } = sift(all, now, AT_ONCE);
        for (owner, record) in due {
            let again = match self.expire_one(&owner, &record, now).await {
                Ok(again) => again,
                // One that cannot be removed now holds up no other.
                Err(refusal) => {
                    tracing::warn!(?refusal, id = record.id, "what has expired is still there");
                    Some(later(now, BUSY))
                }
            };
            // One that was written since it was read is for something new.
            let writes = match again {
                Some(again) => {
                    wait = wait.min(until(again, now));
                    let expect = Expect::Revision(record.revision);
                    vec![entry(&record.id, again, expect)]
                }
                None => remove_at(EXPIRY, record.id, record.revision).into(),
            };
            self.put(&owner, writes).await?;
        }
        let mut seen = self.0.expiries.seen();
        seen.next = later(now, wait);
        seen.held = held;
        Ok(wait)
    }

    /// Removes the thing of an entry if its time has come; gives when that is if it has not.
    async fn expire_one(
        &self,
        owner: &TenantId,
        entry: &Record,
        now: Timestamp,
    ) -> Answer<Option<Timestamp>> {
        if let Some(id) = entry.id.strip_prefix("thread/") {
            return self.expire_thread(owner, id, now).await;
        }
        let Some(id) = entry.id.strip_prefix("item/") else {
            return Ok(None);
        };
        let Some(record) = self.0.records.read(owner, ITEM, id).await? else {
            return Ok(None);
        };
        let item = serde_json::from_str::<Item>(&record.body)?;
        let due = item.expires_at.as_deref();
        let Some(due) = due.and_then(|due| due.parse::<Timestamp>().ok()) else {
            return Ok(None);
        };
        if due > now {
            return Ok(Some(due));
        }
        // One that was put meanwhile stays.
        let removal = remove_at(ITEM, id.to_owned(), record.revision);
        let is_removed = self.put(owner, removal.into()).await?;
        Ok((!is_removed).then_some(now))
    }

    async fn expire_thread(
        &self,
        owner: &TenantId,
        id: &str,
        now: Timestamp,
    ) -> Answer<Option<Timestamp>> {
        let Some(record) = self.0.records.read(owner, THREAD, id).await? else {
            // A process may have ended before the checkpoints of one that it removed were.
            clear(self, owner, id).await?;
            return Ok(None);
        };
        let thread: Thread = serde_json::from_str(&record.body)?;
        let Some(ttl) = thread.ttl else {
            return Ok(None);
        };
        if ttl.expires_at > now {
            return Ok(Some(ttl.expires_at));
        }
        if !thread.lane.is_empty() {
            return Ok(Some(later(now, BUSY)));
        }
        match ttl.strategy {
            Strategy::Delete => {
                let is_removed = removal::remove_unchanged(self, owner, record).await?;
                return Ok((!is_removed).then_some(now));
            }
            Strategy::KeepLatest => {
                removal::keep_latest(self, owner, id).await?;
                let forget = |thread: &mut Thread| {
                    thread.ttl.take_if(|kept| *kept == ttl);
                };
                self.change::<Thread>(owner, THREAD, id, forget).await?;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use async_trait::async_trait;
    use lyceum_core::{MemoryRecords, RecordError, RecordList, RecordStore};
    use lyceum_graph::MemorySaver;
    use serde_json::json;

    use super::*;

    /// Records that count how often everything is read.
    #[derive(Debug, Default)]
    struct Counted {
        records: MemoryRecords,
        looks: AtomicUsize,
    }

    #[async_trait]
    impl RecordStore for Counted {
        async fn write(
            &self,
            tenant: &TenantId,
            writes: Vec<RecordWrite>,
        ) -> Result<bool, RecordError> {
            self.records.write(tenant, writes).await
        }

        async fn read(
            &self,
            tenant: &TenantId,
            kind: &'static str,
            id: &str,
        ) -> Result<Option<Record>, RecordError> {
            self.records.read(tenant, kind, id).await
        }

        async fn list(
            &self,
            tenant: &TenantId,
            list: RecordList<'_>,
        ) -> Result<Vec<Record>, RecordError> {
            self.records.list(tenant, list).await
        }

        async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
            self.looks.fetch_add(1, Ordering::SeqCst);
            self.records.every(kind).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_read_for_what_is_due_soon_and_once_a_second_at_most() {
        let records = Arc::new(Counted::default());
        let platform = Platform::new([], records.clone(), Arc::new(MemorySaver::new()));
        let stop = CancellationToken::new();
        let tending = platform.clone();
        let tended = stop.clone();
        let tending = tokio::spawn(async move { tending.tend_expiries(tended).await });
        let write = async |due: Timestamp| {
            for _ in 0..100 {
                platform.0.expiries.written(due);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let looks = || records.looks.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(looks(), 1);
        let hour = Duration::from_secs(60 * 60);
        write(later(Timestamp::now(), hour)).await;
        assert_eq!(looks(), 1, "nothing was due soon");
        write(Timestamp::now()).await;
        assert!((2..=4).contains(&looks()), "{}", looks());
        stop.cancel();
        tending.await.unwrap();
    }

    #[test]
    fn an_owner_has_so_many_entries_and_no_more() {
        let (many, few) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let expiries = Expiries::default();
        for _ in 0..ENTRIES {
            expiries.add(&many).unwrap();
        }
        assert!(expiries.add(&many).is_err());
        assert!(expiries.add(&few).is_ok());
    }

    #[test]
    fn a_time_to_live_is_minutes_with_or_without_a_strategy() {
        let read = |asked: Value| Ttl::read(Some(&asked));
        let plain = read(json!(1.5)).unwrap().unwrap();
        assert_eq!((plain.strategy, plain.ttl_minutes), (Strategy::Delete, 1.5));
        let named = read(json!({ "ttl": 2, "strategy": "keep_latest" }));
        assert_eq!(named.unwrap().unwrap().strategy, Strategy::KeepLatest);
        let forever = read(json!(1e15)).unwrap().unwrap();
        assert_eq!(forever.expires_at, Timestamp::MAX);
        for wrong in [
            json!("1"),
            json!(-1),
            json!({}),
            json!({ "ttl": 1, "strategy": "burn" }),
            json!({ "ttl": 1, "strategy": 3 }),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(Ttl::read(None).unwrap().is_none());
    }
}
