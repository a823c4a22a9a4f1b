//! Reading from a process no faster than it makes sense, so that one that writes for ever
//! waits for us rather than keeping a core busy.
//!
//! Invariant: within any second at most [`BURST`] bytes are read.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Bytes read in one second.
const BURST: usize = 32 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Paced<R> {
    inner: R,
    since: Instant,
    read: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<R> Paced<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            since: Instant::now(),
            read: 0,
            pause: None,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Paced<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let now = Instant::now();
        if now.duration_since(self.since) >= SECOND {
            (self.since, self.read) = (now, 0);
        }
        self.read += buf.filled().len() - before;
        if self.read >= BURST {
            self.pause = Some(Box::pin(sleep_until(self.since + SECOND)));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_endless_writer_is_slowed() {
        let start = Instant::now();
        let mut reader = Paced::new(tokio::io::repeat(0));
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..100 {
            reader.read_exact(&mut buffer).await.unwrap();
        }
        let took = start.elapsed().as_secs_f64();
        assert!((3.0..3.5).contains(&took), "{took}");
    }
}
