//! What an ended run owes to the address that its client gave.
//!
//! Invariant: that something is owed, and what, is written with the end of the run, and stays until
//! the address took it, refused it for good, or was tried [`TRIES`] times: a receiver may get the
//! same twice, after a crash. Of several processes one sends at a time. Deliberately absent: how
//! something is sent, and which addresses may be reached, which is the [`WebhookSender`]'s.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use lyceum_core::{Expect, RecordWrite, TenantId};
use metrics::counter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    ending::End,
    expiry::later,
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{Run, WEBHOOK, WEBHOOK_BODY, now},
    run_body,
};
use crate::metrics::WEBHOOKS;

/// How often what is due is looked for at least.
const LOOK: Duration = Duration::from_secs(15);
/// Sent at once, of all and of one owner: who does not answer holds up nobody else.
const AT_ONCE: usize = 32;
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
        let sender = sender.ok_or_else(|| Refusal::invalid("webhooks are off here"))?;
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
        let mut sending = FuturesUnordered::new();
        let mut of_one: HashMap<TenantId, usize> = HashMap::new();
        loop {
            let wait = match self.due_webhooks(&mut of_one, sending.len()).await {
                Ok((due, wait)) => {
                    for (owner, run, owed, body) in due {
                        let sender = sender.clone();
                        sending.push(async move {
                            let result = sender.send(&owed.address, body).await;
                            Sent {
                                owner,
                                run,
                                owed,
                                result,
                            }
                        });
                    }
                    wait
                }
                Err(refusal) => {
                    tracing::error!(?refusal, "it is not known which webhooks are due");
                    LOOK
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(sent) = sending.next(), if !sending.is_empty() => {
                    if let Some(held) = of_one.get_mut(&sent.owner) {
                        *held = held.saturating_sub(1);
                    }
                    of_one.retain(|_, held| *held > 0);
                    if let Err(refusal) = self.settle_webhook(sent).await {
                        tracing::error!(?refusal, "a webhook may be sent again");
                    }
                }
                () = self.0.webhooks_changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes what is due and finds room; gives it, and the time until something else is.
    async fn due_webhooks(
        &self,
        of_one: &mut HashMap<TenantId, usize>,
        under_way: usize,
    ) -> Answer<(Vec<(TenantId, String, Owed, Bytes)>, Duration)> {
        let (mut due, mut wait) = (Vec::new(), LOOK);
        let now = Timestamp::now();
        for (owner, record) in self.0.records.every(WEBHOOK).await? {
            let Ok(mut owed) = serde_json::from_str::<Owed>(&record.body) else {
                continue;
            };
            if owed.due > now {
                wait = wait.min(owed.due.duration_since(now).unsigned_abs());
                continue;
            }
            let held = of_one.entry(owner.clone()).or_default();
            if under_way + due.len() >= AT_ONCE || *held >= OF_ONE {
                continue;
            }
            // Who writes this is the one that sends it.
            owed.tries += 1;
            owed.due = later(now, LEASE);
            let expect = Expect::Revision(record.revision);
            let take = put_write(WEBHOOK, &record.id, "", &owed, expect);
            if !self.put(&owner, vec![take]).await? {
                continue;
            }
            let body = self.get::<Value>(&owner, WEBHOOK_BODY, &record.id).await?;
            let Some(mut body) = body else {
                self.forget_webhook(&owner, &record.id).await?;
                continue;
            };
            body["webhook_sent_at"] = super::resources::now().into();
            *held += 1;
            due.push((owner, record.id, owed, Bytes::from(body.to_string())));
        }
        Ok((due, wait))
    }

    async fn settle_webhook(&self, sent: Sent) -> Answer<()> {
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
                let due = later(Timestamp::now(), pause(owed.tries));
                self.change::<Owed>(&owner, WEBHOOK, &run, |kept| kept.due = due)
                    .await?;
                return Ok(());
            }
            Err(error) => {
                told("dropped");
                tracing::warn!(%error, run, tries = owed.tries, "a webhook is given up");
            }
        }
        self.forget_webhook(&owner, &run).await
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
