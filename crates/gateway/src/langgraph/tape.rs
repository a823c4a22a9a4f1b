//! A run's events in records, for readers at other processes and for who takes the run over.
//!
//! Invariant: parts are written in order and each once; the head names those there are and says
//! whether more will come, and its revision fences: once another process goes on with a tape, the
//! one before writes nothing more. The end of a run and its last events are one write, so who
//! finds the run over finds all of it. Deliberately absent: tapes where nobody shares the records.

use std::{collections::VecDeque, time::Duration};

use lyceum_core::{Expect, RecordError, RecordWrite, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    board::Live,
    log::{Entry, MOST_BYTES},
    platform::{Platform, put_write},
    refusal::Answer,
    resources::{QUEUE, TAPE, TAPE_PART, TAPE_RESULT},
};
use crate::{catalog::unix_seconds, fenced::remove_at};

/// How long events are put together before they are written.
const EVERY: Duration = Duration::from_millis(250);

/// How long a tape is kept after its end, in seconds.
const KEPT_SECONDS: u64 = 10 * 60;

/// What is known of a tape.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    /// The first part that is still there, and how many there were.
    first: u32,
    parts: u32,
    over: bool,
    /// When it may be removed, in seconds since 1970; zero before its end.
    expires: u64,
    /// The process that writes it.
    by: String,
}

/// Some events of a run, and of what followers of its thread are told.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Events {
    entries: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<Entry>,
}

/// What a reader finds.
pub(crate) struct Found {
    pub(crate) entries: Vec<Entry>,
    pub(crate) told: Vec<Entry>,
    /// The part to read next.
    pub(crate) next: u32,
    /// The result, once there is one.
    pub(crate) result: Option<Value>,
}

/// How far a tape is.
#[derive(Debug, Clone, Default)]
struct Place {
    head: Head,
    /// The events that are written next.
    next: u64,
    next_told: u64,
    /// The sizes of the parts that are there.
    sizes: VecDeque<usize>,
}

/// Writes the tape of one run.
#[derive(Debug)]
pub(crate) struct Tape {
    run_id: String,
    thread_id: String,
    place: Place,
    /// The head's; zero before there is one.
    revision: u64,
    /// Where it would be if a write whose outcome is unknown was done.
    doubt: Option<Place>,
}

/// Whether a tape is still this process' to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Mine,
    Lost,
}

fn part(run_id: &str, number: u32) -> String {
    format!("{run_id}/{number}")
}

/// The topic under which a run's news is told.
pub(crate) fn topic(run_id: &str) -> String {
    format!("run/{run_id}")
}

impl Tape {
    pub(crate) fn new(run_id: &str, thread_id: &str, holder: &str) -> Self {
        let mut place = Place::default();
        holder.clone_into(&mut place.head.by);
        Self {
            run_id: run_id.to_owned(),
            thread_id: thread_id.to_owned(),
            place,
            revision: 0,
            doubt: None,
        }
    }

    /// Goes on with the tape of a run that was taken over: its logs take in the events, and the
    /// process before writes no more.
    pub(crate) async fn take_over(
        &mut self,
        platform: &Platform,
        owner: &TenantId,
        live: &Live,
    ) -> Answer<()> {
        loop {
            let record = platform.0.records.read(owner, TAPE, &self.run_id).await?;
            self.revision = record.as_ref().map_or(0, |record| record.revision);
            let mut head: Head = match &record {
                Some(record) => serde_json::from_str(&record.body)?,
                None => Head::default(),
            };
            head.by.clone_from(&self.place.head.by);
            let events = events(platform, owner, &self.run_id, head.first, &head).await?;
            let all = events.entries.iter().chain(&events.told);
            let bytes = all.map(|entry| entry.data.len()).sum();
            // Which part has how much of it is not known; the newest stands for all.
            self.place.sizes = (head.first..head.parts).map(|_| 0).collect();
            if let Some(last) = self.place.sizes.back_mut() {
                *last = bytes;
            }
            let write = self.head(&head);
            if !platform.put(owner, vec![write]).await? {
                continue;
            }
            self.revision += 1;
            self.place.head = head;
            // Not before: what the other process wrote meanwhile has lower numbers than it gets.
            live.log.take_in(events.entries);
            live.told.take_in(events.told);
            live.log.take_over();
            live.told.take_over();
            self.place.next = live.log.next_id();
            self.place.next_told = live.told.next_id();
            return Ok(());
        }
    }

    fn head(&self, head: &Head) -> RecordWrite {
        let expect = match self.revision {
            0 => Expect::Absent,
            revision => Expect::Revision(revision),
        };
        put_write(TAPE, &self.run_id, &self.thread_id, head, expect)
    }

