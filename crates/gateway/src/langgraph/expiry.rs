//! Threads and items that are kept for a while only.
//!
//! Invariant: what has a time to live has an entry in an index of its own, written before it or with
//! it, which is due no later than the thing itself; so what is due is found without reading
//! everything, and an entry that is left over removes nothing whose time has not come.
//! Deliberately absent: a time for what names none.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lyceum_core::{Expect, Record, RecordWrite, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{EXPIRY, ITEM, THREAD, Thread},
    shelf::Item,
    threads,
};

/// How often what is due is looked for at least, and how long a thread that runs is left alone.
const LOOK: Duration = Duration::from_secs(15);
const BUSY: Duration = Duration::from_secs(60);

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

    /// The entry of the index for a thread.
    pub(crate) fn entry(&self, thread: &str) -> RecordWrite {
        entry(&of_thread(thread), self.expires_at)
    }
}

/// The entry of the index for an item.
pub(crate) fn item_entry(item: &str, lasts: Duration) -> RecordWrite {
    entry(&format!("item/{item}"), later(Timestamp::now(), lasts))
}

/// A time after another; the latest there is where it would be beyond that.
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn of_thread(id: &str) -> String {
    format!("thread/{id}")
}

fn entry(id: &str, due: Timestamp) -> RecordWrite {
    put_write(EXPIRY, id, "", &due, Expect::Anything)
}

impl Platform {
    /// Removes threads and items whose time has come, until it is cancelled.
    pub async fn tend_expiries(&self, stop: CancellationToken) {
        loop {
            let wait = match self.expire(Timestamp::now()).await {
                Ok(wait) => wait,
                Err(refusal) => {
                    tracing::error!(?refusal, "what has expired cannot be removed");
                    LOOK
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.expiries_changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Removes what is due; gives the time until something is.
    async fn expire(&self, now: Timestamp) -> Answer<Duration> {
        let mut wait = LOOK;
        for (owner, record) in self.0.records.every(EXPIRY).await? {
            let due = serde_json::from_str::<Timestamp>(&record.body).ok();
            if let Some(due) = due.filter(|due| *due > now) {
                wait = wait.min(due.duration_since(now).unsigned_abs());
                continue;
            }
            match self.expire_one(&owner, &record, now).await {
                Ok(None) => {
                    let forget = RecordWrite::Delete {
                        kind: EXPIRY,
                        id: record.id,
                    };
                    self.put(&owner, vec![forget]).await?;
                }
                Ok(Some(due)) => {
                    self.put(&owner, vec![entry(&record.id, due)]).await?;
                    wait = wait.min(due.duration_since(now).unsigned_abs());
                }
                // One that cannot be removed now holds up no other.
                Err(refusal) => {
                    tracing::warn!(?refusal, id = record.id, "what has expired is still there");
                }
            }
        }
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
        // Written before it is removed, so that one that was put meanwhile stays.
        let expect = Expect::Revision(record.revision);
        let writes = vec![
            put_write(ITEM, id, &record.group, &item, expect),
            RecordWrite::Delete {
                kind: ITEM,
                id: id.to_owned(),
            },
        ];
        let is_removed = self.put(owner, writes).await?;
        Ok((!is_removed).then_some(now))
    }

    async fn expire_thread(
        &self,
        owner: &TenantId,
        id: &str,
        now: Timestamp,
    ) -> Answer<Option<Timestamp>> {
        let Some(thread) = self.get::<Thread>(owner, THREAD, id).await? else {
            return Ok(None);
        };
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
            Strategy::Delete => threads::remove(self, owner, id).await?,
            Strategy::KeepLatest => {
                threads::keep_latest(self, owner, id).await?;
                let forget = |thread: &mut Thread| thread.ttl = None;
                self.change::<Thread>(owner, THREAD, id, forget).await?;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
