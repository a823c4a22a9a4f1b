//! Drives one call: sends the request, decodes the answer, keeps the time limits.
//!
//! What the bytes mean is the business of [`decode`](crate::decode). Invariant: the stream
//! ends with `Finished` or an error, and never says `Finished` for an answer whose end was
//! not seen.

use std::sync::Arc;

use bytes::Bytes;
use lyceum_core::{ChatError, ChatEvent, ChatStream, ExtraPlace};
use reqwest::Response;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    decode::{Intake, Reader},
    transport::{Form, Transport, interrupted, release},
};

/// The stream of one call. `body` makes the request's JSON when the stream is polled.
pub(crate) fn answer<R, B>(
    transport: Arc<Transport>,
    deadline: Option<std::time::Instant>,
    body: B,
    reader: R,
) -> ChatStream
where
    R: Reader,
    B: FnOnce() -> Result<Vec<u8>, ChatError> + Send + 'static,
{
    Box::pin(async_stream::try_stream! {
        let clock = Clock::start(transport.timeouts, deadline);
        clock.check_total()?;
        let (mut response, form) = transport.send(body()?, &clock).await?;
        let mut intake = Intake::new(reader);
        let mut progress = None;
        loop {
            let read = next_chunk(&mut response, &clock, progress).await;
            let (over, events) = match (&form, read) {
                (Form::Events, Ok(Some(chunk))) => (false, intake.chunk(&chunk)),
                (Form::Events, Ok(None)) => (true, intake.end()),
                (Form::Whole, Ok(Some(chunk))) => (false, intake.part(&chunk)),
                (Form::Whole, Ok(None)) => (true, intake.whole()),
                // Only the end of the stream is missing, not of the answer.
                (_, Err(_)) if intake.finish().is_some() => (true, 0),
                (_, Err(error)) => Err(error)?,
            };
            let content = progress.is_some() || intake.out.iter().any(is_content);
            for event in intake.out.drain(..) {
                yield event;
            }
            if let Some(error) = intake.failure.take() {
                Err(error)?;
            }
            if over || intake.is_done() {
                break;
            }
            // After the events were taken: a slow consumer is not a slow provider.
            if content && events > 0 {
                progress = Some(Instant::now());
            }
        }
        release(response);
        yield ChatEvent::Finished(intake.finish().ok_or(ChatError::Truncated)?);
    })
}

/// Waits for more of an answer. `progress` is when it last grew, once it has begun.
async fn next_chunk(
    response: &mut Response,
    clock: &Clock,
    progress: Option<Instant>,
) -> Result<Option<Bytes>, ChatError> {
    let chunk = match progress {
        None => clock.first_token(response.chunk()).await?,
        Some(since) => clock.between_chunks(since, response.chunk()).await?,
    };
    chunk.map_err(interrupted)
}

/// Whether a client has something to show. Before that an answer can be asked for again.
pub(crate) fn is_content(event: &ChatEvent) -> bool {
    match event {
        ChatEvent::Text(_) | ChatEvent::Reasoning(_) | ChatEvent::ToolCall(_) => true,
        // Reasoning that only the provider can read, and audio, have no other sign.
        ChatEvent::ReasoningEnd(_) => true,
        ChatEvent::Extra(extra) => extra.place == ExtraPlace::Message,
        ChatEvent::Choice { event, .. } => is_content(event),
        _ => false,
    }
}
