//! Wikipedia, or any MediaWiki that has its extracts: the openings of the articles found.

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    arguments,
    text::cap,
    typed::schema,
    upstream::{Upstream, UpstreamError, endpoint},
};

/// Articles given to the model.
const MAX_ARTICLES: &str = "3";
/// Characters kept of one article's opening.
const OPENING_CHARS: usize = 1_200;
/// The longest query, in bytes.
const MAX_QUERY_BYTES: usize = 300;
/// What stands for the language in an address.
const LANGUAGE: &str = "{language}";

/// Looks things up in Wikipedia.
#[derive(Debug)]
pub struct Wikipedia {
    spec: ToolSpec,
    upstream: Upstream,
    base: String,
}

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// What to look up, a few keywords.
    query: String,
    /// The code of the language to read in, e.g. en or zh. Default en.
    #[serde(default = "english")]
    language: String,
}

fn english() -> String {
    "en".to_owned()
}

#[derive(Deserialize)]
struct Answer {
    /// Missing where nothing is found.
    #[serde(default)]
    query: Found,
}

#[derive(Default, Deserialize)]
struct Found {
    #[serde(default)]
    pages: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: String,
    /// The place among those found, from 1.
    #[serde(default)]
    index: u32,
    #[serde(default)]
    extract: String,
}

impl Wikipedia {
    /// Wikipedia itself.
    pub const ADDRESS: &str = "https://{language}.wikipedia.org";

    /// The wiki at `base`, in which `{language}` stands for the code of a language.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Address`] when `base` is no address.
    pub fn new(base: &str) -> Result<Self, UpstreamError> {
        endpoint(&base.replace(LANGUAGE, "en"), &[])?;
        let description = "Looks something up in Wikipedia and gives the openings of the \
                           articles found. Use it to check what is generally known.";
        Ok(Self {
            spec: ToolSpec::new("wikipedia", description, schema::<Arguments>()),
            upstream: Upstream::new("Wikipedia")?,
            base: base.to_owned(),
        })
    }
}

#[async_trait]
impl Tool for Wikipedia {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { query, language } = arguments(value)?;
        let wrong = |detail: String| ToolError::Arguments { detail };
        if query.trim().is_empty() || query.len() > MAX_QUERY_BYTES {
            return Err(wrong(format!(
                "the query must have 1 to {MAX_QUERY_BYTES} bytes"
            )));
        }
        // It becomes part of a host's name.
        let letters = |c: char| c.is_ascii_lowercase() || c == '-';
        if !(2..=12).contains(&language.len()) || !language.chars().all(letters) {
            return Err(wrong("language is a code such as en".to_owned()));
        }
        let base = self.base.replace(LANGUAGE, &language);
        let address = |path: &[&str]| endpoint(&base, path).map_err(|e| wrong(e.to_string()));
        let request = self.upstream.client().get(address(&["w", "api.php"])?);
        let request = request.query(&[
            ("action", "query"),
            ("generator", "search"),
            ("gsrsearch", &query),
            ("gsrlimit", MAX_ARTICLES),
            ("prop", "extracts"),
            ("exintro", "1"),
            ("explaintext", "1"),
            ("exlimit", MAX_ARTICLES),
            ("format", "json"),
            ("formatversion", "2"),
        ]);
        let answer: Answer = self.upstream.json(request).await?;
        let mut found = answer.query.pages;
        if found.is_empty() {
            return Ok(ToolOutput::text("nothing found"));
        }
        found.sort_by_key(|article| article.index);
        let mut sources = Vec::new();
        let mut openings = Vec::new();
        for Article { title, extract, .. } in found {
            let page = address(&["wiki", &title.replace(' ', "_")])?;
            sources.push(page.to_string());
            openings.push(format!("{title}\n{}", cap(extract, OPENING_CHARS)));
        }
        Ok(ToolOutput {
            sources,
            ..ToolOutput::text(openings.join("\n\n"))
        })
    }
}
