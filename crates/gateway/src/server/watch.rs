//! What a connection is doing, so that one that does nothing can be ended.
//!
//! hyper ends connections of HTTP/1.1 that send no headers; for HTTP/2 it has no such limit:
//! a client may stay for ever with a preface, half a header block, or a closed window. Here
//! requests and the pieces of their answers are counted, and looked at now and then.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep};

/// How long a connection may do nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Without a request.
    pub(super) idle: Duration,
    /// Without taking what was handed over.
    pub(super) stalled: Duration,
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Idle,
    Stalled,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests so far.
    requests: u64,
    /// Requests whose answer has not been handed over as a whole.
    busy: usize,
    /// When the last of them ended, or the connection began.
    since: Instant,
    /// Answers of which a piece was handed over and no further one asked for yet.
    handed: HashMap<u64, Instant>,
}

impl State {
    fn verdict(&self, patience: Patience, now: Instant) -> Option<Verdict> {
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if self.handed.values().any(|at| passed(*at, patience.stalled)) {
            return Some(Verdict::Stalled);
        }
        (self.busy == 0 && passed(self.since, patience.idle)).then_some(Verdict::Idle)
    }
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            requests: 0,
            busy: 0,
            since: Instant::now(),
            handed: HashMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.requests += 1;
        state.busy += 1;
        Busy {
            id: state.requests,
            activity: Arc::clone(self),
        }
    }

    /// Whether any request ever came.
    pub(super) fn is_untouched(&self) -> bool {
        self.state().requests == 0
    }

    /// Waits until the connection has done nothing for too long.
    pub(super) async fn exhausted(&self, patience: Patience) -> Verdict {
        let step = patience.idle.min(patience.stalled) / 8;
        let step = step.max(Duration::from_millis(10));
        loop {
            sleep(step).await;
            if let Some(verdict) = self.state().verdict(patience, Instant::now()) {
                return verdict;
            }
        }
    }
}

/// A request under way; dropping it is its end.
#[derive(Debug)]
pub(super) struct Busy {
    id: u64,
    activity: Arc<Activity>,
}

impl Busy {
    /// Watches over an answer.
    pub(super) fn watch(self, body: Body) -> Body {
        Body::new(Watched { body, busy: self })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.handed.remove(&self.id);
        state.busy -= 1;
        state.since = Instant::now();
    }
}

pin_project! {
    struct Watched {
        #[pin]
        body: Body,
        busy: Busy,
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(context);
        let mut state = this.busy.activity.state();
        match &polled {
            Poll::Ready(Some(Ok(_))) => state.handed.insert(this.busy.id, Instant::now()),
            _ => state.handed.remove(&this.busy.id),
        };
        drop(state);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(10),
        stalled: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_idle_and_a_busy_one_is_not() {
        let (activity, begun) = (Activity::new(), Instant::now());
        assert_eq!(activity.exhausted(PATIENCE).await, Verdict::Idle);
        assert_eq!(begun.elapsed().as_secs(), 10);
        let busy = activity.begin();
        tokio::select! {
            verdict = activity.exhausted(PATIENCE) => panic!("{verdict:?}"),
            () = sleep(Duration::from_secs(3_600)) => {}
        }
        drop(busy);
        let begun = Instant::now();
        assert_eq!(activity.exhausted(PATIENCE).await, Verdict::Idle);
        assert!((10..=12).contains(&begun.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_stalled() {
        use http_body_util::BodyExt;
        let activity = Activity::new();
        let pieces = futures_util::stream::iter([Ok::<_, axum::Error>("a"), Ok("b")]);
        let mut body = activity.begin().watch(Body::from_stream(pieces));
        assert!(body.frame().await.is_some());
        let begun = Instant::now();
        assert_eq!(activity.exhausted(PATIENCE).await, Verdict::Stalled);
        assert!((30..=32).contains(&begun.elapsed().as_secs()));
    }
}
