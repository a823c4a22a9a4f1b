//! One simulated user.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};

use super::{
    End, LoadConfig, Target,
    connection::Connection,
    dialect::{self, Piece, Said, Turn},
    report::{Failure, Tally},
    sse::{Lines, TooLong},
};
use crate::marker;

/// After a failure that costs the server nothing, so that a dead server is not called in
/// a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Nobody waits longer than this for a refused request's second chance.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Larger answers are none.
const MAX_BODY_BYTES: usize = 64 << 20;

/// When the run began, what counts and when it ends.
#[derive(Debug)]
pub(super) struct Clock {
    counted_from: Instant,
    ends: Option<Instant>,
    requests_left: AtomicU64,
}

impl Clock {
    pub(super) fn new(config: &LoadConfig, now: Instant) -> Self {
        let counted_from = now + config.warm_up;
        let (ends, requests) = match config.end {
            End::After(length) => (Some(counted_from + length), u64::MAX),
            End::Requests(requests) => (None, requests),
        };
        Self {
            counted_from,
            ends,
            requests_left: AtomicU64::new(requests),
        }
    }

    /// Whether another request may be sent; it is counted as sent then.
    fn next(&self, now: Instant) -> bool {
        let left = |left: u64| left.checked_sub(1);
        self.ends.is_none_or(|ends| now < ends)
            && self
                .requests_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
                .is_ok()
    }

    /// How long requests have been counted.
    pub(super) fn counted_time(&self, now: Instant) -> Duration {
        now.duration_since(self.counted_from)
    }
}

/// A user with a connection and a conversation.
#[derive(Debug)]
pub(super) struct User {
    number: u64,
    config: Arc<LoadConfig>,
    target: Arc<Target>,
    clock: Arc<Clock>,
    connection: Option<Connection>,
    /// Turns begun so far.
    turn: u64,
    session: String,
    memory: Box<RawValue>,
    tally: Tally,
}

/// A whole, checked answer.
struct Answer {
    said: Said,
    first_byte: Duration,
}

impl User {
    pub(super) fn new(
        number: u64,
        config: Arc<LoadConfig>,
        target: Arc<Target>,
        clock: Arc<Clock>,
    ) -> Self {
        Self {
            number,
            config,
            target,
            clock,
            connection: None,
            turn: 0,
            session: String::new(),
            memory: empty_memory(),
            tally: Tally::default(),
        }
    }

    pub(super) async fn run(mut self) -> Tally {
        while self.clock.next(Instant::now()) {
            if self.turn.is_multiple_of(self.config.turns) {
                let conversation = self.turn / self.config.turns;
                self.session = format!("load-{}-{}-{conversation}", self.target.run, self.number);
                self.memory = empty_memory();
            }
            self.turn += 1;
            let begun = Instant::now();
            let result = match timeout(self.config.timeout, self.ask(begun)).await {
                Ok(result) => result,
                Err(_) => Err(Failure::Timeout),
            };
            let counts = begun >= self.clock.counted_from;
            match result {
                Ok(answer) => {
                    let mixed_up = self.is_mixed_up(&answer.said);
                    if counts {
                        self.tally.answered(begun.elapsed(), answer.first_byte);
                    }
                    if mixed_up {
                        self.tally.mixed_up();
                    } else if !self.is_marked(&answer.said) {
                        self.tally.failed(Failure::Unmarked);
                    }
                    self.memory = answer.said.memory.unwrap_or_else(empty_memory);
                    sleep_unless_zero(self.config.think).await;
                }
                Err(failure) => {
                    self.tally.failed(failure);
                    if !matches!(failure, Failure::Refused { .. }) {
                        self.connection = None;
                    }
                    let wait = failure.retry_after().unwrap_or_default();
                    sleep(wait.max(AFTER_FAILURE)).await;
                }
            }
        }
        self.tally
    }

