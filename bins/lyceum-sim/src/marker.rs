//! Marks by which an answer is recognised as belonging to its question.
//!
//! A mark is the word `marker-` followed by lower-case letters and digits. A simulated
//! model repeats the last mark of the last user message; a simulated user puts its own
//! marks into its words and looks for them, and for nobody else's, in the answer.

const PREFIX: &str = "marker-";

/// The mark of one turn of one user, e.g. `marker-u17t3`.
#[must_use]
pub fn of(user: u64, turn: u64) -> String {
    format!("{PREFIX}u{user}t{turn}")
}

/// The user of a mark made by [`of`].
#[must_use]
pub fn user(mark: &str) -> Option<u64> {
    let (user, _turn) = mark
        .strip_prefix(PREFIX)?
        .strip_prefix('u')?
        .split_once('t')?;
    user.parse().ok()
}

/// All marks in a text, in order.
pub fn find(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PREFIX).filter_map(|(start, _)| {
        let tail = &text[start + PREFIX.len()..];
        let length = tail
            .bytes()
            .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            .count();
        (length > 0).then(|| &text[start..start + PREFIX.len() + length])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_between_other_words() {
        let text = format!(
            "先 {}。then \"{}\", marker- and marker-X",
            of(1, 2),
            of(30, 4)
        );
        let marks: Vec<&str> = find(&text).collect();
        assert_eq!(marks, ["marker-u1t2", "marker-u30t4"]);
        assert_eq!(
            marks.into_iter().filter_map(user).collect::<Vec<_>>(),
            [1, 30]
        );
        assert_eq!(user("marker-x"), None);
    }
}
