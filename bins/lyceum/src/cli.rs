//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::{Dict, Value};

use crate::config::LogFormat;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "lyceum",
    version,
    about = "Teach an AI student; it finds the gaps in your explanation",
    after_help = "Without a key, a model file or an Ollama the student works offline, by rules.\n\
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
    /// Print the resolved configuration, secrets masked, and which model would answer.
    Check(Options),
    /// Make an API key: prints the key once, and the lines for the configuration file.
    Key(KeyOptions),
}

/// The flags of `serve` and `check`; each overrides the same setting elsewhere.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A TOML configuration file.
    #[arg(long, value_name = "FILE", env = "LYCEUM_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:8080].
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
