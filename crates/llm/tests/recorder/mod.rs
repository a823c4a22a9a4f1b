//! A metrics recorder that remembers sums: counters by their value, histograms by the
//! number of their values, gauges by the last one. Labels stay in the order in which they were given.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};

type Sums = Arc<Mutex<BTreeMap<String, f64>>>;

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    sums: Sums,
}

impl Recorder {
    pub(crate) fn seen(&self) -> BTreeMap<String, f64> {
        self.sums.lock().unwrap().clone()
    }

    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        Arc::new(Series {
            name: format!("{}{{{}}}", key.name(), labels.join(",")),
            sums: Arc::clone(&self.sums),
        })
    }
}

struct Series {
    name: String,
    sums: Sums,
}

impl Series {
    fn add(&self, value: f64) {
        *self
            .sums
            .lock()
            .unwrap()
            .entry(self.name.clone())
            .or_default() += value;
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, _value: u64) {}
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        self.sums.lock().unwrap().insert(self.name.clone(), value);
    }
}

impl HistogramFn for Series {
    fn record(&self, _value: f64) {
        self.add(1.0);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}
