//! The port of hints, by the server's NOTIFY.
//!
//! Invariant: one connection of its own listens for this process, from the first listener on, and
//! is made again when it is lost. A hint is a transaction of its own: the server lets one
//! transaction with a hint commit at a time, and this one has nothing to write to the disk.
//! Deliberately absent: hints from while the connection was away.

use std::{sync::OnceLock, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future::poll_fn, stream::BoxStream};
use lyceum_core::Hints;
use tokio::sync::broadcast;
use tokio_postgres::{AsyncMessage, Config, Error, NoTls};
use tokio_util::task::AbortOnDropHandle;

use crate::{PostgresStore, pool::Held};

/// The name under which the server passes hints on.
const CHANNEL: &str = "lyceum_hint";

const TELL: &str = "SELECT pg_notify($1, $2)";

/// How many hints wait for a listener that is slow.
const WAITING: usize = 1_024;

/// The pause before a lost connection is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// Passes on what the server tells this process.
#[derive(Debug)]
pub(crate) struct Ear {
    config: Config,
    heard: broadcast::Sender<String>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Ear {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            heard: broadcast::Sender::new(WAITING),
            task: OnceLock::new(),
        }
    }

    /// How the database is reached.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    fn open(&self) -> broadcast::Receiver<String> {
        let receiver = self.heard.subscribe();
        self.task.get_or_init(|| {
            let (config, heard) = (self.config.clone(), self.heard.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    if let Err(error) = listen(&config, &heard).await {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(error, "the database tells no news for now");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }))
        });
        receiver
    }
}

/// Listens until the connection ends.
async fn listen(config: &Config, heard: &broadcast::Sender<String>) -> Result<(), Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let messages = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(hint) = message? {
                // Nobody may listen just now.
                let _listeners = heard.send(hint.payload().to_owned());
            }
        }
        Ok(())
    };
    let asked = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        std::future::pending::<Result<(), Error>>().await
    };
    tokio::select! {
        ended = messages => ended,
        refused = asked => refused,
    }
}

#[async_trait]
impl Hints for PostgresStore {
    async fn tell(&self, topic: &str) {
        let told = self.call_once("tell_hint", |session: Held| async move {
            session.query(TELL, &[&CHANNEL, &topic]).await?;
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a hint is lost");
        }
    }

    fn hear(&self) -> BoxStream<'static, String> {
        let heard = futures_util::stream::unfold(self.ear().open(), async |mut receiver| {
            loop {
                match receiver.recv().await {
                    Ok(topic) => return Some((topic, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        heard.boxed()
    }
}
