//! Explanations that turn in a circle: what is explained comes back in what explains it.
//!
//! Two shapes: a definition that repeats its term, and a cause that is then defined by its
//! own effect. Invariant: only words of the learner are compared. Deliberately absent:
//! synonyms, so a circle told in other words is not seen.

use lyceum_core::{GapKind, Severity};

use super::{
    english::NOUN,
    finding::Finding,
    shape::short_body,
    text::{Document, Language, Sentence, Word, find_any},
};

/// Words that name a cause.
const CAUSED: &[&str] = &[
    "because of",
    "because",
    "due to",
    "thanks to",
    "caused by",
    "是因为",
    "因为",
    "由于",
    "归功于",
];
/// What may stand between a word and what it is said to be.
const DEFINED: &[&str] = &[
    "which is",
    "which are",
    "that is",
    "is",
    "are",
    "也就是",
    "就是",
    "是指",
    "是",
];
/// Verbs and nouns that add nothing to what happens.
const LIGHT: &[&str] = &[
    "make",
    "cause",
    "let",
    "do",
    "have",
    "get",
    "happen",
    "thing",
    "something",
    "way",
    "让",
    "使",
    "令",
    "导致",
    "引起",
    "造成",
    "发生",
    "进行",
    "东西",
    "物体",
];

/// The longest sentence, in words, that is compared word by word with another.
const LONGEST: usize = 60;

/// Finds them all; at most one in a sentence.
pub(super) fn find(document: &Document<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before: Option<&Sentence<'_>> = None;
    for (index, sentence) in document.sentences.iter().enumerate() {
        if sentence.is_question {
            continue;
        }
        let closes = match sentence.language {
            Language::English => english_circle(sentence),
            Language::Chinese => chinese_circle(sentence),
        };
        let short = Some(sentence).filter(|sentence| sentence.words.len() <= LONGEST);
        let closes = closes.or_else(|| {
            let sentence = short?;
            own_effect(sentence, sentence)
                .or_else(|| own_effect(before?, sentence))
                .or_else(|| restated(sentence))
        });
        if let Some(term) = closes {
            findings.push(Finding {
                kind: GapKind::CircularDefinition,
                range: short_body(sentence),
                sentence: index,
                confidence: 0.85,
                severity: Severity::High,
                focus: term,
            });
        }
        before = short;
    }
    findings
}

/// "Things fall because of gravity", then "gravity is the force that makes things fall".
fn own_effect(cause: &Sentence<'_>, sentence: &Sentence<'_>) -> Option<String> {
    let caused = find_any(&cause.lower, CAUSED)?;
    let same = std::ptr::eq(cause, sentence);
    let from = if same { caused.end } else { 0 };
    let defined = DEFINED.iter().find_map(|verb| {
        super::text::find_phrase(sentence.lower.get(from..)?, verb)
            .map(|found| from + found.start..from + found.end)
    })?;
    let term = content(sentence, from, defined.start).next_back()?;
    let named = content(cause, caused.end, cause.text.len())
        .take(3)
        .any(|word| word.base == term.base);
    if !named {
        return None;
    }
    let effect: Vec<&Word> = content(cause, 0, caused.start).collect();
    let tail = sentence.text[defined.end..]
        .find([',', '，', ';', '；'])
        .map_or(sentence.text.len(), |cut| defined.end + cut);
    let mut defining: Vec<&Word> = content(sentence, defined.end, tail).collect();
    // The class the term is put in, "the force" or "的力", is no part of the circle.
    if defining.len() > 1 {
        match sentence.language {
            Language::English => drop(defining.remove(0)),
            Language::Chinese => drop(defining.pop()),
        }
    }
    defining.retain(|word| !LIGHT.contains(&word.base.as_str()));
    let known = |word: &&Word| {
        effect
            .iter()
            .any(|other| same_root(&word.base, &other.base))
    };
    (!defining.is_empty() && defining.iter().all(known)).then(|| {
        sentence.text[term.range.start - sentence.start..term.range.end - sentence.start].to_owned()
    })
}

