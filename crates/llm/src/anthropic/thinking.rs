//! `reasoning_effort`, a field of the OpenAI dialect, as a budget for thinking.
//!
//! Source: Claude API documentation, "Extended thinking". The shares of the output limit are
//! those that OpenRouter documents ("Reasoning tokens"). Deliberately absent: models that
//! take an effort instead of a budget; their callers send `thinking` and `output_config`.

use lyceum_core::{ChatRequest, Message, Role, Tokens, ToolChoice};

/// The smallest budget that the API takes, in tokens.
const SMALLEST: u64 = 1_024;

/// The budget that a request's effort means, always less than `max_output`. `None` where no
/// effort, none to speak of or an unknown one is asked for, where the request has `thinking`
/// of its own, and where the API would refuse it: with a tool that must be called, in the
/// middle of a tool call that was made without thinking, and below 1,025 tokens of output.
pub(super) fn budget(request: &ChatRequest, max_output: Tokens, forced: bool) -> Option<Tokens> {
    let effort = request.extra.get("reasoning_effort")?.as_str()?;
    let tenths = match effort {
        "low" => 2,
        "medium" => 5,
        "high" => 8,
        "xhigh" => 9,
        // "none" and "minimal".
        _ => return None,
    };
    let has_tools = !request.tools.is_empty() || !request.other_tools.is_empty();
    let forced = forced
        || has_tools
            && matches!(
                request.tool_choice,
                ToolChoice::Required | ToolChoice::Named(_)
            );
    if forced
        || request.extra.contains_key("thinking")
        || max_output.0 <= SMALLEST
        || called_without_thinking(&request.messages)
    {
        return None;
    }
    let share = max_output.0.saturating_mul(tenths) / 10;
    Some(Tokens(share.max(SMALLEST)))
}

/// Whether a temperature can be sent beside thinking; only the default one can.
pub(super) fn allows_temperature(temperature: f32) -> bool {
    (temperature - 1.0).abs() < f32::EPSILON
}

/// Whether a share of probability can be sent beside thinking: from 0.95 on.
pub(super) fn allows_top_p(top_p: f32) -> bool {
    (0.95..=1.0).contains(&top_p)
}

/// Whether the last words are results of calls that have no sealed thinking before them.
fn called_without_thinking(messages: &[Message]) -> bool {
    let mut rest = messages.iter().rev();
    if !rest.next().is_some_and(|last| last.role == Role::Tool) {
        return false;
    }
    let asked = rest.find(|message| message.role != Role::Tool);
    asked.is_some_and(|asked| asked.reasoning.iter().all(|piece| piece.seal.is_none()))
}