    /// What is to be written beside the head, and where the tape is then.
    fn plan(&self, live: &Live) -> (Vec<RecordWrite>, Place) {
        let mut place = self.place.clone();
        let mut writes = Vec::new();
        let events = Events {
            entries: live.log.since(place.next),
            told: live.told.since(place.next_told),
        };
        if let Some(last) = events.told.last() {
            place.next_told = last.id + 1;
        }
        if let Some(last) = events.entries.last() {
            place.next = last.id + 1;
        }
        if !events.entries.is_empty() || !events.told.is_empty() {
            let body = serde_json::to_string(&events).unwrap_or_default();
            place.sizes.push_back(body.len());
            writes.push(RecordWrite::Put {
                kind: TAPE_PART,
                id: part(&self.run_id, place.head.parts),
                group: self.run_id.clone(),
                body,
                expect: Expect::Anything,
            });
            place.head.parts += 1;
        }
        while place.sizes.iter().sum::<usize>() > MOST_BYTES && place.sizes.len() > 1 {
            place.sizes.pop_front();
            let id = part(&self.run_id, place.head.first);
            place.head.first += 1;
            writes.push(RecordWrite::Delete {
                kind: TAPE_PART,
                id,
            });
        }
        (writes, place)
    }

    /// Finds out what became of a write in doubt.
    async fn settle(&mut self, platform: &Platform, owner: &TenantId) -> Result<Hold, RecordError> {
        let Some(doubt) = &self.doubt else {
            return Ok(Hold::Mine);
        };
        let record = platform.0.records.read(owner, TAPE, &self.run_id).await?;
        let revision = record.as_ref().map_or(0, |record| record.revision);
        let head = record.and_then(|record| serde_json::from_str::<Head>(&record.body).ok());
        let is_mine = head.is_none_or(|head| head.by == self.place.head.by);
        if revision == self.revision + 1 && is_mine {
            self.place = doubt.clone();
        } else if revision != self.revision {
            return Ok(Hold::Lost);
        }
        self.revision = revision;
        self.doubt = None;
        Ok(Hold::Mine)
    }

    /// Writes what a run tells until `done`; what cannot be written now is written later. It
    /// ends early where the tape is lost.
    pub(crate) async fn follow(
        &mut self,
        platform: &Platform,
        owner: &TenantId,
        live: &Live,
        done: &CancellationToken,
    ) -> Hold {
        loop {
            let more = async {
                tokio::select! {
                    _more = live.log.at(self.place.next) => {}
                    _more = live.told.at(self.place.next_told) => {}
                }
                tokio::time::sleep(EVERY).await;
            };
            if done.run_until_cancelled(more).await.is_none() {
                return Hold::Mine;
            }
            match self.flush(platform, owner, live).await {
                Ok(Hold::Mine) => {}
                Ok(Hold::Lost) => return Hold::Lost,
                Err(error) => {
                    let error = error.source.as_ref() as &dyn std::error::Error;
                    tracing::warn!(error, "a run's events cannot be stored");
                }
            }
        }
    }

    /// Writes what there is now.
    pub(crate) async fn flush(
        &mut self,
        platform: &Platform,
        owner: &TenantId,
        live: &Live,
    ) -> Result<Hold, RecordError> {
        if self.settle(platform, owner).await? == Hold::Lost {
            return Ok(Hold::Lost);
        }
        let (mut writes, place) = self.plan(live);
        if writes.is_empty() {
            return Ok(Hold::Mine);
        }
        writes.push(self.head(&place.head));
        match platform.put(owner, writes).await {
            Ok(true) => {
                self.place = place;
                self.revision += 1;
                platform.0.bell.tell(&topic(&self.run_id)).await;
                Ok(Hold::Mine)
            }
            Ok(false) => Ok(Hold::Lost),
            Err(error) => {
                self.doubt = Some(place);
                Err(error)
            }
        }
    }

    /// What ends the tape, to be written together with the run's end; `None` where it is lost.
    pub(crate) async fn end(
        &mut self,
        platform: &Platform,
        owner: &TenantId,
        live: &Live,
        result: &Value,
    ) -> Result<Option<Vec<RecordWrite>>, RecordError> {
        if self.settle(platform, owner).await? == Hold::Lost {
            return Ok(None);
        }
        let (mut writes, mut place) = self.plan(live);
        place.head.over = true;
        place.head.expires = unix_seconds() + KEPT_SECONDS;
        writes.push(self.head(&place.head));
        let id = &self.run_id;
        writes.push(put_write(TAPE_RESULT, id, "", result, Expect::Anything));
        self.doubt = Some(place);
        Ok(Some(writes))
    }
}