/// "It is dear because it is dear", "sleep makes you fresh because sleep rests you": the
/// reason says nothing new, or one word about the same subject and person.
fn restated(sentence: &Sentence<'_>) -> Option<String> {
    let caused = find_any(&sentence.lower, CAUSED)?;
    let claim: Vec<&Word> = content(sentence, 0, caused.start).collect();
    let reason: Vec<&Word> = content(sentence, caused.end, sentence.text.len()).collect();
    let (subject, first) = (claim.first()?, reason.first()?);
    let new = reason
        .iter()
        .filter(|word| {
            !LIGHT.contains(&word.base.as_str())
                && !claim.iter().any(|other| same_root(&word.base, &other.base))
        })
        .count();
    let person = |from: usize, to: usize| {
        find_any(
            sentence.lower.get(from..to)?,
            &["you", "us", "them", "你", "我们", "人"],
        )
    };
    let people = person(0, caused.start).is_some()
        && person(caused.end, sentence.text.len()).is_some()
        && reason.len() == 2;
    let circles = new == 0 && claim.len() > 1 || new == 1 && people && subject.base == first.base;
    circles.then(|| {
        sentence.text[first.range.start - sentence.start..first.range.end - sentence.start]
            .to_owned()
    })
}

/// The content words of a sentence between two of its offsets.
fn content<'s>(
    sentence: &'s Sentence<'_>,
    from: usize,
    to: usize,
) -> impl DoubleEndedIterator<Item = &'s Word> {
    sentence.words.iter().filter(move |word| {
        word.is_content()
            && word.range.start - sentence.start >= from
            && word.range.end - sentence.start <= to
    })
}

/// "Recursion is when a function is recursive": the term comes back in what defines it.
fn english_circle(sentence: &Sentence<'_>) -> Option<String> {
    let words = &sentence.words;
    let be = words.iter().position(|word| {
        matches!(
            word.base.as_str(),
            "is" | "are" | "mean" | "means" | "refer" | "happens" | "happen" | "occurs" | "occur"
        )
    })?;
    if be == 0 || be > 6 {
        return None;
    }
    // "The logarithm of a number is …": what is defined stands before "of".
    let until = words[..be]
        .iter()
        .position(|word| word.base == "of")
        .unwrap_or(be);
    let term: Vec<&Word> = words[..until]
        .iter()
        .filter(|word| word.is_content())
        .collect();
    let named = words[..until].iter().all(|word| {
        word.is_content()
            || matches!(
                word.base.as_str(),
                "the" | "a" | "an" | "what" | "we" | "call"
            )
    });
    if term.is_empty() || term.len() > 3 || !named {
        return None;
    }
    // The definition ends where the sentence turns to something else.
    let end = sentence.text[words[be].range.end - sentence.start..]
        .find([',', ';', '('])
        .map_or(usize::MAX, |cut| words[be].range.end + cut);
    let defining: Vec<&Word> = words[be + 1..]
        .iter()
        .filter(|word| word.range.start < end)
        .collect();
    let lead = defining.first()?;
    let defines = lead.base == "the"
        || lead.base == "a"
        || lead.base == "an"
        || matches!(
            lead.base.as_str(),
            "when"
                | "where"
                | "how"
                | "what"
                | "something"
                | "just"
                | "simply"
                | "basically"
                | "to"
                | "that"
                | "because"
                | "about"
                | "its"
                | "their"
                | "one"
        )
        || term.last().is_some_and(|head| head.base == lead.base)
        || lead.base.ends_with("ing")
        || sentence.lower[lead.range.start - sentence.start..lead.range.end - sentence.start]
            .ends_with("ing")
        || words[be].base != "is" && words[be].base != "are";
    if !defines {
        return None;
    }
    let repeats = |word: &Word| {
        defining
            .iter()
            .any(|other| other.is_content() && same_root(&word.base, &other.base))
    };
    // In "a prime number is a number that …" the head noun is the class, not a circle; in
    // "a fair price is one that is fair" the quality is what had to be explained.
    let quality = term.len() == 2 && !term[0].may_be(NOUN) && repeats(term[0]);
    if quality {
        return Some(
            sentence.text[term[0].range.start - sentence.start..term[1].range.end - sentence.start]
                .to_owned(),
        );
    }
    term.iter().all(|word| repeats(word)).then(|| {
        let from = term[0].range.start - sentence.start;
        let to = term[term.len() - 1].range.end - sentence.start;
        sentence.text[from..to].to_owned()
    })
}

