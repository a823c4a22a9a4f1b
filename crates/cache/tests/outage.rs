//! A shared tier that is slow, dead or holds something else costs little and spoils nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lyceum_cache::{
    Announcements, Announcer, Cache, CacheConfig, CacheTier, Glob, InMemoryTier, Invalidation, Key,
    Looked, Namespace, Selection, Stored, TierError, TierStats,
};
use lyceum_core::TenantId;
use tokio::time::Instant;

const UP: u8 = 0;
const DEAD: u8 = 1;
const FROZEN: u8 = 2;

/// A tier that can be broken.
#[derive(Debug, Default)]
struct Fragile {
    tier: InMemoryTier,
    state: AtomicU8,
    asked: AtomicU32,
}

impl Fragile {
    fn set_state(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    async fn works(&self) -> Result<(), TierError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.state.load(Ordering::SeqCst) {
            UP => Ok(()),
            DEAD => Err(TierError::Unavailable {
                source: Box::new(io::Error::other("dead")),
            }),
            _ => std::future::pending().await,
        }
    }
}

#[async_trait]
impl CacheTier for Fragile {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, TierError> {
        self.works().await?;
        self.tier.get(key).await
    }
    async fn set(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<(), TierError> {
        self.works().await?;
        self.tier.set(key, value, ttl).await
    }
    async fn delete(&self, key: &Key) -> Result<bool, TierError> {
        self.works().await?;
        self.tier.delete(key).await
    }
    async fn delete_pattern(&self, selection: &Selection) -> Result<u64, TierError> {
        self.works().await?;
        self.tier.delete_pattern(selection).await
    }
    async fn stats(&self) -> Result<TierStats, TierError> {
        self.works().await?;
        self.tier.stats().await
    }
}

#[async_trait]
impl Announcer for Fragile {
    async fn announce(&self, invalidation: &Invalidation) -> Result<(), TierError> {
        self.works().await?;
        self.tier.announce(invalidation).await
    }
    fn listen(&self) -> Announcements {
        self.tier.listen()
    }
}

struct Setting {
    tier: Arc<Fragile>,
    cache: Cache<u32>,
    tenant: TenantId,
}

async fn setting() -> Setting {
    let tier = Arc::new(Fragile::default());
    let config = CacheConfig::default();
    let cache = Cache::with_shared(Namespace::USER, config, Arc::clone(&tier)).unwrap();
    settle().await;
    Setting {
        tier,
        cache,
        tenant: TenantId::new("a").unwrap(),
    }
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

impl Setting {
    /// Another process that has nothing in its memory yet.
    async fn other(&self) -> Cache<u32> {
        let tier = Arc::clone(&self.tier);
        let cache = Cache::with_shared(Namespace::USER, CacheConfig::default(), tier).unwrap();
        settle().await;
        cache
    }

    async fn get(&self, key: &str, value: u32) -> u32 {
        let load = move || async move { Ok::<_, Infallible>(Some(value)) };
        let got = self.cache.get_or_load(&self.tenant, key, load).await;
        *got.unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_tier_costs_one_time_out_in_a_while() {
    let setting = setting().await;
    setting.tier.set_state(FROZEN);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut key = 0;
    while begin.elapsed() < Duration::from_secs(60) {
        let one = Instant::now();
        assert_eq!(setting.get(&format!("k{key}"), key).await, key);
        slowest = slowest.max(one.elapsed());
        key += 1;
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    assert!(slowest <= Duration::from_millis(52), "{slowest:?}");
    let asked = setting.tier.asked.load(Ordering::SeqCst);
    assert!((5..40).contains(&asked), "asked {asked} times in a minute");
    setting.tier.set_state(UP);
    tokio::time::advance(Duration::from_secs(5)).await;
    setting.get("new", 1).await;
    settle().await;
    let stats = setting.cache.get_stats().await;
    assert_eq!(
        stats.shared_is_up,
        Some(true),
        "it is asked again by itself"
    );
    assert!(stats.shared_failures > 0 && stats.shared_skipped > 1_000);
    let other = setting.other().await;
    let looked = other.look_up(&setting.tenant, "new").await;
    assert_eq!(looked, Looked::Found(Arc::new(1)));
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_during_an_outage_does_not_come_back() {
    let setting = setting().await;
    for key in ["user:1", "user:2", "doc:1", "doc:2"] {
        setting.get(key, 1).await;
    }
    settle().await;
    for broken in [DEAD, FROZEN] {
        setting.tier.set_state(broken);
        let begin = Instant::now();
        let glob = Glob::new("user:*");
        let done = setting
            .cache
            .invalidate_pattern(&setting.tenant, &glob)
            .await;
        assert_eq!(done.shared, None);
        assert!(begin.elapsed() <= Duration::from_secs(11));
    }
    assert!(
        setting
            .cache
            .put(&setting.tenant, "doc:1", Some(2), None)
            .await
    );
    setting.tier.set_state(UP);
    tokio::time::advance(Duration::from_secs(6)).await;
    // The first call back tells the tier before anything is read from it.
    assert_eq!(setting.get("user:1", 2).await, 2);
    settle().await;
    let other = setting.other().await;
    for key in ["user:1", "user:2", "doc:1"] {
        let looked = other.look_up(&setting.tenant, key).await;
        assert!(looked != Looked::Found(Arc::new(1)), "{key}: {looked:?}");
    }
    let looked = other.look_up(&setting.tenant, "doc:2").await;
    assert_eq!(looked, Looked::Found(Arc::new(1)), "nobody invalidated it");
}

#[tokio::test(start_paused = true)]
async fn more_invalidations_than_are_remembered_become_one_of_all() {
    let setting = setting().await;
    setting.get("k", 1).await;
    settle().await;
    setting.tier.set_state(DEAD);
    for number in 0..2_000 {
        let key = format!("other:{number}");
        setting.cache.delete(&setting.tenant, &key).await;
    }
    setting.tier.set_state(UP);
    tokio::time::advance(Duration::from_secs(6)).await;
    setting.get("x", 1).await;
    settle().await;
    let other = setting.other().await;
    assert_eq!(other.look_up(&setting.tenant, "k").await, Looked::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_loaded_again() {
    let setting = setting().await;
    let key = Key {
        namespace: Namespace::USER,
        tenant: setting.tenant.clone(),
        text: "k".to_owned(),
    };
    for damaged in [&b"\xff\xfe"[..], b"", b"{", b"[\"text\"]", b"null", b"[1"] {
        let minute = Duration::from_secs(60);
        setting.tier.set(&key, damaged, minute).await.unwrap();
        let looked = setting.cache.look_up(&setting.tenant, "k").await;
        assert_eq!(looked, Looked::Unknown);
    }
    assert_eq!(setting.get("k", 5).await, 5);
}
