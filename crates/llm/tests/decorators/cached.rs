//! Answers that are given again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all};
use lyceum_core::{
    CacheUse, CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, EmbedError,
    EmbedKind, Embedder, Embeddings, FinishReason, Message, Origin, Scope, TenantId, Usage,
};
use lyceum_llm::{
    AnswerCacheConfig, AnswerStore, Breaking, CachePolicy, Cached, InMemoryAnswers, SemanticConfig,
    Trouble,
};
use lyceum_queue::{BreakerConfig, BreakerState};

use crate::{
    actor::{Actor, Do, SECOND, answer, call, events, started, starts, text, used},
    down,
};

const MINUTE: Duration = Duration::from_secs(60);

fn cached(model: impl ChatModel + 'static) -> Cached {
    let store = Arc::new(InMemoryAnswers::new(1 << 20));
    Cached::new(model, store, AnswerCacheConfig::default())
}

fn question(words: &str) -> Arc<ChatRequest> {
    Arc::new(ChatRequest {
        cache: CacheUse::Allow,
        ..ChatRequest::new([Message::system("Be short."), Message::user(words)])
    })
}

async fn put(model: &Cached, words: &str) -> Result<ChatAnswer, ChatError> {
    ChatAnswer::collect(model.stream(call(), question(words))).await
}

fn slow(words: &str) -> Vec<Do> {
    let mut script = vec![started(), Do::Take(SECOND)];
    script.extend(answer(words).into_iter().skip(1));
    script
}

