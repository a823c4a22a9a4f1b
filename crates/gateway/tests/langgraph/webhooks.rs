//! The ends of runs are told to the addresses that clients gave.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use lyceum_core::{MemoryRecords, RecordStore as _};
use lyceum_gateway::langgraph::{Platform, WebhookError, WebhookSender};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    client::{Api, hi, platform, serve_platform},
    support::soon,
};

/// Sends to a channel, after it failed a few times; `/refused` never takes anything.
#[derive(Debug)]
struct Sender {
    failures: AtomicUsize,
    tries: AtomicUsize,
    sent: UnboundedSender<(String, Value)>,
}

impl WebhookSender for Sender {
    fn check(&self, address: &str) -> Result<(), WebhookError> {
        match address.starts_with("https://") {
            true => Ok(()),
            false => Err(WebhookError::Refused("it is not https".to_owned())),
        }
    }

    fn send<'a>(
        &'a self,
        address: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), WebhookError>> {
        Box::pin(async move {
            self.tries.fetch_add(1, Ordering::SeqCst);
            let fails = |left: usize| left.checked_sub(1);
            let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
            if self.failures.fetch_update(set, get, fails).is_ok() {
                return Err(WebhookError::Failed("busy".to_owned()));
            }
            if address.ends_with("/refused") {
                return Err(WebhookError::Refused("gone".to_owned()));
            }
            let body = serde_json::from_slice(&body).unwrap();
            self.sent.send((address.to_owned(), body)).unwrap();
            Ok(())
        })
    }
}

struct Told {
    sender: Arc<Sender>,
    sent: UnboundedReceiver<(String, Value)>,
}

fn teller(failures: usize) -> Told {
    let (sent, received) = unbounded_channel();
    let sender = Arc::new(Sender {
        failures: failures.into(),
        tries: AtomicUsize::new(0),
        sent,
    });
    Told {
        sender,
        sent: received,
    }
}

impl Told {
    async fn next(&mut self) -> (String, Value) {
        soon(self.sent.recv()).await.unwrap()
    }

    fn platform(&self, records: &Arc<MemoryRecords>) -> Platform {
        platform(records.clone()).with_webhooks(self.sender.clone())
    }
}

fn tend(platform: &Platform) -> AbortOnDropHandle<()> {
    let platform = platform.clone();
    let tending = async move { platform.tend_webhooks(CancellationToken::new()).await };
    AbortOnDropHandle::new(tokio::spawn(tending))
}

async fn ran(api: &Api, webhook: &str) -> (String, String) {
    let thread = api.thread("").await;
    let mut body = hi();
    body["webhook"] = webhook.into();
    body["metadata"] = json!({ "mark": webhook });
    let path = format!("/threads/{thread}/runs");
    let run = api.ok("POST", &path, body).await;
    let run = run["run_id"].as_str().unwrap().to_owned();
    api.ok("GET", &format!("{path}/{run}/join"), Value::Null)
        .await;
    (thread, run)
}

#[tokio::test]
async fn the_end_of_a_run_is_told_with_what_it_made() {
    let mut told = teller(0);
    let platform = told.platform(&Arc::default());
    let _tending = tend(&platform);
    let api = serve_platform(platform, &[]).await;
    let (thread, run) = ran(&api, "https://example.org/a").await;
    let (address, body) = told.next().await;
    assert_eq!(address, "https://example.org/a");
    assert_eq!(body["run_id"], run);
    assert_eq!(body["thread_id"], thread);
    assert_eq!(body["status"], "success");
    assert_eq!(body["metadata"]["mark"], "https://example.org/a");
    assert_eq!(body["values"]["messages"][1]["content"], "hello, local");
    assert_eq!(body["kwargs"]["assistant_id"], "talk");
    for name in ["run_started_at", "run_ended_at", "webhook_sent_at"] {
        assert!(body[name].is_string(), "{name} {body}");
    }
    assert!(body.get("error").is_none(), "{body}");
    // One on a thread of its own, of which nothing is left.
    let mut alone = hi();
    alone["webhook"] = json!("https://example.org/alone");
    api.ok("POST", "/runs/wait", alone).await;
    let (address, body) = told.next().await;
    assert_eq!(address, "https://example.org/alone");
    assert_eq!(body["values"]["messages"][1]["content"], "hello, local");
}

#[tokio::test]
async fn a_failed_run_says_why() {
    let mut told = teller(0);
    let platform = told.platform(&Arc::default());
    let _tending = tend(&platform);
    let api = serve_platform(platform, &[]).await;
    // There is nothing to answer.
    let body = json!({
        "assistant_id": "talk", "command": { "resume": 1 }, "webhook": "https://example.org/a",
    });
    api.ok("POST", "/runs/wait", body).await;
    let (_, body) = told.next().await;
    assert_eq!(body["status"], "error", "{body}");
    assert!(body["error"].is_string(), "{body}");
}

#[tokio::test]
async fn what_did_not_arrive_is_sent_again_and_what_is_refused_is_not() {
    let mut told = teller(1);
    let platform = told.platform(&Arc::default());
    let _tending = tend(&platform);
    let api = serve_platform(platform, &[]).await;
    ran(&api, "https://example.org/a").await;
    let (address, _) = told.next().await;
    assert_eq!(address, "https://example.org/a");
    assert_eq!(told.sender.tries.load(Ordering::SeqCst), 2);
    ran(&api, "https://example.org/refused").await;
    ran(&api, "https://example.org/b").await;
    let (address, _) = told.next().await;
    assert_eq!(address, "https://example.org/b");
    assert_eq!(told.sender.tries.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_was_owed_when_the_process_ended_is_sent_by_the_next() {
    let records = Arc::new(MemoryRecords::new());
    let first = teller(0);
    let api = serve_platform(first.platform(&records), &[]).await;
    let (_, run) = ran(&api, "https://example.org/a").await;
    let mut next = teller(0);
    let _tending = tend(&next.platform(&records));
    let (_, body) = next.next().await;
    assert_eq!(body["run_id"], run);
    assert_eq!(first.sender.tries.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_that_may_not_be_reached_is_refused_with_the_run() {
    let told = teller(0);
    let api = serve_platform(told.platform(&Arc::default()), &[]).await;
    for address in [json!("http://10.0.0.1/"), json!("/hook"), json!(1)] {
        let mut body = hi();
        body["webhook"] = address;
        let reply = api.call("", "POST", "/runs/wait", body.clone()).await;
        assert_eq!(reply.status, 422, "{body} {reply:?}");
        body["schedule"] = json!("0 0 1 1 *");
        let reply = api.call("", "POST", "/runs/crons", body).await;
        assert_eq!(reply.status, 422, "{reply:?}");
    }
}

#[tokio::test]
async fn what_a_removed_thread_or_run_owes_goes_with_it() {
    let (told, records) = (teller(0), Arc::default());
    let api = serve_platform(told.platform(&records), &[]).await;
    let (thread, _) = ran(&api, "https://example.org/a").await;
    assert!(!records.every("lg_webhook").await.unwrap().is_empty());
    let path = format!("/threads/{thread}");
    api.ok("DELETE", &path, Value::Null).await;
    let (thread, run) = ran(&api, "https://example.org/b").await;
    assert!(!records.every("lg_webhook").await.unwrap().is_empty());
    let path = format!("/threads/{thread}/runs/{run}");
    api.ok("DELETE", &path, Value::Null).await;
    for kind in ["lg_webhook", "lg_webhook_body"] {
        let left = records.every(kind).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
