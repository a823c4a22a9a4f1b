//! A run that could not be accepted, or whose client left, does not hold its thread.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    client::{Gated, bytes, hi, serve},
    support::soon,
};

#[tokio::test]
async fn a_client_that_leaves_while_its_run_is_accepted_blocks_nobody() {
    let records = Gated::shut();
    let api = serve(records.clone(), &[]).await;
    let thread = api.thread("").await;
    let path = format!("/threads/{thread}/runs/wait");
    let mut client = TcpStream::connect(api.0.address).await.unwrap();
    let sent = bytes("", "POST", &path, &hi());
    client.write_all(&sent).await.unwrap();
    soon(records.begun.acquire()).await.unwrap().forget();
    drop(client);
    // What the server does with a connection's end is done once others were served.
    for _ in 0..20 {
        api.ok("GET", &format!("/threads/{thread}"), Value::Null)
            .await;
    }
    records.permits.close();
    let values = api.ok("POST", &path, hi()).await;
    assert_eq!(values["messages"][1]["content"], "hello, local", "{values}");
    let runs = api
        .ok("GET", &format!("/threads/{thread}/runs"), Value::Null)
        .await;
    let status = |at: usize| runs[at]["status"].clone();
    assert_eq!([status(0), status(1)], ["success", "success"], "{runs}");
}

#[tokio::test]
async fn a_run_that_the_records_refuse_is_a_conflict_and_leaves_the_thread_free() {
    let records = Gated::open();
    records.refuses.store(true, Ordering::SeqCst);
    let api = serve(records.clone(), &[]).await;
    let thread = api.thread("").await;
    let path = format!("/threads/{thread}/runs/wait");
    let reply = api.call("", "POST", &path, hi()).await;
    assert_eq!(reply.status, 409, "{reply:?}");
    records.refuses.store(false, Ordering::SeqCst);
    let mut next = hi();
    next["multitask_strategy"] = json!("reject");
    let values = api.ok("POST", &path, next).await;
    assert_eq!(values["messages"][1]["content"], "hello, local", "{values}");
}
