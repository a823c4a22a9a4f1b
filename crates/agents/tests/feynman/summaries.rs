//! Long conversations and their summaries.

use std::sync::Arc;

use lyceum_agents::{Consolidator, Mind};
use lyceum_core::{Priority, Role, Scope, SessionId};
use lyceum_memory::{Memory, NewJob, NewMessage, NewTurn, Summary, TurnId};

use crate::scripted::{Model, Scripted, explanation, memory, student, teach};

#[tokio::test]
async fn a_long_conversation_is_summarised_once_per_ten_messages_at_low_priority() {
    let memory = memory();
    let model = Model(Arc::new(Scripted::new(|_| {
        Ok("They spoke of gravity.".into())
    })));
    let student = student(Mind::Offline, &memory);
    for n in 0..16 {
        teach(
            &student,
            explanation("long", &format!("Fact number {n}: mass attracts mass.")),
        )
        .await
        .unwrap();
    }
    let worker = Consolidator::new(memory.clone(), Mind::Model(Arc::new(model.clone())));
    while let lyceum_memory::Claim::Job(job) = memory.claim_job(&["consolidate"]).await.unwrap() {
        worker.work(&job).await.unwrap();
    }
    let scope = Scope::local().with_session(SessionId::new("long").unwrap());
    let summary = memory
        .sessions()
        .session(&scope)
        .await
        .unwrap()
        .unwrap()
        .summary
        .unwrap();
    assert_eq!(
        (summary.upto_seq, summary.text.as_str()),
        (22, "They spoke of gravity.")
    );
    let asked = model.0.asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "16 jobs, one summary");
    assert_eq!(asked[0].0, Priority::Low);
}

/// A conversation from elsewhere, and the job that its next turn makes.
async fn imported(memory: &Memory, messages: usize, text: impl Fn(usize) -> String) -> Scope {
    let scope = Scope::local().with_session(SessionId::new("imported").unwrap());
    for (number, part) in (0..messages).collect::<Vec<_>>().chunks(500).enumerate() {
        let message = |&n: &usize| NewMessage {
            role: Role::User,
            content: text(n),
        };
        let turn = NewTurn {
            turn_id: TurnId::new(format!("turn-{number}")).unwrap(),
            topic: "Gravity".into(),
            messages: part.iter().map(message).collect(),
            memories: Vec::new(),
            jobs: vec![NewJob {
                kind: "consolidate".into(),
                payload: serde_json::Value::Null,
            }],
        };
        memory.save_turn(&scope, turn).await.unwrap();
    }
    scope
}

async fn consolidated(memory: &Memory, mind: Mind, scope: &Scope) -> Summary {
    let worker = Consolidator::new(memory.clone(), mind);
    while let lyceum_memory::Claim::Job(job) = memory.claim_job(&["consolidate"]).await.unwrap() {
        worker.work(&job).await.unwrap();
    }
    let session = memory.sessions().session(scope).await.unwrap();
    session.unwrap().summary.unwrap()
}

#[tokio::test]
async fn a_summary_has_seen_every_message_that_it_covers() {
    let memory = memory();
    let scope = imported(&memory, 1_010, |n| format!("message number {n}.")).await;
    let model = Model(Arc::new(Scripted::new(|_| Ok("So far.".into()))));
    let summary = consolidated(&memory, Mind::Model(Arc::new(model.clone())), &scope).await;
    assert_eq!(summary.upto_seq, 1_000);
    let asked = model.0.asked.lock().unwrap();
    let shown: Vec<String> = asked.iter().map(|(_, m)| m[1].content.text()).collect();
    let shown = shown.join("\n");
    let missing = (0..1_000).find(|n| !shown.contains(&format!("message number {n}.")));
    assert_eq!((missing, asked.len()), (None, 10));
    let told = |messages: &[lyceum_core::Message]| messages[0].content.text().contains("So far.");
    let earlier: Vec<bool> = asked.iter().map(|(_, messages)| told(messages)).collect();
    assert!(
        !earlier[0] && earlier[1..].iter().all(|&told| told),
        "{earlier:?}"
    );
}

#[tokio::test]
async fn long_messages_do_not_push_the_earlier_summary_out() {
    let memory = memory();
    let long = |n: usize| format!("{n}: {}", "mass bends space ".repeat(600));
    let scope = imported(&memory, 40, long).await;
    let model = Model(Arc::new(Scripted::new(|_| Ok("It stays.".into()))));
    consolidated(&memory, Mind::Model(Arc::new(model.clone())), &scope).await;
    let asked = model.0.asked.lock().unwrap();
    assert!(asked.len() >= 3, "{} calls", asked.len());
    for (_, messages) in &asked[1..] {
        assert!(messages[0].content.text().contains("It stays."));
        assert!(messages[1].content.text().chars().count() <= 40_000);
    }
    let first = |n: usize| {
        let line = format!("Teacher: {n}: ");
        asked
            .iter()
            .any(|(_, m)| m[1].content.text().contains(&line))
    };
    assert!((0..30).all(first));
}

#[tokio::test]
async fn the_rules_keep_what_an_earlier_summary_kept() {
    let memory = memory();
    let said = |n: usize| match n {
        3 => "Newton found that gravity pulls apples because mass attracts mass.".to_owned(),
        150 => "Einstein showed that gravity is the curvature of spacetime.".to_owned(),
        _ => "Yes.".to_owned(),
    };
    let scope = imported(&memory, 250, said).await;
    let summary = consolidated(&memory, Mind::Offline, &scope).await;
    assert!(summary.text.contains("240 turns"), "{}", summary.text);
    for kept in ["mass attracts mass", "curvature of spacetime"] {
        assert!(summary.text.contains(kept), "{}", summary.text);
    }
    assert_eq!(summary.text.matches("The learner explained").count(), 1);
}

#[tokio::test]
async fn a_summary_is_500_tokens_long_at_most() {
    for mind in [
        Mind::Model(Arc::new(Model(Arc::new(Scripted::new(|_| {
            Ok("Mass attracts mass. ".repeat(400))
        }))))),
        Mind::Offline,
    ] {
        let memory = memory();
        let said = |n: usize| {
            format!(
                "Body {n} attracts its neighbour {} because masses attract.",
                n + 1
            )
        };
        let scope = imported(&memory, 1_510, said).await;
        let summary = consolidated(&memory, mind, &scope).await;
        let tokens = lyceum_memory::estimate_tokens(&summary.text);
        assert!((100..=500).contains(&tokens), "{tokens}: {}", summary.text);
        let ends = ["mass.", "attract"]
            .iter()
            .any(|end| summary.text.ends_with(end));
        assert!(ends, "{}", summary.text);
    }
}
