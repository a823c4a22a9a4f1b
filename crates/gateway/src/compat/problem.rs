//! Errors in the shape of the dialect that was spoken.
//!
//! Every [`ApiError`] leaves a [`Problem`] with its answer; the edge writes it again for
//! routes of another dialect, so refusals before a handler (keys, unknown routes,
//! time-outs) have the right shape too. Sources: OpenAI API reference, "Error codes";
//! Anthropic API reference, "Errors".

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use lyceum_core::{ChatError, RequestId};
use serde_json::{Value, json};

use crate::error::ApiError;

/// Which vendor's API a route belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    OpenAi,
    Anthropic,
}

impl Dialect {
    /// The dialect of a path. Where both vendors have it, or neither, it is the dialect of
    /// who asks: Anthropic's clients name the version that they speak.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        match path.strip_prefix("/v1/") {
            Some("messages") => Self::Anthropic,
            Some(rest) if rest.starts_with("messages/") => Self::Anthropic,
            Some(_) if headers.contains_key("anthropic-version") => Self::Anthropic,
            Some(_) => Self::OpenAi,
            None => Self::Native,
        }
    }

    /// Gives an error the dialect's shape, and every answer the dialect's headers.
    pub(crate) fn shape(self, mut response: Response, id: &RequestId) -> Response {
        if self == Self::Native {
            return response;
        }
        if self == Self::Anthropic
            && let Ok(id) = HeaderValue::from_str(id.as_str())
        {
            response.headers_mut().insert("request-id", id);
        }
        let Some(problem) = response.extensions_mut().remove::<Problem>() else {
            return response;
        };
        let (status, body) = match self {
            Self::Anthropic => (problem.anthropic_status(), problem.anthropic(Some(id))),
            _ => (problem.openai_status(), problem.openai()),
        };
        *response.status_mut() = status;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body.to_string());
        response
    }
}

/// What every dialect says of an error.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: &'static str,
    /// What Anthropic's clients act on.
    details: Option<Value>,
}

impl Problem {
    pub(crate) fn of(error: &ApiError) -> Self {
        let param = match error {
            ApiError::Invalid { path, .. } => Some(path.clone()),
            ApiError::NoModel { .. } => Some("model".to_owned()),
            ApiError::NoThreads => Some("thread".to_owned()),
            _ => None,
        };
        // Told so, the vendor's SDK goes on without a thread.
        let details = matches!(error, ApiError::NoThreads)
            .then(|| json!({"error_code": "thread_unsupported_request"}));
        Self {
            details,
            status: error.compat_status(),
            message: words(error).unwrap_or_else(|| error.to_string()),
            param,
            code: error.code(),
        }
    }

    fn openai_status(&self) -> StatusCode {
        self.status
    }

    /// OpenAI's shape.
    pub(crate) fn openai(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 if self.code == "insufficient_quota" => "insufficient_quota",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        json!({"error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }})
    }

    fn anthropic_status(&self) -> StatusCode {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            status => status,
        }
    }

    /// Anthropic's shape.
    pub(crate) fn anthropic(&self, id: Option<&RequestId>) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            408 | 504 => "timeout_error",
            503 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let mut error = json!({"type": kind, "message": self.message});
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        json!({
            "type": "error",
            "error": error,
            "request_id": id.map(RequestId::as_str),
        })
    }
}

/// How much of a provider's words is repeated, in characters.
const MOST_WORDS: usize = 500;

/// A word this long of letters and digits may be a key.
const LIKE_A_KEY: usize = 24;

/// What a provider said about a request that it refused as it is, which is for its author.
fn words(error: &ApiError) -> Option<String> {
    let (ChatError::Rejected { message: said, .. }
    | ChatError::ContextTooLong { message: said, .. }) = error.model_error()?
    else {
        return None;
    };
    let said = public(said);
    (!said.is_empty()).then(|| format!("the model provider refused the request: {said}"))
}

/// A provider's words in one line, without what may be a key or an address.
fn public(text: &str) -> String {
    let text: String = text.chars().take(2 * MOST_WORDS).collect();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| !word.is_empty());
    let told: Vec<&str> = words
        .map(|word| if is_private(word) { "[…]" } else { word })
        .collect();
    let told = told.join(" ");
    match told.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}…", &told[..end]),
        None => told,
    }
}

fn is_private(word: &str) -> bool {
    let runs = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let is_key = |run: &str| {
        let mixed =
            run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic());
        run.starts_with("sk-") || (run.len() >= LIKE_A_KEY && mixed)
    };
    word.contains("://") || runs.into_iter().any(is_key)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use lyceum_core::TeachError;

    use super::*;

    #[test]
    fn a_providers_words_reach_the_author_of_the_request_without_secrets() {
        let of = |message: &str| {
            let message = message.to_owned();
            let rejected = ChatError::Rejected {
                status: 400,
                message,
            };
            Problem::of(&ApiError::Student(TeachError::Model(rejected))).message
        };
        let told = of(
            "Unknown parameter: 'foo'.\nSee http://inside:1/docs, key=sk-abc of org-0123456789abcdef0123456789",
        );
        assert!(
            told.ends_with("Unknown parameter: 'foo'. See […] […] of […]"),
            "{told}"
        );
        assert!(of(&"x ".repeat(4_000)).chars().count() < MOST_WORDS + 60);
        assert!(!of("").is_empty());
        let denied = ChatError::Authentication {
            status: 401,
            message: "Incorrect key".into(),
        };
        let told = Problem::of(&ApiError::Student(TeachError::Model(denied))).message;
        assert!(!told.contains("Incorrect"), "{told}");
    }

    #[test]
    fn a_path_has_the_dialect_of_its_vendor() {
        let none = HeaderMap::new();
        let of = |path| Dialect::of(path, &none);
        assert_eq!(of("/v1/messages"), Dialect::Anthropic);
        assert_eq!(of("/v1/messages/count_tokens"), Dialect::Anthropic);
        assert_eq!(of("/v1/chat/completions"), Dialect::OpenAi);
        assert_eq!(of("/v1/nothing"), Dialect::OpenAi);
        assert_eq!(of("/chat"), Dialect::Native);
        let version = HeaderValue::from_static("2023-06-01");
        let theirs =
            HeaderMap::from_iter([(HeaderName::from_static("anthropic-version"), version)]);
        assert_eq!(Dialect::of("/v1/models", &theirs), Dialect::Anthropic);
        assert_eq!(Dialect::of("/chat", &theirs), Dialect::Native);
    }
}
