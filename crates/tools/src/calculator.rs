//! The calculator: exact arithmetic with units, by the `fend-core` library.
//!
//! Invariant: a calculation ends within [`TIME_LIMIT`], whatever the expression; it
//! runs on the blocking pool, so no task waits behind it. Deliberately absent:
//! variables that outlive a call, random numbers, exchange rates.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{arguments, spec};

/// Enough for any school or engineering sum; a tower of powers is cut off here.
const TIME_LIMIT: Duration = Duration::from_millis(300);
/// The longest expression, in bytes.
const MAX_EXPRESSION_BYTES: usize = 500;

/// Evaluates expressions such as `15% of 80` or `10 km/h to m/s`.
#[derive(Debug)]
pub struct Calculator {
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    expression: String,
}

struct Deadline(Instant);

impl fend_core::Interrupt for Deadline {
    fn should_interrupt(&self) -> bool {
        Instant::now() > self.0
    }
}

impl Default for Calculator {
    fn default() -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "e.g. `2^10 / 3` or `72 km/h to m/s`"}},
            "required": ["expression"],
        });
        let description = "Calculates an arithmetic expression exactly, with units. Use it to check a number or \
                           a formula in the explanation.";
        Self {
            spec: spec("calculate", description, parameters),
        }
    }
}

fn evaluate(expression: &str) -> Result<String, ToolError> {
    let mut context = fend_core::Context::new();
    context.disable_rng();
    let deadline = Deadline(Instant::now() + TIME_LIMIT);
    match fend_core::evaluate_with_interrupt(expression, &mut context, &deadline) {
        Ok(result) if result.get_main_result().is_empty() => Err(ToolError::Arguments {
            detail: "the expression has no value".to_owned(),
        }),
        Ok(result) => Ok(result.get_main_result().to_owned()),
        Err(_) if deadline.0 <= Instant::now() => Err(ToolError::Timeout { after: TIME_LIMIT }),
        Err(detail) => Err(ToolError::Arguments { detail }),
    }
}

#[async_trait]
impl Tool for Calculator {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { expression } = arguments(value)?;
        if expression.len() > MAX_EXPRESSION_BYTES {
            let detail = format!("the expression has over {MAX_EXPRESSION_BYTES} bytes: split it");
            return Err(ToolError::Arguments { detail });
        }
        let result = tokio::task::spawn_blocking(move || evaluate(&expression)).await;
        match result {
            Ok(result) => result.map(ToolOutput::text),
            Err(error) => Err(ToolError::Failed {
                detail: error.to_string(),
            }),
        }
    }
}
