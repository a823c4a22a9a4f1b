//! Turns gaps into the student's questions.
//!
//! Invariant: a question is a fixed form around words of the learner, so it quotes exactly
//! and cannot leak an answer; a question that was asked before is never asked again. Forms
//! are chosen by a hash of the text: the same lesson always gives the same questions.

use std::collections::HashSet;

use lyceum_core::{Gap, GapKind};

use super::{
    Lecture, phrases,
    shape::{central, comparison, short_body},
    text::{Document, Language, Sentence, head, language_of},
    utterance::{self, Utterance},
    wording,
};

/// The most questions asked at once.
pub const MAX_QUESTIONS: usize = 3;
/// So many are asked where the text gives cause.
const WANTED: usize = 3;
/// So many pieces of a sentence are weighed.
const MOST_PIECES: usize = 16;
/// The most of one kind while other kinds wait.
const PER_KIND: usize = 2;

/// Asks one to three questions about a lecture: about its gaps first, then deeper into its
/// central claims. `asked` are the questions of earlier turns; none is repeated.
#[must_use]
pub fn questions(lecture: &Lecture<'_>, gaps: &[Gap], asked: &[String]) -> Vec<String> {
    let document = Document::new(lecture.text);
    let mut asking = Asking::new(lecture, &document, asked);
    let kind = utterance::of(&document);
    if kind != Utterance::Explanation && gaps.is_empty() {
        asking.react(kind);
        return asking.finish();
    }
    let usable: Vec<&Gap> = gaps
        .iter()
        .filter(|gap| !gap.quote.trim().is_empty() && lecture.text.contains(&gap.quote))
        .collect();
    let (fresh, stale): (Vec<&Gap>, Vec<&Gap>) = usable
        .into_iter()
        .partition(|gap| !asking.was_quoted(&gap.quote));
    let mut later = Vec::new();
    for gap in fresh {
        let same = asking
            .kinds
            .iter()
            .filter(|kind| **kind == gap.kind)
            .count();
        if same >= PER_KIND {
            later.push(gap);
        } else {
            asking.about(gap);
        }
    }
    for gap in later {
        asking.about(gap);
    }
    if asking.out.len() < WANTED {
        asking.deepen();
    }
    if asking.out.len() < WANTED {
        for gap in stale {
            asking.about(gap);
        }
    }
    asking.finish()
}

struct Asking<'a> {
    lecture: &'a Lecture<'a>,
    document: &'a Document<'a>,
    asked: &'a [String],
    used: HashSet<String>,
    kinds: Vec<GapKind>,
    /// Forms used in this answer: its questions differ in form as long as forms last.
    forms: HashSet<String>,
    out: Vec<String>,
    seed: u64,
}

impl<'a> Asking<'a> {
    fn new(lecture: &'a Lecture<'a>, document: &'a Document<'a>, asked: &'a [String]) -> Self {
        Self {
            lecture,
            document,
            asked,
            used: asked.iter().map(|question| normal(question)).collect(),
            kinds: Vec::new(),
            forms: HashSet::new(),
            out: Vec::new(),
            seed: hash(lecture.text) ^ hash(lecture.topic).rotate_left(17),
        }
    }

    fn language(&self) -> Language {
        if self.document.text.chars().any(char::is_alphabetic) {
            self.document.language
        } else {
            language_of(self.lecture.topic)
        }
    }

    fn was_quoted(&self, quote: &str) -> bool {
        self.asked.iter().any(|question| question.contains(quote))
    }

    /// Asks with the first unused form from a place that the text decides.
    fn ask(&mut self, forms: &[&str], slots: &[(&str, &str)], turn: u64) -> bool {
        if self.out.len() >= MAX_QUESTIONS || forms.is_empty() {
            return false;
        }
        let from = (self.seed.wrapping_add(turn) % forms.len() as u64) as usize;
        let turned = || (0..forms.len()).map(|step| forms[(from + step) % forms.len()]);
        let fresh: Vec<&str> = turned()
            .filter(|form| !self.forms.contains(*form))
            .collect();
        for form in fresh.into_iter().chain(turned()) {
            let question = fill(form, slots);
            if self.used.insert(normal(&question)) {
                self.forms.insert(form.to_owned());
                self.out.push(question);
                return true;
            }
        }
        false
    }

