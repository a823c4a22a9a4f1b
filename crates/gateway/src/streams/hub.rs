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
    time::{Instant as Moment, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use uuid::Uuid;

use super::{
    journal::Journal,
    stored::{GONE, Stored},
};
use crate::{
    bell::Bell,
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

/// How long a client waits for the word where its stream is, while the records are slow: as
/// long as a check of the store may take.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(2);

/// The durable streams of a gateway.
pub(crate) struct Hub {
    journals: Mutex<HashMap<Uuid, Arc<Journal>>>,
    tasks: TaskTracker,
    stored: OnceLock<Stored>,
    bell: OnceLock<Bell>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// Where a reader finds a stream.
pub(crate) enum Source {
    Here(Arc<Journal>),
    Elsewhere { scope: Scope, id: Uuid },
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            journals: Mutex::default(),
            tasks: TaskTracker::new(),
            stored: OnceLock::new(),
            bell: OnceLock::new(),
        }
    }

    /// Keeps streams there too. The first store stays.
    pub(crate) fn keep_in(&self, records: Arc<dyn RecordStore>) {
        let bell = || self.bell.get().cloned().unwrap_or_default();
        self.stored.get_or_init(|| Stored::new(records, bell()));
    }

    /// Tells other processes of streams, and hears of theirs. Before [`Hub::keep_in`].
    pub(crate) fn share(&self, bell: Bell) {
        self.bell.get_or_init(|| bell);
    }

    /// Ends the work behind a user's stream, wherever it runs.
    ///
    /// # Errors
    ///
    /// [`ApiError::NoStream`] where there is none that can be ended from here,
    /// [`ApiError::Busy`] where that is not known.
    pub(crate) async fn end(&self, scope: &Scope, id: Uuid) -> Result<(), ApiError> {
        match self.find(scope, id).await? {
            Source::Here(journal) => journal.cancel.cancel(),
            Source::Elsewhere { scope, id } => match self.stored.get() {
                Some(stored) if self.bell.get().is_some() => {
                    let ended = stored.end(&scope, id).await;
                    ended.map_err(|error| unreadable(&error))?;
                }
                _ => return Err(ApiError::NoStream),
            },
        }
        Ok(())
    }

    /// Starts the work behind a stream and keeps what it tells; one that is not durable is
    /// found by nobody else. `held` is dropped when the work ends, however long a reader stays.
    pub(crate) fn begin(
        &self,
        scope: Scope,
        is_durable: bool,
        told: impl Stream<Item = Said> + Send + 'static,
        held: impl Send + 'static,
    ) -> Arc<Journal> {
        let journal = Arc::new(Journal::new(scope));
        let teller = Arc::clone(&journal);
        let work = async move {
            tell(teller, told).await;
            drop(held);
        };
        self.tasks.spawn(work.in_current_span());
        if is_durable {
            let mut journals = self.journals();
            make_room(&mut journals);
            journals.insert(journal.id, Arc::clone(&journal));
            drop(journals);
            if let Some(stored) = self.stored.get().cloned() {
                let journal = Arc::clone(&journal);
                let writing = async move { stored.follow(&journal).await };
                self.tasks.spawn(writing.in_current_span());
            }
        }
        journal
    }

    /// Waits until the processes that share the records find a durable stream, at most
    /// [`ANNOUNCED_WITHIN`]: who knows its name may ask any of them. While the records are out of
    /// reach the work goes on, and is found here.
    ///
    /// # Cancel safety
    ///
    /// The stream goes on.
    pub(crate) async fn announced(&self, journal: &Journal) {
        let is_shared = self.bell.get().is_some_and(Bell::is_shared);
        if is_shared && self.stored.get().is_some() {
            let _late = timeout(ANNOUNCED_WITHIN, journal.stored()).await;
        }
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
        match stored.is_there(scope, id).await {
            Ok(true) => Ok(Source::Elsewhere {
                scope: scope.clone(),
                id,
            }),
            Ok(false) => Err(ApiError::NoStream),
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
                Source::Elsewhere { scope, id } => {
                    let Some(stored) = stored else { return };
                    let told = elsewhere(stored, (scope, id), after, heartbeat, closing);
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

    /// How many are under way, or not stored yet.
    pub(crate) fn busy(&self) -> usize {
        self.tasks.len()
    }

    /// Ends and removes a user's streams.
    ///
    /// # Errors
    ///
    /// [`ApiError::Busy`] where the stored ones cannot be removed now.
    pub(crate) async fn erase(&self, scope: &Scope) -> Result<(), ApiError> {
        self.journals().retain(|_, journal| {
            let is_of = journal.is_of(scope);
            if is_of {
                journal.erase();
            }
            !is_of
        });
        match self.stored.get() {
            Some(stored) => stored
                .erase(scope)
                .await
                .map_err(|error| unreadable(&error)),
            None => Ok(()),
        }
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
            Some(Said::Heartbeat | Said::Retry | Said::Lost) => {}
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
    after: u64,
    heartbeat: Duration,
    closing: CancellationToken,
) -> impl Stream<Item = Said> + Send {
    stream! {
        let mut news = stored.listen(id);
        let (mut next_part, mut last) = (0, 0);
        let mut seen = (0, Moment::now());
        let mut beat_at = Moment::now() + heartbeat;
        loop {
            match stored.read(&scope, id, next_part).await {
                Ok(Some(found)) => {
                    for event in found.events {
                        if event.id != last + 1 {
                            yield Said::Lost;
                            return;
                        }
                        last = event.id;
                        if event.id > after {
                            beat_at = Moment::now() + heartbeat;
                            yield Said::Event(event);
                        }
                    }
                    next_part = found.next_part;
                    if found.over {
                        return;
                    }
                    if found.revision != seen.0 {
                        seen = (found.revision, Moment::now());
                    } else if seen.1.elapsed() > GONE {
                        yield Said::Lost;
                        return;
                    }
                }
                Ok(None) => {
                    yield Said::Lost;
                    return;
                }
                // It may be read at the next look; until then nobody knows who lives.
                Err(error) => {
                    let _busy = unreadable(&error);
                    seen.1 = Moment::now();
                }
            }
            select! {
                biased;
                () = closing.cancelled() => {
                    yield Said::Retry;
                    return;
                }
                () = sleep_until(beat_at) => {}
                () = news.news(POLL) => {}
            }
            if Moment::now() >= beat_at {
                beat_at = Moment::now() + heartbeat;
                yield Said::Heartbeat;
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
    let sum = |ended: Vec<Ended>| (ended.iter().map(|(.., bytes)| bytes).sum::<usize>(), ended);
    let mut users: Vec<(usize, Vec<Ended>)> = users.into_values().map(sum).collect();
    while all > ENDED_BYTES {
        let Some((most, ended)) = users.iter_mut().max_by_key(|(sum, _)| *sum) else {
            return;
        };
        let Some((_, id, bytes)) = ended.pop() else {
            return;
        };
        journals.remove(&id);
        *most -= bytes;
        all -= bytes;
    }
}
