//! The decorators over a model that does as it is told, in paused time.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod recorder;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream,
    FinishReason, Message, Scope, SessionId, Tokens, Usage,
};
use lyceum_llm::{Fallback, Metered, Queued, Retrying};
use lyceum_queue::{Queue, QueueConfig, Quotas, RetryPolicy};
use recorder::Recorder;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Do {
    Say(ChatEvent),
    Fail(ChatError),
    Hang,
}

/// Plays one script for each call; the calls that were made, with their requests.
#[derive(Debug, Clone)]
struct Actor {
    name: &'static str,
    scripts: Arc<Mutex<VecDeque<Vec<Do>>>>,
    calls: Arc<Mutex<Vec<Arc<ChatRequest>>>>,
}

impl Actor {
    fn new(name: &'static str, scripts: impl IntoIterator<Item = Vec<Do>>) -> Self {
        Self {
            name,
            scripts: Arc::new(Mutex::new(scripts.into_iter().collect())),
            calls: Arc::default(),
        }
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

impl ChatModel for Actor {
    fn name(&self) -> &str {
        self.name
    }

    fn stream(&self, _call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            this.calls.lock().unwrap().push(request);
            let script = this.scripts.lock().unwrap().pop_front().expect("a script");
            for action in script {
                match action {
                    Do::Say(event) => yield event,
                    Do::Fail(error) => Err(error)?,
                    Do::Hang => std::future::pending().await,
                }
            }
        })
    }
}

fn started() -> Do {
    Do::Say(ChatEvent::Started {
        provider: "actor".into(),
        model: "m".into(),
    })
}

fn text(text: &str) -> Do {
    Do::Say(ChatEvent::Text(text.into()))
}

fn used() -> Usage {
    Usage {
        input: Tokens(10),
        output: Tokens(5),
        ..Usage::default()
    }
}

fn answer(words: &str) -> Vec<Do> {
    vec![
        started(),
        text(words),
        Do::Say(ChatEvent::Usage(used())),
        Do::Say(ChatEvent::Finished(FinishReason::Stop)),
    ]
}

fn limited(retry_after: Option<Duration>) -> Vec<Do> {
    vec![Do::Fail(ChatError::RateLimited {
        retry_after,
        message: "slow down".into(),
    })]
}

fn down() -> ChatError {
    ChatError::Unavailable {
        status: 500,
        retry_after: None,
        message: "oops".into(),
    }
}

fn call() -> CallContext {
    CallContext::new(Scope::local())
}

fn hello() -> Arc<ChatRequest> {
    Arc::new(ChatRequest::new([Message::user("hello")]))
}

fn ask(model: &dyn ChatModel) -> ChatStream {
    model.stream(call(), hello())
}

async fn collect(model: &dyn ChatModel) -> Result<ChatAnswer, ChatError> {
    ChatAnswer::collect(ask(model)).await
}

async fn events(mut stream: ChatStream) -> (Vec<ChatEvent>, Option<ChatError>) {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

fn starts(events: &[ChatEvent]) -> usize {
    let started = |event: &&ChatEvent| matches!(event, ChatEvent::Started { .. });
    events.iter().filter(started).count()
}

fn retrying(model: &Actor) -> Retrying {
    Retrying::new(model.clone(), RetryPolicy::default())
}

fn queue(quotas: Quotas) -> Queue {
    Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    })
}

fn one_at_a_time() -> Queue {
    queue(Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    })
}

