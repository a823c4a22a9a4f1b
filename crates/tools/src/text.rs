//! Texts from outside made fit for a prompt.
//!
//! Invariant: what comes out has no character that a person reading the text would not see
//! but a model would: no controls, no direction marks, no invisible tags.

/// Cuts a text at a character boundary and says so.
pub(crate) fn cap(mut text: String, most: usize) -> String {
    // A text of few bytes has few characters.
    if text.len() > most
        && let Some((at, _)) = text.char_indices().nth(most)
    {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// The text without what is not seen. Line breaks and tabs stay.
pub(crate) fn plain(text: String) -> String {
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'))
    {
        return text;
    }
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Zero-width joiners stay: scripts and emoji need them.
        '\u{200c}' | '\u{200d}' => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_gone_and_what_is_seen_stays() {
        let hidden = "a\u{1b}[31mb\u{202e}c\u{e0041}d\0e\r\n\tf\u{200b}";
        assert_eq!(plain(hidden.to_owned()), "a[31mbcde\n\tf");
        let seen = "naïve 字 👩\u{200d}🔬 ½";
        assert_eq!(plain(seen.to_owned()), seen);
    }

    #[test]
    fn a_cut_says_so() {
        assert_eq!(cap("字字字".to_owned(), 2), "字字…");
        assert_eq!(cap("字字".to_owned(), 2), "字字");
    }
}
