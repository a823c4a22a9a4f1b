//! Which processes share the records, and what becomes of the runs of one that is gone.
//!
//! Each process touches a record of its own; whose record stands still for [`LEASE`] is taken for
//! gone, and who removes that record says so to all, the removed one included. Runs of a process
//! without a record are taken up by whoever is first.
//!
//! Invariant: a process is judged by how long another one saw it stand still, never by a clock that two
//! of them read; time in which the records could not be read counts for nobody. A process that was
//! taken for gone by mistake ends its runs when it notices, and cannot end them in the records.
//! Deliberately absent: a list of who ought to be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use lyceum_core::{Expect, RecordError, RecordWrite, TenantId};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    board::Stop,
    lanes::{ORPHANS, STOPS},
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{PROCESS, QUEUE},
    tape,
};
use crate::{error::ApiError, fenced::remove_at};

/// How often a process touches its record and looks at those of the others.
const BEAT: Duration = Duration::from_secs(2);
/// How long a record stands still before its process is taken for gone.
const LEASE: Duration = Duration::from_secs(10);
/// How often runs without a process are looked for where nobody tells of them.
const ORPHANED: Duration = Duration::from_secs(10);
/// How often it is looked whether others asked a run to stop, where nobody tells of it.
const ASKED: Duration = Duration::from_secs(1);
/// How often a process that closes looks for runs that came meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// How often what is too old is removed.
const SWEEP: Duration = Duration::from_secs(5 * 60);

/// How long each process was seen to stand still.
#[derive(Debug, Default)]
struct Watch {
    seen: BTreeMap<String, (u64, Duration)>,
    last: Option<Instant>,
}

impl Watch {
    /// Takes in the records' names and revisions; gives those that have stood still too long. A
    /// pause of the observer counts as two beats at most.
    fn look(
        &mut self,
        now: Instant,
        records: impl IntoIterator<Item = (String, u64)>,
    ) -> Vec<(String, u64)> {
        let passed = self.last.map_or(Duration::ZERO, |last| now - last);
        let passed = passed.min(2 * BEAT);
        self.last = Some(now);
        let mut seen = BTreeMap::new();
        let mut gone = Vec::new();
        for (id, revision) in records {
            let still = match self.seen.get(&id) {
                Some((before, still)) if *before == revision => *still + passed,
                _ => Duration::ZERO,
            };
            if still >= LEASE {
                gone.push((id.clone(), revision));
            }
            seen.insert(id, (revision, still));
        }
        self.seen = seen;
        gone
    }
}

/// Whose the processes' records are: no key has this tenant's owner.
fn everybody() -> Answer<TenantId> {
    let tenant = TenantId::new("processes");
    tenant.map_err(|_| Refusal::Api(ApiError::Internal { what: "tenant" }))
}

impl Platform {
    /// The name of this process among those that share the records.
    pub(crate) fn me(&self) -> String {
        let me = self.0.me.lock().unwrap_or_else(PoisonError::into_inner);
        me.clone()
    }

    /// Takes up the runs that were accepted and not ended, and that no process holds. To be
    /// called once, before anything is accepted.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the records cannot be used.
    pub async fn recover(&self) -> Result<usize, RecordError> {
        if !self.0.bell.is_shared() {
            let queue = self.0.records.every(QUEUE).await?;
            return Ok(self.adopt(queue, |_| false).await);
        }
        self.appear(&self.me()).await?;
        self.adopt_orphans().await
    }

    /// Does what processes that share the records owe each other, until it is cancelled: shows that
    /// this one is there, takes up the runs of those that are gone, stops runs that another one
    /// was asked to stop, and removes what is too old. Alone it does nothing.
    pub async fn tend_peers(&self, stop: CancellationToken) {
        if self.0.bell.is_shared() {
            let all = async {
                tokio::join!(
                    self.beat(),
                    self.look_for_orphans(),
                    self.heed(),
                    self.sweep()
                )
            };
            stop.run_until_cancelled(all).await;
        }
    }

    /// Stops what runs, to go on after the next start or in another process, and waits for it.
    pub async fn close(&self) {
        self.0.tasks.close();
        loop {
            // Again: a run may have been on its way in at the last look.
            for live in self.all_live() {
                live.stop(Stop::Shutdown);
            }
            if timeout(LOOK, self.0.tasks.wait()).await.is_ok() {
                break;
            }
        }
        if self.0.bell.is_shared() {
            if let Err(refusal) = self.disappear().await {
                tracing::warn!(?refusal, "this process looks alive for a while");
            }
            self.0.bell.tell(ORPHANS).await;
        }
    }

