//! How the units of a text stand to each other: what is new, what is said again, what is
//! turned round.
//!
//! Work is bounded: a unit is compared with the last [`REACH`] before it.

use std::collections::HashMap;

use super::{
    super::text::{Language, Word},
    units::Unit,
};

/// A unit is compared with so many before it.
const REACH: usize = 24;

/// What the words of a unit repeat.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Relation {
    /// Content words that were not said before, 0–1.
    pub novelty: f32,
    /// Content words it shares with the unit before it that is most alike, of its own, 0–1.
    pub shared: f32,
    /// The same of the words of both.
    pub alike: f32,
    /// That unit.
    pub partner: Option<usize>,
    /// Most alike among the earlier units that deny what this one says or the reverse.
    pub denied: f32,
    /// Most alike among those that use the opposite of a word of this one.
    pub opposed: f32,
    /// Most alike among those that give another number.
    pub renumbered: f32,
    /// The earlier unit that disagrees most.
    pub against: Option<usize>,
    /// Content words that come back within the unit, 0–1.
    pub repeated: f32,
    /// Words on one side of "is" or "because" that are there on the other, 0–1.
    pub circling: f32,
    /// Content words of the unit that a later one takes up, 0–1.
    pub resumed: f32,
    /// Content words of the topic that are in it, 0–1.
    pub topical: f32,
}

/// Relates all units of a text.
pub(super) fn relations(units: &[Unit<'_>], topic: &[Word]) -> Vec<Relation> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (at, unit) in units.iter().enumerate() {
        for word in &unit.content {
            first.entry(*word).or_insert(at);
            last.insert(*word, at);
        }
    }
    let share = |unit: &Unit<'_>, is: &dyn Fn(&str) -> bool| {
        let count = unit.content.iter().filter(|word| is(word)).count();
        count as f32 / unit.content.len().max(1) as f32
    };
    let mut all = Vec::with_capacity(units.len());
    for (at, unit) in units.iter().enumerate() {
        let mut relation = Relation {
            novelty: share(unit, &|word| first.get(word) == Some(&at)),
            resumed: share(unit, &|word| last.get(word).is_some_and(|last| *last > at)),
            topical: {
                let said = |word: &&Word| unit.content.contains(word.base.as_str());
                let content = || topic.iter().filter(|word| word.is_content());
                content().filter(said).count() as f32 / content().count().max(1) as f32
            },
            repeated: repeated(unit),
            circling: circling(unit),
            ..Relation::default()
        };
        let near = units.iter().enumerate().take(at);
        for (other, old) in near.skip(at.saturating_sub(REACH)) {
            compare(old, unit, other, &mut relation);
        }
        all.push(relation);
    }
    all
}

fn compare(old: &Unit<'_>, new: &Unit<'_>, at: usize, relation: &mut Relation) {
    let shared = old.content.intersection(&new.content).count();
    if shared == 0 {
        return;
    }
    let all = old.content.len() + new.content.len() - shared;
    let alike = shared as f32 / all.max(1) as f32;
    let covered = shared as f32 / old.content.len().min(new.content.len()).max(1) as f32;
    let near = alike.max(covered * 0.6);
    if alike > relation.alike {
        relation.alike = alike;
        relation.shared = shared as f32 / new.content.len().max(1) as f32;
        relation.partner = Some(at);
    }
    let before = relation
        .denied
        .max(relation.opposed)
        .max(relation.renumbered);
    if old.denials % 2 != new.denials % 2 {
        relation.denied = relation.denied.max(near);
    }
    let turned = |(pair, minus): &(usize, bool)| old.opposites.contains(&(*pair, !minus));
    if new.opposites.iter().any(turned) {
        relation.opposed = relation.opposed.max(near + 0.1);
    }
    let other_number = |(number, unit): &(&str, &str)| {
        let same = |(_, other): &&(&str, &str)| other == unit;
        let mut known = old.numbers.iter().filter(same).peekable();
        known.peek().is_some() && known.all(|(old, _)| old != number)
    };
    if new.numbers.iter().any(other_number) {
        relation.renumbered = relation.renumbered.max(near);
    }
    if relation
        .denied
        .max(relation.opposed)
        .max(relation.renumbered)
        > before
    {
        relation.against = Some(at);
    }
}

/// Whether two words are forms of one.
pub(super) fn same_root(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let common = a
        .chars()
        .zip(b.chars())
        .take_while(|(left, right)| left == right)
        .count();
    let shorter = a.chars().count().min(b.chars().count());
    if a.is_ascii() {
        common >= 4 && common * 10 >= shorter * 7
    } else {
        common >= 2
    }
}

fn content(words: &[Word]) -> impl Iterator<Item = &Word> {
    words.iter().filter(|word| word.is_content())
}

fn repeated(unit: &Unit<'_>) -> f32 {
    let words: Vec<&Word> = content(unit.words).take(60).collect();
    let again = words
        .iter()
        .enumerate()
        .filter(|(at, word)| {
            words[..*at]
                .iter()
                .any(|old| same_root(&old.base, &word.base))
        })
        .count();
    again as f32 / words.len().max(1) as f32
}

/// Splits at the first word that defines or gives a reason and compares the sides.
fn circling(unit: &Unit<'_>) -> f32 {
    const TURNS: &[&str] = &[
        "is",
        "are",
        "means",
        "mean",
        "because",
        "when",
        "since",
        "was",
        "happens",
        "是",
        "就是",
        "因为",
        "是因为",
        "指",
        "叫",
        "所谓",
        "由于",
        "即",
        "也就是",
    ];
    let mut best = 0.0_f32;
    let words = unit.words;
    for (at, _) in words
        .iter()
        .enumerate()
        .filter(|(_, word)| TURNS.contains(&word.base.as_str()))
        .take(3)
    {
        let left: Vec<&Word> = content(&words[..at]).take(12).collect();
        let right: Vec<&Word> = content(&words[at + 1..]).take(16).collect();
        let (few, many) = match left.len() <= right.len() {
            true => (&left, &right),
            false => (&right, &left),
        };
        let back = few
            .iter()
            .filter(|word| many.iter().any(|other| same_root(&other.base, &word.base)))
            .count();
        best = best.max(back as f32 / few.len().max(1) as f32);
    }
    if unit.language == Language::Chinese {
        best = best.max(echo(unit.lower));
    }
    best
}

/// The longest run of Chinese characters that comes back in a piece of text, of its length.
fn echo(text: &str) -> f32 {
    let letters: Vec<char> = text.chars().take(80).collect();
    let mut longest = 0;
    for a in 0..letters.len() {
        for b in a + 1..letters.len() {
            let run = letters[a..b]
                .iter()
                .zip(&letters[b..])
                .take_while(|(x, y)| x == y && x.is_alphabetic())
                .count();
            longest = longest.max(run);
        }
    }
    if longest < 2 {
        return 0.0;
    }
    (longest as f32 * 3.0 / letters.len().max(1) as f32).min(1.0)
}
