//! Reads what agents say while they say it: complete claims, objections, rulings.
//!
//! Pure. Invariant: a claim that is complete in a text stays the same, at the same place,
//! in every longer text that begins with it.

/// Shorter pieces are no claims.
const SHORTEST_CHARS: usize = 2;

/// The complete claims of a text: its lines, cut into sentences, without their numbers. A
/// piece that its speaker may still continue is left out unless the text is `complete`.
pub(super) fn claims(text: &str, complete: bool) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        let ended = complete || line.ends_with('\n');
        let mut rest = unnumbered(line.trim_start());
        while let Some(end) = sentence_end(rest) {
            let (sentence, after) = rest.split_at(end);
            found.push(sentence.trim());
            rest = after;
        }
        if ended {
            found.push(rest.trim());
        }
    }
    found.retain(|claim| claim.chars().filter(|c| c.is_alphanumeric()).count() >= SHORTEST_CHARS);
    found
}

/// The objections of a critique; none where the critic says so.
pub(super) fn objections(text: &str, complete: bool) -> Vec<String> {
    let lines = lines(text, complete);
    let lines = lines.into_iter().map(unnumbered);
    lines
        .filter(|line| !is_none(line))
        .map(str::to_owned)
        .collect()
}

/// The complete lines of a text that say something.
pub(super) fn lines(text: &str, complete: bool) -> Vec<&str> {
    let lines = text.split_inclusive('\n');
    let ended = lines.filter(|line| complete || line.ends_with('\n'));
    let mut found: Vec<&str> = ended.map(str::trim).collect();
    found.retain(|line| line.chars().any(char::is_alphanumeric));
    found
}

/// The objections that no ruling resolves. One that the host never ruled on is open.
pub(super) fn open(objections: &[String], moderation: &str) -> Vec<String> {
    let mut resolved = vec![false; objections.len()];
    for line in lines(moderation, true) {
        let Some((number, words)) = number(line) else {
            continue;
        };
        let Some(is_resolved) = number.checked_sub(1).and_then(|at| resolved.get_mut(at)) else {
            continue;
        };
        let first: String = words
            .chars()
            .skip_while(|c| !c.is_alphabetic())
            .take_while(|c| c.is_ascii_alphabetic())
            .collect();
        *is_resolved = first.eq_ignore_ascii_case("resolved");
    }
    let all = objections.iter().zip(resolved);
    all.filter(|(_, resolved)| !resolved)
        .map(|(objection, _)| objection.clone())
        .collect()
}

/// Where the first sentence of a line ends, if it surely does.
fn sentence_end(line: &str) -> Option<usize> {
    line.char_indices().find_map(|(at, c)| {
        let after = at + c.len_utf8();
        match c {
            '。' | '！' | '？' | '；' => Some(after),
            '.' | '!' | '?' => {
                let next = line[after..].chars().next();
                let before = line[..at].chars().next_back();
                // An initial or an abbreviation such as "e.g." does not end a sentence.
                let short = line[..at]
                    .rsplit([' ', '.', '('])
                    .next()
                    .is_some_and(|word| word.chars().count() < 2);
                let ends = next.is_some_and(char::is_whitespace) && before.is_some();
                (ends && !(c == '.' && short)).then_some(after)
            }
            _ => None,
        }
    })
}

/// The number a line begins with, and the words after it.
fn number(line: &str) -> Option<(usize, &str)> {
    let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
    let digits = line
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(line.len());
    let number = line[..digits].parse().ok()?;
    Some((number, &line[digits..]))
}

/// A line without its number or bullet.
fn unnumbered(line: &str) -> &str {
    let line = line.trim_start_matches(['-', '*', '•', '#', ' ']);
    let digits = line
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(line.len());
    let rest = &line[digits..];
    let marks: &[char] = &['.', ')', '、', '．', '）', ':', '：'];
    match rest.strip_prefix(marks) {
        // "3.5 litres" begins with a number of its own.
        Some(words) if digits > 0 && !words.starts_with(|c: char| c.is_ascii_digit()) => {
            words.trim_start()
        }
        _ => line,
    }
}

fn is_none(line: &str) -> bool {
    let word = line.trim_matches(|c: char| !c.is_alphanumeric());
    ["none", "no objection", "no objections", "无", "没有异议"]
        .iter()
        .any(|none| word.eq_ignore_ascii_case(none))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn claims_are_read_as_soon_as_they_are_complete() {
        let text = "1. The moon pulls. It is near.\n2. e.g. 3.5 m of water\n3. Not y";
        let first = ["The moon pulls.", "It is near.", "e.g. 3.5 m of water"];
        assert_eq!(claims(text, false), first);
        assert_eq!(claims(text, true).last(), Some(&"Not y"));
        assert_eq!(claims("水变热。它升", false), ["水变热。"]);
        assert_eq!(claims("1. ", true), [""; 0]);
    }

    #[test]
    fn an_objection_stays_open_until_it_is_resolved() {
        let critique = "1. Claim 1 has no reason.\n2) Claim 2 is vague.\n3. 第三条不清楚。\n";
        let objections = objections(critique, true);
        assert_eq!(objections.len(), 3);
        let ruled = "**1. RESOLVED** — it has.\n2: OPEN, not resolved yet.\n9. RESOLVED";
        assert_eq!(open(&objections, ruled), objections[1..]);
        assert_eq!(super::objections("NONE.", true), [""; 0]);
    }

    proptest! {
        #[test]
        fn a_complete_claim_never_changes(text in "[a-c0-9。.！\\n -]{0,60}", cut in 0usize..60) {
            let chars = text.chars().count();
            let head: String = text.chars().take(cut.min(chars)).collect();
            let early: Vec<String> = claims(&head, false).into_iter().map(Into::into).collect();
            let late = claims(&text, true);
            prop_assert!(late.len() >= early.len());
            for (early, late) in early.iter().zip(late) {
                prop_assert_eq!(early, late);
            }
        }
    }
}
