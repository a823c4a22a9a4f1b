//! The page and the documentation page: files that are part of the program.
//!
//! Invariant: a file's address may be kept for a year only when it names the content
//! (`?v=` and a digest); everything else is revalidated by its `ETag`, which is the
//! same digest, so a new version is seen at once and an old one costs 304.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::error::ApiError;

const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
const A_YEAR: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Every file: its name, its type, its content.
const FILES: [(&str, &str, &[u8]); 9] = [
    (
        "index.html",
        "text/html; charset=utf-8",
        include_bytes!("../ui/index.html"),
    ),
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../ui/app.js"),
    ),
    (
        "stream.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../ui/stream.js"),
    ),
    (
        "text.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../ui/text.js"),
    ),
    (
        "style.css",
        "text/css; charset=utf-8",
        include_bytes!("../ui/style.css"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_bytes!("../ui/icon.svg"),
    ),
    (
        "docs.html",
        "text/html; charset=utf-8",
        include_bytes!("../docs-page/docs.html"),
    ),
    (
        "docs.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../docs-page/docs.js"),
    ),
    (
        "docs.css",
        "text/css; charset=utf-8",
        include_bytes!("../docs-page/docs.css"),
    ),
];

/// A file ready to be sent.
#[derive(Debug)]
struct Asset {
    name: &'static str,
    content_type: HeaderValue,
    content: Bytes,
    digest: String,
}

/// All files, ready to be sent.
#[derive(Debug)]
pub(crate) struct Assets(Vec<Asset>);

impl Assets {
    /// Digests the files and makes the pages name the digests of what they load.
    pub(crate) fn new() -> Self {
        let mut assets: Vec<Asset> = FILES
            .into_iter()
            .map(|(name, content_type, content)| Asset {
                name,
                content_type: HeaderValue::from_static(content_type),
                content: Bytes::from_static(content),
                digest: digest(content),
            })
            .collect();
        let parts: Vec<(String, String)> = assets
            .iter()
            .filter(|asset| !asset.is_page())
            .map(|asset| {
                let address = format!("\"/assets/{}", asset.name);
                (
                    format!("{address}\""),
                    format!("{address}?v={}\"", asset.digest),
                )
            })
            .collect();
        for page in assets.iter_mut().filter(|asset| asset.is_page()) {
            let mut text = String::from_utf8_lossy(&page.content).into_owned();
            for (plain, versioned) in &parts {
                text = text.replace(plain, versioned);
            }
            page.digest = digest(text.as_bytes());
            page.content = text.into();
        }
        Self(assets)
    }

    /// Sends a page by its file name; it is never kept without asking again.
    pub(crate) fn page(&self, name: &str, headers: &HeaderMap) -> Response {
        match self.0.iter().find(|asset| asset.name == name) {
            Some(asset) => asset.send(REVALIDATE, headers),
            None => ApiError::NotFound.into_response(),
        }
    }

    /// Sends a part of a page; `version` is the digest the address names, if it does.
    pub(crate) fn part(&self, name: &str, version: Option<&str>, headers: &HeaderMap) -> Response {
        match self
            .0
            .iter()
            .find(|asset| asset.name == name && !asset.is_page())
        {
            Some(asset) if version == Some(&asset.digest) => asset.send(A_YEAR, headers),
            Some(asset) => asset.send(REVALIDATE, headers),
            None => ApiError::NotFound.into_response(),
        }
    }
}

impl Asset {
    fn is_page(&self) -> bool {
        self.name.ends_with(".html")
    }

    fn send(&self, keep: HeaderValue, asked: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", self.digest);
        let known = asked
            .get(header::IF_NONE_MATCH)
            .and_then(|tags| tags.to_str().ok());
        let is_known = known.is_some_and(|tags| {
            let bare = |known: &str| known.trim().trim_start_matches("W/") == tag;
            tags.trim() == "*" || tags.split(',').any(bare)
        });
        let mut response = Response::new(match is_known {
            true => Body::empty(),
            false => Body::from(self.content.clone()),
        });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::CACHE_CONTROL, keep);
        // A digest is hexadecimal.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// The first 64 bits of SHA-256, in hexadecimal: enough to tell versions apart.
fn digest(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_the_digests_of_their_parts() {
        let assets = Assets::new();
        for page in assets.0.iter().filter(|asset| asset.is_page()) {
            let text = std::str::from_utf8(&page.content).unwrap();
            for address in text.split("\"/assets/").skip(1) {
                let address = address.split('"').next().unwrap();
                let (name, version) = address.split_once("?v=").unwrap_or((address, ""));
                let part = assets.0.iter().find(|asset| asset.name == name);
                assert_eq!(part.map(|p| p.digest.as_str()), Some(version), "{address}");
            }
        }
    }

    #[test]
    fn every_file_of_the_pages_is_sent() {
        for folder in ["ui", "docs-page"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for file in std::fs::read_dir(folder).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                assert!(FILES.iter().any(|(known, ..)| *known == name), "{name}");
            }
        }
    }

    #[test]
    fn pages_hold_no_inline_script_or_style() {
        for page in Assets::new().0.iter().filter(|asset| asset.is_page()) {
            let text = std::str::from_utf8(&page.content)
                .unwrap()
                .to_ascii_lowercase();
            for banned in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
                assert!(!text.contains(banned), "{} holds {banned}", page.name);
            }
            for script in text.split("<script").skip(1) {
                let tag = script.split('>').next().unwrap();
                assert!(tag.contains("src="), "{}: <script{tag}>", page.name);
            }
        }
    }
}
