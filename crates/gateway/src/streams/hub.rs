//! Streams that outlive their connection, for clients that asked for that.
//!
//! The work runs on its own; what it tells is kept here and in records, and a client that lost
//! its connection goes on after the last event it saw, at any process that shares the records.
//! Invariant: a reader gets every event after the one it names exactly once, or is told that
//! there is no such stream. What is kept in memory is bounded: one stream by
//! [`MOST_BYTES`], all that have ended by [`ENDED_BYTES`], of which the user with the most
//! gives way first.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_stream::stream;
use futures_core::Stream;
use futures_util::{StreamExt, pin_mut};
use lyceum_core::{RecordError, RecordStore, Scope, TenantId, UserId};
use tokio::{
    select,
    time::{Instant as Moment, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use uuid::Uuid;

use super::{
    journal::Journal,
    stored::{Found, GONE, Stored},
};
use crate::{
    error::ApiError,
    sse::{Numbered, Said},
};

/// The most that one stream may tell, in bytes.
const MOST_BYTES: usize = 4 << 20;

/// The most that is kept of streams that have ended, in bytes.
const ENDED_BYTES: usize = 64 << 20;

/// How long a stream that has ended is kept in memory.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// How often another process' stream is looked at.
const POLL: Duration = Duration::from_millis(500);

/// The durable streams of a gateway.
pub(crate) struct Hub {
    journals: Mutex<HashMap<Uuid, Arc<Journal>>>,
    most_running: usize,
    tasks: TaskTracker,
    stored: OnceLock<Stored>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// Where a reader finds a stream.
pub(crate) enum Source {
    Here(Arc<Journal>),
    Elsewhere {
        scope: Scope,
        id: Uuid,
        found: Found,
    },
}

impl Hub {
    /// A hub in which at most so many streams are under way.
    pub(crate) fn new(most_running: usize) -> Self {
        Self {
            journals: Mutex::default(),
            most_running,
            tasks: TaskTracker::new(),
            stored: OnceLock::new(),
        }
    }

    /// Keeps streams there too. The first store stays.
    pub(crate) fn keep_in(&self, records: Arc<dyn RecordStore>) {
        self.stored.get_or_init(|| Stored::new(records));
    }

    /// Starts the work behind a stream and keeps what it tells.
    ///
    /// # Errors
    ///
    /// [`ApiError::Busy`] when too many are under way.
    pub(crate) fn begin(
        &self,
        scope: Scope,
        told: impl Stream<Item = Said> + Send + 'static,
    ) -> Result<Arc<Journal>, ApiError> {
        let journal = Arc::new(Journal::new(scope));
        {
            let mut journals = self.journals();
            let running = journals.values().filter(|one| one.ended().is_none());
            if running.count() >= self.most_running {
                return Err(ApiError::Busy);
            }
            make_room(&mut journals);
            journals.insert(journal.id, Arc::clone(&journal));
        }
        let teller = Arc::clone(&journal);
        self.tasks.spawn(tell(teller, told).in_current_span());
        if let Some(stored) = self.stored.get().cloned() {
            let journal = Arc::clone(&journal);
            let writing = async move { stored.follow(&journal).await };
            self.tasks.spawn(writing.in_current_span());
        }
        Ok(journal)
    }

    /// A user's stream.
    ///
    /// # Errors
    ///
    /// [`ApiError::NoStream`] where there is none, [`ApiError::Busy`] where that is not known.
    pub(crate) async fn find(&self, scope: &Scope, id: Uuid) -> Result<Source, ApiError> {
        let here = self.journals().get(&id).cloned();
        if let Some(journal) = here {
            let is_of = journal.is_of(scope);
            return is_of
                .then_some(Source::Here(journal))
                .ok_or(ApiError::NoStream);
        }
        let Some(stored) = self.stored.get() else {
            return Err(ApiError::NoStream);
        };
        match stored.read(scope, id, 0).await {
            Ok(Some(found)) => Ok(Source::Elsewhere {
                scope: scope.clone(),
                id,
                found,
            }),
            Ok(None) => Err(ApiError::NoStream),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// What a stream tells after an event, with a heartbeat where it is silent.
    pub(crate) fn read(
        &self,
        source: Source,
        after: u64,
        heartbeat: Duration,
        closing: CancellationToken,
    ) -> impl Stream<Item = Said> + Send + use<> {
        let stored = self.stored.get().cloned();
        stream! {
            match source {
                Source::Here(journal) => {
                    let told = here(journal, after, heartbeat, closing);
                    pin_mut!(told);
                    while let Some(said) = told.next().await {
                        yield said;
                    }
                }
                Source::Elsewhere { scope, id, found } => {
                    let Some(stored) = stored else { return };
                    let told = elsewhere(stored, (scope, id), found, after, heartbeat, closing);
                    pin_mut!(told);
                    while let Some(said) = told.next().await {
                        yield said;
                    }
                }
            }
        }
    }

    /// Waits until nothing is under way and all of it is stored.
    pub(crate) async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Forgets what has ended long ago.
    pub(crate) async fn forget_expired(&self) {
        make_room(&mut self.journals());
        if let Some(stored) = self.stored.get()
            && let Err(error) = stored.forget_expired().await
        {
            let error = error.source.as_ref() as &dyn std::error::Error;
            tracing::warn!(error, "streams that are too old cannot be removed");
        }
    }

    fn journals(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Journal>>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(error: &RecordError) -> ApiError {
    let cause = error.source.as_ref() as &dyn std::error::Error;
    tracing::warn!(error = cause, "a stored stream cannot be read");
    ApiError::Busy
}

/// Keeps what the work tells, until its end.
async fn tell(journal: Arc<Journal>, told: impl Stream<Item = Said> + Send) {
    pin_mut!(told);
    let refusal = loop {
        let said = select! {
            biased;
            () = journal.cancel.cancelled() => break Some(ApiError::Cancelled),
            said = told.next() => said,
        };
        match said {
            Some(Said::Event(event)) => {
                if journal.push(event) > MOST_BYTES {
                    break Some(ApiError::TooLong);
                }
            }
            Some(Said::Heartbeat | Said::Retry) => {}
            None => break None,
        }
    };
    if let Some(refusal) = refusal {
        let mut events = Numbered::after(journal.last_id());
        journal.push(events.error(&refusal));
        journal.push(events.end());
    }
    journal.end();
}

fn here(
    journal: Arc<Journal>,
    mut last: u64,
    heartbeat: Duration,
    closing: CancellationToken,
) -> impl Stream<Item = Said> + Send {
    stream! {
        let mut is_closing = false;
        let mut beat_at = Moment::now() + heartbeat;
        loop {
            let next = select! {
                biased;
                next = journal.after(last) => next,
                // The work ends too then, and tells so.
                () = closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    yield Said::Retry;
                    continue;
                }
                () = sleep_until(beat_at) => {
                    beat_at += heartbeat;
                    yield Said::Heartbeat;
                    continue;
                }
            };
            let Some(event) = next else { return };
            last = event.id;
            beat_at = Moment::now() + heartbeat;
            yield Said::Event(event);
        }
    }
}

fn elsewhere(
    stored: Stored,
    (scope, id): (Scope, Uuid),
    mut found: Found,
    after: u64,
    heartbeat: Duration,
    closing: CancellationToken,
) -> impl Stream<Item = Said> + Send {
    stream! {
        let mut last = after;
        let mut seen = (found.revision, Moment::now());
        let mut beat_at = Moment::now() + heartbeat;
        loop {
            for event in found.events.drain(..).filter(|event| event.id > after) {
                last = last.max(event.id);
                beat_at = Moment::now() + heartbeat;
                yield Said::Event(event);
            }
            if found.over {
                return;
            }
            if found.revision != seen.0 {
                seen = (found.revision, Moment::now());
            }
            if seen.1.elapsed() > GONE {
                let mut events = Numbered::after(last);
                yield Said::Event(events.error(&ApiError::Cut));
                yield Said::Event(events.end());
                return;
            }
            select! {
                biased;
                () = closing.cancelled() => {
                    yield Said::Retry;
                    return;
                }
                () = sleep_until(beat_at.min(Moment::now() + POLL)) => {}
            }
            if Moment::now() >= beat_at {
                beat_at = Moment::now() + heartbeat;
                yield Said::Heartbeat;
            }
            // What cannot be read now may be read at the next look.
            match stored.read(&scope, id, found.next_part).await {
                Ok(Some(more)) => found = more,
                Ok(None) => return,
                Err(error) => {
                    let _busy = unreadable(&error);
                }
            }
        }
    }
}

/// When a stream ended, which it is, and its bytes.
type Ended = (Instant, Uuid, usize);

/// Forgets streams that ended long ago, and as many of the others that have ended as are too
/// much together: of the user with the most first, its oldest first.
fn make_room(journals: &mut HashMap<Uuid, Arc<Journal>>) {
    journals.retain(|_, one| one.ended().is_none_or(|at| at.elapsed() < KEPT));
    let mut users: HashMap<(TenantId, UserId), Vec<Ended>> = HashMap::new();
    let mut all = 0;
    for journal in journals.values() {
        if let Some(at) = journal.ended() {
            let (scope, bytes) = (journal.scope(), journal.bytes());
            let user = (scope.tenant.clone(), scope.user.clone());
            users.entry(user).or_default().push((at, journal.id, bytes));
            all += bytes;
        }
    }
    for ended in users.values_mut() {
        ended.sort_unstable_by(|one, other| other.cmp(one));
    }
    while all > ENDED_BYTES {
        let sum = |ended: &Vec<Ended>| ended.iter().map(|(.., bytes)| bytes).sum::<usize>();
        let most = users.values_mut().max_by_key(|ended| sum(ended));
        let Some((_, id, bytes)) = most.and_then(Vec::pop) else {
            return;
        };
        journals.remove(&id);
        all -= bytes;
    }
}
