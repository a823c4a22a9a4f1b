//! Undefined terms: words outside the general vocabulary that nothing explains.
//!
//! Terms are recognised by form (rarity, word formation, capitals, quotation marks,
//! repetition), definitions by pattern. Deliberately absent: any list of a subject's terms.

use std::{collections::HashMap, ops::Range};

use lyceum_core::{GapKind, Severity};

use super::{
    chinese,
    english::{self, ADJECTIVE, ADVERB, NOUN, VERB},
    finding::{Finding, is_example},
    gloss::{Gloss, glosses},
    text::{Class, Document, Language, Sentence, Word, is_chinese},
};

/// The most undefined terms reported of one text.
const MOST: usize = 4;
/// The longest term considered, in words.
const LONGEST: usize = 4;

/// A phrase that looks like a term.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Base forms of its words, joined: the same for all its forms.
    pub key: String,
    pub range: Range<usize>,
    pub sentence: usize,
    /// Its words in the sentence.
    pub words: Range<usize>,
    /// How technical it looks, 0–1.
    pub score: f32,
}

/// Finds terms of the text that neither it nor what was said before explains.
pub(super) fn undefined(
    document: &Document<'_>,
    earlier: &[Document<'_>],
    topic: &str,
    care: u8,
) -> Vec<Finding> {
    let candidates = candidates(document);
    let mut groups: HashMap<&str, Vec<&Candidate>> = HashMap::new();
    let mut order = Vec::new();
    for candidate in &candidates {
        let group = groups.entry(candidate.key.as_str()).or_default();
        if group.is_empty() {
            order.push(candidate.key.as_str());
        }
        group.push(candidate);
    }
    let said: Vec<Candidate> = earlier.iter().flat_map(self::candidates).collect();
    let topic = topic.to_lowercase();
    let topic_words: Vec<String> = super::english::words(&topic, 0)
        .into_iter()
        .map(|word| word.base)
        .collect();
    let glossed: Vec<&str> = candidates
        .iter()
        .take(2_000)
        .filter(|candidate| glosses(document, candidate) == Gloss::Full)
        .map(|candidate| candidate.key.as_str())
        .take(200)
        .collect();
    let mut findings = Vec::new();
    for key in order {
        let group = &groups[key];
        let first = group[0];
        if is_topic(key, &topic, &topic_words) {
            continue;
        }
        let mut gloss = Gloss::None;
        if glossed
            .iter()
            .any(|known| key.starts_with(*known) || known.ends_with(key))
        {
            gloss = Gloss::Full;
        }
        for candidate in group.iter().take(24) {
            gloss = gloss.max(glosses(document, candidate));
        }
        if said.iter().any(|old| old.key == key) {
            // It was met before; asking again would try the learner's patience.
            gloss = gloss.max(Gloss::Full);
        }
        let mut confidence = group.iter().map(|c| c.score).fold(0.0, f32::max);
        if group.len() > 1 {
            confidence += 0.1;
        }
        if group.iter().all(|c| is_example(document, c.sentence)) {
            confidence -= 0.15;
        }
        confidence -= match gloss {
            Gloss::Full => 1.0,
            Gloss::Partial => match care {
                0..=2 => 0.02,
                3 => 0.14,
                _ => 0.25,
            },
            Gloss::None => 0.0,
        };
        if care >= 4 {
            // In a careful text a single rare word is most often meant to be plain.
            confidence -= 0.1;
        }
        if confidence <= 0.3 {
            continue;
        }
        findings.push(Finding {
            kind: GapKind::UndefinedTerm,
            range: first.range.clone(),
            sentence: first.sentence,
            confidence: confidence.min(0.95),
            severity: if confidence >= 0.7 {
                Severity::High
            } else {
                Severity::Medium
            },
            focus: key.to_owned(),
        });
    }
    drop_parts(document, &mut findings);
    findings.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    findings.truncate(MOST);
    findings
}

/// Of "loss" and "loss function" only the longer one is asked for.
fn drop_parts(document: &Document<'_>, findings: &mut Vec<Finding>) {
    let quotes: Vec<String> = findings
        .iter()
        .map(|f| document.quote(&f.range).to_lowercase())
        .collect();
    let mut index = 0;
    findings.retain(|_| {
        let own = &quotes[index];
        let contained = quotes.iter().enumerate().any(|(other, quote)| {
            other != index && quote.len() > own.len() && quote.contains(own.as_str())
        });
        index += 1;
        !contained
    });
}

fn is_topic(key: &str, topic: &str, topic_words: &[String]) -> bool {
    if topic.is_empty() {
        return false;
    }
    if key.chars().any(is_chinese) {
        return topic.contains(key) || key.contains(topic);
    }
    key.split(' ')
        .all(|word| topic_words.iter().any(|t| t == word))
}

/// All phrases of a text that look like terms, in order.
pub(super) fn candidates(document: &Document<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        match sentence.language {
            Language::English => english_runs(sentence, index, &mut found),
            Language::Chinese => chinese_runs(sentence, index, &mut found),
        }
    }
    found
}

