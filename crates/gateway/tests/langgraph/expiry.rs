//! Threads and items with a time to live.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{
    Expect, MemoryRecords, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId,
};
use lyceum_gateway::langgraph::Platform;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    client::{Api, hi, platform, serve_platform},
    support::soon,
};

fn tend(platform: &Platform) -> AbortOnDropHandle<()> {
    let platform = platform.clone();
    let tending = async move { platform.tend_expiries(CancellationToken::new()).await };
    AbortOnDropHandle::new(tokio::spawn(tending))
}

/// Waits until a path answers with this status.
async fn until(api: &Api, path: &str, status: u16) {
    let waits = async {
        while api.call("", "GET", path, Value::Null).await.status != status {
            tokio::task::yield_now().await;
        }
    };
    soon(waits).await;
}

#[tokio::test]
async fn a_thread_is_removed_when_its_time_has_come() {
    let platform = platform(Arc::new(MemoryRecords::new()));
    let _tending = tend(&platform);
    let api = serve_platform(platform, &[]).await;
    let kept = api
        .ok("POST", "/threads", json!({ "ttl": { "ttl": 60 } }))
        .await;
    let kept = format!("/threads/{}", kept["thread_id"].as_str().unwrap());
    let body = json!({ "ttl": { "ttl": 0, "strategy": "delete" } });
    let gone = api.ok("POST", "/threads", body.clone()).await;
    let gone = format!("/threads/{}", gone["thread_id"].as_str().unwrap());
    until(&api, &gone, 404).await;
    let shown = api
        .ok("GET", &format!("{kept}?include=ttl"), Value::Null)
        .await;
    assert_eq!(shown["ttl"]["strategy"], "delete");
    assert_eq!(shown["ttl"]["ttl_minutes"], 60.0);
    assert!(shown["ttl"]["expires_at"].is_string());
    let plain = api.ok("GET", &kept, Value::Null).await;
    assert!(plain.get("ttl").is_none(), "{plain}");
    api.ok("PATCH", &kept, body).await;
    until(&api, &kept, 404).await;
    let wrong = json!({ "ttl": { "ttl": 1, "strategy": "burn" } });
    let reply = api.call("", "POST", "/threads", wrong).await;
    assert_eq!(reply.status, 422, "{reply:?}");
}

#[tokio::test]
async fn a_thread_may_keep_its_newest_state_alone() {
    let platform = platform(Arc::new(MemoryRecords::new()));
    let _tending = tend(&platform);
    let api = serve_platform(platform, &[]).await;
    let thread = format!("/threads/{}", api.thread("").await);
    api.ok("POST", &format!("{thread}/runs/wait"), hi()).await;
    let body = json!({ "ttl": { "ttl": 0, "strategy": "keep_latest" } });
    api.ok("PATCH", &thread, body).await;
    let history = format!("{thread}/history");
    let waits = async {
        while api
            .ok("GET", &history, Value::Null)
            .await
            .as_array()
            .unwrap()
            .len()
            != 1
        {
            tokio::task::yield_now().await;
        }
    };
    soon(waits).await;
    let state = api.ok("GET", &format!("{thread}/state"), Value::Null).await;
    assert_eq!(
        state["values"]["messages"][1]["content"], "hello, local",
        "{state}"
    );
}

/// The entries of things with a time to live.
async fn entries(records: &MemoryRecords) -> Vec<(TenantId, Record)> {
    records.every("lg_expiry").await.unwrap()
}

/// Writes entries again whose threads are removed, as if they had been left over.
async fn leave_over(records: &MemoryRecords, entries: Vec<(TenantId, Record)>) {
    for (owner, entry) in entries {
        let write = RecordWrite::Put {
            kind: "lg_expiry",
            id: entry.id,
            group: entry.group,
            body: entry.body,
            expect: Expect::Anything,
        };
        assert!(records.write(&owner, vec![write]).await.unwrap());
    }
}

#[tokio::test]
async fn an_entry_goes_with_its_thread() {
    let records = Arc::new(MemoryRecords::new());
    let api = serve_platform(platform(records.clone()).with_truncate(), &[]).await;
    let kept = api.ok("POST", "/threads", json!({ "ttl": 60 })).await;
    let kept = kept["thread_id"].as_str().unwrap().to_owned();
    for way in ["delete", "prune", "truncate"] {
        let gone = api.ok("POST", "/threads", json!({ "ttl": 60 })).await;
        let id = gone["thread_id"].as_str().unwrap();
        let named = json!({ "thread_ids": [id] });
        match way {
            "delete" => {
                api.ok("DELETE", &format!("/threads/{id}"), Value::Null)
                    .await
            }
            "prune" => api.ok("POST", "/threads/prune", named).await,
            _ => {
                let all = json!({ "threads": true });
                api.ok("POST", "/internal/truncate", all).await
            }
        };
        let left = entries(&records).await;
        let left: Vec<_> = left.iter().map(|(_, entry)| entry.id.as_str()).collect();
        let expected = match way {
            "truncate" => vec![],
            _ => vec![format!("thread/{kept}")],
        };
        assert_eq!(left, expected, "{way}");
    }
}

