//! The readable text of a page.
//!
//! Pages are hostile. Parsing HTML can take time in the square of a tag's attributes and
//! nodes in the square of its open tags, so the parser is fed a few bytes at a time and
//! stopped at the bounds; finding the article takes time in the product of size and depth,
//! so deep pages are refused. The article is found by `dom_smoothie`, after Mozilla's
//! Readability.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use dom_query::{Document, NodeData, NodeId};
use dom_smoothie::{Config, Readability, TextMode};
use html5ever::{
    ParseOpts, parse_document,
    tendril::{StrTendril, TendrilSink},
};
use lyceum_core::ToolError;

/// The most nodes of a page; long articles of encyclopedias have half as many.
pub(super) const MAX_NODES: usize = 60_000;
/// The most tags inside each other.
const MAX_DEPTH: usize = 400;
/// How long parsing may take: a hundred times what a large page does.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Bytes parsed between two looks at the bounds. So few make at most a score of tags, each
/// of which can make [`MAX_NODES`] nodes.
const STEP_BYTES: usize = 64;

/// The id of a tree's last node that may be. Ids count up from the root's, but cannot be
/// made from numbers, so one is taken from a tree that has so many.
static LAST_NODE: LazyLock<NodeId> = LazyLock::new(|| {
    let full = Document::default();
    let comment = || NodeData::Comment {
        contents: StrTendril::new(),
    };
    for _ in 2..MAX_NODES {
        full.tree.create_node(comment());
    }
    full.tree.create_node(comment())
});

/// Title and article, else all text.
pub(super) fn text(html: &str) -> Result<String, ToolError> {
    let document = parse(html)?;
    let all = document.text().to_string();
    let config = Config {
        disable_json_ld: true,
        text_mode: TextMode::Formatted,
        ..Config::default()
    };
    let article = Readability::with_document(document, None, Some(config))
        .and_then(|mut readability| readability.parse());
    Ok(match article {
        Ok(article) if !article.text_content.trim().is_empty() => {
            let title = article.title.trim();
            match title.is_empty() {
                true => article.text_content.to_string(),
                false => format!("{title}\n\n{}", article.text_content),
            }
        }
        // A page without an article, such as a list of links.
        _ => lines(&all),
    })
}

fn parse(html: &str) -> Result<Document, ToolError> {
    let begun = Instant::now();
    let mut parser = parse_document(Document::default(), ParseOpts::default());
    let mut rest = html;
    while !rest.is_empty() {
        let (step, later) = rest.split_at(rest.ceil_char_boundary(STEP_BYTES));
        rest = later;
        parser.process(StrTendril::from_slice(step));
        let tree = &parser.tokenizer.sink.sink.tree;
        if tree.get(&LAST_NODE).is_some() || begun.elapsed() > MAX_TIME {
            return Err(too_complex());
        }
    }
    let document = parser.finish();
    let mut open = vec![(document.root().id, 0)];
    while let Some((node, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(too_complex());
        }
        let children = document.tree.child_ids_of_it(&node, false);
        open.extend(children.map(|child| (child, depth + 1)));
    }
    Ok(document)
}

fn too_complex() -> ToolError {
    ToolError::Arguments {
        detail: "the page cannot be read: it is too complex".to_owned(),
    }
}

/// A text's lines without those that are empty.
fn lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENTENCE: &str = "<p>Plants need light, water and soil, and time, to grow in spring.</p>";

    #[test]
    fn an_article_is_found_without_what_surrounds_it() {
        let article = SENTENCE.repeat(8);
        let page = format!(
            "<html><head><title>Plants</title><script>alert('no')</script></head><body>\
             <nav><a href=/>Home</a> <a href=/shop>Shop</a></nav>\
             <article>{article}<p hidden>unseen</p></article><footer>Imprint</footer></body></html>"
        );
        let text = text(&page).unwrap();
        assert!(text.starts_with("Plants\n\nPlants need light"), "{text}");
        for gone in ["Shop", "alert", "Imprint", "unseen"] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
    }

    #[test]
    fn a_page_without_an_article_gives_its_text() {
        assert_eq!(text("<p>Hello &amp; bye").unwrap(), "Hello & bye");
        assert_eq!(text("").unwrap(), "");
    }

    #[test]
    fn pages_made_to_hurt_are_refused_in_time() {
        let open: String = (0..50_000).map(|n| format!("<b id={n}>")).collect();
        let attributes: String = (0..100_000).map(|n| format!("a{n}=1 ")).collect();
        for page in [
            "<b>x</b>".repeat(100_000),
            "<div>".repeat(10_000),
            "<table><tr><td>".repeat(5_000),
            open + &"<p>".repeat(50_000),
            format!("<p {attributes}>x</p>"),
        ] {
            let start: String = page.chars().take(20).collect();
            assert!(text(&page).is_err(), "{start}");
        }
    }
}
