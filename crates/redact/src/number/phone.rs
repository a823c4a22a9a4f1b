//! Telephone numbers.

use super::{Hit, Number};
use crate::Kind;

/// What may stand between the groups of a telephone number.
const GAPS: [&[u8]; 9] = [b" ", b"-", b".", b")", b") ", b")-", b" (", b"-(", b" - "];
/// Words that make a bare number one of a telephone.
const WORDS: [&str; 9] = [
    "phone", "tel", "call", "mobile", "cell", "fax", "电话", "手机", "联系",
];

/// Where the number of so many groups ends and starts, its `+` and its bracket included.
fn hit(number: &Number<'_>, groups: usize) -> Option<Hit> {
    let closes = (1..groups).any(|place| {
        number
            .groups
            .get(place)
            .is_some_and(|group| group.gap().first() == Some(&b')'))
    });
    let bracket = number.bracket.filter(|_| closes);
    let start = [number.plus, bracket].into_iter().flatten().min();
    let end = number.groups.get(groups - 1)?.end;
    Some((Kind::Phone, end, start.unwrap_or(number.start)))
}

/// Numbers with a country's code: ITU-T E.164, up to fifteen digits behind `+` or `00`.
pub(super) fn international(number: &Number<'_>) -> Option<Hit> {
    let zeros = match number.plus {
        Some(_) => 0,
        None => 2,
    };
    let first = number.digits(1);
    let coded = match zeros {
        0 => first.first().is_some_and(|digit| *digit != 0),
        _ => first.len() > 2 && first[..2] == [0, 0] && first[2] != 0,
    };
    if !coded {
        return None;
    }
    let groups = (1..=number.groups.len()).rev().find(|groups| {
        let len = number.digits(*groups).len() - zeros;
        let exact = match (&number.digits(*groups)[zeros..], len) {
            // Countries whose numbers have one length: what follows is not theirs.
            ([1, ..], _) => len == 11,
            ([8, 6, 1, ..], _) => len == 13,
            (_, len) => (8..=15).contains(&len),
        };
        exact && number.gaps(*groups, &GAPS) && number.ends(*groups)
    })?;
    hit(number, groups)
}

/// Mobile and, with their area's code, fixed numbers of mainland China.
pub(super) fn chinese(number: &Number<'_>) -> Option<Hit> {
    let all = &[b" ".as_slice(), b"-"];
    let coded = number.digits(1) == [8, 6];
    let from = if coded { 2 } else { 0 };
    let shape = |lengths: &[usize]| {
        let groups = lengths.len();
        let fits = number.shaped(lengths) && number.gaps(groups, all) && number.ends(groups);
        fits.then(|| (groups, &number.digits(groups)[from..]))
    };
    let mobile = match coded {
        true => shape(&[2, 11]).or_else(|| shape(&[2, 3, 4, 4])),
        false => shape(&[11]).or_else(|| shape(&[3, 4, 4])),
    };
    if let Some((groups, [1, 3..=9, ..])) = mobile {
        return hit(number, groups);
    }
    if number.shaped(&[13]) && number.digits(1).starts_with(&[8, 6, 1]) {
        let fits = number.digits(1)[3] >= 3 && number.ends(1);
        return fits.then(|| hit(number, 1)).flatten();
    }
    let fixed = [&[3, 8][..], &[4, 7], &[4, 8], &[3, 4, 4]];
    let area = |lengths: &&&[usize]| {
        let groups = lengths.len();
        let digits = number.digits(1);
        let gaps: &[&[u8]] = &[b"-", b")", b") ", b" "];
        number.shaped(lengths)
            && number.gaps(groups, gaps)
            && number.ends(groups)
            && digits[0] == 0
            && digits[1] != 0
            && number.digits(groups)[digits.len()] >= 2
    };
    let lengths = fixed.iter().find(area)?;
    hit(number, lengths.len())
}

/// Numbers of North America: areas and exchanges begin with 2 to 9.
pub(super) fn american(number: &Number<'_>) -> Option<Hit> {
    let (groups, from) = match () {
        () if number.shaped(&[3, 3, 4]) => (3, 0),
        () if number.shaped(&[1, 3, 3, 4]) && number.digits(1) == [1] => (4, 1),
        () if number.shaped(&[3, 7]) && number.bracket.is_some() => (2, 0),
        () if number.shaped(&[10]) && number.hints_at(&WORDS) => (1, 0),
        () => return None,
    };
    let digits = &number.digits(groups)[from..];
    let valid = digits[0] >= 2 && digits[3] >= 2 && digits[1..3] != [1, 1];
    let fits = valid && number.gaps(groups, &GAPS) && number.ends(groups);
    fits.then(|| hit(number, groups)).flatten()
}
