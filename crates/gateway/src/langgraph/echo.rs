//! Runs of other processes, told to those who follow their thread here.
//!
//! Invariant: every event of a run is told once, under a name that it has at all processes; a
//! run that goes on here is told here first. Deliberately absent: runs that were not started by a
//! command of a thread's stream; only their own streams are read elsewhere.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use lyceum_core::TenantId;
use serde_json::Value;

use super::{chronicle::Chronicle, lanes::topic, platform::Platform, refusal::Answer, tape};
use crate::catalog::unix_seconds;

/// How often it is looked for runs of other processes, where nobody tells of them.
const LOOK: Duration = Duration::from_secs(1);

/// Room for the events of a second, so that two processes rarely give one number.
const SECOND: u32 = 20;

impl Platform {
    /// The events of a thread, for who follows it.
    pub(crate) fn chronicle(&self, owner: &TenantId, thread: &str) -> Arc<Chronicle> {
        let is_shared = self.0.bell.is_shared();
        let first = if is_shared {
            unix_seconds() << SECOND
        } else {
            0
        };
        let chronicle = self.0.chronicles.open(owner, thread, first);
        if is_shared && chronicle.begin_echo() {
            let (platform, owner) = (self.clone(), owner.clone());
            let (thread, weak) = (thread.to_owned(), Arc::downgrade(&chronicle));
            tokio::spawn(async move { platform.echo(&owner, &thread, weak).await });
        }
        chronicle
    }

    /// Tells what other processes run on a thread, for as long as somebody reads it.
    async fn echo(&self, owner: &TenantId, thread: &str, weak: Weak<Chronicle>) {
        let mut news = self.0.bell.listen(&topic(owner, thread));
        let mut is_first = true;
        loop {
            // Who just came holds it.
            if !is_first && weak.upgrade().is_none_or(|one| one.end_echo()) {
                return;
            }
            match self.echo_all(owner, thread, &weak, is_first).await {
                Ok(()) => is_first = false,
                Err(refusal) => tracing::warn!(?refusal, "a thread's runs cannot be read"),
            }
            news.news(LOOK).await;
        }
    }

    async fn echo_all(
        &self,
        owner: &TenantId,
        thread: &str,
        weak: &Weak<Chronicle>,
        is_first: bool,
    ) -> Answer<()> {
        let runs = tape::runs_of(self, owner, thread).await?;
        let newest = runs.last().map(|(run, _)| run.clone());
        for (run, is_over) in runs {
            let Some(chronicle) = weak.upgrade() else {
                return Ok(());
            };
            let is_old = is_first && is_over && Some(&run) != newest.as_ref();
            if is_old && chronicle.next_of(&run).is_none() {
                chronicle.skip(&run);
            }
            // What this process runs it tells itself.
            if self.live(owner, &run).is_some() || chronicle.next_of(&run) == Some(u64::MAX) {
                continue;
            }
            drop(chronicle);
            self.echo_run(owner, thread, &run, weak).await?;
        }
        Ok(())
    }

    async fn echo_run(
        &self,
        owner: &TenantId,
        thread: &str,
        run: &str,
        weak: &Weak<Chronicle>,
    ) -> Answer<()> {
        let Some(copy) = self.find(owner, Some(thread), run).await? else {
            return Ok(());
        };
        loop {
            let Some(chronicle) = weak.upgrade() else {
                return Ok(());
            };
            if chronicle.next_of(run).is_none() {
                chronicle.run_begins();
            }
            let next = chronicle.next_of(run).unwrap_or(0);
            drop(chronicle);
            let Ok(told) = tokio::time::timeout(LOOK, copy.told.at(next)).await else {
                // Nobody may read any more.
                if weak
                    .upgrade()
                    .is_none_or(|one| Arc::strong_count(&one) <= 2)
                {
                    return Ok(());
                }
                continue;
            };
            let Some(chronicle) = weak.upgrade() else {
                return Ok(());
            };
            let Some(told) = told else {
                chronicle.skip(run);
                return Ok(());
            };
            let name = chronicle.know(run, told.id);
            let parts = serde_json::from_str::<(Vec<String>, Value)>(&told.data);
            if let Ok((namespace, data)) = parts {
                chronicle.tell(&told.event, &namespace, &data, Some(name));
            }
        }
    }
}
