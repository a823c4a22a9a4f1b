//! What is known about providers: address, key variable and habits, as data.
//!
//! Values only. Deliberately absent: models and prices, which change monthly and
//! come from configuration.

/// The wire format a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Chat completions: [`OpenAi`](crate::OpenAi).
    OpenAi,
    /// Messages: [`Anthropic`](crate::Anthropic).
    Anthropic,
}

/// The field that limits the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OutputLimit {
    /// `max_tokens`, which every server of the dialect knows.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which newer models of OpenAI insist on.
    MaxCompletionTokens,
}

/// How a JSON schema for the answer is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SchemaSupport {
    /// As `response_format: json_schema`; the provider enforces it.
    #[default]
    Native,
    /// As `response_format: json_object` and an instruction that quotes the schema, for
    /// providers that refuse the former for some or all of their models.
    Instructed,
}

/// Where a provider of the OpenAI dialect differs from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quirks {
    /// Whether `stream_options.include_usage` is sent. Default true; without it most
    /// servers report no usage for a stream.
    pub usage_in_stream: bool,
    /// Whether the server pads every chunk with random characters unless
    /// `stream_options.include_obfuscation` is false (OpenAI, "Streaming events"), which is
    /// then sent where the request says nothing of it. The padding hides lengths from
    /// those who read the encrypted connection, and costs bytes and parsing. Default false.
    pub obfuscates: bool,
    /// The field that limits the output.
    pub output_limit: OutputLimit,
    /// How a schema is sent.
    pub json_schema: SchemaSupport,
    /// Whether an assistant message with tool calls carries the reasoning that led to them
    /// (`reasoning_content`), which some models insist on and other servers refuse.
    /// Default false.
    pub reasoning_back: bool,
}

impl Quirks {
    const PLAIN: Self = Self {
        usage_in_stream: true,
        obfuscates: false,
        output_limit: OutputLimit::MaxTokens,
        json_schema: SchemaSupport::Native,
        reasoning_back: false,
    };

    const INSTRUCTED: Self = Self {
        json_schema: SchemaSupport::Instructed,
        ..Self::PLAIN
    };
}

impl Default for Quirks {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// A provider that Lyceum knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name in configuration and metrics.
    pub name: &'static str,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where it is; a request's path is added.
    pub base_url: &'static str,
    /// The environment variable that holds its key by custom; `None` where none is used.
    pub key_env: Option<&'static str>,
    /// Whether it answers without a key.
    pub keyless: bool,
    /// Where it differs; of no meaning to the Anthropic dialect.
    pub quirks: Quirks,
}

