//! Whether a text explains a phrase: definitions, appositions, parentheses.
//!
//! Invariant: judged by pattern around the phrase alone.

use super::{
    english::{ADJECTIVE, FUNCTION, NOUN, VERB},
    terms::Candidate,
    text::{Class, Document, Language, Sentence, has_any},
};

/// How well a phrase is explained where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gloss {
    None,
    /// Something is said about it: what it does, or which class it belongs to.
    Partial,
    /// It is said what it is.
    Full,
}

/// Judges one occurrence.
pub(super) fn glosses(document: &Document<'_>, candidate: &Candidate) -> Gloss {
    let sentence = &document.sentences[candidate.sentence];
    let before = &sentence.lower[..candidate.range.start - sentence.start];
    let after = &sentence.lower[candidate.range.end - sentence.start..];
    match sentence.language {
        Language::English => english(sentence, candidate, before, after),
        Language::Chinese => chinese(before, after),
    }
}

fn english(sentence: &Sentence<'_>, candidate: &Candidate, before: &str, after: &str) -> Gloss {
    let lead = before
        .trim_end_matches(['"', '“', '\'', '‘', '*', '`'])
        .trim_end();
    let lead = ["a", "an", "the"]
        .iter()
        .find_map(|article| {
            let cut = lead.strip_suffix(article)?;
            cut.is_empty()
                .then_some(cut)
                .or_else(|| cut.ends_with(' ').then(|| cut.trim_end()))
        })
        .unwrap_or(lead);
    let named = [
        "called",
        "named",
        "known as",
        "termed",
        "referred to as",
        "call it",
        "call this",
        "call that",
        "call these",
        "call them",
        "i.e.",
        "namely",
        "this is",
        "that is",
        "define",
        "defined as",
        "the term",
        "the word",
        "word for",
        "name is",
        "what is",
        "are called",
        "nicknamed",
        "labelled",
        "labeled",
        "which is",
        "which are",
        "by",
    ];
    if named[..named.len() - 1]
        .iter()
        .any(|word| lead.ends_with(word))
    {
        return Gloss::Full;
    }
    let rest = after.trim_start_matches(['"', '”', '\'', '’', '*', '`']);
    let trimmed = rest.trim_start();
    if let Some(inside) = trimmed.strip_prefix('(') {
        let inside = inside.split(')').next().unwrap_or_default();
        if inside.split_whitespace().count() >= 1 {
            return Gloss::Full;
        }
    }
    if before.trim_end().ends_with('(') || lead.ends_with('(') {
        return Gloss::Full;
    }
    if trimmed.starts_with(['—', '–', ':', '=']) || rest.starts_with(" - ") {
        return Gloss::Full;
    }
    if let Some(aside) = trimmed.strip_prefix(',') {
        let aside = aside.trim_start();
        let opens = [
            "a ",
            "an ",
            "the ",
            "which ",
            "or ",
            "that is",
            "meaning",
            "i.e",
            "in other words",
            "where ",
            "who ",
            "one of",
            "also ",
            "what ",
            "basically ",
            "defined",
            "namely",
            "when ",
            "like ",
            "meant ",
            "short for",
        ];
        if opens.iter().any(|opening| aside.starts_with(opening)) {
            return Gloss::Full;
        }
    }
    if has_any(
        trimmed.split([',', '.']).next().unwrap_or_default(),
        &[
            "means",
            "refers to",
            "stands for",
            "is called",
            "are called",
            "is defined",
            "is when",
            "is where",
            "is what",
            "are what",
            "is how",
            "is the name",
            "consists of",
            "is short for",
            "just means",
            "describes how",
            "simply means",
            "mean",
        ],
    ) {
        return Gloss::Full;
    }
    let next = |offset: usize| sentence.words.get(candidate.words.end + offset);
    if let (Some(be), Some(follower)) = (next(0), next(1))
        && matches!(
            be.base.as_str(),
            "is" | "are" | "was" | "were" | "isn't" | "aren't"
        )
    {
        let mut follower = follower;
        for offset in 2..5 {
            if matches!(
                follower.base.as_str(),
                "just"
                    | "simply"
                    | "basically"
                    | "really"
                    | "essentially"
                    | "only"
                    | "not"
                    | "also"
                    | "therefore"
                    | "actually"
            ) && let Some(later) = next(offset)
            {
                follower = later;
            }
        }
        let article = matches!(
            follower.base.as_str(),
            "a" | "an"
                | "the"
                | "any"
                | "one"
                | "what"
                | "when"
                | "how"
                | "where"
                | "some"
                | "that"
                | "two"
                | "its"
                | "their"
                | "your"
                | "those"
                | "this"
                | "each"
                | "like"
        );
        let noun = follower.may_be(NOUN) && !follower.may_be(ADJECTIVE | VERB | FUNCTION)
            || follower.class == Class::Number;
        let ranks = next(2).is_some_and(|word| {
            matches!(
                word.base.as_str(),
                "most" | "least" | "main" | "good" | "key" | "important" | "bad" | "reason"
            )
        });
        return if (article && !ranks) || noun {
            Gloss::Full
        } else {
            Gloss::Partial
        };
    }
    let begins = candidate.words.start == 0
        || (candidate.words.start == 1
            && matches!(
                sentence.words[0].base.as_str(),
                "the" | "a" | "an" | "each" | "every" | "this" | "these"
            ));
    if begins && next(0).is_some_and(|word| word.may_be(VERB) && word.class != Class::Function) {
        return Gloss::Partial;
    }
    // "the enzyme rubisco": the class word in front says what it is.
    if let Some(class) = candidate
        .words
        .start
        .checked_sub(1)
        .and_then(|at| sentence.words.get(at))
        && class.class == Class::Common
        && class.speech == NOUN
        && candidate.words.len() == 1
    {
        return Gloss::Partial;
    }
    Gloss::None
}

