//! Whether an Ollama runs somewhere, and which models it has.
//!
//! Source: Ollama API documentation, "List Local Models". Chatting goes through the
//! OpenAI dialect, see the preset `ollama`.

use std::time::Duration;

use lyceum_core::{ChatError, TimeoutStage};
use serde::Deserialize;
use tokio::time::timeout;

use crate::failure::{Complaint, protocol};

/// The longest list that is read: hundreds of models.
const MAX_BYTES: usize = 1 << 20;

/// A model that an Ollama has on its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaModel {
    /// The name to ask it by, e.g. `qwen3:8b`.
    pub name: String,
    /// Its size on disk, which is about what it takes in memory.
    pub size_bytes: u64,
    /// Whether it makes embeddings instead of answers, as far as its name and family tell.
    pub embeds_only: bool,
}

/// Lists the models of the Ollama at `base_url`, the most recently changed first, within
/// `limit`. The address may end in `/v1` as the preset's does.
///
/// # Errors
///
/// [`ChatError::Connect`] when nothing listens there, [`ChatError::Timeout`], and
/// [`ChatError::Protocol`] or an error of the status when something else does.
pub async fn ollama_models(base_url: &str, limit: Duration) -> Result<Vec<OllamaModel>, ChatError> {
    let listed = timeout(limit, list(base_url)).await;
    listed.map_err(|_| ChatError::Timeout {
        stage: TimeoutStage::Total,
        after: limit,
    })?
}

async fn list(base_url: &str) -> Result<Vec<OllamaModel>, ChatError> {
    #[derive(Deserialize)]
    struct Tags {
        models: Vec<Tag>,
    }
    #[derive(Deserialize)]
    struct Tag {
        name: String,
        #[serde(default)]
        size: u64,
        #[serde(default)]
        details: Details,
    }
    #[derive(Deserialize, Default)]
    struct Details {
        #[serde(default)]
        family: Option<String>,
    }

    let base_url = base_url.trim_end_matches('/').trim_end_matches("/v1");
    let unreachable = |error: reqwest::Error| ChatError::Connect {
        provider: "ollama".to_owned(),
        source: Box::new(error.without_url()),
    };
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(unreachable)?;
    let request = client.get(format!("{base_url}/api/tags"));
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(protocol(format_args!("it has more than {MAX_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(Complaint::of_body(&body).into_error(status.as_u16(), None, None));
    }
    let tags: Tags = serde_json::from_slice(&body)
        .map_err(|error| protocol(format_args!("it is no list of models: {error}")))?;
    let models = tags.models.into_iter().map(|tag| {
        let family = tag.details.family.unwrap_or_default();
        OllamaModel {
            embeds_only: tag.name.contains("embed") || family.contains("bert"),
            name: tag.name,
            size_bytes: tag.size,
        }
    });
    Ok(models.collect())
}
