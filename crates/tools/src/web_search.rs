//! Web search by a service that the operator names.
//!
//! The query travels as a value, never as part of a path. Deliberately absent: fetching the
//! pages found, which is [`FetchPage`](crate::FetchPage)'s work.

use std::fmt;

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use reqwest::RequestBuilder;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::{
    arguments,
    text::cap,
    typed::schema,
    upstream::{Upstream, UpstreamError, endpoint},
};

/// Results given to the model.
const MAX_RESULTS: usize = 5;
/// Characters kept of one result's text.
const SNIPPET_CHARS: usize = 400;
/// The longest query, in bytes.
const MAX_QUERY_BYTES: usize = 400;

/// Whose search is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchEngine {
    /// A SearXNG instance whose JSON format is enabled; needs an address, no key.
    SearXng,
    /// Tavily, `https://api.tavily.com`.
    Tavily,
    /// Brave Search, `https://api.search.brave.com`.
    Brave,
    /// Bing Web Search v7 and services that speak like it, `https://api.bing.microsoft.com`.
    Bing,
}

impl SearchEngine {
    fn base(self) -> Option<&'static str> {
        match self {
            Self::SearXng => None,
            Self::Tavily => Some("https://api.tavily.com"),
            Self::Brave => Some("https://api.search.brave.com"),
            Self::Bing => Some("https://api.bing.microsoft.com"),
        }
    }

    fn path(self) -> &'static [&'static str] {
        match self {
            Self::SearXng | Self::Tavily => &["search"],
            Self::Brave => &["res", "v1", "web", "search"],
            Self::Bing => &["v7.0", "search"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SearXng => "SearXNG",
            Self::Tavily => "Tavily",
            Self::Brave => "Brave Search",
            Self::Bing => "Bing Search",
        }
    }
}

/// Searches the web.
pub struct WebSearch {
    spec: ToolSpec,
    engine: SearchEngine,
    upstream: Upstream,
    endpoint: Url,
    key: Option<SecretString>,
}

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// A few keywords.
    query: String,
}

/// What the engines answer, one field each: SearXNG and Tavily, Brave, Bing.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Found>,
    web: Option<Brave>,
    #[serde(rename = "webPages")]
    web_pages: Option<Bing>,
}

#[derive(Deserialize)]
struct Brave {
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Bing {
    value: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    url: String,
    #[serde(default, alias = "name")]
    title: String,
    #[serde(default, alias = "description", alias = "snippet")]
    content: Option<String>,
}

impl WebSearch {
    /// A search through this engine, at its own address or another.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] when `base` is no address, or an address or key is missing.
    pub fn new(
        engine: SearchEngine,
        base: Option<&str>,
        key: Option<SecretString>,
    ) -> Result<Self, UpstreamError> {
        let base = base.or_else(|| engine.base()).unwrap_or_default();
        let endpoint = endpoint(base, engine.path())?;
        if engine != SearchEngine::SearXng && key.is_none() {
            return Err(UpstreamError::NoKey {
                service: engine.name(),
            });
        }
        let description =
            "Searches the web. Use it to check a fact that the explanation depends on.";
        Ok(Self {
            spec: ToolSpec::new("web_search", description, schema::<Arguments>()),
            engine,
            upstream: Upstream::new("the search engine")?,
            endpoint,
            key,
        })
    }

    /// A search through the SearXNG instance at `base`, whose JSON format must be enabled.
    ///
    /// # Errors
    ///
    /// As [`WebSearch::new`].
    pub fn searxng(base: &str) -> Result<Self, UpstreamError> {
        Self::new(SearchEngine::SearXng, Some(base), None)
    }

    fn request(&self, query: &str) -> RequestBuilder {
        let client = self.upstream.client();
        let get = |pairs: &[(&str, &str)]| client.get(self.endpoint.clone()).query(pairs);
        let key = self.key.as_ref().map_or("", |key| key.expose_secret());
        let count = MAX_RESULTS.to_string();
        match self.engine {
            SearchEngine::SearXng => get(&[("q", query), ("format", "json")]),
            SearchEngine::Tavily => client
                .post(self.endpoint.clone())
                .bearer_auth(key)
                .json(&json!({"query": query, "max_results": MAX_RESULTS})),
            SearchEngine::Brave => {
                get(&[("q", query), ("count", &count)]).header("x-subscription-token", key)
            }
            SearchEngine::Bing => {
                get(&[("q", query), ("count", &count)]).header("ocp-apim-subscription-key", key)
            }
        }
    }
}

impl fmt::Debug for WebSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSearch")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
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
        let answer: Answer = self.upstream.json(self.request(&query)).await?;
        let brave = answer.web.map(|web| web.results).unwrap_or_default();
        let bing = answer
            .web_pages
            .map(|pages| pages.value)
            .unwrap_or_default();
        let all = answer.results.into_iter().chain(brave).chain(bing);
        let found: Vec<Found> = all.take(MAX_RESULTS).collect();
        if found.is_empty() {
            return Ok(ToolOutput::text("nothing found"));
        }
        let entry = |found: &Found| {
            let text = found.content.clone().unwrap_or_default();
            format!("{}\n{}", found.title, cap(text, SNIPPET_CHARS))
        };
        let content: Vec<String> = found.iter().map(entry).collect();
        Ok(ToolOutput {
            content: content.join("\n\n"),
            sources: found.into_iter().map(|found| found.url).collect(),
            degraded: false,
        })
    }
}
