//! Streams of the compatible APIs: one driver, a writer for each dialect.
//!
//! A call that fails before its first event is an ordinary error answer. While it waits,
//! the stream carries comments (`: queued position=3 wait_s=1.5`), and, where the client
//! sent `x-queue-events`, an event in the dialect's form. Invariant: a stream ends with
//! its dialect's own end or with an error event, never silently. Events that are ready
//! together are written together; nothing is produced that the client has not made room
//! for, and dropping the stream drops the call at once.

use std::panic::AssertUnwindSafe;

use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};
use lyceum_core::{ChatError, ChatEvent, ChatStream, QueuePosition, TeachError};
use tokio::{
    select,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::LONGEST,
    error::ApiError,
    gateway::App,
    sse::Pace,
    streams::{Asker, RETRY},
};

/// How much is put together before it is sent, in bytes.
const BATCH: usize = 16 << 10;

/// Writes events in a dialect.
pub(crate) trait Writer: Send + 'static {
    /// Writes an event; [`ChatEvent::Finished`] writes the end too.
    fn event(&mut self, event: ChatEvent, out: &mut BytesMut);

    /// Writes the place in the queue for clients that asked for it.
    fn queued(&mut self, place: QueuePosition, out: &mut BytesMut);

    /// Writes what keeps a silent connection open.
    fn heartbeat(&mut self, out: &mut BytesMut) {
        out.put_slice(b": \n\n");
    }

    /// Writes an error, which is the end.
    fn error(&mut self, error: &ApiError, out: &mut BytesMut);
}

/// Answers with a stream, or with the error that came before its first event.
pub(crate) async fn respond(
    app: &App,
    mut events: ChatStream,
    writer: impl Writer,
    asker: Asker,
) -> Result<Response, ApiError> {
    let open = app.streams.open(asker)?;
    let pace = Pace::of(app);
    let first = match timeout(pace.heartbeat.min(LONGEST), events.next()).await {
        Ok(Some(Ok(event))) => Some(event),
        Ok(Some(Err(error))) => return Err(failed(error)),
        Ok(None) => return Err(ApiError::Cut),
        // The headers of the answer keep the connection alive, then comments do.
        Err(_elapsed) => None,
    };
    Ok(crate::streams::answer(
        open,
        drive(first, events, writer, pace, app.closing.clone()),
    ))
}

fn failed(error: ChatError) -> ApiError {
    ApiError::Student(TeachError::Model(error))
}

fn drive(
    first: Option<ChatEvent>,
    mut source: ChatStream,
    mut writer: impl Writer,
    pace: Pace,
    closing: CancellationToken,
) -> impl Stream<Item = Bytes> + Send {
    async_stream::stream! {
        let mut out = BytesMut::new();
        let began = Instant::now();
        let end_of_life = began + pace.total.min(LONGEST);
        let mut patience = began + pace.first_event.min(LONGEST);
        let mut heartbeat_at = began + pace.heartbeat.min(LONGEST);
        let mut ended = first.is_some_and(|event| write(event, &mut writer, &mut out));
        if !out.is_empty() {
            yield out.split().freeze();
        }
        let closed = closing.cancelled();
        tokio::pin!(closed);
        let mut failure = None;
        while !ended {
            let next = AssertUnwindSafe(source.next()).catch_unwind();
            let event = select! {
                // In this order a model that never pauses cannot outlast the server.
                biased;
                () = &mut closed => {
                    out.put_slice(RETRY);
                    failure = Some(ApiError::Closing);
                    break;
                }
                event = next => event,
                () = sleep_until(heartbeat_at.min(patience).min(end_of_life)) => {
                    if Instant::now() >= patience.min(end_of_life) {
                        failure = Some(ApiError::StreamTimeout);
                        break;
                    }
                    heartbeat_at += pace.heartbeat.min(LONGEST);
                    writer.heartbeat(&mut out);
                    yield out.split().freeze();
                    continue;
                }
            };
            let now = Instant::now();
            patience = now + pace.between_events.min(LONGEST);
            heartbeat_at = now + pace.heartbeat.min(LONGEST);
            let mut next = event;
            loop {
                match next {
                    Ok(Some(Ok(event))) => ended = write(event, &mut writer, &mut out),
                    Ok(Some(Err(error))) => failure = Some(failed(error)),
                    Ok(None) => failure = Some(ApiError::Cut),
                    Err(_panic) => failure = Some(ApiError::Internal { what: "panic" }),
                }
                if ended || failure.is_some() || out.len() >= BATCH {
                    break;
                }
                match AssertUnwindSafe(source.next()).catch_unwind().now_or_never() {
                    Some(ready) => next = ready,
                    None => break,
                }
            }
            if !ended && failure.is_none() && now >= end_of_life {
                failure = Some(ApiError::StreamTimeout);
            }
            if failure.is_some() {
                break;
            }
            if !ended && !out.is_empty() {
                yield out.split().freeze();
            }
        }
        drop(source);
        if let Some(error) = failure {
            error.log();
            writer.error(&error, &mut out);
        }
        if !out.is_empty() {
            yield out.split().freeze();
        }
    }
}

/// Writes an event; `true` behind the last one.
fn write(event: ChatEvent, writer: &mut impl Writer, out: &mut BytesMut) -> bool {
    use std::io::Write;
    match event {
        ChatEvent::Queued(place) => {
            let wait = place.estimated_wait.map(|wait| wait.as_secs_f64());
            let position = place.position;
            // Writing to memory does not fail.
            let _always = match wait {
                Some(wait) => {
                    write!(
                        out.writer(),
                        ": queued position={position} wait_s={wait:.1}\n\n"
                    )
                }
                None => write!(out.writer(), ": queued position={position}\n\n"),
            };
            writer.queued(place, out);
            false
        }
        event => {
            let ended = matches!(event, ChatEvent::Finished(_));
            writer.event(event, out);
            ended
        }
    }
}
