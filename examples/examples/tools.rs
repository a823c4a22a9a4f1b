//! A tool of your own in fifteen lines, and the policy around it.
//!
//! ```console
//! cargo run -p lyceum-examples --example tools
//! ```
//!
//! A tool's errors are written for the model that called it: it reads them and may try again.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use lyceum_core::{Audience, CallContext, Scope, Tool, ToolError, ToolOutput};
use lyceum_tools::{CachePolicy, Limited, ToolPolicy, TypedTool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// The arguments: the model sees the schema of this type, doc comments included.
#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// The plant's English name.
    plant: String,
}

fn herbarium(policy: ToolPolicy) -> Limited {
    let look_up = async |_: CallContext, Arguments { plant }: Arguments| match plant.as_str() {
        "moss" => Ok(ToolOutput::text("shade and water")),
        "orchid" => Ok(ToolOutput::text("patience, ".repeat(1_000))),
        "bamboo" => std::future::pending().await, // an upstream that never answers
        _ => Err(ToolError::Failed {
            detail: format!("there is no {plant} here"),
        }),
    };
    // The model decides by the description. Results are the same for everybody.
    TypedTool::new("herbarium", "Says what a plant needs.", look_up)
        .reads(Audience::Public)
        .limited(policy)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let tool = herbarium(ToolPolicy {
        max_concurrent: 10,
        max_per_minute: Some(300),
        timeout: Duration::from_millis(100),
        max_chars: 40,
        cache: Some(CachePolicy::default()), // equal questions are asked once in ten minutes
        ..ToolPolicy::default()              // and five failures in a row open the breaker
    });
    let call = CallContext::new(Scope::local());
    println!("{} takes {}", tool.spec().name, tool.spec().parameters);

    let cases = [
        (json!({"plant": "moss"}), "ok"),
        (json!({"plant": "moss"}), "ok"),   // from the cache
        (json!({"plant": "orchid"}), "ok"), // cut after 40 characters
        (json!({"flower": "moss"}), "arguments"),
        (json!({"plant": "bamboo"}), "timeout"),
        (json!({"plant": "unicorn"}), "failed"),
        (json!({"plant": "dragon"}), "failed"),
        (json!({"plant": "troll"}), "failed"),
        (json!({"plant": "elf"}), "failed"),
        (json!({"plant": "fig"}), "unavailable"), // the breaker is open
        (json!({"plant": "moss"}), "ok"),         // what is kept is still there
    ];
    for (arguments, expected) in cases {
        print!("{arguments} -> ");
        let label = match tool.call(&call, arguments).await {
            Ok(output) => {
                println!("{}", output.content);
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
