//! Provider quotas over an exact sliding window.
//!
//! Pure: callers pass `now`. Invariant: at every instant, what was admitted within the
//! window that ends then is at most the limit, for each limit that is set; a refusal
//! takes nothing. Deliberately absent: token buckets, which would let a burst and the
//! refill together pass the limit and so hide a client's mistakes; and the counting of
//! refused requests, which some vendors do.

use std::{collections::VecDeque, time::Duration, time::Instant};

/// The limits of one key and model. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Requests in a window.
    pub requests: Option<u64>,
    /// Input tokens in a window.
    pub input_tokens: Option<u64>,
    /// Output tokens in a window.
    pub output_tokens: Option<u64>,
    /// Input and output tokens together in a window, as OpenAI counts them.
    pub total_tokens: Option<u64>,
    /// Requests running at once.
    pub concurrency: Option<u64>,
    /// How output tokens are charged.
    pub accounting: Accounting,
    /// The window's length; vendors state their limits per minute.
    pub window: Duration,
}

impl Default for Quotas {
    /// No limits, a window of 60 s.
    fn default() -> Self {
        Self {
            requests: None,
            input_tokens: None,
            output_tokens: None,
            total_tokens: None,
            concurrency: None,
            accounting: Accounting::default(),
            window: Duration::from_secs(60),
        }
    }
}

impl Quotas {
    /// Whether any limit is set.
    #[must_use]
    pub fn any(&self) -> bool {
        self.limits().iter().any(Option::is_some) || self.concurrency.is_some()
    }

    fn limits(&self) -> [Option<u64>; Limit::WINDOWED] {
        [
            self.requests,
            self.input_tokens,
            self.output_tokens,
            self.total_tokens,
        ]
    }
}

/// How output tokens are charged to the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accounting {
    /// The answer's true length, when the request is admitted. The strictest to judge.
    #[default]
    Actual,
    /// The request's output limit when it is admitted, corrected to what was sent when
    /// it ends. A request without a limit is charged its true length.
    Reserved,
    /// What was sent, when the request ends; admission asks only that the window is not
    /// full.
    Produced,
}

/// Which limit refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Requests in a window.
    Requests,
    /// Input tokens in a window.
    InputTokens,
    /// Output tokens in a window.
    OutputTokens,
    /// Input and output tokens together in a window.
    TotalTokens,
    /// Requests running at once.
    Concurrency,
}

impl Limit {
    const WINDOWED: usize = 4;
    const ALL: [Self; Self::WINDOWED] = [
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::TotalTokens,
    ];

    /// The limit's name in messages and statistics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::TotalTokens => "total_tokens",
            Self::Concurrency => "concurrency",
        }
    }
}

/// What a request will use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Input tokens.
    pub input: u64,
    /// Output tokens the answer really has.
    pub output: u64,
    /// The request's own output limit.
    pub max_output: Option<u64>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The limit that takes longest to allow the request.
    pub limit: Limit,
    /// When the same request would fit if nothing else came; `None` if it never will.
    pub retry_after: Option<Duration>,
}

/// The place of an admitted request, for [`Meter::settle`].
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    sequence: u64,
    cost: Cost,
}

/// How full one window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The most the window takes.
    pub limit: u64,
    /// What still fits.
    pub remaining: u64,
    /// When the window will be empty if nothing else comes.
    pub reset: Duration,
}

/// Keeps the windows of one key and model.
#[derive(Debug)]
pub struct Meter {
    quotas: Quotas,
    windows: [Window; Limit::WINDOWED],
    running: u64,
    sequence: u64,
}

