//! A transport that a server cannot abuse: what it may send unasked is bounded, and what it
//! does not read does not pile up.
//!
//! Invariant: more than [`UNASKED`] requests and notifications within [`WINDOW`], or a
//! message that cannot be written within the time, ends the connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Requests and notifications of a server in one window.
const UNASKED: u32 = 2_000;
const WINDOW: Duration = Duration::from_secs(10);
/// Messages that wait to be written.
const MAX_WRITING: usize = 2_048;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError<E: std::error::Error + 'static> {
    #[error("write to the server")]
    Transport(#[source] E),
    #[error("write to a server that does not read")]
    Stuck,
}

/// Counts what comes unasked. Pure.
#[derive(Debug, Default)]
struct Flood {
    since: Option<Instant>,
    count: u32,
}

impl Flood {
    /// Counts one message, and says whether it is one too many.
    fn one_more(&mut self, now: Instant) -> bool {
        match self.since {
            Some(since) if now.duration_since(since) < WINDOW => self.count += 1,
            _ => (self.since, self.count) = (Some(now), 1),
        }
        self.count > UNASKED
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    inner: T,
    /// How long writing a message may take; `None` where that is the answer's own time.
    write: Option<Duration>,
    writing: Arc<AtomicUsize>,
    broken: CancellationToken,
    flood: Flood,
    _ended: DropGuard,
}

impl<T> Guarded<T> {
    /// `ended` is cancelled when the connection is over.
    pub(crate) fn new(inner: T, write: Option<Duration>, ended: CancellationToken) -> Self {
        Self {
            inner,
            write,
            writing: Arc::default(),
            broken: CancellationToken::new(),
            flood: Flood::default(),
            _ended: ended.drop_guard(),
        }
    }
}

/// One message that is being written.
struct Writing(Arc<AtomicUsize>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Guarded<T> {
    type Error = SendError<T::Error>;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let before = self.writing.fetch_add(1, Ordering::Relaxed);
        let writing = Writing(Arc::clone(&self.writing));
        let send = (before < MAX_WRITING).then(|| self.inner.send(message));
        let (within, broken) = (self.write, self.broken.clone());
        async move {
            let _writing = writing;
            let Some(send) = send else {
                broken.cancel();
                return Err(SendError::Stuck);
            };
            let sent = match within {
                Some(within) => tokio::time::timeout(within, send).await,
                None => Ok(send.await),
            };
            match sent {
                Ok(sent) => sent.map_err(SendError::Transport),
                Err(_) => {
                    broken.cancel();
                    Err(SendError::Stuck)
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self
            .broken
            .run_until_cancelled(self.inner.receive())
            .await??;
        let unasked = matches!(
            message,
            RxJsonRpcMessage::<RoleClient>::Request(_)
                | RxJsonRpcMessage::<RoleClient>::Notification(_)
        );
        if unasked && self.flood.one_more(Instant::now()) {
            tracing::warn!("the server sends too much unasked; the connection is closed");
            self.broken.cancel();
            return None;
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await.map_err(SendError::Transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_what_comes_too_fast() {
        let mut flood = Flood::default();
        let start = Instant::now();
        assert!((0..UNASKED).all(|_| !flood.one_more(start)));
        assert!(flood.one_more(start + WINDOW / 2));
        assert!(!flood.one_more(start + WINDOW));
    }
}
