//! Compression of answers, for clients that ask for it.
//!
//! Invariant: only what is whole is compressed: events of a stream go out as they come. What
//! an attacker may learn from lengths (BREACH) needs a browser that sends credentials by
//! itself; here keys are in headers that a foreign page does not have.

use axum::response::Response;
use http::{HeaderValue, header};
use http_body::Body;
use tower_http::compression::{CompressionLayer, Predicate};

/// Less than about one packet gains nothing.
const SMALLEST: u64 = 1_024;

/// gzip, brotli or zstd, whichever the client likes best.
pub(crate) fn layer() -> CompressionLayer<Whole> {
    CompressionLayer::new().compress_when(Whole)
}

/// Texts whose length is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole;

impl Predicate for Whole {
    fn should_compress<B: Body>(&self, response: &http::Response<B>) -> bool {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let is_text =
            kind.starts_with("text/") || kind.ends_with("json") || kind == "image/svg+xml";
        let size = response.body().size_hint().exact();
        is_text && size.is_some_and(|size| size >= SMALLEST)
    }
}

/// A strong tag promises the same bytes, which compression changes: RFC 9110, section 8.8.3.3.
pub(crate) async fn weaken(mut response: Response) -> Response {
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
