//! When two requests are the same.
//!
//! Invariant: requests of different tenants never have the same key. Everything that is
//! sent to the provider is in it; space around texts and the order of JSON fields are
//! not.

use std::fmt;

use lyceum_core::{
    CallContext, ChatRequest, Content, Message, Part, ResponseFormat, Role, ToolChoice,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The identity of a request within its tenant: a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerKey([u8; 32]);

impl AnswerKey {
    /// The key of a request to a model.
    #[must_use]
    pub fn new(call: &CallContext, model: &str, request: &ChatRequest) -> Self {
        Self::of(call, model, request, None)
    }

    /// The key that a request shares with all that differ from it in the words of its
    /// last message only, and these words; `None` when that is not a person's plain text.
    pub(super) fn apart_from_question(
        call: &CallContext,
        model: &str,
        request: &ChatRequest,
    ) -> Option<(Self, String)> {
        let last = request.messages.last()?;
        let Content::Text(question) = &last.content else {
            return None;
        };
        if last.role != Role::User || question.trim().is_empty() {
            return None;
        }
        let at = request.messages.len() - 1;
        Some((
            Self::of(call, model, request, Some(at)),
            question.trim().to_owned(),
        ))
    }

    /// Its bytes, e.g. as a key of a shared cache.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(call: &CallContext, model: &str, request: &ChatRequest, wordless: Option<usize>) -> Self {
        let mut key = Writer(Sha256::new());
        key.text("answer/1");
        key.text(call.scope.tenant.as_str());
        key.text(model);
        key.text(request.model.as_deref().unwrap_or_default());
        for (at, message) in request.messages.iter().enumerate() {
            key.message(message, wordless == Some(at));
        }
        key.count(request.tools.len());
        for tool in &request.tools {
            key.text(&tool.name);
            key.text(&tool.description);
            key.json(&tool.parameters);
            key.fields(&tool.extra);
        }
        key.count(request.other_tools.len());
        for tool in &request.other_tools {
            key.json(tool);
        }
        match &request.tool_choice {
            ToolChoice::Auto => key.text("auto"),
            ToolChoice::None => key.text("none"),
            ToolChoice::Required => key.text("required"),
            ToolChoice::Named(name) => {
                key.text("named");
                key.text(name);
            }
        }
        match &request.response_format {
            ResponseFormat::Text => key.text("text"),
            ResponseFormat::JsonObject => key.text("json"),
            ResponseFormat::JsonSchema {
                name,
                schema,
                strict,
            } => {
                key.text(if *strict { "strict" } else { "schema" });
                key.text(name);
                key.json(schema);
            }
        }
        key.text(&format!(
            "{:?} {:?} {:?} {:?}",
            request.max_output, request.temperature, request.top_p, request.seed
        ));
        key.count(request.stop.len());
        for stop in &request.stop {
            key.text(stop);
        }
        key.fields(&request.extra);
        Self(key.0.finalize().into())
    }
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes with lengths, so that neighbours never run together.
struct Writer(Sha256);

impl Writer {
    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text);
    }

    fn message(&mut self, message: &Message, wordless: bool) {
        self.text(message.role.as_str());
        match &message.content {
            Content::Text(_) if wordless => self.text("?"),
            Content::Text(text) => self.plain(text),
            // A single part without fields of its own is the same as its text.
            Content::Parts(parts) => match &parts[..] {
                [Part::Text { text, extra }] if extra.is_empty() => self.plain(text),
                parts => self.parts(parts),
            },
        }
        self.count(message.reasoning.len());
        for piece in &message.reasoning {
            self.text(&format!("{piece:?}"));
        }
        self.count(message.tool_calls.len());
        for call in &message.tool_calls {
            self.text(&call.id);
            self.text(&call.name);
            self.text(&call.arguments);
            self.fields(&call.extra);
        }
        self.text(message.tool_call_id.as_deref().unwrap_or_default());
        self.fields(&message.extra);
    }

    fn plain(&mut self, text: &str) {
        self.text("text");
        self.text(text.trim());
    }

    fn parts(&mut self, parts: &[Part]) {
        self.text("parts");
        self.count(parts.len());
        for part in parts {
            match part {
                Part::Text { text, extra } => {
                    self.plain(text);
                    self.fields(extra);
                }
                Part::Image { url, extra } => {
                    self.text("image");
                    self.text(url);
                    self.fields(extra);
                }
                Part::Other(value) => {
                    self.text("other");
                    self.json(value);
                }
            }
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>) {
        self.count(fields.len());
        let mut names: Vec<&String> = fields.keys().collect();
        names.sort_unstable();
        for name in names {
            self.text(name);
            self.json(&fields[name]);
        }
    }

    fn json(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                self.text("{");
                self.fields(fields);
            }
            Value::Array(items) => {
                self.text("[");
                self.count(items.len());
                for item in items {
                    self.json(item);
                }
            }
            plain => self.text(&plain.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lyceum_core::{Scope, TenantId, Tokens, ToolSpec};
    use serde_json::json;

    fn key(request: &ChatRequest) -> AnswerKey {
        AnswerKey::new(&CallContext::new(Scope::local()), "m", request)
    }

    #[test]
    fn requests_that_ask_the_same_have_one_key() {
        let plain = ChatRequest::new([Message::user("why?")]);
        let spaced = ChatRequest::new([Message::user(" why?\n")]);
        let part = Part::Text {
            text: "why?".into(),
            extra: Map::new(),
        };
        let parts = ChatRequest::new([Message::user(Content::Parts(vec![part]))]);
        assert_eq!(key(&plain), key(&spaced));
        assert_eq!(key(&plain), key(&parts));
        let with = |schema: Value| ChatRequest {
            tools: vec![ToolSpec {
                name: "t".into(),
                description: String::new(),
                parameters: schema.into(),
                extra: Map::new(),
            }],
            ..plain.clone()
        };
        assert_eq!(
            key(&with(json!({"a": 1, "b": {"c": 2, "d": 3}}))),
            key(&with(json!({"b": {"d": 3, "c": 2}, "a": 1})))
        );
    }

    #[test]
    fn whatever_the_provider_would_see_is_in_the_key() {
        let plain = ChatRequest::new([Message::user("why?")]);
        let mut others = vec![
            ChatRequest::new([Message::user("why"), Message::user("?")]),
            ChatRequest::new([Message::system("why?")]),
        ];
        let mut change = |change: fn(&mut ChatRequest)| {
            let mut other = plain.clone();
            change(&mut other);
            others.push(other);
        };
        change(|request| request.model = Some("other".into()));
        change(|request| request.max_output = Some(Tokens(5)));
        change(|request| request.temperature = Some(0.0));
        change(|request| request.top_p = Some(0.0));
        change(|request| request.seed = Some(1));
        change(|request| request.stop = vec!["x".into()]);
        change(|request| request.tool_choice = ToolChoice::Required);
        change(|request| request.response_format = ResponseFormat::JsonObject);
        change(|request| request.other_tools = vec![json!({})]);
        change(|request| request.extra = Map::from_iter([("a".to_owned(), json!(1))]));
        change(|request| request.messages[0].tool_call_id = Some("1".into()));
        let mut keys: Vec<AnswerKey> = others.iter().map(key).collect();
        keys.push(key(&plain));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 1);
    }

    #[test]
    fn tenants_never_share_a_key() {
        let request = ChatRequest::new([Message::user("why?")]);
        let mut scope = Scope::local();
        scope.tenant = TenantId::new("other").unwrap();
        let other = AnswerKey::new(&CallContext::new(scope), "m", &request);
        assert_ne!(key(&request), other);
    }
}
