//! The events of one lesson or discussion, as Server-Sent Events have them.
//!
//! The wire (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): text
//! is an unnamed event whose data is a JSON string; everything else is a named event
//! whose data is a JSON object; the last event's data is the JSON string
//! `"[END_OF_STREAM]"`. Every event has an `id:`, counted from 1.
//!
//! Invariant: the stream always ends with the end mark, an error before it where there
//! was one: an answer is never silently cut. Nothing is produced that the client has
//! not made room for, and dropping the stream drops the student's work at once.
//! Deliberately absent: resuming, which is the hub's.

use std::{borrow::Cow, fmt::Write, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};
use lyceum_core::{PanelEvent, TeachError, TeachEvent};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    select,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::LONGEST,
    dto::{ChatGap, ChatOutput, ChatTool, PanelOutput, PanelSpeech, convert},
    error::ApiError,
    gateway::App,
    streams::RETRY,
};

/// The data of the last event.
const END: &str = "[END_OF_STREAM]";

/// The times that bound a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Silence after which a comment is sent.
    pub(crate) heartbeat: Duration,
    /// The longest wait for the first event.
    pub(crate) first_event: Duration,
    /// The longest wait for each next one.
    pub(crate) between_events: Duration,
    /// The longest the stream may last.
    pub(crate) total: Duration,
}

impl Pace {
    /// As the gateway is configured.
    pub(crate) fn of(app: &App) -> Self {
        Self {
            heartbeat: app.heartbeat(),
            first_event: app.limits.first_event,
            between_events: app.limits.between_events,
            total: app.limits.stream,
        }
    }
}

/// What has a form on this wire.
pub(crate) trait Wire: Send {
    /// The event's form.
    fn write(self, events: &mut Numbered) -> Form;
}

/// An event's form.
#[derive(Debug)]
pub(crate) enum Form {
    /// Nothing is sent.
    None,
    /// More will follow.
    More(Event),
    /// It takes two, and more will follow.
    Two(Event, Event),
    /// The result.
    Last(Event),
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Its number in its stream, from 1.
    pub(crate) id: u64,
    /// Its name; text has none.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Cow<'static, str>>,
    /// JSON, on one line.
    pub(crate) data: String,
}

/// What goes to a client.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Event(Event),
    /// What keeps a silent connection open.
    Heartbeat,
    /// The server goes away: the client is to come back.
    Retry,
    /// The rest is lost. It is no event of the stream and has no number, so that a client that
    /// comes back misses nothing if the rest is found after all.
    Lost,
}

impl Said {
    /// As Server-Sent Events have it.
    pub(crate) fn to_sse(&self) -> Bytes {
        let Event { id, name, data } = match self {
            Self::Event(event) => event,
            Self::Heartbeat => return Bytes::from_static(b": \n\n"),
            Self::Retry => return Bytes::from_static(RETRY),
            Self::Lost => {
                let (error, end) = lost();
                let text = format!(
                    "event: error\ndata: {}\n\ndata: {}\n\n",
                    error.data, end.data
                );
                return text.into();
            }
        };
        let mut frame = String::with_capacity(data.len() + 48);
        let _ = writeln!(frame, "id: {id}");
        if let Some(name) = name {
            let _ = writeln!(frame, "event: {name}");
        }
        let _ = write!(frame, "data: {data}\n\n");
        frame.into()
    }
}

/// Events as their source has them.
pub(crate) type Source<E> = Pin<Box<dyn Stream<Item = Result<E, TeachError>> + Send>>;

/// Writes a lesson or a discussion as it happens.
pub(crate) fn written<E: Wire>(
    mut source: Source<E>,
    pace: Pace,
    closing: CancellationToken,
) -> impl Stream<Item = Said> + Send {
    async_stream::stream! {
        let mut events = Numbered::default();
        let began = Instant::now();
        let end_of_life = began + pace.total.min(LONGEST);
        let mut patience = began + pace.first_event.min(LONGEST);
        let mut heartbeat_at = began + pace.heartbeat.min(LONGEST);
        let failure = loop {
            let next = AssertUnwindSafe(source.next()).catch_unwind();
            let event = select! {
                // In this order a student that never pauses cannot outlast the server.
                biased;
                () = closing.cancelled() => {
                    yield Said::Retry;
                    break Some(ApiError::Closing);
                }
                event = next => event,
                () = sleep_until(heartbeat_at.min(patience).min(end_of_life)) => {
                    if Instant::now() >= patience.min(end_of_life) {
                        break Some(ApiError::StreamTimeout);
                    }
                    heartbeat_at += pace.heartbeat.min(LONGEST);
                    yield Said::Heartbeat;
                    continue;
                }
            };
            let now = Instant::now();
            patience = now + pace.between_events.min(LONGEST);
            heartbeat_at = now + pace.heartbeat.min(LONGEST);
            match event {
                Ok(Some(Ok(event))) => match event.write(&mut events) {
                    Form::Last(event) => {
                        yield Said::Event(event);
                        break None;
                    }
                    _ if now >= end_of_life => break Some(ApiError::StreamTimeout),
                    Form::More(event) => yield Said::Event(event),
                    Form::Two(one, two) => {
                        yield Said::Event(one);
                        yield Said::Event(two);
                    }
                    Form::None => {}
                },
                Ok(Some(Err(error))) => break Some(ApiError::Student(error)),
                Ok(None) => break Some(ApiError::Cut),
                Err(_panic) => break Some(ApiError::Internal { what: "panic" }),
            }
        };
        drop(source);
        if let Some(error) = failure {
            error.log();
            yield Said::Event(events.error(&error));
        }
        yield Said::Event(events.end());
    }
}

