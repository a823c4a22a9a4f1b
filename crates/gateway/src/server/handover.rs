//! Event streams of HTTP/1.1, written without hyper.
//!
//! hyper keeps its buffers, about 25 KB, for as long as a connection lives, which ten thousand
//! streams that wait would hold 250 MB of. So a connection is taken from hyper when the head
//! of an event stream is known, its chunks are written here, and hyper gets the connection
//! back for what is asked next. Invariant: only a connection is taken whose request was read
//! to its end and whose earlier answers were written to theirs, so that nothing is lost and
//! nothing taken for another request. Deliberately absent: trailers, which no event stream has.

use std::{
    io::{self, Write as _},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::SystemTime,
};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of what is asked next that are read while a stream is written.
const AHEAD: usize = 4_096;

/// Bytes that are gathered before they are written, where the stream has as many at once.
const GATHERED: usize = 16_384;

/// Whether the connection may be taken for the answer to a request.
#[derive(Debug)]
pub(super) struct Claim {
    keeps_open: bool,
    is_read: Arc<AtomicBool>,
}

impl Claim {
    /// Looks at a request, and follows its body; nothing where no answer to it may be taken.
    pub(super) fn of(request: Request<Incoming>) -> (Request<Body>, Option<Self>) {
        let is_plain = request.version() == Version::HTTP_11 && request.method() != Method::HEAD;
        // With `Content-Length` beside it the connection has to be closed (RFC 9112, section 6.1),
        // and hyper has removed that field.
        let keeps_open = !says(request.headers(), "close")
            && !request.headers().contains_key(header::TRANSFER_ENCODING);
        if !is_plain {
            return (request.map(Body::new), None);
        }
        let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let claim = Self {
            keeps_open,
            is_read: Arc::clone(&is_read),
        };
        let request = request.map(|body| {
            Body::new(Followed {
                body,
                is_read,
                failed: false,
            })
        });
        (request, Some(claim))
    }

    /// Whether the answer is a stream of events that is to be written here.
    pub(super) fn covers(&self, response: &Response<Body>) -> bool {
        let headers = response.headers();
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        response.status() == StatusCode::OK
            && kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
            && !headers.contains_key(header::CONTENT_LENGTH)
            && !headers.contains_key(header::TRANSFER_ENCODING)
            && self.is_read.load(Ordering::Acquire)
    }
}

/// Whether one of the values of `Connection` is this.
fn says(headers: &HeaderMap, word: &str) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(word))
}

