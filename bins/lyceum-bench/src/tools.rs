//! `bench tools`: what a tool's policy adds to a call. CPU time of this process.
//!
//! The tool does nothing, so all that is measured is the way to it: its turn under both
//! limits, the breaker, the cache's key and the place in it, metrics without a recorder.

use std::sync::Arc;

use anyhow::{Result, ensure};
use lyceum_core::{Audience, CallContext, Scope, Tool, ToolOutput};
use lyceum_tools::{CachePolicy, Limited, ToolPolicy, TypedTool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Options,
    machine::{Machine, cpu_time},
    report::{Figures, say},
};

/// The most that a policy may add to a call.
const TARGET_US: f64 = 20.0;

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    query: String,
    page: u64,
}

/// Runs the benchmark.
///
/// # Errors
///
/// When a call fails or figures cannot be printed.
pub fn run(options: &Options) -> Result<()> {
    let figures = Figures::of("tools");
    figures.machine(&Machine::look(&options.data)?)?;
    let calls: u64 = if options.quick { 20_000 } else { 200_000 };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let bare: Arc<dyn Tool> = Arc::new(
        TypedTool::new("bare", "", async |_, arguments: Arguments| {
            let length = arguments.query.len() as u64 + arguments.page;
            Ok(ToolOutput::text(length.to_string()))
        })
        .reads(Audience::Public),
    );
    let under = |cache| -> Arc<dyn Tool> {
        let policy = ToolPolicy {
            max_per_minute: Some(1_000_000_000),
            cache,
            ..ToolPolicy::default()
        };
        Arc::new(Limited::new(bare.clone(), policy))
    };
    let cases = [
        ("no policy", bare.clone(), calls, None),
        ("limits and breaker", under(None), calls, Some(TARGET_US)),
        (
            "limits, breaker, cache; all new",
            under(Some(CachePolicy::default())),
            calls,
            Some(TARGET_US),
        ),
        (
            "limits, breaker, cache; all kept",
            under(Some(CachePolicy::default())),
            100,
            Some(TARGET_US),
        ),
    ];
    for (case, tool, different, target) in cases {
        if options.wants(case) {
            say(case);
            let us = runtime.block_on(each(tool.as_ref(), calls, different))?;
            figures.print(case, "call", us, "us", target)?;
        }
    }
    Ok(())
}

/// CPU microseconds of a call, of which so many are different.
async fn each(tool: &dyn Tool, calls: u64, different: u64) -> Result<f64> {
    let call = CallContext::new(Scope::local());
    let arguments: Vec<Value> = (0..calls)
        .map(|n| json!({"query": "what do plants need to grow well", "page": n % different}))
        .collect();
    let begun = cpu_time()?;
    let mut characters = 0;
    for arguments in arguments {
        characters += tool.call(&call, arguments).await?.content.len() as u64;
    }
    let spent = cpu_time()?.saturating_sub(begun);
    ensure!(characters >= 2 * calls, "a result is missing");
    Ok(spent.as_secs_f64() * 1e6 / calls as f64)
}
