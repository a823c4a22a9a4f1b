//! Pages of other origins, where the operator names them.
//!
//! Invariant: an origin is compared whole and exactly; without a match nothing is said, and
//! the browser keeps the answer from the page. Credentials are never allowed: a page sends
//! its key itself. Source: the Fetch standard, section "CORS protocol".

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// What a page may read beside what the standard always lets it read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, ratelimit, ratelimit-policy, etag, \
     idempotency-replayed, x-lyceum-origin, content-location, location",
);

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// How long browsers may keep a permission, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The most bytes of header names that a preflight may ask for.
const MOST_NAMES: usize = 2_048;

/// An origin is not written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no origin such as \"https://app.example.org\": scheme, host and port, nothing else"
)]
pub struct OriginError {
    /// What was written.
    pub text: String,
}

/// The origins whose pages may call. By default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsOrigins(Vec<HeaderValue>);

impl CorsOrigins {
    /// Allows these origins, written as browsers send them: `https://app.example.org`.
    ///
    /// # Errors
    ///
    /// [`OriginError`] for what no browser sends, `*` and `null` included.
    pub fn new<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, OriginError> {
        let origins = origins.into_iter().map(|text| {
            let text = text.as_ref();
            let wrong = || OriginError {
                text: text.chars().take(200).collect(),
            };
            if !is_origin(text) {
                return Err(wrong());
            }
            HeaderValue::from_str(text).map_err(|_| wrong())
        });
        Ok(Self(origins.collect::<Result<_, _>>()?))
    }

    /// The origin of a request, where it is one of these.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.0.iter().find(|known| *known == origin).cloned()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says who may read the answer. Caches must know that it depends on the origin even
    /// where nobody may.
    pub(crate) fn write(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(origin) = allowed else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
    }
}

/// The answer to a browser that asks before it sends, for an allowed origin.
pub(crate) fn preflight(request: &Request) -> Option<Response> {
    let headers = request.headers();
    if request.method() != Method::OPTIONS
        || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // SDKs send headers of their own; without cookies none of them gives any authority.
    if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        && names.len() <= MOST_NAMES
    {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    Some(response)
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    matches!(scheme, "http" | "https")
        && !authority.as_str().contains('@')
        && text == format!("{scheme}://{authority}")
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_origins_are_taken() {
        for good in [
            "https://app.example.org",
            "http://localhost:3000",
            "http://[::1]:3000",
        ] {
            assert!(CorsOrigins::new([good]).is_ok(), "{good}");
        }
        for bad in [
            "*",
            "null",
            "",
            "app.example.org",
            "https://a.org/",
            "https://a.org/x",
            "HTTPS://a.org",
            "https://A.org",
            "ftp://a.org",
            "https://u@a.org",
        ] {
            assert!(CorsOrigins::new([bad]).is_err(), "{bad}");
        }
    }
}
