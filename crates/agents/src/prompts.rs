//! The prompts: files in `prompts/`, rendered with values that are never read as templates.

use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

static PROMPTS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut prompts = Environment::new();
    prompts.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in [
        ("gap_identifier", include_str!("prompts/gap_identifier.md")),
        ("gap_repair", include_str!("prompts/gap_repair.md")),
        ("react_tools", include_str!("prompts/react_tools.md")),
        ("react_last", include_str!("prompts/react_last.md")),
        (
            "question_generator",
            include_str!("prompts/question_generator.md"),
        ),
        (
            "question_generator_small",
            include_str!("prompts/question_generator_small.md"),
        ),
        (
            "question_grader",
            include_str!("prompts/question_grader.md"),
        ),
        ("summary", include_str!("prompts/summary.md")),
        ("teach_back", include_str!("prompts/teach_back.md")),
        ("exam", include_str!("prompts/exam.md")),
        ("panel_planner", include_str!("prompts/panel_planner.md")),
        ("panel_critic", include_str!("prompts/panel_critic.md")),
        ("panel_host", include_str!("prompts/panel_host.md")),
        ("panel_reporter", include_str!("prompts/panel_reporter.md")),
        ("team_lead", include_str!("prompts/team_lead.md")),
    ] {
        // A template that does not compile is left out; rendering it then fails, as the tests see.
        let _ = prompts.add_template(name, source);
    }
    prompts
});

/// A prompt could not be rendered: its file and the values given to it disagree.
#[derive(Debug, thiserror::Error)]
#[error("render the prompt {name}")]
pub(crate) struct PromptError {
    name: &'static str,
    #[source]
    source: minijinja::Error,
}

/// Renders a prompt.
pub(crate) fn render(name: &'static str, values: impl Serialize) -> Result<String, PromptError> {
    let rendered = PROMPTS
        .get_template(name)
        .and_then(|prompt| prompt.render(minijinja::value::Serde(values)));
    rendered
        .map(|text| text.trim_end().to_owned())
        .map_err(|source| PromptError { name, source })
}

/// Renders a prompt of a model call, whose error it then is.
pub(crate) fn rendered(
    name: &'static str,
    values: impl Serialize,
) -> Result<String, lyceum_core::ChatError> {
    render(name, values).map_err(|error| lyceum_core::ChatError::Protocol {
        detail: error.to_string(),
    })
}

/// Renders a prompt that a configuration brings.
pub(crate) fn render_own(
    name: &'static str,
    source: &str,
    values: impl Serialize,
) -> Result<String, PromptError> {
    let rendered = PROMPTS.render_str(source, minijinja::value::Serde(values));
    rendered
        .map(|text| text.trim_end().to_owned())
        .map_err(|source| PromptError { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gap(quote: &str) -> serde_json::Value {
        json!({"kind": "missing_mechanism", "quote": quote, "reason": "how?", "severity": "high"})
    }

    #[test]
    fn prompts_read_as_they_were_reviewed() {
        let tool = json!({"name": "calculate", "description": "Calculates.", "parameters": "{\"type\":\"object\"}"});
        let cases = [
            (
                "gap_identifier",
                json!({"topic": "Tides", "asked": [], "knowledge": [], "tools": false}),
            ),
            (
                "gap_identifier",
                json!({"topic": "Tides", "asked": [{"id": 7, "text": "How does it pull?"}], "knowledge": ["The moon pulls."], "tools": true}),
            ),
            ("gap_repair", json!({})),
            ("react_tools", json!({"tools": [tool]})),
            ("react_last", json!({})),
            (
                "question_generator",
                json!({"topic": "Tides", "voice": "a curious student", "count": "one question", "gaps": [gap("it pulls")]}),
            ),
            (
                "question_generator",
                json!({"topic": "Tides", "voice": "a curious student", "count": "one question", "gaps": []}),
            ),
            (
                "question_generator_small",
                json!({"topic": "Tides", "voice": "a curious student", "explanation": "It pulls.", "quote": "pulls"}),
            ),
            (
                "question_grader",
                json!({"topic": "Tides", "explanation": "The moon pulls.", "asked": ["How?"], "questions": ["Why?", "When?"]}),
            ),
            ("summary", json!({"topic": "Tides", "earlier": null})),
            (
                "summary",
                json!({"topic": "Tides", "earlier": "The moon pulls."}),
            ),
            (
                "teach_back",
                json!({"topic": "Tides", "voice": "a curious student", "claims": [{"id": 3, "text": "The moon pulls."}]}),
            ),
            (
                "exam",
                json!({"question": "Why tides?", "voice": "a strict examiner", "claims": [{"id": 3, "text": "The moon pulls."}], "missing": ["the reason"]}),
            ),
            (
                "exam",
                json!({"question": "What pulls?", "voice": "a curious student", "claims": [{"id": 3, "text": "The moon pulls."}], "missing": []}),
            ),
            (
                "panel_planner",
                json!({"topic": "Tides", "round": 1, "open": []}),
            ),
            (
                "panel_planner",
                json!({"topic": "Tides", "round": 2, "plan": "1. The moon pulls.", "open": ["How?"]}),
            ),
            (
                "panel_critic",
                json!({"topic": "Tides", "claims": ["The moon pulls."], "from": 0, "all": false}),
            ),
            (
                "panel_critic",
                json!({"topic": "Tides", "claims": ["It is far."], "from": 3, "all": true}),
            ),
            (
                "panel_host",
                json!({"topic": "Tides", "claims": ["The moon pulls."], "objections": ["How?"], "unreviewed": ["It is far."]}),
            ),
            (
                "panel_reporter",
                json!({"topic": "Tides", "claims": ["The moon pulls."], "objections": ["How?"], "rulings": ["1. OPEN"]}),
            ),
            (
                "team_lead",
                json!({"instructions": "You lead.", "members": ["north", "south"], "last": false}),
            ),
            (
                "team_lead",
                json!({"instructions": "You lead.", "members": ["north"], "last": true}),
            ),
        ];
        let rendered: Vec<String> = cases
            .iter()
            .map(|(name, values)| {
                format!("==== {name} {values}\n{}", render(name, values).unwrap())
            })
            .collect();
        insta::assert_snapshot!(rendered.join("\n\n"));
    }

    #[test]
    fn a_learners_words_are_never_read_as_a_template() {
        let values = json!({"topic": "{{ gaps }}{% raw %}", "voice": "a curious student", "count": "one question", "gaps": []});
        assert!(
            render("question_generator", values)
                .unwrap()
                .contains("{{ gaps }}{% raw %}")
        );
    }
}
