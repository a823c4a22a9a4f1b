//! What the queue tells a metrics recorder.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
};

use lyceum_core::{Scope, Usage};
use lyceum_queue::{Ask, Estimate, Queue, QueueConfig, Quotas, metrics as names};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Keeps counters and gauges by their full name.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Kept {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn counter(&self, name: &str, labels: &str) -> u64 {
        self.0.lock().unwrap()[&format!("{name}{{{labels}}}")].load(Ordering::Relaxed)
    }

    fn gauge(&self, name: &str, labels: &str) -> f64 {
        f64::from_bits(self.counter(name, labels))
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_admissions_and_losses_are_recorded_under_the_queues_name() {
    let kept = Kept::default();
    let quotas = Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    };
    let config = QueueConfig {
        quotas,
        capacity: 2,
        ..QueueConfig::default()
    };
    let queue = metrics::with_local_recorder(&kept, || Queue::named("main", config));
    let ask = || Ask::new(Scope::local(), Estimate::new(1, 1));
    let running = queue.enqueue(ask()).unwrap().await.unwrap();
    let next = queue.enqueue(ask()).unwrap();
    let leaves = queue.enqueue(ask()).unwrap();
    assert!(queue.enqueue(ask()).is_err());
    assert_eq!(kept.gauge(names::WAITING, "queue=main,band=normal"), 2.0);
    drop(leaves);
    running.settle(Usage::default());
    let running = next.await.unwrap();
    assert_eq!(kept.gauge(names::WAITING, "queue=main,band=normal"), 0.0);
    assert_eq!(kept.gauge(names::RUNNING, "queue=main"), 1.0);
    running.settle(Usage::default());
    assert_eq!(kept.gauge(names::RUNNING, "queue=main"), 0.0);
    assert_eq!(
        kept.counter(names::ADMITTED_TOTAL, "queue=main,band=normal"),
        2
    );
    assert_eq!(kept.counter(names::SHED_TOTAL, "queue=main,reason=full"), 1);
    assert_eq!(kept.counter(names::SHED_TOTAL, "queue=main,reason=left"), 1);
    queue.throttled(None);
    assert_eq!(kept.counter(names::THROTTLED_TOTAL, "queue=main"), 1);
}
