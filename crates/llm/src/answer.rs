//! Drives one call: sends the request, decodes the answer, keeps the time limits.
//!
//! What the events mean is the business of a [`Reader`], one per dialect; this file
//! knows none. Invariant: the stream ends with `Finished` or an error, and never says
//! `Finished` for an answer whose end was not seen.

use std::sync::Arc;

use bytes::Bytes;
use lyceum_core::{ChatError, ChatEvent, ChatStream, FinishReason};
use reqwest::Response;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    failure::protocol,
    sse::SseDecoder,
    transport::{Form, Transport, interrupted, release},
};

/// The longest event that is read. Real ones have a few hundred bytes; a whole tool
/// call in one event may have many thousands.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// How much of a whole answer in JSON is read.
const MAX_WHOLE_BYTES: usize = 16 << 20;

/// Understands one answer of one dialect. Pure: bytes come in, events go out.
pub(crate) trait Reader: Send + 'static {
    /// Takes the data of one event of the stream.
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError>;

    /// Takes a whole answer.
    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError>;

    /// Whether the provider said that nothing follows.
    fn is_done(&self) -> bool;

    /// Why the model stopped; `None` as long as the answer's end was not seen.
    fn finish(&self) -> Option<FinishReason>;
}

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
                (_, Err(_)) if intake.reader.finish().is_some() => (true, 0),
                (_, Err(error)) => Err(error)?,
            };
            let content = progress.is_some() || intake.out.iter().any(is_content);
            for event in intake.out.drain(..) {
                yield event;
            }
            if let Some(error) = intake.failure.take() {
                Err(error)?;
            }
            if over || intake.reader.is_done() {
                break;
            }
            // After the events were taken: a slow consumer is not a slow provider.
            if content && events > 0 {
                progress = Some(Instant::now());
            }
        }
        release(response);
        yield ChatEvent::Finished(intake.reader.finish().ok_or(ChatError::Truncated)?);
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
    matches!(
        event,
        ChatEvent::Text(_) | ChatEvent::Reasoning(_) | ChatEvent::ToolCall(_)
    )
}

/// The bytes of one answer on their way to its reader.
struct Intake<R> {
    reader: R,
    decoder: SseDecoder,
    /// A whole answer so far.
    body: Vec<u8>,
    out: Vec<ChatEvent>,
    /// What went wrong after the events in `out`.
    failure: Option<ChatError>,
}

impl<R: Reader> Intake<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            decoder: SseDecoder::new(MAX_EVENT_BYTES),
            body: Vec::new(),
            out: Vec::new(),
            failure: None,
        }
    }

    /// Takes a chunk of an event stream; says how many events it completed.
    fn chunk(&mut self, chunk: &[u8]) -> usize {
        let Self {
            reader,
            out,
            failure,
            ..
        } = self;
        let mut events = 0;
        let fed = self.decoder.feed(chunk, |event| {
            if failure.is_none() && !reader.is_done() {
                events += 1;
                *failure = reader.event(event.data, out).err();
            }
        });
        if let Err(error) = fed {
            failure.get_or_insert_with(|| protocol(error));
        }
        events
    }

    /// Takes what a stream left behind that ended without a blank line: a whole event, or
    /// the piece of one that was cut.
    fn end(&mut self) -> usize {
        let events = self.chunk(b"\n\n");
        if let Some(ChatError::Protocol { .. }) = self.failure {
            self.failure = None;
        }
        events
    }

    /// Takes a part of a whole answer.
    fn part(&mut self, part: &[u8]) -> usize {
        if self.body.len() + part.len() > MAX_WHOLE_BYTES {
            let detail = format_args!("it has more than {MAX_WHOLE_BYTES} bytes");
            self.failure = Some(protocol(detail));
        } else {
            self.body.extend_from_slice(part);
        }
        1
    }

    fn whole(&mut self) -> usize {
        self.failure = self.reader.whole(&self.body, &mut self.out).err();
        1
    }
}
