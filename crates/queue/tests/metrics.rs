//! What the queue tells a metrics recorder.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use lyceum_core::{Scope, Tokens, Usage};
use lyceum_queue::{Ask, Estimate, Queue, QueueConfig, Quotas, metrics as names};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// Keeps counters, gauges and the numbers of values of histograms by their full name.
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

/// The number of values.
struct Values(Arc<AtomicU64>);

impl HistogramFn for Values {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
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
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Values(self.cell(key))))
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

#[tokio::test(start_paused = true)]
async fn what_was_foretold_and_set_aside_is_compared_with_what_came() {
    let kept = Kept::default();
    let quotas = Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    };
    let config = QueueConfig {
        quotas,
        ..QueueConfig::default()
    };
    let queue = metrics::with_local_recorder(&kept, || Queue::named("main", config));
    let ask = || Ask::new(Scope::local(), Estimate::new(10, 10));
    let used = Usage {
        input: Tokens(10),
        ..Usage::default()
    };
    let errors = || {
        [names::FORECAST_ERROR, names::RESERVATION_ERROR]
            .map(|name| kept.counter(name, "queue=main"))
    };
    let first = queue.enqueue(ask()).unwrap().await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    first.settle(used);
    assert_eq!(errors(), [0, 1], "it did not wait");
    let second = queue.enqueue(ask()).unwrap().await.unwrap();
    let third = queue.enqueue(ask()).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    second.settle(used);
    let third = third.await.unwrap();
    assert_eq!(errors(), [1, 2]);
    drop(third);
    assert_eq!(errors(), [1, 2], "nobody knows what it used");
}
