//! E-mail addresses, found at their `@`.
//!
//! The part before is read backwards to the `@` before at most, the part behind to the next
//! one at most, so every byte is read at most twice. Local parts in quotation marks are not
//! known.

use crate::{
    Kind, fold,
    scan::{Match, State, Step},
};

/// Looks around the `@` at `at`, which takes `len` bytes.
pub(crate) fn find(text: &str, at: usize, len: usize, state: &mut State) -> Step {
    let bytes = text.as_bytes();
    let floor = state.floor.max(state.at_sign);
    state.at_sign = at + len;
    let start = local(text, floor, at);
    match domain(text, at + len) {
        Some(end) if start < at => Step::Found(Match {
            kind: Kind::Email,
            start,
            end,
        }),
        _ => Step::Next((at + len).min(bytes.len())),
    }
}

/// Where the part before the `@` begins; at the `@` if there is none.
fn local(text: &str, floor: usize, at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut start = at;
    while let Some(seen) = fold::before(bytes, floor, start) {
        let takes = match seen.byte {
            fold::OTHER => text[start - seen.len..start]
                .chars()
                .all(|c| is_letter(c, start == at)),
            fold::INVISIBLE => start < at,
            byte => byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte),
        };
        if !takes {
            break;
        }
        start -= seen.len;
        // A name of Han characters is taken as a whole, but not the sentence around a Latin one.
        if seen.byte == fold::OTHER && is_han(&text[start..start + seen.len]) {
            return han_name(text, floor, start);
        }
    }
    // Dots, quotation marks and slashes at the front belong to the sentence.
    while let Some(seen) = fold::at(bytes, start).filter(|_| start < at) {
        if !b".'`/=?!*&|{\x01".contains(&seen.byte) {
            break;
        }
        start += seen.len;
    }
    start
}

fn han_name(text: &str, floor: usize, mut start: usize) -> usize {
    while let Some(seen) = fold::before(text.as_bytes(), floor, start) {
        if seen.byte != fold::OTHER || !is_han(&text[start - seen.len..start]) {
            break;
        }
        start -= seen.len;
    }
    start
}

fn is_han(text: &str) -> bool {
    text.chars().all(|c| c >= '\u{2e80}' && c.is_alphabetic())
}

fn is_letter(c: char, at_the_sign: bool) -> bool {
    c.is_alphabetic() && (c < '\u{2e80}' || at_the_sign)
}

/// Where the domain that begins at `from` ends, behind its last label that may be a top one.
fn domain(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let begins_han = text[from..].chars().next().is_some_and(|c| {
        fold::at(bytes, from).is_some_and(|seen| seen.byte == fold::OTHER) && c >= '\u{2e80}'
    });
    let (mut at, mut end) = (from, None);
    let (mut labels, mut letters, mut first_is_letter) = (0_usize, 0_usize, false);
    let first = at;
    while let Some(seen) = fold::at(bytes, at) {
        match seen.byte {
            b'.' if letters == 0 => break,
            b'.' => {
                labels += 1;
                letters = 0;
            }
            byte => {
                let c = text[at..].chars().next().filter(|_| byte == fold::OTHER);
                let alphabetic = byte.is_ascii_alphabetic()
                    || c.is_some_and(|c| c.is_alphabetic() && (c < '\u{2e80}' || begins_han));
                if !(alphabetic || byte.is_ascii_digit() || byte == b'-') {
                    break;
                }
                if letters == 0 {
                    first_is_letter = alphabetic;
                }
                letters += 1;
                // A top label has at least two characters and begins with a letter.
                if labels > 0 && first_is_letter && letters >= 2 && byte != b'-' {
                    end = Some(at + seen.len);
                }
            }
        }
        at += seen.len;
    }
    // `icon@2x.png` is a file.
    end.filter(|_| !is_scale(&bytes[first..]))
}

fn is_scale(domain: &[u8]) -> bool {
    matches!(domain, [b'1'..=b'9', b'x', b'.', ..])
}
