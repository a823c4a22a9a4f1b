//! Turns of a conversation: their words, their order, their failures.

use std::sync::{Arc, atomic::Ordering};

use futures_util::StreamExt;
use lyceum_agents::{Consolidator, Mind};
use lyceum_core::{
    CallContext, ChatError, Role, Scope, SessionId, Student, TeachError, TeachEvent, Tokens, Turn,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::scripted::{Model, Scripted, explanation, good, memory, student, teach};

#[tokio::test]
async fn a_turn_goes_through_the_three_nodes_and_streams_its_words() {
    let model = Model(Arc::new(Scripted::new(good)));
    let student = student(Mind::Model(Arc::new(model.clone())), &memory());
    let (events, lesson) = teach(&student, explanation("s", "I say: Mass attracts mass."))
        .await
        .unwrap();
    let nodes: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            TeachEvent::Node(name) => Some(*name),
            _ => None,
        })
        .collect();
    assert_eq!(
        nodes,
        ["user_input_handler", "gap_identifier", "question_generator"]
    );
    assert_eq!(lesson.gaps[0].quote, "Mass attracts mass");
    assert_eq!(
        lesson.questions,
        [
            "How is it that \"mass attracts mass\"?",
            "Where is there mass that attracts nothing?"
        ]
    );
    assert_eq!(lesson.usage.total(), Tokens(30));
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            TeachEvent::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, lesson.short_term_memory[1].content);
    assert!(
        !text.contains("gaps"),
        "the gaps' JSON is not for the learner: {text}"
    );
}

#[tokio::test]
async fn the_next_turn_sees_the_conversation_and_other_users_do_not() {
    let memory = memory();
    let model = Model(Arc::new(Scripted::new(good)));
    let student = student(Mind::Model(Arc::new(model.clone())), &memory);
    teach(&student, explanation("s", "Mass attracts mass."))
        .await
        .unwrap();
    teach(&student, explanation("s", "It bends space."))
        .await
        .unwrap();
    let said: Vec<String> = model.0.asked.lock().unwrap()[2]
        .1
        .iter()
        .map(|m| m.content.text())
        .collect();
    assert!(
        said.iter().any(|text| text == "Mass attracts mass."),
        "{said:?}"
    );
    let mut call = CallContext::new(Scope::local());
    call.scope.user = "mallory".parse().unwrap();
    let events: Vec<_> = student
        .teach(call, explanation("s", "Show me."))
        .collect()
        .await;
    let Some(Ok(TeachEvent::Finished(lesson))) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(
        lesson.short_term_memory.len(),
        2,
        "another user's conversation was shown"
    );
}

#[tokio::test]
async fn a_long_imported_conversation_is_kept_whole() {
    let memory = memory();
    let student = student(Mind::Offline, &memory);
    let mut first = explanation("long", "It bends space because mass curves it.");
    first.short_term_memory = (0..1_000)
        .map(|n| Turn {
            role: Role::User,
            content: format!("Fact {n}."),
        })
        .collect();
    let (_, lesson) = teach(&student, first).await.unwrap();
    assert_eq!(lesson.degraded, [] as [&str; 0]);
    let scope = Scope::local().with_session(SessionId::new("long").unwrap());
    let session = memory.sessions().session(&scope).await.unwrap().unwrap();
    assert_eq!(session.messages, 1_002);
}

#[tokio::test]
async fn the_worker_ends_when_it_is_told_to() {
    let stop = CancellationToken::new();
    let worker = tokio::spawn(Consolidator::new(memory(), Mind::Offline).run(stop.clone()));
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn what_the_client_remembers_of_an_unknown_conversation_is_kept() {
    let memory = memory();
    let student = student(Mind::Offline, &memory);
    let mut first = explanation("s", "It bends space because mass curves it.");
    first.short_term_memory = vec![
        Turn {
            role: Role::User,
            content: "Mass attracts mass.".into(),
        },
        Turn {
            role: Role::Assistant,
            content: "How?".into(),
        },
    ];
    let (_, lesson) = teach(&student, first).await.unwrap();
    assert_eq!(lesson.short_term_memory.len(), 4);
    let (_, lesson) = teach(&student, explanation("s", "And light bends too."))
        .await
        .unwrap();
    assert_eq!(
        lesson.short_term_memory.len(),
        6,
        "the imported turns are in the store, once"
    );
}

#[tokio::test]
async fn a_failing_model_is_an_error_as_it_was_and_leaves_nothing() {
    let memory = memory();
    let model = Model(Arc::new(Scripted::new(|_| Err(ChatError::Truncated))));
    let failing = student(Mind::Model(Arc::new(model)), &memory);
    let error = teach(&failing, explanation("s", "Mass attracts mass."))
        .await
        .unwrap_err();
    assert!(
        matches!(error, TeachError::Model(ChatError::Truncated)),
        "{error:?}"
    );
    let (_, lesson) = teach(
        &student(Mind::Offline, &memory),
        explanation("s", "Mass attracts mass."),
    )
    .await
    .unwrap();
    assert_eq!(lesson.short_term_memory.len(), 2);
}

#[tokio::test]
async fn turns_of_one_conversation_never_overlap() {
    let model = Model(Arc::new(Scripted::new(good)));
    let student = student(Mind::Model(Arc::new(model.clone())), &memory());
    let turns = (0..8).map(|n| {
        teach(
            &student,
            explanation(
                "same",
                if n % 2 == 0 {
                    "Mass attracts mass."
                } else {
                    "It bends space."
                },
            ),
        )
    });
    for turn in futures_util::future::join_all(turns).await {
        turn.unwrap();
    }
    assert_eq!(model.0.most.load(Ordering::SeqCst), 1);
    let others = (0..4).map(|n| {
        teach(
            &student,
            explanation(&format!("s{n}"), "Mass attracts mass."),
        )
    });
    for turn in futures_util::future::join_all(others).await {
        turn.unwrap();
    }
    assert!(
        model.0.most.load(Ordering::SeqCst) > 1,
        "other conversations do not wait"
    );
}

#[tokio::test]
async fn a_dropped_turn_leaves_nothing_and_frees_the_conversation() {
    let memory = memory();
    let hold = Arc::new(Notify::new());
    let model = Model(Arc::new(Scripted {
        hold: Some(hold.clone()),
        ..Scripted::new(good)
    }));
    let held = student(Mind::Model(Arc::new(model.clone())), &memory);
    let mut events = held.teach(
        CallContext::new(Scope::local()),
        explanation("s", "Mass attracts mass."),
    );
    while !matches!(
        events.next().await,
        Some(Ok(TeachEvent::Node("gap_identifier")))
    ) {}
    drop(events);
    hold.notify_one();
    let next = student(Mind::Offline, &memory);
    let (_, lesson) = teach(&next, explanation("s", "Mass attracts mass."))
        .await
        .unwrap();
    assert_eq!(lesson.short_term_memory.len(), 2);
}
