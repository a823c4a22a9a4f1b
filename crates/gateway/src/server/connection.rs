//! One connection: TLS or not, HTTP/1.1 or HTTP/2, within limits.
//!
//! Invariant: a client that sends its headers slowly, stays idle, or does not read is
//! cut off in bounded time, whatever it speaks.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::IntoResponse};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    select,
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    http1, proxied,
    sniff::{Prefixed, Protocol, sniff},
    watch::{Activity, Patience},
};
use crate::{
    config::{LONGEST, ServerConfig},
    edge::address::{Encrypted, Peer},
    error::ApiError,
    gateway::Gateway,
    metrics::CONNECTIONS,
};

/// hyper's own lower bound for a connection's buffer.
pub(super) const MIN_BUFFER: usize = 8_192;

/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;

/// Streams that a client of HTTP/2 opened and reset before they were looked at; one more ends
/// the connection (CVE-2023-44487, "rapid reset").
const RESET_STREAMS: usize = 20;

/// Streams that were reset because of the client's own errors, likewise (CVE-2025-8671).
const FAULTY_STREAMS: usize = 100;

/// How long a connection of HTTP/2 that is asked to end may write nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a connection is served.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) gateway: Gateway,
    pub(super) config: ServerConfig,
    pub(super) tls: Option<TlsAcceptor>,
    /// Asks the connection to end with what is under way.
    pub(super) finish: CancellationToken,
}

/// Serves a connection until it closes, is too slow, or was asked to finish and did.
pub(super) async fn serve<I>(manner: Box<Manner>, io: I, peer: Peer)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = OpenConnection::new(manner.gateway.clone());
    // Boxed, because what comes first is large and soon over, while connections stay for long.
    let ended = match Box::pin(begin(&manner, io, peer)).await {
        Ok(Begun::Clear(protocol, io, peer)) => speak(&manner, protocol, io, peer, false).await,
        Ok(Begun::Encrypted(protocol, io, peer)) => speak(&manner, protocol, io, peer, true).await,
        Ok(Begun::Finished) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection of which is known who speaks, and what.
enum Begun<I> {
    Clear(Protocol, Prefixed<I>, Peer),
    Encrypted(Protocol, Box<TlsStream<I>>, Peer),
    /// It was asked to finish before it had said anything, so there is nothing to finish.
    Finished,
}

/// Hears who speaks, where a proxy tells it, and what is spoken.
async fn begin<I>(manner: &Manner, mut io: I, mut peer: Peer) -> Result<Begun<I>, BoxError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let within = manner.config.header_read.min(LONGEST);
    let finish = &manner.finish;
    if manner.config.proxy_protocol && manner.gateway.app().proxies.trusts(peer) {
        let told = timeout(within, proxied::client(&mut io, peer));
        let Some(told) = finish.run_until_cancelled(told).await else {
            return Ok(Begun::Finished);
        };
        peer = told??;
    }
    let Some(acceptor) = &manner.tls else {
        let begun = timeout(within, sniff(io));
        let Some(begun) = finish.run_until_cancelled(begun).await else {
            return Ok(Begun::Finished);
        };
        let (protocol, io) = begun??;
        return Ok(Begun::Clear(protocol, io, peer));
    };
    let begun = timeout(within, acceptor.accept(io));
    let Some(begun) = finish.run_until_cancelled(begun).await else {
        return Ok(Begun::Finished);
    };
    let io = Box::new(begun??);
    let protocol = match io.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok(Begun::Encrypted(protocol, io, peer))
}

/// Boxed, because most connections are of one kind and wait.
fn speak<I>(
    manner: &Manner,
    protocol: Protocol,
    io: I,
    peer: Peer,
    is_encrypted: bool,
) -> BoxFuture<'_, Result<(), BoxError>>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match protocol {
        Protocol::Http1 => Box::pin(http1::speak(manner, io, peer, is_encrypted)),
        Protocol::Http2 => Box::pin(http2_until_closed(manner, io, peer, is_encrypted)),
    }
}

