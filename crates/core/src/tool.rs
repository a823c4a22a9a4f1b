//! The tool port: what an agent may call.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::CallContext;

/// How a tool is described to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What the tool does and when to use it.
    pub description: String,
    /// The JSON schema of the arguments, an object; shared, since every call of a model has it.
    pub parameters: Arc<Value>,
    /// Fields Lyceum does not know, e.g. `strict`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ToolSpec {
    /// A tool without unknown fields.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: impl Into<Arc<Value>>,
    ) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters: parameters.into(),
            extra: Map::new(),
        }
    }
}

/// What a tool answered. It is data: it never grants authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// The text for the model.
    pub content: String,
    /// Where it came from: addresses or titles.
    pub sources: Vec<String>,
    /// Whether this is a cached or default result because the tool itself failed.
    pub degraded: bool,
}

impl ToolOutput {
    /// A plain, complete result.
    #[must_use]
    pub fn text(content: impl Into<String>) -> Self {
        Self {
            content: content.into(),
            sources: Vec::new(),
            degraded: false,
        }
    }
}

/// What a call of a tool changes, and so whether it may be made again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only reads: its result may be kept, and a failed call made again.
    Reads,
    /// It changes something, but twice is as good as once: it may be made again, not kept.
    Idempotent,
    /// Every call counts: never made again, never answered from a cache.
    #[default]
    Once,
}

/// For whom a result is right, from the fewest to all: nobody else may be given a kept one.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The user who asked.
    #[default]
    User,
    /// Everybody in the tenant.
    Tenant,
    /// Everybody: it depends on the arguments alone.
    Public,
}

/// Whether a person must agree before a tool is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody is asked.
    #[default]
    NotNeeded,
    /// Every call waits for a person.
    Needed,
}

/// What an agent and a cache must know of a tool. The defaults trust it least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolTraits {
    /// What a call changes.
    pub effect: Effect,
    /// For whom a result is right.
    pub audience: Audience,
    /// Whether a person is asked first.
    pub approval: Approval,
}

impl ToolTraits {
    /// A tool that only reads, with results for this audience.
    #[must_use]
    pub fn reads(audience: Audience) -> Self {
        Self {
            effect: Effect::Reads,
            audience,
            approval: Approval::NotNeeded,
        }
    }
}

/// Why a tool call failed. The text is written for the model, which may try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The arguments do not fit; another try with better ones may succeed.
    #[error("use the arguments: {detail}")]
    Arguments {
        /// What was wrong.
        detail: String,
    },
    /// The tool took too long.
    #[error("finish within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// The tool is over its limit or its breaker is open.
    #[error("call the tool now; retry in {retry_after:?}")]
    Unavailable {
        /// When a new attempt may succeed.
        retry_after: Duration,
    },
    /// The tool itself failed.
    #[error("run the tool: {detail}")]
    Failed {
        /// What went wrong.
        detail: String,
    },
    /// It failed in a way that may pass: a broken connection, an upstream's error.
    #[error("run the tool: {detail}; it may work later")]
    Transient {
        /// What went wrong.
        detail: String,
    },
    /// The call is not allowed, or a person did not agree to it.
    #[error("call the tool: {detail}")]
    Denied {
        /// Why not.
        detail: String,
    },
}

impl ToolError {
    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Arguments { .. } => "arguments",
            Self::Timeout { .. } => "timeout",
            Self::Unavailable { .. } => "unavailable",
            Self::Failed { .. } => "failed",
            Self::Transient { .. } => "transient",
            Self::Denied { .. } => "denied",
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Unavailable { .. } | Self::Transient { .. }
        )
    }
}

/// Something an agent can call. Calls may run in parallel.
#[async_trait]
pub trait Tool: Send + Sync + fmt::Debug {
    /// How the tool is described to a model.
    fn spec(&self) -> &ToolSpec;

    /// What a call changes, for whom its result is right, whether a person is asked first.
    fn traits(&self) -> ToolTraits {
        ToolTraits::default()
    }

    /// Runs the tool on arguments that follow [`ToolSpec::parameters`].
    ///
    /// # Errors
    ///
    /// [`ToolError`]; a failure never harms other calls.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call; effects outside may have happened.
    async fn call(&self, call: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError>;
}
