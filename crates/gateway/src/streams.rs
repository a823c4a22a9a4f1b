//! Streams of events to clients: how many are open, who waits for one, how often a silent one
//! says that it is alive.
//!
//! Invariant: what answers with a stream of events holds an [`OpenStream`] for as long as it
//! does, so that the limit holds for all APIs together.

mod gate;
mod hub;
mod journal;
mod stored;

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::{HeaderName, Request, header};
use metrics::gauge;
use uuid::Uuid;

use crate::{
    auth::Caller,
    edge::holding::{Hold, Holding, StreamCaps},
    error::ApiError,
    metrics::STREAMS,
};

use gate::Gate;
pub(crate) use gate::{Asker, Place};
pub(crate) use hub::{Hub, Source};

/// The header in which a token comes back.
pub(crate) const QUEUE_TOKEN: HeaderName = HeaderName::from_static("x-queue-token");

/// The headers of an answer that is a stream of events.
pub(crate) const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "no-cache, no-transform"),
    // nginx would otherwise hold events back.
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// What tells a client when to come back after the server went away.
pub(crate) const RETRY: &[u8] = b"retry: 1000\n\n";

impl Asker {
    /// Who sends a request, and with which token.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let caller = request.extensions().get::<Caller>();
        let token = request.headers().get(QUEUE_TOKEN);
        let token = token.and_then(|token| token.to_str().ok());
        Self {
            owner: caller.map_or(0, |caller| caller.number),
            token: token.and_then(|token| Uuid::parse_str(token.trim()).ok()),
            takes_token: true,
        }
    }

    /// The same where it is a vendor's SDK that comes back, which carries no token unless it
    /// was told to.
    pub(crate) fn of_sdk<B>(request: &Request<B>) -> Self {
        let asker = Self::of(request);
        Self {
            takes_token: asker.token.is_some(),
            ..asker
        }
    }
}

/// The streams of a gateway.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Shared>);

struct Shared {
    gate: Mutex<Gate>,
    caps: StreamCaps,
    began: Instant,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    pub(crate) fn new(capacity: usize, caps: StreamCaps) -> Self {
        Self(Arc::new(Shared {
            gate: Mutex::new(Gate::new(capacity)),
            caps,
            began: Instant::now(),
        }))
    }

    /// Counts a stream as open.
    ///
    /// # Errors
    ///
    /// [`ApiError::AtOnce`] where its owner has as many as it may;
    /// [`ApiError::StreamsBusy`], with a place in the line where there is one.
    pub(crate) fn open(&self, asker: Asker) -> Result<OpenStream, ApiError> {
        let own = self.0.caps.take(asker.owner)?;
        let now = self.0.began.elapsed();
        let entered = self.gate().enter(&asker, Uuid::new_v4(), now);
        entered.map_err(|place| ApiError::StreamsBusy { place })?;
        gauge!(STREAMS).increment(1.0);
        Ok(OpenStream {
            streams: self.clone(),
            began: Instant::now(),
            _own: own,
        })
    }

    /// How many streams an owner may have open, where that is limited.
    pub(crate) fn cap(&self, owner: usize) -> Option<Holding> {
        self.0.caps.of(owner)
    }

    /// The streams that are open, and the places in the line.
    pub(crate) fn count(&self) -> (usize, usize) {
        let gate = self.gate();
        (gate.open(), gate.waiting())
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream; dropping it frees its place.
pub(crate) struct OpenStream {
    streams: Streams,
    began: Instant,
    /// Its place among its owner's.
    _own: Option<Hold>,
}

/// Answers with these frames, for which the stream is open.
pub(crate) fn answer(
    open: impl Send + 'static,
    frames: impl Stream<Item = Bytes> + Send + 'static,
) -> Response {
    let frames = frames.map(move |frame| {
        let _held = &open;
        Ok::<_, Infallible>(frame)
    });
    (HEADERS, Body::from_stream(frames)).into_response()
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(STREAMS).decrement(1.0);
        self.streams.gate().leave(self.began.elapsed());
    }
}

/// The silence after which a stream carries a comment, on a machine with this load average:
/// as configured, by a third longer above 4, and twice as long above 8, so that 15 s become
/// 20 s and 30 s.
pub(crate) fn heartbeat(configured: Duration, load: f64) -> Duration {
    if load > 8.0 {
        configured * 2
    } else if load > 4.0 {
        configured * 4 / 3
    } else {
        configured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_beats_more_slowly() {
        let beat = |load| heartbeat(Duration::from_secs(15), load).as_secs();
        assert_eq!([0.0, 4.0, 4.1, 8.0, 8.1].map(beat), [15, 15, 20, 20, 30]);
        assert_eq!(beat(f64::NAN), 15);
    }
}
