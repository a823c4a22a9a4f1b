//! Addresses that lead inside: `data/ssrf.json`, one case each, all refused.
//!
//! `redirect:` stands for a page that redirects there, `INSIDE` for the port of a server at
//! 127.0.0.1, which must never be asked anything.

mod support;

use lyceum_core::{Tool, ToolError};
use lyceum_tools::{FetchPage, WebRules};
use serde::Deserialize;
use serde_json::json;
use support::{
    call,
    web::{PUBLIC, Reply, Script, Site},
};

#[derive(Deserialize)]
struct Case {
    name: String,
    url: String,
}

#[tokio::test]
async fn no_address_leads_inside() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/ssrf.json")).unwrap();
    assert!(cases.len() >= 40);
    let inside = Site::serve("127.0.0.1", vec![("/", Reply::html("the inside"))]).await;
    for Case { name, url } in cases {
        let url = url.replace("INSIDE", &inside.port.to_string());
        let target = url.strip_prefix("redirect:");
        let page = Reply::redirect(target.unwrap_or("/"));
        let site = Site::serve(PUBLIC, vec![("/page", page)]).await;
        let hosts = Script::new(&[
            ("page.example", &[&[PUBLIC]]),
            ("localhost", &[&["127.0.0.1", "::1"]]),
            ("inside.example", &[&["127.0.0.1"]]),
            ("inside6.example", &[&["::1"]]),
            ("both.example", &[&[PUBLIC, "10.0.0.1"]]),
            ("metadata.example", &[&["169.254.169.254"]]),
        ]);
        let rules = WebRules {
            ports: vec![80, 443, site.port, inside.port],
            ..site.rules()
        };
        let tool = FetchPage::new(rules, hosts).unwrap();
        let from = match target {
            Some(_) => format!("http://page.example:{}/page", site.port),
            None => url.clone(),
        };
        let result = tool.call(&call(), json!({"url": from})).await;
        // Refused by rule, not because the connection failed.
        assert!(
            matches!(
                result,
                Err(ToolError::Denied { .. } | ToolError::Arguments { .. })
            ),
            "{name}: {result:?}"
        );
        let reached = site.asked().len();
        assert_eq!(reached, usize::from(target.is_some()), "{name}");
    }
    assert_eq!(inside.asked().len(), 0);
}