#[tokio::test(start_paused = true)]
async fn the_second_answer_is_replayed_marked_and_costs_nothing() {
    let long = "The sky is blue because blue light is scattered more than red light.";
    let actor = Actor::new("a", [answer(long)]);
    let model = cached(actor.clone());
    let first = put(&model, "Why is the sky blue?").await.unwrap();
    assert_eq!(first.origin, None);
    tokio::time::advance(MINUTE).await;
    let stream = model.stream(call(), question(" Why is the sky blue? "));
    let (seen, error) = events(stream).await;
    assert!(error.is_none());
    assert_eq!(starts(&seen), 1);
    let texts = |event: &&ChatEvent| matches!(event, ChatEvent::Text(_));
    assert!(seen.iter().filter(texts).count() > 1, "it is streamed");
    let again = ChatAnswer::collect(futures_util::stream::iter(seen.into_iter().map(Ok)));
    let again = again.await.unwrap();
    assert_eq!((again.text, again.model), (first.text, first.model));
    assert_eq!(again.usage, Some(Usage::default()));
    let expected = Origin::Cached {
        age: MINUTE,
        saved: used(),
    };
    assert_eq!(again.origin, Some(expected));
    assert_eq!(actor.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_requests_that_ask_or_are_repeatable_are_kept() {
    let actor = Actor::new("a", (0..20).map(|_| answer("hi")));
    let asked = cached(actor.clone());
    let store = Arc::new(InMemoryAnswers::new(1 << 20));
    let config = AnswerCacheConfig {
        policy: CachePolicy::Deterministic,
        ..AnswerCacheConfig::default()
    };
    let repeatable = Cached::new(actor.clone(), store, config);
    let request = |cache, temperature| ChatRequest {
        cache,
        temperature,
        ..(*question("why?")).clone()
    };
    for (model, request, calls) in [
        (&asked, request(CacheUse::Policy, Some(0.0)), 2),
        (&asked, request(CacheUse::Allow, None), 1),
        (&asked, request(CacheUse::Never, Some(0.0)), 2),
        (&repeatable, request(CacheUse::Policy, None), 2),
        (&repeatable, request(CacheUse::Policy, Some(0.0)), 1),
        (&repeatable, request(CacheUse::Never, Some(0.0)), 2),
    ] {
        let before = actor.calls();
        for _ in 0..2 {
            let stream = model.stream(call(), Arc::new(request.clone()));
            ChatAnswer::collect(stream).await.unwrap();
        }
        assert_eq!(actor.calls() - before, calls, "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tenants_do_not_see_each_others_answers_and_users_of_one_do() {
    let actor = Actor::new("a", [answer("one"), answer("two")]);
    let model = cached(actor.clone());
    let of = |tenant: &str| {
        let mut scope = Scope::local();
        scope.tenant = TenantId::new(tenant).unwrap();
        CallContext::new(scope)
    };
    for (tenant, expected) in [("a", "one"), ("b", "two"), ("a", "one")] {
        let stream = model.stream(of(tenant), question("why?"));
        assert_eq!(ChatAnswer::collect(stream).await.unwrap().text, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_live_longer_while_the_provider_is_in_trouble() {
    let scripts = [answer("old"), vec![Do::Fail(down())], answer("new")];
    let actor = Actor::new("a", scripts);
    let config = BreakerConfig {
        failures: 1,
        open_for: 10 * MINUTE,
        ..BreakerConfig::default()
    };
    let breaking = Breaking::new(actor.clone(), "a", config);
    let circuit = breaking.circuit();
    let trouble = Trouble::new(vec![circuit.clone()], vec![]);
    let model = cached(breaking).with_trouble(trouble);
    put(&model, "why?").await.unwrap();
    tokio::time::advance(6 * MINUTE).await;
    // Too old for good times; the failure opens the breaker.
    assert!(put(&model, "why?").await.is_err());
    assert_eq!(circuit.state(), BreakerState::Open);
    tokio::time::advance(SECOND).await;
    let again = put(&model, "why?").await.unwrap();
    assert_eq!(again.text, "old");
    assert!(again.origin.is_some());
    tokio::time::advance(24 * MINUTE).await;
    assert_eq!(put(&model, "why?").await.unwrap().text, "new");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_whole_is_not_kept() {
    let cut = vec![
        started(),
        text("half"),
        Do::Say(ChatEvent::Finished(FinishReason::Length)),
    ];
    let fixed = vec![
        started(),
        Do::Say(ChatEvent::Origin(Origin::Degraded)),
        text("sorry"),
        Do::Say(ChatEvent::Finished(FinishReason::Stop)),
    ];
    let broken = vec![started(), text("half"), Do::Fail(ChatError::Truncated)];
    let actor = Actor::new("a", [cut, fixed, broken, answer("whole")]);
    let model = cached(actor.clone());
    for _ in 0..3 {
        let _ = put(&model, "why?").await;
    }
    assert_eq!(put(&model, "why?").await.unwrap().text, "whole");
    assert_eq!(actor.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn equal_calls_at_one_time_are_one_call() {
    let actor = Actor::new("a", [slow("hi"), slow("other")]);
    let model = cached(actor.clone());
    let calls = (0..50).map(|_| put(&model, "why?"));
    for answer in join_all(calls).await {
        let answer = answer.unwrap();
        assert_eq!(answer.text, "hi");
        assert_eq!(answer.provider.as_deref(), Some("actor"));
    }
    assert_eq!(actor.calls(), 1);
    put(&model, "what?").await.unwrap();
    assert_eq!(actor.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_may_leave_and_with_the_last_one_the_call_ends() {
    let actor = Actor::new(
        "a",
        [
            slow("hi"),
            vec![started(), text("x"), Do::Hang],
            answer("new"),
        ],
    );
    let model = cached(actor.clone());
    let mut leader = model.stream(call(), question("why?"));
    assert!(matches!(
        leader.next().await,
        Some(Ok(ChatEvent::Started { .. }))
    ));
    let mut follower = model.stream(call(), question("why?"));
    assert!(matches!(
        follower.next().await,
        Some(Ok(ChatEvent::Started { .. }))
    ));
    drop(leader);
    assert_eq!(ChatAnswer::collect(follower).await.unwrap().text, "hi");
    assert_eq!(actor.calls(), 1);

    let mut alone = model.stream(call(), question("what?"));
    alone.next().await;
    drop(alone);
    assert_eq!(put(&model, "what?").await.unwrap().text, "new");
    assert_eq!(
        actor.calls(),
        3,
        "the call that nobody waited for was ended"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_reach_all_callers_but_personal_ones_only_their_own() {
    let fail = |error| vec![Do::Take(SECOND), Do::Fail(error)];
    let shed = ChatError::Shed {
        retry_after: SECOND,
    };
    let actor = Actor::new(
        "a",
        [fail(down()), fail(shed), answer("mine"), answer("mine")],
    );
    let model = cached(actor.clone());
    let calls = (0..3).map(|_| put(&model, "why?"));
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap_err().label(), "unavailable");
    }
    assert_eq!(actor.calls(), 1);
    let calls = (0..3).map(|_| put(&model, "why?"));
    let outcomes = join_all(calls).await;
    let shed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!((shed, actor.calls()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_the_same_behind_the_cache() {
    let long = || ChatError::ContextTooLong {
        status: 400,
        message: "too long".into(),
    };
    let protocol = || ChatError::Protocol {
        detail: "no JSON".into(),
    };
    for error in [long, protocol] as [fn() -> ChatError; 2] {
        let model = cached(Actor::new("a", [vec![Do::Fail(error())]]));
        let seen = put(&model, "why?").await.unwrap_err();
        assert_eq!(
            (seen.label(), seen.to_string()),
            (error().label(), error().to_string())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_the_least_used_goes_first() {
    let actor = Actor::new("a", (0..100).map(|_| answer(&"x".repeat(1_000))));
    let store = Arc::new(InMemoryAnswers::new(16 << 10));
    let model = Cached::new(
        actor.clone(),
        Arc::clone(&store) as Arc<dyn AnswerStore>,
        AnswerCacheConfig::default(),
    );
    for number in 0..40 {
        put(&model, "often").await.unwrap();
        put(&model, &number.to_string()).await.unwrap();
    }
    let (answers, bytes) = store.size();
    assert!(answers > 5 && bytes <= 16 << 10, "{answers}, {bytes}");
    assert_eq!(actor.calls(), 41, "what is used often stays");
}

/// Knows three meanings by their first letter.
#[derive(Debug)]
struct Letters;

#[async_trait]
impl Embedder for Letters {
    fn model(&self) -> &str {
        "letters"
    }

    fn dimensions(&self) -> usize {
        2
    }

    async fn embed(
        &self,
        _call: &CallContext,
        _kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let vector = |text: &Arc<str>| match text.chars().next() {
            Some('a') => Ok(Arc::from([2.0, 0.0])),
            Some('b') => Ok(Arc::from([1.9, 0.3])),
            Some('z') => Err(EmbedError::Closed),
            _ => Ok(Arc::from([0.0, 1.0])),
        };
        Ok(Embeddings {
            vectors: texts.iter().map(vector).collect::<Result<_, _>>()?,
            usage: Usage::default(),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_means_the_same_finds_the_answer_in_its_context_only() {
    let actor = Actor::new("a", (1..10).map(|number| answer(&number.to_string())));
    let config = SemanticConfig {
        threshold: 0.98,
        ..SemanticConfig::default()
    };
    let model = cached(actor.clone()).with_semantic(Arc::new(Letters), config);
    for (words, expected) in [("a", "1"), ("b", "1"), ("c", "2"), ("z", "3"), ("a", "1")] {
        assert_eq!(put(&model, words).await.unwrap().text, expected, "{words}");
    }
    let elsewhere = ChatRequest {
        cache: CacheUse::Allow,
        ..ChatRequest::new([Message::system("Be long."), Message::user("b")])
    };
    let stream = model.stream(call(), Arc::new(elsewhere));
    assert_eq!(ChatAnswer::collect(stream).await.unwrap().text, "4");
    let mut scope = Scope::local();
    scope.tenant = TenantId::new("other").unwrap();
    let stream = model.stream(CallContext::new(scope), question("b"));
    assert_eq!(ChatAnswer::collect(stream).await.unwrap().text, "5");
}
