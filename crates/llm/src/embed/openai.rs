//! Embeddings in the OpenAI dialect.
//!
//! Source: OpenAI API reference, "Create embeddings". Deliberately absent: texts as token
//! numbers, and cutting of texts that are too long, which is for the caller to decide.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, Tokens, Usage, Vector,
};
use lyceum_queue::Queue;
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    BuildError, Pool, Preset, Timeouts,
    clock::Clock,
    failure::{Complaint, protocol},
    transport::{Setup, Transport},
    wire::unwritable,
};

/// How much of an answer is read: 2,048 vectors of 4,096 numbers in decimal take less.
const MAX_ANSWER_BYTES: usize = 192 << 20;

/// How vectors are written in an answer. Either form is understood whatever was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmbedEncoding {
    /// As decimal numbers, which every server knows.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit numbers: a quarter of the size.
    Base64,
}

/// How an embedding provider of the OpenAI dialect is reached.
#[derive(Debug, Clone)]
pub struct OpenAiEmbedConfig {
    /// A short, bounded name for logs and labels.
    pub name: String,
    /// The address up to and without `/embeddings`, e.g. `https://api.openai.com/v1`.
    pub base_url: String,
    /// The key; `None` for servers that want none.
    pub api_key: Option<SecretString>,
    /// The model's id, e.g. `text-embedding-3-small`.
    pub model: String,
    /// How many numbers a vector has. Answers with another number are refused.
    pub dimensions: usize,
    /// Whether `dimensions` is asked for, for models that can shorten their vectors.
    /// Default false.
    pub send_dimensions: bool,
    /// How vectors are asked for. Default [`EmbedEncoding::Float`].
    pub encoding: EmbedEncoding,
    /// The most texts of one request, at least 1; more become several requests, one after
    /// the other. Default 64. OpenAI takes 2,048, other providers as few as 10.
    pub max_texts: usize,
    /// What stands before a searched text, for models that were trained so. Default empty.
    pub document_prefix: String,
    /// What stands before a text that is searched for. Default empty.
    pub query_prefix: String,
    /// How long to wait for each request; `first_token` is the limit for an answer's head.
    pub timeouts: Timeouts,
    /// The connections that are kept open.
    pub pool: Pool,
    /// The queue that is told what answers' headers say about the provider's quotas.
    pub queue: Option<Queue>,
}

impl OpenAiEmbedConfig {
    /// A preset's configuration, without a key.
    #[must_use]
    pub fn from_preset(preset: &Preset, model: impl Into<String>, dimensions: usize) -> Self {
        Self {
            name: preset.name.to_owned(),
            base_url: preset.base_url.to_owned(),
            api_key: None,
            model: model.into(),
            dimensions,
            send_dimensions: false,
            encoding: EmbedEncoding::default(),
            max_texts: 64,
            document_prefix: String::new(),
            query_prefix: String::new(),
            timeouts: Timeouts::default(),
            pool: Pool::default(),
            queue: None,
        }
    }
}

/// An embedding model behind the OpenAI dialect. Build it once: it owns a connection pool.
#[derive(Debug, Clone)]
pub struct OpenAiEmbedder {
    model: Arc<str>,
    dimensions: usize,
    send_dimensions: bool,
    encoding: EmbedEncoding,
    max_texts: usize,
    document_prefix: Arc<str>,
    query_prefix: Arc<str>,
    transport: Arc<Transport>,
}

impl OpenAiEmbedder {
    /// A provider with its own HTTP client; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when the address or the key cannot be used, or the client not built.
    pub fn new(config: OpenAiEmbedConfig) -> Result<Self, BuildError> {
        let transport = Transport::new(Setup {
            provider: config.name.into(),
            base_url: &config.base_url,
            path: &["embeddings"],
            key: config.api_key,
            key_header: (header::AUTHORIZATION, "Bearer "),
            more_headers: &[],
            timeouts: config.timeouts,
            pool: config.pool,
            queue: config.queue,
        })?;
        Ok(Self {
            model: config.model.into(),
            dimensions: config.dimensions,
            send_dimensions: config.send_dimensions,
            encoding: config.encoding,
            max_texts: config.max_texts.max(1),
            document_prefix: config.document_prefix.into(),
            query_prefix: config.query_prefix.into(),
            transport: Arc::new(transport),
        })
    }

