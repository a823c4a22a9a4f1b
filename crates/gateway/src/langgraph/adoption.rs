//! Runs in the queue that no process executes, taken up by one that lives.
//!
//! Invariant: a run is taken up, or forgotten, in one write that its record in the queue fences, so
//! one that ended or was taken since it was read is left alone. Deliberately absent: which processes
//! live.

use lyceum_core::{Expect, Record, RecordWrite, Scope, TenantId};

use super::{
    lanes::{Beginning, Entry, queue_write, scope},
    platform::{Platform, put_write},
    refusal::Answer,
    resources::{QUEUE, Queued, RUN, Run, STOP, THREAD, Thread},
    tape,
};
use crate::fenced::remove_at;

/// What came of an attempt to take up a queued run.
enum Taking {
    Taken {
        run: Box<Run>,
        scope: Scope,
        tries: u32,
    },
    /// It is not to be executed here.
    Left,
    /// What was read of it was written meanwhile.
    Moved,
}

impl Platform {
    /// Takes up the queued runs that no process which lives executes; gives how many.
    pub(crate) async fn adopt(
        &self,
        queue: Vec<(TenantId, Record)>,
        lives: impl Fn(&str) -> bool,
    ) -> usize {
        let (me, mut taken) = (self.me(), 0);
        for (owner, record) in queue {
            let holder = Entry::of(&record).holder;
            // A write whose answer was lost leaves runs that this process holds and does not know.
            if lives(&holder) && holder != me {
                continue;
            }
            let id = record.id.clone();
            match self.adopt_one(&owner, record).await {
                Ok(is_taken) => taken += usize::from(is_taken),
                Err(refusal) => {
                    tracing::warn!(?refusal, run = id, "a queued run cannot be taken up");
                }
            }
        }
        taken
    }

    async fn adopt_one(&self, owner: &TenantId, mut queued: Record) -> Answer<bool> {
        let (id, before) = (queued.id.clone(), Entry::of(&queued).holder);
        if self.live(owner, &id).is_some() || self.has_seat(owner, &id) {
            return Ok(false);
        }
        let (seat, holder) = (self.seat(owner, &id)?, self.me());
        let (run, scope, tries) = loop {
            match self.take(owner, &queued, &before, &holder).await? {
                Taking::Taken { run, scope, tries } => break (run, scope, tries),
                Taking::Left => return Ok(false),
                Taking::Moved => {}
            }
            let found = self.0.records.read(owner, QUEUE, &id).await?;
            let Some(found) = found.filter(|found| Entry::of(found).holder == before) else {
                // Somebody was faster, or it has ended.
                return Ok(false);
            };
            queued = found;
        };
        let live = self.enter(owner, &run, &holder);
        let beginning = Beginning {
            is_first: false,
            again: true,
            tries,
        };
        self.execute(scope, owner, *run, live, beginning, seat);
        Ok(true)
    }

    /// One attempt to become the holder of a queued run that was `before`'s. The queue's record
    /// fences: a run that ended or was taken since it was read is neither executed nor forgotten.
    async fn take(
        &self,
        owner: &TenantId,
        queued: &Record,
        before: &str,
        holder: &str,
    ) -> Answer<Taking> {
        let id = queued.id.as_str();
        let expect = Expect::Revision(queued.revision);
        let Some(run) = self.get::<Run>(owner, RUN, id).await? else {
            return self.forget(owner, queued, Vec::new()).await;
        };
        let Some(scope) = scope(&run) else {
            tracing::warn!(run = id, "a queued run names no valid user; it is left");
            return Ok(Taking::Left);
        };
        if run.is_over() {
            return self.forget(owner, queued, Vec::new()).await;
        }
        let found = self.0.records.read(owner, THREAD, &run.thread_id).await?;
        let Some(record) = found else {
            let all = remains(self, owner, id).await?;
            return self.forget(owner, queued, all).await;
        };
        let mut thread: Thread = serde_json::from_str(&record.body)?;
        let tries = match thread.lane.iter_mut().find(|one| one.run == id) {
            // Somebody was faster.
            Some(place) if place.holder != before => return Ok(Taking::Left),
            Some(place) => {
                // Who lets go of a run in time gives back its name; one that waits ends nobody.
                let is_gone = !place.holder.is_empty() && place.holder != holder;
                let is_tried = is_gone && run.status == "running";
                place.tries += u32::from(is_tried && self.0.bell.is_shared());
                holder.clone_into(&mut place.holder);
                place.tries
            }
            None => {
                thread.lane.push(Queued {
                    run: id.to_owned(),
                    holder: holder.to_owned(),
                    tries: 0,
                });
                0
            }
        };
        let thread_id = &run.thread_id;
        let moved = Expect::Revision(record.revision);
        let writes = vec![
            put_write(THREAD, thread_id, &record.group, &thread, moved),
            queue_write(id, thread_id, holder, expect),
        ];
        let is_taken = self.put_held(owner, writes, id, holder).await?;
        let run = Box::new(run);
        Ok(match is_taken {
            true => Taking::Taken { run, scope, tries },
            false => Taking::Moved,
        })
    }

    /// Takes from the queue what is not to be executed, with what else is left of it.
    async fn forget(
        &self,
        owner: &TenantId,
        queued: &Record,
        also: Vec<RecordWrite>,
    ) -> Answer<Taking> {
        let mut writes = remove_at(QUEUE, queued.id.clone(), queued.revision).to_vec();
        writes.push(RecordWrite::Delete {
            kind: STOP,
            id: queued.id.clone(),
        });
        writes.extend(also);
        let is_forgotten = self.put(owner, writes).await?;
        Ok(match is_forgotten {
            true => Taking::Left,
            false => Taking::Moved,
        })
    }
}

/// What removes all that a run without a thread has left, but its entry in the queue.
pub(crate) async fn remains(
    platform: &Platform,
    owner: &TenantId,
    run: &str,
) -> Answer<Vec<RecordWrite>> {
    let mut writes = tape::removal_of_unfinished(platform, owner, run).await?;
    writes.extend([RUN, STOP].map(|kind| RecordWrite::Delete {
        kind,
        id: run.to_owned(),
    }));
    Ok(writes)
}
