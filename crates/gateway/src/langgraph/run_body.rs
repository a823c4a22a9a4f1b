//! What a client may ask of a run.
//!
//! Invariant: what passes here means the same to every part that reads it later. Fields that are
//! not known are left alone: clients of many versions send some that mean nothing here.
//! Deliberately absent: whether thread, assistant and checkpoint exist.

use serde_json::{Map, Value};

use super::{
    refusal::{Answer, Refusal},
    states,
};

/// The longest that a run may be put off, in seconds: a year.
const LATEST: f64 = 31_536_000.0;

/// What is told of a run. `tools` and `lifecycle` are told in a thread's stream only.
const MODES: [&str; 11] = [
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "events",
    "debug",
    "tasks",
    "checkpoints",
    "custom",
    "tools",
    "lifecycle",
];
/// The fields that are one word of a few.
const WORDS: [(&str, &[&str]); 5] = [
    (
        "multitask_strategy",
        &["reject", "interrupt", "rollback", "enqueue"],
    ),
    ("on_disconnect", &["cancel", "continue"]),
    ("on_completion", &["delete", "keep"]),
    ("if_not_exists", &["create", "reject"]),
    ("durability", &["sync", "async", "exit"]),
];
/// The fields that are objects.
const OBJECTS: [&str; 3] = ["config", "metadata", "command"];

/// Checks a run's body.
///
/// # Errors
///
/// A refusal that names the field.
pub(crate) fn check(body: &Value) -> Answer<()> {
    let none = Map::new();
    let fields = body.as_object().unwrap_or(&none);
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    if !given("assistant_id").is_some_and(Value::is_string) {
        return Err(Refusal::invalid("assistant_id is missing"));
    }
    for (name, words) in WORDS {
        let word = given(name).map(|word| word.as_str().unwrap_or_default());
        if word.is_some_and(|word| !words.contains(&word)) {
            let words = words.join(", ");
            return Err(Refusal::invalid(format!("{name} must be one of {words}")));
        }
    }
    for name in OBJECTS {
        if given(name).is_some_and(|value| !value.is_object()) {
            return Err(Refusal::invalid(format!("{name} must be an object")));
        }
    }
    // Pages send an empty input beside a command.
    let input =
        given("input").filter(|input| input.as_object().is_none_or(|fields| !fields.is_empty()));
    if input.is_some() && given("command").is_some() {
        let text =
            "input and command cannot be given together: a command says itself what is written";
        return Err(Refusal::invalid(text));
    }
    let modes = match given("stream_mode") {
        Some(Value::Array(modes)) => modes.as_slice(),
        Some(mode) => std::slice::from_ref(mode),
        None => &[],
    };
    if let Some(unknown) = modes
        .iter()
        .find(|mode| !MODES.iter().any(|known| mode == known))
    {
        let modes = MODES.join(", ");
        return Err(Refusal::invalid(format!(
            "stream_mode {unknown} is unknown; there are {modes}"
        )));
    }
    if let Some(after) = given("after_seconds")
        && !after
            .as_f64()
            .is_some_and(|after| (0.0..=LATEST).contains(&after))
    {
        return Err(Refusal::invalid(format!(
            "after_seconds must be a number from 0 to {LATEST}"
        )));
    }
    let limit = given("config").and_then(|config| config.get("recursion_limit"));
    if limit.is_some_and(|limit| limit.as_u64().is_none_or(|limit| limit == 0)) {
        return Err(Refusal::invalid(
            "recursion_limit must be a whole number from 1 on",
        ));
    }
    let configurable = given("config").and_then(|config| config.get("configurable"));
    for place in [Some(body), given("checkpoint"), configurable] {
        let id = place.and_then(|place| place.get("checkpoint_id"));
        if let Some(id) = id.and_then(Value::as_str)
            && states::parse(id).is_none()
        {
            return Err(Refusal::not_found("Checkpoint"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn passes(more: Value) -> bool {
        let mut body = json!({ "assistant_id": "agent" });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        check(&body).is_ok()
    }

    #[test]
    fn what_clients_send_passes() {
        for body in [
            json!({}),
            json!({ "input": { "a": 1 }, "command": null }),
            json!({ "input": null, "command": { "resume": 1 } }),
            json!({ "input": {}, "command": { "resume": 1 } }),
            json!({ "stream_mode": [] }),
            json!({ "stream_mode": "messages-tuple" }),
            json!({ "stream_mode": ["values", "custom"], "feedback_keys": ["a"], "unknown": 1 }),
            json!({ "checkpoint": { "checkpoint_id": null, "checkpoint_ns": "" } }),
            json!({ "checkpoint_id": "1f000000-0000-6000-8000-000000000003" }),
            json!({ "after_seconds": 0.5, "durability": "exit", "on_disconnect": "cancel" }),
        ] {
            assert!(passes(body.clone()), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(check(&json!({})).is_err());
        for body in [
            json!({ "input": { "a": 1 }, "command": { "resume": 1 } }),
            json!({ "input": [], "command": { "resume": 1 } }),
            json!({ "command": "go" }),
            json!({ "stream_mode": ["values", "nonsense"] }),
            json!({ "stream_mode": 1 }),
            json!({ "on_disconnect": "stay" }),
            json!({ "durability": true }),
            json!({ "if_not_exists": "" }),
            json!({ "after_seconds": -1 }),
            // More than a duration holds.
            json!({ "after_seconds": 1e30 }),
            json!({ "after_seconds": f64::MAX }),
            json!({ "after_seconds": "1" }),
            json!({ "config": { "recursion_limit": 0 } }),
            json!({ "metadata": [] }),
            json!({ "checkpoint_id": "nothing" }),
            json!({ "config": { "configurable": { "checkpoint_id": "nothing" } } }),
        ] {
            assert!(!passes(body.clone()), "{body}");
        }
    }
}