/// Whether two words come from one root, by their common beginning.
fn same_root(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let common = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let shorter = a.chars().count().min(b.chars().count());
    let longer = a.chars().count().max(b.chars().count());
    common >= 5 && common * 10 >= shorter * 7 && longer - common <= 6
}

/// "光合作用就是进行光合作用的过程".
fn chinese_circle(sentence: &Sentence<'_>) -> Option<String> {
    const DEFINES: &[&str] = &[
        "就是",
        "是指",
        "指的是",
        "意思是",
        "意思就是",
        "的意思是",
        "即",
        "是",
    ];
    let text = sentence.text;
    let (term, rest) = DEFINES.iter().find_map(|verb| {
        let at = text.find(verb)?;
        let term = text[..at]
            .trim()
            .trim_start_matches("所谓")
            .trim_matches(['“', '”', '"', '「', '」', '，', '的']);
        let count = term.chars().count();
        let plain = !term.contains(['，', ',', '。', '：', '、']);
        ((2..=8).contains(&count) && plain).then(|| (term, &text[at + verb.len()..]))
    })?;
    let rest = rest
        .split(['，', '。', '；', '（', ','])
        .next()
        .unwrap_or_default();
    let inside: Vec<&Word> = sentence
        .words
        .iter()
        .filter(|word| word.is_content() && word.range.end - sentence.start <= term.len())
        .collect();
    let whole = rest.contains(term);
    // A term of several words circles when what distinguishes it comes back.
    let parts: Vec<&str> = inside.iter().map(|word| word.base.as_str()).collect();
    let distinguishing = parts.len() > 1
        && parts[..parts.len() - 1]
            .iter()
            .all(|part| part.chars().count() > 1 && rest.contains(part))
        && rest.ends_with(parts[parts.len() - 1]);
    // "加速度就是速度加速的程度", "可持续就是能够持续": two characters come back and little is added.
    let rest_count = rest.chars().count();
    let lead: String = term.chars().take(2).collect();
    let echo = term.chars().count() <= 3
        && rest_count <= 10
        && rest
            .split_once(&lead)
            .is_some_and(|(_, tail)| tail.ends_with(term.chars().next_back().unwrap_or('\0')));
    // "变质岩就是经过变质作用的岩石": all but the class comes back, then the class.
    let count = term.chars().count();
    let stem: String = term.chars().take(count - 1).collect();
    let class = term.chars().next_back().unwrap_or('\0');
    let tail: Vec<char> = rest.chars().rev().take(2).collect();
    let derived = count >= 3 && rest_count <= 14 && rest.contains(&stem) && tail.contains(&class);
    // "必胜残局就是一定会胜的残局": the class, and a character of what sets it apart.
    let mut front = term.chars().take(count.saturating_sub(2));
    let head: String = term.chars().skip(count.saturating_sub(2)).collect();
    let sets_apart = count == 4
        && rest_count <= 9
        && rest.ends_with(&head)
        && front.any(|c| rest[..rest.len() - head.len()].contains(c));
    (whole || distinguishing || echo || derived || sets_apart).then(|| term.to_owned())
}
