//! Payment cards, social security numbers and Chinese resident identity numbers.

use super::{Hit, Number};
use crate::{Kind, fold};

/// Cards: ISO/IEC 7812, check digit by Luhn's formula. Numbers of banks and merchants begin
/// with 2 to 6; a clock's milliseconds and most serial numbers with another digit.
pub(super) fn card(number: &Number<'_>) -> Option<Hit> {
    let most = number.groups.len();
    let found = (1..=most).rev().find(|groups| {
        let digits = number.digits(*groups);
        let known = matches!(
            (digits.len(), digits[0]),
            (13, 4..=6) | (14, 3) | (15, 2 | 3) | (16..=19, 2..=6)
        );
        known && grouped(number, *groups) && number.ends(*groups) && luhn(digits)
    })?;
    let end = number.groups.get(found - 1)?.end;
    Some((Kind::Card, end, number.start))
}

/// Cards are printed in groups of three digits and more, with the same gap between all.
fn grouped(number: &Number<'_>, groups: usize) -> bool {
    let gap = number.groups.get(1).map_or(&b" "[..], |group| group.gap());
    let long = (0..groups.saturating_sub(1))
        .all(|place| number.groups.get(place).is_some_and(|group| group.len >= 3));
    groups == 1 || (long && number.gaps(groups, &[gap]) && [&b" "[..], b"-", b"."].contains(&gap))
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| match digit * 2 {
        sum @ 0..=9 => sum,
        sum => sum - 9,
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => u32::from(*digit),
            _ => u32::from(doubled(*digit)),
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

/// Social security numbers of the United States. Areas 000, 666 and 900 to 999, group 00 and
/// serial 0000 are never given.
pub(super) fn social_security(number: &Number<'_>) -> Option<Hit> {
    let spelt = number.shaped(&[3, 2, 4])
        && (number.gaps(3, &[b"-"]) || number.gaps(3, &[b" "]) || number.gaps(3, &[b"."]));
    let groups = match spelt {
        true => 3,
        false if number.shaped(&[9]) && number.hints_at(&["ssn", "social security"]) => 1,
        false => return None,
    };
    let digits = number.digits(groups);
    let value = |digits: &[u8]| {
        digits
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit))
    };
    let area = value(&digits[..3]);
    let given = area != 0
        && area != 666
        && area < 900
        && value(&digits[3..5]) != 0
        && value(&digits[5..]) != 0;
    let end = number.groups.get(groups - 1)?.end;
    (given && number.ends(groups)).then_some((Kind::Ssn, end, number.start))
}

/// Resident identity numbers of China: GB 11643-1999. Six digits of the place, eight of the
/// birthday, three of a series, and a check digit by ISO 7064 mod 11-2.
pub(super) fn chinese(number: &Number<'_>) -> Option<Hit> {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECKS: &[u8; 11] = b"10X98765432";
    let plain = &[b" ".as_slice(), b"-"];
    let spaced = |lengths: &[usize]| number.shaped(lengths) && number.gaps(3, plain);
    let groups = match () {
        () if number.shaped(&[18]) || number.shaped(&[17]) => 1,
        () if spaced(&[6, 8, 4]) || spaced(&[6, 8, 3]) => 3,
        () => return None,
    };
    let digits = number.digits(groups);
    let mut end = number.groups.get(groups - 1)?.end;
    let check = match digits.get(17) {
        Some(digit) => digit + b'0',
        None => {
            let seen = fold::at(number.bytes, end)?;
            end += seen.len;
            seen.byte.to_ascii_uppercase()
        }
    };
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(*digit) * weight)
        .sum();
    let right = CHECKS[(sum % 11) as usize] == check && is_place(digits) && is_date(&digits[6..14]);
    let alone = fold::at(number.bytes, end).is_none_or(|seen| !seen.byte.is_ascii_digit());
    (right && alone).then_some((Kind::ChineseId, end, number.start))
}

/// The numbers of fifteen digits that were given until 1999 and are still in use in old papers:
/// the place, six digits of a birthday in the twentieth century, three of a series. They have no
/// check digit, so the place and the date have to do.
pub(super) fn old_chinese(number: &Number<'_>) -> Option<Hit> {
    let digits = number.digits(1);
    let is_one = number.shaped(&[15]) && number.ends(1) && is_place(digits);
    let mut date = [1, 9, 0, 0, 0, 0, 0, 0];
    date[2..].copy_from_slice(digits.get(6..12)?);
    let end = number.groups.get(0)?.end;
    (is_one && is_date(&date)).then_some((Kind::ChineseId, end, number.start))
}

/// The codes of provinces.
fn is_place(digits: &[u8]) -> bool {
    matches!(
        digits[0] * 10 + digits[1],
        11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83 | 91
    )
}

fn is_date(digits: &[u8]) -> bool {
    let value = |from: usize, to: usize| {
        digits[from..to]
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit))
    };
    let (year, month, day) = (value(0, 4), value(4, 6), value(6, 8));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1850..2100).contains(&year) && (1..=days).contains(&day)
}
