//! The words of general language that show how an explanation argues: reasons, examples,
//! limits, conclusions, vagueness.
//!
//! Invariant: no word belongs to a subject. The lists are data (`data/markers.txt`); the
//! order within a list is the order of preference.

use std::sync::LazyLock;

/// The lists of this module.
const MARKERS: &str = include_str!("data/markers.txt");
/// Shapes of words and phrases, used by several detectors.
pub(super) const FORMS: &str = include_str!("data/forms.txt");

/// A list of phrases.
pub(super) type Phrases = LazyLock<Vec<&'static str>>;

/// Introduces a reason.
pub(super) static REASON: Phrases = LazyLock::new(|| section(MARKERS, "reason"));

/// Says in what way something happens.
pub(super) static MEANS: Phrases = LazyLock::new(|| section(MARKERS, "means"));

/// Opens a sentence that explains the one before it.
pub(super) static ELABORATES: Phrases = LazyLock::new(|| section(MARKERS, "elaborates"));

/// Introduces something concrete.
pub(super) static EXAMPLE: Phrases = LazyLock::new(|| section(MARKERS, "example"));

/// Says where something stops being true.
pub(super) static LIMIT: Phrases = LazyLock::new(|| section(MARKERS, "limit"));

/// Turns against what was said just before.
pub(super) static CONTRAST: Phrases = LazyLock::new(|| section(MARKERS, "contrast"));

/// Draws a conclusion; what follows the phrase is concluded.
pub(super) static CONCLUDES: Phrases = LazyLock::new(|| section(MARKERS, "concludes"));

/// Says that a conclusion needs no argument, or that a stretch of the way is left out.
pub(super) static SKIPS: Phrases = LazyLock::new(|| section(MARKERS, "skips"));

/// Says that one thing brings about another.
pub(super) static CAUSES: Phrases = LazyLock::new(|| section(MARKERS, "causes"));

/// Stronger members of [`CAUSES`]: the sentence exists to claim an effect.
pub(super) static CAUSES_STRONGLY: Phrases = LazyLock::new(|| section(MARKERS, "causes_strongly"));

/// Words that stand for something the speaker does not say.
pub(super) static VAGUE: Phrases = LazyLock::new(|| section(MARKERS, "vague"));

/// Degree words that hide how much.
pub(super) static DEGREE: Phrases = LazyLock::new(|| section(MARKERS, "degree"));

/// Claims without exception.
pub(super) static ABSOLUTE: Phrases = LazyLock::new(|| section(MARKERS, "absolute"));

/// The members of [`ABSOLUTE`] that leave no doubt.
pub(super) static ABSOLUTE_STRONGLY: Phrases =
    LazyLock::new(|| section(MARKERS, "absolute_strongly"));

/// Hedged quantities that look absolute.
pub(super) static HEDGED: Phrases = LazyLock::new(|| section(MARKERS, "hedged"));

/// Appeals to an authority that is not named, or to what everybody knows.
pub(super) static HEARSAY: Phrases = LazyLock::new(|| section(MARKERS, "hearsay"));

/// Ranks or measures: such a claim wants evidence.
pub(super) static RANKS: Phrases = LazyLock::new(|| section(MARKERS, "ranks"));

/// Carries an explanation by a comparison.
pub(super) static ANALOGY: Phrases = LazyLock::new(|| section(MARKERS, "analogy"));

/// Comparisons that are common idiom rather than an argument.
pub(super) static NOT_ANALOGY: Phrases = LazyLock::new(|| section(MARKERS, "not_analogy"));

/// Says "the more, the more" or "whenever": asks for the end of the range.
pub(super) static MONOTONE: Phrases = LazyLock::new(|| section(MARKERS, "monotone"));

/// The learner takes something back.
pub(super) static CORRECTS: Phrases = LazyLock::new(|| section(MARKERS, "corrects"));

/// Tells a result as the next thing that happens: weaker members of [`SKIPS`].
pub(super) static SEQUENCES: Phrases = LazyLock::new(|| section(MARKERS, "sequences"));

/// Speaks of one case without announcing an example.
pub(super) static HALF_EXAMPLES: Phrases = LazyLock::new(|| section(MARKERS, "half_examples"));

/// Assurances instead of evidence, at the beginning of a clause.
pub(super) static ASSERTIONS: Phrases = LazyLock::new(|| section(MARKERS, "assertions"));

/// Quantities that want a source: weaker members of [`RANKS`].
pub(super) static FIGURES: Phrases = LazyLock::new(|| section(MARKERS, "figures"));

/// The members of [`CONTRAST`] that limit what was said rather than compare.
pub(super) static TURNS: Phrases = LazyLock::new(|| section(MARKERS, "turns"));

/// Ties statements together without the words of [`REASON`].
pub(super) static HALF_REASONS: Phrases = LazyLock::new(|| section(MARKERS, "half_reasons"));

/// The members of [`CAUSES_STRONGLY`] that say nothing but that there is an effect.
pub(super) static EFFECTS: Phrases = LazyLock::new(|| section(MARKERS, "effects"));

/// Reads one section of a data file; empty when there is none.
pub(super) fn section(file: &'static str, name: &str) -> Vec<&'static str> {
    file.split("\n[")
        .filter_map(|block| block.split_once("]\n"))
        .find(|(found, _)| *found == name)
        .map(|(_, body)| body)
        .unwrap_or_default()
        .split([',', '\n'])
        .map(str::trim)
        .filter(|phrase| !phrase.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_there_and_in_lower_case() {
        for list in [
            &REASON,
            &MEANS,
            &ELABORATES,
            &EXAMPLE,
            &LIMIT,
            &CONTRAST,
            &CONCLUDES,
            &SKIPS,
            &CAUSES,
            &CAUSES_STRONGLY,
            &VAGUE,
            &DEGREE,
            &ABSOLUTE,
            &ABSOLUTE_STRONGLY,
            &HEDGED,
            &HEARSAY,
            &RANKS,
            &ANALOGY,
            &NOT_ANALOGY,
            &MONOTONE,
            &CORRECTS,
            &SEQUENCES,
            &HALF_EXAMPLES,
            &ASSERTIONS,
            &FIGURES,
            &TURNS,
            &HALF_REASONS,
            &EFFECTS,
        ] {
            assert!(!list.is_empty());
            for phrase in list.iter() {
                assert_eq!(*phrase, phrase.to_ascii_lowercase());
            }
        }
    }
}
