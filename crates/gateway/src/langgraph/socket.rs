//! Version 3 over a WebSocket: commands in, answers and events out.
//!
//! Invariant: of one connection at most [`SUBSCRIPTIONS`] subscriptions are open, a frame is at
//! most [`FRAME_BYTES`] long and counts like a request, and a connection ends with its key.
//! Deliberately absent: binary frames.

use std::time::Duration;

use axum::{
    extract::{
        Path,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use bytes::Bytes;
use futures_util::{FutureExt, future::select_all};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    chronicle::Reading,
    commands::{No, answered, command, subscription},
    refusal::{Answer, Refusal},
    request::{Asked, uuid},
};
use crate::error::ApiError;

/// Subscriptions of one connection.
const SUBSCRIPTIONS: usize = 16;
/// Pings in a row without any frame from the client, after which it is taken for gone.
const UNANSWERED: u32 = 2;
/// The longest a client may refuse to read.
const STALLED: Duration = Duration::from_secs(30);
/// The longest frame of a client, in bytes.
const FRAME_BYTES: usize = 1 << 20;

pub(crate) async fn connect(
    Path(thread): Path<String>,
    upgrade: WebSocketUpgrade,
    asked: Asked,
) -> Answer {
    let thread = uuid(&thread)?;
    asked.platform.thread(asked.owner(), &thread).await?;
    let open = asked.app.streams.open(asked.asker)?;
    let own = asked.caller.connect()?;
    let upgrade = upgrade
        .max_message_size(FRAME_BYTES)
        .max_frame_size(FRAME_BYTES);
    let answer: Response = upgrade.on_upgrade(move |socket| async move {
        let closing = asked.app.closing.clone();
        let _places = (open, own);
        Connection {
            asked,
            thread,
            socket,
            open: Vec::new(),
            next: 1,
        }
        .serve(closing)
        .await;
    });
    Ok(answer)
}

struct Connection {
    asked: Asked,
    thread: String,
    socket: WebSocket,
    open: Vec<(String, Reading)>,
    next: u64,
}

impl Connection {
    async fn serve(mut self, closing: CancellationToken) {
        let beat = self.asked.app.heartbeat();
        let mut beat_at = Instant::now() + beat;
        let mut silent = 0;
        let mut lapse = self.asked.caller.lapse();
        loop {
            let told = async {
                if self.open.is_empty() {
                    return std::future::pending().await;
                }
                let next = self
                    .open
                    .iter_mut()
                    .map(|(_, reading)| reading.next().boxed());
                select_all(next).await.0
            };
            let frame = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                _why = &mut lapse => {
                    self.shut().await;
                    break;
                }
                frame = self.socket.recv() => {
                    silent = 0;
                    match frame {
                        Some(Ok(Message::Text(text))) => {
                            if self.check_valid().is_err() {
                                self.shut().await;
                                break;
                            }
                            Message::Text(self.frame(&text).await.into())
                        }
                        Some(Ok(Message::Binary(_))) => {
                            let refused = No::argument("frames must be text");
                            let refused = answered(&Value::Null, Err(refused)).to_string();
                            Message::Text(refused.into())
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    }
                }
                told = told => match told {
                    Some((_, _, text)) => Message::Text(text.into()),
                    None => break,
                },
                () = sleep_until(beat_at) => {
                    if silent >= UNANSWERED {
                        break;
                    }
                    silent += 1;
                    beat_at = Instant::now() + beat;
                    Message::Ping(Bytes::new())
                }
            };
            // Who does not read is cut off: what waits for it is bounded by the subscriptions.
            match timeout(STALLED, self.socket.send(frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
    }

    /// Tells the client that what it came with may no longer be used.
    async fn shut(&mut self) {
        let close = CloseFrame {
            code: close_code::POLICY,
            reason: "the key may no longer be used".into(),
        };
        let closing = self.socket.send(Message::Close(Some(close)));
        let _left = timeout(STALLED, closing).await;
    }

    fn check_valid(&self) -> Result<(), ApiError> {
        let Asked { app, caller, .. } = &self.asked;
        app.check_valid(caller, OffsetDateTime::now_utc())
    }

    /// Counts a frame like a request.
    fn admit(&self) -> Result<(), ApiError> {
        let Asked { app, caller, .. } = &self.asked;
        app.admit_frame(caller, self.asked.client, "/threads/{id}/stream/events")
    }

    async fn frame(&mut self, text: &str) -> String {
        let Ok(Value::Object(frame)) = serde_json::from_str(text) else {
            let refused = No::argument("a frame must be a JSON object");
            return answered(&Value::Null, Err(refused)).to_string();
        };
        let id = frame.get("id").cloned().unwrap_or_default();
        if let Err(error) = self.admit() {
            return answered(&id, Err(No::from(Refusal::Api(error)))).to_string();
        }
        let method = frame
            .get("method")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let none = Map::new();
        let params = frame.get("params").and_then(Value::as_object);
        let params = params.unwrap_or(&none);
        let result = match method {
            "subscription.subscribe" => self.subscribe(params),
            "subscription.unsubscribe" => {
                let wanted = params.get("subscription_id").and_then(Value::as_str);
                let before = self.open.len();
                self.open.retain(|(id, _)| Some(id.as_str()) != wanted);
                match self.open.len() < before {
                    true => Ok((json!({}), None)),
                    false => Err(No::argument("no such subscription")),
                }
            }
            method => command(&self.asked, &self.thread, method, params).await,
        };
        answered(&id, result).to_string()
    }

    fn subscribe(&mut self, params: &Map<String, Value>) -> Result<(Value, Option<u64>), No> {
        let (filter, since) = subscription(params)?;
        if self.open.len() >= SUBSCRIPTIONS {
            let text = format!("at most {SUBSCRIPTIONS} subscriptions are open at once");
            return Err(No::argument(text));
        }
        let platform = &self.asked.platform;
        let chronicle = platform.chronicle(self.asked.owner(), &self.thread);
        let id = format!("s{}", self.next);
        self.next += 1;
        self.open.push((id.clone(), chronicle.read(filter, since)));
        Ok((json!({ "subscription_id": id }), None))
    }
}