    fn about(&mut self, gap: &Gap) {
        let language = self.language();
        let (focus, earlier) = focus(gap);
        let turn = hash(&gap.quote) % 7
            + self.kinds.iter().filter(|kind| **kind == gap.kind).count() as u64;
        let forms = if is_short(self.document) && gap.kind == GapKind::MissingMechanism {
            phrases::more(language)
        } else {
            phrases::forms(language, gap.kind)
        };
        let quote = shortened(&gap.quote);
        // Where no word of the quote stands out, a form that names one would say it twice.
        let whole: Vec<&str> = match focus == gap.quote {
            true => forms
                .iter()
                .copied()
                .filter(|form| !form.contains("{f}"))
                .collect(),
            false => Vec::new(),
        };
        let forms = if whole.is_empty() { forms } else { &whole };
        if self.ask(
            forms,
            &[
                ("{q}", quote),
                ("{f}", &focus),
                ("{e}", shortened(&earlier)),
            ],
            turn,
        ) {
            self.kinds.push(gap.kind);
        }
    }

    /// Goes deeper into the central claims.
    fn deepen(&mut self) {
        let language = self.language();
        let document = self.document;
        let mut quotes: Vec<&str> = central(document, self.lecture.topic)
            .into_iter()
            .take(24)
            .map(|index| document.quote(&short_body(&document.sentences[index])))
            .collect();
        if quotes.is_empty() {
            quotes = document
                .sentences
                .iter()
                .take(3)
                .map(|sentence| document.quote(&short_body(sentence)))
                .collect();
        }
        // Of one sentence its clauses are asked about, so that not every question repeats it.
        if let [only] = document.sentences.as_slice() {
            quotes = clauses(only);
        }
        quotes.retain(|quote| !quote.is_empty());
        let every = quotes.clone();
        let (fresh, stale): (Vec<&str>, Vec<&str>) = quotes.into_iter().partition(|quote| {
            !self.was_quoted(quote) && !self.out.iter().any(|question| question.contains(quote))
        });
        let forms = if is_short(document) {
            phrases::more(language)
        } else {
            phrases::deepening(language)
        };
        for (turn, quote) in fresh.into_iter().chain(stale).enumerate() {
            if self.out.len() >= WANTED {
                return;
            }
            self.ask(forms, &[("{q}", shortened(quote))], turn as u64 * 3);
        }
        // Little text carries several questions.
        for (turn, quote) in (0..WANTED as u64).zip(every.iter().cycle()) {
            if self.out.len() >= WANTED {
                return;
            }
            self.ask(forms, &[("{q}", shortened(quote))], turn);
        }
    }

    /// Answers a text that is no explanation.
    fn react(&mut self, utterance: Utterance) {
        let language = self.language();
        let forms = phrases::reactions(language, utterance);
        let topic = self.lecture.topic.trim();
        let named = format!("“{}”", head(topic, 120));
        let topic = if topic.is_empty() {
            phrases::unnamed_topic(language)
        } else {
            &named
        };
        let quote = first_words(self.document.text, utterance);
        for turn in 0..forms.len() as u64 {
            self.ask(forms, &[("{q}", quote), ("{t}", topic)], turn);
        }
    }

    /// There is always a question, even when every form was used before.
    fn finish(mut self) -> Vec<String> {
        if self.out.is_empty() {
            let language = self.language();
            let quote = first_words(self.document.text, Utterance::Explanation);
            let count = self.asked.len() + 1;
            let question = match language {
                Language::English => format!(
                    "What else should I know about “{quote}”? (This is question {count}, and I am still curious.)"
                ),
                Language::Chinese => {
                    format!(
                        "关于“{quote}”，还有什么是我该知道的？（这是第{count}个问题，我还是很好奇。）"
                    )
                }
            };
            self.out.push(question);
        }
        self.out
    }
}

