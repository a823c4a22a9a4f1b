//! Reading a JSON body: how large, how slow, how deep, and what it must hold.
//!
//! Invariant: no more than the limit is ever kept, whatever `Content-Length` says and
//! however little gzip made of it,
//! and nothing deeper than [`MAX_DEPTH`] reaches the parser, which therefore cannot
//! overflow the stack.

use std::io::{self, Write};

use axum::{body::Body, extract::Request};
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::{config::Limits, error::ApiError};

/// The deepest nesting taken. serde_json's own limit is the same, but it does not
/// hold inside fields that are skipped.
const MAX_DEPTH: usize = 128;

/// The most memory taken on a client's word alone, in bytes.
const MAX_RESERVED: usize = 16 << 10;

/// The most of a parser's message that is repeated to the client, in bytes.
const MAX_MESSAGE: usize = 300;

/// Reads and parses the body of a request.
///
/// # Errors
///
/// [`ApiError::MediaType`], what [`read`] gives, [`ApiError::Malformed`] for what is no JSON, and [`ApiError::Invalid`] with the
/// path for JSON of another shape.
pub(crate) async fn json<T: DeserializeOwned>(
    request: Request,
    limits: &Limits,
) -> Result<T, ApiError> {
    let (mut parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    parse(&read(&mut parts.headers, body, limits).await?)
}

/// Reads and parses the body of a request that must be an object. Types read their fields from
/// a list too, by their order, which is nobody's to know.
///
/// # Errors
///
/// What [`json`] gives, and [`ApiError::Invalid`] for a list.
pub(crate) async fn object<T: DeserializeOwned>(
    request: Request,
    limits: &Limits,
) -> Result<T, ApiError> {
    let (mut parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    let bytes = read(&mut parts.headers, body, limits).await?;
    let parsed = parse(&bytes)?;
    match bytes.trim_ascii_start().first() {
        Some(b'[') => Err(ApiError::Invalid {
            path: "body".to_owned(),
            detail: "it must be an object".to_owned(),
        }),
        _ => Ok(parsed),
    }
}

/// Reads a body and takes its encoding away, from the headers too.
///
/// # Errors
///
/// [`ApiError::Encoding`], [`ApiError::TooLarge`] for too many bytes as they arrive or as they
/// were before gzip, [`ApiError::SlowBody`], and [`ApiError::Malformed`] for what breaks off.
pub(crate) async fn read(
    headers: &mut HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Vec<u8>, ApiError> {
    let limit_bytes = limits.body_bytes;
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let sink = match (encodings.next(), encodings.next()) {
        (None, None) => Sink::Plain,
        (Some(one), None) if one == "identity" => Sink::Plain,
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"gzip") => Sink::Gzip,
        _ => return Err(ApiError::Encoding),
    };
    headers.remove(header::CONTENT_ENCODING);
    if sink == Sink::Plain {
        let mut bytes = Vec::new();
        collect(body, limits, &mut bytes).await?;
        return Ok(bytes);
    }
    headers.remove(header::CONTENT_LENGTH);
    let mut decoder = MultiGzDecoder::new(Bounded {
        bytes: Vec::new(),
        limit_bytes,
        is_over: false,
    });
    let collected = collect(body, limits, &mut decoder).await;
    if decoder.get_ref().is_over {
        return Err(ApiError::TooLarge { limit_bytes });
    }
    collected?;
    let decoded = decoder.finish().map_err(|_| broken_gzip())?;
    match decoded.is_over {
        true => Err(ApiError::TooLarge { limit_bytes }),
        false => Ok(decoded.bytes),
    }
}

#[derive(PartialEq, Eq)]
enum Sink {
    Plain,
    Gzip,
}

fn broken_gzip() -> ApiError {
    ApiError::Malformed {
        detail: "the body is not gzip, or broke off: send it whole, or without Content-Encoding"
            .to_owned(),
    }
}

/// Takes so many bytes and fails at the next one.
struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: usize,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.limit_bytes - self.bytes.len() {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence
            .to_ascii_lowercase()
            .strip_prefix("application/")
            .is_some_and(|t| t.ends_with("+json"));
    if !is_json {
        return Err(ApiError::MediaType {
            detail: "the body must be JSON: send \"Content-Type: application/json\"",
        });
    }
    Ok(())
}

async fn collect(mut body: Body, limits: &Limits, to: &mut impl Sunk) -> Result<(), ApiError> {
    let (limit_bytes, within) = (limits.body_bytes, limits.body_read);
    let announced = http_body::Body::size_hint(&body).lower();
    if announced > limit_bytes as u64 {
        return Err(ApiError::TooLarge { limit_bytes });
    }
    let reading = async {
        to.reserve((announced as usize).min(MAX_RESERVED));
        let mut arrived = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::Malformed {
                detail: "the body broke off: send it whole".to_owned(),
            })?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if data.len() > limit_bytes - arrived {
                return Err(ApiError::TooLarge { limit_bytes });
            }
            arrived += data.len();
            to.take(data)?;
        }
        Ok(())
    };
    timeout(within, reading)
        .await
        .unwrap_or(Err(ApiError::SlowBody { after: within }))
}

