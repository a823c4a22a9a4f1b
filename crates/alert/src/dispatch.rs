//! Carries notices to the channels, and the loop that evaluates.
//!
//! Invariant: each channel has an outbox and a task of its own, so that one which is away holds
//! up no other; what it does not take is tried again until it does, or the alert is over, or a
//! day has passed. Deliberately absent: keeping messages over a restart: what is still bad is
//! told again by the next process.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Alerts, Channel, Notice, metrics,
    outbox::{Left, MOST, Next, Outbox},
};

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tasks that send. Dropping it ends them at once; [`finish`](Self::finish) lets them
/// try what waits once more.
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
                let (sender, inbox) = mpsc::channel::<Arc<Notice>>(MOST);
                let name = channel.name();
                tasks.spawn(work(channel, inbox));
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
                left(name, &notice, Left::Dropped);
            }
        }
    }

    /// Waits until what was told is sent or has failed once more, for at most `within`.
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

fn left(name: &'static str, notice: &Notice, how: Left) {
    metrics::told(name, how.label());
    // What is replaced is told, only later and as it is by then.
    if how != Left::Replaced {
        let how = how.label();
        tracing::warn!(channel = name, alert = notice.alert, how, "alert not sent");
    }
}

/// Sends what comes until nobody can tell anything any more.
async fn work(channel: Arc<dyn Channel>, mut inbox: mpsc::Receiver<Arc<Notice>>) {
    let (name, mut outbox) = (channel.name(), Outbox::default());
    loop {
        let now = Instant::now().into_std();
        while let Some((notice, how)) = outbox.expire(now) {
            left(name, &notice, how);
        }
        metrics::waiting(name, outbox.len());
        let came = match outbox.next(now) {
            Next::Send(notice) => {
                match attempt(&*channel, &notice).await {
                    Attempt::Over => outbox.done(&notice),
                    Attempt::Later(detail) => {
                        metrics::told(name, "retried");
                        let wait = outbox.failed(&notice, Instant::now().into_std());
                        let alert = &notice.alert;
                        tracing::warn!(channel = name, alert, ?wait, detail, "alert not sent yet");
                    }
                }
                continue_with(&mut inbox)
            }
            Next::Wait(until) => tokio::select! {
                came = inbox.recv() => Some(came),
                () = sleep_until(until.into()) => None,
            },
            Next::Idle => Some(inbox.recv().await),
        };
        match came {
            Some(Some(notice)) => {
                if let Some((notice, how)) = outbox.put(notice, Instant::now().into_std()) {
                    left(name, &notice, how);
                }
            }
            Some(None) => break,
            None => {}
        }
    }
    for notice in outbox.drain() {
        if let Attempt::Later(detail) = attempt(&*channel, &notice).await {
            metrics::told(name, "failed");
            tracing::warn!(
                channel = name,
                alert = notice.alert,
                detail,
                "alert not sent"
            );
        }
    }
    metrics::waiting(name, 0);
}

/// What has come already: a message, the end, or nothing yet.
fn continue_with(inbox: &mut mpsc::Receiver<Arc<Notice>>) -> Option<Option<Arc<Notice>>> {
    match inbox.try_recv() {
        Ok(notice) => Some(Some(notice)),
        Err(mpsc::error::TryRecvError::Disconnected) => Some(None),
        Err(mpsc::error::TryRecvError::Empty) => None,
    }
}

/// How an attempt went.
enum Attempt {
    /// It was sent, or never will be; both are counted.
    Over,
    /// The same message may be taken later.
    Later(String),
}

async fn attempt(channel: &dyn Channel, notice: &Notice) -> Attempt {
    let name = channel.name();
    match timeout(PATIENCE, channel.send(notice)).await {
        Ok(Ok(())) => metrics::told(name, "sent"),
        Ok(Err(error)) if !error.is_retryable() => {
            tracing::warn!(channel = name, alert = notice.alert, %error, "alert not sent");
            metrics::told(name, "failed");
        }
        Ok(Err(error)) => return Attempt::Later(error.to_string()),
        Err(_) => return Attempt::Later("it took too long".to_owned()),
    }
    Attempt::Over
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
