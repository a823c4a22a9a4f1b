//! One connection: HTTP/1.1 by hyper, within limits.
//!
//! Invariant: a client that sends its headers slowly, stays idle, or does not read is
//! cut off in bounded time.

use std::{convert::Infallible, pin::pin, sync::atomic::Ordering};

use axum::{body::Body, response::IntoResponse};
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{LONGEST, ServerConfig},
    edge::address::Peer,
    error::ApiError,
    gateway::Gateway,
    metrics::CONNECTIONS,
};

/// hyper's own lower bound for a connection's buffer.
const MIN_BUFFER: usize = 8_192;

/// Serves a connection until it closes, is too slow, or was asked to `finish` and did.
pub(super) async fn serve<I>(
    gateway: Gateway,
    config: ServerConfig,
    io: I,
    peer: Peer,
    finish: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = OpenConnection::new(gateway.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let answered = gateway.answer(request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http(config).serve_connection(bounded(io, config), service);
    let mut connection = pin!(connection.with_upgrades());
    let ended = select! {
        ended = &mut connection => ended,
        () = finish.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
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
    let connection = http(config).serve_connection(bounded(io, config), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "refused connection ended");
    }
}

fn http(config: ServerConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read.min(LONGEST))
        .max_header_size(config.header_bytes)
        .max_buf_size(config.buffer_bytes.max(MIN_BUFFER));
    builder
}

fn bounded<I: AsyncRead + AsyncWrite>(
    io: I,
    config: ServerConfig,
) -> TokioIo<std::pin::Pin<Box<TimeoutWriter<I>>>> {
    let mut io = TimeoutWriter::new(io);
    io.set_timeout(Some(config.write_stall.min(LONGEST)));
    TokioIo::new(Box::pin(io))
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
