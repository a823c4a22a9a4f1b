//! Webhooks under a paused clock, with a sender that hangs and records that fail or wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lyceum_core::{MemoryRecords, RecordError, RecordList, RecordStore};
use lyceum_graph::MemorySaver;
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// Records that fail a few times to read a body, and of which reading everything takes a permit.
#[derive(Debug)]
struct Records {
    kept: MemoryRecords,
    failures: AtomicUsize,
    looks: AtomicUsize,
    permits: Semaphore,
}

#[async_trait]
impl RecordStore for Records {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        self.kept.write(tenant, writes).await
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        let fails = |left: usize| left.checked_sub(1);
        if kind == WEBHOOK_BODY && self.failures.fetch_update(set, get, fails).is_ok() {
            return Err(RecordError {
                retryable: true,
                source: "the records are away".into(),
            });
        }
        self.kept.read(tenant, kind, id).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        self.kept.list(tenant, list).await
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.kept.every(kind).await
    }
}

/// Answers to `hang` take a permit each, and tells all addresses that were answered.
#[derive(Debug)]
struct Sender {
    hanging: AtomicUsize,
    permits: Semaphore,
    sent: UnboundedSender<String>,
}

impl WebhookSender for Sender {
    fn check(&self, _: &str) -> Result<(), WebhookError> {
        Ok(())
    }

    fn send<'a>(&'a self, address: &'a str, _: Bytes) -> BoxFuture<'a, Result<(), WebhookError>> {
        Box::pin(async move {
            if address == "hang" {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                self.permits.acquire().await.unwrap().forget();
            }
            self.sent.send(address.to_owned()).unwrap();
            Ok(())
        })
    }
}

struct World {
    platform: Platform,
    records: Arc<Records>,
    sender: Arc<Sender>,
    sent: UnboundedReceiver<String>,
}

impl World {
    fn new() -> Self {
        let records = Arc::new(Records {
            kept: MemoryRecords::new(),
            failures: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            permits: Semaphore::new(1_000),
        });
        let (tells, sent) = unbounded_channel();
        let sender = Arc::new(Sender {
            hanging: AtomicUsize::new(0),
            permits: Semaphore::new(0),
            sent: tells,
        });
        let platform = Platform::new([], records.clone(), Arc::new(MemorySaver::new()));
        Self {
            platform: platform.with_webhooks(sender.clone()),
            records,
            sender,
            sent,
        }
    }

    /// Owes something `times` times in the name of a user, written as `tenant/user`.
    async fn owe(&self, who: &str, address: &str, times: usize) {
        let (tenant, _) = who.split_once('/').unwrap();
        let owner = TenantId::new(who.replace('/', ".")).unwrap();
        let owed = Owed {
            address: address.to_owned(),
            tenant: tenant.to_owned(),
            tries: 0,
            due: Timestamp::now(),
        };
        for number in 0..times {
            let id = format!("{address}{number}");
            let writes = vec![
                put_write(WEBHOOK_BODY, &id, "", &json!({}), Expect::Absent),
                put_write(WEBHOOK, &id, "", &owed, Expect::Absent),
            ];
            assert!(self.platform.put(&owner, writes).await.unwrap());
        }
        self.platform.0.webhooks_changed.notify_one();
    }

    fn tend(&self) -> AbortOnDropHandle<()> {
        let platform = self.platform.clone();
        let tending = async move { platform.tend_webhooks(CancellationToken::new()).await };
        AbortOnDropHandle::new(tokio::spawn(tending))
    }

    /// The next address that answered, within a virtual minute.
    async fn next(&mut self) -> String {
        let within = tokio::time::timeout(Duration::from_secs(60), self.sent.recv());
        within.await.unwrap().unwrap()
    }

    fn hanging(&self) -> usize {
        self.sender.hanging.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_takes_no_place() {
    let mut world = World::new();
    world.records.failures.store(OF_ONE, Ordering::SeqCst);
    world.owe("a/one", "there", OF_ONE + 1).await;
    let _tending = world.tend();
    assert_eq!(world.next().await, "there");
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_holds_up_nothing_and_is_removed_after_a_day() {
    let mut world = World::new();
    let owner = TenantId::new("a.one").unwrap();
    let nonsense = vec![
        put_write(WEBHOOK_BODY, "odd", "", &json!({}), Expect::Absent),
        put_write(WEBHOOK, "odd", "", &json!({ "address": 1 }), Expect::Absent),
    ];
    assert!(world.platform.put(&owner, nonsense).await.unwrap());
    world.owe("a/one", "there", 1).await;
    let _tending = world.tend();
    assert_eq!(world.next().await, "there");
    world.records.permits.add_permits(10_000);
    for (hours, is_left) in [(23, true), (2, false)] {
        tokio::time::sleep(hours * Duration::from_secs(3_600)).await;
        for kind in [WEBHOOK, WEBHOOK_BODY] {
            let left = world.records.kept.read(&owner, kind, "odd").await;
            assert_eq!(left.unwrap().is_some(), is_left, "{kind} after {hours} h");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_holds_the_places_of_a_user_and_of_a_tenant_alone() {
    let mut world = World::new();
    world.owe("a/one", "hang", 2 * WAITING).await;
    world.owe("a/two", "there", 1).await;
    let _tending = world.tend();
    assert_eq!(world.next().await, "there");
    assert_eq!(world.hanging(), OF_ONE);
    for user in 3..12 {
        world.owe(&format!("a/{user}"), "hang", OF_ONE).await;
    }
    world.owe("b/one", "beyond", 1).await;
    assert_eq!(world.next().await, "beyond");
    assert_eq!(world.hanging(), OF_TENANT);
    // Who waits is next when a place is given up.
    world.sender.permits.add_permits(1);
    assert_eq!(world.next().await, "hang");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.hanging(), OF_TENANT + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_goes_on_while_the_records_are_waited_for() {
    let mut world = World::new();
    world.records.permits.forget_permits(999);
    world.owe("a/one", "hang", 1).await;
    let _tending = world.tend();
    let looked = async {
        while world.records.looks.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, looked).await.unwrap();
    world.sender.permits.add_permits(1);
    assert_eq!(world.next().await, "hang");
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_once_a_second_at_most() {
    let mut world = World::new();
    let _tending = world.tend();
    for user in 0..100 {
        world.owe(&format!("a/{user}"), "there", 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..100 {
        world.next().await;
    }
    let looks = world.records.looks.load(Ordering::SeqCst);
    assert!(looks <= 4, "{looks}");
}
