//! From bytes of tokens to text that may be sent on: whole characters, and nothing of a
//! stop text.
//!
//! Pure. Invariant: the pieces that come out, joined, are the answer up to the first stop
//! text, whatever the pieces that went in. Deliberately absent: tokens themselves.

/// Joins the bytes of tokens into whole characters.
#[derive(Debug, Default)]
pub(crate) struct TextJoiner {
    pending: Vec<u8>,
}

impl TextJoiner {
    /// Takes the bytes of one token and gives the characters that are complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    match error.error_len() {
                        // A character that the next token may complete.
                        None => {
                            self.pending.drain(..valid);
                            return text;
                        }
                        Some(wrong) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.pending.drain(..valid + wrong);
                        }
                    }
                }
            }
        }
    }

    /// What is left when no token follows: a cut character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Cuts the answer before the first stop text, holding back what may become one.
#[derive(Debug)]
pub(crate) struct StopTexts {
    stops: Vec<String>,
    held: String,
}

/// What [`StopTexts::push`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// Text that no stop text can claim any more, maybe empty.
    Clear(String),
    /// The rest of the answer; a stop text follows it.
    Stopped(String),
}

impl StopTexts {
    /// Empty stop texts are ignored.
    pub(crate) fn new(stops: &[String]) -> Self {
        Self {
            stops: stops
                .iter()
                .filter(|stop| !stop.is_empty())
                .cloned()
                .collect(),
            held: String::new(),
        }
    }

    /// Takes more of the answer.
    pub(crate) fn push(&mut self, text: &str) -> Scan {
        self.held.push_str(text);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()));
        if let Some(at) = found.min() {
            self.held.truncate(at);
            return Scan::Stopped(std::mem::take(&mut self.held));
        }
        let mut starts = self.held.char_indices().map(|(at, _)| at);
        let keep_from = starts.find(|at| {
            let tail = &self.held[*at..];
            self.stops.iter().any(|stop| stop.starts_with(tail))
        });
        let held = match keep_from {
            Some(at) => self.held.split_off(at),
            None => String::new(),
        };
        Scan::Clear(std::mem::replace(&mut self.held, held))
    }

    /// What is held back when no more text comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_characters_are_joined_and_wrong_bytes_replaced() {
        let mut joiner = TextJoiner::default();
        let owl = "🦉".as_bytes();
        assert_eq!(joiner.push(&owl[..1]), "");
        assert_eq!(joiner.push(&owl[1..3]), "");
        assert_eq!(
            joiner.push(&[owl[3], b'!', 0xFF, b'?', 0xE4]),
            "🦉!\u{FFFD}?"
        );
        assert_eq!(joiner.finish(), "\u{FFFD}");
        assert_eq!(joiner.finish(), "");
    }

    #[test]
    fn every_way_of_cutting_the_text_stops_at_the_same_place() {
        let text = "née END EN🦉D EN\nDone, not shown";
        let stops = ["\nD".to_owned(), String::new(), "🦉x".to_owned()];
        for size in 1..text.len() {
            let (mut joiner, mut scanner) = (TextJoiner::default(), StopTexts::new(&stops));
            let mut answer = String::new();
            for piece in text.as_bytes().chunks(size) {
                match scanner.push(&joiner.push(piece)) {
                    Scan::Clear(text) => answer.push_str(&text),
                    Scan::Stopped(text) => {
                        answer.push_str(&text);
                        break;
                    }
                }
            }
            assert_eq!(answer, "née END EN🦉D EN", "pieces of {size} bytes");
        }
    }

    #[test]
    fn the_earliest_of_several_stop_texts_wins() {
        let mut scanner = StopTexts::new(&["later".into(), "soon".into()]);
        assert_eq!(scanner.push("so"), Scan::Clear(String::new()));
        assert_eq!(scanner.push("on, later"), Scan::Stopped(String::new()));
        let mut scanner = StopTexts::new(&["stop".into()]);
        assert_eq!(scanner.push("a sto"), Scan::Clear("a ".into()));
        assert_eq!(scanner.finish(), "sto");
    }
}
