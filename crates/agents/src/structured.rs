//! Finds the JSON in a model's answer: fenced, wrapped in chat, cut off or slightly wrong.
//!
//! Invariant: linear in the answer's length, never panics, never guesses a value that
//! the model did not write (an unfinished string or number at a cut is dropped).
//! Deliberately absent: knowledge of what the JSON should say.

use serde_json::Value;

/// The largest answer looked at, in bytes: more is no answer to a question of ours.
const MAX_BYTES: usize = 256 * 1024;
/// Where an answer could begin: each `{` or `[`, but no more of them than this.
const MAX_STARTS: usize = 32;

/// The first JSON object or array in a text, repaired if it was cut off.
///
/// Whole values are preferred: a text such as `I looked at [1]. {"gaps": []}` gives the
/// largest value that parses completely.
#[must_use]
pub fn extract_json(text: &str) -> Option<Value> {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let starts = text.match_indices(['{', '[']).map(|(at, _)| at);
    let mut largest: Option<(usize, Value)> = None;
    let mut cut = None;
    let mut covered = 0;
    for start in starts.take(MAX_STARTS) {
        if start < covered {
            continue;
        }
        match whole(&text[start..]) {
            Some((length, value)) => {
                covered = start + length;
                if largest
                    .as_ref()
                    .is_none_or(|(longest, _)| length > *longest)
                {
                    largest = Some((length, value));
                }
            }
            // Only the first value that does not parse is repaired; the ones inside it say less.
            None if cut.is_none() => cut = Some(repair(&text[start..])),
            None => {}
        }
    }
    // A mere `[1]` or `{}` in the chat around an answer is not the answer.
    let says_something = |value: &Value| match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => items
            .iter()
            .any(|item| item.is_object() || item.is_string()),
        _ => false,
    };
    let candidates = [cut.flatten(), largest.map(|(_, value)| value)];
    let best = candidates
        .iter()
        .position(|value| value.as_ref().is_some_and(says_something));
    let mut candidates = candidates.into_iter();
    match best {
        Some(at) => candidates.nth(at).flatten(),
        None => candidates.flatten().next(),
    }
}

/// All JSON objects and arrays that a text holds whole, in order, none inside another.
pub(crate) fn whole_values(text: &str) -> Vec<Value> {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let starts = text.match_indices(['{', '[']).map(|(at, _)| at);
    let mut found = Vec::new();
    let mut covered = 0;
    for start in starts.take(MAX_STARTS) {
        if start >= covered
            && let Some((length, value)) = whole(&text[start..])
        {
            covered = start + length;
            found.push(value);
        }
    }
    found
}

/// The value at the very start of a text and its length in bytes.
fn whole(text: &str) -> Option<(usize, Value)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Some((values.byte_offset(), value)),
        _ => None,
    }
}

/// Rewrites the value at the start of a text so that it parses: trailing commas go,
/// raw line breaks in strings are escaped, and what a cut left open is closed after
/// the last complete member.
fn repair(text: &str) -> Option<Value> {
    let mut scan = Scan::default();
    for character in text.chars() {
        if scan.push(character) {
            return serde_json::from_str(&scan.output).ok();
        }
    }
    let mut cut = scan.output.get(..scan.safe)?.to_owned();
    for close in scan.safe_open.iter().rev() {
        cut.push(*close);
    }
    serde_json::from_str(&cut).ok()
}

#[derive(Default)]
struct Scan {
    output: String,
    /// The brackets still open, as the characters that close them.
    open: Vec<char>,
    in_string: bool,
    escaped: bool,
    /// Up to here the output is complete once `safe_open` is closed.
    safe: usize,
    safe_open: Vec<char>,
}

impl Scan {
    /// Takes one character; true when the outermost bracket has closed.
    fn push(&mut self, character: char) -> bool {
        if self.in_string {
            self.push_in_string(character);
            return false;
        }
        match character {
            '"' => self.in_string = true,
            '{' => self.open.push('}'),
            '[' => self.open.push(']'),
            '}' | ']' => {
                self.drop_trailing_comma();
                // A bracket of the wrong kind closes what is open.
                let Some(close) = self.open.pop() else {
                    return true;
                };
                self.output.push(close);
                self.mark();
                return self.open.is_empty();
            }
            // What stands before a comma is complete.
            ',' => self.mark(),
            _ => {}
        }
        self.output.push(character);
        if matches!(character, '{' | '[') {
            self.mark();
        }
        false
    }

    fn push_in_string(&mut self, character: char) {
        match character {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            '"' => self.in_string = false,
            '\n' => return self.output.push_str("\\n"),
            '\t' => return self.output.push_str("\\t"),
            control if control.is_control() => return,
            _ => {}
        }
        self.output.push(character);
    }

    fn mark(&mut self) {
        self.safe = self.output.len();
        self.safe_open.clone_from(&self.open);
    }

    fn drop_trailing_comma(&mut self) {
        let kept = self.output.trim_end();
        if let Some(kept) = kept.strip_suffix(',') {
            self.output.truncate(kept.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn finds_json_in_what_models_write() {
        let cases = [
            ("{\"a\":1}", json!({"a": 1})),
            ("```json\n{\"a\": 1}\n```", json!({"a": 1})),
            (
                "Sure! Here it is: {\"a\": [1, 2]} Hope that helps.",
                json!({"a": [1, 2]}),
            ),
            ("As [1] says: {\"a\": 1}", json!({"a": 1})),
            ("{\"a\": [1, 2,],}", json!({"a": [1, 2]})),
            ("{\"a\": \"two\nlines\"}", json!({"a": "two\nlines"})),
            (
                "{\"gaps\": [{\"kind\": \"x\", \"quote\": \"y\"}, {\"kind\": \"z\", \"quo",
                json!({"gaps": [{"kind": "x", "quote": "y"}, {"kind": "z"}]}),
            ),
            (
                "{\"gaps\": [{\"kind\": \"x\"}, {\"kind\": \"unfini",
                json!({"gaps": [{"kind": "x"}, {}]}),
            ),
            ("[{\"kind\": \"x\"}", json!([{"kind": "x"}])),
            ("{\"n\": 12", json!({})),
        ];
        for (text, expected) in cases {
            assert_eq!(extract_json(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn plain_text_holds_no_json() {
        assert_eq!(extract_json("no brackets here"), None);
        assert_eq!(extract_json(""), None);
    }

    proptest! {
        #[test]
        fn every_cut_of_an_answer_still_parses(cut in 0_usize..200) {
            let text = r#"{"gaps": [{"kind": "missing_step", "quote": "it \"just\" works 因此"}, {"kind": "a", "n": 1.5}], "more": {"x": [true, null]}}"#;
            let cut = text.floor_char_boundary(cut.min(text.len()));
            let value = extract_json(&text[..cut]);
            prop_assert_eq!(value.is_some(), cut > 0);
        }

        #[test]
        fn nothing_panics(text in "[\\[\\]{}\",:\\\\a1 \n测]{0,60}") {
            let _ = extract_json(&text);
        }
    }
}
