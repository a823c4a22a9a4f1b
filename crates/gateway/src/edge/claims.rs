//! Who runs the request of an `Idempotency-Key`, among processes that share the records.
//!
//! Invariant: a claim is made where none is, or taken from a process that did not touch it for
//! [`GONE`], and its revision fences: who lost it keeps no answer. Deliberately absent: clocks of
//! other processes; who waits measures with its own how long a claim stands still.

use std::{sync::Arc, time::Duration};

use lyceum_core::{Expect, Record, RecordError, RecordStore, RecordWrite};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::remembered::{Name, hex};
use crate::{bell::Bell, catalog::unix_seconds, fenced::remove_at};

const CLAIM: &str = "idempotency_claim";

/// How often a claim is touched.
const ALIVE: Duration = Duration::from_secs(2);

/// After so long without a touch the process that made a claim is taken for gone.
const GONE: Duration = Duration::from_secs(10);

/// How often another process' claim is looked at where nobody tells of its end.
const POLL: Duration = Duration::from_millis(250);

/// How long what a process left behind is kept, in seconds.
const KEPT_SECONDS: u64 = 24 * 60 * 60;

#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    fingerprint: String,
    /// Whose it is: one run of one process.
    by: Uuid,
    /// The last touch, in seconds since 1970.
    touched: u64,
}

/// The claims.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    records: Arc<dyn RecordStore>,
    bell: Bell,
}

fn topic(name: &Name) -> String {
    format!("idempotency/{}", name.digest)
}

fn put(name: &Name, (fingerprint, by): (&str, Uuid), expect: Expect) -> RecordWrite {
    let claim = Claim {
        fingerprint: fingerprint.to_owned(),
        by,
        touched: unix_seconds(),
    };
    RecordWrite::Put {
        kind: CLAIM,
        id: name.digest.clone(),
        group: name.user.clone(),
        body: serde_json::to_string(&claim).unwrap_or_default(),
        expect,
    }
}

impl Claims {
    pub(super) fn new(records: Arc<dyn RecordStore>, bell: Bell) -> Self {
        Self { records, bell }
    }

    /// Claims the run of a key, once nobody else has it; `None` when somebody runs another
    /// request under the key.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave a claim that nobody touches: the next waits until it is gone.
    pub(super) async fn claim(
        &self,
        name: &Name,
        fingerprint: [u8; 32],
    ) -> Result<Option<Held>, RecordError> {
        let (fingerprint, by) = (hex(&fingerprint), Uuid::now_v7());
        let mut news = self.bell.listen(&topic(name));
        let mut seen = (0, Instant::now());
        loop {
            let found = self.records.read(&name.tenant, CLAIM, &name.digest).await?;
            let expect = match &found {
                None => Some(Expect::Absent),
                Some(found) if found.revision == seen.0 && seen.1.elapsed() >= GONE => {
                    Some(Expect::Revision(found.revision))
                }
                Some(_) => None,
            };
            if let Some(expect) = expect {
                let write = vec![put(name, (&fingerprint, by), expect)];
                if self.records.write(&name.tenant, write).await? {
                    let revision = match expect {
                        Expect::Revision(before) => before + 1,
                        _ => 1,
                    };
                    return Ok(Some(Held::new(self, name, (fingerprint, by), revision)));
                }
                continue;
            }
            if let Some(Record { revision, body, .. }) = found {
                let other = serde_json::from_str::<Claim>(&body);
                if other.is_ok_and(|other| other.fingerprint != fingerprint) {
                    return Ok(None);
                }
                if revision != seen.0 {
                    seen = (revision, Instant::now());
                }
            }
            news.news(POLL).await;
        }
    }

    /// Tells those who wait that a claim is given up.
    pub(super) async fn tell(&self, name: &Name) {
        self.bell.tell(&topic(name)).await;
    }

    /// Removes what processes that are gone left behind.
    pub(super) async fn forget_expired(&self, now: u64) -> Result<(), RecordError> {
        for (tenant, record) in self.records.every(CLAIM).await? {
            let claim = serde_json::from_str::<Claim>(&record.body);
            if claim.is_ok_and(|claim| claim.touched.saturating_add(KEPT_SECONDS) > now) {
                continue;
            }
            let removal = remove_at(CLAIM, record.id, record.revision);
            self.records.write(&tenant, removal.into()).await?;
        }
        Ok(())
    }
}

/// A claim that this process has; dropping it gives it up.
pub(super) struct Held {
    claims: Claims,
    name: Name,
    done: CancellationToken,
    /// Touches the claim until `done`, and then gives its revision.
    touching: Option<JoinHandle<u64>>,
}

