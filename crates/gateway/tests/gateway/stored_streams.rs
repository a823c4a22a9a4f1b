//! Durable streams over records that are slow: a client that was told of a stream may be sent to
//! another process at once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lyceum_core::{
    MemoryHints, MemoryRecords, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId,
};
use lyceum_gateway::{Gateway, GatewayConfig, Server, ServerConfig};
use lyceum_observe::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use crate::{
    streams::{DURABLE, events, place, sent},
    support::{Scripted, gateway, post, request},
};

/// Records of which each write takes its time.
#[derive(Debug)]
struct Slow {
    records: MemoryRecords,
    takes: Duration,
}

#[async_trait]
impl RecordStore for Slow {
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
        self.records.every(kind).await
    }
}

/// Two processes that share records of which each write takes so long.
fn pair(takes: Duration) -> (Gateway, Gateway) {
    let records = Arc::new(Slow {
        records: MemoryRecords::new(),
        takes,
    });
    let hints = Arc::new(MemoryHints::new());
    let shared = || {
        let gateway = gateway(
            Scripted::thorough(),
            &GatewayConfig::default(),
            Health::default(),
        );
        gateway.shared(hints.clone()).with_streams(records.clone())
    };
    (shared(), shared())
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
    let (one, other) = pair(Duration::from_secs(1));
    let (client, head) = begun(&one).await;
    drop(client);
    let told = sent(&other, request("GET", &place(&head), &[], b"")).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(events(&told.body).len(), 8, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_wait_long_for_records_that_do_not_answer() {
    let (one, _other) = pair(Duration::from_secs(3_600));
    let began = Instant::now();
    let (_client, head) = begun(&one).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "{head}");
    let told = sent(&one, request("GET", &place(&head), &[], b"")).await;
    assert_eq!(events(&told.body).len(), 8, "{told:?}");
}