pin_project! {
    /// A request's body; says when it was read to its end.
    struct Followed {
        #[pin]
        body: Incoming,
        is_read: Arc<AtomicBool>,
        failed: bool,
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut this = self.project();
        let polled = ready!(this.body.as_mut().poll_frame(context));
        let is_end = match &polled {
            None => true,
            Some(Ok(_)) => this.body.is_end_stream(),
            Some(Err(_)) => {
                *this.failed = true;
                false
            }
        };
        if is_end && !*this.failed {
            this.is_read.store(true, Ordering::Release);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An event stream to be written, and what is known of its request.
pub(super) type Answer = (Response<Body>, Claim);

/// Where an answer waits to be written here, while hyper still has the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Handed(Arc<Mutex<Option<Answer>>>);

impl Handed {
    pub(super) fn put(&self, response: Response<Body>, claim: Claim) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((response, claim));
    }

    pub(super) fn take(&self) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A connection whose first bytes were read already.
pub(super) struct Line<I> {
    ahead: Bytes,
    io: I,
    blocked: Blocked,
}

/// Whether the client has yet to take something that was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocked(Arc<AtomicBool>);

impl Blocked {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.0.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl<I> Line<I> {
    pub(super) fn new(ahead: Bytes, io: I) -> Self {
        Self {
            ahead,
            io,
            blocked: Blocked::default(),
        }
    }

    pub(super) fn blocked(&self) -> Blocked {
        self.blocked.clone()
    }

    /// The connection, and what was read of it and not used yet: `read` by whoever used this,
    /// and the rest of what was given.
    pub(super) fn into_parts(self, read: Bytes) -> (Bytes, I) {
        let ahead = match (read.is_empty(), self.ahead.is_empty()) {
            (_, true) => read,
            (true, false) => self.ahead,
            (false, false) => [read, self.ahead].concat().into(),
        };
        (ahead, self.io)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Line<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let taken = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Line<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, data);
        self.blocked.set(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(context);
        self.blocked.set(polled)
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
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, data);
        self.blocked.set(polled)
    }
}

/// Writes a stream of events to its end: chunks as RFC 9112, section 7.1, has them.
///
/// Gives what the client has sent meanwhile, for whoever serves the connection next, or
/// nothing where the client was told that the connection closes, as it is without `may_keep_open`.
///
/// # Errors
///
/// What the connection said, [`io::ErrorKind::UnexpectedEof`] where the client left, and
/// [`io::ErrorKind::Other`] where the stream failed: the connection is to be closed then,
/// so that the client sees that the answer is not whole.
///
/// # Cancel safety
///
/// Dropping the future drops the stream's source; the connection is of no use then.
pub(super) async fn write<I>(
    io: &mut I,
    ahead: Bytes,
    (response, claim): Answer,
    may_keep_open: bool,
) -> io::Result<Option<Bytes>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let keeps_open = may_keep_open && claim.keeps_open && !says(response.headers(), "close");
    let read = BytesMut::from(&ahead[..]);
    // Though empty, it may hold hyper's whole buffer.
    drop(ahead);
    let mut stream = Stream {
        io,
        out: head(&response, keeps_open)?,
        body: Some(response.into_body()),
        failure: None,
        is_flushed: false,
        ahead: read,
    };
    std::future::poll_fn(|context| stream.poll(context)).await?;
    Ok(keeps_open.then(|| stream.ahead.freeze()))
}

/// The status line and the fields (RFC 9112, sections 4 and 5).
fn head(response: &Response<Body>, keeps_open: bool) -> io::Result<BytesMut> {
    let status = response.status();
    let mut head = Vec::with_capacity(512);
    let reason = status.canonical_reason().unwrap_or_default();
    write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_u16())?;
    for (name, value) in response.headers() {
        if name != header::CONNECTION {
            field(&mut head, name.as_str(), value.as_bytes());
        }
    }
    if !response.headers().contains_key(header::DATE) {
        let date = httpdate::fmt_http_date(SystemTime::now());
        field(&mut head, "date", date.as_bytes());
    }
    if !keeps_open {
        field(&mut head, "connection", b"close");
    }
    field(&mut head, "transfer-encoding", b"chunked");
    head.extend_from_slice(b"\r\n");
    Ok(BytesMut::from(&head[..]))
}

fn field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// A stream being written.
struct Stream<'i, I> {
    io: &'i mut I,
    /// What is to be written; it holds no memory while the stream is silent.
    out: BytesMut,
    /// Where the rest comes from.
    body: Option<Body>,
    /// Why there is no rest.
    failure: Option<io::Error>,
    is_flushed: bool,
    ahead: BytesMut,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Stream<'_, I> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.body.is_some() {
            self.listen(context)?;
        }
        loop {
            let is_more = self.gather(context);
            while !self.out.is_empty() {
                let written = ready!(Pin::new(&mut *self.io).poll_write(context, &self.out))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.out.advance(written);
                self.is_flushed = false;
            }
            self.out = BytesMut::new();
            if !self.is_flushed {
                ready!(Pin::new(&mut *self.io).poll_flush(context))?;
                self.is_flushed = true;
            }
            if self.body.is_none() {
                return Poll::Ready(self.failure.take().map_or(Ok(()), Err));
            }
            if !is_more {
                return Poll::Pending;
            }
        }
    }

    /// Gathers what the source has; whether it may have more at once.
    fn gather(&mut self, context: &mut Context<'_>) -> bool {
        while self.out.len() < GATHERED {
            let Some(body) = &mut self.body else {
                return false;
            };
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap_or_default();
                    if !data.is_empty() {
                        let size = format!("{:x}\r\n", data.len());
                        self.out.reserve(size.len() + data.len() + 2);
                        self.out.extend_from_slice(size.as_bytes());
                        self.out.extend_from_slice(&data);
                        self.out.extend_from_slice(b"\r\n");
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.body = None;
                    self.failure = Some(io::Error::other(error));
                }
                Poll::Ready(None) => {
                    self.body = None;
                    self.out.extend_from_slice(b"0\r\n\r\n");
                }
            }
        }
        true
    }

    /// Notices that the client leaves, and keeps a little of what it says otherwise.
    fn listen(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.ahead.len() < AHEAD {
            let mut piece = [0; 512];
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut *self.io).poll_read(context, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
        Ok(())
    }
}
