//! A body, decompressed and decoded, within its bound.

use std::io::Read;

use encoding_rs::{Encoding, UTF_8};
use flate2::read::MultiGzDecoder;
use lyceum_core::ToolError;
use reqwest::{
    Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
};
use url::Url;

use super::{unread, wrong};

/// How far into a page its own word on its encoding is looked for, as HTML demands.
const ENCODING_WITHIN: usize = 1_024;

/// What was read.
#[derive(Debug)]
pub(crate) struct Body {
    /// Where it was in the end.
    pub(crate) url: Url,
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// Whether there was more than is kept.
    pub(crate) cut: bool,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Html,
    Plain,
}

pub(super) async fn take(url: Url, mut response: Response, most: usize) -> Result<Body, ToolError> {
    let content_type = header(&response, &CONTENT_TYPE);
    let kind = kind(&content_type)?;
    let encoding = header(&response, &CONTENT_ENCODING);
    let mut bytes = Vec::new();
    let mut cut = false;
    while let Some(chunk) = response.chunk().await.map_err(|e| unread(&e))? {
        let room = most - bytes.len();
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            cut = true;
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    match encoding.as_str() {
        "" | "identity" => {}
        "gzip" | "x-gzip" => (bytes, cut) = unzip(&bytes, most, cut)?,
        _ => return Err(wrong("it is compressed in a way nobody asked for")),
    }
    let text = decode(&bytes, &content_type);
    Ok(Body {
        url,
        kind,
        text,
        cut,
    })
}

fn header(response: &Response, name: &HeaderName) -> String {
    let value = response.headers().get(name);
    let value = value.and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

fn kind(content_type: &str) -> Result<Kind, ToolError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    match media {
        "text/html" | "application/xhtml+xml" | "" => Ok(Kind::Html),
        "application/json" | "application/xml" | "application/yaml" => Ok(Kind::Plain),
        text if text.starts_with("text/") => Ok(Kind::Plain),
        json if json.ends_with("+json") || json.ends_with("+xml") => Ok(Kind::Plain),
        _ => Err(wrong("it is no text")),
    }
}

/// At most `most` bytes, whatever they were packed into.
fn unzip(packed: &[u8], most: usize, cut: bool) -> Result<(Vec<u8>, bool), ToolError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut bytes);
    // A body that was cut ends too early, and what came before its end is right.
    if read.is_err() && (!cut || bytes.is_empty()) {
        return Err(wrong("it is not compressed as it says"));
    }
    let more = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, cut || more))
}

/// By the header's encoding, else the page's own, else UTF-8.
fn decode(bytes: &[u8], content_type: &str) -> String {
    let head = &bytes[..bytes.len().min(ENCODING_WITHIN)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let named = charset(content_type).or_else(|| charset(&head));
    let encoding = named.unwrap_or(UTF_8);
    encoding.decode(bytes).0.into_owned()
}

fn charset(text: &str) -> Option<&'static Encoding> {
    let (_, after) = text.split_once("charset=")?;
    let after = after.trim_start_matches(['"', '\'']);
    let end = after
        .find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c))
        .unwrap_or(after.len());
    Encoding::for_label(&after.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn a_bomb_ends_at_the_bound() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&vec![b'a'; 10 << 20]).unwrap();
        let bomb = packer.finish().unwrap();
        assert!(bomb.len() < 20_000);
        let (bytes, cut) = unzip(&bomb, 1_000, false).unwrap();
        assert_eq!((bytes.len(), cut), (1_000, true));
        assert!(unzip(b"no gzip", 1_000, false).is_err());
        assert!(unzip(&bomb[..500], 20 << 20, false).is_err(), "cut off");
    }

    #[test]
    fn pages_say_how_they_are_written() {
        let gbk = [0xd6, 0xb2, 0xce, 0xef];
        assert_eq!(decode(&gbk, "text/html; charset=gbk"), "植物");
        let mut page = br#"<meta charset="gb2312">"#.to_vec();
        page.extend(gbk);
        assert!(decode(&page, "text/html").ends_with("植物"));
        assert_eq!(decode("植物".as_bytes(), "text/html"), "植物");
        assert_eq!(
            decode(&[0xff, b'a'], "text/html; charset=nonsense"),
            "\u{fffd}a"
        );
    }
}
