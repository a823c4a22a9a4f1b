//! Compression of answers, for clients that ask for it.
//!
//! Invariant: only what is whole is compressed: events of a stream go out as they come. What
//! an attacker may learn from lengths (BREACH) needs a browser that sends credentials by
//! itself; here keys are in headers that a foreign page does not have.

use std::{convert::Infallible, future::ready};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use http::{HeaderValue, header};
use http_body::Body as _;
use tower::{ServiceExt, service_fn};
use tower_http::compression::Compression;

/// Less than about one packet gains nothing.
const SMALLEST: u64 = 1_024;

/// gzip, brotli or zstd, whichever the client likes best. Nothing stays of it around an answer
/// that it leaves as it is: an encoder has room for all three.
pub(crate) async fn compress(request: Request, next: Next) -> Response {
    let mut asked = Request::new(Body::empty());
    for accepted in request.headers().get_all(header::ACCEPT_ENCODING) {
        asked
            .headers_mut()
            .append(header::ACCEPT_ENCODING, accepted.clone());
    }
    let response = next.run(request).await;
    if !is_whole(&response) {
        return response;
    }
    let mut answered = Some(response);
    let answer = service_fn(move |_: Request| {
        ready(Ok::<_, Infallible>(answered.take().unwrap_or_default()))
    });
    match Compression::new(answer).oneshot(asked).await {
        Ok(response) => weaken(response.map(Body::new)),
        Err(never) => match never {},
    }
}

/// Whether it is a text whose length is known.
fn is_whole(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_text = kind.starts_with("text/") || kind.ends_with("json") || kind == "image/svg+xml";
    let size = response.body().size_hint().exact();
    is_text && size.is_some_and(|size| size >= SMALLEST)
}

/// A strong tag promises the same bytes, which compression changes: RFC 9110, section 8.8.3.3.
fn weaken(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if headers.contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = headers.get(header::ETAG)
        && tag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::try_from([b"W/", tag.as_bytes()].concat())
    {
        headers.insert(header::ETAG, weak);
    }
    response
}
