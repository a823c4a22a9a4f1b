//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::{Dict, Value};

use crate::config::{LogFormat, Scope};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "lyceum",
    version,
    about = "Teach an AI student; it finds the gaps in your explanation",
    after_help = "Without a key, a model file or an Ollama the student works offline, by rules and learnt weights.\n\
                  Settings come from flags, then LYCEUM_* variables (LYCEUM_SERVER__LISTEN), then --config FILE."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server and the page.
    Serve(Options),
    /// Serve the student and the tools over standard input and output to a program that speaks
    /// the Model Context Protocol.
    Mcp(Options),
    /// Print the resolved configuration, secrets masked, and which model would answer.
    Check(Options),
    /// Make an API key for the configuration file: prints the key once, and the lines.
    Key(KeyOptions),
    /// Add, list, revoke and rotate API keys, also while the server runs.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Check, mend, move and forget what is stored.
    #[command(subcommand)]
    Memory(MemoryCommand),
    /// Print what models cost, or what a month would cost.
    #[command(subcommand)]
    Cost(CostCommand),
    /// Plan for a number of people at once: keys of the provider, replicas, database, money.
    /// The server's own queue is run in virtual time.
    Capacity(CapacityOptions),
}

/// What to do with API keys. A running server follows within two seconds, at once on SIGHUP.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and show it, once; only its digest is kept.
    Add(AddOptions),
    /// List the keys, those of the configuration file too; the keys themselves are not kept.
    List(ListOptions),
    /// Refuse keys from now on. Their streams end.
    Revoke(RevokeOptions),
    /// Make a key anew, under its name and with its limits, and show it, once.
    Rotate(RotateOptions),
}

