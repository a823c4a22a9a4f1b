//! A well-behaved server, as a process: everything a client does with one.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{call, call_of, honest, settled, tool, until, with};
use lyceum_core::{CallContext, Scope, ToolError};
use lyceum_mcp::{ServerError, Servers};
use serde_json::{Map, json};

#[tokio::test]
async fn tools_are_offered_under_the_server_s_name_and_answer() {
    let servers = settled(vec![honest("srv")]).await;
    let echo = tool(&servers, "srv__echo");
    assert!(
        echo.spec()
            .description
            .contains("in its own words: Does echo.")
    );
    assert_eq!(
        echo.spec().parameters["properties"]["text"]["type"],
        "string"
    );
    let said = call(&servers, "srv__echo", json!({"text": "héllo"}))
        .await
        .unwrap();
    assert_eq!(said.content, "héllo");
    let sum = call(&servers, "srv__add", json!({"a": 1, "b": 2.5}))
        .await
        .unwrap();
    assert_eq!(sum.content, "{\"sum\":3.5}");
    let link = call(&servers, "srv__link", json!({})).await.unwrap();
    assert_eq!(link.sources, ["notes://one"]);
    servers.close().await;
}

#[tokio::test]
async fn failures_say_what_kind_they_are() {
    let servers = settled(vec![honest("srv")]).await;
    let failed = call(&servers, "srv__fail", json!({})).await;
    assert!(matches!(failed, Err(ToolError::Failed { detail }) if detail == "the disk is full"));
    let refused = call(&servers, "srv__refuse", json!({})).await;
    assert!(
        matches!(refused, Err(ToolError::Arguments { detail }) if detail.contains("give me more"))
    );
    let list = call(&servers, "srv__echo", json!([1])).await;
    assert!(matches!(list, Err(ToolError::Arguments { .. })));
}

#[tokio::test]
async fn only_allowed_tools_are_there() {
    let mut config = honest("srv");
    config.allow = Some(["echo".to_owned(), "add".to_owned()].into());
    let servers = settled(vec![config]).await;
    let names: Vec<String> = servers
        .tools()
        .iter()
        .map(|tool| tool.spec().name.clone())
        .collect();
    assert_eq!(names, ["srv__echo", "srv__add"]);
}

#[tokio::test]
async fn resources_and_prompts_can_be_read() {
    let servers = settled(vec![honest("srv")]).await;
    let server = servers.server("srv").unwrap();
    let resources = server.resources().await.unwrap();
    assert_eq!(
        (resources.len(), resources[0].uri.as_str()),
        (1, "notes://one")
    );
    let read = server.read_resource("notes://one").await.unwrap();
    assert_eq!(read.content, "the first note");
    let none = server.read_resource("notes://two").await;
    assert!(matches!(none, Err(ServerError::Refused { .. })), "{none:?}");
    let prompts = server.prompts().await.unwrap();
    assert_eq!(prompts[0].name, "explain");
    assert!(prompts[0].arguments[0].required);
    let mut given = Map::new();
    given.insert("topic".to_owned(), "tides".into());
    let messages = server.prompt("explain", given).await.unwrap();
    assert_eq!(messages[0].content.text(), "Explain tides.");
}

#[tokio::test]
async fn a_list_that_changes_is_read_again() {
    let servers = settled(vec![honest("srv")]).await;
    let before = tool(&servers, "srv__echo");
    call(&servers, "srv__grow", json!({})).await.unwrap();
    until("the new tool", || common::has(&servers, "srv__grown")).await;
    let said = call(&servers, "srv__grown", json!({})).await.unwrap();
    assert_eq!(said.content, "still here");
    // What did not change is the same object, with its limits and its cache.
    assert!(std::sync::Arc::ptr_eq(
        &before,
        &tool(&servers, "srv__echo")
    ));
}

#[tokio::test]
async fn a_server_that_dies_comes_back_and_calls_meanwhile_fail_at_once() {
    let mut config = honest("srv");
    config.limits.retry_first = Duration::from_millis(400);
    let servers = settled(vec![config]).await;
    let died = call(&servers, "srv__die", json!({})).await;
    assert!(
        matches!(died, Err(ToolError::Unavailable { .. })),
        "{died:?}"
    );
    until("it to be down", || !servers.servers()[0].status().up).await;
    let start = Instant::now();
    let meanwhile = call(&servers, "srv__echo", json!({"text": "x"})).await;
    if let Err(ToolError::Unavailable { retry_after }) = meanwhile {
        assert!(retry_after <= Duration::from_secs(1));
        assert!(start.elapsed() < Duration::from_millis(300));
    }
    until("it to be back", || servers.servers()[0].status().up).await;
    let said = call(&servers, "srv__echo", json!({"text": "back"}))
        .await
        .unwrap();
    assert_eq!(said.content, "back");
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    let mut config = with("srv", &["honest", notes.to_str().unwrap()]);
    config.limits.call = Duration::from_secs(60);
    let servers = settled(vec![config]).await;
    let hang = tool(&servers, "srv__hang");
    let task = tokio::spawn(async move { call_of(&hang, json!({})).await });
    let noted = |words: &'static str| {
        let notes = notes.clone();
        move || std::fs::read_to_string(&notes).is_ok_and(|said| said == words)
    };
    until("the call", noted("called")).await;
    task.abort();
    until("the cancellation", noted("cancelled")).await;
}

#[tokio::test]
async fn a_call_ends_within_its_time_and_its_deadline() {
    let mut config = honest("srv");
    config.limits.call = Duration::from_millis(300);
    let servers = settled(vec![config]).await;
    let late = call(&servers, "srv__hang", json!({})).await;
    assert!(matches!(late, Err(ToolError::Timeout { .. })), "{late:?}");
    let hang = tool(&servers, "srv__hang");
    let mut context = CallContext::new(Scope::local());
    context.deadline = Some(Instant::now() + Duration::from_millis(50));
    let late = hang.call(&context, json!({})).await;
    let Err(ToolError::Timeout { after }) = late else {
        panic!("{late:?}")
    };
    assert!(after <= Duration::from_millis(50));
    // The server is none the worse.
    let said = call(&servers, "srv__echo", json!({"text": "on"}))
        .await
        .unwrap();
    assert_eq!(said.content, "on");
}

#[tokio::test]
async fn a_process_inherits_no_variable() {
    let servers = settled(vec![honest("srv")]).await;
    let env = call(&servers, "srv__env", json!({})).await.unwrap();
    assert_eq!(env.content, "GIVEN");
}

#[tokio::test]
async fn one_name_is_one_server() {
    let twice = Servers::start(vec![honest("a"), honest("a")], |tool| tool);
    assert!(twice.is_err());
}

#[tokio::test]
async fn results_are_bounded() {
    let mut config = honest("srv");
    config.limits.max_result_chars = 100;
    let servers = settled(vec![config]).await;
    let big = call(&servers, "srv__big", json!({"chars": 100_000}))
        .await
        .unwrap();
    assert_eq!(big.content.chars().count(), 101);
}