async fn events(
    platform: &Platform,
    owner: &TenantId,
    run_id: &str,
    from: u32,
    head: &Head,
) -> Answer<Events> {
    let mut all = Events::default();
    for number in from.max(head.first)..head.parts {
        let id = part(run_id, number);
        // One that made room meanwhile is what a slow reader misses.
        let found = platform.get::<Events>(owner, TAPE_PART, &id).await?;
        let found = found.unwrap_or_default();
        all.entries.extend(found.entries);
        all.told.extend(found.told);
    }
    Ok(all)
}

/// The thread of a run that has a tape.
pub(crate) async fn thread_of(
    platform: &Platform,
    owner: &TenantId,
    run_id: &str,
) -> Answer<Option<String>> {
    let record = platform.0.records.read(owner, TAPE, run_id).await?;
    Ok(record.map(|record| record.group))
}

/// The events from a part on; `None` where there is no tape.
pub(crate) async fn read(
    platform: &Platform,
    owner: &TenantId,
    run_id: &str,
    from: u32,
) -> Answer<Option<Found>> {
    let Some(head) = platform.get::<Head>(owner, TAPE, run_id).await? else {
        return Ok(None);
    };
    let result = match head.over {
        true => platform.get(owner, TAPE_RESULT, run_id).await?,
        false => None,
    };
    let Events { entries, told } = events(platform, owner, run_id, from, &head).await?;
    Ok(Some(Found {
        entries,
        told,
        next: head.parts,
        result: head.over.then(|| result.unwrap_or_default()),
    }))
}

/// The runs of a thread that have tapes, oldest first, and whether each is over.
pub(crate) async fn runs_of(
    platform: &Platform,
    owner: &TenantId,
    thread: &str,
) -> Answer<Vec<(String, bool)>> {
    let heads = platform.records_of(owner, TAPE, Some(thread)).await?;
    let runs = heads.into_iter().rev().map(|record| {
        let head = serde_json::from_str::<Head>(&record.body).unwrap_or_default();
        (record.id, head.over)
    });
    Ok(runs.collect())
}

/// What removes the tape of a run that is over.
pub(crate) async fn removal(
    platform: &Platform,
    owner: &TenantId,
    run_id: &str,
) -> Answer<Vec<RecordWrite>> {
    if !platform.0.bell.is_shared() {
        return Ok(Vec::new());
    }
    let head = platform.get::<Head>(owner, TAPE, run_id).await?;
    Ok(head.map_or_else(Vec::new, |head| without(run_id, &head)))
}

/// What removes the tape of a run that has no end to be stored.
pub(crate) async fn removal_of_unfinished(
    platform: &Platform,
    owner: &TenantId,
    run_id: &str,
) -> Answer<Vec<RecordWrite>> {
    if !platform.0.bell.is_shared() {
        return Ok(Vec::new());
    }
    let head = platform.get::<Head>(owner, TAPE, run_id).await?;
    let head = head.filter(|head| !head.over);
    Ok(head.map_or_else(Vec::new, |head| without(run_id, &head)))
}

/// What removes all tapes of a thread.
pub(crate) async fn removals(
    platform: &Platform,
    owner: &TenantId,
    thread: &str,
) -> Answer<Vec<RecordWrite>> {
    if !platform.0.bell.is_shared() {
        return Ok(Vec::new());
    }
    let heads = platform.records_of(owner, TAPE, Some(thread)).await?;
    let writes = heads.iter().flat_map(|record| {
        let head = serde_json::from_str::<Head>(&record.body).unwrap_or_default();
        without(&record.id, &head)
    });
    Ok(writes.collect())
}

fn without(run_id: &str, head: &Head) -> Vec<RecordWrite> {
    let parts = (head.first..head.parts).map(|number| (TAPE_PART, part(run_id, number)));
    let rest = [(TAPE, run_id.to_owned()), (TAPE_RESULT, run_id.to_owned())];
    let all = parts.chain(rest);
    all.map(|(kind, id)| RecordWrite::Delete { kind, id })
        .collect()
}

/// Removes the tapes whose time is over, and those without an end whose run is not in the queue.
pub(crate) async fn forget_expired(platform: &Platform) -> Result<(), RecordError> {
    let (now, records) = (unix_seconds(), &platform.0.records);
    for (owner, record) in records.every(TAPE).await? {
        let head = serde_json::from_str::<Head>(&record.body).unwrap_or_default();
        let is_left = match head.over {
            true => head.expires <= now,
            false => records.read(&owner, QUEUE, &record.id).await?.is_none(),
        };
        if is_left {
            // A run may have ended, and its tape with it, since it was read.
            let mut writes = remove_at(TAPE, record.id.clone(), record.revision).to_vec();
            writes.extend(without(&record.id, &head));
            platform.put(&owner, writes).await?;
        }
    }
    Ok(())
}
