//! The cache as its callers see it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use lyceum_cache::{Cache, CacheConfig, Glob, InMemoryTier, LoadError, Looked, Namespace};
use lyceum_core::TenantId;
use tokio::sync::Notify;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// A source that counts how often it is asked.
#[derive(Clone, Default)]
struct Source(Arc<AtomicU32>);

impl Source {
    fn asked(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    async fn get(&self, cache: &Cache<u32>, tenant: &TenantId, key: &str) -> u32 {
        let count = Arc::clone(&self.0);
        let load = move || async move {
            Ok::<_, Infallible>(Some(count.fetch_add(1, Ordering::SeqCst) + 1))
        };
        *cache.get_or_load(tenant, key, load).await.unwrap().unwrap()
    }
}

fn alone(config: CacheConfig) -> Cache<u32> {
    Cache::new(Namespace::USER, config).unwrap()
}

fn exact() -> CacheConfig {
    CacheConfig {
        jitter: 0.0,
        ..CacheConfig::default()
    }
}

/// Two processes, as it were, in front of one tier.
async fn pair(config: CacheConfig) -> (Cache<u32>, Cache<u32>, Arc<InMemoryTier>) {
    let tier = Arc::new(InMemoryTier::default());
    let make = || Cache::with_shared(Namespace::USER, config, Arc::clone(&tier)).unwrap();
    let (one, two) = (make(), make());
    settle().await;
    (one, two, tier)
}

/// Lets the tasks in the background run until they wait.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_given_again_in_its_time_and_within_its_tenant() {
    let (cache, source) = (alone(exact()), Source::default());
    let (a, b) = (tenant("a"), tenant("b"));
    assert_eq!(source.get(&cache, &a, "k").await, 1);
    assert_eq!(source.get(&cache, &a, "k").await, 1);
    assert_eq!(source.get(&cache, &b, "k").await, 2, "another tenant's");
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert_eq!(source.get(&cache, &a, "k").await, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(source.get(&cache, &a, "k").await, 3);
    let stats = cache.get_stats().await;
    assert_eq!(
        (stats.local_hits, stats.local_misses, stats.loads),
        (2, 3, 3)
    );
    assert!((stats.hit_rate() - 0.4).abs() < 1e-9);
    assert_eq!(stats.entries, 2);
}

#[tokio::test(start_paused = true)]
async fn times_are_shortened_at_random_and_never_lengthened() {
    let config = CacheConfig {
        ttl: Duration::from_secs(100),
        jitter: 0.5,
        ..CacheConfig::default()
    };
    let (cache, source, a) = (alone(config), Source::default(), tenant("a"));
    for key in 0..200 {
        source.get(&cache, &a, &key.to_string()).await;
    }
    let mut there = Vec::new();
    for advance in [49, 26, 26] {
        tokio::time::advance(Duration::from_secs(advance)).await;
        let mut count = 0;
        for key in 0..200 {
            let looked = cache.look_up(&a, &key.to_string()).await;
            count += u32::from(matches!(looked, Looked::Found(_)));
        }
        there.push(count);
    }
    assert_eq!((there[0], there[2]), (200, 0));
    assert!((40..160).contains(&there[1]), "{there:?}");
}

#[tokio::test(start_paused = true)]
async fn equal_calls_are_one_load_which_outlives_its_callers() {
    let (cache, a) = (alone(exact()), tenant("a"));
    let (asked, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let call = || {
        let (cache, a) = (cache.clone(), a.clone());
        let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
        tokio::spawn(async move {
            let load = move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok::<_, Infallible>(Some(7))
            };
            cache.get_or_load(&a, "k", load).await.unwrap().unwrap()
        })
    };
    let first = call();
    settle().await;
    first.abort();
    let others: Vec<_> = (0..50).map(|_| call()).collect();
    settle().await;
    go.notify_one();
    for other in others {
        assert_eq!(*other.await.unwrap(), 7);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(cache.get_stats().await.joined, 50);
}

#[tokio::test(start_paused = true)]
async fn a_failure_reaches_all_who_wait_and_is_not_kept() {
    let (cache, a, source) = (alone(exact()), tenant("a"), Source::default());
    let go = Arc::new(Notify::new());
    let failing = || {
        let go = Arc::clone(&go);
        move || async move {
            go.notified().await;
            Err::<Option<u32>, _>(io::Error::other("down"))
        }
    };
    let calls = async {
        tokio::join!(
            cache.get_or_load(&a, "k", failing()),
            cache.get_or_load(&a, "k", failing()),
            async {
                settle().await;
                go.notify_one();
            },
        )
    };
    let (one, two, ()) = calls.await;
    for failed in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(failed.label(), "source");
        assert_eq!(failed.source_as::<io::Error>().unwrap().to_string(), "down");
    }
    assert_eq!(source.get(&cache, &a, "k").await, 1);
    let panics = || async {
        // Not ready twice: the second poll panics.
        let once = std::future::ready(Some(1));
        tokio::pin!(once);
        once.as_mut().await;
        Ok::<_, Infallible>(once.await)
    };
    let interrupted = cache.get_or_load(&a, "other", panics).await.unwrap_err();
    assert!(matches!(interrupted, LoadError::Interrupted));
    assert_eq!(source.get(&cache, &a, "other").await, 2);
    let never = || std::future::pending::<Result<Option<u32>, Infallible>>();
    let slow = cache.get_or_load(&a, "slow", never).await.unwrap_err();
    assert!(matches!(slow, LoadError::Timeout { after } if after.as_secs() == 30));
}

#[tokio::test(start_paused = true)]
async fn absence_is_remembered_for_less_time() {
    let (cache, a) = (alone(exact()), tenant("a"));
    let none = || async { Ok::<Option<u32>, Infallible>(None) };
    assert_eq!(cache.get_or_load(&a, "k", none).await.unwrap(), None);
    assert_eq!(cache.look_up(&a, "k").await, Looked::Absent);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(cache.look_up(&a, "k").await, Looked::Unknown);
    let config = CacheConfig {
        negative_ttl: Duration::ZERO,
        ..exact()
    };
    let cache = alone(config);
    cache.get_or_load(&a, "k", none).await.unwrap();
    assert_eq!(cache.look_up(&a, "k").await, Looked::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_given_while_one_caller_fetches_a_new_one() {
    let config = CacheConfig {
        ttl: Duration::from_secs(10),
        stale: Duration::from_secs(20),
        ..exact()
    };
    let (cache, source, a) = (alone(config), Source::default(), tenant("a"));
    source.get(&cache, &a, "k").await;
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(source.get(&cache, &a, "k").await, 1, "at once, and stale");
    assert_eq!(source.get(&cache, &a, "k").await, 1);
    settle().await;
    assert_eq!(source.asked(), 2, "one fetch");
    assert_eq!(source.get(&cache, &a, "k").await, 2);
    // A source that fails is asked once a second, and the value stays until its end.
    tokio::time::advance(Duration::from_secs(11)).await;
    let failures = Arc::new(AtomicU32::new(0));
    let fail = || {
        let failures = Arc::clone(&failures);
        move || async move {
            failures.fetch_add(1, Ordering::SeqCst);
            Err::<Option<u32>, _>(io::Error::other("down"))
        }
    };
    for second in 1..=3 {
        for _ in 0..5 {
            let value = cache.get_or_load(&a, "k", fail()).await.unwrap();
            assert_eq!(value.as_deref(), Some(&2));
            settle().await;
        }
        assert_eq!(failures.load(Ordering::SeqCst), second);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(cache.get_or_load(&a, "k", fail()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_shared_tier_answers_other_processes() {
    let (one, two, _tier) = pair(exact()).await;
    let (source, a) = (Source::default(), tenant("a"));
    assert_eq!(source.get(&one, &a, "k").await, 1);
    settle().await;
    assert_eq!(source.get(&two, &a, "k").await, 1);
    assert_eq!(source.get(&two, &tenant("b"), "k").await, 2);
    let stats = two.get_stats().await;
    assert_eq!((stats.shared_hits, stats.shared_misses), (1, 1));
    assert_eq!(stats.shared_is_up, Some(true));
    assert!(stats.shared.unwrap().size_bytes > 0);
    // What is left of its time goes with it.
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(two.look_up(&a, "k").await, Looked::Unknown);
}

#[tokio::test(start_paused = true)]
async fn invalidations_reach_the_memory_of_other_processes() {
    let (one, two, _tier) = pair(exact()).await;
    let (source, a, b) = (Source::default(), tenant("a"), tenant("b"));
    for tenant in [&a, &b] {
        for key in ["user:1", "user:2", "doc:1"] {
            source.get(&one, tenant, key).await;
            settle().await;
            source.get(&two, tenant, key).await;
        }
    }
    let done = one.invalidate_pattern(&a, &Glob::new("user:*")).await;
    assert_eq!((done.local, done.shared), (2, Some(2)));
    settle().await;
    for cache in [&one, &two] {
        for key in ["user:1", "user:2"] {
            assert_eq!(cache.look_up(&a, key).await, Looked::Unknown);
            assert!(matches!(cache.look_up(&b, key).await, Looked::Found(_)));
        }
        assert!(matches!(cache.look_up(&a, "doc:1").await, Looked::Found(_)));
    }
    one.delete(&a, "doc:1").await;
    settle().await;
    assert_eq!(two.look_up(&a, "doc:1").await, Looked::Unknown);
    assert!(one.put(&b, "doc:1", Some(99), None).await);
    settle().await;
    assert_eq!(two.look_up(&b, "doc:1").await, Looked::Found(Arc::new(99)));
    two.clear().await;
    settle().await;
    assert_eq!(one.look_up(&b, "doc:1").await, Looked::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_was_loaded_before_an_invalidation_is_not_kept_after_it() {
    let (one, two, _tier) = pair(exact()).await;
    let (a, go) = (tenant("a"), Arc::new(Notify::new()));
    let load = |value: u32| {
        let go = Arc::clone(&go);
        move || async move {
            go.notified().await;
            Ok::<_, Infallible>(Some(value))
        }
    };
    let old = tokio::spawn({
        let (one, a, load) = (one.clone(), a.clone(), load(1));
        async move { one.get_or_load(&a, "k", load).await.unwrap().unwrap() }
    });
    settle().await;
    // From elsewhere: the load in this process began before.
    two.delete(&a, "k").await;
    settle().await;
    let new = tokio::spawn({
        let (one, a, load) = (one.clone(), a.clone(), load(2));
        async move { one.get_or_load(&a, "k", load).await.unwrap().unwrap() }
    });
    settle().await;
    go.notify_waiters();
    assert_eq!(
        *old.await.unwrap(),
        1,
        "who asked before gets what was then"
    );
    assert_eq!(
        *new.await.unwrap(),
        2,
        "who asked after joins no older load"
    );
    settle().await;
    for cache in [&one, &two] {
        let kept = cache.look_up(&a, "k").await;
        assert!(kept != Looked::Found(Arc::new(1)), "{kept:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_what_is_too_large_is_not_kept() {
    let config = CacheConfig {
        max_bytes: 100_000,
        max_value_bytes: 1_000,
        ..exact()
    };
    let cache: Cache<String> = Cache::new(Namespace::DOCUMENT, config).unwrap();
    let a = tenant("a");
    for key in 0..1_000 {
        cache
            .put(&a, &key.to_string(), Some("x".repeat(500)), None)
            .await;
    }
    let stats = cache.get_stats().await;
    assert!(stats.bytes <= 100_000, "{stats:?}");
    assert!(stats.entries > 50 && stats.evictions > 500, "{stats:?}");
    assert!(!cache.put(&a, "large", Some("x".repeat(999)), None).await);
    assert_eq!(cache.look_up(&a, "large").await, Looked::Unknown);
    let long = "k".repeat(2_000);
    assert!(!cache.put(&a, &long, Some(String::new()), None).await);
    let load = || async { Ok::<_, Infallible>(Some("still loaded".to_owned())) };
    assert!(cache.get_or_load(&a, &long, load).await.unwrap().is_some());
}