#[tokio::test]
async fn an_entry_that_is_left_over_removes_nothing_new() {
    let records = Arc::new(MemoryRecords::new());
    let api = serve_platform(platform(records.clone()), &[]).await;
    let id = "00000000-0000-4000-8000-000000000001";
    let path = format!("/threads/{id}");
    let short = json!({ "thread_id": id, "ttl": 0 });
    api.ok("POST", "/threads", short.clone()).await;
    let old = entries(&records).await;
    api.ok("DELETE", &path, Value::Null).await;
    leave_over(&records, old).await;
    api.ok("POST", "/threads", json!({ "thread_id": id })).await;
    // Another one is removed after the entry was looked at.
    let other = api.ok("POST", "/threads", json!({ "ttl": 0 })).await;
    let _tending = tend(&platform(records));
    let other = format!("/threads/{}", other["thread_id"].as_str().unwrap());
    until(&api, &other, 404).await;
    api.ok("GET", &path, Value::Null).await;
}

/// Records of which the first read of a kind is answered late: with what was there before.
#[derive(Debug)]
struct Late {
    records: Arc<MemoryRecords>,
    kind: &'static str,
    /// Reads that began.
    begun: Semaphore,
    /// A closed one lets all pass.
    answered: Semaphore,
}

impl Late {
    fn new(records: &Arc<MemoryRecords>, kind: &'static str) -> Arc<Self> {
        Arc::new(Self {
            records: records.clone(),
            kind,
            begun: Semaphore::new(0),
            answered: Semaphore::new(0),
        })
    }

    /// Waits for the read.
    async fn has_read(&self) {
        soon(self.begun.acquire()).await.unwrap().forget();
    }
}

#[async_trait]
impl RecordStore for Late {
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
        let found = self.records.read(tenant, kind, id).await;
        if kind == self.kind {
            self.begun.add_permits(1);
            assert!(self.answered.acquire().await.is_err());
        }
        found
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        self.records.list(tenant, list).await
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        self.records.every(kind).await
    }
}

const ID: &str = "00000000-0000-4000-8000-000000000001";

/// Two threads whose time has come; gives the path of the second.
async fn two_due(api: &Api) -> String {
    let first = json!({ "thread_id": ID, "ttl": 0 });
    api.ok("POST", "/threads", first).await;
    let other = api.ok("POST", "/threads", json!({ "ttl": 0 })).await;
    format!("/threads/{}", other["thread_id"].as_str().unwrap())
}

#[tokio::test]
async fn a_thread_that_is_extended_while_it_is_looked_at_stays() {
    let records = Arc::default();
    let api = serve_platform(platform(Arc::clone(&records) as _), &[]).await;
    let other = two_due(&api).await;
    let late = Late::new(&records, "lg_thread");
    let _tending = tend(&platform(late.clone()));
    late.has_read().await;
    let path = format!("/threads/{ID}");
    api.ok("PATCH", &path, json!({ "ttl": 60 })).await;
    late.answered.close();
    until(&api, &other, 404).await;
    api.ok("GET", &path, Value::Null).await;
}

#[tokio::test]
async fn an_entry_that_is_written_while_it_is_looked_at_stays() {
    let records = Arc::default();
    let api = serve_platform(platform(Arc::clone(&records) as _), &[]).await;
    let other = two_due(&api).await;
    let old = entries(&records).await;
    api.ok("DELETE", &format!("/threads/{ID}"), Value::Null)
        .await;
    leave_over(&records, old).await;
    let late = Late::new(&records, "lg_thread");
    let _tending = tend(&platform(late.clone()));
    late.has_read().await;
    let again = json!({ "thread_id": ID, "ttl": 60 });
    api.ok("POST", "/threads", again).await;
    late.answered.close();
    until(&api, &other, 404).await;
    let left = entries(&records).await;
    let mut ids = left.iter().map(|(_, entry)| entry.id.as_str());
    assert!(ids.any(|id| id.ends_with(ID)), "{left:?}");
}

#[tokio::test]
async fn an_item_that_is_removed_while_it_is_read_stays_removed() {
    let records = Arc::default();
    let api = serve_platform(platform(Arc::clone(&records) as _), &[]).await;
    let mut item = json!({ "namespace": ["notes"], "key": "one", "value": {}, "ttl": 60 });
    api.ok("PUT", "/store/items", item.clone()).await;
    let late = Late::new(&records, "lg_item");
    let reading = serve_platform(platform(late.clone()), &[]).await;
    let path = "/store/items?namespace=notes&key=one";
    let remove = async {
        late.has_read().await;
        let named = json!({ "namespace": ["notes"], "key": "one" });
        api.ok("DELETE", "/store/items", named).await;
        late.answered.close();
    };
    tokio::join!(reading.ok("GET", path, Value::Null), remove);
    assert_eq!(api.ok("GET", path, Value::Null).await, Value::Null);
    item["ttl"] = json!(-1);
    let reply = api.call("", "PUT", "/store/items", item).await;
    assert_eq!(reply.status, 422, "{reply:?}");
}
