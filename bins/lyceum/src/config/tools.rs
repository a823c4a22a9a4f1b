//! The configuration of the tools.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::masked;

/// `[tools]`: which tools the student has and how they are called. `[tools.NAME]` says the
/// latter for each.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tools {
    /// The tools that the student may call. Default: all that are set up.
    pub student: Option<Vec<String>>,
    /// A SearXNG instance for web search, e.g. `https://search.example.org`. Default: none.
    /// The same as `engine = "searxng"` and `url` in `[tools.search]`.
    pub searxng_url: Option<String>,
    /// A folder of text and Markdown files that the student may look things up in. Default: none.
    pub documents: Option<PathBuf>,
    /// A folder of CSV and JSON files that `query_data` may be asked about. Default: none.
    pub data: Option<PathBuf>,
    /// Which wiki `wikipedia` reads: its address, in which `{language}` stands for a
    /// language's code. Default `https://{language}.wikipedia.org`.
    pub wikipedia_url: Option<String>,
    /// Whose web search is used.
    pub search: Search,
    /// Which pages `fetch_page` may read.
    pub pages: Pages,
    /// Where `translate` has texts translated.
    pub translation: Translation,
    /// The calculator. Default limits.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub calculate: Tool,
    /// Date and time. Default limits, no cache.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub date_time: Tool,
    /// What the user taught before. Default limits, no cache.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub recall: Tool,
    /// The document folder.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub look_up: Tool,
    /// Web search. Default 300 a minute, cached, kept warm.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub web_search: Tool,
    /// Reading pages. Off by default; 16 at once, 120 a minute, 15 s, cached, no breaker.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub fetch_page: Tool,
    /// Wikipedia. Off by default; 300 a minute, cached, kept warm.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub wikipedia: Tool,
    /// Translation. Off by default; 300 a minute, 30 s, cached.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub translate: Tool,
    /// The data folder. Default limits.
    #[serde(skip_serializing_if = "Tool::is_unset")]
    pub query_data: Tool,
}

/// `[tools.search]`: whose web search is used.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Search {
    /// `searxng`, `tavily`, `brave` or `bing`. Default: none, and no web search.
    pub engine: Option<Engine>,
    /// The address. Default: the engine's own; SearXNG has none.
    pub url: Option<String>,
    /// The key. Better kept in the variable `LYCEUM_TOOLS__SEARCH__API_KEY`.
    #[serde(serialize_with = "masked")]
    pub api_key: Option<SecretString>,
}

/// A search engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// A SearXNG instance.
    SearXng,
    /// Tavily.
    Tavily,
    /// Brave Search.
    Brave,
    /// Bing Web Search and what speaks like it.
    Bing,
}

/// `[tools.pages]`: which pages may be read, beside those of the public web.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pages {
    /// The only hosts that may be read, subdomains included. Default: none named, all may.
    pub hosts: Vec<String>,
    /// Networks that may be read though they are not public, e.g. `10.1.0.0/16`. Default: none.
    pub networks: Vec<String>,
    /// Ports. Default 80 and 443.
    pub ports: Vec<u16>,
    /// The largest page, in bytes, decompressed. Default 2 MiB; 1 KiB to 16 MiB. What is
    /// larger is cut.
    pub max_bytes: usize,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            networks: Vec::new(),
            ports: vec![80, 443],
            max_bytes: 2 << 20,
        }
    }
}

/// `[tools.translation]`: where texts are translated.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Translation {
    /// A LibreTranslate server. Default: none, the model translates.
    pub url: Option<String>,
    /// Its key, if it needs one. Better kept in `LYCEUM_TOOLS__TRANSLATION__API_KEY`.
    #[serde(serialize_with = "masked")]
    pub api_key: Option<SecretString>,
}

/// One `[tools.NAME]`: how a tool is called. What is not set is the tool's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tool {
    /// Whether there is the tool at all, as far as it is set up.
    pub enabled: Option<bool>,
    /// Calls running at once. Default 100; 1 to 100,000.
    pub max_concurrent: Option<u32>,
    /// Calls that start in any 60 seconds; others wait. 1 to 1,000,000; 0: no limit.
    pub max_per_minute: Option<u64>,
    /// How long a call may take, waiting included. Default 10; 1 to 600.
    pub timeout_seconds: Option<u64>,
    /// The most characters of a result. Default 4,000; 100 to 15,000.
    pub max_chars: Option<usize>,
    /// Whether results are given again.
    pub cache: Option<bool>,
    /// How old such a result may be. Default 600; 1 to 86,400.
    pub cache_ttl_seconds: Option<u64>,
    /// How much older it may be, marked as degraded, while the tool fails. Default 3,600; 0 to
    /// 604,800.
    pub cache_stale_seconds: Option<u64>,
    /// The parameters that tell calls apart. Default: all.
    pub cache_key: Option<Vec<String>>,
    /// Whether users of one tenant are given the results of those of another, where these
    /// do not depend on who asks. Default true.
    pub cache_across_tenants: Option<bool>,
    /// The most memory for results. Default 8; 1 to 1,024.
    pub cache_mib: Option<usize>,
    /// How often hot results are renewed before they are too old. Default 300 where the tool
    /// is kept warm, else 0, which is never; up to 86,400.
    pub warm_seconds: Option<u64>,
    /// How many are renewed at a time. Default 20; 1 to 1,000.
    pub warm_results: Option<usize>,
    /// Failures in a row after which the tool is left alone. Default 5; 1 to 1,000; 0: never.
    pub breaker_failures: Option<u32>,
    /// For how long. Default 60; 1 to 3,600.
    pub breaker_open_seconds: Option<u64>,
    /// Attempts in all of a call that failed in a way that may pass. Default 2; 1 to 5.
    pub attempts: Option<u32>,
    /// What is answered, marked as degraded, when the tool fails and nothing is kept.
    /// Default: the error is.
    pub default_result: Option<String>,
    /// Whether a person must agree to every call. The student of this server asks nobody, so
    /// that such a call is refused. Default false.
    pub approval: Option<bool>,
}

impl Tool {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}
