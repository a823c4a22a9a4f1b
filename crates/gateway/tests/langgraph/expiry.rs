//! Threads and items with a time to live.

use std::sync::Arc;

use lyceum_core::MemoryRecords;
use lyceum_gateway::langgraph::Platform;
use serde_json::{Value, json};
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

#[tokio::test]
async fn an_entry_that_is_left_over_removes_nothing_new() {
    let records = Arc::new(MemoryRecords::new());
    let api = serve_platform(platform(records.clone()), &[]).await;
    let id = "00000000-0000-4000-8000-000000000001";
    let path = format!("/threads/{id}");
    let short = json!({ "thread_id": id, "ttl": 0 });
    api.ok("POST", "/threads", short.clone()).await;
    api.ok("DELETE", &path, Value::Null).await;
    api.ok("POST", "/threads", json!({ "thread_id": id })).await;
    // Another one is removed after the entry was looked at.
    let other = api.ok("POST", "/threads", json!({ "ttl": 0 })).await;
    let _tending = tend(&platform(records));
    let other = format!("/threads/{}", other["thread_id"].as_str().unwrap());
    until(&api, &other, 404).await;
    api.ok("GET", &path, Value::Null).await;
}
