//! Numbers: groups of digits with blanks, dots, dashes or brackets between them.
//!
//! A number is read from the beginning of each group anew, twenty digits far at most. A
//! matcher takes some groups from the first on, never fewer than it could if what follows
//! were replaced, so redacting again finds nothing new.

mod groups;
mod identity;
mod phone;

use crate::{
    Kind, address, fold,
    scan::{Match, Step},
};

pub(crate) use groups::{Group, Groups};

/// How far before a number words are looked for that say what it is.
const HINT_BYTES: usize = 24;

/// A number and what stands before it.
#[derive(Debug)]
pub(crate) struct Number<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) groups: Groups,
    floor: usize,
    start: usize,
    /// Where the `+` stands that the number begins with.
    plus: Option<usize>,
    /// Where the bracket stands that the first group is in.
    bracket: Option<usize>,
    /// No letter, and no digits with a dot or a comma, stand before it.
    free: bool,
}

impl<'a> Number<'a> {
    fn read(bytes: &'a [u8], start: usize, floor: usize) -> Self {
        let (mut plus, mut bracket, mut front) = (None, None, start);
        while let Some(seen) = fold::before(bytes, floor, front) {
            match seen.byte {
                b'(' if bracket.is_none() && plus.is_none() => bracket = Some(front - seen.len),
                b'+' if plus.is_none() => plus = Some(front - seen.len),
                _ => break,
            }
            front -= seen.len;
        }
        let mut number = Self {
            bytes,
            groups: Groups::read(bytes, start),
            floor,
            start,
            plus: plus.filter(|plus| fold::begins_at(bytes, floor, *plus)),
            bracket,
            free: false,
        };
        number.free = number.is_free();
        number
    }

    fn is_free(&self) -> bool {
        let Some(last) = fold::before(self.bytes, self.floor, self.start) else {
            return true;
        };
        let digit_before = || {
            fold::before(self.bytes, self.floor, self.start - last.len)
                .is_some_and(|seen| seen.byte.is_ascii_digit())
        };
        let decimal = b".,".contains(&last.byte) && digit_before();
        !fold::is_word(last.byte) && !decimal
    }

    /// The digits of a group, 0 to 9 each.
    pub(crate) fn digits_of(&self, group: &Group) -> &[u8] {
        self.groups.digits_of(group)
    }

    /// The digits of the first `groups` groups.
    fn digits(&self, groups: usize) -> &[u8] {
        self.groups.digits(groups)
    }

    /// Whether the number may end behind this many groups.
    fn ends(&self, groups: usize) -> bool {
        self.groups
            .get(groups - 1)
            .is_some_and(|group| fold::ends_at(self.bytes, group.end))
    }

    /// Whether each gap behind the first group, up to `groups`, is one of these.
    fn gaps(&self, groups: usize, allowed: &[&[u8]]) -> bool {
        (1..groups).all(|place| {
            self.groups
                .get(place)
                .is_some_and(|group| allowed.contains(&group.gap()))
        })
    }

    /// Whether the first groups have these lengths.
    fn shaped(&self, lengths: &[usize]) -> bool {
        lengths.iter().enumerate().all(|(place, len)| {
            self.groups
                .get(place)
                .is_some_and(|group| group.len == *len)
        })
    }

    /// The text before the number, up to the placeholder before it, in small letters.
    fn hint(&self) -> String {
        let from = self.start.saturating_sub(HINT_BYTES).max(self.floor);
        let before = &self.bytes[from..self.start];
        let from = before.iter().rposition(|byte| *byte == b']');
        let before = &before[from.map_or(0, |from| from + 1)..];
        String::from_utf8_lossy(before).to_lowercase()
    }

    fn hints_at(&self, words: &[&str]) -> bool {
        let hint = self.hint();
        words.iter().any(|word| hint.contains(word))
    }

    /// Whether the words before it call it a version.
    pub(crate) fn is_a_version(&self) -> bool {
        let hint = self.hint();
        let hint = hint.trim_end_matches(|c: char| c.is_whitespace() || ":=：".contains(c));
        ["version", "ver.", "release", "版本", "版本号"]
            .iter()
            .any(|word| hint.ends_with(word))
    }
}

/// Looks at the number whose first digit is at `at`.
pub(crate) fn find(bytes: &[u8], at: usize, floor: usize) -> Step {
    let number = Number::read(bytes, at, floor);
    let next = Step::Next(number.groups.first_end());
    if !number.groups.is_short() {
        return next;
    }
    let begins_alone =
        !fold::before(bytes, floor, at).is_some_and(|seen| seen.byte.is_ascii_digit());
    let found = match begins_alone && number.free {
        false => None,
        true => address::v4(&number)
            .map(|groups| (Kind::Ip, groups, at))
            .and_then(|(kind, groups, start)| {
                Some((kind, number.groups.get(groups - 1)?.end, start))
            })
            .filter(|(_, end, _)| fold::ends_at(bytes, *end))
            .or_else(|| identity::chinese(&number))
            .or_else(|| phone::international(&number))
            .or_else(|| identity::social_security(&number))
            .or_else(|| phone::chinese(&number))
            .or_else(|| phone::american(&number))
            .or_else(|| identity::card(&number))
            .or_else(|| identity::old_chinese(&number)),
    };
    match found {
        Some((kind, end, start)) => Step::Found(Match { kind, start, end }),
        None => next,
    }
}

/// A kind, where it ends and where it starts.
type Hit = (Kind, usize, usize);
