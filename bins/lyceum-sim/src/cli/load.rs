//! The options of `lyceum-sim load`.

use std::time::Duration;

use clap::Args;
use lyceum_sim::{
    load::{End, Endpoint, LoadConfig},
    parse_duration,
};

const AFTER_HELP: &str = "Prints one JSON object a figure. Ends with status 1 if an answer was mixed up, a request \
     failed or none was answered.\n\n\
     Example: 20 learners for ten seconds after two seconds of warming up:\n  \
     lyceum-sim load --target http://127.0.0.1:8080 --endpoint chat --users 20 --duration 10s --warm-up 2s";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Load {
    /// The server: Lyceum, or any server of the endpoint's format.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    target: String,
    /// What is called.
    #[arg(long, value_enum, default_value_t = Called::Chat)]
    endpoint: Called,
    /// How many users there are.
    #[arg(long, default_value_t = 20, value_name = "N")]
    users: usize,
    /// How long the run takes.
    #[arg(long, value_parser = duration, default_value = "10s", conflicts_with = "requests")]
    duration: Duration,
    /// How many requests the run takes.
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// A time before the run that is not counted.
    #[arg(long, value_parser = duration, default_value = "0s", value_name = "DURATION")]
    warm_up: Duration,
    /// Turns of a conversation before the user begins a new one.
    #[arg(long, default_value_t = 4, value_name = "N")]
    turns: u64,
    /// The least length of a turn's text.
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    text_bytes: usize,
    /// How long a user thinks before the next turn.
    #[arg(long, value_parser = duration, default_value = "0s", value_name = "DURATION")]
    think: Duration,
    /// After which a request has failed.
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "DURATION")]
    timeout: Duration,
    /// The model asked for, for the vendors' formats.
    #[arg(long, default_value = "sim", value_name = "NAME")]
    model: String,
    /// The key to send.
    #[arg(
        long,
        env = "LYCEUM_SIM_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    api_key: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// The benchmark's name in the report.
    #[arg(long, default_value = "load", value_name = "NAME")]
    bench: String,
    /// The case's name in the report [default: endpoint and users].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    case: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Called {
    /// Lyceum's POST /chat.
    Chat,
    /// Lyceum's POST /chat/stream.
    ChatStream,
    /// OpenAI's POST /v1/chat/completions.
    Openai,
    /// The same, streamed.
    OpenaiStream,
    /// Anthropic's POST /v1/messages.
    Anthropic,
    /// The same, streamed.
    AnthropicStream,
}

impl Load {
    pub(crate) fn into_config(self) -> LoadConfig {
        LoadConfig {
            target: self.target,
            endpoint: match self.endpoint {
                Called::Chat => Endpoint::Chat,
                Called::ChatStream => Endpoint::ChatStream,
                Called::Openai => Endpoint::OpenAi,
                Called::OpenaiStream => Endpoint::OpenAiStream,
                Called::Anthropic => Endpoint::Anthropic,
                Called::AnthropicStream => Endpoint::AnthropicStream,
            },
            users: self.users,
            end: self
                .requests
                .map_or(End::After(self.duration), End::Requests),
            warm_up: self.warm_up,
            turns: self.turns,
            text_bytes: self.text_bytes,
            think: self.think,
            timeout: self.timeout,
            model: self.model,
            api_key: self.api_key,
            bench: self.bench,
            case: self.case,
        }
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("expected a duration as 250ms, 10s or 2m")
}