impl Held {
    /// Touches a claim of this fingerprint, made as this run of this process.
    fn new(claims: &Claims, name: &Name, of: (String, Uuid), revision: u64) -> Self {
        let done = CancellationToken::new();
        let touching = touch(claims.clone(), name.clone(), of, revision, done.clone());
        Self {
            claims: claims.clone(),
            name: name.clone(),
            done,
            touching: Some(tokio::spawn(touching)),
        }
    }

    /// What gives the claim up, and is done only where it is still this one's.
    pub(super) async fn into_writes(mut self) -> Vec<RecordWrite> {
        self.done.cancel();
        let revision = match self.touching.take() {
            Some(touching) => touching.await.unwrap_or_default(),
            None => 0,
        };
        writes(&self.name, revision)
    }
}

/// What gives a claim up at its revision.
fn writes(name: &Name, revision: u64) -> Vec<RecordWrite> {
    remove_at(CLAIM, name.digest.clone(), revision).into()
}

/// The claim's revision in the records; `None` where it is another's or gone.
async fn revision_of(claims: &Claims, name: &Name, by: Uuid) -> Result<Option<u64>, RecordError> {
    let found = claims.records.read(&name.tenant, CLAIM, &name.digest);
    let found = found.await?.filter(|found| {
        let claim = serde_json::from_str::<Claim>(&found.body);
        claim.is_ok_and(|claim| claim.by == by)
    });
    Ok(found.map(|found| found.revision))
}

/// Touches a claim; gives its last revision.
async fn touch(
    claims: Claims,
    name: Name,
    of: (String, Uuid),
    mut revision: u64,
    done: CancellationToken,
) -> u64 {
    // Whether the answer to a touch was lost.
    let mut doubt = false;
    while done
        .run_until_cancelled(tokio::time::sleep(ALIVE))
        .await
        .is_some()
    {
        let write = vec![put(&name, (&of.0, of.1), Expect::Revision(revision))];
        match claims.records.write(&name.tenant, write).await {
            Ok(true) => {
                revision += 1;
                doubt = false;
            }
            // It was taken, or the answer to an earlier touch was lost.
            Ok(false) => match revision_of(&claims, &name, of.1).await {
                Ok(Some(found)) => {
                    revision = found;
                    doubt = false;
                }
                Ok(None) => {
                    done.cancelled().await;
                    return revision;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a claim cannot be read");
                    doubt = true;
                }
            },
            Err(error) => {
                tracing::warn!(error = %error, "a claim cannot be touched");
                doubt = true;
            }
        }
    }
    if doubt && let Ok(Some(found)) = revision_of(&claims, &name, of.1).await {
        revision = found;
    }
    revision
}

impl Drop for Held {
    fn drop(&mut self) {
        self.done.cancel();
        // Where it is given up with the answer there is nothing left to do.
        let Some(touching) = self.touching.take() else {
            return;
        };
        let (claims, name) = (self.claims.clone(), self.name.clone());
        tokio::spawn(async move {
            let revision = touching.await.unwrap_or_default();
            let writes = writes(&name, revision);
            if let Err(error) = claims.records.write(&name.tenant, writes).await {
                tracing::warn!(error = %error, "a claim is given up late");
            }
            claims.tell(&name).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use lyceum_core::{MemoryRecords, RecordList, Scope, TenantId};

    use super::*;

    /// Records that lose the answer to a write when they are told to.
    #[derive(Debug, Default)]
    struct Lossy {
        records: MemoryRecords,
        loses: AtomicBool,
        lost: tokio::sync::Notify,
    }

    #[async_trait]
    impl RecordStore for Lossy {
        async fn write(
            &self,
            tenant: &TenantId,
            writes: Vec<RecordWrite>,
        ) -> Result<bool, RecordError> {
            let done = self.records.write(tenant, writes).await;
            if self.loses.swap(false, Ordering::SeqCst) {
                self.lost.notify_one();
                return Err(RecordError {
                    retryable: true,
                    source: "the connection was lost".into(),
                });
            }
            done
        }

        async fn read(
            &self,
            tenant: &TenantId,
            kind: &'static str,
            id: &str,
        ) -> Result<Option<Record>, RecordError> {
            self.records.read(tenant, kind, id).await
        }

        async fn list(
            &self,
            tenant: &TenantId,
            list: RecordList<'_>,
        ) -> Result<Vec<Record>, RecordError> {
            self.records.list(tenant, list).await
        }

        async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
            self.records.every(kind).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_whose_touch_got_no_answer_is_given_up_as_its_own() {
        let records = Arc::new(Lossy::default());
        let claims = Claims::new(records.clone(), Bell::default());
        let name = Name::new(&Scope::local(), "/chat", "key");
        let held = claims.claim(&name, [1; 32]).await.unwrap().unwrap();
        records.loses.store(true, Ordering::SeqCst);
        records.lost.notified().await;
        let writes = held.into_writes().await;
        assert!(records.write(&name.tenant, writes).await.unwrap());
        assert!(records.every(CLAIM).await.unwrap().is_empty());
    }
}
