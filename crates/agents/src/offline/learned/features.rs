//! The features of a text, of its units and of its terms.
//!
//! Invariant: linear in the text. [`VERSION`] changes with every change here, for the
//! weights were learnt from exactly these features.

use lyceum_core::GapKind;

use super::{
    super::{
        finding::{Finding, Frame},
        gloss::Gloss,
        text::{Class, Document, Language, Word},
    },
    context::{Relation, relations},
    lexical, ranks,
    sink::Features,
    terms::Term,
    units::{LISTS, Unit, units},
};

/// What the weights have to agree with.
pub(crate) const VERSION: u32 = 2;

/// The kinds that the rules report, by place in the model.
pub(super) const KINDS: [GapKind; 11] = [
    GapKind::Contradiction,
    GapKind::CircularDefinition,
    GapKind::MissingMechanism,
    GapKind::MissingStep,
    GapKind::UndefinedTerm,
    GapKind::UnsupportedClaim,
    GapKind::OverGeneralisation,
    GapKind::BoundaryCase,
    GapKind::BrokenAnalogy,
    GapKind::MissingExample,
    GapKind::VagueWord,
];

/// What the features are read from.
pub(super) struct Reading<'d> {
    pub document: &'d Document<'d>,
    pub frame: Frame,
    pub units: Vec<Unit<'d>>,
    pub relations: Vec<Relation>,
    /// What the rules found, whatever its confidence.
    pub rules: &'d [Finding],
    /// The highest confidence of a rule in each unit, by kind.
    confidences: Vec<[f32; KINDS.len()]>,
}

impl<'d> Reading<'d> {
    pub(super) fn new(
        document: &'d Document<'d>,
        frame: Frame,
        rules: &'d [Finding],
        topic: &[Word],
    ) -> Self {
        let units = units(document);
        let relations = relations(&units, topic);
        let mut confidences = vec![[0.0_f32; KINDS.len()]; units.len()];
        for finding in rules {
            let first = units.partition_point(|unit| unit.range.end <= finding.range.start);
            let kind = KINDS.iter().position(|kind| *kind == finding.kind);
            for (unit, most) in units.iter().zip(&mut confidences).skip(first) {
                if unit.range.start >= finding.range.end {
                    break;
                }
                if let Some(most) = kind.and_then(|kind| most.get_mut(kind)) {
                    *most = most.max(finding.confidence);
                }
            }
        }
        Self {
            document,
            frame,
            units,
            relations,
            rules,
            confidences,
        }
    }
}

const LEVELS: [f32; 5] = [0.2, 0.4, 0.6, 0.8, 0.999];
const CONFIDENCES: [f32; 6] = [0.2, 0.35, 0.46, 0.56, 0.66, 0.8];
const COUNTS: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0];
const WORDS: [f32; 8] = [4.0, 7.0, 10.0, 13.0, 17.0, 22.0, 28.0, 36.0];