/// Whether two neighbouring words are separated by blanks only.
fn adjoin(sentence: &Sentence<'_>, left: &Word, right: &Word) -> bool {
    sentence.text[left.range.end - sentence.start..right.range.start - sentence.start]
        .chars()
        .all(char::is_whitespace)
}

fn surface<'t>(sentence: &Sentence<'t>, word: &Word) -> &'t str {
    &sentence.text[word.range.start - sentence.start..word.range.end - sentence.start]
}

fn push(
    sentence: &Sentence<'_>,
    index: usize,
    words: Range<usize>,
    score: f32,
    found: &mut Vec<Candidate>,
) {
    let bases: Vec<&str> = sentence.words[words.clone()]
        .iter()
        .map(|word| word.base.as_str())
        .collect();
    let separator = match sentence.language {
        Language::English => " ",
        Language::Chinese => "",
    };
    let range = sentence.words[words.start].range.start..sentence.words[words.end - 1].range.end;
    let score = if is_quoted(sentence, &range) {
        (score + 0.3).max(0.6)
    } else {
        score
    };
    found.push(Candidate {
        key: bases.join(separator),
        range,
        sentence: index,
        words,
        score,
    });
}

fn is_quoted(sentence: &Sentence<'_>, range: &Range<usize>) -> bool {
    let before = sentence.text[..range.start - sentence.start]
        .chars()
        .next_back();
    let after = sentence.text[range.end - sentence.start..].chars().next();
    before.is_some_and(|c| "\"“「『'‘*`".contains(c))
        && after.is_some_and(|c| "\"”」』'’*`".contains(c))
}

fn english_runs(sentence: &Sentence<'_>, index: usize, found: &mut Vec<Candidate>) {
    let words = &sentence.words;
    let shouting = is_shouting(sentence);
    let mut at = 0;
    while at < words.len() {
        if !may_stand_in_term(sentence, at) {
            at += 1;
            continue;
        }
        let mut end = at + 1;
        while end < words.len()
            && end - at < LONGEST + 2
            && may_stand_in_term(sentence, end)
            && adjoin(sentence, &words[end - 1], &words[end])
            && !is_verb_here(sentence, end)
        {
            end += 1;
        }
        english_run(sentence, index, at..end, shouting, found);
        at = end;
    }
}

fn may_stand_in_term(sentence: &Sentence<'_>, at: usize) -> bool {
    let word = &sentence.words[at];
    match word.class {
        Class::Rare => !word.may_be(ADVERB) && surface(sentence, word).chars().count() > 1,
        Class::Common => word.may_be(NOUN | ADJECTIVE) && surface(sentence, word) != "means",
        Class::Function | Class::Number => false,
    }
}

/// Whether a rare word looks like a verb at this place, or a common one acts as one.
fn is_verb_here(sentence: &Sentence<'_>, at: usize) -> bool {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    let determiner_follows = sentence.words.get(at + 1).is_some_and(|next| {
        next.class == Class::Function
            && matches!(
                next.base.as_str(),
                "the"
                    | "a"
                    | "an"
                    | "its"
                    | "their"
                    | "our"
                    | "this"
                    | "that"
                    | "these"
                    | "into"
                    | "to"
                    | "from"
                    | "it"
                    | "them"
                    | "your"
                    | "us"
                    | "when"
                    | "by"
            )
    });
    let verbal = text.ends_with('s') && !text.ends_with("ss") && !text.ends_with("sis")
        || text.ends_with("ed")
        || text.ends_with("ing");
    match word.class {
        Class::Rare => {
            (verbal && determiner_follows)
                || [
                    "izes", "ises", "ifies", "ized", "ised", "ified", "ates", "ated",
                ]
                .iter()
                .any(|ending| text.ends_with(ending))
        }
        _ => {
            word.may_be(VERB)
                && (determiner_follows && !text.ends_with("ion") || !word.may_be(NOUN))
        }
    }
}