    /// Whether [`Platform::close`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.tasks.is_closed()
    }

    async fn appear(&self, me: &str) -> Result<(), RecordError> {
        let write = put_write(PROCESS, me, "", &json!({}), Expect::Anything);
        let Ok(everybody) = everybody() else {
            return Ok(());
        };
        self.put(&everybody, vec![write]).await.map(drop)
    }

    async fn disappear(&self) -> Answer<()> {
        let delete = RecordWrite::Delete {
            kind: PROCESS,
            id: self.me(),
        };
        self.put(&everybody()?, vec![delete]).await?;
        Ok(())
    }

    async fn beat(&self) {
        let mut watch = Watch::default();
        loop {
            if let Err(refusal) = self.beat_once(&mut watch).await {
                tracing::warn!(
                    ?refusal,
                    "the processes that share the records cannot be seen"
                );
                watch.last = None;
            }
            sleep(BEAT).await;
        }
    }

    /// Touches the own record and looks at those of the others.
    async fn beat_once(&self, watch: &mut Watch) -> Answer<()> {
        let (me, everybody) = (self.me(), everybody()?);
        let mine = self.0.records.read(&everybody, PROCESS, &me).await?;
        let touched = match mine {
            Some(mine) => {
                let expect = Expect::Revision(mine.revision);
                let touch = put_write(PROCESS, &me, "", &json!({}), expect);
                self.put(&everybody, vec![touch]).await?
            }
            None => false,
        };
        if !touched {
            self.depose().await?;
        }
        // Runs that were on their way in under a name that is gone, too.
        let me = self.me();
        self.lose_all_but(&me);
        let all = self.0.records.every(PROCESS).await?;
        let others = all.into_iter().map(|(_, record)| record);
        let others = others.filter(|record| record.id != me);
        let others = others.map(|record| (record.id, record.revision));
        for (id, revision) in watch.look(Instant::now(), others) {
            let removal = remove_at(PROCESS, id.clone(), revision);
            if self.put(&everybody, removal.into()).await? {
                tracing::warn!(process = id, "a process is gone: its runs are taken up");
                self.0.bell.tell(ORPHANS).await;
            }
        }
        Ok(())
    }

    /// The others took this process for gone: its runs are theirs, and it goes on as another.
    async fn depose(&self) -> Answer<()> {
        tracing::warn!("this process was taken for gone: its runs go on elsewhere");
        let new = Uuid::now_v7().to_string();
        // Before anything that may fail: the others execute them already.
        self.lose_all_but(&new);
        // No run is accepted under a name before the name has a record.
        self.appear(&new).await?;
        *self.0.me.lock().unwrap_or_else(PoisonError::into_inner) = new;
        self.0.bell.tell(ORPHANS).await;
        Ok(())
    }

    /// Gives up the runs that this process holds under another name.
    fn lose_all_but(&self, me: &str) {
        let lost = self.all_live().into_iter().filter(|live| live.holder != me);
        lost.for_each(|live| live.stop(Stop::Lost));
    }

    async fn look_for_orphans(&self) {
        let mut news = self.0.bell.listen(ORPHANS);
        loop {
            news.news(ORPHANED).await;
            match self.adopt_orphans().await {
                Ok(0) => {}
                Ok(runs) => tracing::info!(runs, "runs of another process were taken up"),
                Err(error) => told("runs without a process cannot be looked for", &error),
            }
        }
    }

    async fn adopt_orphans(&self) -> Result<usize, RecordError> {
        // In this order: who queued a run had a record before that.
        let queue = self.0.records.every(QUEUE).await?;
        if queue.is_empty() {
            return Ok(0);
        }
        let all = self.0.records.every(PROCESS).await?;
        let lives: BTreeSet<_> = all.into_iter().map(|(_, record)| record.id).collect();
        let taken = self.adopt(queue, |holder| lives.contains(holder)).await;
        if taken > 0 {
            self.heed_stops().await?;
        }
        Ok(taken)
    }

    async fn heed(&self) {
        let mut news = self.0.bell.listen(STOPS);
        loop {
            news.news(ASKED).await;
            if let Err(error) = self.heed_stops().await {
                told("it is not known which runs are to stop", &error);
            }
        }
    }

    async fn sweep(&self) {
        loop {
            if let Err(error) = tape::forget_expired(self).await {
                told("what is told of old runs cannot be removed", &error);
            }
            sleep(SWEEP).await;
        }
    }
}

fn told(what: &str, error: &RecordError) {
    let error = error.source.as_ref() as &dyn std::error::Error;
    tracing::warn!(error, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64) -> Vec<(String, u64)> {
        vec![("a".to_owned(), revision)]
    }

    #[test]
    fn who_stands_still_for_the_lease_is_gone_and_who_moves_is_not() {
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        for beat in 0..100 {
            assert_eq!(watch.look(now, at(beat)), []);
            now += BEAT;
        }
        let mut still = Duration::ZERO;
        while watch.look(now, at(99)).is_empty() {
            now += BEAT;
            still += BEAT;
            assert!(still <= LEASE);
        }
        assert!(still + BEAT >= LEASE, "{still:?}");
        // One that is seen for the first time has just begun to be watched.
        assert_eq!(watch.look(now, [("b".to_owned(), 5)]), []);
    }

    #[test]
    fn time_in_which_nobody_looked_is_held_against_nobody() {
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        watch.look(now, at(1));
        // This process stood still for an hour, or the records did.
        now += Duration::from_secs(3600);
        assert_eq!(watch.look(now, at(1)), []);
        watch.last = None;
        assert_eq!(watch.look(now + LEASE, at(1)), []);
    }
}
