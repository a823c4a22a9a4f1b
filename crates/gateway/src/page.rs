//! The pages, the learner's, the operator's and the documentation's: files that are part of
//! the program.
//!
//! Invariant: a file's address may be kept for a year only when it names the content and all
//! that the content loads (`?v=` and a digest); everything else is revalidated by its `ETag`, which is the
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

/// How files begin the addresses of what they load: pages, and modules beside each other.
const MARKS: [&str; 2] = ["\"/assets/", "\"./"];

/// Every file: its name and its content.
const FILES: [(&str, &[u8]); 25] = [
    ("index.html", include_bytes!("../ui/index.html")),
    ("operator.html", include_bytes!("../ui/operator.html")),
    ("api.js", include_bytes!("../ui/api.js")),
    ("app.js", include_bytes!("../ui/app.js")),
    ("dom.js", include_bytes!("../ui/dom.js")),
    ("key.js", include_bytes!("../ui/key.js")),
    ("knowledge.js", include_bytes!("../ui/knowledge.js")),
    ("lesson.js", include_bytes!("../ui/lesson.js")),
    ("map.js", include_bytes!("../ui/map.js")),
    ("operator-text.js", include_bytes!("../ui/operator-text.js")),
    ("operator.js", include_bytes!("../ui/operator.js")),
    ("panel.js", include_bytes!("../ui/panel.js")),
    ("sessions.js", include_bytes!("../ui/sessions.js")),
    ("state.js", include_bytes!("../ui/state.js")),
    ("stream.js", include_bytes!("../ui/stream.js")),
    ("study.js", include_bytes!("../ui/study.js")),
    ("tabs.js", include_bytes!("../ui/tabs.js")),
    ("text.js", include_bytes!("../ui/text.js")),
    ("learner.css", include_bytes!("../ui/learner.css")),
    ("operator.css", include_bytes!("../ui/operator.css")),
    ("style.css", include_bytes!("../ui/style.css")),
    ("icon.svg", include_bytes!("../ui/icon.svg")),
    ("docs.html", include_bytes!("../docs-page/docs.html")),
    ("docs.js", include_bytes!("../docs-page/docs.js")),
    ("docs.css", include_bytes!("../docs-page/docs.css")),
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
    /// Digests the files and makes each name the digests of what it loads.
    pub(crate) fn new() -> Self {
        Self(versioned(&FILES))
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

/// Puts the digest of what a file loads into it, before it is digested itself: a file's
/// digest changes with all that it loads. Files that load each other have no such order;
/// they keep their plain addresses, which are revalidated.
fn versioned(files: &[(&'static str, &'static [u8])]) -> Vec<Asset> {
    let mut left: Vec<(&'static str, &'static str)> = files
        .iter()
        .map(|(name, content)| (*name, str::from_utf8(content).unwrap_or_default()))
        .collect();
    let mut ready: Vec<Asset> = Vec::with_capacity(files.len());
    while !left.is_empty() {
        let is_waited_for = |name: &str| left.iter().any(|(other, _)| *other == name);
        let free = left
            .iter()
            .position(|(_, text)| !loaded(text).any(is_waited_for));
        let (name, text) = left.remove(free.unwrap_or(0));
        ready.push(Asset::new(name, text, &ready));
    }
    ready
}

/// The files that a text loads.
fn loaded(text: &str) -> impl Iterator<Item = &str> {
    let after = |mark| text.split(mark).skip(1);
    let addresses = MARKS.into_iter().flat_map(after);
    addresses.filter_map(|rest| rest.split('"').next())
}

impl Asset {
    fn new(name: &'static str, text: &'static str, parts: &[Asset]) -> Self {
        let mut content = text.to_owned();
        for address in loaded(text) {
            if let Some(part) = parts.iter().find(|part| part.name == address) {
                for mark in MARKS {
                    let versioned = format!("{mark}{address}?v={}\"", part.digest);
                    content = content.replace(&format!("{mark}{address}\""), &versioned);
                }
            }
        }
        let ending = name.rsplit('.').next().unwrap_or_default();
        Self {
            name,
            content_type: HeaderValue::from_static(match ending {
                "html" => "text/html; charset=utf-8",
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                _ => "image/svg+xml",
            }),
            digest: digest(content.as_bytes()),
            content: content.into(),
        }
    }

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
    fn files_name_the_digests_of_what_they_load() {
        let assets = Assets::new();
        let mut modules = 0;
        for asset in &assets.0 {
            let text = std::str::from_utf8(&asset.content).unwrap();
            for address in loaded(text) {
                let (name, version) = address.split_once("?v=").unwrap_or((address, ""));
                let part = assets.0.iter().find(|asset| asset.name == name);
                let digest = part.map(|part| part.digest.as_str());
                assert_eq!(digest, Some(version), "{}: {address}", asset.name);
                modules += usize::from(asset.name.ends_with(".js"));
            }
        }
        assert!(modules > 10, "modules load {modules} modules");
    }

    #[test]
    fn a_change_is_seen_in_the_address_of_all_that_load_it() {
        fn with(leaf: &'static [u8]) -> Vec<(&'static str, String)> {
            let page = b"<script src=\"/assets/stem.js\">".as_slice();
            let files = [
                ("page.html", page),
                ("stem.js", b"import \"./leaf.js\";"),
                ("leaf.js", leaf),
                ("other.js", b"import \"./other.css\";"),
            ];
            let assets = versioned(&files).into_iter();
            assets.map(|asset| (asset.name, asset.digest)).collect()
        }
        let (before, after) = (with(b"1"), with(b"2"));
        let changed: Vec<&str> = before
            .iter()
            .filter(|file| !after.contains(file))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(changed, ["leaf.js", "stem.js", "page.html"]);
    }

    #[test]
    fn files_that_load_each_other_are_sent_all_the_same() {
        let files: [(&str, &[u8]); 2] = [
            ("a.js", b"import \"./b.js\""),
            ("b.js", b"import \"./a.js\""),
        ];
        assert_eq!(versioned(&files).len(), 2);
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