    async fn request(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let prefix = match kind {
            EmbedKind::Document => &self.document_prefix,
            EmbedKind::Query => &self.query_prefix,
        };
        let body = Body {
            model: &self.model,
            input: Texts { prefix, texts },
            encoding_format: match self.encoding {
                EmbedEncoding::Float => "float",
                EmbedEncoding::Base64 => "base64",
            },
            dimensions: self.send_dimensions.then_some(self.dimensions),
        };
        let body = serde_json::to_vec(&body).map_err(unwritable)?;
        let clock = Clock::start(self.transport.timeouts, call.deadline);
        clock.check_total()?;
        let answer = self.transport.whole(body, &clock, MAX_ANSWER_BYTES).await?;
        let embeddings = self.read(&answer, texts.len())?;
        embeddings.check(texts.len(), self.dimensions)?;
        Ok(embeddings)
    }

    fn read(&self, answer: &[u8], texts: usize) -> Result<Embeddings, ChatError> {
        let answer: Answer = serde_json::from_slice(answer)
            .map_err(|error| protocol(format_args!("it holds no embeddings: {error}")))?;
        if let Some(error) = answer.error.filter(|error| !error.is_null()) {
            return Err(Complaint::of_value(&error).into_stream_error(self.transport.key()));
        }
        let mut items = answer.data;
        // The order of the answer is the order of the texts unless it says otherwise.
        if items.iter().all(|item| item.index.is_some()) {
            items.sort_by_key(|item| item.index);
            let expected = (0..texts).map(Some);
            if !items.iter().map(|item| item.index).eq(expected) {
                return Err(protocol(
                    "its embeddings are numbered otherwise than its texts",
                ));
            }
        }
        let vectors = items.into_iter().map(|item| item.embedding.into_vector());
        Ok(Embeddings {
            vectors: vectors.collect::<Result<_, _>>()?,
            usage: Usage {
                input: Tokens(answer.usage.prompt_tokens.unwrap_or(0)),
                ..Usage::default()
            },
        })
    }
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn model(&self) -> &str {
        &self.model
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let mut all = Embeddings {
            vectors: Vec::with_capacity(texts.len()),
            usage: Usage::default(),
        };
        for some in texts.chunks(self.max_texts) {
            let embeddings = self.request(call, kind, some).await?;
            all.vectors.extend(embeddings.vectors);
            all.usage += embeddings.usage;
        }
        Ok(all)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Texts<'a>,
    encoding_format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

struct Texts<'a> {
    prefix: &'a str,
    texts: &'a [Arc<str>],
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.prefix.is_empty() {
            return serializer.collect_seq(self.texts.iter().map(|text| &**text));
        }
        let prefixed = self.texts.iter().map(|text| self.prefix.to_owned() + text);
        serializer.collect_seq(prefixed)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Vec<Item>,
    #[serde(default)]
    usage: WireUsage,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Option<usize>,
    embedding: Numbers,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    Float(Vec<f32>),
    Base64(String),
}

impl Numbers {
    fn into_vector(self) -> Result<Vector, ChatError> {
        let text = match self {
            Self::Float(numbers) => return Ok(numbers.into()),
            Self::Base64(text) => text,
        };
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| protocol(format_args!("a vector is no base64: {error}")))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(protocol("a vector ends within a number"));
        }
        Ok(numbers.iter().copied().map(f32::from_le_bytes).collect())
    }
}

#[derive(Deserialize, Default)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
}
