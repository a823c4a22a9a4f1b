//! Which version of HTTP a connection without TLS speaks.
//!
//! HTTP/2 begins with a preface that no request of HTTP/1.1 begins with (RFC 9113, section
//! 3.4), so a few bytes decide. hyper-util looks too, but waits for them without end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads as much as decides, and gives it back in front of the rest.
///
/// # Cancel safety
///
/// Dropping the future loses the bytes that were read: the connection is of no use then.
pub(super) async fn sniff<I>(mut io: I) -> io::Result<(Protocol, Prefixed<I>)>
where
    I: AsyncRead + Unpin,
{
    let (mut prefix, mut end) = ([0; PREFACE.len()], 0);
    let protocol = loop {
        let read = io.read(&mut prefix[end..]).await?;
        end += read;
        if read == 0 || !PREFACE.starts_with(&prefix[..end]) {
            break Protocol::Http1;
        }
        if end == PREFACE.len() {
            break Protocol::Http2;
        }
    };
    let io = Prefixed {
        prefix,
        at: 0,
        end,
        io,
    };
    Ok((protocol, io))
}

/// A connection that is read from the beginning again.
pub(super) struct Prefixed<I> {
    prefix: [u8; PREFACE.len()],
    at: usize,
    end: usize,
    io: I,
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.end - self.at;
        if left == 0 {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let taken = left.min(buffer.remaining());
        buffer.put_slice(&self.prefix[self.at..self.at + taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, data)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn spoken(parts: &[&[u8]]) -> (Protocol, Vec<u8>) {
        let (mut client, server) = duplex(64);
        let write = async {
            for part in parts {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let read = async {
            let (protocol, mut io) = sniff(server).await.unwrap();
            let mut all = Vec::new();
            io.read_to_end(&mut all).await.unwrap();
            (protocol, all)
        };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn the_preface_decides_and_nothing_is_lost() {
        for parts in [
            &[&b"GET / HTTP/1.1\r\n"[..]][..],
            &[b"P", b"OST / HTTP/1.1\r\n"],
            &[b"PR", b"OPFIND / HTTP/1.1\r\n"],
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"],
            &[],
        ] {
            let (protocol, all) = spoken(parts).await;
            assert_eq!((protocol, all), (Protocol::Http1, parts.concat()));
        }
        let parts: [&[u8]; 3] = [b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n", b"frames"];
        let (protocol, all) = spoken(&parts).await;
        assert_eq!((protocol, all), (Protocol::Http2, parts.concat()));
    }
}
