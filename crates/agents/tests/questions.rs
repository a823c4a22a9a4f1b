//! The check of questions against labelled ones.

use lyceum_agents::check::{Heard, review};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    lesson: Vec<Lesson>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lesson {
    topic: String,
    explanation: String,
    #[serde(default)]
    earlier: Vec<String>,
    #[serde(default)]
    asked: Vec<String>,
    questions: Vec<Labelled>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    label: String,
    text: String,
}

#[test]
fn each_question_is_judged_as_it_is_labelled() {
    let set: Set = toml::from_str(include_str!("data/questions/questions.toml")).unwrap();
    let mut wrong = Vec::new();
    let (mut good, mut bad) = (0, 0);
    for lesson in &set.lesson {
        let heard = Heard {
            topic: &lesson.topic,
            explanation: &lesson.explanation,
            earlier: &lesson.earlier,
            asked: &lesson.asked,
        };
        for Labelled { label, text } in &lesson.questions {
            let judged = review(text, &heard).map_or_else(|fault| fault.label(), |()| "good");
            if label == "good" {
                good += 1;
            } else {
                bad += 1;
            }
            if judged != label {
                wrong.push(format!("{text} is {label}, not {judged}"));
            }
        }
    }
    assert!(good >= 18 && bad >= 40, "{good} good and {bad} bad ones");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