/// Where the bytes of a body go.
trait Sunk {
    fn reserve(&mut self, bytes: usize);
    fn take(&mut self, data: &[u8]) -> Result<(), ApiError>;
}

impl Sunk for Vec<u8> {
    fn reserve(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    fn take(&mut self, data: &[u8]) -> Result<(), ApiError> {
        self.extend_from_slice(data);
        Ok(())
    }
}

impl Sunk for MultiGzDecoder<Bounded> {
    fn reserve(&mut self, _: usize) {}

    fn take(&mut self, data: &[u8]) -> Result<(), ApiError> {
        self.write_all(data).map_err(|_| broken_gzip())
    }
}

/// Parses the bytes of a body.
///
/// # Errors
///
/// [`ApiError::Malformed`] for what is no JSON, [`ApiError::Invalid`] for JSON of another shape.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let malformed = |detail: String| ApiError::Malformed { detail };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        malformed(format!(
            "the body is not UTF-8 from byte {at}: send JSON as UTF-8"
        ))
    })?;
    scan(bytes)?;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => locate::<T>(text),
        _ => malformed(format!(
            "the body is not JSON: {}",
            shorten(&error.to_string())
        )),
    })
}

/// Parses once more to learn where it failed; the path is not tracked on the way that succeeds.
fn locate<T: DeserializeOwned>(text: &str) -> ApiError {
    let mut parser = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut parser) {
        Ok(_) => ApiError::Malformed {
            detail: "the body is not what is expected here: see /docs".to_owned(),
        },
        Err(error) => {
            let path = error.path().to_string();
            ApiError::Invalid {
                path: if path == "." {
                    "body".to_owned()
                } else {
                    shorten(&path)
                },
                detail: shorten(&error.into_inner().to_string()),
            }
        }
    }
}

fn shorten(message: &str) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    let mark = if end < message.len() { "…" } else { "" };
    format!("{}{mark}", &message[..end])
}

/// Refuses deep nesting and NUL characters in one pass. It need not understand more of
/// JSON: what is malformed otherwise is left to the parser.
fn scan(bytes: &[u8]) -> Result<(), ApiError> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped_nul = in_string && byte == b'\\' && bytes[at + 1..].starts_with(b"u0000");
        if byte == 0 || escaped_nul {
            return Err(ApiError::Malformed {
                detail: "the body holds a NUL character: remove it".to_owned(),
            });
        }
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(ApiError::Malformed {
                detail: format!("the body is nested deeper than {MAX_DEPTH} levels: flatten it"),
            });
        }
        at += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Shape {
        #[expect(dead_code, reason = "only its parsing is looked at")]
        items: Vec<u32>,
    }

    fn refused(body: &[u8]) -> ApiError {
        parse::<Shape>(body).unwrap_err()
    }

    #[test]
    fn the_path_of_a_wrong_type_is_told() {
        let error = refused(br#"{"items":[1,"x"]}"#);
        let ApiError::Invalid { path, detail } = error else {
            panic!("{error}");
        };
        assert_eq!(path, "items[1]");
        assert!(detail.contains("expected u32"), "{detail}");
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in [
            &b"{"[..],
            b"",
            b"{\"items\":[]} x",
            b"\xff\xfe",
            b"{\"items\":[]}\0",
        ] {
            let error = refused(body);
            assert!(matches!(error, ApiError::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn depth_counts_in_skipped_fields_and_not_in_strings() {
        let deep = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!("{{\"items\":[],\"skipped\":{open}{close}}}")
        };
        assert!(parse::<Shape>(deep(127).as_bytes()).is_ok());
        assert!(matches!(
            refused(deep(128).as_bytes()),
            ApiError::Malformed { .. }
        ));
        let text = format!(r#"{{"items":[],"skipped":"\"{}"}}"#, "[".repeat(500));
        assert!(parse::<Shape>(text.as_bytes()).is_ok());
    }

    #[test]
    fn an_escaped_nul_is_refused_and_an_escaped_backslash_is_not() {
        assert!(scan(br#"{"a":"\u0000"}"#).is_err());
        assert!(scan(br#"{"a":"\\u0000"}"#).is_ok());
    }
}