async fn http2_until_closed<I>(
    manner: &Manner,
    io: I,
    peer: Peer,
    is_encrypted: bool,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let gateway = manner.gateway.clone();
    let activity = Activity::new();
    let watched = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = watched.begin();
        let mut request = request.map(Body::new);
        introduce(&mut request, peer, is_encrypted);
        let answered = gateway.answer(request);
        async move { Ok::<_, Infallible>(answered.await.map(|body| busy.watch(body))) }
    });
    let config = manner.config;
    let written = Arc::new(AtomicU64::new(0));
    let io = Counted {
        io,
        written: Arc::clone(&written),
    };
    let connection = http2(config).serve_connection(TokioIo::new(bounded(io, config)), service);
    let mut connection = pin!(connection);
    let patience = Patience {
        idle: config.header_read.min(LONGEST),
        stalled: config.write_stall.min(LONGEST),
    };
    let mut exhausted = pin!(activity.exhausted(patience));
    select! {
        ended = &mut connection => return Ok(ended?),
        verdict = &mut exhausted => {
            tracing::debug!(?verdict, "a connection of HTTP/2 is to end");
            connection.as_mut().graceful_shutdown();
        }
        () = manner.finish.cancelled() => {
            connection.as_mut().graceful_shutdown();
            select! {
                ended = &mut connection => return Ok(ended?),
                _ = &mut exhausted => {}
            }
        }
    }
    let last = say_goodbye(connection, &written);
    timeout(patience.stalled, last).await?
}

/// Says of a request where it comes from.
pub(super) fn introduce(request: &mut Request<Body>, peer: Peer, is_encrypted: bool) {
    request.extensions_mut().insert(peer);
    if is_encrypted {
        request.extensions_mut().insert(Encrypted);
    }
}

/// Lets a connection end by itself as long as it still writes.
async fn say_goodbye(
    mut connection: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    written: &AtomicU64,
) -> Result<(), BoxError> {
    loop {
        let before = written.load(Ordering::Relaxed);
        match timeout(LAST_WORDS, &mut connection).await {
            Ok(ended) => return Ok(ended?),
            Err(silent) if written.load(Ordering::Relaxed) == before => return Err(silent.into()),
            Err(_) => {}
        }
    }
}

/// Answers the first request of a connection beyond the limit with 503 and closes it.
pub(super) async fn refuse<I>(config: ServerConfig, io: I)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(async |_: Request<Incoming>| {
        let mut response: Response<Body> = ApiError::Busy.into_response();
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        Ok::<_, Infallible>(response)
    });
    let io = TokioIo::new(bounded(io, config));
    if let Err(error) = http1::builder(config).serve_connection(io, service).await {
        tracing::debug!(%error, "refused connection ended");
    }
}

fn http2(config: ServerConfig) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let header_bytes = u32::try_from(config.header_bytes).unwrap_or(u32::MAX);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // The continuation frames of one header block are bounded by it too.
        .max_header_list_size(header_bytes)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(FAULTY_STREAMS)
        .max_send_buf_size(config.buffer_bytes.max(MIN_BUFFER))
        // A peer that is gone without a word is noticed though it sends nothing.
        .keep_alive_interval(config.header_read.clamp(Duration::from_secs(1), LONGEST))
        .keep_alive_timeout(config.write_stall.min(LONGEST));
    builder
}

/// A connection whose client may not be slow to take what is written for ever.
pub(super) type Bounded<I> = Pin<Box<TimeoutWriter<I>>>;

pub(super) fn bounded<I: AsyncRead + AsyncWrite>(io: I, config: ServerConfig) -> Bounded<I> {
    let mut io = TimeoutWriter::new(io);
    io.set_timeout(Some(config.write_stall.min(LONGEST)));
    Box::pin(io)
}

/// Counts what is written.
struct Counted<I> {
    io: I,
    written: Arc<AtomicU64>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, data);
        if let Poll::Ready(Ok(bytes)) = &polled {
            self.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Counts an open connection while it lives.
struct OpenConnection {
    gateway: Gateway,
    gauge: metrics::Gauge,
}

impl OpenConnection {
    fn new(gateway: Gateway) -> Self {
        gateway.app().connections.fetch_add(1, Ordering::Relaxed);
        let gauge = gauge!(CONNECTIONS);
        gauge.increment(1.0);
        Self { gateway, gauge }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gateway
            .app()
            .connections
            .fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1.0);
    }
}
