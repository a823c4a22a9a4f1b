//! One pass over a text: stops where something may be, and asks the matcher of that place.
//!
//! Invariant: matches come in order and do not overlap; a matcher never looks behind the end
//! of the match before, so that it sees what it would see in the redacted text.

use crate::{Kind, address, email, fold, iban, number, secret};

/// Something that was found: bytes `start` to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a matcher says of a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Found(Match),
    /// Nothing begins before this place.
    Next(usize),
}

/// What is known beside the text itself.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The end of the match before.
    pub(crate) floor: usize,
    /// No end of a private key follows: it need not be looked for again.
    pub(crate) no_key_ends: bool,
    /// Up to where the text before an `@` was read.
    pub(crate) at_sign: usize,
}

const NOTHING: u8 = 0;
const DIGIT: u8 = 1;
const AT: u8 = 2;
const COLON: u8 = 3;
const WIDE: u8 = 4;
const SECRET: u8 = 5;

const PLACES: [u8; 256] = {
    let mut places = [NOTHING; 256];
    let mut digit = b'0';
    while digit <= b'9' {
        places[digit as usize] = DIGIT;
        digit += 1;
    }
    places[b'@' as usize] = AT;
    places[b':' as usize] = COLON;
    places[0xEF] = WIDE;
    places[b'-' as usize] = SECRET;
    places[b'_' as usize] = SECRET;
    places[b'A' as usize] = SECRET;
    places[b'B' as usize] = SECRET;
    places[b'G' as usize] = SECRET;
    places[b'J' as usize] = SECRET;
    places
};

/// Calls `found` with every match, in order.
pub(crate) fn scan(text: &str, mut found: impl FnMut(Match)) {
    let bytes = text.as_bytes();
    let mut state = State::default();
    let mut at = 0;
    while let Some(skipped) = next(&bytes[at..]) {
        at += skipped;
        match look(text, at, &mut state) {
            Step::Found(hit) => {
                found(hit);
                state.floor = hit.end;
                at = hit.end;
            }
            Step::Next(next) => at = next,
        }
    }
}

/// The next place where something may be. Eight bytes a turn: most of them are nothing.
#[inline]
fn next(bytes: &[u8]) -> Option<usize> {
    let mut chunks = bytes.chunks_exact(8);
    let mut passed = 0;
    for chunk in &mut chunks {
        let any = chunk
            .iter()
            .fold(NOTHING, |any, byte| any | PLACES[usize::from(*byte)]);
        if any != NOTHING {
            break;
        }
        passed += 8;
    }
    let rest = bytes.get(passed..)?;
    rest.iter()
        .position(|byte| PLACES[usize::from(*byte)] != NOTHING)
        .map(|place| passed + place)
}

fn look(text: &str, at: usize, state: &mut State) -> Step {
    let bytes = text.as_bytes();
    match PLACES[usize::from(bytes[at])] {
        DIGIT => digits(bytes, at, state.floor),
        AT => email::find(text, at, 1, state),
        COLON => address::v6(bytes, at, state.floor),
        SECRET => secret::find(bytes, at, state),
        _ => match fold::at(bytes, at) {
            Some(seen) if seen.byte.is_ascii_digit() => digits(bytes, at, state.floor),
            Some(seen) if seen.byte == b'@' => email::find(text, at, seen.len, state),
            Some(seen) => Step::Next(at + seen.len),
            None => Step::Next(at + 1),
        },
    }
}

fn digits(bytes: &[u8], at: usize, floor: usize) -> Step {
    if bytes[at] == b'2'
        && let Some(hit) = secret::google_token(bytes, at, floor)
    {
        return Step::Found(hit);
    }
    match iban::find(bytes, at, floor) {
        Some(hit) => Step::Found(hit),
        None => number::find(bytes, at, floor),
    }
}
