//! Durable streams in records, so that any process that shares them can go on with one.
//!
//! Invariant: the parts of a stream are written in order and each once; the head says how many
//! there are and whether more will come. A head that nobody touches while more should come
//! belongs to a process that is gone. Deliberately absent: clocks of other processes; a reader
//! measures with its own how long a head stood still.

use std::{ops::Range, sync::Arc, time::Duration};

use lyceum_core::{Expect, RecordError, RecordList, RecordStore, RecordWrite, Scope, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::journal::Journal;
use crate::{
    bell::{Bell, Listening},
    catalog::unix_seconds,
    fenced::remove_at,
    sse::Event,
};

const HEAD: &str = "stream";
const PART: &str = "stream_part";
/// That the work behind a stream is to end.
const STOP: &str = "stream_stop";

/// How long events are put together before they are written.
const EVERY: Duration = Duration::from_millis(500);

/// How often the head is touched while there is nothing to write.
const ALIVE: Duration = Duration::from_secs(5);

/// How often it is looked whether another process was asked to end a stream, where nobody tells.
const ASKED: Duration = Duration::from_secs(2);

/// After so long without a touch the process that told the stream is taken for gone.
pub(super) const GONE: Duration = Duration::from_secs(20);

/// How often the last events are tried to be written.
const LAST_TRIES: u32 = 10;

/// How many parts of a stream are read together.
const LISTED: usize = 100;

/// How many streams of a user are erased before the next are looked for.
const ERASED: usize = 100;

/// How long a stream is kept after its end, in seconds.
const KEPT_SECONDS: u64 = 10 * 60;

/// The longest that a stream may be under way, in seconds: beyond it, a head is a leftover.
const LONGEST_SECONDS: u64 = 25 * 60 * 60;

/// What is known of a stored stream.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    parts: u32,
    over: bool,
    /// When it may be removed, in seconds since 1970.
    expires: u64,
    /// Changes with every touch.
    touched: u64,
}

/// Where streams are stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    records: Arc<dyn RecordStore>,
    /// What processes that share the records tell each other.
    bell: Bell,
}

/// What a reader finds.
pub(super) struct Found {
    pub(super) events: Vec<Event>,
    pub(super) next_part: u32,
    pub(super) over: bool,
    /// Changes as long as the process that tells it lives.
    pub(super) revision: u64,
}

impl Stored {
    pub(super) fn new(records: Arc<dyn RecordStore>, bell: Bell) -> Self {
        Self { records, bell }
    }

    /// Hears of what a stream tells from now on.
    pub(super) fn listen(&self, id: Uuid) -> Listening {
        self.bell.listen(&told(id))
    }

    /// Ends the work behind a journal when another process was asked to.
    async fn heed(&self, journal: &Journal) {
        if !self.bell.is_shared() {
            return std::future::pending().await;
        }
        let (tenant, id) = (&journal.scope().tenant, journal.id.to_string());
        let mut asked = self.bell.listen(&stop(journal.id));
        loop {
            match self.records.read(tenant, STOP, &id).await {
                Ok(Some(_)) => {
                    journal.cancel.cancel();
                    return std::future::pending().await;
                }
                Ok(None) => {}
                Err(error) => failed(&error),
            }
            asked.news(ASKED).await;
        }
    }

    /// Has the process that tells a user's stream end it.
    pub(super) async fn end(&self, scope: &Scope, id: Uuid) -> Result<(), RecordError> {
        let name = id.to_string();
        let head = self.records.read(&scope.tenant, HEAD, &name).await?;
        let head = head.and_then(|head| serde_json::from_str::<Head>(&head.body).ok());
        if head.is_none_or(|head| head.over) {
            return Ok(());
        }
        let ask = RecordWrite::Put {
            kind: STOP,
            id: name,
            group: scope.user.as_str().to_owned(),
            body: "{}".to_owned(),
            expect: Expect::Anything,
        };
        self.records.write(&scope.tenant, vec![ask]).await?;
        self.bell.tell(&stop(id)).await;
        Ok(())
    }

    /// Writes what a journal tells, until its end, and ends it where another process was asked to,
    /// or has removed what is stored. What cannot be written is lost for other processes only.
    pub(super) async fn follow(&self, journal: &Journal) {
        tokio::select! {
            () = self.write_all(journal) => {}
            () = self.heed(journal) => {}
        }
    }

