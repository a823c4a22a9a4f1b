//! Web search by a SearXNG instance that the operator names.
//!
//! Invariant: only the configured address is called, redirects to elsewhere are not
//! followed, and at most [`MAX_BYTES`] of an answer are read. The query travels as a
//! form value, never as part of a path. Deliberately absent: fetching the pages found.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::{arguments, cap, spec};

/// The most bytes read of an answer: SearXNG's pages of ten results stay far below.
const MAX_BYTES: usize = 1 << 20;
/// Results given to the model.
const MAX_RESULTS: usize = 5;
/// Characters kept of one result's text.
const SNIPPET_CHARS: usize = 400;
/// The longest query, in bytes.
const MAX_QUERY_BYTES: usize = 400;

/// Why a search cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebSearchError {
    /// The address is not an HTTP address.
    #[error("use {0:?} as a SearXNG address: give one such as https://search.example.org")]
    Address(String),
    /// The HTTP client could not be made.
    #[error("make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Searches the web.
#[derive(Debug)]
pub struct WebSearch {
    spec: ToolSpec,
    client: reqwest::Client,
    endpoint: Url,
}

#[derive(Deserialize)]
struct Arguments {
    query: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    url: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    content: String,
}

impl WebSearch {
    /// A search through the SearXNG instance at `base`, whose JSON format must be enabled.
    ///
    /// # Errors
    ///
    /// [`WebSearchError::Address`] when `base` is not an `http` or `https` address.
    pub fn searxng(base: &str) -> Result<Self, WebSearchError> {
        let wrong = || WebSearchError::Address(base.to_owned());
        let mut endpoint = Url::parse(base).map_err(|_| wrong())?;
        if !matches!(endpoint.scheme(), "http" | "https") {
            return Err(wrong());
        }
        endpoint
            .path_segments_mut()
            .map_err(|()| wrong())?
            .pop_if_empty()
            .push("search");
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(WebSearchError::Client)?;
        let parameters = json!({
            "type": "object",
            "properties": {"query": {"type": "string", "description": "a few keywords"}},
            "required": ["query"],
        });
        let description =
            "Searches the web. Use it to check a fact that the explanation depends on.";
        Ok(Self {
            spec: spec("web_search", description, parameters),
            client,
            endpoint,
        })
    }

    async fn fetch(&self, query: &str) -> Result<Vec<u8>, ToolError> {
        let failed = |error: reqwest::Error| ToolError::Failed {
            detail: error.without_url().to_string(),
        };
        let request = self
            .client
            .get(self.endpoint.clone())
            .query(&[("q", query), ("format", "json")]);
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            let detail = format!(
                "the search engine answered with status {}",
                response.status().as_u16()
            );
            return Err(ToolError::Failed { detail });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(ToolError::Failed {
                    detail: "the search engine's answer is too large".to_owned(),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

#[async_trait]
impl Tool for WebSearch {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { query } = arguments(value)?;
        if query.trim().is_empty() || query.len() > MAX_QUERY_BYTES {
            let detail = format!("the query must have 1 to {MAX_QUERY_BYTES} bytes");
            return Err(ToolError::Arguments { detail });
        }
        let body = self.fetch(&query).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| ToolError::Failed {
            detail: "the search engine did not answer in JSON: enable its json format".to_owned(),
        })?;
        let found: Vec<Found> = answer.results.into_iter().take(MAX_RESULTS).collect();
        if found.is_empty() {
            return Ok(ToolOutput::text("nothing found"));
        }
        let entry = |found: &Found| {
            format!(
                "{}\n{}",
                found.title,
                cap(found.content.clone(), SNIPPET_CHARS)
            )
        };
        let content: Vec<String> = found.iter().map(entry).collect();
        Ok(ToolOutput {
            content: content.join("\n\n"),
            sources: found.into_iter().map(|found| found.url).collect(),
            degraded: false,
        })
    }
}
