//! Translation by a LibreTranslate server, else by the model itself.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use lyceum_core::{
    Audience, CallContext, ChatAnswer, ChatModel, ChatRequest, Message, Tokens, Tool, ToolError,
    ToolOutput, ToolSpec, ToolTraits,
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::{
    arguments,
    typed::schema,
    upstream::{Upstream, UpstreamError, endpoint},
};

/// The longest text, in characters.
const MAX_CHARS: usize = 3_000;
/// The most output tokens of a model's translation.
const MAX_OUTPUT: Tokens = Tokens(4_000);
const PROMPT: &str = include_str!("prompts/translate.md");

/// Translates texts.
#[derive(Debug)]
pub struct Translate {
    spec: ToolSpec,
    way: Way,
}

enum Way {
    Server {
        upstream: Upstream,
        endpoint: Url,
        key: Option<SecretString>,
    },
    Model(Arc<dyn ChatModel>),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server { .. } => "Server",
            Self::Model(_) => "Model",
        })
    }
}

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// The text, at most 3,000 characters.
    text: String,
    /// The code of the language to translate into, e.g. en or zh.
    to: String,
    /// The code of the text's own language. Default: it is detected.
    #[serde(default = "auto")]
    from: String,
}

fn auto() -> String {
    "auto".to_owned()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "translatedText")]
    translated: String,
}

impl Translate {
    /// By the LibreTranslate server at `base`.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] when `base` is no address.
    pub fn server(base: &str, key: Option<SecretString>) -> Result<Self, UpstreamError> {
        Ok(Self::by(Way::Server {
            upstream: Upstream::new("the translation server")?,
            endpoint: endpoint(base, &["translate"])?,
            key,
        }))
    }

    /// By a model, in a call of its own that sees nothing but the text.
    #[must_use]
    pub fn model(model: Arc<dyn ChatModel>) -> Self {
        Self::by(Way::Model(model))
    }

    fn by(way: Way) -> Self {
        let description = "Translates a text. Use it when a text is in a language that is \
                           not the conversation's.";
        Self {
            spec: ToolSpec::new("translate", description, schema::<Arguments>()),
            way,
        }
    }
}

#[async_trait]
impl Tool for Translate {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// A text can be private, so its translation is kept for nobody but who asked.
    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::User)
    }

    async fn call(&self, call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { text, to, from } = arguments(value)?;
        let wrong = |detail: String| Err(ToolError::Arguments { detail });
        let code = |code: &str| {
            (2..=12).contains(&code.len())
                && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if !code(&to) || !code(&from) {
            return wrong("a language is a code such as en or zh".to_owned());
        }
        if text.trim().is_empty() || text.chars().count() > MAX_CHARS {
            return wrong(format!("the text must have 1 to {MAX_CHARS} characters"));
        }
        let translated = match &self.way {
            Way::Server {
                upstream,
                endpoint,
                key,
            } => {
                let mut body = json!({"q": text, "source": from, "target": to, "format": "text"});
                if let Some(key) = key {
                    body["api_key"] = key.expose_secret().into();
                }
                let request = upstream.client().post(endpoint.clone()).json(&body);
                upstream.json::<Answer>(request).await?.translated
            }
            Way::Model(model) => {
                let request = ChatRequest {
                    max_output: Some(MAX_OUTPUT),
                    temperature: Some(0.0),
                    ..ChatRequest::new(vec![
                        Message::system(PROMPT.replace("{language}", &to)),
                        Message::user(text),
                    ])
                };
                let call = call.clone().with_purpose("translate", call.critical + 1);
                let stream = model.stream(call, Arc::new(request));
                let answer = ChatAnswer::collect(stream).await;
                answer
                    .map_err(|error| ToolError::Transient {
                        detail: format!("the model cannot translate: {}", error.label()),
                    })?
                    .text
            }
        };
        Ok(ToolOutput::text(translated))
    }
}
