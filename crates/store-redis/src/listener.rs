//! Hears what processes announce: a subscription that is made again when it is lost.
//!
//! Invariant: between two things heard without a [`Heard::Gap`] between them, nothing was
//! missed. A server that says nothing is asked every second whether it is there; waits
//! between attempts double from 100 ms to 5 s.

use std::{ops::ControlFlow, time::Duration};

use futures_util::{StreamExt, stream};
use lyceum_cache::{Announcements, Heard};
use redis::{
    RedisError,
    aio::{PubSubSink, PubSubStream},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::RedisServer;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a server may take to say that it is there. It may be busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn listen(server: RedisServer, channel: String) -> Announcements {
    let listener = Listener {
        server,
        channel,
        wait: FIRST_WAIT,
        ear: None,
    };
    stream::unfold(listener, |mut listener| async move {
        loop {
            if let Some(heard) = listener.step().await {
                return Some((heard, listener));
            }
        }
    })
    .boxed()
}

struct Listener {
    server: RedisServer,
    channel: String,
    wait: Duration,
    ear: Option<Ear>,
}

/// A subscription.
struct Ear {
    sink: PubSubSink,
    messages: PubSubStream,
    ask_at: Instant,
}

impl Listener {
    /// What is heard next, if this step brings something.
    async fn step(&mut self) -> Option<Heard> {
        let Some(ear) = &mut self.ear else {
            return match self.subscribe().await {
                Ok(ear) => {
                    self.wait = FIRST_WAIT;
                    self.ear = Some(ear);
                    Some(Heard::Gap)
                }
                Err(error) => {
                    tracing::debug!(%error, "the shared cache's announcements cannot be heard");
                    sleep(self.wait).await;
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                    None
                }
            };
        };
        match ear.hear().await {
            ControlFlow::Continue(heard) => heard,
            ControlFlow::Break(()) => {
                self.ear = None;
                None
            }
        }
    }

    async fn subscribe(&self) -> Result<Ear, RedisError> {
        let connect = async {
            let mut pubsub = self.server.client().get_async_pubsub().await?;
            pubsub.subscribe(&self.channel).await?;
            let (sink, messages) = pubsub.split();
            Ok(Ear {
                sink,
                messages,
                ask_at: Instant::now() + ASK_EVERY,
            })
        };
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        timeout(ANSWER_WITHIN, connect).await.map_err(late)?
    }
}

impl Ear {
    /// What is heard; a break when nothing more will be.
    async fn hear(&mut self) -> ControlFlow<(), Option<Heard>> {
        tokio::select! {
            biased;
            message = self.messages.next() => {
                let Some(message) = message else {
                    return ControlFlow::Break(());
                };
                match serde_json::from_slice(message.get_payload_bytes()) {
                    Ok(invalidation) => {
                        ControlFlow::Continue(Some(Heard::Invalidation(invalidation)))
                    }
                    // Somebody speaks another version: anything may be meant.
                    Err(_) => ControlFlow::Continue(Some(Heard::Gap)),
                }
            }
            () = sleep_until(self.ask_at) => {
                let asked = timeout(ANSWER_WITHIN, self.sink.ping::<redis::Value>()).await;
                self.ask_at = Instant::now() + ASK_EVERY;
                match asked {
                    Ok(Ok(_)) => ControlFlow::Continue(None),
                    _ => ControlFlow::Break(()),
                }
            }
        }
    }
}
