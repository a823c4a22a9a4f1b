//! What a state and its update look like to clients that are not Rust.

use std::collections::BTreeMap;

use lyceum_graph::{Barrier, Described, State, schemars::JsonSchema};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "lyceum_graph::schemars")]
struct Note {
    text: String,
}

fn append_line(text: &mut Vec<String>, line: String) {
    text.push(line);
}

/// What is written about a topic.
#[derive(State, Clone, Default)]
#[state(schema)]
struct Essay {
    /// What it is about,
    /// in a word.
    topic: Option<String>,
    #[state(append)]
    notes: Vec<Note>,
    #[state(merge)]
    marks: BTreeMap<String, i8>,
    #[state(fold = append_line, write = String)]
    lines: Vec<String>,
    #[state(barrier = 2)]
    reviews: Barrier<String>,
    #[state(untracked)]
    scratch: usize,
}

#[test]
fn a_state_describes_its_saved_channels() {
    let schema = Essay::state_schema().to_value();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["title"], "Essay");
    assert_eq!(schema["description"], "What is written about a topic.");
    assert_eq!(
        schema["required"],
        json!(["topic", "notes", "marks", "lines", "reviews"])
    );
    let fields = &schema["properties"];
    assert_eq!(fields["topic"]["type"], json!(["string", "null"]));
    assert_eq!(
        fields["topic"]["description"],
        "What it is about,\nin a word."
    );
    assert_eq!(fields["notes"]["items"]["$ref"], "#/$defs/Note");
    assert_eq!(schema["$defs"]["Note"]["required"], json!(["text"]));
    assert_eq!(fields["lines"]["type"], "array");
    assert_eq!(fields["scratch"], json!(null));
}

#[test]
fn an_update_may_leave_any_channel_out_and_writes_its_own_type() {
    let schema = Essay::update_schema().to_value();
    assert_eq!(schema["title"], "EssayUpdate");
    assert_eq!(schema["required"], json!(null));
    let fields = &schema["properties"];
    assert_eq!(fields["lines"]["type"], "string");
    assert_eq!(fields["reviews"]["type"], "string");
    let written = serde_json::to_value(EssayUpdate::new().lines("tea").scratch(3_usize));
    assert_eq!(written.ok(), Some(json!({ "lines": "tea" })));
}
