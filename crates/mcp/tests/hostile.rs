//! Servers that misbehave, beside one that does not and is none the worse.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{call, call_of, has, honest, settled, tool, until, with};
use lyceum_core::ToolError;
use lyceum_mcp::{ServerConfig, Servers};
use serde_json::json;

/// A misbehaving server beside an honest one; both are started.
async fn beside(config: ServerConfig) -> Servers {
    let servers = Servers::start(vec![config, honest("good")], |tool| tool).unwrap();
    until("the honest server", || has(&servers, "good__echo")).await;
    servers
}

fn hostile(mode: &str) -> ServerConfig {
    let mut config = with("bad", &[mode]);
    config.limits.call = Duration::from_secs(3);
    config.limits.start = Duration::from_secs(10);
    config
}

async fn the_honest_one_answers(servers: &Servers) {
    let start = Instant::now();
    let said = call(servers, "good__echo", json!({"text": "well"}))
        .await
        .unwrap();
    assert_eq!(said.content, "well");
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn starting_waits_for_no_slow_server() {
    let start = Instant::now();
    let servers = beside(hostile("mute")).await;
    servers.settled(Duration::from_millis(200)).await;
    the_honest_one_answers(&servers).await;
    assert!(start.elapsed() < Duration::from_secs(8));
    assert!(!servers.server("bad").unwrap().status().up);
}

#[tokio::test]
async fn a_server_that_ends_at_once_or_does_not_exist_is_tried_again_and_again() {
    let mut missing = hostile("x");
    missing.reach = lyceum_mcp::Reach::Process(
        lyceum_mcp::ProcessConfig::new("/nonexistent/server", vec![], vec![]).unwrap(),
    );
    for config in [hostile("exit"), missing] {
        let servers = beside(config).await;
        servers.settled(Duration::from_secs(10)).await;
        let status = servers.server("bad").unwrap().status();
        assert!(!status.up && status.why.is_some(), "{status:?}");
        the_honest_one_answers(&servers).await;
    }
}

#[tokio::test]
async fn lines_that_are_no_messages_cost_one_call() {
    let servers = beside(hostile("garbage")).await;
    until("it", || has(&servers, "bad__act")).await;
    let failed = call(&servers, "bad__act", json!({})).await;
    assert!(failed.is_err(), "{failed:?}");
    the_honest_one_answers(&servers).await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_dropped() {
    let servers = beside(hostile("huge")).await;
    until("it", || has(&servers, "bad__act")).await;
    let failed = call(&servers, "bad__act", json!({})).await;
    assert!(
        matches!(failed, Err(ToolError::Timeout { .. })),
        "{failed:?}"
    );
    the_honest_one_answers(&servers).await;
}

#[tokio::test]
async fn endless_noise_keeps_nobody_busy() {
    let servers = beside(hostile("noise")).await;
    the_honest_one_answers(&servers).await;
    assert!(!servers.server("bad").unwrap().status().up);
    servers.close().await;
}

#[tokio::test]
async fn a_flood_of_notifications_ends_the_connection() {
    let servers = beside(hostile("flood")).await;
    until("it", || has(&servers, "bad__act")).await;
    let act = tool(&servers, "bad__act");
    let ended = call_of(&act, json!({})).await;
    assert!(
        matches!(ended, Err(ToolError::Unavailable { .. })),
        "{ended:?}"
    );
    the_honest_one_answers(&servers).await;
}

#[tokio::test]
async fn tools_without_end_are_a_bounded_list() {
    let servers = beside(hostile("many")).await;
    until("it", || has(&servers, "bad__t0_0")).await;
    assert_eq!(servers.server("bad").unwrap().tools().len(), 128);
    the_honest_one_answers(&servers).await;
}

#[tokio::test]
async fn a_bad_schema_costs_its_tool_only() {
    let servers = settled(vec![hostile("schemas")]).await;
    let names: Vec<String> = servers
        .tools()
        .iter()
        .map(|tool| tool.spec().name.clone())
        .collect();
    assert_eq!(names, ["bad__good"]);
    assert_eq!(
        call(&servers, "bad__good", json!({}))
            .await
            .unwrap()
            .content,
        "fine"
    );
}

#[tokio::test]
async fn what_it_shouts_on_standard_error_is_read_and_harmless() {
    let servers = beside(hostile("shout")).await;
    until("it", || has(&servers, "bad__act")).await;
    assert_eq!(
        call(&servers, "bad__act", json!({})).await.unwrap().content,
        "fine"
    );
    the_honest_one_answers(&servers).await;
}

#[tokio::test]
async fn closing_ends_the_process_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grandchild");
    let servers = settled(vec![with("bad", &["parent", file.to_str().unwrap()])]).await;
    assert!(has(&servers, "bad__act"));
    let grandchild: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let lives = || {
        std::path::Path::new(&format!("/proc/{grandchild}/cmdline")).exists()
            && std::fs::read(format!("/proc/{grandchild}/cmdline"))
                .is_ok_and(|words| !words.is_empty())
    };
    assert!(lives());
    servers.close().await;
    until("the grandchild's end", || !lives()).await;
}
