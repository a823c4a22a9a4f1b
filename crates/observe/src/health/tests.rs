//! Tests of the health registry.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use tokio::time::{Instant, advance};

use super::*;

struct Hangs;

#[async_trait]
impl Probe for Hangs {
    async fn probe(&self) -> Observation {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_dependency_fails_after_the_time_out() {
    let health = Health::default();
    health.register("database", Importance::Critical, Hangs);
    health.enter(Lifecycle::Ready);
    let started = Instant::now();
    let report = health.report().await;
    assert_eq!(started.elapsed(), HealthConfig::default().timeout);
    assert_eq!(report.status, Status::Fail);
    assert!(!report.is_ready());
    assert_eq!(
        report.checks[0].detail.as_deref(),
        Some("no answer within 2s")
    );
}

#[tokio::test(start_paused = true)]
async fn several_hanging_dependencies_wait_together() {
    let health = Health::default();
    for name in ["a", "b", "c"] {
        health.register(name, Importance::Advisory, Hangs);
    }
    let started = Instant::now();
    let _ = health.report().await;
    assert_eq!(started.elapsed(), HealthConfig::default().timeout);
}

#[tokio::test]
async fn an_advisory_failure_is_a_warning() {
    let health = Health::default();
    health.register("model", Importance::Advisory, || Observation::fail("429"));
    health.enter(Lifecycle::Ready);
    let report = health.report().await;
    assert_eq!(report.status, Status::Warn);
    assert_eq!(report.checks[0].status, Status::Fail);
    assert!(report.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_while_fresh_and_asked_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let health = Health::default();
    health.register("cache", Importance::Critical, move || {
        count.fetch_add(1, Ordering::Relaxed);
        Observation::pass()
    });
    tokio::join!(health.report(), health.report(), health.report());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    advance(HealthConfig::default().fresh_for).await;
    assert_eq!(health.report().await.checks[0].age, Duration::ZERO);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn phases_move_forward_only() {
    let health = Health::default();
    assert_eq!(health.lifecycle(), Lifecycle::Starting);
    assert!(!health.report().await.is_ready());
    health.enter(Lifecycle::Ready);
    assert!(health.report().await.is_ready());
    health.enter(Lifecycle::Draining);
    health.enter(Lifecycle::Ready);
    assert_eq!(health.lifecycle(), Lifecycle::Draining);
    assert!(!health.report().await.is_ready());
}
