//! One WebSocket of a client: what it asks, and the streams that answer.
//!
//! Invariant: of one connection at most [`MOST_STREAMS`] streams are open, each counted like any
//! other; the work behind those that are not durable ends with the connection. A client that
//! does not read is cut off. Deliberately absent: binary frames; keys in frames, because who
//! calls is known before the protocol is switched.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{SinkExt, StreamExt, stream::SelectAll};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::{
    select,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use yawc::{
    HttpWebSocket,
    close::CloseCode,
    frame::{Frame, OpCode},
};

use crate::{
    body,
    config::LONGEST,
    dto::{ChatInput, PanelInput},
    edge::{address::Client, rate::Standings},
    error::ApiError,
    gateway::Shared,
    routes::student::{Who, call},
    sse::{self, Pace, Said},
    streams::{Asker, OpenStream, Source},
};

/// The longest message of a client, in bytes.
pub(crate) const MOST_BYTES: usize = 100 << 10;

/// Streams of one connection.
const MOST_STREAMS: usize = 8;

/// The longest a client may refuse to read.
const STALLED: Duration = Duration::from_secs(30);

/// Pings in a row without any frame from the client, after which it is taken for gone.
const UNANSWERED: u32 = 2;

/// What every frame says.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    #[serde(default)]
    queue_token: Option<Uuid>,
}

/// A frame about a stream that exists.
#[derive(Deserialize)]
struct Named {
    stream: Uuid,
    #[serde(default)]
    after: u64,
}

type Told = Pin<Box<dyn Stream<Item = (Uuid, Option<Said>)> + Send>>;

/// A connection and its streams.
pub(crate) struct Connection {
    app: Shared,
    who: Who,
    asker: Asker,
    client: Client,
    socket: HttpWebSocket,
    told: SelectAll<Told>,
    open: HashMap<Uuid, Open>,
}

/// A stream that this connection hears.
struct Open {
    _counted: Arc<OpenStream>,
    /// Ends the work.
    cancel: Option<CancellationToken>,
    /// The same when dropped, where the work is bound to this connection.
    _bound: Option<DropGuard>,
}

/// Why a connection ends.
enum End {
    /// The client left or broke the protocol, which it was told.
    Over,
    /// The client is told why.
    Close(CloseCode, &'static str),
}

impl Connection {
    pub(crate) fn new(
        app: Shared,
        who: Who,
        asker: Asker,
        client: Client,
        socket: HttpWebSocket,
    ) -> Self {
        Self {
            app,
            who,
            asker,
            client,
            socket,
            told: SelectAll::new(),
            open: HashMap::new(),
        }
    }

    /// Serves until the client leaves or the server goes away.
    pub(crate) async fn serve(mut self) {
        if let End::Close(code, reason) = self.run().await {
            let _ = timeout(STALLED, self.socket.send(Frame::close(code, reason))).await;
        }
    }