    async fn write_all(&self, journal: &Journal) {
        let mut head = Head {
            parts: 0,
            over: false,
            expires: unix_seconds() + LONGEST_SECONDS,
            touched: 0,
        };
        let mut written = 0;
        // The head's; zero before there is one.
        let mut revision = 0;
        // A part whose writing ended in doubt is written again as it was: somebody may have
        // read it.
        let mut in_doubt = None;
        let mut last_tries = LAST_TRIES;
        loop {
            if journal.is_erased() {
                return self.clear(journal).await;
            }
            // In this order nothing is told between the last look and the end.
            let over = journal.ended().is_some();
            let mut events = journal.since(written);
            if let Some(count) = in_doubt {
                events.truncate(count);
            }
            let is_all = written + events.len() as u64 == journal.last_id();
            head.over = over && is_all;
            if head.over {
                head.expires = unix_seconds() + KEPT_SECONDS;
            }
            head.touched += 1;
            let is_known = match in_doubt {
                Some(_) => self.look(journal, &mut revision).await,
                None => Ok(true),
            };
            let done = match is_known {
                Ok(true) => self.write(journal, &mut head, revision, &events).await,
                gone => gone,
            };
            match done {
                Ok(false) => {
                    journal.erase();
                    return;
                }
                Ok(true) => {
                    revision += 1;
                    written += events.len() as u64;
                    in_doubt = None;
                    if journal.is_erased() {
                        continue;
                    }
                    if head.over {
                        return;
                    }
                }
                Err(error) => {
                    failed(&error);
                    in_doubt = Some(events.len());
                    if over {
                        last_tries -= 1;
                        if last_tries == 0 {
                            return;
                        }
                    }
                    tokio::time::sleep(EVERY).await;
                    continue;
                }
            }
            let _idle = tokio::time::timeout(ALIVE, journal.moved(written)).await;
            if journal.ended().is_none() {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    () = journal.finished() => {}
                }
            }
        }
    }

    /// Finds out what became of a write in doubt; gives whether the stream is still there.
    async fn look(&self, journal: &Journal, revision: &mut u64) -> Result<bool, RecordError> {
        let (tenant, id) = (&journal.scope().tenant, journal.id.to_string());
        let head = self.records.read(tenant, HEAD, &id).await?;
        // Nobody else writes it, so whatever is there was written here.
        let found = head.map_or(0, |head| head.revision);
        let is_there = found >= *revision;
        *revision = found;
        Ok(is_there)
    }

    /// Removes what was written of a stream that was erased meanwhile.
    async fn clear(&self, journal: &Journal) {
        let (tenant, id) = (&journal.scope().tenant, journal.id.to_string());
        if let Err(error) = self.remove(tenant, &id).await {
            failed(&error);
        }
    }

    /// Writes the head and what there is to tell; gives whether the stream was still there.
    async fn write(
        &self,
        journal: &Journal,
        head: &mut Head,
        revision: u64,
        events: &[Event],
    ) -> Result<bool, RecordError> {
        let (id, user) = (journal.id, journal.scope().user.as_str());
        let mut writes = Vec::with_capacity(2);
        let parts = head.parts;
        if !events.is_empty() {
            writes.push(RecordWrite::Put {
                kind: PART,
                id: part(id, parts),
                group: id.to_string(),
                body: serde_json::to_string(events).unwrap_or_default(),
                expect: Expect::Anything,
            });
            head.parts += 1;
        }
        writes.push(RecordWrite::Put {
            kind: HEAD,
            id: id.to_string(),
            group: user.to_owned(),
            body: serde_json::to_string(head).unwrap_or_default(),
            expect: match revision {
                0 => Expect::Absent,
                revision => Expect::Revision(revision),
            },
        });
        if head.over {
            let id = id.to_string();
            writes.push(RecordWrite::Delete { kind: STOP, id });
        }
        let done = self.records.write(&journal.scope().tenant, writes).await;
        match done {
            // Before others are told, which its client need not wait for.
            Ok(true) => journal.set_stored(),
            Ok(false) => {}
            Err(_) => head.parts = parts,
        }
        self.bell.tell(&told(id)).await;
        done
    }

    /// Whether a user has this stream.
    pub(super) async fn is_there(&self, scope: &Scope, id: Uuid) -> Result<bool, RecordError> {
        let head = self
            .records
            .read(&scope.tenant, HEAD, &id.to_string())
            .await?;
        Ok(head.is_some_and(|head| head.group == scope.user.as_str()))
    }

    /// Removes a user's streams.
    pub(super) async fn erase(&self, scope: &Scope) -> Result<(), RecordError> {
        let (user, tenant) = (Some(scope.user.as_str()), &scope.tenant);
        loop {
            let list = RecordList {
                kind: HEAD,
                group: user,
                before: None,
                limit: ERASED,
            };
            let heads = self.records.list(tenant, list).await?;
            for head in &heads {
                self.remove(tenant, &head.id).await?;
            }
            if heads.len() < ERASED {
                return Ok(());
            }
        }
    }

    /// The events of a user's stream from a part on; `None` where there is no such stream.
    pub(super) async fn read(
        &self,
        scope: &Scope,
        id: Uuid,
        from_part: u32,
    ) -> Result<Option<Found>, RecordError> {
        let head = self
            .records
            .read(&scope.tenant, HEAD, &id.to_string())
            .await?;
        let Some(record) = head.filter(|head| head.group == scope.user.as_str()) else {
            return Ok(None);
        };
        let Ok(head) = serde_json::from_str::<Head>(&record.body) else {
            return Ok(None);
        };
        let Some(bodies) = self.parts(scope, id, from_part..head.parts).await? else {
            return Ok(None);
        };
        let mut events = Vec::new();
        for body in bodies {
            let Ok(told) = serde_json::from_str::<Vec<Event>>(&body) else {
                return Ok(None);
            };
            events.extend(told);
        }
        Ok(Some(Found {
            events,
            next_part: head.parts,
            over: head.over,
            revision: record.revision,
        }))
    }

    /// The bodies of these parts in their order; `None` where one is not there.
    async fn parts(
        &self,
        scope: &Scope,
        id: Uuid,
        numbers: Range<u32>,
    ) -> Result<Option<Vec<String>>, RecordError> {
        let (tenant, group) = (&scope.tenant, id.to_string());
        // A reader that keeps up is a part behind.
        if numbers.len() == 1 {
            let name = part(id, numbers.start);
            let record = self.records.read(tenant, PART, &name).await?;
            return Ok(record.map(|record| vec![record.body]));
        }
        let mut bodies = vec![None; numbers.len()];
        let mut before = None;
        let mut missing = bodies.len();
        while missing > 0 {
            // The newest come first, of which some may have been written since.
            let limit = LISTED.min(missing + 2);
            let list = RecordList {
                kind: PART,
                group: Some(&group),
                before,
                limit,
            };
            let page = self.records.list(tenant, list).await?;
            let is_last = page.len() < limit;
            before = page.last().map(|record| record.seq);
            for record in page {
                let number = record.id.rsplit('/').next().and_then(|n| n.parse().ok());
                let index = number.and_then(|number: u32| number.checked_sub(numbers.start));
                let place = index.and_then(|index| bodies.get_mut(index as usize));
                if let Some(place) = place
                    && place.replace(record.body).is_none()
                {
                    missing -= 1;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(bodies.into_iter().collect())
    }

    /// Removes the streams that are too old.
    pub(super) async fn forget_expired(&self) -> Result<(), RecordError> {
        let now = unix_seconds();
        for (tenant, record) in self.records.every(HEAD).await? {
            let head = serde_json::from_str::<Head>(&record.body);
            if head.map_or(0, |head| head.expires) <= now {
                self.remove(&tenant, &record.id).await?;
            }
        }
        Ok(())
    }

    /// Removes a stream with all its parts, also where one is written meanwhile.
    async fn remove(&self, tenant: &TenantId, id: &str) -> Result<(), RecordError> {
        let delete = |kind, id| RecordWrite::Delete { kind, id };
        while let Some(record) = self.records.read(tenant, HEAD, id).await? {
            let parts = serde_json::from_str::<Head>(&record.body).map_or(0, |head| head.parts);
            let mut writes = remove_at(HEAD, record.id, record.revision).to_vec();
            writes.extend((0..parts).map(|number| delete(PART, format!("{id}/{number}"))));
            writes.push(delete(STOP, id.to_owned()));
            if self.records.write(tenant, writes).await? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn failed(error: &RecordError) {
    let error = error.source.as_ref() as &dyn std::error::Error;
    tracing::warn!(error, "a stream's events cannot be stored");
}

/// The topic of what a stream tells.
fn told(id: Uuid) -> String {
    format!("stream/{id}")
}

/// The topic of a wish that a stream end.
fn stop(id: Uuid) -> String {
    format!("stream_stop/{id}")
}

fn part(id: Uuid, number: u32) -> String {
    format!("{id}/{number}")
}

#[cfg(test)]
mod tests;
