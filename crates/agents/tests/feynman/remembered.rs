//! What is known across conversations, and what is forgotten.

use std::sync::Arc;

use lyceum_agents::Mind;
use lyceum_core::{CallContext, ChatError, Conversation, Role, Scope, SessionId, Student, Turn};

use crate::scripted::{Model, Scripted, explanation, good, memory, student, teach};

#[tokio::test]
async fn what_was_taught_elsewhere_is_known_in_an_exam() {
    use lyceum_core::{Pupil, Verdict};
    let memory = memory();
    let student = student(Mind::Offline, &memory);
    let text = "A photon is a particle of light that has no mass.";
    teach(&student, explanation("one", text)).await.unwrap();
    teach(
        &student,
        explanation("two", "Light bends near heavy stars because space is bent."),
    )
    .await
    .unwrap();
    let call = || CallContext::new(Scope::local());
    let session = || SessionId::new("two").unwrap();
    let ask = "What is a photon?".to_owned();
    let answer = student
        .exam(call(), session(), ask, None)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(answer.verdict, Verdict::NotTaught, "{answer:?}");
    assert!(answer.text.contains("particle of light"), "{answer:?}");
    let known = student.knowledge(call(), session()).await.unwrap().unwrap();
    assert!(answer.claims.iter().all(|id| known.claim(*id).is_some()));
}

#[tokio::test]
async fn a_conversation_that_is_forgotten_leaves_nothing_known() {
    use lyceum_core::Pupil;
    let memory = memory();
    let student = student(Mind::Offline, &memory);
    teach(
        &student,
        explanation("s", "Mass attracts mass, so things fall."),
    )
    .await
    .unwrap();
    let session = SessionId::new("s").unwrap();
    let scope = Scope::local().with_session(session.clone());
    assert!(student.forget(&scope).await.unwrap());
    assert!(!student.forget(&scope).await.unwrap());
    let call = || CallContext::new(Scope::local());
    assert!(
        student
            .knowledge(call(), session.clone())
            .await
            .unwrap()
            .is_none()
    );
    teach(
        &student,
        explanation("s", "Light falls too, because space is bent."),
    )
    .await
    .unwrap();
    let known = student.knowledge(call(), session).await.unwrap().unwrap();
    assert_eq!(known.turns, 1);
    assert!(
        known
            .claims
            .iter()
            .all(|claim| !claim.text.contains("attracts"))
    );
}

#[tokio::test]
async fn what_was_taught_is_recalled_in_another_conversation() {
    let memory = memory();
    let student_ = student(Mind::Offline, &memory);
    teach(
        &student_,
        explanation("first", "Gravity is the curvature of spacetime by mass."),
    )
    .await
    .unwrap();
    let model = Model(Arc::new(Scripted::new(good)));
    let second = student(Mind::Model(Arc::new(model.clone())), &memory);
    teach(
        &second,
        explanation("second", "Gravity bends the path of light."),
    )
    .await
    .unwrap();
    assert!(
        model.0.prompts()[0].contains("curvature of spacetime"),
        "{}",
        model.0.prompts()[0]
    );
}

#[tokio::test]
async fn what_was_memorised_is_complete_until_it_goes_on() {
    let memory = memory();
    let student = student(Mind::Offline, &memory);
    let said = explanation("done", "Mass attracts mass because it bends space.");
    teach(&student, said.clone()).await.unwrap();
    let scope = Scope::local().with_session(SessionId::new("done").unwrap());
    let is_complete = async || {
        let session = memory.sessions().session(&scope).await.unwrap();
        session.unwrap().completed
    };
    assert!(!is_complete().await);
    let conversation = Conversation {
        topic: "Gravity".into(),
        history: Vec::new(),
        session: scope.session.clone(),
    };
    let call = CallContext::new(Scope::local());
    student.memorize(call, conversation).await.unwrap();
    assert!(is_complete().await);
    teach(&student, said).await.unwrap();
    assert!(!is_complete().await);
}

#[tokio::test]
async fn memorize_stores_the_models_summary_and_the_rules_where_it_fails() {
    let history = vec![Turn {
        role: Role::User,
        content: "Mass attracts mass because it bends space.".into(),
    }];
    let conversation = Conversation {
        topic: "Gravity".into(),
        history,
        session: None,
    };
    for (answer, provider) in [(Some("Mass bends space."), "scripted"), (None, "offline")] {
        let memory = memory();
        let model = Model(Arc::new(Scripted::new(move |_| {
            answer.map(str::to_owned).ok_or(ChatError::Truncated)
        })));
        let student = student(Mind::Model(Arc::new(model)), &memory);
        let stored = student
            .memorize(CallContext::new(Scope::local()), conversation.clone())
            .await
            .unwrap();
        assert_eq!(stored.provider, provider);
        let found = memory
            .memories()
            .search(&Scope::local(), "gravity", 1)
            .await
            .unwrap();
        assert_eq!(found[0].text, stored.summary);
    }
}