    async fn run(&mut self) -> End {
        let beat = self.app.heartbeat();
        let mut beat_at = Instant::now() + beat;
        let mut silent = 0;
        let mut said_goodbye = false;
        let (closing, draining) = (self.app.closing.clone(), self.app.draining.clone());
        let mut lapse = self.who.0.0.lapse();
        loop {
            if draining.is_cancelled() && self.open.is_empty() {
                return End::Close(CloseCode::Away, "the server is going away");
            }
            let frame = select! {
                biased;
                () = closing.cancelled(), if !said_goodbye => {
                    said_goodbye = true;
                    json!({ "event": "retry" }).to_string()
                }
                () = draining.cancelled(), if self.open.is_empty() => continue,
                why = &mut lapse => {
                    let reason = match why {
                        ApiError::KeyExpired => "the key has expired",
                        _ => "the key is no longer known",
                    };
                    return End::Close(CloseCode::Policy, reason);
                }
                frame = self.socket.next() => {
                    silent = 0;
                    let Some(frame) = frame else { return End::Over };
                    match frame.opcode() {
                        OpCode::Text if frame.payload().len() > MOST_BYTES => {
                            let reason = "the message is larger than 100 KB";
                            return End::Close(CloseCode::Size, reason);
                        }
                        OpCode::Text => match self.asked(frame.payload()).await {
                            Some(answer) => answer,
                            None => continue,
                        },
                        OpCode::Binary => {
                            return End::Close(CloseCode::Unsupported, "frames must be text");
                        }
                        OpCode::Close => return End::Over,
                        _ => continue,
                    }
                }
                Some((id, said)) = self.told.next(), if !self.told.is_empty() => match said {
                    Some(Said::Event(event)) => {
                        let name = event.name.as_deref().unwrap_or("text");
                        // Names are plain words and data is JSON already.
                        format!(
                            r#"{{"stream":"{id}","id":{},"event":"{name}","data":{}}}"#,
                            event.id, event.data
                        )
                    }
                    Some(Said::Heartbeat | Said::Retry) => continue,
                    Some(Said::Lost) => {
                        let (error, end) = sse::lost();
                        format!(
                            r#"{{"stream":"{id}","event":"error","data":{},"end":{}}}"#,
                            error.data, end.data
                        )
                    }
                    None => {
                        self.open.remove(&id);
                        continue;
                    }
                },
                () = sleep_until(beat_at) => {
                    if silent >= UNANSWERED {
                        return End::Over;
                    }
                    silent += 1;
                    beat_at = Instant::now() + beat;
                    match timeout(STALLED, self.socket.send(Frame::ping("lyceum"))).await {
                        Ok(Ok(())) => continue,
                        _ => return End::Over,
                    }
                }
            };
            match timeout(STALLED, self.socket.send(Frame::text(frame))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return End::Over,
            }
        }
    }

    /// Does what a frame asks and gives the answer, where one is due at once.
    async fn asked(&mut self, text: &[u8]) -> Option<String> {
        let envelope = match body::parse::<Envelope>(text) {
            Ok(envelope) => envelope,
            Err(refusal) => return Some(refused(None, &refusal)),
        };
        let reference = envelope.reference.as_deref();
        match self.done(&envelope, text).await {
            Ok(None) => None,
            Ok(Some(stream)) => {
                Some(json!({ "event": "open", "ref": reference, "stream": stream }).to_string())
            }
            Err(refusal) => Some(refused(reference, &refusal)),
        }
    }

    async fn done(&mut self, asked: &Envelope, text: &[u8]) -> Result<Option<Uuid>, ApiError> {
        let asker = Asker {
            token: asked.queue_token,
            ..self.asker
        };
        if asked.kind != "cancel" {
            self.admit()?;
        }
        match asked.kind.as_str() {
            "teach" => {
                let input: ChatInput = body::parse(text)?;
                let is_durable = input.is_durable();
                let explanation = input.check(&self.app.limits)?;
                let session = explanation.session.clone();
                let app = Arc::clone(&self.app);
                let call = call(self.who.clone(), Some(&session), app.limits.stream);
                let began = self.begin(asker, is_durable, || {
                    app.services.student.teach(call, explanation)
                });
                began.await.map(Some)
            }
            "panel" => {
                let input: PanelInput = body::parse(text)?;
                let is_durable = input.is_durable();
                let discussion = input.check(&self.app.limits)?;
                let panel = self.app.panel.get().cloned().ok_or(ApiError::NotFound)?;
                let session = discussion.session.clone();
                let call = call(self.who.clone(), Some(&session), self.app.limits.stream);
                let began = self.begin(asker, is_durable, || panel.discuss(call, discussion));
                began.await.map(Some)
            }
            "resume" => {
                let Named { stream, after } = body::parse(text)?;
                if self.open.contains_key(&stream) {
                    let detail = "this connection hears that stream already".to_owned();
                    return Err(ApiError::Malformed { detail });
                }
                let source = self.app.hub.find(&self.who.0.0.scope, stream).await?;
                let counted = Arc::new(self.counted(asker)?);
                self.hear(stream, source, after, counted, (None, None));
                Ok(Some(stream))
            }
            "cancel" => {
                let Named { stream, .. } = body::parse(text)?;
                let own = self.open.get(&stream);
                if let Some(cancel) = own.and_then(|open| open.cancel.as_ref()) {
                    cancel.cancel();
                    return Ok(None);
                }
                match self.app.hub.find(&self.who.0.0.scope, stream).await? {
                    Source::Here(journal) => journal.cancel.cancel(),
                    Source::Elsewhere { .. } => return Err(ApiError::NoStream),
                }
                Ok(None)
            }
            other => Err(ApiError::Invalid {
                path: "type".to_owned(),
                detail: format!(
                    "it is {:?}: teach, panel, resume and cancel are known",
                    other.chars().take(40).collect::<String>()
                ),
            }),
        }
    }

