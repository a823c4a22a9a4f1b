//! Keys and tokens whose shape tells their provider, and blocks of private keys.
//!
//! Whether a run of token characters is a key is decided by its first bytes alone; what is
//! taken is never read again. So the work stays linear.

use crate::{
    Kind, fold,
    scan::{Match, State, Step},
};

/// Prefixes that end in `-` or `_`, with the fewest characters behind them.
const PREFIXES: [(&[u8], usize); 24] = [
    (b"sk-", 16),
    (b"gsk_", 16),
    (b"sk_live_", 10),
    (b"sk_test_", 10),
    (b"rk_live_", 10),
    (b"rk_test_", 10),
    (b"whsec_", 16),
    (b"ghp_", 20),
    (b"gho_", 20),
    (b"ghu_", 20),
    (b"ghs_", 20),
    (b"ghr_", 20),
    (b"github_pat_", 20),
    (b"glpat-", 16),
    (b"npm_", 20),
    (b"hf_", 20),
    (b"pypi-", 20),
    (b"lyc-", 32),
    (b"xoxa-", 10),
    (b"xoxb-", 10),
    (b"xoxp-", 10),
    (b"xoxr-", 10),
    (b"xoxs-", 10),
    (b"xapp-", 10),
];

/// How much of a run decides.
const DECIDING: usize = 256;
/// The fewest characters behind `Bearer`.
const BEARER: usize = 16;

/// Looks at a byte that may be part of a secret's beginning.
pub(crate) fn find(bytes: &[u8], at: usize, state: &mut State) -> Step {
    let hit = match bytes[at] {
        b'-' if bytes[at..].starts_with(b"-----BEGIN ") => private_key(bytes, at, state),
        b'-' => prefixed(bytes, at, state.floor),
        b'_' => prefixed(bytes, at, state.floor).or_else(|| amazon_secret(bytes, at)),
        b'A' => amazon(bytes, at, state.floor)
            .or_else(|| google(bytes, at, state.floor))
            .or_else(|| amazon_secret(bytes, at)),
        b'G' => sendgrid(bytes, at, state.floor),
        b'J' => web_token(bytes, at, state.floor),
        _ => bearer(bytes, at, state.floor),
    };
    hit.map_or(Step::Next(at + 1), Step::Found)
}

fn key(start: usize, end: usize) -> Option<Match> {
    Some(Match {
        kind: Kind::ApiKey,
        start,
        end,
    })
}

/// How many of the bytes are of a token.
fn run(bytes: &[u8]) -> usize {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    bytes
        .iter()
        .position(|byte| !is_token(byte))
        .unwrap_or(bytes.len())
}

/// Whether a token may begin here.
fn begins(bytes: &[u8], floor: usize, start: usize) -> bool {
    start >= floor
        && fold::before(bytes, floor, start)
            .is_none_or(|seen| !fold::is_word(seen.byte) && seen.byte != b'-')
}

/// Tells a key from words with hyphens: a digit, a capital, or a long stretch without a hyphen.
fn is_random(token: &[u8]) -> bool {
    let mixed = token
        .iter()
        .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    mixed
        || token
            .split(|byte| b"-_".contains(byte))
            .any(|part| part.len() >= 20)
}

fn prefixed(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    let behind = at + 1;
    let (prefix, least) = PREFIXES
        .iter()
        .find(|(prefix, _)| bytes[floor..behind].ends_with(prefix))?;
    let start = behind - prefix.len();
    if !begins(bytes, floor, start) {
        return None;
    }
    let deciding = &bytes[behind..(behind + DECIDING).min(bytes.len())];
    let deciding = &deciding[..run(deciding)];
    if deciding.len() < *least || !is_random(deciding) {
        return None;
    }
    key(start, behind + run(&bytes[behind..]))
}

/// `AKIA` or `ASIA` and sixteen capitals and digits.
fn amazon(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    let whole = bytes.get(at..at + 20)?;
    let shaped = (whole.starts_with(b"AKIA") || whole.starts_with(b"ASIA"))
        && whole
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (shaped && fold::begins_at(bytes, floor, at) && fold::ends_at(bytes, at + 20))
        .then_some(())
        .and_then(|()| key(at, at + 20))
}

/// `AIza` and thirty-five characters.
fn google(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    let whole = bytes.get(at..at + 39)?;
    (whole.starts_with(b"AIza") && run(whole) == whole.len() && begins(bytes, floor, at))
        .then(|| run(&bytes[at..]))
        .and_then(|len| key(at, at + len))
}