/// The clauses of a sentence that can stand alone, the one that says most first; the whole
/// where there is none.
fn clauses<'t>(sentence: &Sentence<'t>) -> Vec<&'t str> {
    const JOINTS: &[&str] = &[
        " because ",
        " so that ",
        " but ",
        " when ",
        " if ",
        " by ",
        "因为",
        "所以",
        "但是",
        "因此",
        "如果",
    ];
    const LEANING: &[&str] = &["which ", "who ", "that ", "of "];
    let body = sentence.body();
    let text = &sentence.text[body.start - sentence.start..body.end - sentence.start];
    let parts: Vec<&str> = text.split([',', '，', ';', '；', ':', '：']).collect();
    let mut pieces = parts.clone();
    for joint in JOINTS {
        pieces = pieces.iter().flat_map(|piece| piece.split(joint)).collect();
    }
    let mut seen = HashSet::new();
    let mut counted: Vec<(bool, usize, &str)> = pieces
        .into_iter()
        .take(MOST_PIECES)
        .map(|piece| (true, piece))
        .chain(
            parts
                .into_iter()
                .take(MOST_PIECES)
                .map(|part| (false, part)),
        )
        .map(|(small, piece)| (small, piece.trim()))
        .filter(|(_, piece)| !LEANING.iter().any(|word| piece.starts_with(word)))
        .filter_map(|(small, piece)| {
            let from = sentence.start + text_offset(sentence.text, piece);
            let inside = || {
                sentence.words.iter().filter(move |word| {
                    word.range.start >= from && word.range.end <= from + piece.len()
                })
            };
            let content = inside().filter(|word| word.is_content()).count();
            (inside().count() >= 3 && content >= 2 && seen.insert(piece))
                .then_some((small, content, piece))
        })
        .take(MAX_QUESTIONS)
        .collect();
    counted.sort_by_key(|(small, content, _)| std::cmp::Reverse((*small, *content)));
    if counted.is_empty() {
        return vec![text];
    }
    counted.into_iter().map(|(_, _, piece)| piece).collect()
}

/// Where a piece of a text begins in it.
fn text_offset(text: &str, piece: &str) -> usize {
    (piece.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn is_short(document: &Document<'_>) -> bool {
    document.word_count() < 8
}

/// The word a question turns on, and the earlier claim; both found again in the gap.
fn focus(gap: &Gap) -> (String, String) {
    let lower = gap.quote.to_ascii_lowercase();
    let found = match gap.kind {
        GapKind::VagueWord => wording::vague_word(&lower),
        GapKind::OverGeneralisation => wording::absolute_word(&lower),
        GapKind::BrokenAnalogy => comparison(&lower),
        _ => None,
    };
    let named = gap
        .reason
        .split_once('“')
        .and_then(|(_, rest)| rest.rsplit_once('”'))
        .map(|(inside, _)| inside.split("”来解释“").next().unwrap_or(inside).to_owned());
    let focus = match found {
        Some(range) => gap.quote[range].to_owned(),
        None => named.clone().unwrap_or_else(|| gap.quote.clone()),
    };
    (focus, named.unwrap_or_else(|| gap.quote.clone()))
}

fn fill(form: &str, slots: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = form;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        if let Some((slot, value)) = slots.iter().find(|(slot, _)| rest.starts_with(slot)) {
            out.push_str(value);
            rest = &rest[slot.len()..];
        } else {
            out.push('{');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// A quote of bounded length, still a piece of the learner's words.
fn shortened(quote: &str) -> &str {
    let quote = quote.trim();
    match quote.char_indices().nth(180) {
        None => quote,
        Some((cut, _)) => {
            let piece = &quote[..cut];
            piece
                .rfind(|c: char| c.is_whitespace() || "，。；".contains(c))
                .filter(|at| *at > cut / 2)
                .map_or(piece, |at| &piece[..at])
        }
    }
}

/// The beginning of a text on one line.
fn first_words(text: &str, utterance: Utterance) -> &str {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| line.chars().any(char::is_alphanumeric))
        .unwrap_or_default();
    let line = if utterance == Utterance::Code {
        line
    } else {
        line.trim_end_matches(['.', '。', '!', '！', '?', '？'])
    };
    match line.char_indices().nth(60) {
        None => line,
        Some((cut, _)) => line[..cut].trim_end(),
    }
}

/// What of a question counts when it is compared with earlier ones.
fn normal(question: &str) -> String {
    question
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// FNV-1a, 64 bit (draft-eastlake-fnv): stable across runs and platforms.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