impl Meter {
    /// Empty windows.
    #[must_use]
    pub fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            windows: std::array::from_fn(|_| Window::default()),
            running: 0,
            sequence: 0,
        }
    }

    /// Admits a request and charges it, or says why not.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when any limit would be passed; nothing is charged then.
    pub fn admit(&mut self, now: Instant, cost: Cost) -> Result<Ticket, Refusal> {
        let charge = self.charge(cost);
        let mut worst: Option<Refusal> = None;
        for ((limit, window), (most, amount)) in Limit::ALL
            .into_iter()
            .zip(&mut self.windows)
            .zip(self.quotas.limits().into_iter().zip(charge))
        {
            let Some(most) = most else { continue };
            window.expire(now, self.quotas.window);
            // Work that is charged at its end still needs a window that is not full.
            let needed = amount.max(u64::from(self.quotas.accounting == Accounting::Produced));
            if window.sum.saturating_add(needed) > most {
                let refusal = Refusal {
                    limit,
                    retry_after: window.fits_in(now, self.quotas.window, most, needed),
                };
                worst = Some(worst.map_or(refusal, |other| later(other, refusal)));
            }
        }
        if worst.is_none()
            && self
                .quotas
                .concurrency
                .is_some_and(|most| self.running >= most)
        {
            // Nobody knows when a running answer ends; a second is the least that the
            // header can say.
            worst = Some(Refusal {
                limit: Limit::Concurrency,
                retry_after: Some(Duration::from_secs(1)),
            });
        }
        if let Some(refusal) = worst {
            return Err(refusal);
        }
        self.sequence += 1;
        self.running += 1;
        for ((window, most), amount) in self
            .windows
            .iter_mut()
            .zip(self.quotas.limits())
            .zip(charge)
        {
            if most.is_some() {
                window.push(now, self.sequence, amount);
            }
        }
        Ok(Ticket {
            sequence: self.sequence,
            cost,
        })
    }

    /// Ends a request that sent `produced` output tokens.
    pub fn settle(&mut self, now: Instant, ticket: Ticket, produced: u64) {
        self.running = self.running.saturating_sub(1);
        let limits = self.quotas.limits();
        let windows = self.windows.iter_mut().zip(limits).skip(2);
        for ((window, most), input) in windows.zip([0, ticket.cost.input]) {
            match (most, self.quotas.accounting) {
                (None, _) | (_, Accounting::Actual) => {}
                (Some(_), Accounting::Reserved) => {
                    window.correct(ticket.sequence, input.saturating_add(produced));
                }
                (Some(_), Accounting::Produced) => {
                    window.expire(now, self.quotas.window);
                    window.push(now, u64::MAX, produced);
                }
            }
        }
    }

    /// How full a window is; `None` where no limit is set.
    pub fn level(&mut self, now: Instant, limit: Limit) -> Option<Level> {
        let at = Limit::ALL.iter().position(|known| *known == limit)?;
        let most = self.quotas.limits()[at]?;
        let window = &mut self.windows[at];
        window.expire(now, self.quotas.window);
        Some(Level {
            limit: most,
            remaining: most.saturating_sub(window.sum),
            reset: window.empty_in(now, self.quotas.window),
        })
    }

    fn charge(&self, cost: Cost) -> [u64; Limit::WINDOWED] {
        let output = match self.quotas.accounting {
            Accounting::Actual => cost.output,
            Accounting::Reserved => cost.max_output.unwrap_or(cost.output),
            Accounting::Produced => 0,
        };
        [1, cost.input, output, cost.input.saturating_add(output)]
    }
}

/// The charges of the last window, oldest first. `sum` is their sum.
#[derive(Debug, Default)]
struct Window {
    charges: VecDeque<Charge>,
    sum: u64,
}

#[derive(Debug, Clone, Copy)]
struct Charge {
    at: Instant,
    sequence: u64,
    amount: u64,
}

impl Window {
    /// A charge made at `t` counts in `[t, t + length)`.
    fn expire(&mut self, now: Instant, length: Duration) {
        while let Some(oldest) = self.charges.front()
            && now.duration_since(oldest.at) >= length
        {
            self.sum -= oldest.amount;
            self.charges.pop_front();
        }
    }

    fn push(&mut self, at: Instant, sequence: u64, amount: u64) {
        self.sum = self.sum.saturating_add(amount);
        self.charges.push_back(Charge {
            at,
            sequence,
            amount,
        });
    }

    fn correct(&mut self, sequence: u64, amount: u64) {
        if let Ok(at) = self.charges.binary_search_by_key(&sequence, |c| c.sequence) {
            let charge = &mut self.charges[at];
            self.sum = self.sum - charge.amount + amount;
            charge.amount = amount;
        }
    }

    /// When `amount` more fits below `most`, if it ever does.
    fn fits_in(&self, now: Instant, length: Duration, most: u64, amount: u64) -> Option<Duration> {
        let room = most.checked_sub(amount)?;
        let mut sum = self.sum;
        for charge in &self.charges {
            if sum <= room {
                break;
            }
            sum -= charge.amount;
            if sum <= room {
                return Some(length.saturating_sub(now.duration_since(charge.at)));
            }
        }
        Some(Duration::ZERO)
    }

    fn empty_in(&self, now: Instant, length: Duration) -> Duration {
        self.charges.back().map_or(Duration::ZERO, |newest| {
            length.saturating_sub(now.duration_since(newest.at))
        })
    }
}

fn later(one: Refusal, other: Refusal) -> Refusal {
    match (one.retry_after, other.retry_after) {
        (None, _) => one,
        (_, None) => other,
        (Some(a), Some(b)) if b > a => other,
        _ => one,
    }
}

#[cfg(test)]
#[path = "quota/tests.rs"]
mod tests;