/// `SG.`, 22 characters, a dot and at least 43 characters.
fn sendgrid(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    const PARTS: [usize; 2] = [22, 43];
    let start = at.checked_sub(1).filter(|start| bytes[*start] == b'S')?;
    let first = bytes.get(at + 1..)?.strip_prefix(b".")?;
    if !begins(bytes, floor, start) || run(&first[..first.len().min(PARTS[0] + 1)]) != PARTS[0] {
        return None;
    }
    let second = first[PARTS[0]..].strip_prefix(b".")?;
    // Its end is not told by what follows, which may be replaced next.
    let is_long = run(&second[..second.len().min(PARTS[1])]) == PARTS[1];
    let from = bytes.len() - second.len();
    is_long
        .then(|| from + run(second))
        .and_then(|end| key(start, end))
}

/// An access token of Google's OAuth, found at the `2` of `ya29.`.
pub(crate) fn google_token(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    const FEWEST: usize = 20;
    let start = at.checked_sub(2)?;
    let rest = bytes[start..].strip_prefix(b"ya29.")?;
    if !begins(bytes, floor, start) || run(&rest[..rest.len().min(FEWEST)]) < FEWEST {
        return None;
    }
    key(start, start + 5 + run(rest))
}

/// The forty characters behind a name that ends in `secret_access_key` or `SecretAccessKey`, as
/// they stand in files and answers. Nothing in them tells what they are, so the name must.
fn amazon_secret(bytes: &[u8], at: usize) -> Option<Match> {
    const LEN: usize = 40;
    const BETWEEN: usize = 12;
    let name: &[u8] = match bytes[at] {
        b'_' => b"_access_key",
        _ => b"accesskey",
    };
    let before = &bytes[at.saturating_sub(6)..at];
    let behind = bytes.get(at..at + name.len())?;
    if !before.eq_ignore_ascii_case(b"secret") || !behind.eq_ignore_ascii_case(name) {
        return None;
    }
    let from = at + name.len();
    let rest = &bytes[from..(from + BETWEEN + LEN + 1).min(bytes.len())];
    let is_between = |byte: &u8| b" \t\"'\\:=>,".contains(byte);
    let gap = rest.iter().position(|byte| !is_between(byte))?;
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"/+".contains(byte);
    let len = rest[gap..].iter().position(|byte| !is_key(byte));
    let len = len.unwrap_or(rest.len() - gap);
    (gap > 0 && gap <= BETWEEN && len == LEN)
        .then_some(from + gap)
        .and_then(|start| key(start, start + LEN))
}

/// A JSON web token (RFC 7519): its header is `{"…`, which is `eyJ` in base64.
fn web_token(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    let start = at.checked_sub(2).filter(|start| *start >= floor)?;
    if &bytes[start..at] != b"ey" || !begins(bytes, floor, start) {
        return None;
    }
    let header = start + run(&bytes[start..]);
    let payload = part(bytes, header)?;
    if header - start < 10 || payload - header < 10 {
        return None;
    }
    key(start, part(bytes, payload).unwrap_or(payload))
}

/// Where the part behind the dot at `dot` ends.
fn part(bytes: &[u8], dot: usize) -> Option<usize> {
    let rest = bytes.get(dot..)?.strip_prefix(b".")?;
    Some(dot + 1 + run(rest))
}

/// What stands behind `Bearer` in a header.
fn bearer(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    let rest = bytes[at..].strip_prefix(b"Bearer ")?;
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let len = rest
        .iter()
        .position(|byte| !is_token(byte))
        .unwrap_or(rest.len());
    let deciding = &rest[..len.min(DECIDING)];
    let random = deciding.len() >= BEARER && is_random(deciding);
    (random && fold::begins_at(bytes, floor, at))
        .then_some(at + 7)
        .and_then(|start| key(start, start + len))
}

/// From `-----BEGIN … PRIVATE KEY-----` to its end, or to the end of what may be its text.
fn private_key(bytes: &[u8], at: usize, state: &mut State) -> Option<Match> {
    const BEGIN: usize = b"-----BEGIN ".len();
    let label = bytes[at + BEGIN..]
        .iter()
        .take(64)
        .position(|byte| *byte == b'-')?;
    let label = &bytes[at + BEGIN..at + BEGIN + label];
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let body = at + BEGIN + label.len();
    let end = match state.no_key_ends {
        true => None,
        false => find_end(bytes, body),
    };
    let end = end.unwrap_or_else(|| {
        state.no_key_ends = true;
        let is_body = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-\\ \t\r\n:,".contains(byte);
        let len = bytes[body..].iter().position(|byte| !is_body(byte));
        len.map_or(bytes.len(), |len| body + len)
    });
    Some(Match {
        kind: Kind::PrivateKey,
        start: at,
        end,
    })
}

fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    const END: &[u8] = b"-----END ";
    let rest = &bytes[from..];
    let place = rest.windows(END.len()).position(|window| window == END)?;
    let label = &rest[place + END.len()..];
    let dashes = label.iter().take(64).position(|byte| *byte == b'-')?;
    let tail = label[dashes..]
        .iter()
        .take(5)
        .take_while(|byte| **byte == b'-')
        .count();
    Some(from + place + END.len() + dashes + tail)
}
