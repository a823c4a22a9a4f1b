//! Text from outside made plain: no control characters, no hidden ones, bounded.

/// At most `most` characters of a text, without control characters (line feeds and tabs stay),
/// without the marks that reorder text on a screen, and without Unicode's tag characters, by
/// which words can be hidden from people and shown to models. Says `…` where it was cut.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let mut shown = text.chars().filter(|c| is_shown(*c));
    let mut out: String = shown.by_ref().take(most).collect();
    if shown.next().is_some() {
        out.push('…');
    }
    out
}

fn is_shown(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => false,
        '\u{E0000}'..='\u{E007F}' => false,
        c => !c.is_control(),
    }
}

/// The same on one line.
pub(crate) fn line(text: &str, most: usize) -> String {
    plain(text, most).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_goes() {
        assert_eq!(plain("a\u{1b}[31mb\r\n\tc\u{0}", 99), "a[31mb\n\tc");
        assert_eq!(plain("x\u{E0041}\u{E0042}\u{202E}y", 99), "xy");
        assert_eq!(plain("नमस्ते 你好", 99), "नमस्ते 你好");
        assert_eq!(line("a\nb", 99), "a b");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(plain("äöüß", 3), "äöü…");
        assert_eq!(plain("äöü", 3), "äöü");
    }
}
