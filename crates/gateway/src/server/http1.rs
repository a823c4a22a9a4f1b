//! A connection of HTTP/1.1: hyper, and between its rounds the event streams.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    select,
};

use super::{
    connection::{Bounded, BoxError, MIN_BUFFER, Manner, bounded, introduce},
    handover::{self, Answer, Blocked, Claim, Handed, Line},
    watch::Activity,
};
use crate::{
    config::{LONGEST, ServerConfig},
    edge::address::Peer,
};

/// Serves a connection until it closes, is too slow, or was asked to finish and did.
pub(super) async fn speak<I>(
    manner: &Manner,
    io: I,
    peer: Peer,
    is_encrypted: bool,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut io = bounded(io, manner.config);
    let mut ahead = Bytes::new();
    loop {
        let line = Line::new(ahead, io);
        // Boxed, so that hyper's share is given back while a stream is written.
        let round = Box::pin(round(manner, line, peer, is_encrypted)).await?;
        let Some((read, taken, stream)) = round else {
            return Ok(());
        };
        io = taken;
        let may_keep_open = !manner.finish.is_cancelled();
        match handover::write(&mut io, read, stream, may_keep_open).await? {
            Some(read) if !manner.finish.is_cancelled() => ahead = read,
            _ => return Ok(io.shutdown().await?),
        }
    }
}

/// What is to be written, with the connection and what was read of it beyond the request.
type Stream<I> = (Bytes, Bounded<I>, Answer);

/// Lets hyper serve the connection until it closes or an event stream is to be written.
async fn round<I>(
    manner: &Manner,
    line: Line<Bounded<I>>,
    peer: Peer,
    is_encrypted: bool,
) -> Result<Option<Stream<I>>, BoxError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let gateway = manner.gateway.clone();
    let activity = Activity::new();
    let watched = Arc::clone(&activity);
    let handed = Handed::default();
    let (given, blocked) = (handed.clone(), line.blocked());
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = watched.begin();
        let (mut request, claim) = Claim::of(request);
        introduce(&mut request, peer, is_encrypted);
        let answered = gateway.answer(request);
        let given = given.clone();
        // Boxed, because hyper keeps room for it as long as the connection lives, most of which
        // is spent between requests.
        Box::pin(async move {
            let response = answered.await;
            drop(busy);
            match claim {
                Some(claim) if claim.covers(&response) => {
                    given.put(response, claim);
                    pending().await
                }
                _ => Ok::<_, Infallible>(response),
            }
        })
    });
    let builder = builder(manner.config);
    let connection = builder.serve_connection(TokioIo::new(line), service);
    let mut connection = connection.with_upgrades();
    let first = async {
        tokio::time::sleep(manner.config.header_read.min(LONGEST)).await;
        // Between requests hyper watches over the connection.
        if !activity.is_untouched() {
            pending::<()>().await;
        }
    };
    let stream = select! {
        turn = turn(&mut connection, &handed, &blocked) => turn?,
        () = first => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        () = manner.finish.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            turn(&mut connection, &handed, &blocked).await?
        }
    };
    let (Some(stream), Some(parts)) = (stream, connection.into_parts()) else {
        return Ok(None);
    };
    let (read, io) = parts.io.into_inner().into_parts(parts.read_buf);
    Ok(Some((read, io, stream)))
}

/// Waits until the connection ended or an event stream is to be written.
async fn turn(
    mut connection: impl Future<Output = hyper::Result<()>> + Unpin,
    handed: &Handed,
    blocked: &Blocked,
) -> hyper::Result<Option<Answer>> {
    poll_fn(|context| match Pin::new(&mut connection).poll(context) {
        Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
        // What hyper has yet to write would be lost with its buffer.
        Poll::Pending if blocked.get() => Poll::Pending,
        Poll::Pending => match handed.take() {
            Some(stream) => Poll::Ready(Ok(Some(stream))),
            None => Poll::Pending,
        },
    })
    .await
}

/// hyper, within limits.
pub(super) fn builder(config: ServerConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read.min(LONGEST))
        .max_header_size(config.header_bytes)
        .max_buf_size(config.buffer_bytes.max(MIN_BUFFER));
    builder
}
