//! A tool of your own, under limits of time and length.
//!
//! ```console
//! cargo run -p lyceum-examples --example tools
//! ```
//!
//! A tool's errors are written for the model that called it: it reads them and may try again.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lyceum_core::{CallContext, Scope, Tool, ToolError, ToolOutput, ToolSpec};
use lyceum_tools::{Limited, Limits};
use serde::Deserialize;
use serde_json::{Value, json};

/// Says what a plant needs.
#[derive(Debug)]
struct Herbarium {
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    plant: String,
}

impl Herbarium {
    fn new() -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {"plant": {"type": "string"}},
            "required": ["plant"],
        });
        // The model decides by the description.
        let spec = ToolSpec::new("herbarium", "Says what a plant needs.", parameters);
        Self { spec }
    }
}

#[async_trait]
impl Tool for Herbarium {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, _: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { plant } =
            serde_json::from_value(arguments).map_err(|error| ToolError::Arguments {
                detail: error.to_string(),
            })?;
        match plant.as_str() {
            "moss" => Ok(ToolOutput {
                sources: vec!["shelf 3".to_owned()],
                ..ToolOutput::text("shade and water")
            }),
            "orchid" => Ok(ToolOutput::text("patience, ".repeat(1_000))),
            "bamboo" => std::future::pending().await, // an upstream that never answers
            _ => Err(ToolError::Failed {
                detail: format!("there is no {plant} here"),
            }),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let limits = Limits {
        timeout: Duration::from_millis(100),
        max_chars: 40,
        ..Limits::default()
    };
    let tool = Limited::new(Arc::new(Herbarium::new()), limits);
    let call = CallContext::new(Scope::local());
    println!("{}: {}", tool.spec().name, tool.spec().description);

    let cases = [
        (json!({"plant": "moss"}), "ok"),
        (json!({"plant": "orchid"}), "ok"), // cut after 40 characters
        (json!({"plant": "bamboo"}), "timeout"),
        (json!({"plant": "unicorn"}), "failed"),
        (json!({"flower": "moss"}), "arguments"),
    ];
    for (arguments, expected) in cases {
        print!("{arguments} -> ");
        let label = match tool.call(&call, arguments).await {
            Ok(output) => {
                println!("{} {:?}", output.content, output.sources);
                assert!(output.content.chars().count() <= 41, "40 and an ellipsis");
                "ok"
            }
            Err(error) => {
                println!("failed to {error}");
                error.label()
            }
        };
        assert_eq!(label, expected);
    }
    Ok(())
}
