//! A tool under its policy: limits, breaker, repeats, what stands in when it fails.

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use lyceum_core::{Audience, Effect, Tool, ToolError};
use lyceum_queue::RetryPolicy;
use lyceum_tools::{CachePolicy, Limited, ToolPolicy};
use serde_json::json;
use support::{Act, Puppet, broken, call};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn of_ten_thousand_calls_at_once_never_more_than_300_start_in_any_minute() {
    let puppet = Puppet::public();
    let policy = ToolPolicy {
        max_per_minute: Some(300),
        timeout: 3_600 * SECOND,
        ..ToolPolicy::default()
    };
    let tool = Limited::new(puppet.clone(), policy);
    let call = call();
    let results = join_all((0..10_000).map(|n| tool.call(&call, json!(n)))).await;
    for (n, result) in results.into_iter().enumerate() {
        let content = result.unwrap().content;
        assert!(content.starts_with(&format!("{n} ")), "{n}: {content}");
    }
    let started = puppet.started.lock().unwrap();
    assert_eq!(started.len(), 10_000);
    for pair in started.windows(301) {
        let apart = pair[300] - pair[0];
        assert!(apart >= 60 * SECOND, "301 calls started within {apart:?}");
    }
    // Nor is the limit left unused: 34 minutes are the least.
    let all = *started.last().unwrap() - started[0];
    assert!(all < 35 * 60 * SECOND, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_waits_in_order_and_no_longer_than_the_time_out() {
    let puppet = Puppet::public();
    let policy = ToolPolicy {
        max_per_minute: Some(10),
        timeout: 5 * SECOND,
        ..ToolPolicy::default()
    };
    let tool = Limited::new(puppet.clone(), policy);
    let call = call();
    let results = join_all((0..40).map(|n| tool.call(&call, json!(n)))).await;
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(_) => assert!(n < 10, "{n} came after ten others"),
            Err(error) => assert_eq!(*error, ToolError::Timeout { after: 5 * SECOND }),
        }
    }
    assert_eq!(puppet.calls(), 10);
    // Waiting in vain says nothing about the tool: its breaker is closed.
    tokio::time::advance(60 * SECOND).await;
    assert!(tool.call(&call, json!({})).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_tool_harms_another() {
    let acts = [Act::Answer, broken(), Act::Hang, Act::Panic, Act::Answer];
    let tools: Vec<Limited> = acts
        .into_iter()
        .map(|act| {
            let puppet = Puppet::public();
            puppet.act(act);
            Limited::new(puppet, ToolPolicy::default())
        })
        .collect();
    let call = call();
    for _ in 0..10 {
        let results = join_all(tools.iter().map(|tool| tool.call(&call, json!({})))).await;
        let ok: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [true, false, false, false, true]);
    }
}

#[tokio::test(start_paused = true)]
async fn five_failures_open_the_breaker_and_a_minute_later_one_call_tries() {
    let puppet = Puppet::public();
    let tool = Limited::new(puppet.clone(), ToolPolicy::default());
    puppet.act(broken());
    for _ in 0..5 {
        let result = tool.call(&call(), json!({})).await;
        assert!(matches!(result, Err(ToolError::Failed { .. })));
    }
    let result = tool.call(&call(), json!({})).await;
    let Err(ToolError::Unavailable { retry_after }) = result else {
        panic!("{result:?}");
    };
    assert_eq!((retry_after, puppet.calls()), (60 * SECOND, 5));
    tokio::time::advance(60 * SECOND).await;
    puppet.act(Act::Answer);
    assert!(tool.call(&call(), json!({})).await.is_ok());
    assert!(tool.call(&call(), json!({})).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn wrong_arguments_never_open_the_breaker_and_hanging_does() {
    let puppet = Puppet::public();
    let tool = Limited::new(puppet.clone(), ToolPolicy::default());
    puppet.act(Act::Fail(ToolError::Arguments {
        detail: "wrong".to_owned(),
    }));
    for _ in 0..20 {
        let result = tool.call(&call(), json!({})).await;
        assert!(matches!(result, Err(ToolError::Arguments { .. })));
    }
    puppet.act(Act::Hang);
    for _ in 0..5 {
        let result = tool.call(&call(), json!({})).await;
        let Err(ToolError::Timeout { after }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(after, 10 * SECOND);
    }
    let result = tool.call(&call(), json!({})).await;
    assert!(matches!(result, Err(ToolError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn callers_who_go_away_never_open_the_breaker() {
    let puppet = Puppet::public();
    let tool = Limited::new(puppet.clone(), ToolPolicy::default());
    puppet.act(Act::Hang);
    for _ in 0..20 {
        let given_up = tokio::time::timeout(SECOND, tool.call(&call(), json!({}))).await;
        assert!(given_up.is_err());
    }
    puppet.act(Act::Answer);
    assert!(tool.call(&call(), json!({})).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failing_tool_gives_what_it_said_before_and_says_that_it_is_old() {
    let puppet = Puppet::public();
    let policy = ToolPolicy {
        cache: Some(CachePolicy::default()),
        default_result: Some("not now".to_owned()),
        ..ToolPolicy::default()
    };
    let tool = Limited::new(puppet.clone(), policy);
    let known = tool.call(&call(), json!("known")).await.unwrap();
    assert!(!known.degraded);
    tokio::time::advance(700 * SECOND).await;
    puppet.act(broken());
    for _ in 0..10 {
        // While it fails and while its breaker is open.
        let old = tool.call(&call(), json!("known")).await.unwrap();
        assert_eq!((old.content.as_str(), old.degraded), ("\"known\" 1", true));
        let default = tool.call(&call(), json!("new")).await.unwrap();
        assert_eq!(
            (default.content.as_str(), default.degraded),
            ("not now", true)
        );
    }
    assert_eq!(puppet.calls(), 6, "one good call and five failures");
    puppet.act(Act::Answer);
    tokio::time::advance(60 * SECOND).await;
    let new = tool.call(&call(), json!("known")).await.unwrap();
    assert_eq!((new.content.as_str(), new.degraded), ("\"known\" 7", false));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_repeated_is() {
    let passing = Act::Fail(ToolError::Transient {
        detail: "a broken connection".to_owned(),
    });
    let cases = [
        (Effect::Reads, 3),
        (Effect::Idempotent, 3),
        (Effect::Once, 1),
    ];
    for (effect, expected) in cases {
        let puppet = Puppet::new(effect, Audience::User);
        puppet.act(passing.clone());
        let policy = ToolPolicy {
            retry: Some(RetryPolicy {
                attempts: 3,
                min: SECOND,
                max: SECOND,
            }),
            ..ToolPolicy::default()
        };
        let tool = Limited::new(puppet.clone(), policy);
        // Every call saves up a fifth of a repeat; one is there from the beginning.
        puppet.act(Act::Answer);
        for _ in 0..10 {
            tool.call(&call(), json!({})).await.unwrap();
        }
        puppet.act(passing.clone());
        assert!(tool.call(&call(), json!({})).await.is_err());
        assert_eq!(puppet.calls() - 10, expected, "{effect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_for_rate_is_left_alone_as_long_as_it_says() {
    let puppet = Puppet::new(Effect::Once, Audience::User);
    let policy = ToolPolicy {
        timeout: 60 * SECOND,
        ..ToolPolicy::default()
    };
    let tool = Arc::new(Limited::new(puppet.clone(), policy));
    let retry_after = 20 * SECOND;
    puppet.act(Act::Fail(ToolError::Unavailable { retry_after }));
    assert!(tool.call(&call(), json!({})).await.is_err());
    puppet.act(Act::Answer);
    assert!(tool.call(&call(), json!({})).await.is_ok());
    let started = puppet.started.lock().unwrap();
    assert!(started[1] - started[0] >= retry_after);
}

#[tokio::test]
async fn what_a_result_hides_is_removed() {
    let puppet = Puppet::public();
    let tool = Limited::new(puppet, ToolPolicy::default());
    let result = tool.call(&call(), json!("a\u{202e}b\u{e0041}c")).await;
    assert_eq!(result.unwrap().content, "\"abc\" 1");
}