/// The features of a text as a whole.
pub(super) fn text(reading: &Reading<'_>, out: &mut Features) {
    let frame = &reading.frame;
    let units = &reading.units;
    let language = name(reading.document.language);
    out.sign("T", &[language]);
    let both = |group: &str, label: &str, out: &mut Features| {
        out.sign(group, &[label]);
        out.sign(group, &[label, language]);
    };
    for (label, is) in [
        ("reason", frame.has_reason),
        ("example", frame.has_example),
        ("half_example", frame.has_half_example),
        ("limit", frame.has_limit),
        ("half_limit", frame.has_half_limit),
        ("half_reason", frame.has_half_reason),
        ("definition", frame.has_definition),
    ] {
        if is {
            both("T", label, out);
        }
    }
    out.number("T", "care", frame.care(), &[1.0, 1.7, 2.4, 2.9, 3.4, 3.9]);
    out.number(
        "T",
        "reasoning",
        frame.reasoning,
        &[0.1, 0.2, 0.3, 0.45, 0.6],
    );
    out.number(
        "T",
        "units",
        units.len() as f32,
        &[2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0],
    );
    let steps = [25.0, 40.0, 55.0, 70.0, 85.0, 100.0, 120.0, 150.0];
    out.number("T", "words", frame.words as f32, &steps);
    let mean = frame.words as f32 / units.len().max(1) as f32;
    out.number("T", "mean", mean, &WORDS);
    for (list, (label, _)) in LISTS.iter().enumerate() {
        let count = units.iter().filter(|unit| unit.has(list)).count();
        out.number("Tl", label, count as f32, &[1.0, 2.0, 3.0, 5.0]);
        let share = count as f32 / units.len().max(1) as f32;
        out.number("Ts", label, share, &[0.15, 0.3, 0.5]);
    }
    for kind in KINDS {
        let most = reading
            .rules
            .iter()
            .filter(|finding| finding.kind == kind)
            .map(|finding| finding.confidence)
            .fold(0.0, f32::max);
        out.number("Tr", kind.as_str(), most, &CONFIDENCES);
    }
    let all = |of: fn(&Unit<'_>) -> bool| units.iter().filter(|unit| of(unit)).count() as f32;
    out.number(
        "T",
        "numbers",
        all(|unit| !unit.numbers.is_empty()),
        &COUNTS,
    );
    out.number("T", "denials", all(|unit| unit.denials > 0), &COUNTS);
    out.number("T", "questions", all(|unit| unit.is_question), &COUNTS);
    out.number(
        "T",
        "asides",
        all(|unit| unit.lower.contains(['(', '（', '—', '：', ':'])),
        &COUNTS,
    );
    let spoken = all(|unit| {
        unit.lower
            .contains(['\'', '’', '吧', '呢', '啊', '嘛', '啦'])
    });
    out.number("T", "spoken", spoken, &COUNTS);
    let relations = &reading.relations;
    let mean = |of: fn(&Relation) -> f32| {
        relations.iter().map(of).sum::<f32>() / relations.len().max(1) as f32
    };
    out.number(
        "T",
        "novelty",
        mean(|r| r.novelty),
        &[0.5, 0.6, 0.7, 0.8, 0.9],
    );
    out.number(
        "T",
        "resumed",
        mean(|r| r.resumed),
        &[0.1, 0.2, 0.3, 0.4, 0.5],
    );
    let most = |of: fn(&Relation) -> f32| relations.iter().map(of).fold(0.0, f32::max);
    out.number("T", "denied", most(|r| r.denied), &LEVELS);
    out.number("T", "opposed", most(|r| r.opposed), &LEVELS);
    out.number("T", "circling", most(|r| r.circling), &LEVELS);
    if let Some(last) = units.last() {
        for (list, (label, _)) in LISTS.iter().enumerate() {
            if last.has(list) {
                out.sign("Te", &[label]);
            }
        }
        lexical::opening(
            "Teo",
            &lexical::shapes(last)[..2.min(last.words.len())],
            out,
        );
        out.number("Te", "length", last.words.len() as f32, &WORDS);
    }
}

/// The features of one unit.
pub(super) fn unit(reading: &Reading<'_>, at: usize, out: &mut Features) {
    let units = &reading.units;
    let unit = &units[at];
    let shapes = lexical::shapes(unit);
    lexical::add(unit, &shapes, out);
    place(units.len(), at, out);
    for (list, (label, _)) in LISTS.iter().enumerate() {
        let near = |other: Option<usize>| {
            other
                .and_then(|other| units.get(other))
                .is_some_and(|unit| unit.has(list))
        };
        if unit.has(list) {
            out.sign("l", &[label]);
            out.sign("l", &[label, name(unit.language)]);
            if at + 1 == units.len() {
                out.sign("l-last", &[label]);
            }
        }
        if near(at.checked_sub(1)) {
            out.sign("l-before", &[label]);
        }
        if near(Some(at + 1)) {
            out.sign("l-after", &[label]);
        }
    }
    if let Some(next) = units.get(at + 1) {
        let next = lexical::shapes(next);
        lexical::opening("n", &next[..2.min(next.len())], out);
    } else {
        out.sign("n", &["#end"]);
    }
    if let Some(before) = at.checked_sub(1) {
        let before = lexical::shapes(&units[before]);
        lexical::opening("p", &before[..1.min(before.len())], out);
    } else {
        out.sign("p", &["#begin"]);
    }
    rules(reading, at, out);
    measures(unit, out);
    related(&reading.relations[at], name(unit.language), out);
}

fn place(count: usize, at: usize, out: &mut Features) {
    let from_end = count - 1 - at;
    for (label, is) in [
        ("first", at == 0),
        ("second", at == 1),
        ("last", from_end == 0),
        ("last but one", from_end == 1),
        ("only", count == 1),
        ("inside", at > 0 && from_end > 0),
    ] {
        if is {
            out.sign("s", &[label]);
            if count <= 3 {
                out.sign("s", &[label, "short"]);
            }
        }
    }
}

fn rules(reading: &Reading<'_>, at: usize, out: &mut Features) {
    for (kind, most) in KINDS.iter().zip(reading.confidences[at]) {
        out.number("r", kind.as_str(), most, &CONFIDENCES);
        if most > reading.frame.bar(*kind) {
            out.sign("r-bar", &[kind.as_str()]);
        }
    }
}

fn measures(unit: &Unit<'_>, out: &mut Features) {
    let language = name(unit.language);
    out.number("m", "words", unit.words.len() as f32, &WORDS);
    out.number(language, "words", unit.words.len() as f32, &WORDS);
    let commas = unit.lower.matches([',', '，', '、', ';', '；']).count();
    out.number("m", "commas", commas as f32, &COUNTS);
    out.number("m", "numbers", unit.numbers.len() as f32, &COUNTS);
    out.number("m", "denials", unit.denials as f32, &COUNTS);
    out.number("m", "opposites", unit.opposites.len() as f32, &COUNTS);
    let class = |class| unit.words.iter().filter(|word| word.class == class).count() as f32;
    let all = unit.words.len().max(1) as f32;
    out.number("m", "rare", class(Class::Rare), &COUNTS);
    out.number("m", "grammar", class(Class::Function) / all, &LEVELS);
    for (label, marks) in [
        ("quote", &['"', '“', '”', '「', '「'][..]),
        ("bracket", &['(', '（'][..]),
        ("colon", &[':', '：'][..]),
        ("dash", &['—', '–'][..]),
        ("equal", &['=', '%'][..]),
    ] {
        if unit.lower.contains(marks) {
            out.sign("m", &[label]);
        }
    }
    if unit.is_question {
        out.sign("m", &["question"]);
    }
    let compared = unit.words.iter().any(|word| {
        word.base == "more" || word.base == "less" || word.base == "than" || word.base == "更"
    });
    if compared {
        out.sign("m", &["compared"]);
    }
}

fn related(relation: &Relation, language: &str, out: &mut Features) {
    for (label, value) in [
        ("novelty", relation.novelty),
        ("shared", relation.shared),
        ("alike", relation.alike),
        ("denied", relation.denied),
        ("opposed", relation.opposed),
        ("renumbered", relation.renumbered),
        ("repeated", relation.repeated),
        ("circling", relation.circling),
        ("resumed", relation.resumed),
        ("topical", relation.topical),
    ] {
        let steps = [0.05, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.999];
        out.number("x", label, value, &steps);
        out.number(language, label, value, &steps);
    }
}

/// The features of a term that may need a definition.
pub(super) fn term(reading: &Reading<'_>, term: &Term, out: &mut Features) {
    let units = &reading.units;
    let unit = &units[term.unit];
    let language = name(unit.language);
    out.sign("u", &[language]);
    out.number(
        "u",
        "score",
        term.score,
        &[0.1, 0.2, 0.3, 0.4, 0.46, 0.52, 0.6, 0.7, 0.8],
    );
    out.number(
        language,
        "score",
        term.score,
        &[0.1, 0.2, 0.3, 0.4, 0.46, 0.52, 0.6, 0.7, 0.8],
    );
    let gloss = match term.gloss {
        Gloss::None => "none",
        Gloss::Partial => "partial",
        Gloss::Full => "full",
    };
    out.sign("u-gloss", &[gloss]);
    out.sign("u-gloss", &[gloss, language]);
    out.number("u", "uses", term.uses as f32, &COUNTS);
    out.number("u", "length", term.words as f32, &COUNTS);
    out.number("u", "rare", term.rare as f32, &COUNTS);
    out.number(
        "u",
        "letters",
        term.letters as f32,
        &[2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0],
    );
    for (label, is) in [
        ("topic", term.in_topic),
        ("part of topic", term.part_of_topic),
        ("opens", term.opens),
        ("closes", term.closes),
        ("quoted", term.quoted),
        ("capital", term.capital),
        ("acronym", term.acronym),
        ("genus", term.genus),
        ("pictured", term.pictured),
        ("from rules", term.from_rules),
        ("later again", term.again_later),
        ("defines next", term.next_opens_with_it),
        ("example", unit.holds("example")),
        ("half example", unit.holds("half_examples")),
        ("reason", unit.holds("reason")),
    ] {
        if is {
            out.sign("u", &[label]);
            out.sign("u", &[label, language]);
        }
    }
    let grades = ["0", "1", "2", "3", "4"];
    out.sign(
        "u-grade",
        &["most", grades[term.rarest.min(ranks::UNKNOWN)]],
    );
    out.sign(
        "u-grade",
        &["least", grades[term.commonest.min(ranks::UNKNOWN)]],
    );
    out.sign("u-grade", &[grades[term.rarest.min(4)], gloss]);
    out.number(
        "u",
        "frequency",
        term.frequency,
        &[0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    );
    out.sign("u-speech", &[&term.speech]);
    for ending in &term.endings {
        out.sign("u-end", &[ending]);
    }
    for beginning in &term.beginnings {
        out.sign("u-begin", &[beginning]);
    }
    for (side, word) in &term.around {
        out.sign("u-near", &[side, word]);
    }
    place(units.len(), term.unit, out);
    out.number("u", "unit words", unit.words.len() as f32, &WORDS);
    out.number("u", "rivals", term.rivals as f32, &COUNTS);
    for (list, (label, _)) in LISTS.iter().enumerate() {
        if unit.has(list) {
            out.sign("u-l", &[label]);
        }
    }
}

/// Whether two ranges share a byte.
pub(super) fn overlap(a: &std::ops::Range<usize>, b: &std::ops::Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn name(language: Language) -> &'static str {
    match language {
        Language::English => "en",
        Language::Chinese => "zh",
    }
}