    /// Whether a frame may ask for something: it counts like a request, and a key may have
    /// expired since the connection was opened.
    fn admit(&self) -> Result<(), ApiError> {
        let (app, caller) = (&self.app, &self.who.0.0);
        app.check_valid(caller, OffsetDateTime::now_utc())?;
        app.admit_frame(caller, self.client, "/ws")
    }

    fn counted(&self, asker: Asker) -> Result<OpenStream, ApiError> {
        if self.app.draining.is_cancelled() {
            return Err(ApiError::Closing);
        }
        if self.open.len() >= MOST_STREAMS {
            let detail =
                format!("at most {MOST_STREAMS} streams are open on one connection: wait for one");
            return Err(ApiError::Malformed { detail });
        }
        self.app.streams.open(asker)
    }

    async fn begin<E: sse::Wire + 'static>(
        &mut self,
        asker: Asker,
        is_durable: bool,
        source: impl FnOnce() -> sse::Source<E>,
    ) -> Result<Uuid, ApiError> {
        if self.app.maintenance.load(Ordering::Relaxed) {
            return Err(ApiError::Maintenance);
        }
        let counted = Arc::new(self.counted(asker)?);
        let (app, caller) = (&self.app, &self.who.0.0);
        let place = caller.begin(&mut Standings::default())?;
        let told = sse::written(source(), Pace::of(app), app.closing.clone());
        let held = (Arc::clone(&counted), app.cache.turn(caller), place);
        let journal = app.hub.begin(caller.scope.clone(), is_durable, told, held);
        if is_durable {
            app.hub.announced(&journal).await;
        }
        let (id, cancel) = (journal.id, journal.cancel.clone());
        let bound = (!is_durable).then(|| cancel.clone().drop_guard());
        self.hear(id, Source::Here(journal), 0, counted, (Some(cancel), bound));
        Ok(id)
    }

    fn hear(
        &mut self,
        id: Uuid,
        source: Source,
        after: u64,
        counted: Arc<OpenStream>,
        (cancel, bound): (Option<CancellationToken>, Option<DropGuard>),
    ) {
        let closing = self.app.closing.clone();
        let said = self.app.hub.read(source, after, LONGEST, closing);
        let said = said.map(move |said| (id, Some(said)));
        let ended = futures_util::stream::iter([(id, None)]);
        self.told.push(Box::pin(said.chain(ended)));
        self.open.insert(
            id,
            Open {
                _counted: counted,
                cancel,
                _bound: bound,
            },
        );
    }
}

fn refused(reference: Option<&str>, refusal: &ApiError) -> String {
    refusal.log();
    let mut answer = json!({
        "event": "refused",
        "ref": reference,
        "status": refusal.status().as_u16(),
        "detail": refusal.to_string(),
        "retryable": refusal.is_retryable(),
    });
    if let ApiError::StreamsBusy { place: Some(place) } = refusal {
        answer["queue_token"] = json!(place.token);
        answer["position"] = json!(place.position);
        answer["estimated_wait_seconds"] = json!(place.wait.as_secs_f64());
    }
    answer.to_string()
}
