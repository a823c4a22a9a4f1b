//! `[mcp]`: the programs whose tools the student may use.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// `[mcp]`: servers of the Model Context Protocol.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mcp {
    /// The servers. Default: none.
    pub servers: Vec<McpServer>,
}

/// One `[[mcp.servers]]`: either a `command` or a `url`. `${NAME}` in a value of `env` or
/// `headers` is that variable of this program's environment.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct McpServer {
    /// Its name, the first part of its tools' names: 1 to 24 of `A-Z a-z 0-9 _ -`, without `__`.
    pub name: String,
    /// A program that is the server and speaks on its standard input and output.
    pub command: Option<String>,
    /// The program's arguments. Default: none.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables the program gets. Default: none.
    #[serde(default, serialize_with = "masked")]
    pub env: BTreeMap<String, SecretString>,
    /// Variables of this program's environment that it gets too, beside `PATH`, `HOME`,
    /// `LANG`, `TZ` and `TMPDIR`. Default: none.
    #[serde(default)]
    pub inherit: Vec<String>,
    /// The folder it starts in. Default: this program's.
    pub directory: Option<PathBuf>,
    /// The address of a server that speaks streamable HTTP, e.g. `https://example.org/mcp`.
    pub url: Option<String>,
    /// Headers of every request to it. Default: none.
    #[serde(default, serialize_with = "masked")]
    pub headers: BTreeMap<String, SecretString>,
    /// Whether an address other than this machine's may be `http`. Default false.
    #[serde(default)]
    pub unencrypted: bool,
    /// The tools that may be used, by the server's own names. Default: all.
    pub allow: Option<Vec<String>>,
    /// How long a call may take, in seconds. Default 30; 1 to 3600.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
    /// How long starting it and reading its tools may take, in seconds. Default 20; 1 to 600.
    #[serde(default = "start_timeout")]
    pub start_timeout_seconds: u64,
    /// Calls at once. Default 16; 1 to 1000.
    #[serde(default = "max_concurrent")]
    pub max_concurrent: usize,
    /// Tools that are taken; further ones are left out. Default 128; 1 to 1000.
    #[serde(default = "max_tools")]
    pub max_tools: usize,
    /// How its tools are called: the keys of `[tools.NAME]`, for each of them. Defaults: its
    /// own time and number of calls at once, no cache, no breaker.
    #[serde(default)]
    pub policy: super::ToolSettings,
}

fn timeout() -> u64 {
    30
}

fn start_timeout() -> u64 {
    20
}

fn max_concurrent() -> usize {
    16
}

fn max_tools() -> usize {
    128
}

/// Shows which variables a value is made of, and nothing else of it.
fn masked<S: Serializer>(
    values: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let shown = values.iter().map(|(name, value)| {
        let value = value.expose_secret();
        let bare = value.strip_prefix("Bearer ").unwrap_or(value);
        let is_reference = bare
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .is_some_and(|name| !name.contains(['$', '{', '}']));
        (name, if is_reference { value } else { "********" })
    });
    serializer.collect_map(shown)
}