fn english_run(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    shouting: bool,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    let rare: Vec<usize> = run
        .clone()
        .filter(|&at| words[at].class == Class::Rare)
        .collect();
    let (Some(&first), Some(&last)) = (rare.first(), rare.last()) else {
        everyday_compound(sentence, index, run, found);
        return;
    };
    // A verb-like or evaluating word in front does not belong to the term.
    let mut begin = first;
    while begin > run.start && {
        let word = &words[begin - 1];
        word.may_be(NOUN) && !word.may_be(VERB)
    } {
        begin -= 1;
    }
    let mut end = last + 1;
    while end < run.end && {
        let word = &words[end];
        word.may_be(NOUN)
            && !(word.may_be(VERB) && surface(sentence, &words[last]).ends_with('s'))
            && (is_capitalised(sentence, last) || !surface(sentence, word).ends_with("ing"))
            && !(word.may_be(VERB) && surface(sentence, word).ends_with('s'))
    } {
        end += 1;
    }
    let (begin, end) = if end - begin > LONGEST {
        (first, (first + LONGEST).min(end))
    } else {
        (begin, end)
    };
    let mut score = rare
        .iter()
        .filter(|&&at| at < end)
        .map(|&at| rarity(sentence, at, shouting))
        .fold(0.0, f32::max);
    let is_name = is_capitalised(sentence, first);
    if end - begin > 1 {
        score += 0.08;
        if is_name || rare.len() > 1 {
            score = score.max(0.62);
        }
    }
    if is_name
        && words[begin..end]
            .iter()
            .any(|word| PLACE_HEADS.contains(&word.base.as_str()))
    {
        return;
    }
    push(sentence, index, begin..end, score, found);
}

/// After a name they make the name of a place, a person or a group.
const PLACE_HEADS: &[&str] = &[
    "mountain",
    "river",
    "lake",
    "city",
    "street",
    "university",
    "company",
    "island",
    "ocean",
    "sea",
    "bridge",
    "war",
    "empire",
    "family",
    "school",
    "desert",
    "valley",
    "king",
    "queen",
    "president",
    "country",
    "coast",
    "bay",
];

/// Two everyday nouns that together may be a term: "opportunity cost", "base case".
fn everyday_compound(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    for head in run.clone().skip(1) {
        let (left, right) = (&words[head - 1], &words[head]);
        let next_is_noun = head + 1 < run.end && words[head + 1].may_be(NOUN);
        if next_is_noun || !right.may_be(NOUN) {
            continue;
        }
        let ends_term = COMPOUND_HEADS.contains(&right.base.as_str());
        let noun_first = left.may_be(NOUN) && (!left.may_be(VERB) || ends_term);
        let plain = left.may_be(ADJECTIVE) && !left.may_be(NOUN);
        if plain && PLAIN_ADJECTIVES.contains(&left.base.as_str()) {
            continue;
        }
        let score = match (noun_first, ends_term) {
            (true, true) => 0.5,
            (true, false) => 0.3,
            (false, true) if left.may_be(ADJECTIVE) => 0.4,
            _ => continue,
        };
        let begin = if head >= run.start + 2
            && words[head - 2].may_be(NOUN)
            && !words[head - 2].may_be(VERB | ADJECTIVE)
        {
            head - 2
        } else {
            head - 1
        };
        push(sentence, index, begin..head + 1, score, found);
    }
}

/// Nouns that name abstract constructions in every subject, so that what stands before
/// them is often a term.
const COMPOUND_HEADS: &[&str] = &[
    "effect",
    "theory",
    "principle",
    "law",
    "function",
    "rate",
    "cost",
    "cycle",
    "potential",
    "force",
    "rule",
    "equation",
    "model",
    "system",
    "structure",
    "index",
    "ratio",
    "energy",
    "case",
    "method",
    "process",
    "stack",
    "tree",
    "graph",
    "table",
    "field",
    "wave",
    "chain",
    "pressure",
    "balance",
    "curve",
    "point",
    "space",
    "state",
    "tax",
    "policy",
    "bias",
    "error",
    "test",
    "set",
    "value",
    "code",
    "network",
    "protocol",
    "layer",
    "order",
    "reserve",
    "bond",
    "loop",
    "number",
    "condition",
    "memory",
    "power",
    "response",
    "signal",
    "transfer",
    "exchange",
    "pattern",
    "series",
    "limit",
    "scale",
    "mechanism",
    "reaction",
];

