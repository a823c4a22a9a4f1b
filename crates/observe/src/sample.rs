//! Keeps a place in the program that logs very often from filling the log.
//!
//! Invariant: of one place at most so many lines a second pass; warnings, errors and the
//! audit's lines always do; every line left out is counted, and how many there were is
//! logged. Deliberately absent: choosing by chance, which would lose the rare line beside
//! the frequent one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::counter;
use tracing::{Event, Level, Metadata, callsite::Identifier, subscriber::Interest};
use tracing_subscriber::{
    filter::LevelFilter,
    layer::{Context, Filter},
};

use crate::{metrics::LOG_LINES_DROPPED, scrub::AUDIT};

const SECOND: Duration = Duration::from_secs(1);

/// Lines of one place.
#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    since: Instant,
    passed: u32,
    left_out: u64,
}

/// Counts the lines of each place.
#[derive(Debug)]
pub(crate) struct Sampler {
    most: u32,
    places: Mutex<HashMap<Identifier, Place>>,
}

impl Sampler {
    /// Lets `most` lines a second of each place pass; zero lets all pass.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            places: Mutex::default(),
        }
    }

    /// Whether a line passes that is written now.
    fn admits(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let is_exempt = *metadata.level() <= Level::WARN || metadata.target() == AUDIT;
        if self.most == 0 || is_exempt {
            return true;
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(metadata.callsite()).or_insert(Place {
            metadata,
            since: now,
            passed: 0,
            left_out: 0,
        });
        if now.duration_since(place.since) >= SECOND {
            (place.since, place.passed) = (now, 0);
        }
        if place.passed < self.most {
            place.passed += 1;
            return true;
        }
        place.left_out += 1;
        drop(places);
        counter!(LOG_LINES_DROPPED, "level" => metadata.level().as_str()).increment(1);
        false
    }

    /// What was left out since it was last asked, by place.
    fn take(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = places.values_mut().filter(|place| place.left_out > 0);
        taken
            .map(|place| (place.metadata, std::mem::take(&mut place.left_out)))
            .collect()
    }

    /// Logs what was left out since the last time.
    pub(crate) fn tell(&self) {
        for (metadata, lines) in self.take() {
            let level = metadata.level().as_str();
            let (of, line) = (metadata.target(), metadata.line());
            tracing::warn!(of, line, level, lines, "log lines were left out");
        }
    }
}

/// The sampler as the filter of a layer.
#[derive(Debug)]
pub(crate) struct Sampling(pub(crate) std::sync::Arc<Sampler>);

impl<S> Filter<S> for Sampling {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        // With `always` tracing-subscriber 0.3.23 would not begin a pass of its filters, and
        // asserts in debug builds that none is disabled by an event's own filter then.
        match self.0.most {
            0 => Interest::always(),
            _ => Interest::sometimes(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    /// Counts the lines by their level.
    #[derive(Default)]
    struct Lines(Mutex<HashMap<Level, usize>>);

    impl<S: tracing::Subscriber> Layer<S> for &'static Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self
                .0
                .lock()
                .unwrap()
                .entry(*event.metadata().level())
                .or_default() += 1;
        }
    }

    #[test]
    fn a_place_that_talks_too_much_is_cut_and_the_rest_is_whole() {
        let lines: &'static Lines = Box::leak(Box::default());
        let sampler = Arc::new(Sampler::new(10));
        let layer = lines.with_filter(Sampling(Arc::clone(&sampler)));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..100 {
                tracing::info!(number, "often");
                tracing::warn!(number, "a warning");
                tracing::info!(target: "audit", number, "who did what");
            }
            tracing::debug!("once");
            sampler.tell();
        });
        let seen = lines.0.lock().unwrap();
        // A slow machine may be in the next second by the end.
        let info = seen[&Level::INFO];
        assert!((110..=150).contains(&info), "{info}");
        assert_eq!(seen[&Level::DEBUG], 1);
        assert_eq!(seen[&Level::WARN], 101, "with the line that tells");
    }

    #[test]
    fn a_new_second_is_a_new_beginning_and_zero_is_no_limit() {
        let metadata = tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            tracing::info_span!("a place").metadata()
        });
        let metadata = metadata.unwrap();
        let (sampler, start) = (Sampler::new(1), Instant::now());
        assert!(sampler.admits(metadata, start));
        assert!(!sampler.admits(metadata, start + SECOND / 2));
        assert!(sampler.admits(metadata, start + SECOND));
        assert_eq!(sampler.take().first().map(|(_, lines)| *lines), Some(1));
        assert!(sampler.take().is_empty());
        let all = Sampler::new(0);
        assert!((0..100).all(|_| all.admits(metadata, start)));
    }
}
