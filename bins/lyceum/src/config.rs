//! The configuration as it is written: a TOML file, `LYCEUM_*` variables and flags.
//!
//! Invariant: every key is known here, with its unit, default and range; an unknown
//! key is an error. Deliberately absent: anything derived from the machine (which
//! provider is there, where the data directory is) — `resolve` does that.

mod alerts;
mod auth;
mod embedding;
mod langgraph;
mod llm;
mod load;
mod mcp;
mod panel;
mod privacy;
mod queue;
mod resolve;
mod show;
mod store;
mod tools;
mod traces;

use std::path::PathBuf;

use lyceum_core::Tone;
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

pub(crate) use alerts::Alerts;
pub(crate) use auth::{Auth, Jwt, Key, Limits, Replaced, Scope};
pub(crate) use embedding::{Embedding, EmbeddingModel};
pub(crate) use langgraph::{Langgraph, Samples, Webhooks};
pub(crate) use llm::{Balance, Breaker, Cache, CacheMode, Cost, Endpoint, Fallback, Hedge, Retry};
pub(crate) use load::{ConfigError, load, nearest};
pub(crate) use mcp::{Mcp, McpServer};
pub(crate) use panel::{Panel, PanelSeat};
pub(crate) use privacy::Privacy;
pub(crate) use queue::Queue;
pub(crate) use resolve::{Resolved, resolve};
pub(crate) use show::show;
pub(crate) use store::{Store, StoreKind, Vectors, VectorsKind};
pub(crate) use tools::{Engine as ToolEngine, Tool as ToolSettings, Tools};
pub(crate) use traces::Traces;

/// The whole configuration.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where and how requests are taken.
    pub server: Server,
    /// Where data is kept.
    pub data: Data,
    /// What keeps conversations and memories.
    pub store: Store,
    /// What keeps the vectors by which memories are found by meaning.
    pub vectors: Vectors,
    /// Which model answers.
    pub model: Model,
    /// What may be asked of the model.
    pub queue: Queue,
    /// The Redis server that several processes share.
    pub redis: Redis,
    /// When a failed call is made again.
    pub retry: Retry,
    /// When an endpoint that keeps failing is left alone.
    pub breaker: Breaker,
    /// How calls are spread over the endpoints of one model.
    pub balance: Balance,
    /// A second attempt beside a slow one.
    pub hedge: Hedge,
    /// Who answers when the model cannot.
    pub fallback: Fallback,
    /// Answers that are given again.
    pub cache: Cache,
    /// Prices and budgets.
    pub cost: Cost,
    /// Which models turn texts into vectors.
    pub embedding: Embedding,
    /// Who may call.
    pub auth: Auth,
    /// How often they may.
    pub limits: Limits,
    /// How the student speaks.
    pub student: Student,
    /// How the panel discusses.
    pub panel: Panel,
    /// What is remembered and how.
    pub memory: Memory,
    /// Which tools the student has and how they are called.
    pub tools: Tools,
    /// What clients of the LangGraph API find beside the student.
    pub langgraph: Langgraph,
    /// Which programs' tools it has too.
    pub mcp: Mcp,
    /// Where personal data and secrets are taken out.
    pub privacy: Privacy,
    /// What is logged.
    pub log: Log,
    /// Where spans are sent.
    pub traces: Traces,
    /// What the server tells about itself.
    pub alerts: Alerts,
}

/// `[server]`: where and how requests are taken.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    /// Address and port, or `unix:` and a path. Default `127.0.0.1:8080`. An address that is not
    /// loopback needs keys or an issuer (`[auth]`).
    pub listen: String,
    /// The largest request body, in bytes. Default 1 MiB; 1 KiB to 64 MiB.
    pub max_body_bytes: usize,
    /// How long a request may take, in seconds. Default 120; 1 to 3600. Streams are exempt.
    pub request_timeout_seconds: u64,
    /// The most connections open at once. Default 16384; 1 to 1,000,000.
    pub max_connections: usize,
    /// The most requests being answered at once, streams up to their headers; more get 503.
    /// Default 10,000; 1 to 1,000,000.
    pub max_requests: usize,
    /// The most event streams open at once, and as many WebSockets; who comes then gets 503 with a
    /// place in the line. Default 1,000; 1 to 1,000,000.
    pub max_streams: usize,
    /// How long answers to GET are given again, in seconds. Default 5; 0 (never) to 3600.
    pub response_cache_seconds: u64,
    /// How much of them is kept, in MiB. Default 32; 1 to 65,536.
    pub response_cache_mib: u64,
    /// The file of the certificate and its chain, in PEM; with `tls_key` the server speaks TLS.
    /// Default: none. Both files are read again when they change.
    pub tls_cert: Option<PathBuf>,
    /// The file of its private key, in PEM, not encrypted. Default: none.
    pub tls_key: Option<PathBuf>,
    /// Networks (`10.0.0.0/8`), addresses, or `unix` for Unix sockets, whose word about a
    /// client's address counts. Default: none.
    pub trusted_proxies: Vec<String>,
    /// Where they write it: `x-forwarded-for` (default) or `forwarded`.
    pub forwarded_header: ForwardedIn,
    /// Whether their connections begin with a header of the PROXY protocol. Default false.
    pub proxy_protocol: bool,
    /// The origins whose pages may call, e.g. `https://app.example.org`. Default: none.
    pub cors_origins: Vec<String>,
    /// How long to keep serving after a stop signal while `/readyz` already says no, in
    /// seconds. Default 0; up to 600. Set it to the balancer's health interval × 2.
    pub drain_seconds: u64,
    /// How long running requests may take after that before they are cut, in seconds.
    /// Default 30; 1 to 3600.
    pub stop_timeout_seconds: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            max_body_bytes: 1 << 20,
            request_timeout_seconds: 120,
            max_connections: 16_384,
            max_requests: 10_000,
            max_streams: 1_000,
            response_cache_seconds: 5,
            response_cache_mib: 32,
            tls_cert: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedIn::default(),
            proxy_protocol: false,
            cors_origins: Vec::new(),
            drain_seconds: 0,
            stop_timeout_seconds: 30,
        }
    }
}

