//! The student through its port, with a model that says what the test wants.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream};
use lyceum_agents::{Consolidator, Feynman, FeynmanConfig, Mind};
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Conversation,
    Explanation, FinishReason, Lesson, Message, ModelTraits, Priority, Role, Scope, SessionId,
    Student, TeachError, TeachEvent, Tokens, Turn, Usage,
};
use lyceum_memory::{InMemory, Memory, MemoryConfig, NewJob, NewMessage, NewTurn, Summary, TurnId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

type Answer = Box<dyn Fn(&ChatRequest) -> Result<String, ChatError> + Send + Sync>;

/// Answers by a function of the request and remembers what it was asked.
struct Scripted {
    answer: Answer,
    asked: Mutex<Vec<(Priority, Vec<Message>)>>,
    running: AtomicUsize,
    most: AtomicUsize,
    hold: Option<Arc<Notify>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn new(
        answer: impl Fn(&ChatRequest) -> Result<String, ChatError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            answer: Box::new(answer),
            asked: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            hold: None,
        }
    }

    fn prompts(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, messages)| messages[0].content.text())
            .collect()
    }
}

/// The test holds an Arc as well, so the model is a handle.
#[derive(Debug, Clone)]
struct Model(Arc<Scripted>);

impl ChatModel for Model {
    fn name(&self) -> &str {
        "scripted"
    }
    fn traits(&self) -> ModelTraits {
        ModelTraits {
            native_tools: true,
            context: Tokens(10_000),
            small: false,
        }
    }
    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.0.clone();
        Box::pin(
            stream::once(async move {
                let now = this.running.fetch_add(1, Ordering::SeqCst) + 1;
                this.most.fetch_max(now, Ordering::SeqCst);
                this.asked
                    .lock()
                    .unwrap()
                    .push((call.priority, request.messages.clone()));
                if let Some(hold) = &this.hold {
                    hold.notified().await;
                }
                tokio::task::yield_now().await;
                this.running.fetch_sub(1, Ordering::SeqCst);
                let usage = Usage {
                    input: Tokens(10),
                    output: Tokens(5),
                    ..Usage::default()
                };
                stream::iter(match (this.answer)(&request) {
                    Ok(text) => {
                        vec![
                            Ok(ChatEvent::Text(text)),
                            Ok(ChatEvent::Usage(usage)),
                            Ok(ChatEvent::Finished(FinishReason::Stop)),
                        ]
                    }
                    Err(error) => vec![Err(error)],
                })
            })
            .flatten(),
        )
    }
}

fn memory() -> Memory {
    let store = Arc::new(InMemory::default());
    Memory::new(store.clone(), store.clone(), store, MemoryConfig::default())
}

fn student(mind: Mind, memory: &Memory) -> Feynman {
    Feynman::new(mind, Vec::new(), memory.clone(), FeynmanConfig::default()).unwrap()
}

fn explanation(session: &str, text: &str) -> Explanation {
    Explanation {
        topic: "Gravity".into(),
        text: text.into(),
        session: SessionId::new(session).unwrap(),
        short_term_memory: Vec::new(),
        tone: None,
    }
}

async fn teach(
    student: &Feynman,
    explanation: Explanation,
) -> Result<(Vec<TeachEvent>, Lesson), TeachError> {
    let mut events = student.teach(CallContext::new(Scope::local()), explanation);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            TeachEvent::Finished(lesson) => return Ok((seen, *lesson)),
            event => seen.push(event),
        }
    }
    panic!("the stream ended without a lesson");
}

fn is_gap_prompt(request: &ChatRequest) -> bool {
    request.messages[0].content.text().contains("Kinds of gap")
}

fn good(request: &ChatRequest) -> Result<String, ChatError> {
    Ok(match is_gap_prompt(request) {
        true => r#"{"gaps":[{"kind":"missing_mechanism","quote":"mass attracts mass","reason":"how?","severity":"high"}]}"#.into(),
        false => "1. How is it that \"mass attracts mass\"?\n2. Where is there mass that attracts nothing?".into(),
    })
}

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
