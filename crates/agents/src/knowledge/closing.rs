//! Decides by rules which gaps an explanation fills.
//!
//! Invariant: a gap is filled only by statements that speak of it (or that answer the one
//! question that was asked) and that bring what its kind asks for. Deliberately absent:
//! whether the answer is right, which nobody knows who knows no subject.

use lyceum_core::{GapKind, GapStatus, Knowledge, KnownGap};

use crate::offline::taught::{self, Statement};

/// Marks what the statements fill; `ids` are their claims, in the same order. Gives the ids
/// of the gaps filled.
pub(super) fn close(knowledge: &mut Knowledge, statements: &[Statement], ids: &[u32]) -> Vec<u32> {
    let waiting = knowledge
        .gaps
        .iter()
        .filter(|gap| gap.status == GapStatus::Asked)
        .count();
    let mut closed = Vec::new();
    for gap in knowledge.gaps.iter_mut().filter(|gap| gap.status.is_open()) {
        let is_only = waiting == 1 && gap.status == GapStatus::Asked;
        let answers: Vec<u32> = answering(gap, statements, is_only)
            .into_iter()
            .filter_map(|at| ids.get(at).copied())
            .collect();
        if !answers.is_empty() {
            gap.status = GapStatus::Answered;
            gap.answers = answers;
            closed.push(gap.id);
        }
    }
    resolve(knowledge);
    closed
}

/// A misconception is set right when the gap that asks about it is filled.
pub(super) fn resolve(knowledge: &mut Knowledge) {
    for wrong in &mut knowledge.misconceptions {
        let gap = knowledge.gaps.iter().find(|gap| gap.id == wrong.gap);
        wrong.resolved = gap.is_some_and(|gap| gap.status == GapStatus::Answered);
    }
}

/// The statements that fill a gap.
fn answering(gap: &KnownGap, statements: &[Statement], is_only: bool) -> Vec<usize> {
    let quote = &gap.gap.quote;
    let words = taught::words(quote);
    let speaks = |at: usize| {
        let statement = &statements[at];
        // A statement goes on from the one before it: "It opens its pores. So ..."
        let own = statement.shares(&words) > 0;
        let before = at > 0 && statements[at - 1].shares(&words) > 0;
        own || before || is_only
    };
    let repeats = |statement: &Statement| statement.text.contains(quote.as_str());
    let new_words = |statement: &Statement| statement.words.difference(&words).count();
    let brings = |statement: &Statement| match gap.gap.kind {
        GapKind::UndefinedTerm => statement.defines(quote) && new_words(statement) > 0,
        GapKind::CircularDefinition => {
            !repeats(statement) && new_words(statement) >= 2 && !statement.corrects
        }
        GapKind::MissingMechanism | GapKind::MissingStep => {
            !repeats(statement) && (statement.gives_reason || statement.gives_means)
        }
        GapKind::UnsupportedClaim => {
            !repeats(statement) && (statement.gives_reason || statement.gives_example)
        }
        GapKind::OverGeneralisation | GapKind::BoundaryCase => {
            !repeats(statement) && (statement.gives_limit || statement.contrasts)
        }
        GapKind::MissingExample => statement.gives_example,
        GapKind::BrokenAnalogy => !repeats(statement) && statement.contrasts && !statement.compares,
        GapKind::VagueWord => {
            !repeats(statement)
                && (statement.gives_reason || statement.gives_means || statement.gives_example)
        }
        GapKind::Contradiction => {
            !repeats(statement) && (statement.corrects || statement.gives_limit)
        }
        _ => false,
    };
    (0..statements.len())
        .filter(|&at| speaks(at) && brings(&statements[at]))
        .take(3)
        .collect()
}
