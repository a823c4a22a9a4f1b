//! What an ended run owes to the address that its client gave.
//!
//! Invariant: that something is owed, and what, is written with the end of the run, and stays until
//! the address took it, refused it for good, was tried [`TRIES`] times, or could not be read for
//! [`UNREADABLE_FOR`]: a receiver may get the same twice, after a crash. Of several processes one
//! at a time sends the same. Deliberately absent: how something is sent, and which addresses may be
//! reached, which is the [`WebhookSender`]'s.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lyceum_core::{Expect, Record, RecordWrite, TenantId};
use metrics::counter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    due::{Found, LOOK, Looks, PAUSE, later, sift},
    ending::End,
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{Run, WEBHOOK, WEBHOOK_BODY, now},
    run_body,
};
use crate::{fenced::remove_at, metrics::WEBHOOKS};

/// What a look keeps of what finds no room, for when there is some.
const WAITING: usize = 1_024;
/// How long a process knows of a record that it cannot read before it is removed: one of another
/// version may read it.
const UNREADABLE_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Sent at once, of all, of one tenant and of one owner: who does not answer holds up nobody else.
const AT_ONCE: usize = 32;
const OF_TENANT: usize = 8;
const OF_ONE: usize = 4;
/// How often something is sent at most.
const TRIES: u32 = 6;
/// How long a sender has before another one may take it for gone; above what sending may take.
const LEASE: Duration = Duration::from_secs(60);

/// Why something could not be sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// It may not be, or the receiver does not want it.
    #[error("send where it is not taken: {0}")]
    Refused(String),
    /// It may pass later.
    #[error("reach the address: {0}")]
    Failed(String),
}

/// Sends what ended runs owe.
pub trait WebhookSender: Send + Sync + fmt::Debug {
    /// Whether an address may be sent to, as far as can be seen without resolving its name.
    ///
    /// # Errors
    ///
    /// [`WebhookError::Refused`].
    fn check(&self, address: &str) -> Result<(), WebhookError>;

    /// Sends a JSON text by POST. Takes at most 30 seconds.
    ///
    /// # Errors
    ///
    /// [`WebhookError`], also where the receiver answers with anything but success.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been received.
    fn send<'a>(&'a self, address: &'a str, body: Bytes)
    -> BoxFuture<'a, Result<(), WebhookError>>;
}

/// What is owed, beside the text that is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Owed {
    address: String,
    /// The tenant of the run.
    tenant: String,
    tries: u32,
    due: Timestamp,
}

/// How long after a failure it is tried again.
fn pause(tries: u32) -> Duration {
    Duration::from_secs(match tries {
        0 | 1 => 1,
        2 => 10,
        3 => 60,
        4 => 5 * 60,
        _ => 15 * 60,
    })
}

/// What the end of a run owes, to be written with it.
pub(crate) fn owed(run: &Run, end: &End) -> Vec<RecordWrite> {
    let address = run.asked.get("webhook").and_then(Value::as_str);
    let Some(address) = address else {
        return Vec::new();
    };
    let started = (run.status == "running").then_some(&run.updated_at);
    let mut body = run.shown();
    body["status"] = end.status.into();
    body["updated_at"] = now().into();
    body["run_started_at"] = json!(started);
    body["run_ended_at"] = now().into();
    body["values"] = json!(end.values);
    let error = end.error.as_ref();
    if let Some(error) = error.and_then(|error| error.get("message")) {
        body["error"] = error.clone();
    }
    let owed = Owed {
        address: address.to_owned(),
        tenant: run.tenant.clone(),
        tries: 0,
        due: Timestamp::now(),
    };
    let id = &run.run_id;
    vec![
        put_write(WEBHOOK_BODY, id, "", &body, Expect::Anything),
        put_write(WEBHOOK, id, "", &owed, Expect::Anything),
    ]
}

/// What the sending of one came to.
struct Sent {
    owner: TenantId,
    run: String,
    owed: Owed,
    result: Result<(), WebhookError>,
}

/// What is due, as it was read.
struct Due {
    record: Record,
    owed: Owed,
}

/// What is sent, and what waits for room.
#[derive(Default)]
struct Sends {
    tasks: JoinSet<Sent>,
    /// The owner and the tenant of each task.
    places: HashMap<Id, (TenantId, String)>,
    /// In the order in which it is sent.
    waiting: Vec<(TenantId, Due)>,
    /// Since when a record cannot be read, of those that the last look found.
    unreadable: HashMap<String, Instant>,
}

