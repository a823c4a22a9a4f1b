//! What a write may change, as a pattern of addresses.

use http::Method;

/// Writes that change nothing that is read.
const HARMLESS: [&str; 2] = ["/v1/embeddings", "/v1/messages/count_tokens"];

/// Addresses that a write may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// With `*` for any number of any characters.
    Glob(String),
    /// Addresses that hold this.
    Keyword(String),
}

impl Pattern {
    /// What a request may change, where it is a write at all.
    pub(super) fn of_write(method: &Method, endpoint: &str, path: &str) -> Option<Self> {
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if is_read || HARMLESS.contains(&endpoint) {
            return None;
        }
        // A name holds no star: routes of one that does find nothing to write.
        let session = path
            .strip_prefix("/sessions/")
            .and_then(|rest| rest.split('/').next());
        Some(match session {
            Some(id) => Self::Glob(format!("/sessions/{id}/*")),
            // Which conversation the others belong to stands in their bodies.
            None => Self::Keyword("/sessions/".to_owned()),
        })
    }

    /// Whether an address is one of these; in time linear in both for one star.
    pub(super) fn matches(&self, url: &str) -> bool {
        match self {
            Self::Keyword(word) => url.contains(word.as_str()),
            Self::Glob(glob) => matches(glob, url),
        }
    }
}

fn matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + str::len(middle)..],
                None => return false,
            }
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything() {
        for (glob, text, expected) in [
            ("/a/*", "/a/b?c=d", true),
            ("/a/*", "/b/a/", false),
            ("/a/*/c", "/a/b/b/c", true),
            ("/a/*/c", "/a/c", false),
            ("/a/*b*/c", "/a/xbx/c", true),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("*", "", true),
            ("*a*b*", "xbxa", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_write_names_what_it_may_change() {
        let of = |method, endpoint, path| Pattern::of_write(&method, endpoint, path);
        assert_eq!(
            of(Method::GET, "/sessions/{id}/notes", "/sessions/a/notes"),
            None
        );
        assert_eq!(of(Method::POST, "/v1/embeddings", "/v1/embeddings"), None);
        let exam = of(Method::POST, "/sessions/{id}/exam", "/sessions/a/exam").unwrap();
        assert!(exam.matches("/sessions/a/notes?format=markdown"));
        assert!(!exam.matches("/sessions/ab/notes"));
        let chat = of(Method::POST, "/chat", "/chat").unwrap();
        assert!(chat.matches("/sessions/ab/notes") && !chat.matches("/v1/models"));
    }
}
