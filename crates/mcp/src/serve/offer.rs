//! How the tools are described to clients.

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// A client shows this much of a description at most.
const MAX_DESCRIPTION: usize = 2_000;

/// The names of the student's own tools; no other tool may have one.
pub(super) const TEACH: &str = "teach";
pub(super) const KNOWLEDGE: &str = "knowledge";
pub(super) const EXAM: &str = "exam";
pub(super) const TEACH_BACK: &str = "teach_back";
pub(super) const REVIEW: &str = "review";
pub(super) const NOTES: &str = "notes";
pub(super) const DISCUSS: &str = "discuss";

const OWN: [&str; 7] = [TEACH, KNOWLEDGE, EXAM, TEACH_BACK, REVIEW, NOTES, DISCUSS];

pub(super) fn is_own(name: &str) -> bool {
    OWN.contains(&name)
}

/// The student's own tools.
pub(super) fn own() -> Vec<Tool> {
    let session = json!({"type": "string", "description": "The lesson, as `teach` named it."});
    let tone = json!({
        "type": "string",
        "enum": ["curious_child", "sceptical_peer", "examiner"],
        "description": "In which role the student speaks.",
    });
    let text =
        |description: &str| json!({"type": "string", "minLength": 1, "description": description});
    vec![
        tool(
            TEACH,
            "Teaches the student something and gives its questions about the gaps. Begins a lesson, or goes on with one.",
            false,
            &json!({
                "topic": text("What is taught."),
                "explanation": text("Your explanation, in English or Chinese."),
                "session": {"type": "string", "description": "A lesson to go on with; without it a new one begins."},
                "tone": tone,
            }),
            &["topic", "explanation"],
        ),
        tool(
            KNOWLEDGE,
            "What the student was taught in a lesson: claims, concepts, gaps and misconceptions, as JSON.",
            true,
            &json!({"session": session}),
            &["session"],
        ),
        tool(
            EXAM,
            "Asks the student a question, which it answers only with what it was taught; says what was not.",
            true,
            &json!({"session": session, "question": text("The question."), "tone": tone}),
            &["session", "question"],
        ),
        tool(
            TEACH_BACK,
            "Has the student explain the topic with what it was taught, its holes visible.",
            true,
            &json!({"session": session, "tone": tone}),
            &["session"],
        ),
        tool(
            REVIEW,
            "What to explain again, and when, most urgent first, as JSON.",
            true,
            &json!({"session": session}),
            &["session"],
        ),
        tool(
            NOTES,
            "Notes of a lesson as Markdown.",
            true,
            &json!({"session": session}),
            &["session"],
        ),
        tool(
            DISCUSS,
            "Has a panel of planner, critic, host and reporter discuss a position, and gives the report with the dissent.",
            true,
            &json!({
                "topic": text("The subject."),
                "text": text("The position, explanation or question."),
                "rounds": {"type": "integer", "minimum": 1, "maximum": 3},
            }),
            &["topic", "text"],
        ),
    ]
}

/// A tool that others brought.
pub(super) fn other(tool: &dyn lyceum_core::Tool) -> Tool {
    let spec = tool.spec();
    let schema = match &*spec.parameters {
        Value::Object(schema) => schema.clone(),
        _ => JsonObject::new(),
    };
    let description: String = spec.description.chars().take(MAX_DESCRIPTION).collect();
    Tool::new(spec.name.clone(), description, schema)
}

fn tool(
    name: &'static str,
    description: &'static str,
    reads_only: bool,
    properties: &Value,
    required: &[&str],
) -> Tool {
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    let annotations = ToolAnnotations::new()
        .read_only(reads_only)
        .destructive(false)
        .open_world(false);
    Tool::new(name, description, schema).with_annotations(annotations)
}
