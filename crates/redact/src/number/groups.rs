//! Groups of digits and the gaps between them.

use crate::fold;

/// The most digits that are read, and the most groups.
const DIGITS: usize = 20;
const GROUPS: usize = 9;
/// The most characters between two groups.
const GAP: usize = 3;

/// Digits that stand together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Group {
    /// Where it ends, in bytes.
    pub(crate) end: usize,
    /// How many digits it has.
    pub(crate) len: usize,
    from: usize,
    gap: [u8; GAP],
    gap_len: usize,
}

impl Group {
    /// What stands between the group before and this one.
    pub(crate) fn gap(&self) -> &[u8] {
        &self.gap[..self.gap_len]
    }
}

/// The groups that begin at a place.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    digits: [u8; DIGITS],
    groups: [Group; GROUPS],
    len: usize,
    first_end: usize,
    short: bool,
}

impl Groups {
    /// Reads from the digit at `start`, as far as a number may go.
    pub(crate) fn read(bytes: &[u8], start: usize) -> Self {
        let mut groups = Self::default();
        let (mut at, mut used) = (start, 0);
        let mut group = Group::default();
        while groups.len < GROUPS {
            let Some(end) = groups.read_group(bytes, at, used) else {
                if groups.len == 0 {
                    groups.first_end = skip_digits(bytes, start);
                }
                break;
            };
            group.from = used;
            group.len = end.1 - used;
            group.end = end.0;
            used = end.1;
            groups.groups[groups.len] = group;
            groups.len += 1;
            let Some((begin, gap, gap_len)) = gap(bytes, group.end) else {
                break;
            };
            at = begin;
            group = Group {
                gap,
                gap_len,
                ..Group::default()
            };
        }
        if groups.len > 0 {
            groups.first_end = groups.groups[0].end;
            groups.short = true;
        }
        groups
    }

    /// Reads the digits at `at` behind the `used` ones: where they end, and how many are used
    /// then. None where there are too many.
    fn read_group(&mut self, bytes: &[u8], mut at: usize, used: usize) -> Option<(usize, usize)> {
        let (mut end, mut filled) = (at, used);
        while let Some(seen) = fold::at(bytes, at) {
            at += seen.len;
            match seen.byte {
                fold::INVISIBLE => continue,
                digit if digit.is_ascii_digit() => {
                    *self.digits.get_mut(filled)? = digit - b'0';
                    filled += 1;
                    end = at;
                }
                _ => break,
            }
        }
        Some((end, filled))
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Group> {
        self.groups[..self.len].get(place)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the first group is not too long for anything.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// Where the first group ends.
    pub(crate) fn first_end(&self) -> usize {
        self.first_end
    }

    pub(crate) fn digits_of(&self, group: &Group) -> &[u8] {
        &self.digits[group.from..group.from + group.len]
    }

    /// The digits of the first `groups` groups.
    pub(crate) fn digits(&self, groups: usize) -> &[u8] {
        let last = groups.checked_sub(1).and_then(|last| self.get(last));
        &self.digits[..last.map_or(0, |last| last.from + last.len)]
    }
}

/// Where a run of digits ends that is too long for any number.
fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    let mut end = at;
    while let Some(seen) = fold::at(bytes, at) {
        at += seen.len;
        match seen.byte {
            fold::INVISIBLE => {}
            digit if digit.is_ascii_digit() => end = at,
            _ => break,
        }
    }
    end
}

/// The gap at `at` and where the digit behind it begins.
fn gap(bytes: &[u8], mut at: usize) -> Option<(usize, [u8; GAP], usize)> {
    let (mut gap, mut len) = ([0; GAP], 0);
    loop {
        let seen = fold::at(bytes, at)?;
        match seen.byte {
            fold::INVISIBLE => {}
            digit if digit.is_ascii_digit() => return (len > 0).then_some((at, gap, len)),
            byte if b" -.()".contains(&byte) => {
                *gap.get_mut(len)? = byte;
                len += 1;
            }
            _ => return None,
        }
        at += seen.len;
    }
}