// === Retrying ===

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_leaves_no_trace() {
    let half = vec![started(), Do::Fail(down())];
    let actor = Actor::new("a", [half, answer("hi")]);
    let began = Instant::now();
    let (seen, error) = events(ask(&retrying(&actor))).await;
    assert!(error.is_none());
    assert_eq!(starts(&seen), 1);
    assert_eq!(actor.calls(), 2);
    assert!((2 * SECOND..=4 * SECOND).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_once_content_was_shown() {
    let broken = vec![started(), text("half"), Do::Fail(ChatError::Truncated)];
    let actor = Actor::new("a", [broken]);
    let (seen, error) = events(ask(&retrying(&actor))).await;
    assert_eq!(error.unwrap().label(), "truncated");
    assert!(seen.contains(&ChatEvent::Text("half".into())));
    assert_eq!(actor.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_and_final_errors_are_not_repeated() {
    let fail = || vec![Do::Fail(down())];
    let actor = Actor::new("a", [fail(), fail(), fail()]);
    let model = retrying(&actor);
    // The budget of a first call allows one retry; more are saved up by calls that succeed.
    assert_eq!(collect(&model).await.unwrap_err().label(), "unavailable");
    assert_eq!(actor.calls(), 2);

    let refused = ChatError::Rejected {
        status: 400,
        message: String::new(),
    };
    let actor = Actor::new("a", [vec![Do::Fail(refused)]]);
    assert!(collect(&retrying(&actor)).await.is_err());
    assert_eq!(actor.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_a_fifth_of_all_calls() {
    let actor = Actor::new("a", (0..2_000).map(|_| vec![Do::Fail(down())]));
    let policy = RetryPolicy {
        min: Duration::ZERO,
        max: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let model = Retrying::new(actor.clone(), policy);
    for _ in 0..1_000 {
        assert!(collect(&model).await.is_err());
    }
    assert!(
        (1_195..=1_205).contains(&actor.calls()),
        "{}",
        actor.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn the_providers_wait_is_honoured_within_reason() {
    let actor = Actor::new("a", [limited(Some(107 * SECOND)), answer("hi")]);
    let began = Instant::now();
    collect(&retrying(&actor)).await.unwrap();
    assert!(began.elapsed() >= 107 * SECOND);

    let actor = Actor::new("a", [limited(Some(3_600 * SECOND))]);
    let began = Instant::now();
    let error = collect(&retrying(&actor)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(3_600 * SECOND));
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "the caller is told at once"
    );
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline() {
    let actor = Actor::new("a", [vec![Do::Fail(down())]]);
    let mut call = call();
    call.deadline = Some((Instant::now() + SECOND).into_std());
    let stream = retrying(&actor).stream(call, hello());
    assert!(ChatAnswer::collect(stream).await.is_err());
    assert_eq!(actor.calls(), 1);
}

// === Fallback ===

#[tokio::test(start_paused = true)]
async fn the_next_model_answers_under_its_own_name() {
    let first = Actor::new("a", [vec![started(), Do::Fail(down())]]);
    let second = Actor::new("b", [limited(None)]);
    let third = Actor::new("c", [answer("hi")]);
    let others: [Arc<dyn ChatModel>; 2] = [Arc::new(second), Arc::new(third.clone())];
    let model = Fallback::new(Arc::new(first.clone()), others);
    let request = ChatRequest {
        model: Some("a-large".into()),
        ..(*hello()).clone()
    };
    let answer = ChatAnswer::collect(model.stream(call(), Arc::new(request))).await;
    assert_eq!(answer.unwrap().text, "hi");
    assert_eq!(
        first.calls.lock().unwrap()[0].model.as_deref(),
        Some("a-large")
    );
    assert_eq!(third.calls.lock().unwrap()[0].model, None);
    assert_eq!(model.name(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_not_continued_by_another_model() {
    let first = Actor::new("a", [vec![text("half"), Do::Fail(down())]]);
    let second = Actor::new("b", [answer("hi")]);
    let model = Fallback::new(
        Arc::new(first),
        [Arc::new(second.clone()) as Arc<dyn ChatModel>],
    );
    let (seen, error) = events(ask(&model)).await;
    assert_eq!(seen, [ChatEvent::Text("half".into())]);
    assert_eq!(error.unwrap().label(), "unavailable");
    assert_eq!(second.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_models_error_is_the_chains() {
    let first = Actor::new("a", [vec![Do::Fail(down())]]);
    let second = Actor::new("b", [limited(None)]);
    let model = Fallback::new(Arc::new(first), [Arc::new(second) as Arc<dyn ChatModel>]);
    assert_eq!(collect(&model).await.unwrap_err().label(), "rate_limited");
}

// === Queued ===

#[tokio::test(start_paused = true)]
async fn a_waiting_call_says_where_it_stands() {
    let actor = Actor::new("a", [vec![text("slow"), Do::Hang], answer("hi")]);
    let queue = one_at_a_time();
    let model = Queued::new(actor.clone(), queue.clone());
    let mut first = ask(&model);
    assert_eq!(
        first.next().await.unwrap().unwrap(),
        ChatEvent::Text("slow".into())
    );

    let mut second = ask(&model);
    let Some(Ok(ChatEvent::Queued(place))) = second.next().await else {
        panic!("it waits");
    };
    assert_eq!((place.position, actor.calls()), (1, 1));
    drop(first);
    let answer = ChatAnswer::collect(second).await.unwrap();
    assert_eq!((answer.text.as_str(), queue.snapshot().running), ("hi", 0));
}

#[tokio::test(start_paused = true)]
async fn usage_settles_the_reservation_and_a_drop_does_not() {
    let quotas = Quotas {
        tokens: Some(100_000),
        ..Quotas::default()
    };
    let used_after = async |script: Vec<Do>| {
        let queue = queue(quotas);
        let model = Queued::new(Actor::new("a", [script]), queue.clone());
        let mut stream = ask(&model);
        while let Some(Ok(event)) = stream.next().await {
            if matches!(event, ChatEvent::Finished(_) | ChatEvent::Text(_)) {
                break;
            }
        }
        drop(stream);
        queue.snapshot().tokens.unwrap().used
    };
    let usage = || Do::Say(ChatEvent::Usage(used()));
    let finished = || Do::Say(ChatEvent::Finished(FinishReason::Stop));
    assert_eq!(used_after(vec![usage(), finished()]).await, 15);
    let reserved = used_after(vec![finished()]).await;
    assert!(reserved > 1_000, "nobody knows what was used: {reserved}");
    let seen = used_after(vec![usage(), text("x"), Do::Hang]).await;
    assert_eq!(seen, reserved + 2, "10 input tokens were seen, 8 reserved");
    let unreachable = ChatError::Connect {
        provider: "a".into(),
        source: "refused".into(),
    };
    assert_eq!(used_after(vec![Do::Fail(unreachable)]).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_rate_waits_instead_of_failing() {
    let busy = vec![Do::Fail(ChatError::Unavailable {
        status: 529,
        retry_after: None,
        message: String::new(),
    })];
    let busy = [vec![started(), Do::Say(ChatEvent::Usage(used()))], busy];
    let busy = busy.into_iter().flatten().collect();
    let actor = Actor::new("a", [limited(Some(7 * SECOND)), busy, answer("hi")]);
    let model = Queued::new(actor.clone(), one_at_a_time());
    let began = Instant::now();
    let (seen, error) = events(ask(&model)).await;
    assert!(error.is_none(), "{error:?}");
    assert!(
        began.elapsed() >= 9 * SECOND,
        "7 s as told and 2 s by default"
    );
    assert!(matches!(seen[0], ChatEvent::Queued(_)), "the wait is shown");
    assert_eq!(starts(&seen), 1, "of the refused call nothing is shown");
    assert_eq!(actor.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_always_refuses_fails_in_the_end() {
    let actor = Actor::new("a", (0..10).map(|_| limited(None)));
    let model = Queued::new(actor.clone(), one_at_a_time());
    assert_eq!(collect(&model).await.unwrap_err().label(), "rate_limited");
    assert_eq!(actor.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_refuses_is_told_apart() {
    let quotas = Quotas {
        tokens: Some(100),
        ..Quotas::default()
    };
    let model = Queued::new(Actor::new("a", []), queue(quotas));
    let error = collect(&model).await.unwrap_err();
    assert_eq!(error.label(), "rejected", "no wait makes it fit");

    let full = Queue::new(QueueConfig {
        capacity: 0,
        quotas: Quotas {
            concurrency: Some(1),
            ..Quotas::default()
        },
        ..QueueConfig::default()
    });
    let model = Queued::new(Actor::new("a", [vec![text("x"), Do::Hang]]), full);
    let mut first = ask(&model);
    first.next().await;
    let error = collect(&model).await.unwrap_err();
    assert_eq!(error.label(), "shed");
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_conversation_ends_its_waiting_calls() {
    let queue = one_at_a_time();
    let actor = Actor::new("a", [vec![text("x"), Do::Hang]]);
    let model = Queued::new(actor.clone(), queue.clone());
    let mut first = ask(&model);
    first.next().await;
    let session = SessionId::new("s").unwrap();
    let scope = Scope::local().with_session(session.clone());
    let mut second = model.stream(CallContext::new(scope.clone()), hello());
    second.next().await;
    assert_eq!(queue.cancel_conversation(&scope.tenant, &session), 1);
    assert_eq!(
        ChatAnswer::collect(second).await.unwrap_err().label(),
        "shed"
    );
    assert_eq!(actor.calls(), 1);
}

// === Metered, and all together ===

#[test]
fn every_end_of_a_call_is_counted_once() {
    let recorder = Recorder::default();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let scripts = [
                answer("hi"),
                vec![Do::Fail(down())],
                vec![text("x"), Do::Hang],
            ];
            let model = Metered::new(Actor::new("actor", scripts));
            collect(&model).await.unwrap();
            collect(&model).await.unwrap_err();
            let mut dropped = ask(&model);
            dropped.next().await;
            drop(dropped);
            drop(ask(&model));
        });
    });
    let expected = [
        ("llm_request_duration_seconds{provider=actor}", 3.0),
        ("llm_requests_total{provider=actor,status=cancelled}", 1.0),
        ("llm_requests_total{provider=actor,status=ok}", 1.0),
        ("llm_requests_total{provider=actor,status=unavailable}", 1.0),
        ("llm_time_to_first_token_seconds{provider=actor}", 2.0),
        ("llm_tokens_total{provider=actor,kind=input}", 10.0),
        ("llm_tokens_total{provider=actor,kind=output}", 5.0),
    ];
    let seen = recorder.seen();
    assert_eq!(
        seen,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
}

#[tokio::test(start_paused = true)]
async fn the_whole_stack_waits_retries_and_falls_back() {
    let first = Actor::new(
        "a",
        [
            limited(Some(SECOND)),
            vec![started(), Do::Fail(down())],
            vec![Do::Fail(down())],
        ],
    );
    let second = Actor::new("b", [answer("hi")]);
    let main = retrying_over(Queued::new(first.clone(), one_at_a_time()));
    let other = retrying_over(Queued::new(second, one_at_a_time()));
    let model = Metered::new(Fallback::new(main, [other]));
    let (seen, error) = events(ask(&model)).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(first.calls(), 3);
    let kinds: Vec<&str> = seen
        .iter()
        .map(|event| match event {
            ChatEvent::Queued(_) => "queued",
            ChatEvent::Started { .. } => "started",
            ChatEvent::Text(_) => "text",
            ChatEvent::Usage(_) => "usage",
            ChatEvent::Finished(_) => "finished",
            other => panic!("{other:?}"),
        })
        .filter(|kind| *kind != "queued")
        .collect();
    assert_eq!(kinds, ["started", "text", "usage", "finished"]);
}

fn retrying_over(model: Queued) -> Arc<dyn ChatModel> {
    Arc::new(Retrying::new(model, RetryPolicy::default()))
}
