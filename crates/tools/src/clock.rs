//! The clock: what day and time it is, in UTC.

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::format_description};

use crate::spec;

/// Tells the current date and time.
#[derive(Debug)]
pub struct Clock {
    spec: ToolSpec,
    now: fn() -> OffsetDateTime,
}

impl Default for Clock {
    fn default() -> Self {
        Self::at(OffsetDateTime::now_utc)
    }
}

impl Clock {
    /// A clock that asks the given function, for tests.
    #[must_use]
    pub fn at(now: fn() -> OffsetDateTime) -> Self {
        let parameters = json!({"type": "object", "properties": {}});
        Self {
            spec: spec(
                "date_time",
                "Tells the current date, weekday and time in UTC.",
                parameters,
            ),
            now,
        }
    }
}

#[async_trait]
impl Tool for Clock {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, _arguments: Value) -> Result<ToolOutput, ToolError> {
        let format =
            format_description!("[weekday] [year]-[month]-[day] [hour]:[minute]:[second] UTC");
        match (self.now)().format(format) {
            Ok(text) => Ok(ToolOutput::text(text)),
            Err(error) => Err(ToolError::Failed {
                detail: error.to_string(),
            }),
        }
    }
}