/// Adjectives that say nothing special about a noun.
const PLAIN_ADJECTIVES: &[&str] = &[
    "good",
    "bad",
    "big",
    "small",
    "large",
    "new",
    "old",
    "same",
    "different",
    "other",
    "main",
    "important",
    "certain",
    "whole",
    "simple",
    "real",
    "next",
    "last",
    "first",
    "second",
    "third",
    "single",
    "right",
    "wrong",
    "correct",
    "common",
    "normal",
    "special",
    "similar",
    "great",
    "little",
    "high",
    "low",
    "higher",
    "lower",
    "long",
    "short",
    "full",
    "empty",
    "final",
    "own",
    "easy",
    "hard",
    "better",
    "best",
    "worst",
    "entire",
    "specific",
    "extra",
    "total",
    "given",
    "original",
    "possible",
    "strong",
    "weak",
    "more",
    "nice",
    "huge",
    "tiny",
    "fast",
    "slow",
    "smaller",
    "larger",
    "bigger",
    "separate",
    "complete",
    "clear",
    "basic",
    "general",
    "particular",
    "usual",
    "current",
    "previous",
    "human",
    "equal",
    "exact",
    "famous",
    "typical",
    "average",
    "only",
    "such",
    "hot",
    "cold",
    "warm",
    "heavy",
    "light",
    "modern",
    "known",
    "constant",
    "required",
    "average",
    "busy",
    "sharp",
];

fn is_capitalised(sentence: &Sentence<'_>, at: usize) -> bool {
    at > 0
        && surface(sentence, &sentence.words[at])
            .chars()
            .next()
            .is_some_and(char::is_uppercase)
}

fn is_shouting(sentence: &Sentence<'_>) -> bool {
    let (mut upper, mut lower) = (0, 0);
    for c in sentence.text.chars() {
        upper += usize::from(c.is_ascii_uppercase());
        lower += usize::from(c.is_ascii_lowercase());
    }
    upper > lower
}

/// Capital abbreviations of everyday life.
const EVERYDAY_CAPITALS: &[&str] = &[
    "OK", "TV", "USA", "US", "UK", "EU", "AM", "PM", "PC", "CEO", "FAQ", "DIY", "ID", "AC", "BC",
    "AD", "UN", "DVD", "CD", "A", "I", "PDF", "GPS",
];

/// How technical one rare word looks.
fn rarity(sentence: &Sentence<'_>, at: usize, shouting: bool) -> f32 {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let upper = text.chars().filter(|c| c.is_uppercase()).count();
    if EVERYDAY_CAPITALS.contains(&text) {
        return 0.0;
    }
    if !shouting && upper >= 2 && letters <= 7 {
        return 0.72;
    }
    if text.contains('_') || (upper > 0 && !text.starts_with(char::is_uppercase)) {
        return 0.62;
    }
    if text.contains('-') {
        return if upper > 0 { 0.62 } else { 0.5 };
    }
    if is_capitalised(sentence, at) && !shouting {
        // A lone capitalised word in mid-sentence is most often a name.
        return if looks_technical(&word.base) {
            0.5
        } else {
            0.2
        };
    }
    if english::is_derived(&word.base) {
        return 0.45;
    }
    let mut score: f32 = 0.47;
    if looks_technical(&word.base) {
        score += 0.2;
    }
    if letters >= 9 {
        score += 0.08;
    }
    if letters <= 5 {
        score -= 0.04;
    }
    score
}

