//! Sending to addresses that strangers give.

mod support;

use std::sync::Arc;

use lyceum_core::ToolError;
use lyceum_tools::{WebPost, WebRules};
use serde::Deserialize;
use support::web::{PUBLIC, Reply, Script, Site};

fn hosts() -> Arc<Script> {
    Script::new(&[
        ("hook.example", &[&[PUBLIC]]),
        ("localhost", &[&["127.0.0.1", "::1"]]),
        ("inside.example", &[&["127.0.0.1"]]),
        ("inside6.example", &[&["::1"]]),
        ("both.example", &[&[PUBLIC, "10.0.0.1"]]),
        ("metadata.example", &[&["169.254.169.254"]]),
    ])
}

#[tokio::test]
async fn json_is_sent_as_it_is_and_no_redirect_is_followed() {
    let taken = Reply::status(202);
    let pages = vec![
        ("/hook", taken),
        ("/moved", Reply::redirect("/hook")),
        ("/busy", Reply::status(503)),
        ("/gone", Reply::status(410)),
    ];
    let site = Site::serve(PUBLIC, pages).await;
    let post = WebPost::new(site.rules(), hosts()).unwrap();
    let send = async |path: &str| {
        let address = format!("http://hook.example:{}{path}", site.port);
        post.post(&address, br#"{"a":1}"#.to_vec()).await
    };
    assert!(send("/hook?token=x").await.is_ok());
    let asked = site.asked().pop().unwrap();
    assert!(asked.starts_with("POST /hook?token=x "), "{asked}");
    assert!(asked.contains("content-type: application/json"), "{asked}");
    assert!(asked.ends_with(r#"{"a":1}"#), "{asked}");
    assert!(matches!(
        send("/busy").await,
        Err(ToolError::Transient { .. })
    ));
    assert!(matches!(
        send("/gone").await,
        Err(ToolError::Arguments { .. })
    ));
    assert!(matches!(
        send("/moved").await,
        Err(ToolError::Arguments { .. })
    ));
    assert_eq!(site.asked().len(), 4, "a redirect was followed");
}

#[tokio::test]
async fn a_host_that_is_not_found_may_be_found_later() {
    let post = WebPost::new(WebRules::default(), hosts()).unwrap();
    let sent = post.post("https://unknown.example/", b"{}".to_vec()).await;
    let Err(ToolError::Transient { detail }) = sent else {
        panic!("{sent:?}");
    };
    assert_eq!(detail, "the webhook cannot be sent: there is no such host");
}

#[tokio::test]
async fn what_failed_is_said_of_the_webhook_and_not_of_a_page() {
    let pages = vec![("/busy", Reply::status(503)), ("/gone", Reply::status(410))];
    let site = Site::serve(PUBLIC, pages).await;
    let port = site.port;
    let rules = WebRules {
        ports: vec![port, 1],
        ..site.rules()
    };
    let post = WebPost::new(rules, hosts()).unwrap();
    for address in [
        format!("http://hook.example:{port}/busy"),
        format!("http://hook.example:{port}/gone"),
        "http://hook.example:1/".to_owned(),
        "http://hook.example:2/".to_owned(),
        "http://unknown.example:1/".to_owned(),
        "ftp://hook.example/".to_owned(),
    ] {
        let error = post.post(&address, b"{}".to_vec()).await.unwrap_err();
        let error = error.to_string();
        assert!(
            !error.contains("page") && !error.contains("read"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn only_https_is_sent_where_the_rules_say_so() {
    let rules = WebRules {
        https_only: true,
        ..WebRules::default()
    };
    let post = WebPost::new(rules, hosts()).unwrap();
    assert!(post.check("https://example.org/hook").is_ok());
    for address in ["http://example.org/hook", "http://example.org:443/hook"] {
        let checked = post.check(address);
        assert!(
            matches!(checked, Err(ToolError::Denied { .. })),
            "{address}"
        );
        let sent = post.post(address, b"{}".to_vec()).await;
        assert!(matches!(sent, Err(ToolError::Denied { .. })), "{address}");
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    url: String,
}

#[tokio::test]
async fn nothing_is_sent_inside() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/ssrf.json")).unwrap();
    let inside = Site::serve("127.0.0.1", vec![("/", Reply::html("the inside"))]).await;
    let rules = WebRules {
        ports: vec![80, 443, inside.port],
        ..WebRules::default()
    };
    let post = WebPost::new(rules, hosts()).unwrap();
    let direct = cases
        .iter()
        .filter(|case| !case.url.starts_with("redirect:"));
    for Case { name, url } in direct {
        let url = url.replace("INSIDE", &inside.port.to_string());
        let result = post.post(&url, b"{}".to_vec()).await;
        let is_refused = match &result {
            Err(ToolError::Denied { .. } | ToolError::Arguments { .. }) => true,
            Err(ToolError::Transient { detail }) => detail.ends_with("there is no such host"),
            _ => false,
        };
        assert!(is_refused, "{name}: {result:?}");
    }
    assert!(inside.asked().is_empty());
}

#[test]
fn what_can_be_seen_to_be_inside_is_refused_before_anything_is_sent() {
    let post = WebPost::new(WebRules::default(), hosts()).unwrap();
    for address in [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "https://example.org:8443/",
        "ftp://example.org/",
        "https://name:word@example.org/",
        "/hook",
        "hook",
    ] {
        assert!(post.check(address).is_err(), "{address}");
    }
    assert!(post.check("https://example.org/hook").is_ok());
}