fn chinese(before: &str, after: &str) -> Gloss {
    let lead = before.trim_end_matches(['"', '“', '「', '『', '《', ' ']);
    let named = [
        "叫做",
        "叫作",
        "称为",
        "称作",
        "称之为",
        "名为",
        "所谓",
        "所谓的",
        "叫",
        "也就是",
        "即",
        "定义",
        "什么是",
        "又称",
        "也叫",
        "俗称",
        "简称",
        "被称为",
        "成为了",
        "（",
        "(",
        "指的是",
        "这就是",
        "一种",
    ];
    if named.iter().any(|word| lead.ends_with(word)) {
        return Gloss::Full;
    }
    // "这个最小的情形就是基准情形" names what stands before; "它就是B树" does not.
    if let Some(named) = lead.strip_suffix("就是") {
        let clause = named.rsplit(['，', '。', ',']).next().unwrap_or_default();
        if clause.chars().count() >= 6 {
            return Gloss::Full;
        }
    }
    let rest = after.trim_start_matches(['"', '”', '」', '』', '》', ' ']);
    let defines = [
        "是指",
        "指的是",
        "指",
        "就是",
        "即",
        "也就是",
        "意思是",
        "意味着",
        "是一",
        "是用",
        "是由",
        "是把",
        "是在",
        "是从",
        "是每",
        "是一种",
        "（",
        "(",
        "：",
        ":",
        "——",
        "叫",
        "是：",
        "定义为",
        "可以理解为",
        "简单说",
        "简单来说",
        "说的是",
        "的意思",
        "的定义",
        "，也就是",
        "，即",
        "，就是",
        "，指",
        "，是",
        "，它是",
        "，又叫",
        "是那",
        "是我",
        "是你",
        "是个",
        "是衡量",
        "是能",
        "是两",
        "是当",
        "是不",
        "是对",
        "是按",
        "是所",
        "，意思",
    ];
    if defines.iter().any(|word| rest.starts_with(word)) {
        return Gloss::Full;
    }
    if rest.starts_with('是') {
        return if rest.chars().take_while(|c| !"，。；".contains(*c)).count() > 6 {
            Gloss::Full
        } else {
            Gloss::Partial
        };
    }
    let begins = before.trim().is_empty() || before.trim_end().ends_with(['，', ',', '。']);
    if begins
        && [
            "表示", "代表", "描述", "会", "能", "负责", "用来", "可以", "把", "包括", "由", "通过",
            "越",
        ]
        .iter()
        .any(|word| rest.starts_with(word))
    {
        return Gloss::Partial;
    }
    Gloss::None
}