/// In which header proxies write where a request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedIn {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// `[data]`: where data is kept.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Data {
    /// The data directory. Default: `lyceum` in the platform's data directory.
    pub dir: Option<PathBuf>,
}

/// `[model]`: which model answers.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Model {
    /// `auto` (default), `offline`, `local`, `anthropic`, or a preset of the OpenAI dialect; the
    /// error about an unknown one lists them.
    pub provider: Option<String>,
    /// The model's name at the provider, or the path of a GGUF file for `local`.
    pub name: Option<String>,
    /// The address of the API. Default: the provider's own.
    pub base_url: Option<String>,
    /// The key. Better kept in the provider's own variable, e.g. `OPENAI_API_KEY`.
    #[serde(serialize_with = "masked")]
    pub api_key: Option<SecretString>,
    /// The variable that holds the key. Default: the provider's own.
    pub api_key_env: Option<String>,
    /// How long connecting may take, in seconds. Default 5; 1 to 120.
    pub connect_timeout_seconds: Option<u64>,
    /// How long the first token may take, in seconds. Default 60; 1 to 600.
    pub first_token_timeout_seconds: Option<u64>,
    /// How long a pause between two pieces may last, in seconds. Default 30; 1 to 600.
    pub chunk_timeout_seconds: Option<u64>,
    /// How long a whole answer may take, in seconds. Default 300; 1 to 3600.
    pub total_timeout_seconds: Option<u64>,
    /// Its quota. Default: `[queue]`.
    pub queue: Option<Queue>,
    /// Further keys or addresses of the same model, used beside the first one.
    pub endpoints: Vec<Endpoint>,
}

/// `[redis]`: the Redis server that several processes share.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Redis {
    /// Its address, e.g. `redis://:PASSWORD@HOST:6379/0` or `unix:///run/redis.sock`. Better
    /// kept in `LYCEUM_REDIS__URL` when it holds a password. Default: none.
    #[serde(serialize_with = "masked")]
    pub url: Option<SecretString>,
}

/// `[student]`: how the student speaks.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Student {
    /// In which role it asks where a request does not say: `curious_child` (default),
    /// `sceptical_peer` or `examiner`.
    pub tone: Tone,
    /// Whether a model judges its own questions before the learner hears them, beside the
    /// rules: one more call a turn. Default false.
    pub graded: bool,
    /// What looking for the gaps of one explanation may cost, in US dollars; the call that
    /// crosses it is the last but one. Needs a price for the model. Default: as much as it takes.
    pub turn_usd: Option<f64>,
}

/// `[memory]`: what is remembered and how.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    /// Messages of the conversation that the student sees. Default 10; 2 to 100.
    pub recent_messages: usize,
    /// Memories of earlier conversations that the student sees. Default 3; 0 to 50.
    pub recalled: usize,
    /// Whether what was taught is remembered, and long conversations are summarised in the
    /// background. Default true.
    pub consolidate: bool,
    /// By what memories are found beside their words, in the embedded store: `off` (default);
    /// `bundled`, the English encoder inside this program, which costs some 100 MB and a forward
    /// pass every turn; or a folder with another one's `model.gguf` and `tokenizer.json`, whose
    /// name is the model's id.
    pub encoder: String,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            recent_messages: 10,
            recalled: 3,
            consolidate: true,
            encoder: "off".to_owned(),
        }
    }
}

/// `[log]`: what is logged, on standard error.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `text` or `json`. Default: text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// A filter such as `info,lyceum_llm=debug`. Default `info`.
    pub filter: String,
    /// How many lines a second one place of the program may log, warnings, errors and the audit
    /// aside. Default 0: any number.
    pub most_per_second: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: None,
            filter: "info".to_owned(),
            most_per_second: 0,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn masked<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => serializer.serialize_str("********"),
        None => serializer.serialize_none(),
    }
}
