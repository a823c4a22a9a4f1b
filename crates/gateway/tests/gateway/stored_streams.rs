//! Durable streams over records that are far away: what a client waits for, and how often they
//! are asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use lyceum_core::{
    MemoryHints, MemoryRecords, Record, RecordError, RecordList, RecordStore, RecordWrite,
    TeachEvent, TeachStream, TenantId,
};
use lyceum_gateway::{Gateway, GatewayConfig, Server, ServerConfig};
use lyceum_observe::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use crate::{
    streams::{DURABLE, events, place, sent},
    support::{Reply, Scripted, all_events, gateway, post, request},
};

/// Records of which each write takes its time, and which count how often they are read.
#[derive(Debug)]
struct Far {
    records: MemoryRecords,
    takes: Duration,
    reads: AtomicUsize,
}

#[async_trait]
impl RecordStore for Far {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        tokio::time::sleep(self.takes).await;
        self.records.write(tenant, writes).await
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.records.read(tenant, kind, id).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.records.list(tenant, list).await
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        self.records.every(kind).await
    }
}

/// Two processes that share records of which each write takes so long.
fn pair(takes: Duration, student: Arc<Scripted>) -> (Gateway, Gateway, Arc<Far>) {
    let records = Arc::new(Far {
        records: MemoryRecords::new(),
        takes,
        reads: AtomicUsize::new(0),
    });
    let hints = Arc::new(MemoryHints::new());
    let shared = |student| {
        let gateway = gateway(student, &GatewayConfig::default(), Health::default());
        gateway.shared(hints.clone()).with_streams(records.clone())
    };
    (shared(student), shared(Scripted::thorough()), records)
}

/// Asks for a durable stream; gives what came first.
async fn begun(gateway: &Gateway) -> (DuplexStream, String) {
    let server = Server::new(gateway.clone(), ServerConfig::default());
    let (mut client, io) = duplex(1 << 20);
    tokio::spawn(async move { server.connection(io).await });
    let request = post("/chat/stream", &[], DURABLE.as_bytes());
    client.write_all(&request).await.unwrap();
    let mut bytes = vec![0; 8_192];
    let read = client.read(&mut bytes).await.unwrap();
    let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (client, head)
}

#[tokio::test(start_paused = true)]
async fn who_knows_of_a_stream_finds_it_at_every_process() {
    let (one, other, _) = pair(Duration::from_secs(1), Scripted::thorough());
    let (client, head) = begun(&one).await;
    drop(client);
    let told = sent(&other, request("GET", &place(&head), &[], b"")).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(events(&told.body).len(), 8, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_wait_long_for_records_that_do_not_answer() {
    let (one, ..) = pair(Duration::from_secs(3_600), Scripted::thorough());
    let began = Instant::now();
    let (_client, head) = begun(&one).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "{head}");
    let told = sent(&one, request("GET", &place(&head), &[], b"")).await;
    assert_eq!(events(&told.body).len(), 8, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_before_is_read_in_one_piece() {
    let student = Scripted::new(|explanation| {
        let words = (0..300).map(|n| TeachEvent::Text(n.to_string()));
        let told = stream::iter(words.chain(all_events(&explanation))).then(|event| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(event)
        });
        Box::pin(told) as TeachStream
    });
    let (one, other, records) = pair(Duration::ZERO, student);
    let server = Server::new(one, ServerConfig::default());
    let (mut client, io) = duplex(1 << 20);
    tokio::spawn(async move { server.connection(io).await });
    let request_bytes = post("/chat/stream", &[], DURABLE.as_bytes());
    client.write_all(&request_bytes).await.unwrap();
    let whole = Reply::read(&mut client).await;
    let place = whole.header("content-location").unwrap();
    let before = records.reads.load(Ordering::Relaxed);
    let again = sent(&other, request("GET", place, &[], b"")).await;
    assert_eq!(events(&again.body), events(&whole.body));
    assert_eq!(events(&again.body).len(), 308, "{again:?}");
    let reads = records.reads.load(Ordering::Relaxed) - before;
    assert!(reads < 10, "{reads} reads");
}
