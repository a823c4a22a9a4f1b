//! Patterns over the texts of keys.
//!
//! `*` stands for any characters, none included, `?` for one character, and a backslash takes
//! the next character literally. Nothing else is special. Invariant: matching takes at most
//! pattern × text steps and no memory, whatever a caller wrote.

use serde::{Deserialize, Serialize};

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

/// A character of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Char(char),
}

impl Glob {
    /// Reads a pattern. Every text is one.
    #[must_use]
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern that matches everything.
    #[must_use]
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    /// The pattern that matches this text alone.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        let mut pattern = String::with_capacity(text.len());
        for char in text.chars() {
            if matches!(char, '*' | '?' | '\\') {
                pattern.push('\\');
            }
            pattern.push(char);
        }
        Self(pattern)
    }

    /// The text that alone matches, where the pattern has no wildcard.
    #[must_use]
    pub fn as_literal(&self) -> Option<String> {
        self.pieces()
            .map(|piece| match piece {
                Piece::Char(char) => Some(char),
                Piece::Any | Piece::One => None,
            })
            .collect()
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text matches.
    ///
    /// # Examples
    ///
    /// ```
    /// use lyceum_cache::Glob;
    ///
    /// assert!(Glob::new("user:*:prefs").matches("user:42:prefs"));
    /// assert!(!Glob::new("user:?").matches("user:42"));
    /// assert!(Glob::literal("5 * 3?").matches("5 * 3?"));
    /// ```
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        // After a mismatch the last star takes one character more; earlier ones need not.
        let (mut pattern, mut rest) = (self.pieces(), text.chars());
        let mut star: Option<(Pieces<'_>, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = pattern.clone();
            match ahead.next() {
                Some(Piece::Any) => {
                    star = Some((ahead.clone(), rest.clone()));
                    pattern = ahead;
                    continue;
                }
                Some(piece) => {
                    let mut next = rest.clone();
                    let fits = match (piece, next.next()) {
                        (_, None) => return false,
                        (Piece::Char(want), Some(char)) => want == char,
                        (Piece::One | Piece::Any, Some(_)) => true,
                    };
                    if fits {
                        (pattern, rest) = (ahead, next);
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            let Some((after, taken)) = &mut star else {
                return false;
            };
            if taken.next().is_none() {
                return false;
            }
            (pattern, rest) = (after.clone(), taken.clone());
        }
    }

    fn pieces(&self) -> Pieces<'_> {
        Pieces(self.0.chars())
    }
}

#[derive(Debug, Clone)]
struct Pieces<'a>(std::str::Chars<'a>);

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        Some(match self.0.next()? {
            '*' => Piece::Any,
            '?' => Piece::One,
            // One at the end stands for itself.
            '\\' => Piece::Char(self.0.next().unwrap_or('\\')),
            char => Piece::Char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, in exponential time.
    fn naive(pattern: &[Piece], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((Piece::Any, more)), rest) => {
                naive(more, text) || rest.is_some_and(|(_, rest)| naive(pattern, rest))
            }
            (Some((piece, more)), Some((char, rest))) => {
                let fits = *piece == Piece::One || *piece == Piece::Char(*char);
                fits && naive(more, rest)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_the_definition_matches(
            pattern in r"[ab*?\\é]{0,8}", text in r"[ab*?\\é]{0,8}",
        ) {
            let glob = Glob::new(pattern);
            let pieces: Vec<Piece> = glob.pieces().collect();
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(glob.matches(&text), naive(&pieces, &chars));
        }

        #[test]
        fn a_literal_matches_itself_alone(text in r"[ab*?\\é]{0,8}", other in r"[ab*?\\é]{0,8}") {
            let glob = Glob::literal(&text);
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
            prop_assert_eq!(glob.as_literal(), Some(text));
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let glob = Glob::new("*a".repeat(500) + "b");
        assert!(!glob.matches(&"a".repeat(1_000)));
    }
}
