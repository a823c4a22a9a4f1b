//! What becomes of a model's answers: repaired, judged, replaced.

use std::sync::Arc;

use lyceum_agents::{Feynman, FeynmanConfig, Mind};
use lyceum_core::{TeachEvent, Tokens};

use crate::scripted::{Model, Scripted, explanation, is_gap_prompt, memory, student, teach};

#[tokio::test]
async fn an_unreadable_answer_is_repaired_once_and_then_the_rules_step_in() {
    let model = Model(Arc::new(Scripted::new(|request| {
        Ok(if is_gap_prompt(request) {
            "{\"answer\": 42}".into()
        } else {
            "Nice!".into()
        })
    })));
    let student = student(Mind::Model(Arc::new(model.clone())), &memory());
    let (_, lesson) = teach(&student, explanation("s", "Things somehow fall."))
        .await
        .unwrap();
    assert_eq!(model.0.prompts().len(), 3, "gaps, one repair, questions");
    assert_eq!(lesson.degraded, ["gap_identifier", "question_generator"]);
    assert!(
        lesson
            .questions
            .iter()
            .any(|question| question.contains("somehow")),
        "{:?}",
        lesson.questions
    );
    assert!(lesson.short_term_memory[1].content.starts_with("Nice!"));
}

#[tokio::test]
async fn an_answer_with_invented_quotes_only_is_repaired() {
    let model = Model(Arc::new(Scripted::new(|request| {
        let is_repair = request.messages.len() > 2;
        Ok(match (is_gap_prompt(request), is_repair) {
            (true, false) => r#"{"gaps":[{"kind":"missing_step","quote":"quantum foam"}]}"#.into(),
            (true, true) => r#"{"gaps":[{"kind":"missing_step","quote":"things fall"}]}"#.into(),
            (false, _) => "Why do things fall?".into(),
        })
    })));
    let student = student(Mind::Model(Arc::new(model.clone())), &memory());
    let (_, lesson) = teach(&student, explanation("s", "All things fall."))
        .await
        .unwrap();
    assert_eq!(lesson.gaps[0].quote, "things fall");
    assert_eq!(lesson.degraded, [] as [&str; 0]);
    assert_eq!(model.0.prompts().len(), 3, "gaps, one repair, questions");
}

#[tokio::test]
async fn bad_questions_of_a_model_are_never_heard() {
    let model = Model(Arc::new(Scripted::new(|request| {
        Ok(match is_gap_prompt(request) {
            true => r#"{"gaps":[{"kind":"missing_mechanism","quote":"the sea rises"},{"kind":"unsupported_claim","quote":"twice a day"}]}"#.into(),
            false => "Let me think.\n1. Is it because the gravity of the moon pulls it?\n2. Can you tell me more?\n3. How does “the sea” know when to rise?\n4. Why does the sea rise?\n5. Where does the sea rise?".into(),
        })
    })));
    let student = student(Mind::Model(Arc::new(model)), &memory());
    let (events, lesson) = teach(
        &student,
        explanation("s", "Somehow the sea rises twice a day."),
    )
    .await
    .unwrap();
    let heard: String = events
        .iter()
        .filter_map(|event| match event {
            TeachEvent::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert!(
        !heard.contains("moon") && !heard.contains("tell me more"),
        "{heard}"
    );
    assert!(heard.starts_with("Let me think.\n1. "), "{heard}");
    assert_eq!(lesson.questions.len(), 3, "{heard}");
    assert!(lesson.questions[0].contains("“the sea rises”"), "{heard}");
    assert!(lesson.questions[1].contains("“twice a day”"), "{heard}");
    assert_eq!(lesson.questions[2], "How does “the sea” know when to rise?");
    assert_eq!(lesson.degraded, [] as [&str; 0]);
    assert_eq!(heard.trim(), lesson.short_term_memory[1].content);
}

#[tokio::test]
async fn an_offline_student_does_not_repeat_itself_in_a_long_conversation() {
    let student = student(Mind::Offline, &memory());
    let mut asked = std::collections::HashSet::new();
    for _ in 0..12 {
        let (_, lesson) = teach(
            &student,
            explanation("s", "Mass attracts mass, so things fall."),
        )
        .await
        .unwrap();
        for question in lesson.questions {
            assert!(asked.insert(question.clone()), "asked again: {question}");
        }
    }
}

#[tokio::test]
async fn a_model_may_judge_its_own_questions() {
    let model = Model(Arc::new(Scripted::new(|request| {
        let prompt = request.messages[0].content.text();
        Ok(match () {
            () if prompt.contains("Kinds of gap") => {
                r#"{"gaps":[{"kind":"missing_mechanism","quote":"the sea rises"}]}"#.into()
            }
            () if prompt.contains("Reject a question") => {
                r#"{"rejected":[{"number":1,"fault":"leak"}]}"#.into()
            }
            () => "1. Does the sea rise in the night?\n2. How far does the sea rise?".into(),
        })
    })));
    let config = FeynmanConfig {
        graded: true,
        ..FeynmanConfig::default()
    };
    let mind = Mind::Model(Arc::new(model));
    let student = Feynman::new(mind, Vec::new(), memory(), config).unwrap();
    let (events, lesson) = teach(&student, explanation("s", "Twice a day the sea rises."))
        .await
        .unwrap();
    assert_eq!(lesson.questions.len(), 2);
    assert!(lesson.questions[0].contains("“the sea rises”"));
    assert_eq!(lesson.questions[1], "How far does the sea rise?");
    let heard: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            TeachEvent::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(heard.concat().trim(), lesson.short_term_memory[1].content);
    assert!(!heard.concat().contains("in the night"));
    assert_eq!(lesson.usage.total(), Tokens(45));
}
