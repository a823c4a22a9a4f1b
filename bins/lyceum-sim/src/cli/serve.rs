//! The options of `lyceum-sim serve`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use lyceum_sim::{
    FaultRule, Rule, SimConfig, Spread,
    quota::{Accounting, Quotas},
};

const AFTER_HELP: &str = "Spreads are written as 300ms or p50=300ms,p99=2s (log-normal).\n\
    Faults are written as FAULT=5%, FAULT/10 (every tenth) or FAULT@3,7,20-30 (by number), \
    FAULT being one of 429, 500, 529, hang, hang-in-body, reset, truncate, malformed, \
    error-event, trickle.\n\n\
    Example: a provider with 500 requests a minute that is slow and sometimes breaks:\n  \
    lyceum-sim serve --listen 127.0.0.1:9000 --first-token p50=300ms,p99=2s --per-token 20ms \\\n      \
    --output p50=150,p99=800 --requests-per-minute 500 --fault 529=1% --fault reset=0.5%";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// From which all random decisions follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,

    /// From a request to its first token.
    #[arg(
        long,
        default_value = "0ms",
        value_name = "SPREAD",
        help_heading = "Answers"
    )]
    first_token: Spread<Duration>,
    /// Between two tokens.
    #[arg(
        long,
        default_value = "0ms",
        value_name = "SPREAD",
        help_heading = "Answers"
    )]
    per_token: Spread<Duration>,
    /// Tokens of an answer [default: as many as the echo has].
    #[arg(long, value_name = "SPREAD", help_heading = "Answers")]
    output: Option<Spread<u64>>,
    /// Share of the requests with tools on offer that get a tool call, 0 to 1.
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "SHARE",
        help_heading = "Answers"
    )]
    tool_use: f64,
    /// A JSON file with scripted answers: [{"system","user","tool","times","text" or "calls":[["name",{}]]}].
    #[arg(long, value_name = "FILE", help_heading = "Answers")]
    script: Option<PathBuf>,

    /// Requests in 60 s.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Quotas, for each API key and model"
    )]
    requests_per_minute: Option<u64>,
    /// Input tokens in 60 s.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Quotas, for each API key and model"
    )]
    input_tokens_per_minute: Option<u64>,
    /// Output tokens in 60 s.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Quotas, for each API key and model"
    )]
    output_tokens_per_minute: Option<u64>,
    /// Input and output tokens together in 60 s.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Quotas, for each API key and model"
    )]
    tokens_per_minute: Option<u64>,
    /// Requests at once.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Quotas, for each API key and model"
    )]
    concurrency: Option<u64>,
    /// How output tokens are charged.
    #[arg(long, value_enum, default_value_t = Charge::Actual, help_heading = "Quotas, for each API key and model")]
    accounting: Charge,

    /// A fault and the requests it hits; may be given several times.
    #[arg(long = "fault", value_name = "RULE", help_heading = "Faults")]
    faults: Vec<FaultRule>,

    /// A model that exists; may be given several times [default: any].
    #[arg(long = "model", value_name = "NAME", help_heading = "Access")]
    models: Vec<String>,
    /// An API key that is accepted; may be given several times [default: any or none].
    #[arg(long = "api-key", value_name = "KEY", help_heading = "Access")]
    api_keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Charge {
    /// The answer's true length when the request is admitted.
    Actual,
    /// The request's output limit, corrected when it ends.
    Reserved,
    /// What was sent, when the request ends.
    Produced,
}

impl Serve {
    pub(crate) fn into_config(self) -> anyhow::Result<SimConfig> {
        ensure!(
            (0.0..=1.0).contains(&self.tool_use),
            "use --tool-use {}: expected 0 to 1",
            self.tool_use
        );
        let script = match &self.script {
            None => Vec::new(),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("read the script {}", file.display()))?;
                Rule::parse_script(&text)
                    .with_context(|| format!("read the script {}", file.display()))?
            }
        };
        Ok(SimConfig {
            listen: self.listen,
            seed: self.seed,
            first_token: self.first_token,
            per_token: self.per_token,
            output: self.output,
            quotas: Quotas {
                requests: self.requests_per_minute,
                input_tokens: self.input_tokens_per_minute,
                output_tokens: self.output_tokens_per_minute,
                total_tokens: self.tokens_per_minute,
                concurrency: self.concurrency,
                accounting: match self.accounting {
                    Charge::Actual => Accounting::Actual,
                    Charge::Reserved => Accounting::Reserved,
                    Charge::Produced => Accounting::Produced,
                },
                ..Quotas::default()
            },
            faults: self.faults,
            script,
            tool_use: self.tool_use,
            models: self.models,
            api_keys: self.api_keys,
            ..SimConfig::default()
        })
    }
}
