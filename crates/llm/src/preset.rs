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
    /// The field that limits the output.
    pub output_limit: OutputLimit,
    /// How a schema is sent.
    pub json_schema: SchemaSupport,
}

impl Quirks {
    const PLAIN: Self = Self {
        usage_in_stream: true,
        output_limit: OutputLimit::MaxTokens,
        json_schema: SchemaSupport::Native,
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
            quirks: Quirks {
                json_schema: SchemaSupport::Instructed,
                ..Quirks::PLAIN
            },
        },
        // DeepSeek ("JSON Output"): `json_object` only.
        Self {
            name: "deepseek",
            dialect: Dialect::OpenAi,
            base_url: "https://api.deepseek.com",
            key_env: Some("DEEPSEEK_API_KEY"),
            keyless: false,
            quirks: Quirks {
                json_schema: SchemaSupport::Instructed,
                ..Quirks::PLAIN
            },
        },
        // Alibaba Cloud Model Studio ("OpenAI compatible - Chat"): schemas only for some models.
        Self {
            name: "qwen",
            dialect: Dialect::OpenAi,
            base_url: "https://dashscope.aliyuncs.com/compatible-mode/v1",
            key_env: Some("DASHSCOPE_API_KEY"),
            keyless: false,
            quirks: Quirks {
                json_schema: SchemaSupport::Instructed,
                ..Quirks::PLAIN
            },
        },
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
