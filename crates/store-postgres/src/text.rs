//! Texts as the server keeps them: it has no U+0000, and they may.
//!
//! Invariant: reading gives what was written, and two texts never share a stored form.
//! A text without the two characters concerned, so almost every text, is stored as it is.

use std::borrow::Cow;

/// Stands before a `0` for U+0000 and before a `1` for itself. Of the private use area.
const ESCAPE: char = '\u{F5C0}';

/// The form to store.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => stored.extend([ESCAPE, '0']),
            ESCAPE => stored.extend([ESCAPE, '1']),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// The text that was stored.
pub(crate) fn original(stored: String) -> String {
    if !stored.contains(ESCAPE) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut chars = stored.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE if chars.next() == Some('0') => text.push('\0'),
            ESCAPE => text.push(ESCAPE),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        let texts = [
            "",
            "茶",
            "\0",
            "a\0b",
            "\u{F5C0}",
            "\u{F5C0}0",
            "\0\u{F5C0}1\0",
        ];
        for text in texts {
            let kept = stored(text).into_owned();
            assert!(!kept.contains('\0'));
            assert_eq!(original(kept), text);
        }
        assert_ne!(stored("\0"), stored("\u{F5C0}0"));
        assert!(matches!(stored("plain"), Cow::Borrowed(_)));
    }
}
