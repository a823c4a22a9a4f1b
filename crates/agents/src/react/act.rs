//! Calls of tools that a model wishes for.
//!
//! Invariants: only the agent's own tools are called; one that needs a person's approval is
//! not called without; a tool that fails or breaks gives a text that says so, and harms no
//! other. Refusals are audited here, calls by the tools' own policies.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use lyceum_core::{Approval, CallContext, Tool, ToolCall, ToolTrace};
use serde_json::Value;
use tracing::Instrument;

/// Tool calls of one step that are run; more are refused to the model.
const MAX_PARALLEL: usize = 8;
/// The most bytes of one call's arguments.
const MAX_ARGUMENTS_BYTES: usize = 64 << 10;

/// Whether a person agreed to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreed {
    /// Nobody was asked.
    NotAsked,
    Yes,
    No,
}

/// Calls one tool. `at` is the call's place among those of its step.
pub(super) async fn act(
    tools: &[Arc<dyn Tool>],
    call: &CallContext,
    at: usize,
    wish: &ToolCall,
    agreed: Agreed,
) -> ToolTrace {
    let span = tracing::debug_span!(
        "execute_tool",
        otel.name = format_args!("execute_tool {}", wish.name),
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = wish.name,
        gen_ai.tool.call.id = wish.id,
    );
    let work = attempt(tools, call, at, wish, agreed);
    let result = work.instrument(span).await;
    let ok = result.is_ok();
    let result = result.unwrap_or_else(|error| format!("error: {error}"));
    ToolTrace {
        tool: wish.name.clone(),
        arguments: wish.arguments.clone(),
        result,
        ok,
    }
}

/// The tool that a call is for, if the agent has it.
pub(super) fn find<'a>(tools: &'a [Arc<dyn Tool>], wish: &ToolCall) -> Option<&'a Arc<dyn Tool>> {
    tools.iter().find(|tool| tool.spec().name == wish.name)
}

async fn attempt(
    tools: &[Arc<dyn Tool>],
    call: &CallContext,
    at: usize,
    wish: &ToolCall,
    agreed: Agreed,
) -> Result<String, String> {
    let refuse = |reason: &'static str| refused(call, wish, reason);
    if at >= MAX_PARALLEL {
        refuse("too_many");
        return Err(format!("at most {MAX_PARALLEL} tools run at once"));
    }
    let Some(tool) = find(tools, wish) else {
        refuse("not_allowed");
        let known: Vec<&str> = tools.iter().map(|tool| tool.spec().name.as_str()).collect();
        let known = known.join(", ");
        return Err(format!("there is no such tool; there are: {known}"));
    };
    match (tool.traits().approval, agreed) {
        (_, Agreed::No) => {
            refuse("declined");
            return Err("a person declined this call".to_owned());
        }
        (Approval::Needed, Agreed::NotAsked) => {
            refuse("not_approved");
            return Err("a person must agree to this call, and nobody can be asked".to_owned());
        }
        _ => {}
    }
    if wish.arguments.len() > MAX_ARGUMENTS_BYTES {
        refuse("too_large");
        return Err(format!(
            "the arguments have over {MAX_ARGUMENTS_BYTES} bytes"
        ));
    }
    let text = match wish.arguments.trim() {
        "" => "{}",
        text => text,
    };
    let arguments: Value = serde_json::from_str(text)
        .map_err(|error| format!("the arguments are not JSON: {error}"))?;
    let work = AssertUnwindSafe(tool.call(call, arguments)).catch_unwind();
    let output = match work.await {
        Ok(result) => result.map_err(|error| error.to_string())?,
        Err(_) => return Err("the tool broke".to_owned()),
    };
    let mut text = output.content;
    if output.degraded {
        text.insert_str(
            0,
            "(The tool fails now: this is an older or a default result.)\n",
        );
    }
    if !output.sources.is_empty() {
        text.push_str("\nsources: ");
        text.push_str(&output.sources.join(" "));
    }
    Ok(text)
}

fn refused(call: &CallContext, wish: &ToolCall, reason: &'static str) {
    let scope = &call.scope;
    let tool: String = wish.name.chars().take(64).collect();
    tracing::info!(
        target: "audit",
        tool = ?tool,
        tenant = %scope.tenant,
        user = %scope.user,
        session = scope.session.as_ref().map(tracing::field::display),
        request_id = %call.request,
        reason,
        "tool call refused"
    );
}
