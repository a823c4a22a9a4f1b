//! Carries notices to the channels, and the loop that evaluates.
//!
//! Invariant: each channel has a queue and a task of its own; a message is tried three
//! times and then counted as failed. Deliberately absent: keeping messages over a restart:
//! what is still bad is told again by the next process.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Alerts, Channel, Notice, metrics};

/// Messages that wait for one channel at most.
const WAITING: usize = 64;

/// How often a message is tried.
const ATTEMPTS: u32 = 3;

/// The wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tasks that send. Dropping it ends them at once; [`finish`](Self::finish) lets them
/// empty their queues.
#[derive(Debug)]
pub struct Dispatcher {
    queues: Vec<(&'static str, mpsc::Sender<Arc<Notice>>)>,
    tasks: JoinSet<()>,
}

impl Dispatcher {
    /// Starts a task for each channel. Needs a tokio runtime.
    #[must_use]
    pub fn start(channels: Vec<Arc<dyn Channel>>) -> Self {
        let mut tasks = JoinSet::new();
        let queues = channels
            .into_iter()
            .map(|channel| {
                let (sender, mut waiting) = mpsc::channel::<Arc<Notice>>(WAITING);
                let name = channel.name();
                tasks.spawn(async move {
                    while let Some(notice) = waiting.recv().await {
                        carry(&*channel, &notice).await;
                    }
                });
                (name, sender)
            })
            .collect();
        Self { queues, tasks }
    }

    /// Gives a message to every channel, without waiting.
    pub fn tell(&self, notice: Notice) {
        let notice = Arc::new(notice);
        for (name, queue) in &self.queues {
            if queue.try_send(Arc::clone(&notice)).is_err() {
                metrics::told(name, "dropped");
                tracing::warn!(channel = name, alert = notice.alert, "alert dropped");
            }
        }
    }

    /// Waits until what was told is sent or given up, for at most `within`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what was not sent.
    pub async fn finish(mut self, within: Duration) {
        self.queues.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(within, all).await.is_err() {
            tracing::warn!("the last alerts were not sent");
        }
    }
}

async fn carry(channel: &dyn Channel, notice: &Notice) {
    let (name, mut wait) = (channel.name(), FIRST_WAIT);
    for attempt in 1..=ATTEMPTS {
        let detail = match timeout(PATIENCE, channel.send(notice)).await {
            Ok(Ok(())) => return metrics::told(name, "sent"),
            Ok(Err(error)) if !error.is_retryable() => {
                tracing::warn!(channel = name, alert = notice.alert, %error, "alert not sent");
                return metrics::told(name, "failed");
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        tracing::warn!(
            channel = name,
            alert = notice.alert,
            attempt,
            detail,
            "alert not sent"
        );
        if attempt < ATTEMPTS {
            sleep(wait).await;
            wait *= 2;
        }
    }
    metrics::told(name, "failed");
}

/// Reads, evaluates and tells every `every` until it is cancelled; then sends what waits,
/// for at most five seconds. `read` gives the readings of a moment by rule name.
pub async fn watch<R>(
    mut alerts: Alerts,
    dispatcher: Dispatcher,
    every: Duration,
    mut read: impl FnMut() -> R,
    stop: CancellationToken,
) where
    R: Fn(&str) -> Option<f64>,
{
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = tokio::time::Instant::now().into_std();
        for notice in alerts.evaluate(now, OffsetDateTime::now_utc(), read()) {
            tracing::warn!(
                alert = notice.alert,
                state = notice.state.label(),
                value = notice.value,
                limit = notice.bound.limit(),
                "alert"
            );
            dispatcher.tell(notice);
        }
        let firing: Vec<&str> = alerts.firing().map(|rule| rule.name.as_str()).collect();
        for rule in alerts.rules() {
            metrics::firing(&rule.name, firing.contains(&rule.name.as_str()));
        }
    }
    dispatcher.finish(Duration::from_secs(5)).await;
}
