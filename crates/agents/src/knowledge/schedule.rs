//! When a concept is to be explained again.
//!
//! The algorithm is SM-2: P. A. Woźniak, "Optimization of learning", Poznań 1990, chapter
//! 3.2. It has no parameters to fit, which suits a conversation of a few turns. One
//! deviation: an explanation before its time neither lengthens an interval nor changes the
//! ease, or repeating oneself within an hour would pass for memory of weeks.
//!
//! Pure. Invariant: `ease >= 1.3` and `1 <= interval_days <= 365`.

use std::cmp::Reverse;

use lyceum_core::{GapStatus, Knowledge, Review, ReviewItem};

use super::is_chinese;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// SM-2's first and smallest ease.
const FIRST_EASE: f64 = 2.5;
const LEAST_EASE: f64 = 1.3;
/// SM-2's second interval; the first is a day.
const SECOND_DAYS: u32 = 6;
/// Nobody plans further.
const MOST_DAYS: u32 = 365;
/// The least quality, of 0–5, that counts as remembered.
const PASSED: u8 = 3;

/// A concept that nobody explained yet: it is due.
pub(crate) fn fresh(now_ms: u64) -> Review {
    Review {
        repetitions: 0,
        ease: FIRST_EASE,
        interval_days: 1,
        reviewed_at_ms: now_ms,
        due_at_ms: now_ms,
    }
}

/// The state after an explanation of the given quality: 0 (nothing) to 5 (perfect).
pub(crate) fn graded(review: Review, quality: u8, now_ms: u64) -> Review {
    let passed = quality >= PASSED;
    if passed && now_ms < review.due_at_ms {
        return review;
    }
    let short = f64::from(5 - quality.min(5));
    let (repetitions, interval_days, ease) = match (passed, review.repetitions) {
        (false, _) => (0, 1, review.ease),
        (true, before) => {
            let ease = review.ease + (0.1 - short * (0.08 + short * 0.02));
            let days = match before {
                0 => 1,
                1 => SECOND_DAYS,
                _ => (f64::from(review.interval_days) * review.ease).round() as u32,
            };
            (before + 1, days, ease.max(LEAST_EASE))
        }
    };
    let interval_days = interval_days.clamp(1, MOST_DAYS);
    Review {
        repetitions,
        ease,
        interval_days,
        reviewed_at_ms: now_ms,
        due_at_ms: now_ms + u64::from(interval_days) * DAY_MS,
    }
}

/// What to explain again: what is due first, the least mastered of it first, then by time.
pub(crate) fn items(knowledge: &Knowledge, now_ms: u64) -> Vec<ReviewItem> {
    let chinese = is_chinese(knowledge);
    let mut items: Vec<ReviewItem> = knowledge
        .concepts
        .iter()
        .map(|concept| {
            let waiting = knowledge
                .gaps
                .iter()
                .find(|gap| gap.concepts.contains(&concept.id) && gap.status == GapStatus::Asked);
            let task = match (waiting.and_then(|gap| gap.question.as_deref()), chinese) {
                (Some(question), true) => format!("再讲一遍“{}”，并回答：{question}", concept.name),
                (None, true) => format!("不看笔记，再讲一遍“{}”。", concept.name),
                (Some(question), false) => {
                    format!("Explain “{}” again, and answer: {question}", concept.name)
                }
                (None, false) => {
                    format!("Explain “{}” again without looking at notes.", concept.name)
                }
            };
            ReviewItem {
                concept: concept.id,
                name: concept.name.clone(),
                mastery: knowledge.mastery(concept.id),
                review: concept.review,
                is_due: concept.review.due_at_ms <= now_ms,
                task,
            }
        })
        .collect();
    items.sort_by(|a, b| {
        Reverse(a.is_due)
            .cmp(&Reverse(b.is_due))
            .then(if a.is_due && b.is_due {
                a.mastery.total_cmp(&b.mastery)
            } else {
                a.review.due_at_ms.cmp(&b.review.due_at_ms)
            })
            .then(a.mastery.total_cmp(&b.mastery))
            .then(a.concept.cmp(&b.concept))
    });
    items
}
