//! What of a call's output counts when, as the upstream counts it.
//!
//! Two windows of a kind that counts output may be kept: one counts from a call's start
//! what it is expected to make, and is corrected when it ends; the other counts what was
//! made when a call ends. Which of them bind is decided anew whenever more is known, so
//! both go on being counted.

use crate::{OutputCounted, flight::Due, window::Beside};

/// Standard deviations that all calls in flight together may be above what is expected:
/// where the window that counts from the start alone binds, and where that of the ends
/// binds as well. Of 72 and 144 simulated runs one and none met a full minute; with 3.5
/// it was one in fifteen and one in fifty.
const ALONE: f64 = 4.3;
const BESIDE_ENDS: f64 = 3.9;

/// How what calls in flight make binds the window of what counts from their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Not at all.
    Free,
    /// By what they will probably make.
    Made,
    /// By what they declared.
    Declared,
}

/// How it binds the window of what counts from their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not at all.
    Free,
    /// By what is forecast to end.
    Ahead,
    /// By what is set aside for all of them.
    Held,
}

impl OutputCounted {
    pub(super) fn start(self) -> Start {
        match self {
            Self::Unknown | Self::AtEnd => Start::Free,
            Self::Made | Self::ActualAtStart => Start::Made,
            Self::AtStart | Self::Declared => Start::Declared,
        }
    }

    pub(super) fn end(self) -> End {
        match self {
            Self::Unknown => End::Held,
            Self::Made | Self::AtEnd => End::Ahead,
            Self::AtStart | Self::Declared | Self::ActualAtStart => End::Free,
        }
    }
}

/// Sums over the calls in flight.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// What they are expected to make.
    pub(super) expected: u64,
    /// What they declared, or are expected to make where they declared nothing.
    pub(super) declared: u64,
    /// What those are expected to make that declared nothing.
    pub(super) unlimited: u64,
}

impl InFlight {
    /// What may count beyond what is expected of the calls in flight.
    pub(super) fn beside(&self, start: Start, end: End, due: &Due) -> Beside {
        let expected = self.expected as f64;
        let deviations = match end {
            End::Free => ALONE,
            End::Ahead | End::Held => BESIDE_ENDS,
        };
        let made = due.most(1.0, deviations) - expected;
        let most = match start {
            Start::Free => return Beside::default(),
            Start::Made => made,
            Start::Declared => {
                // Declared limits hold; where there is none, the forecast has to.
                let unlimited = self.unlimited as f64 / expected.max(1.0);
                self.declared.saturating_sub(self.expected) as f64 + made.max(0.0) * unlimited
            }
        };
        Beside {
            most: most as i64,
            likely: (due.tokens - expected).min(most) as i64,
        }
    }
}
