//! Which requests fail and how.
//!
//! A rule says what goes wrong and when: for a share of the requests, for every n-th, or
//! for given numbers. Requests are numbered from 1 in the order of arrival, without those
//! that are wrong in themselves; the decision depends on the seed and that number alone. A
//! request that the quota refuses keeps its number and has no fault. Deliberately absent:
//! faults below HTTP other than a reset, which need a proxy of their own.

use std::{ops::RangeInclusive, str::FromStr};

use crate::{
    config::ParseError,
    random::{self, Purpose},
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Status 429 with `retry-after`, although the quota has room.
    RateLimited,
    /// Status 500.
    ServerError,
    /// Anthropic's status 529; OpenAI's 503.
    Overloaded,
    /// No answer at all, with the connection open.
    HangBeforeHeaders,
    /// Half an answer, then silence with the connection open.
    HangInBody,
    /// Half an answer, then a TCP reset.
    Reset,
    /// Half an answer, then a regular end without the closing events.
    Truncate,
    /// Something that is not JSON in the middle.
    Malformed,
    /// Half an answer, then an error event; a whole answer becomes status 500.
    ErrorEvent,
    /// The answer byte by byte, one every 10 ms.
    Trickle,
}

impl Fault {
    /// All faults; the position is the index in statistics.
    pub const ALL: [Self; 10] = [
        Self::RateLimited,
        Self::ServerError,
        Self::Overloaded,
        Self::HangBeforeHeaders,
        Self::HangInBody,
        Self::Reset,
        Self::Truncate,
        Self::Malformed,
        Self::ErrorEvent,
        Self::Trickle,
    ];

    /// The fault's name in settings and statistics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RateLimited => "429",
            Self::ServerError => "500",
            Self::Overloaded => "529",
            Self::HangBeforeHeaders => "hang",
            Self::HangInBody => "hang-in-body",
            Self::Reset => "reset",
            Self::Truncate => "truncate",
            Self::Malformed => "malformed",
            Self::ErrorEvent => "error-event",
            Self::Trickle => "trickle",
        }
    }
}

/// Which requests a rule hits.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// This share of all requests, 0 to 1, chosen by the seed.
    Rate(f64),
    /// Every n-th request; never for 0.
    Every(u64),
    /// The requests of these numbers.
    Numbers(Vec<RangeInclusive<u64>>),
}

/// A fault and the requests it hits.
///
/// Written `FAULT=5%`, `FAULT/10` (every tenth) or `FAULT@3,7,20-30`.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// For which requests.
    pub when: When,
}

impl FaultRule {
    /// A fault of the requests with these numbers, counted from 1.
    #[must_use]
    pub fn at(fault: Fault, numbers: RangeInclusive<u64>) -> Self {
        Self {
            fault,
            when: When::Numbers(vec![numbers]),
        }
    }

    /// A fault of every request.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self {
            fault,
            when: When::Rate(1.0),
        }
    }
}

/// The fault of a request, if it has one.
pub(crate) fn decide(rules: &[FaultRule], seed: u64, request: u64) -> Option<Fault> {
    if rules.is_empty() {
        return None;
    }
    // One draw for all rates: with 5 % of one and 5 % of another, 10 % fail.
    let mut draw = random::unit(seed, request, Purpose::Fault);
    rules
        .iter()
        .find(|rule| match &rule.when {
            When::Rate(rate) => {
                draw -= rate;
                draw < 0.0
            }
            When::Every(n) => *n > 0 && request.is_multiple_of(*n),
            When::Numbers(ranges) => ranges.iter().any(|range| range.contains(&request)),
        })
        .map(|rule| rule.fault)
}

impl FromStr for FaultRule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text).ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "FAULT=5%, FAULT/10 or FAULT@3,7,20-30, where FAULT is 429, 500, 529, hang, \
                       hang-in-body, reset, truncate, malformed, error-event or trickle",
        })
    }
}

fn parse(text: &str) -> Option<FaultRule> {
    let (name, rest) = text.split_at(text.find(['=', '/', '@'])?);
    let fault = Fault::ALL.into_iter().find(|fault| fault.label() == name)?;
    let when = match rest.split_at(1) {
        ("=", share) => {
            let percent: f64 = share.strip_suffix('%')?.parse().ok()?;
            When::Rate(
                (0.0..=100.0)
                    .contains(&percent)
                    .then_some(percent / 100.0)?,
            )
        }
        ("/", n) => When::Every(n.parse().ok().filter(|n| *n > 0)?),
        (_, numbers) => When::Numbers(numbers.split(',').map(parse_range).collect::<Option<_>>()?),
    };
    Some(FaultRule { fault, when })
}

fn parse_range(text: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule: FaultRule = "reset@3,20-30".parse().unwrap();
        assert_eq!(rule.fault, Fault::Reset);
        assert_eq!(rule.when, When::Numbers(vec![3..=3, 20..=30]));
        let rule: FaultRule = "429=2.5%".parse().unwrap();
        assert_eq!(rule.when, When::Rate(0.025));
        for wrong in [
            "reset",
            "reset=5",
            "reset=101%",
            "reset/0",
            "reset@",
            "fire=5%",
        ] {
            assert!(wrong.parse::<FaultRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_add_up_and_schedules_are_exact() {
        let rules = [
            "500@5".parse().unwrap(),
            "reset=10%".parse().unwrap(),
            "429=20%".parse().unwrap(),
        ];
        let all: Vec<_> = (1..=10_000).map(|n| decide(&rules, 9, n)).collect();
        assert_eq!(all[4], Some(Fault::ServerError));
        let share = |fault| all.iter().filter(|f| **f == Some(fault)).count();
        assert!(
            (900..1_100).contains(&share(Fault::Reset)),
            "{}",
            share(Fault::Reset)
        );
        assert!((1_850..2_150).contains(&share(Fault::RateLimited)));
        assert_eq!(share(Fault::ServerError), 1);
        let again: Vec<_> = (1..=10_000).map(|n| decide(&rules, 9, n)).collect();
        assert_eq!(all, again);
    }
}
