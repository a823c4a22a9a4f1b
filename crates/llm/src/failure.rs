//! From a provider's refusal to a [`ChatError`]: classified by status, with the
//! provider's own words, capped, cleaned of control characters and of the key.

use std::time::Duration;

use lyceum_core::ChatError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The most characters kept of a provider's words.
const MAX_MESSAGE: usize = 500;

/// What a provider said about an error, in whatever form it did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    message: String,
    /// The `type` and `code` fields, for classification only.
    kind: String,
    code: String,
}

impl Complaint {
    /// Reads the body of an answer with an error status.
    pub(crate) fn of_body(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of_value(value.get("error").unwrap_or(&value)),
            Err(_) => Self {
                message: String::from_utf8_lossy(body).into_owned(),
                ..Self::default()
            },
        }
    }

    /// Reads an error object: `{message, type, code}`, `{detail}` or a bare text.
    pub(crate) fn of_value(error: &Value) -> Self {
        let field = |name: &str| match error.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let message = match error {
            Value::String(text) => text.clone(),
            _ => ["message", "detail"]
                .into_iter()
                .map(field)
                .find(|text| !text.is_empty())
                .unwrap_or_else(|| error.to_string()),
        };
        Self {
            message,
            kind: field("type"),
            code: field("code"),
        }
    }

    /// The error of an answer with this status.
    pub(crate) fn into_error(
        self,
        status: u16,
        retry_after: Option<Duration>,
        key: Option<&SecretString>,
    ) -> ChatError {
        let message = clean(&self.message, key);
        // OpenAI "Error codes": an empty account answers 429 too, and waiting never helps.
        // Moonshot and Ark name the same otherwise.
        let empty = [
            "insufficient_quota",
            "exceeded_current_quota",
            "AccountOverdue",
        ];
        if empty.iter().any(|name| self.names(name)) {
            return ChatError::Rejected { status, message };
        }
        match status {
            400 | 413 | 422 if self.is_too_long() => ChatError::ContextTooLong { status, message },
            401 | 403 => ChatError::Authentication { status, message },
            429 => ChatError::RateLimited {
                retry_after,
                message,
            },
            408 | 409 | 425 | 500.. => ChatError::Unavailable {
                status,
                retry_after,
                message,
            },
            _ => ChatError::Rejected { status, message },
        }
    }

    /// The error of an error event inside a stream, whose HTTP status was 200.
    pub(crate) fn into_stream_error(self, key: Option<&SecretString>) -> ChatError {
        let status = self.implied_status();
        self.into_error(status, None, key)
    }

    /// The status that the provider would have sent. Names: Anthropic "Errors", OpenAI
    /// "Error codes"; some servers of the OpenAI dialect put a status into `code`.
    fn implied_status(&self) -> u16 {
        if let Some(status) = self.code.parse().ok().filter(|s| (400..600).contains(s)) {
            return status;
        }
        let table = [
            ("rate_limit", 429),
            ("overloaded", 529),
            ("timeout", 504),
            ("authentication", 401),
            ("invalid_api_key", 401),
            ("permission", 403),
            ("not_found", 404),
            ("invalid_request", 400),
            ("context_length", 400),
        ];
        let known = table.iter().find(|(name, _)| self.names(name));
        known.map_or(500, |(_, status)| *status)
    }

    /// Whether the request is longer than the model's context. Only some providers have a
    /// code for it (OpenAI and its followers; Zhipu: 1261; llama.cpp: the type), the others
    /// say it in words: DeepSeek and vLLM, Anthropic (two forms), Moonshot, DashScope, Gemini.
    fn is_too_long(&self) -> bool {
        const WORDS: [&str; 7] = [
            "maximum context length",
            "prompt is too long",
            "exceed context limit",
            "exceeded model token limit",
            "range of input length",
            "input token count",
            "context window",
        ];
        let said = self.message.to_ascii_lowercase();
        self.names("context_length")
            || self.names("exceed_context_size")
            || self.code == "1261"
            || WORDS.iter().any(|words| said.contains(words))
    }

    fn names(&self, word: &str) -> bool {
        self.kind.contains(word) || self.code.contains(word)
    }
}

/// An answer that is not what the wire format promises.
pub(crate) fn protocol(detail: impl std::fmt::Display) -> ChatError {
    ChatError::Protocol {
        detail: clean(&detail.to_string(), None),
    }
}

/// Removes the key and control characters and caps the length.
fn clean(text: &str, key: Option<&SecretString>) -> String {
    let redacted = match key.map(|key| key.expose_secret().trim()) {
        Some(key) if !key.is_empty() && text.contains(key) => text.replace(key, "[redacted]"),
        _ => text.to_owned(),
    };
    let text = redacted.trim();
    let mut cleaned: String = text
        .chars()
        .take(MAX_MESSAGE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if cleaned.len() < text.len() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> ChatError {
        Complaint::of_body(body.as_bytes()).into_error(status, None, None)
    }

    #[test]
    fn statuses_are_classified() {
        let table = [
            (400, "rejected"),
            (401, "authentication"),
            (402, "rejected"),
            (403, "authentication"),
            (404, "rejected"),
            (408, "unavailable"),
            (413, "rejected"),
            (429, "rate_limited"),
            (500, "unavailable"),
            (503, "unavailable"),
            (529, "unavailable"),
        ];
        for (status, label) in table {
            assert_eq!(of(status, "{}").label(), label, "{status}");
        }
        let empty = of(
            429,
            r#"{"error":{"message":"","code":"insufficient_quota"}}"#,
        );
        assert!(!empty.is_retryable());
    }

    #[test]
    fn the_message_is_found_in_every_form() {
        let table = [
            (r#"{"error":{"message":"m","type":"t"}}"#, "m"),
            (
                r#"{"type":"error","error":{"type":"t","message":"m"}}"#,
                "m",
            ),
            (r#"{"error":"m"}"#, "m"),
            (r#"{"message":"m"}"#, "m"),
            (r#"{"detail":"m"}"#, "m"),
            ("<html>m</html>\n", "<html>m</html>"),
        ];
        for (body, message) in table {
            let error = of(404, body).to_string();
            assert!(error.ends_with(&format!(": {message}")), "{error}");
        }
    }

    #[test]
    fn words_are_capped_and_cleaned() {
        let key = SecretString::from("sk-very-secret\n");
        let body = format!("bad key sk-very-secret\u{1b}[31m {}", "長".repeat(600));
        let error = Complaint::of_body(body.as_bytes()).into_error(401, None, Some(&key));
        let ChatError::Authentication { message, .. } = error else {
            panic!("{error:?}");
        };
        assert!(
            message.starts_with("bad key [redacted] [31m 長"),
            "{message}"
        );
        assert_eq!(message.chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn errors_inside_a_stream_get_the_status_they_imply() {
        let table = [
            (r#"{"type":"overloaded_error","message":"busy"}"#, 529),
            (
                r#"{"message":"slow down","code":"rate_limit_exceeded"}"#,
                429,
            ),
            (r#"{"message":"slow down","code":429}"#, 429),
            (r#"{"type":"invalid_request_error"}"#, 400),
            (r#"{"message":"?"}"#, 500),
        ];
        for (error, status) in table {
            let complaint = Complaint::of_value(&serde_json::from_str(error).unwrap());
            assert_eq!(complaint.implied_status(), status, "{error}");
        }
    }
}