    async fn ask(&mut self, begun: Instant) -> Result<Answer, Failure> {
        let text = text(&marker::of(self.number, self.turn), self.config.text_bytes);
        let turn = Turn {
            session: &self.session,
            text: &text,
            memory: &self.memory,
        };
        let body = dialect::body(&self.config, &turn).into();
        let mut connection = match self.connection.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => Connection::open(&self.target)
                .await
                .map_err(|_| Failure::Connect)?,
        };
        let response = connection
            .send(&self.target, body)
            .await
            .map_err(|_| Failure::Closed)?;
        let status = response.status();
        let answer = if status != StatusCode::OK {
            let retry_after = retry_after(response.headers());
            // Read to its end, so that the connection can be used again.
            let _ = read_whole(response.into_body(), begun).await?;
            Err(Failure::Refused {
                status: status.as_u16(),
                retry_after,
            })
        } else if self.config.endpoint.is_stream() {
            self.read_stream(response.into_body(), begun).await
        } else {
            let (body, first_byte) = read_whole(response.into_body(), begun).await?;
            let said = dialect::read_whole(self.config.endpoint, &body);
            said.map(|said| Answer { said, first_byte })
                .ok_or(Failure::Malformed)
        };
        self.connection = Some(connection);
        answer
    }

    async fn read_stream(&self, mut body: Incoming, begun: Instant) -> Result<Answer, Failure> {
        let (mut lines, mut said, mut first_byte) = (Lines::default(), Said::default(), None);
        let mut ended = false;
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(|_| Failure::Closed)?.into_data() else {
                continue;
            };
            first_byte.get_or_insert_with(|| begun.elapsed());
            lines.push(&bytes, |data| {
                match dialect::read_piece(self.config.endpoint, data) {
                    Some(Piece::Text(_) | Piece::Other) if ended => return Err(Failure::Malformed),
                    Some(Piece::Text(text)) => said.text.push_str(&text),
                    Some(Piece::Other) => {}
                    Some(Piece::End) => ended = true,
                    Some(Piece::Failed) => return Err(Failure::ErrorEvent),
                    None => return Err(Failure::Malformed),
                }
                match said.text.len() > MAX_BODY_BYTES {
                    true => Err(Failure::TooLarge),
                    false => Ok(()),
                }
            })?;
        }
        match first_byte {
            Some(first_byte) if ended => Ok(Answer { said, first_byte }),
            _ => Err(Failure::Truncated),
        }
    }

    /// Whether anything in an answer is somebody else's.
    fn is_mixed_up(&self, said: &Said) -> bool {
        let memory = said.memory.as_deref().map_or("", RawValue::get);
        let other_mark = marker::find(&said.text)
            .chain(marker::find(memory))
            .any(|mark| marker::user(mark) != Some(self.number));
        other_mark
            || said
                .session
                .as_ref()
                .is_some_and(|session| *session != self.session)
    }

    /// Whether an answer speaks of this user's words at all.
    fn is_marked(&self, said: &Said) -> bool {
        marker::find(&said.text).any(|mark| marker::user(mark) == Some(self.number))
    }
}

async fn read_whole(mut body: Incoming, begun: Instant) -> Result<(Vec<u8>, Duration), Failure> {
    let (mut whole, mut first_byte) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(|_| Failure::Closed)?.into_data() {
            first_byte.get_or_insert_with(|| begun.elapsed());
            if whole.len() + bytes.len() > MAX_BODY_BYTES {
                return Err(Failure::TooLarge);
            }
            whole.extend_from_slice(&bytes);
        }
    }
    Ok((whole, first_byte.unwrap_or_else(|| begun.elapsed())))
}

impl From<TooLong> for Failure {
    fn from(_: TooLong) -> Self {
        Self::TooLarge
    }
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// An explanation with gaps to ask about, whose every sentence carries the mark.
fn text(mark: &str, at_least_bytes: usize) -> String {
    let sentence =
        format!("The process {mark} makes energy, so everything {mark} needs just works. ");
    let times = at_least_bytes.div_ceil(sentence.len()).max(1);
    let mut text = sentence.repeat(times);
    text.truncate(text.trim_end().len());
    text
}

fn empty_memory() -> Box<RawValue> {
    const EMPTY: &str = "[]";
    RawValue::from_string(EMPTY.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

async fn sleep_unless_zero(length: Duration) {
    if !length.is_zero() {
        sleep(length).await;
    }
}
