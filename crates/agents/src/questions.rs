//! Reads the questions out of a model's text.

use crate::gaps::list_item;

/// Questions kept of one answer.
const MAX_QUESTIONS: usize = 3;
/// Questions read back from what was said before, by a student that asked more.
const MAX_SAID: usize = 10;
/// Characters kept of one question.
const MAX_QUESTION_CHARS: usize = 600;

/// The questions in a text: its list items that ask, else its lines that ask, else its
/// sentences that ask. At most three, none twice.
#[must_use]
pub fn parse_questions(text: &str) -> Vec<String> {
    let mut questions = said_questions(text);
    questions.truncate(MAX_QUESTIONS);
    questions
}

/// The same of a conversation's text, however many there are.
pub(crate) fn said_questions(text: &str) -> Vec<String> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let items: Vec<&str> = lines()
        .filter_map(list_item)
        .filter(|item| asks(item))
        .collect();
    let found = match items.is_empty() {
        false => items,
        true => {
            let whole: Vec<&str> = lines()
                .filter(|line| asks(line) && clean(line).ends_with(['?', '？']))
                .collect();
            if whole.is_empty() {
                text.split_inclusive(['?', '？', '.', '。', '!', '\n'])
                    .filter(|s| asks(s))
                    .collect()
            } else {
                whole
            }
        }
    };
    let mut questions: Vec<String> = Vec::new();
    for question in found {
        let question: String = clean(question).chars().take(MAX_QUESTION_CHARS).collect();
        if !question.is_empty() && !questions.contains(&question) && questions.len() < MAX_SAID {
            questions.push(question);
        }
    }
    questions
}

fn asks(text: &str) -> bool {
    text.contains(['?', '？'])
}

/// The question without marks around it and without a lead-in such as `A student asks: "`.
fn clean(question: &str) -> &str {
    let question = question.trim().trim_matches(['*', '_', '`']).trim();
    match question.split_once(": \"") {
        Some((_, said)) if said.matches('"').count() <= usize::from(said.ends_with('"')) => {
            said.trim_end_matches('"')
        }
        _ => match question
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            Some(inner) if !inner.contains('"') => inner,
            _ => question,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_lines_and_prose() {
        assert_eq!(
            parse_questions("Hm!\n1. Why?\n2. **How so?**\nBye."),
            ["Why?", "How so?"]
        );
        assert_eq!(
            parse_questions("为什么会这样？\n那么氧气呢？"),
            ["为什么会这样？", "那么氧气呢？"]
        );
        assert_eq!(
            parse_questions("I see. But why is it so? Tell me."),
            ["But why is it so?"]
        );
        assert!(parse_questions("Great explanation!").is_empty());
    }

    #[test]
    fn marks_and_lead_ins_are_not_part_of_a_question() {
        for text in [
            "A student asks: \"Why?\"",
            "\"Why?\"",
            "1. \"Why?\"",
            "**Why?**",
            "Student: \"Why?",
        ] {
            assert_eq!(parse_questions(text), ["Why?"], "{text}");
        }
        let quoting = "What does it mean: \"it\" is \"so\"?";
        assert_eq!(parse_questions(quoting), [quoting]);
    }

    #[test]
    fn keeps_three_and_none_twice() {
        let text = "1. a?\n2. a?\n3. b?\n4. c?\n5. d?\n6. e?\n7. f?";
        assert_eq!(parse_questions(text), ["a?", "b?", "c?"]);
    }
}