/// The flags of `keys add`.
#[derive(Debug, Args)]
pub(crate) struct AddOptions {
    /// Where the keys are kept.
    #[command(flatten)]
    pub store: StoreOptions,
    /// A name for lists and logs, which no other key has.
    pub name: String,
    /// The tenant whose data the key reaches.
    #[arg(long, value_name = "TENANT", default_value = "local")]
    pub tenant: String,
    /// The user inside the tenant [default: the name].
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// What it opens; may be given several times [default: all but operator].
    #[arg(long, value_name = "SCOPE", value_enum)]
    pub scope: Vec<Scope>,
    /// A model that it may name under /v1; may be given several times [default: all].
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    /// When it ends: 90d, 12h, 30m, a day such as 2027-01-31, or a time as in RFC 3339
    /// [default: never].
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Its requests in any 60 seconds [default: limits.key_per_minute].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// Its requests being answered at once, streams to their end [default: limits.key_requests].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrent_requests: Option<u32>,
    /// Its streams open at once, and as many WebSockets [default: limits.key_streams].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: Option<u32>,
    /// What its user may spend in a day, in US dollars, with all keys of theirs [default: no
    /// limit].
    #[arg(long, value_name = "DOLLARS")]
    pub daily_usd: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The flags of `keys list`.
#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Where the keys are kept.
    #[command(flatten)]
    pub store: StoreOptions,
    /// Only keys of this tenant.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The flags of `keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeOptions {
    /// Where the keys are kept.
    #[command(flatten)]
    pub store: StoreOptions,
    /// The names; all are revoked, or none.
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The flags of `keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateOptions {
    /// Where the keys are kept.
    #[command(flatten)]
    pub store: StoreOptions,
    /// The name.
    pub name: String,
    /// How long the former key is taken too: 7d, 12h, 30m, a day or a time [default: not at
    /// all].
    #[arg(long, value_name = "WHEN")]
    pub overlap: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with the memory. A file is locked by a server that runs: stop it first.
#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// Compare everything that follows from the stored rows with them; fails where it differs.
    Verify(StoreOptions),
    /// Make everything that follows from the stored rows anew.
    Rebuild(StoreOptions),
    /// Write the conversations and memories of a user to a new file, as JSON Lines.
    Export {
        /// Which store.
        #[command(flatten)]
        store: StoreOptions,
        /// Whose.
        #[command(flatten)]
        owner: Owner,
        /// The file, which must not be there.
        #[arg(value_name = "FILE")]
        output: PathBuf,
    },
    /// Read what `export` wrote; what is there already stays.
    Import {
        /// Which store.
        #[command(flatten)]
        store: StoreOptions,
        /// Whose they become.
        #[command(flatten)]
        owner: Owner,
        /// The file.
        #[arg(value_name = "FILE")]
        input: PathBuf,
    },
    /// Encrypt a store that was in the clear until now, with `privacy.encryption_key_file`. Goes on
    /// where an earlier run was cut off.
    Encrypt(StoreOptions),
    /// Give every tenant a new key and encrypt all anew with it; wrap the keys with the newest
    /// master key. Goes on where an earlier run was cut off.
    RotateKey(RotateKeyOptions),
    /// Delete the conversations and memories of a tenant or of one of its users, what the student
    /// knows of them and the sums of what was used, for good; of a whole tenant its key first, and
    /// its kept responses, streams and answers. Threads, runs and items of the LangGraph API stay.
    Erase(EraseOptions),
}

/// The flags of `memory rotate-key`.
#[derive(Debug, Args)]
pub(crate) struct RotateKeyOptions {
    /// Which store.
    #[command(flatten)]
    pub store: StoreOptions,
    /// Only wrap the keys with the newest master key: quick, and what they encrypted stays as it
    /// is.
    #[arg(long)]
    pub wrap_only: bool,
}

/// Which store a command works on.
#[derive(Debug, Args)]
pub(crate) struct StoreOptions {
    /// A TOML configuration file.
    #[arg(long, value_name = "FILE", env = "LYCEUM_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where data is kept [default: the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Whose data.
#[derive(Debug, Args)]
pub(crate) struct Owner {
    /// The tenant [default: local].
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// The user [default: local].
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The agent [default: feynman].
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
}

/// The flags of `memory erase`.
#[derive(Debug, Args)]
pub(crate) struct EraseOptions {
    /// Which store.
    #[command(flatten)]
    pub store: StoreOptions,
    /// The tenant.
    #[arg(long, value_name = "TENANT")]
    pub tenant: String,
    /// One of its users [default: all of them, and the tenant's records].
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Really erase.
    #[arg(long)]
    pub yes: bool,
}

impl StoreOptions {
    /// The flags given, in the shape of the configuration.
    pub(crate) fn overrides(&self) -> Dict {
        let mut sections = Dict::new();
        if let Some(dir) = &self.data_dir {
            let mut data = Dict::new();
            data.insert("dir".to_owned(), Value::from(dir.display().to_string()));
            sections.insert("data".to_owned(), Value::from(data));
        }
        sections
    }
}

/// What to do with prices.
#[derive(Debug, Subcommand)]
pub(crate) enum CostCommand {
    /// Estimate a month, before and after caching.
    Estimate(EstimateOptions),
    /// Print the known prices.
    Prices(PriceOptions),
}

/// Which prices, and how to print.
#[derive(Debug, Args)]
pub(crate) struct PriceOptions {
    /// A TOML file whose prices take the place of the built-in ones.
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The flags of `cost estimate`.
#[derive(Debug, Args)]
pub(crate) struct EstimateOptions {
    /// People.
    #[arg(long, value_name = "N")]
    pub users: u64,
    /// Model calls that each makes in a day.
    #[arg(long, value_name = "N")]
    pub calls_per_user: u64,
    /// Days in the month.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub days: u64,
    /// Input tokens of a call.
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub input_tokens: u64,
    /// Output tokens of a call.
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub output_tokens: u64,
    /// The share of calls answered from the answer cache, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub cache_hit_rate: f64,
    /// The share of input tokens read from the provider's prompt cache, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub prompt_cache_rate: f64,
    /// A model; may be given several times [default: small ones of several providers].
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    /// Which prices, and how to print.
    #[command(flatten)]
    pub prices: PriceOptions,
}

/// The flags of `capacity`.
#[derive(Debug, Args)]
pub(crate) struct CapacityOptions {
    /// People at once.
    #[arg(long, value_name = "N")]
    pub users: u32,
    /// How long they read before they ask again, on average, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub think: f64,
    /// Model calls a minute that one key may make.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub rpm: u64,
    /// Tokens a minute of one key, input and output together [default: not limited].
    #[arg(long, value_name = "N")]
    pub tpm: Option<u64>,
    /// Model calls of one key at once.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub concurrency: u32,
    /// How many keys there are; of more than 500 people a multiple of their parts [default: the
    /// fewest that meet the targets, as many in each part].
    #[arg(long, value_name = "N")]
    pub keys: Option<u32>,
    /// Model calls of a round of the panel; there are one to three rounds.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub calls_per_round: u32,
    /// The share of a role's words after which the next role begins, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub overlap: f64,
    /// Input tokens of a call.
    #[arg(long, value_name = "N", default_value_t = 1200)]
    pub input_tokens: u64,
    /// Output tokens of a call.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub output_tokens: u64,
    /// Seconds until the model's first token.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub first_token: f64,
    /// Tokens a second after it.
    #[arg(long, value_name = "N", default_value_t = 80.0)]
    pub speed: f64,
    /// The share of calls answered from the answer cache, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub cache_hit_rate: f64,
    /// The share of answers that begin with tools, 3 s in all, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub tool_share: f64,
    /// Cores of a replica.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    pub cores: f64,
    /// Memory of a replica.
    #[arg(long, value_name = "GIB", default_value_t = 2.0)]
    pub memory_gib: f64,
    /// Hours a day with this load, for the month.
    #[arg(long, value_name = "HOURS", default_value_t = 4.0)]
    pub hours_per_day: f64,
    /// Days in the month.
    #[arg(long, value_name = "N", default_value_t = 22.0)]
    pub days: f64,
    /// A model to price; may be given several times [default: three of different price].
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    /// Which prices, and how to print.
    #[command(flatten)]
    pub prices: PriceOptions,
}

/// The flags of `serve` and `check`; each overrides the same setting elsewhere.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A TOML configuration file.
    #[arg(long, value_name = "FILE", env = "LYCEUM_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on, or unix:PATH [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where data is kept [default: the platform's data directory].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// auto, offline, local, anthropic, openai, ark, deepseek, qwen, vllm or ollama [default: auto].
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// A model's name at the provider, or the path of a GGUF file to run in this process.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The address of the provider's API.
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// How log lines look [default: text on a terminal, else json].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged, e.g. `info,lyceum_llm=debug` [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// The flags of `key`.
#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    /// A name for logs; also the user.
    pub name: String,
    /// The tenant whose data the key reaches.
    #[arg(long, default_value = "local")]
    pub tenant: String,
}

impl Options {
    /// The flags given, in the shape of the configuration.
    pub(crate) fn overrides(&self) -> Dict {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let format = self.log_format.map(|format| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let mut sections = Dict::new();
        for (section, key, value) in [
            ("server", "listen", self.listen.clone()),
            ("data", "dir", path(&self.data_dir)),
            ("model", "provider", self.provider.clone()),
            ("model", "name", self.model.clone()),
            ("model", "base_url", self.base_url.clone()),
            ("log", "format", format),
            ("log", "filter", self.log.clone()),
        ] {
            let Some(value) = value else { continue };
            let entry = sections
                .entry(section.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, keys) = entry {
                keys.insert(key.to_owned(), Value::from(value));
            }
        }
        sections
    }
}
