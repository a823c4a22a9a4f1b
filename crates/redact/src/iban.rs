//! International bank account numbers: ISO 13616, lengths by its registry, check digits by
//! ISO 7064 mod 97-10.

use crate::{Kind, fold, scan::Match};

/// How long each country's numbers are.
const LENGTHS: [(&[u8; 2], usize); 88] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Looks whether the digit at `at` is the first check digit of a number.
pub(crate) fn find(bytes: &[u8], at: usize, floor: usize) -> Option<Match> {
    let second = fold::before(bytes, floor, at)?;
    let first = fold::before(bytes, floor, at - second.len)?;
    let country = [
        first.byte.to_ascii_uppercase(),
        second.byte.to_ascii_uppercase(),
    ];
    let (_, length) = LENGTHS.iter().find(|(known, _)| **known == country)?;
    let start = at - second.len - first.len;
    if !fold::begins_at(bytes, floor, start) {
        return None;
    }
    let mut head = [0; 4];
    let (mut end, mut read, mut rest, mut gap) = (start, 0, 0_u32, false);
    while read < *length {
        let seen = fold::at(bytes, end)?;
        end += seen.len;
        match seen.byte.to_ascii_uppercase() {
            fold::INVISIBLE => continue,
            b' ' | b'-' if !gap && read > 0 => {
                gap = true;
                continue;
            }
            letter @ (b'A'..=b'Z' | b'0'..=b'9') => match head.get_mut(read) {
                Some(place) => *place = letter,
                None => rest = append(rest, letter),
            },
            _ => return None,
        }
        gap = false;
        read += 1;
    }
    let checked = head.into_iter().fold(rest, append);
    let right = head[2].is_ascii_digit() && head[3].is_ascii_digit() && checked == 1;
    (right && fold::ends_at(bytes, end)).then_some(Match {
        kind: Kind::Iban,
        start,
        end,
    })
}

/// The rest by 97 of a number with one more place; letters count as 10 to 35.
fn append(rest: u32, letter: u8) -> u32 {
    match letter {
        b'0'..=b'9' => (rest * 10 + u32::from(letter - b'0')) % 97,
        _ => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    }
}