impl Sends {
    /// Takes the first that waits and finds room.
    fn next(&mut self) -> Option<(TenantId, Due)> {
        if self.places.len() >= AT_ONCE {
            return None;
        }
        let (mut of_one, mut of_tenant) = (HashMap::new(), HashMap::new());
        for (owner, tenant) in self.places.values() {
            *of_one.entry(owner).or_insert(0) += 1;
            *of_tenant.entry(tenant.as_str()).or_insert(0) += 1;
        }
        let finds_room = |(owner, due): &(TenantId, Due)| {
            let of_tenant = of_tenant.get(due.owed.tenant.as_str());
            of_one.get(owner).is_none_or(|held| *held < OF_ONE)
                && of_tenant.is_none_or(|held| *held < OF_TENANT)
        };
        let at = self.waiting.iter().position(finds_room)?;
        Some(self.waiting.remove(at))
    }

    /// Gives up the place of a send that is over.
    fn ended(&mut self, ended: Result<(Id, Sent), JoinError>) -> Option<Sent> {
        let (id, sent) = match ended {
            Ok((id, sent)) => (id, Some(sent)),
            Err(error) => {
                tracing::error!(%error, "a webhook is sent again later");
                (error.id(), None)
            }
        };
        self.places.remove(&id);
        sent
    }
}

