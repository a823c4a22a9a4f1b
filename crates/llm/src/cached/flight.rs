//! One call for many callers that ask the same at the same time.
//!
//! Invariant: every caller sees all events of the answer from its beginning; the call is
//! cancelled when the last caller leaves; no caller slows another one down.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures_util::StreamExt;
use lyceum_core::{ChatError, ChatEvent, ChatStream, QueuePosition, TimeoutStage};
use tokio::{sync::watch, task::AbortHandle};
use tracing::Instrument;

use super::AnswerKey;

/// The calls under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights {
    flying: Arc<Mutex<HashMap<AnswerKey, Weak<Flight>>>>,
}

/// A call under way; dropping the last reference cancels it.
#[derive(Debug)]
pub(super) struct Flight {
    key: AnswerKey,
    flights: Flights,
    log: Arc<Log>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Log {
    told: Mutex<Told>,
    /// Counts changes.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Told {
    /// All events but places in the queue, of which only the last one matters.
    events: Vec<ChatEvent>,
    place: Option<QueuePosition>,
    end: Option<Result<(), Arc<ChatError>>>,
}

/// Whether a caller began a call or found one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    Leader,
    Follower,
}

impl Flights {
    /// Joins the call of a key, or begins it. `done` is given the events of an answer
    /// that was completed; it runs before the call ends for its callers.
    pub(super) fn join<F, D>(
        &self,
        key: AnswerKey,
        begin: impl FnOnce() -> ChatStream,
        done: F,
    ) -> (Arc<Flight>, Seat)
    where
        F: FnOnce(Vec<ChatEvent>) -> D + Send + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let mut flying = self.lock();
        if let Some(flight) = flying.get(&key).and_then(Weak::upgrade) {
            return (flight, Seat::Follower);
        }
        let log = Arc::new(Log {
            told: Mutex::default(),
            news: watch::Sender::new(0),
        });
        let fly = fly(begin(), Arc::clone(&log), self.clone(), key, done);
        let task = tokio::spawn(fly.in_current_span()).abort_handle();
        let flight = Arc::new(Flight {
            key,
            flights: self.clone(),
            log,
            task,
        });
        flying.insert(key, Arc::downgrade(&flight));
        (flight, Seat::Leader)
    }

    /// Poison is ignored: every change of the map is complete.
    fn lock(&self) -> MutexGuard<'_, HashMap<AnswerKey, Weak<Flight>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fly<F, D>(mut stream: ChatStream, log: Arc<Log>, flights: Flights, key: AnswerKey, done: F)
where
    F: FnOnce(Vec<ChatEvent>) -> D,
    D: Future<Output = ()>,
{
    let end = loop {
        match stream.next().await {
            Some(Ok(event)) => {
                let last = matches!(event, ChatEvent::Finished(_));
                log.tell(|told| match event {
                    ChatEvent::Queued(place) => told.place = Some(place),
                    event => told.events.push(event),
                });
                if last {
                    break Ok(());
                }
            }
            Some(Err(error)) => break Err(Arc::new(error)),
            None => break Err(Arc::new(ChatError::Truncated)),
        }
    };
    if end.is_ok() {
        let events = log.lock().events.clone();
        done(events).await;
    }
    // Who comes from now on finds the answer in the store, or begins anew.
    flights.lock().remove(&key);
    log.tell(|told| told.end = Some(end));
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.lock());
        self.news.send_modify(|count| *count += 1);
    }
}

impl Flight {
    /// The answer from its beginning.
    pub(super) fn stream(self: Arc<Self>) -> ChatStream {
        Box::pin(async_stream::try_stream! {
            let mut news = self.log.news.subscribe();
            let (mut seen, mut place) = (0, None);
            loop {
                news.borrow_and_update();
                let (fresh, now, end) = {
                    let told = self.log.lock();
                    (told.events[seen..].to_vec(), told.place, told.end.clone())
                };
                if seen == 0 && fresh.is_empty() && now != place && let Some(now) = now {
                    place = Some(now);
                    yield ChatEvent::Queued(now);
                }
                for event in fresh {
                    seen += 1;
                    yield event;
                }
                match end {
                    Some(Ok(())) => return,
                    Some(Err(error)) => {
                        Err(copy(&error))?;
                        return;
                    }
                    None => {
                        if news.changed().await.is_err() {
                            Err(ChatError::Truncated)?;
                            return;
                        }
                    }
                }
            }
        })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
        let mut flying = self.flights.lock();
        // A new call of the same key may be there already.
        if flying
            .get(&self.key)
            .is_some_and(|flight| flight.strong_count() == 0)
        {
            flying.remove(&self.key);
        }
    }
}

/// Whether a call failed because of who made it; others that ask the same may fare better.
pub(super) fn is_personal(error: &ChatError) -> bool {
    matches!(
        error,
        ChatError::Shed { .. }
            | ChatError::Cancelled
            | ChatError::OverBudget { .. }
            | ChatError::Timeout {
                stage: TimeoutStage::Total,
                ..
            }
    )
}

/// The same error for another caller.
fn copy(error: &ChatError) -> ChatError {
    let source = |source: &(dyn std::error::Error + Send + Sync)| source.to_string().into();
    match error {
        ChatError::Connect {
            provider,
            source: from,
        } => ChatError::Connect {
            provider: provider.clone(),
            source: source(&**from),
        },
        ChatError::Timeout { stage, after } => ChatError::Timeout {
            stage: *stage,
            after: *after,
        },
        ChatError::Authentication { status, message } => ChatError::Authentication {
            status: *status,
            message: message.clone(),
        },
        ChatError::RateLimited {
            retry_after,
            message,
        } => ChatError::RateLimited {
            retry_after: *retry_after,
            message: message.clone(),
        },
        ChatError::Unavailable {
            status,
            retry_after,
            message,
        } => ChatError::Unavailable {
            status: *status,
            retry_after: *retry_after,
            message: message.clone(),
        },
        ChatError::Rejected { status, message } => ChatError::Rejected {
            status: *status,
            message: message.clone(),
        },
        ChatError::ContextTooLong { status, message } => ChatError::ContextTooLong {
            status: *status,
            message: message.clone(),
        },
        ChatError::Protocol { detail } => ChatError::Protocol {
            detail: detail.clone(),
        },
        ChatError::Interrupted { source: from } => ChatError::Interrupted {
            source: source(&**from),
        },
        ChatError::Truncated => ChatError::Truncated,
        ChatError::Shed { retry_after } => ChatError::Shed {
            retry_after: *retry_after,
        },
        ChatError::Cancelled => ChatError::Cancelled,
        ChatError::BreakerOpen {
            provider,
            retry_after,
        } => ChatError::BreakerOpen {
            provider: provider.clone(),
            retry_after: *retry_after,
        },
        ChatError::OverBudget {
            budget,
            needed,
            left,
            retry_after,
        } => ChatError::OverBudget {
            budget,
            needed: *needed,
            left: *left,
            retry_after: *retry_after,
        },
        ChatError::Local { detail } => ChatError::Local {
            detail: detail.clone(),
        },
        other => ChatError::Protocol {
            detail: other.to_string(),
        },
    }
}
