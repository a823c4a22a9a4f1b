//! Results given again: to whom, for how long, how equal calls become one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use lyceum_core::{Audience, CallContext, Effect, Tool, ToolError};
use lyceum_tools::{CachePolicy, KeyStrategy, Limited, ToolPolicy, WarmPolicy, keep_warm};
use serde_json::{Value, json};
use support::{Puppet, broken, call, call_of};

const SECOND: Duration = Duration::from_secs(1);

fn caching(puppet: Arc<Puppet>, cache: CachePolicy) -> Limited {
    let policy = ToolPolicy {
        cache: Some(cache),
        ..ToolPolicy::default()
    };
    Limited::new(puppet, policy)
}

async fn said(tool: &Limited, call: &CallContext, arguments: Value) -> String {
    tool.call(call, arguments).await.unwrap().content
}

#[tokio::test(start_paused = true)]
async fn a_result_is_given_again_until_it_is_ten_minutes_old() {
    let puppet = Puppet::public();
    let tool = caching(puppet.clone(), CachePolicy::default());
    assert_eq!(
        said(&tool, &call(), json!({"a": 1, "b": 2})).await,
        r#"{"a":1,"b":2} 1"#
    );
    tokio::time::advance(599 * SECOND).await;
    said(&tool, &call(), json!({"b": 2, "a": 1})).await;
    assert_eq!(puppet.calls(), 1);
    tokio::time::advance(SECOND).await;
    said(&tool, &call(), json!({"a": 1, "b": 2})).await;
    assert_eq!(puppet.calls(), 2);
}

#[tokio::test]
async fn nobody_is_given_what_is_not_theirs() {
    // The calls that reach the tool, of two tenants, each of them asking twice.
    for (own, policy, expected) in [
        (Audience::Public, Audience::Public, 1),
        (Audience::Public, Audience::Tenant, 2),
        (Audience::Tenant, Audience::Public, 2),
        (Audience::User, Audience::Public, 2),
    ] {
        let puppet = Puppet::new(Effect::Reads, own);
        let audience = policy;
        let cache = CachePolicy {
            audience,
            ..CachePolicy::default()
        };
        let tool = caching(puppet.clone(), cache);
        for tenant in ["one", "two", "one", "two"] {
            said(&tool, &call_of(tenant), json!({})).await;
        }
        assert_eq!(puppet.calls(), expected, "{own:?} {policy:?}");
    }
}

#[tokio::test]
async fn a_tool_that_changes_something_is_never_answered_from_the_cache() {
    for effect in [Effect::Once, Effect::Idempotent] {
        let puppet = Puppet::new(effect, Audience::Public);
        let tool = caching(puppet.clone(), CachePolicy::default());
        for _ in 0..3 {
            said(&tool, &call(), json!({})).await;
        }
        assert_eq!(puppet.calls(), 3, "{effect:?}");
    }
}

#[tokio::test]
async fn the_strategy_says_which_calls_are_the_same() {
    for (key, expected) in [
        (KeyStrategy::All, 3),
        (KeyStrategy::Chosen(vec!["q".to_owned()]), 2),
        (KeyStrategy::None, 1),
    ] {
        let puppet = Puppet::public();
        let cache = CachePolicy {
            key,
            ..CachePolicy::default()
        };
        let tool = caching(puppet.clone(), cache);
        for arguments in [
            json!({"q": "x", "page": 1}),
            json!({"q": "x", "page": 2}),
            json!({"q": "y", "page": 1}),
        ] {
            said(&tool, &call(), arguments).await;
        }
        assert_eq!(puppet.calls(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn equal_calls_at_one_time_are_one_call_and_share_its_failure() {
    let puppet = Puppet::taking(Effect::Reads, Audience::Public, SECOND);
    let tool = caching(puppet.clone(), CachePolicy::default());
    let call = call();
    let results = join_all((0..100).map(|_| tool.call(&call, json!("same")))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(puppet.calls(), 1);
    puppet.act(broken());
    let results = join_all((0..100).map(|_| tool.call(&call, json!("other")))).await;
    assert!(results.iter().all(Result::is_err));
    assert_eq!(puppet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_calls_goes_away_another_calls() {
    let puppet = Puppet::taking(Effect::Reads, Audience::Public, 2 * SECOND);
    let tool = caching(puppet.clone(), CachePolicy::default());
    let (first, second) = (call(), call());
    let leaving = tokio::time::timeout(SECOND, tool.call(&first, json!({})));
    let (left, stayed) = tokio::join!(leaving, tool.call(&second, json!({})));
    assert!(left.is_err());
    assert!(stayed.is_ok());
    assert_eq!(puppet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn whose_time_is_shorter_does_not_end_the_others_call() {
    let puppet = Puppet::taking(Effect::Reads, Audience::Public, 3 * SECOND);
    let tool = caching(puppet.clone(), CachePolicy::default());
    let mut hurried = call();
    hurried.deadline = Some((tokio::time::Instant::now() + SECOND).into_std());
    let patient = call();
    let (short, long) = tokio::join!(
        tool.call(&hurried, json!({})),
        tool.call(&patient, json!({}))
    );
    assert!(matches!(short, Err(ToolError::Timeout { after }) if after == SECOND));
    assert!(long.is_ok());
}

#[tokio::test(start_paused = true)]
async fn hot_results_are_renewed_before_they_are_too_old() {
    let puppet = Puppet::public();
    let cache = CachePolicy {
        warm: Some(WarmPolicy::default()),
        ..CachePolicy::default()
    };
    let tool = Arc::new(caching(puppet.clone(), cache));
    let kept = tool.clone();
    let warming = tokio::spawn(async move { keep_warm(&[kept]).await });
    for _ in 0..5 {
        said(&tool, &call(), json!("hot")).await;
    }
    said(&tool, &call(), json!("asked once")).await;
    // At 300 s is the last round before both are too old.
    tokio::time::sleep(299 * SECOND).await;
    assert_eq!(puppet.calls(), 2);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(puppet.calls(), 3, "the hot one, which was asked often");
    tokio::time::sleep(298 * SECOND).await;
    assert_eq!(said(&tool, &call(), json!("hot")).await, "\"hot\" 3");
    assert_eq!(puppet.calls(), 3, "from the cache");
    warming.abort();
}

#[tokio::test(start_paused = true)]
async fn nobodys_own_results_are_kept_warm() {
    let puppet = Puppet::new(Effect::Reads, Audience::Tenant);
    let cache = CachePolicy {
        warm: Some(WarmPolicy::default()),
        ..CachePolicy::default()
    };
    let tool = caching(puppet.clone(), cache);
    for _ in 0..5 {
        said(&tool, &call(), json!("hot")).await;
    }
    tokio::time::advance(500 * SECOND).await;
    assert_eq!(tool.warm().await, 0);
    tool.keep_warm().await;
    assert_eq!(puppet.calls(), 1);
}
