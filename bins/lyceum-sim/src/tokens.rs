//! The simulator's own tokenizer: simple, exact and the same for counting and streaming.
//!
//! Invariant: `count(text) == pieces(text).count()`, and the pieces joined are the text.
//! A piece is up to four ASCII bytes or one other character, which is near what the
//! vendors' tokenizers give for English and Chinese. Deliberately absent: any vendor's
//! real vocabulary.

const ASCII_BYTES_PER_TOKEN: usize = 4;

/// How many tokens a text has.
#[must_use]
pub fn count(text: &str) -> u64 {
    let (mut tokens, mut run) = (0_usize, 0_usize);
    for byte in text.bytes() {
        if byte.is_ascii() {
            run += 1;
            continue;
        }
        // Only the first byte of a character is not of the form 10xxxxxx.
        if byte & 0xC0 != 0x80 {
            tokens += run.div_ceil(ASCII_BYTES_PER_TOKEN) + 1;
            run = 0;
        }
    }
    (tokens + run.div_ceil(ASCII_BYTES_PER_TOKEN)) as u64
}

/// The tokens of a text, in order.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = if first.is_ascii() {
            rest.bytes()
                .take(ASCII_BYTES_PER_TOKEN)
                .take_while(u8::is_ascii)
                .count()
        } else {
            first.len_utf8()
        };
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        Some(piece)
    })
}

/// The first `limit` tokens of a text, and whether anything was cut off.
pub(crate) fn truncate(text: &str, limit: u64) -> (&str, bool) {
    let kept: usize = pieces(text)
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .map(str::len)
        .sum();
    (&text[..kept], kept < text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn english_and_chinese_are_counted() {
        assert_eq!(count(""), 0);
        assert_eq!(count("hello"), 2);
        assert_eq!(count("你好吗"), 3);
        assert_eq!(count("ab你cd"), 3);
        assert_eq!(truncate("hello world", 1), ("hell", true));
        assert_eq!(truncate("hello", 2), ("hello", false));
    }

    proptest! {
        #[test]
        fn counting_and_cutting_agree(text in "\\PC{0,40}") {
            prop_assert_eq!(count(&text), pieces(&text).count() as u64);
            prop_assert_eq!(pieces(&text).collect::<String>(), text);
        }
    }
}