/// Whether a word is formed like a learned word: Greek and Latin pieces.
fn looks_technical(word: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "tion", "sion", "sis", "ase", "ose", "gen", "phyll", "ity", "ism", "ology", "logy",
        "metry", "graph", "graphy", "oid", "ium", "ide", "cyte", "plasm", "plast", "some", "phil",
        "phile", "lysis", "ine", "ane", "ene", "ics", "tron", "ic", "us", "um", "ia", "meter",
        "scope", "phore", "zyme", "stasis", "trophy", "emia", "itis", "osis", "ule", "cule",
        "icle", "ant", "ent", "ance", "ence", "ancy", "ency", "tude", "ient", "ment", "ator",
        "oma", "ton", "yte", "ix", "ex", "ema", "ule", "ion", "erre", "eme",
    ];
    const BEGINNINGS: &[&str] = &[
        "bio", "photo", "chloro", "hydro", "electro", "thermo", "poly", "mono", "iso", "meta",
        "micro", "nano", "neuro", "geo", "hyper", "hypo", "anti", "endo", "exo", "proto", "pseudo",
        "mito", "cyto", "auto", "hetero", "homo", "macro", "inter", "trans", "sub", "super",
        "quasi", "eigen", "phospho", "glyco", "lipo", "pyro", "ribo", "bi", "tri", "di", "multi",
        "semi", "syn", "sym", "peri", "para", "dys", "eu", "cryo", "aero", "astro", "chromo",
        "crypto", "encapsul", "de", "en",
    ];
    let strong = |affix: &&str| affix.len() >= 4;
    ENDINGS.iter().any(|ending| {
        word.strip_suffix(ending)
            .is_some_and(|stem| stem.chars().count() >= 3)
    }) || BEGINNINGS.iter().any(|beginning| {
        word.strip_prefix(beginning)
            .is_some_and(|rest| rest.chars().count() >= if strong(&beginning) { 3 } else { 6 })
    })
}

fn chinese_runs(sentence: &Sentence<'_>, index: usize, found: &mut Vec<Candidate>) {
    let words = &sentence.words;
    let mut at = 0;
    while at < words.len() {
        if !is_nominal(sentence, at) {
            at += 1;
            continue;
        }
        let mut end = at + 1;
        while end < words.len()
            && end - at < LONGEST
            && (is_nominal(sentence, end) || is_tail(sentence, end))
            && words[end - 1].range.end == words[end].range.start
        {
            end += 1;
        }
        chinese_run(sentence, index, at..end, found);
        at = end;
    }
}

/// "拉链|法", "海马|体": a single character that makes a term of what stands before it.
fn is_tail(sentence: &Sentence<'_>, at: usize) -> bool {
    let Some(word) = sentence.words.get(at) else {
        return false;
    };
    let mut chars = word.base.chars();
    let single = chars.next().filter(|_| chars.next().is_none());
    single.is_some_and(|c| TAILS.contains(c)) && word.class != Class::Function
}

fn is_nominal(sentence: &Sentence<'_>, at: usize) -> bool {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    if !text.chars().any(is_chinese) {
        return word.class == Class::Rare;
    }
    match word.class {
        Class::Function | Class::Number => false,
        Class::Rare => text.chars().count() >= 2 && !word.may_be(ADVERB),
        Class::Common => word.may_be(NOUN) && text.chars().count() >= 2 && word.frequency < 12_000,
    }
}

fn chinese_run(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    let slot = stands_as_noun(sentence, &run);
    let best = run
        .clone()
        .map(|at| chinese_rarity(sentence, at, slot))
        .fold(0.0, f32::max);
    if best <= 0.2 {
        chinese_compound(sentence, index, run, slot, found);
        return;
    }
    // A verb or a common noun at the edge belongs to the sentence rather than the term.
    let technical: Vec<usize> = run
        .clone()
        .filter(|&at| chinese_rarity(sentence, at, slot) > 0.2)
        .filter(|&at| {
            slot || words[at].may_be(NOUN) || words[at].base.is_ascii() || is_tail(sentence, at + 1)
        })
        .collect();
    let (Some(&first), Some(&last)) = (technical.first(), technical.last()) else {
        return;
    };
    // "遗传|漂变": a common noun directly in front belongs to the term.
    let first =
        if first > run.start && words[first - 1].may_be(NOUN) && words[first - 1].frequency < 6_000
        {
            first - 1
        } else {
            first
        };
    let mut end = last + 1;
    if end < run.end && (slot || words[end].may_be(NOUN)) {
        end += 1;
    }
    let mut joined = if end - first > 1 { 0.16 } else { 0.0 };
    if (first + 1..end).any(|at| is_tail(sentence, at)) {
        joined = 0.2;
    }
    push(sentence, index, first..end, best + joined, found);
}

/// Two everyday nouns that together may be a term: "损失函数".
fn chinese_compound(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    slot: bool,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    for head in run.clone().skip(1) {
        let (left, right) = (&words[head - 1], &words[head]);
        if is_tail(sentence, head) && "法率性论律式学定主".contains(right.base.as_str()) {
            push(sentence, index, head - 1..head + 1, 0.5, found);
        } else if CHINESE_HEADS.contains(&right.base.as_str())
            && (left.may_be(NOUN) || slot)
            && left.frequency < 9_000
            && !surface(sentence, right).chars().all(|c| c.is_ascii())
        {
            push(sentence, index, head - 1..head + 1, 0.46, found);
        }
    }
}