impl Preset {
    /// Every preset.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "openai",
            dialect: Dialect::OpenAi,
            base_url: "https://api.openai.com/v1",
            key_env: Some("OPENAI_API_KEY"),
            keyless: false,
            quirks: Quirks {
                output_limit: OutputLimit::MaxCompletionTokens,
                obfuscates: true,
                ..Quirks::PLAIN
            },
        },
        Self {
            name: "anthropic",
            dialect: Dialect::Anthropic,
            base_url: "https://api.anthropic.com",
            key_env: Some("ANTHROPIC_API_KEY"),
            keyless: false,
            quirks: Quirks::PLAIN,
        },
        // Volcengine Ark ("ChatCompletions API"): schemas only for some models.
        Self {
            name: "ark",
            dialect: Dialect::OpenAi,
            base_url: "https://ark.cn-beijing.volces.com/api/v3",
            key_env: Some("ARK_API_KEY"),
            keyless: false,
            quirks: Quirks::INSTRUCTED,
        },
        // DeepSeek ("JSON Output"): `json_object` only.
        Self {
            name: "deepseek",
            dialect: Dialect::OpenAi,
            base_url: "https://api.deepseek.com",
            key_env: Some("DEEPSEEK_API_KEY"),
            keyless: false,
            // "Thinking Mode", tool calls.
            quirks: Quirks {
                reasoning_back: true,
                ..Quirks::INSTRUCTED
            },
        },
        // Alibaba Cloud Model Studio ("OpenAI compatible - Chat"): schemas only for some models.
        Self {
            name: "qwen",
            dialect: Dialect::OpenAi,
            base_url: "https://dashscope.aliyuncs.com/compatible-mode/v1",
            key_env: Some("DASHSCOPE_API_KEY"),
            keyless: false,
            quirks: Quirks::INSTRUCTED,
        },
        // Moonshot ("Chat", "Thinking model"): JSON objects; reasoning is kept in tool loops.
        Self::hosted(
            "moonshot",
            "https://api.moonshot.cn/v1",
            "MOONSHOT_API_KEY",
            Quirks {
                reasoning_back: true,
                ..Quirks::INSTRUCTED
            },
        ),
        // Zhipu ("Structured output"): `json_object` only.
        Self::hosted(
            "zhipu",
            "https://open.bigmodel.cn/api/paas/v4",
            "ZHIPUAI_API_KEY",
            Quirks::INSTRUCTED,
        ),
        // MiniMax ("OpenAI compatible API").
        Self::hosted(
            "minimax",
            "https://api.minimaxi.com/v1",
            "MINIMAX_API_KEY",
            Quirks::INSTRUCTED,
        ),
        // SiliconFlow ("JSON mode"): `json_object` only.
        Self::hosted(
            "siliconflow",
            "https://api.siliconflow.cn/v1",
            "SILICONFLOW_API_KEY",
            Quirks::INSTRUCTED,
        ),
        Self::hosted(
            "openrouter",
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
            Quirks::PLAIN,
        ),
        // Groq ("Structured outputs"): schemas only for some models.
        Self::hosted(
            "groq",
            "https://api.groq.com/openai/v1",
            "GROQ_API_KEY",
            Quirks::INSTRUCTED,
        ),
        // Mistral refuses fields it does not know, and reports usage without being asked.
        Self::hosted(
            "mistral",
            "https://api.mistral.ai/v1",
            "MISTRAL_API_KEY",
            Quirks {
                usage_in_stream: false,
                ..Quirks::PLAIN
            },
        ),
        // Google ("OpenAI compatibility").
        Self::hosted(
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
            Quirks::PLAIN,
        ),
        Self::hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY", Quirks::PLAIN),
        Self::hosted(
            "together",
            "https://api.together.xyz/v1",
            "TOGETHER_API_KEY",
            Quirks::PLAIN,
        ),
        Self::hosted(
            "fireworks",
            "https://api.fireworks.ai/inference/v1",
            "FIREWORKS_API_KEY",
            Quirks::PLAIN,
        ),
        Self {
            name: "vllm",
            dialect: Dialect::OpenAi,
            base_url: "http://127.0.0.1:8000/v1",
            key_env: Some("VLLM_API_KEY"),
            keyless: true,
            quirks: Quirks::PLAIN,
        },
        Self {
            name: "ollama",
            dialect: Dialect::OpenAi,
            base_url: "http://127.0.0.1:11434/v1",
            key_env: None,
            keyless: true,
            quirks: Quirks::PLAIN,
        },
    ];

    /// A hosted provider of the OpenAI dialect.
    const fn hosted(
        name: &'static str,
        base_url: &'static str,
        key_env: &'static str,
        quirks: Quirks,
    ) -> Self {
        Self {
            name,
            dialect: Dialect::OpenAi,
            base_url,
            key_env: Some(key_env),
            keyless: false,
            quirks,
        }
    }

    /// The preset of a name, e.g. `ark`.
    ///
    /// ```
    /// use lyceum_llm::Preset;
    /// assert_eq!(Preset::by_name("ark").and_then(|preset| preset.key_env), Some("ARK_API_KEY"));
    /// ```
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|preset| preset.name == name)
    }
}
