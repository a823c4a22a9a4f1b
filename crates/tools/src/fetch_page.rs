//! A page of the web as readable text.
//!
//! Invariants: only what [`WebRules`] allow is read; a page costs at most two seconds and
//! [`readable::MAX_NODES`] nodes, whatever stands in it. Deliberately absent: running
//! scripts, forms, cookies, anything but reading.

mod readable;

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Resolver, WebError, WebRules, arguments,
    text::plain,
    typed::schema,
    web::{Body, Kind, Web},
};

/// Characters of a page that are given at a time.
const PART_CHARS: usize = 3_500;

/// Reads pages.
#[derive(Debug)]
pub struct FetchPage {
    spec: ToolSpec,
    web: Web,
}

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// The page's full address, e.g. https://example.org/page.
    url: String,
    /// The character to start at, to read on in a long page. Default 0.
    #[serde(default)]
    start: usize,
}

impl FetchPage {
    /// Reads what the rules allow, finding hosts with this resolver.
    ///
    /// # Errors
    ///
    /// [`WebError`] when no HTTP client can be made.
    pub fn new(rules: WebRules, resolver: Arc<dyn Resolver>) -> Result<Self, WebError> {
        let description = "Reads a page of the web as text. Use it to look into a source.";
        Ok(Self {
            spec: ToolSpec::new("fetch_page", description, schema::<Arguments>()),
            web: Web::new(rules, resolver)?,
        })
    }
}

#[async_trait]
impl Tool for FetchPage {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { url, start } = arguments(value)?;
        let body = self.web.read(&url).await?;
        let source = body.url.to_string();
        let read = tokio::task::spawn_blocking(move || part(body, start)).await;
        let content = read.map_err(|_| ToolError::Arguments {
            detail: "the page cannot be read: it breaks the reader".to_owned(),
        })??;
        Ok(ToolOutput {
            sources: vec![source],
            ..ToolOutput::text(content)
        })
    }
}

fn part(body: Body, start: usize) -> Result<String, ToolError> {
    let cut = body.cut;
    let text = match body.kind {
        Kind::Html => readable::text(&body.text)?,
        Kind::Plain => body.text,
    };
    let text = plain(text);
    let mut rest = text.chars().skip(start);
    let mut part: String = rest.by_ref().take(PART_CHARS).collect();
    let left = rest.count();
    if left > 0 {
        let next = start + PART_CHARS;
        part.push_str(&format!(
            "…\n\n({left} characters more: read on with \"start\": {next})"
        ));
    } else if cut {
        part.push_str("…\n\n(The page is longer, but too large to be read on.)");
    } else if part.trim().is_empty() {
        part = "(The page has no text.)".to_owned();
    }
    Ok(part)
}
