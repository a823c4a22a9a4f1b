//! Reads a text as matchers see it: full-width forms are plain ones, all dashes and blanks are
//! one, and what is not shown is marked as such.

/// Any character beyond ASCII that stands for itself.
pub(crate) const OTHER: u8 = 0x80;
/// A character that is not shown, e.g. a zero-width space between the digits of a number.
pub(crate) const INVISIBLE: u8 = 0x01;

/// A character: what it counts as, and how many bytes it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) byte: u8,
    pub(crate) len: usize,
}

/// The character that begins at `at`.
#[inline]
pub(crate) fn at(bytes: &[u8], at: usize) -> Option<Seen> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some(Seen {
            byte: first,
            len: 1,
        });
    }
    Some(beyond_ascii(&bytes[at..], first))
}

fn beyond_ascii(rest: &[u8], first: u8) -> Seen {
    let next = |place: usize| rest.get(place).copied().unwrap_or(0);
    let len = match first {
        0..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    };
    let byte = match (first, next(1), next(2)) {
        (0xC2, 0xA0, _) => b' ',
        (0xC2, 0xAD, _) => INVISIBLE,
        (0xE2, 0x80, 0x80..=0x8A | 0xAF) | (0xE3, 0x80, 0x80) => b' ',
        (0xE2, 0x80, 0x8B..=0x8F) | (0xE2, 0x81, 0xA0) | (0xEF, 0xBB, 0xBF) => INVISIBLE,
        (0xE2, 0x80, 0x90..=0x95) | (0xE2, 0x88, 0x92) => b'-',
        // U+FF01 to U+FF5E are U+0021 to U+007E in full width.
        (0xEF, 0xBC, third @ 0x81..=0xBF) => third - 0x81 + b'!',
        (0xEF, 0xBD, third @ 0x80..=0x9E) => third - 0x80 + b'`',
        _ => OTHER,
    };
    Seen { byte, len }
}

/// The character that ends at `at` and does not begin before `floor`.
pub(crate) fn before(bytes: &[u8], floor: usize, at: usize) -> Option<Seen> {
    let mut start = at.checked_sub(1).filter(|start| *start >= floor)?;
    while start > floor && bytes[start] & 0xC0 == 0x80 {
        start -= 1;
    }
    self::at(bytes, start).map(|seen| Seen {
        len: at - start,
        ..seen
    })
}

/// Whether a number or a token may end before what stands at `at`.
pub(crate) fn ends_at(bytes: &[u8], at: usize) -> bool {
    self::at(bytes, at).is_none_or(|seen| !is_word(seen.byte))
}

/// Whether a number or a token may begin at `at`.
pub(crate) fn begins_at(bytes: &[u8], floor: usize, at: usize) -> bool {
    before(bytes, floor, at).is_none_or(|seen| !is_word(seen.byte))
}

/// A letter, a digit or `_`.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