/// What is said where the rest of a stream is lost; the numbers mean nothing.
pub(crate) fn lost() -> (Event, Event) {
    let mut events = Numbered::default();
    (events.error(&ApiError::Cut), events.end())
}

/// Makes events and counts them.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    last_id: u64,
}

impl Wire for TeachEvent {
    fn write(self, events: &mut Numbered) -> Form {
        Form::More(match self {
            Self::Text(text) if text.is_empty() => return Form::None,
            // A model that says the end mark must not end the stream.
            Self::Text(text) if text == END => {
                let (head, tail) = END.split_at(1);
                return Form::Two(events.text(head), events.text(tail));
            }
            Self::Text(text) => events.text(&text),
            Self::Queued(place) => {
                let wait = place.estimated_wait.map(|wait| wait.as_millis() as u64);
                let data = json!({ "position": place.position, "estimated_wait_ms": wait });
                events.event("queued", &data)
            }
            Self::Node(node) => events.event("node", &json!({ "node": node })),
            Self::Tool(trace) => events.event("tool", &ChatTool::from(trace)),
            Self::Gaps(gaps) => {
                let gaps: Vec<ChatGap> = convert(gaps);
                events.event("gaps", &json!({ "gaps": gaps }))
            }
            Self::Finished(lesson) => {
                return Form::Last(events.event("result", &ChatOutput::from(*lesson)));
            }
            // An event of a later core, which has no form on this wire yet.
            _ => return Form::None,
        })
    }
}

impl Wire for PanelEvent {
    fn write(self, events: &mut Numbered) -> Form {
        Form::More(match self {
            Self::Round(round) => events.event("round", &json!({ "round": round })),
            Self::Queued { agent, position } => {
                let wait = position.estimated_wait.map(|wait| wait.as_millis() as u64);
                let data = json!({
                    "agent": agent, "position": position.position, "estimated_wait_ms": wait,
                });
                events.event("queued", &data)
            }
            Self::Text(turn) if turn.text.is_empty() => return Form::None,
            Self::Text(turn) => events.event("text", &PanelSpeech::from(turn)),
            Self::Spoke(turn) => events.event("spoke", &PanelSpeech::from(turn)),
            Self::Finished(report) => {
                return Form::Last(events.event("result", &PanelOutput::from(*report)));
            }
            _ => return Form::None,
        })
    }
}

impl Numbered {
    /// Goes on after an event.
    pub(crate) fn after(last_id: u64) -> Self {
        Self { last_id }
    }

    fn text(&mut self, text: &str) -> Event {
        self.make(None, &text)
    }

    fn event(&mut self, name: &'static str, data: &impl Serialize) -> Event {
        self.make(Some(name), data)
    }

    /// The event that says what went wrong.
    pub(crate) fn error(&mut self, error: &ApiError) -> Event {
        let data = json!({ "detail": error.to_string(), "retryable": error.is_retryable() });
        self.event("error", &data)
    }

    /// The last event.
    pub(crate) fn end(&mut self) -> Event {
        self.text(END)
    }

    fn make(&mut self, name: Option<&'static str>, data: &impl Serialize) -> Event {
        self.last_id += 1;
        // JSON text holds no raw line break, so one `data:` line carries it. Values made
        // of strings and numbers always serialise.
        let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
        Event {
            id: self.last_id,
            name: name.map(Cow::Borrowed),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn of_a_student_that_never_pauses(total: Duration, closing: bool) -> String {
        let pace = Pace {
            heartbeat: LONGEST,
            first_event: LONGEST,
            between_events: LONGEST,
            total,
        };
        let source = stream::repeat_with(|| Ok(TeachEvent::Text("and".into())));
        let token = CancellationToken::new();
        if closing {
            token.cancel();
        }
        let frames: Vec<Bytes> = written(Box::pin(source), pace, token)
            .take(100)
            .map(|said| said.to_sse())
            .collect()
            .await;
        String::from_utf8(frames.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_student_that_never_pauses_is_stopped_by_the_limit() {
        let text = of_a_student_that_never_pauses(Duration::ZERO, false).await;
        assert!(text.contains("did not answer in time"), "{text}");
        assert!(text.ends_with("data: \"[END_OF_STREAM]\"\n\n"), "{text}");
    }

    #[tokio::test]
    async fn a_student_that_never_pauses_is_stopped_with_the_server() {
        let text = of_a_student_that_never_pauses(LONGEST, true).await;
        assert!(
            text.starts_with("retry: 1000\n\nid: 1\nevent: error\n"),
            "{text}"
        );
        assert!(text.ends_with("data: \"[END_OF_STREAM]\"\n\n"), "{text}");
    }
}
