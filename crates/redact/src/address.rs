//! Addresses of the internet protocol.
//!
//! Loopback and unspecified addresses stay: they tell of nobody, and logs are full of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    Kind, fold,
    number::{Groups, Number},
    scan::{Match, Step},
};

/// The longest spelling, e.g. `0000:0000:0000:0000:0000:ffff:255.255.255.255`.
const LONGEST: usize = 45;
/// As many ends as a spelling may have, before and behind each of its separators.
const TRIES: usize = 24;

/// Four numbers with dots between them.
pub(crate) fn v4(number: &Number<'_>) -> Option<usize> {
    let groups: &Groups = &number.groups;
    let mut octets = [0_u8; 4];
    for (place, octet) in octets.iter_mut().enumerate() {
        let group = groups.get(place)?;
        if group.len > 3 || (place > 0 && group.gap() != b".") {
            return None;
        }
        let value = number
            .digits_of(group)
            .iter()
            .fold(0_u32, |value, digit| value * 10 + u32::from(*digit));
        *octet = u8::try_from(value).ok()?;
    }
    let address = Ipv4Addr::from(octets);
    let goes_on = groups.get(4).is_some_and(|group| group.gap() == b".");
    let is_of_somebody = !address.is_loopback() && !address.is_unspecified();
    (is_of_somebody && !goes_on && !number.is_a_version()).then_some(4)
}

/// Looks whether the `:` at `at` is the first of an address.
pub(crate) fn v6(bytes: &[u8], at: usize, floor: usize) -> Step {
    let mut start = at;
    while start > floor && at - start < 4 && bytes[start - 1].is_ascii_hexdigit() {
        start -= 1;
    }
    let next = Step::Next(at + 1);
    let has_group = start < at;
    let begins = fold::before(bytes, floor, start)
        .is_none_or(|seen| !fold::is_word(seen.byte) && !b":.-".contains(&seen.byte));
    if !begins || (!has_group && bytes.get(at + 1) != Some(&b':')) {
        return next;
    }
    let longest = (start + LONGEST).min(bytes.len());
    let run = bytes[start..longest]
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit() && !b":.".contains(byte))
        .unwrap_or(longest - start);
    // The longest part that is an address: it ends before or behind a colon or a dot.
    let mut end = start + run;
    for _ in 0..TRIES {
        if end <= at {
            break;
        }
        if let Some(hit) = address(bytes, start, end) {
            return match hit.is_loopback() || hit.is_unspecified() {
                true => Step::Next(end),
                false => Step::Found(Match {
                    kind: Kind::Ip,
                    start,
                    end,
                }),
            };
        }
        let last = |byte: &u8| b":.".contains(byte);
        end = match bytes[start..end].iter().rposition(last) {
            Some(place) if start + place + 1 == end => end - 1,
            Some(place) => start + place + 1,
            None => start,
        };
    }
    next
}

fn address(bytes: &[u8], start: usize, end: usize) -> Option<Ipv6Addr> {
    let cut = bytes[end - 1] != b':' && !fold::ends_at(bytes, end);
    let text = std::str::from_utf8(bytes.get(start..end)?).ok()?;
    let address: Ipv6Addr = text.parse().ok().filter(|_| !cut)?;
    // `a::b` and `c1::d2` may be paths of a program; `fe80::1` is none.
    let first = text.find(':').unwrap_or(0);
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    let told = (groups >= 2 && (first == 0 || first > 2)) || groups >= 4;
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    (address.is_loopback() || address.is_unspecified() || (told && has_digit)).then_some(address)
}