/// Chinese nouns like [`COMPOUND_HEADS`].
const CHINESE_HEADS: &[&str] = &[
    "函数", "定律", "原理", "效应", "定理", "速度", "成本", "系统", "算法", "模型", "机制", "反应",
    "协议", "结构", "曲线", "方程", "指数", "系数", "理论", "法则", "周期", "循环", "网络", "信号",
    "电位", "政策", "利率", "曲率", "变量", "空间", "距离", "矩阵", "能量", "质量", "密度", "压力",
    "阻力", "张力", "电压", "势能", "动能", "平衡", "分布", "样本", "假设", "检验", "验证", "误差",
    "偏差", "梯度", "链表", "队列", "线程", "进程", "缓存", "索引", "事务", "主义", "制度", "运动",
    "选择", "作用",
];

/// How technical one Chinese word looks.
fn chinese_rarity(sentence: &Sentence<'_>, at: usize, slot: bool) -> f32 {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    if !text.chars().any(is_chinese) {
        let upper = text.chars().filter(|c| c.is_uppercase()).count();
        return if EVERYDAY_CAPITALS.contains(&text) || word.class != Class::Rare {
            0.0
        } else if upper >= 2 {
            0.72
        } else {
            0.55
        };
    }
    let count = text.chars().count();
    if word.class != Class::Rare || count < 2 {
        return 0.0;
    }
    let mut score: f32 = match word.frequency {
        // Guessed by the segmenter: often no word at all.
        0..=1 => 0.32,
        2..=30 => 0.46,
        31..=150 => 0.41,
        151..=400 => 0.34,
        _ => 0.28,
    };
    let noun = word.speech & NOUN != 0 || slot || is_tail(sentence, at + 1);
    if !noun {
        score -= 0.16;
    }
    let last = text.chars().next_back();
    if noun && last.is_some_and(|c| TAILS.contains(c)) {
        score += 0.18;
    }
    if count == 2
        && last == Some('子')
        && !text.starts_with([
            '电', '原', '分', '质', '中', '离', '光', '粒', '量', '算', '因',
        ])
    {
        score -= 0.2;
    }
    if count == 4 && chinese::is_transparent(text) {
        score -= 0.15;
    }
    match count {
        0..=2 => {}
        3 => score += 0.05,
        _ => score += 0.14,
    }
    if count >= 2 && text.chars().filter(|c| SOUNDS.contains(*c)).count() * 2 > count {
        // A foreign name written by sound; as a rule somebody's law or effect.
        score += 0.08;
    }
    score
}

/// "…的感抗会…", "通过反向传播来": what stands between grammar words is used as a noun,
/// whatever the segmenter calls it.
fn stands_as_noun(sentence: &Sentence<'_>, run: &Range<usize>) -> bool {
    const LEADS: &[&str] = &[
        "的", "提出", "达到", "叫", "叫做", "使用", "用", "发生", "进行", "产生", "通过", "经过",
        "存在", "形成", "由", "和", "与", "避免", "处于", "出现", "引起", "导致", "涉及", "利用",
        "根据", "有", "是", "实现", "采用", "靠", "依靠", "属于", "称为", "了", "跟", "还有", "做",
    ];
    let words = &sentence.words;
    let first = &words[run.start];
    let led = match run.start.checked_sub(1).map(|left| &words[left]) {
        Some(left) => left.range.end < first.range.start || LEADS.contains(&left.base.as_str()),
        None => true,
    };
    let ended = words.get(run.end).is_none_or(|right| {
        let apart = right.range.start > words[run.end - 1].range.end;
        apart || right.class == Class::Function && right.base != "了" && right.base != "着"
    });
    led && ended
}

/// Last characters of Chinese learned words: substance, body, quality, rate, law, …
const TAILS: &str = "物素酶体质性率量值数律理论学法式核膜器波场能态衡树表图阵元键链集域层码荷程制义准频矩熵差商碱酸盐胞肽剂幂栈币债液权税轴带晶粒磁压抗阻容感应效度觉欲原毒菌疫苗症瘤线角积商积根系统权约";
/// Characters that write foreign names by sound.
const SOUNDS: &str =
    "斯尔克伦诺瑞利特拉德巴贝叶夫洛维亚里奥科卡恩曼森顿莱弗格姆罗尼米奇布鲁托达安赫兹普朗欧";
