//! Pages are read from the public web and from nowhere else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{io::Write, sync::Arc, time::Duration};

use flate2::{Compression, write::GzEncoder};
use lyceum_core::{Tool, ToolError, ToolOutput};
use lyceum_tools::{FetchPage, SystemResolver, WebRules};
use serde_json::json;
use support::{
    call,
    web::{PUBLIC, Reply, Script, Site},
};

const ARTICLE: &str = "<html><head><title>Plants</title></head><body><nav>Menu</nav><article>\
    <p>Plants need light, water, soil, and time, to grow well in spring.</p>\
    <p>Plants need light, water, soil, and time, to grow well in summer.</p></article></body></html>";

async fn read(tool: &FetchPage, url: &str) -> Result<ToolOutput, ToolError> {
    tool.call(&call(), json!({"url": url})).await
}

fn reader(site: &Site) -> FetchPage {
    let hosts = Script::new(&[("page.example", &[&[PUBLIC]])]);
    FetchPage::new(site.rules(), hosts).unwrap()
}

#[tokio::test]
async fn a_page_is_read_as_text_with_its_source() {
    let moved = Reply::redirect("/article");
    let pages = vec![("/moved", moved), ("/article", Reply::html(ARTICLE))];
    let site = Site::serve(PUBLIC, pages).await;
    let url = format!("http://page.example:{}/moved", site.port);
    let output = read(&reader(&site), &url).await.unwrap();
    assert!(output.content.contains("light, water, soil"), "{output:?}");
    assert!(!output.content.contains("Menu"), "{output:?}");
    let source = format!("http://page.example:{}/article", site.port);
    assert_eq!(output.sources, [source]);
    let asked = site.asked();
    assert_eq!(asked.len(), 2);
    for private in ["cookie:", "authorization:", "referer:"] {
        assert!(
            !asked[1].to_ascii_lowercase().contains(private),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_long_page_is_read_in_parts() {
    let text = (0..2_000).map(|n| format!("{n} ")).collect::<String>();
    let site = Site::serve(PUBLIC, vec![("/", Reply::of("text/plain", text.clone()))]).await;
    let tool = reader(&site);
    let url = format!("http://page.example:{}/", site.port);
    let (mut start, mut whole) = (0, String::new());
    loop {
        let arguments = json!({"url": url, "start": start});
        let part = tool.call(&call(), arguments).await.unwrap().content;
        match part.split_once("…\n\n(") {
            Some((part, more)) => {
                whole.push_str(part);
                start += 3_500;
                assert!(more.contains(&format!("\"start\": {start}")), "{more}");
            }
            None => {
                whole.push_str(&part);
                break;
            }
        }
    }
    assert_eq!(whole, text);
}

#[tokio::test]
async fn only_text_of_bounded_size_is_read() {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&vec![b'a'; 64 << 20]).unwrap();
    let bomb = Reply::of("text/plain", packer.finish().unwrap()).with("content-encoding", "gzip");
    let pages = vec![
        ("/image", Reply::of("image/png", "PNG")),
        ("/program", Reply::of("application/octet-stream", "MZ")),
        ("/brotli", Reply::html("x").with("content-encoding", "br")),
        ("/bomb", bomb),
        ("/long", Reply::of("text/plain", "b".repeat(3 << 20))),
        ("/gone", Reply::status(410)),
        ("/down", Reply::status(503)),
        ("/loop", Reply::redirect("/loop")),
        ("/nowhere", Reply::status(302)),
    ];
    let site = Site::serve(PUBLIC, pages).await;
    let tool = reader(&site);
    let at = |path: &str| format!("http://page.example:{}{path}", site.port);
    for path in [
        "/image", "/program", "/brotli", "/gone", "/loop", "/nowhere",
    ] {
        let result = read(&tool, &at(path)).await;
        assert!(
            matches!(result, Err(ToolError::Arguments { .. })),
            "{path}: {result:?}"
        );
    }
    assert_eq!(
        site.asked()
            .iter()
            .filter(|a| a.starts_with("GET /loop"))
            .count(),
        6
    );
    let down = read(&tool, &at("/down")).await;
    assert!(matches!(down, Err(ToolError::Transient { .. })), "{down:?}");
    for path in ["/bomb", "/long"] {
        let arguments = json!({"url": at(path), "start": (2 << 20) - 10});
        let content = tool.call(&call(), arguments).await.unwrap().content;
        assert!(
            content.contains("too large to be read on"),
            "{path}: {content}"
        );
    }
}

#[tokio::test]
async fn a_page_that_never_ends_is_given_up() {
    let listener = tokio::net::TcpListener::bind((PUBLIC, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = WebRules {
        ports: vec![port],
        networks: vec!["127.0.0.2/32".parse().unwrap()],
        timeout: Duration::from_millis(200),
        ..WebRules::default()
    };
    let tool = FetchPage::new(rules, Arc::new(SystemResolver)).unwrap();
    let result = read(&tool, &format!("http://{PUBLIC}:{port}/")).await;
    assert!(
        matches!(result, Err(ToolError::Transient { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_resolver_that_changes_its_mind_gains_nothing() {
    let inside = Site::serve("127.0.0.1", vec![("/", Reply::html("secret"))]).await;
    let rules = WebRules {
        ports: vec![inside.port],
        networks: vec!["127.0.0.2/32".parse().unwrap()],
        ..WebRules::default()
    };
    // First a good address, where nobody listens, then the inside.
    let flipping = Script::new(&[("flip.example", &[&[PUBLIC], &["127.0.0.1"]])]);
    let tool = FetchPage::new(rules.clone(), flipping).unwrap();
    let url = format!("http://flip.example:{}/", inside.port);
    for _ in 0..3 {
        assert!(read(&tool, &url).await.is_err());
    }
    // Both at once.
    let both = Script::new(&[("both.example", &[&[PUBLIC, "127.0.0.1"]])]);
    let tool = FetchPage::new(rules, both).unwrap();
    let url = format!("http://both.example:{}/", inside.port);
    let result = read(&tool, &url).await;
    assert!(
        matches!(result, Err(ToolError::Denied { .. })),
        "{result:?}"
    );
    assert_eq!(inside.asked().len(), 0, "nothing of the inside was reached");
}

#[tokio::test]
async fn only_named_hosts_are_read_where_some_are_named() {
    let site = Site::serve(PUBLIC, vec![("/", Reply::html(ARTICLE))]).await;
    let hosts = Script::new(&[
        ("page.example", &[&[PUBLIC]]),
        ("www.school.example", &[&[PUBLIC]]),
    ]);
    let rules = WebRules {
        hosts: vec!["school.example".to_owned()],
        ..site.rules()
    };
    let tool = FetchPage::new(rules, hosts).unwrap();
    let at = |host: &str| format!("http://{host}:{}/", site.port);
    assert!(read(&tool, &at("www.school.example")).await.is_ok());
    let other = read(&tool, &at("page.example")).await;
    assert!(matches!(other, Err(ToolError::Denied { .. })), "{other:?}");
    assert_eq!(site.asked().len(), 1);
}
