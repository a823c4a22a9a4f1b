//! Recall: what this user taught or said in earlier conversations.
//!
//! Invariant: it searches with the caller's own scope, so it never shows another user's words.

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use lyceum_memory::Memory;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{arguments, cap, spec};

/// Memories given to the model.
const MAX_FOUND: usize = 5;
/// Characters kept of one memory.
const MEMORY_CHARS: usize = 600;

/// Searches the user's memories.
#[derive(Debug)]
pub struct Recall {
    spec: ToolSpec,
    memory: Memory,
}

#[derive(Deserialize)]
struct Arguments {
    query: String,
}

impl Recall {
    /// A search in the given memory.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {"query": {"type": "string", "description": "a few keywords"}},
            "required": ["query"],
        });
        let description = "Searches what the teacher taught you in earlier conversations. Use it to see whether the \
                           explanation contradicts or repeats something you know.";
        Self {
            spec: spec("recall", description, parameters),
            memory,
        }
    }
}

#[async_trait]
impl Tool for Recall {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::User)
    }

    async fn call(&self, call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { query } = arguments(value)?;
        let found = self
            .memory
            .memories()
            .search(&call.scope, &query, MAX_FOUND)
            .await;
        let found = found.map_err(|error| ToolError::Failed {
            detail: error.to_string(),
        })?;
        if found.is_empty() {
            return Ok(ToolOutput::text("nothing was taught about that"));
        }
        let entries = found
            .into_iter()
            .map(|memory| format!("{}: {}", memory.topic, cap(memory.text, MEMORY_CHARS)));
        Ok(ToolOutput::text(entries.collect::<Vec<_>>().join("\n\n")))
    }
}
