//! What a tool of a server answered, as core's [`ToolOutput`].
//!
//! Pure. Invariant: the text is bounded and plain; pictures and sounds are named, not passed
//! on. Structured content is written out where the text does not say the same.

use lyceum_core::{Message, Role as Speaker, ToolError, ToolOutput};
use rmcp::model::{
    CallToolResult, ContentBlock, GetPromptResult, ReadResourceResult, ResourceContents, Role,
};
use serde_json::Value;

use crate::plain::{line, plain};

/// The most sources of one result, and the most characters of one.
const MAX_SOURCES: usize = 20;
const MAX_SOURCE: usize = 500;
/// The most characters of what a server says about an error.
const MAX_ERROR: usize = 1_000;
/// The most messages of a prompt.
const MAX_MESSAGES: usize = 100;

/// The result, or the failure that it tells of.
pub(crate) fn output(result: CallToolResult, most: usize) -> Result<ToolOutput, ToolError> {
    let mut page = Page::new(most);
    for block in result.content {
        page.block(block);
    }
    if let Some(structured) = result.structured_content
        && !page.says(&structured)
    {
        page.write(&structured.to_string());
    }
    let output = page.done();
    match result.is_error {
        Some(true) => Err(ToolError::Failed {
            detail: match plain(&output.content, MAX_ERROR) {
                words if words.is_empty() => "the server says no more than that".to_owned(),
                words => words,
            },
        }),
        _ => Ok(output),
    }
}

/// A resource's text; its addresses are the sources.
pub(crate) fn resource(result: ReadResourceResult, most: usize) -> ToolOutput {
    let mut page = Page::new(most);
    for contents in result.contents {
        page.contents(contents);
    }
    page.done()
}

/// A prompt's messages.
pub(crate) fn prompt(result: GetPromptResult, most: usize) -> Vec<Message> {
    let mut left = most;
    let mut messages = Vec::new();
    for message in result.messages.into_iter().take(MAX_MESSAGES) {
        let mut page = Page::new(left);
        page.block(message.content);
        let text = page.done().content;
        left = left.saturating_sub(text.chars().count());
        let speaker = match message.role {
            Role::User => Speaker::User,
            Role::Assistant => Speaker::Assistant,
        };
        messages.push(match speaker {
            Speaker::Assistant => Message::assistant(text),
            _ => Message::user(text),
        });
    }
    messages
}

/// Text and sources as they come together.
struct Page {
    text: String,
    sources: Vec<String>,
    most: usize,
}

impl Page {
    fn new(most: usize) -> Self {
        Self {
            text: String::new(),
            sources: Vec::new(),
            most,
        }
    }

    fn block(&mut self, block: ContentBlock) {
        match block {
            ContentBlock::Text(text) => self.write(&text.text),
            ContentBlock::Image(image) => self.omit("picture", &image.mime_type, image.data.len()),
            ContentBlock::Audio(audio) => self.omit("sound", &audio.mime_type, audio.data.len()),
            ContentBlock::Resource(embedded) => self.contents(embedded.resource),
            ContentBlock::ResourceLink(link) => {
                let about = link.description.unwrap_or_default();
                self.write(&format!("{}: {about} <{}>", link.name, link.uri));
                self.source(&link.uri);
            }
            _ => self.write("[content of a kind that is not known]"),
        }
    }

    fn contents(&mut self, contents: ResourceContents) {
        match contents {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                self.write(&text);
                self.source(&uri);
            }
            ResourceContents::BlobResourceContents {
                uri,
                mime_type,
                blob,
                ..
            } => {
                self.omit("file", mime_type.as_deref().unwrap_or("bytes"), blob.len());
                self.source(&uri);
            }
            _ => self.write("[content of a kind that is not known]"),
        }
    }

    fn omit(&mut self, what: &str, kind: &str, encoded: usize) {
        let bytes = encoded / 4 * 3;
        self.write(&format!(
            "[a {what}, {}, about {bytes} bytes]",
            line(kind, 60)
        ));
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() || self.text.len() > self.most.saturating_mul(4) {
            return;
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&plain(text, self.most));
    }

    fn source(&mut self, uri: &str) {
        let uri = line(uri, MAX_SOURCE);
        if self.sources.len() < MAX_SOURCES && !self.sources.contains(&uri) {
            self.sources.push(uri);
        }
    }

    /// Whether the text is this value, written as JSON.
    fn says(&self, value: &Value) -> bool {
        serde_json::from_str::<Value>(&self.text).is_ok_and(|said| said == *value)
    }

    fn done(self) -> ToolOutput {
        ToolOutput {
            content: plain(&self.text, self.most),
            sources: self.sources,
            degraded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(result: Value) -> Result<ToolOutput, ToolError> {
        output(serde_json::from_value(result).unwrap(), 1_000)
    }

    #[test]
    fn text_pictures_and_links_are_told() {
        let output = read(json!({"content": [
            {"type": "text", "text": "one\u{7}"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"type": "resource_link", "uri": "file:///a", "name": "a", "description": "the a"},
            {"type": "resource", "resource": {"uri": "x://b", "text": "in b"}},
            {"type": "resource", "resource": {"uri": "x://c", "blob": "AAAAAAAA"}}
        ]}))
        .unwrap();
        assert_eq!(
            output.content,
            "one\n[a picture, image/png, about 3 bytes]\na: the a <file:///a>\nin b\n\
             [a file, bytes, about 6 bytes]"
        );
        assert_eq!(output.sources, ["file:///a", "x://b", "x://c"]);
    }

    #[test]
    fn structured_content_is_told_once() {
        let value = json!({"temperature": 22.5});
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let both =
            json!({"content": text("{ \"temperature\": 22.5 }"), "structuredContent": value});
        assert_eq!(read(both).unwrap().content, "{ \"temperature\": 22.5 }");
        let only = json!({"content": [], "structuredContent": value});
        assert_eq!(read(only).unwrap().content, "{\"temperature\":22.5}");
        let other = json!({"content": text("warm"), "structuredContent": value});
        assert_eq!(read(other).unwrap().content, "warm\n{\"temperature\":22.5}");
    }

    #[test]
    fn an_error_is_a_failure() {
        let told = json!({"content": [{"type": "text", "text": "no disk"}], "isError": true});
        assert!(matches!(read(told), Err(ToolError::Failed { detail }) if detail == "no disk"));
        let silent = json!({"content": [], "isError": true});
        assert!(matches!(read(silent), Err(ToolError::Failed { detail }) if !detail.is_empty()));
    }

    #[test]
    fn a_result_is_bounded() {
        let block = json!({"type": "text", "text": "x".repeat(900)});
        let output = read(json!({"content": vec![block; 1_000]})).unwrap();
        assert_eq!(output.content.chars().count(), 1_001);
        let link = |n| json!({"type": "resource_link", "uri": format!("x://{n}"), "name": "n"});
        let links: Vec<Value> = (0..1_000).map(link).collect();
        assert_eq!(read(json!({"content": links})).unwrap().sources.len(), 20);
    }
}