impl Platform {
    /// Lets clients name addresses that are told of the ends of their runs;
    /// [`Platform::tend_webhooks`] is to run then. It takes effect on a platform that was not
    /// cloned yet.
    #[must_use]
    pub fn with_webhooks(mut self, sender: Arc<dyn WebhookSender>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.webhooks = Some(sender);
        }
        self
    }

    /// Checks a run's body.
    pub(crate) fn check_run(&self, body: &Value) -> Answer<()> {
        run_body::check(body)?;
        let address = body.get("webhook").filter(|address| !address.is_null());
        let Some(address) = address else {
            return Ok(());
        };
        let address = address.as_str();
        let address = address.ok_or_else(|| Refusal::invalid("webhook must be an address"))?;
        let sender = self.0.webhooks.as_ref();
        let sender =
            sender.ok_or_else(|| Refusal::invalid("webhooks are off here: leave webhook out"))?;
        sender.check(address).map_err(|error| {
            let (WebhookError::Refused(why) | WebhookError::Failed(why)) = error;
            Refusal::invalid(format!("webhook: {why}"))
        })
    }

    /// Sends what ended runs owe, until it is cancelled. Where nothing sends, it ends at once.
    pub async fn tend_webhooks(&self, stop: CancellationToken) {
        let Some(sender) = self.0.webhooks.clone() else {
            return;
        };
        let mut sends = Sends::default();
        let mut looks = Looks::new(Instant::now());
        loop {
            let began = Instant::now();
            if looks.is_due(began) {
                let wait = self.due_webhooks(&mut sends).await;
                let wait = wait.unwrap_or_else(|refusal| {
                    tracing::error!(?refusal, "it is not known which webhooks are due");
                    LOOK
                });
                looks.looked(began, Instant::now(), wait);
            }
            if let Err(refusal) = self.send_webhooks(&sender, &mut sends).await {
                tracing::error!(?refusal, "a webhook is sent later");
                looks.by(Instant::now() + PAUSE);
            }
            let due = tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = sends.tasks.join_next_with_id() => {
                    let Some(sent) = sends.ended(ended) else {
                        continue;
                    };
                    match self.settle_webhook(sent).await {
                        Ok(None) => continue,
                        Ok(Some(again)) => Instant::now() + again,
                        Err(refusal) => {
                            tracing::error!(?refusal, "a webhook may be sent again");
                            continue;
                        }
                    }
                }
                () = self.0.webhooks_changed.notified() => Instant::now(),
                () = sleep_until(looks.next()) => continue,
            };
            looks.by(due);
        }
    }

    /// Finds what is due; gives the time until something else is.
    async fn due_webhooks(&self, sends: &mut Sends) -> Answer<Duration> {
        let mut all = Vec::new();
        let before = std::mem::take(&mut sends.unreadable);
        for (owner, record) in self.0.records.every(WEBHOOK).await? {
            let error = match serde_json::from_str::<Owed>(&record.body) {
                Ok(owed) => {
                    all.push((owner, owed.due, Due { record, owed }));
                    continue;
                }
                Err(error) => error,
            };
            let since = before.get(&record.id).copied();
            if since.is_some_and(|since| since.elapsed() >= UNREADABLE_FOR) {
                self.drop_unreadable(&owner, record).await;
                continue;
            }
            if since.is_none() {
                // What the error says may hold what the record does.
                let (run, column) = (&record.id, error.column());
                tracing::warn!(run, column, "a webhook cannot be read");
            }
            let since = since.unwrap_or_else(Instant::now);
            sends.unreadable.insert(record.id, since);
        }
        let Found { due, wait } = sift(all, Timestamp::now(), WAITING);
        sends.waiting = due;
        Ok(wait)
    }

    /// Gives up what says nothing that can be sent. Where it cannot be removed it is looked at anew.
    async fn drop_unreadable(&self, owner: &TenantId, record: Record) {
        let Record { id, revision, .. } = record;
        let mut writes = remove_at(WEBHOOK, id.clone(), revision).to_vec();
        writes.push(RecordWrite::Delete {
            kind: WEBHOOK_BODY,
            id: id.clone(),
        });
        match self.put(owner, writes).await {
            Ok(true) => {
                counter!(WEBHOOKS, "outcome" => "unreadable").increment(1);
                tracing::warn!(run = id, "a webhook that cannot be read is given up");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, run = id, "a webhook that cannot be read is still there");
            }
        }
    }

    /// Sends what waits and finds room.
    async fn send_webhooks(
        &self,
        sender: &Arc<dyn WebhookSender>,
        sends: &mut Sends,
    ) -> Answer<()> {
        while let Some((owner, Due { record, mut owed })) = sends.next() {
            // Who writes this is the one that sends it. Where its body cannot be read then, it is
            // tried again after the lease.
            owed.tries += 1;
            owed.due = later(Timestamp::now(), LEASE);
            let expect = Expect::Revision(record.revision);
            let take = put_write(WEBHOOK, &record.id, "", &owed, expect);
            if !self.put(&owner, vec![take]).await? {
                continue;
            }
            let run = record.id;
            let body = self.get::<Value>(&owner, WEBHOOK_BODY, &run).await?;
            let Some(mut body) = body else {
                self.forget_webhook(&owner, &run).await?;
                continue;
            };
            body["webhook_sent_at"] = now().into();
            let body = Bytes::from(body.to_string());
            let place = (owner.clone(), owed.tenant.clone());
            let sender = sender.clone();
            let task = sends.tasks.spawn(async move {
                let result = sender.send(&owed.address, body).await;
                Sent {
                    owner,
                    run,
                    owed,
                    result,
                }
            });
            sends.places.insert(task.id(), place);
        }
        Ok(())
    }

    /// Writes what a send came to; gives the time until it is tried again where it is.
    async fn settle_webhook(&self, sent: Sent) -> Answer<Option<Duration>> {
        let Sent {
            owner,
            run,
            owed,
            result,
        } = sent;
        let told = |outcome| counter!(WEBHOOKS, "outcome" => outcome).increment(1);
        match result {
            Ok(()) => told("sent"),
            Err(error @ WebhookError::Failed(_)) if owed.tries < TRIES => {
                told("retried");
                tracing::debug!(%error, run, tries = owed.tries, "a webhook is sent later");
                let again = pause(owed.tries);
                let due = later(Timestamp::now(), again);
                self.change::<Owed>(&owner, WEBHOOK, &run, |kept| kept.due = due)
                    .await?;
                return Ok(Some(again));
            }
            Err(error) => {
                told("dropped");
                tracing::warn!(%error, run, tries = owed.tries, "a webhook is given up");
            }
        }
        self.forget_webhook(&owner, &run).await?;
        Ok(None)
    }

    async fn forget_webhook(&self, owner: &TenantId, run: &str) -> Answer<()> {
        let writes = [WEBHOOK, WEBHOOK_BODY].map(|kind| RecordWrite::Delete {
            kind,
            id: run.to_owned(),
        });
        self.put(owner, writes.into()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
