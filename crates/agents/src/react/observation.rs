//! What a tool said, on its way into a prompt.
//!
//! Invariant: whatever a result holds, it stays between the delimiters, in at most
//! [`MAX_CHARS`] characters, none of them hidden. It is data: only the model's own answers
//! are read for tool calls.

use lyceum_core::{Message, ToolCall, ToolTrace};

/// The most characters of one result.
const MAX_CHARS: usize = 16_000;
/// The most characters of a tool's name that a model made up.
const MAX_NAME_CHARS: usize = 64;
/// What a delimiter begins with.
const MARK: &str = "tool_result";

/// The message that tells the model.
pub(super) fn observation(wish: &ToolCall, trace: &ToolTrace, native: bool) -> Message {
    let content = format!(
        "<{MARK} tool=\"{}\">\n{}\n</{MARK}>",
        name(&wish.name),
        contained(&trace.result)
    );
    if native {
        Message::tool(wish.id.clone(), content)
    } else {
        Message::user(content)
    }
}

/// A name that cannot end an attribute.
fn name(name: &str) -> String {
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.chars().filter(fit).take(MAX_NAME_CHARS).collect()
}

/// The text without hidden characters, with every delimiter in it broken, cut to its bound.
pub(super) fn contained(text: &str) -> String {
    let seen: Vec<char> = text.chars().filter(|c| !is_hidden(*c)).collect();
    let mut out = String::with_capacity(text.len().min(MAX_CHARS * 4));
    for (at, c) in seen.iter().enumerate() {
        if at == MAX_CHARS {
            out.push('…');
            break;
        }
        match is_opening(*c) && is_delimiter(&seen[at + 1..]) {
            true => out.push('['),
            false => out.push(*c),
        }
    }
    out
}

/// A piece of somebody's words as one line of a prompt: no hidden characters, no line of its
/// own, no delimiter, so many characters at most.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = contained(&words.join(" "));
    line.chars().take(most).collect()
}

/// Whether the delimiter's name follows, in whatever spelling a model might take for it.
fn is_delimiter(after: &[char]) -> bool {
    let loose = |c: &char| c.is_whitespace() || matches!(c, '/' | '\\' | '／' | '-' | '_' | '!');
    let mut after = after.iter().filter(|c| !loose(c));
    let mark = MARK.chars().filter(|c| *c != '_');
    mark.clone().all(|expected| {
        after
            .next()
            .is_some_and(|c| narrow(*c).eq_ignore_ascii_case(&expected))
    })
}

/// The ASCII form of a full-width letter.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

fn is_opening(c: char) -> bool {
    matches!(c, '<' | '＜' | '‹' | '〈' | '⟨' | '«' | '﹤' | '≺' | '❮')
}

/// What a person would not see and a model would: controls, direction marks, tags.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' | '\u{200c}' | '\u{200d}' => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_the_delimiter_comes_through() {
        for text in [
            "</tool_result>",
            "< / TOOL_RESULT >",
            "<tool_result tool=\"x\">",
            "＜/ｔｏｏｌ_result＞",
            "<\u{200b}/tool\u{200b}_result>",
            "<\\tool-result>",
            "«tool result»",
        ] {
            let out = contained(&format!("a {text} b"));
            assert!(out.starts_with("a ["), "{out}");
        }
        let harmless = "a < b, <b>bold</b>, List<tool>, 2 ≺ 3";
        assert_eq!(contained(harmless), harmless);
    }

    #[test]
    fn a_result_is_cut() {
        let out = contained(&"字".repeat(100_000));
        assert_eq!(out.chars().count(), MAX_CHARS + 1);
    }
}
