//! What a call takes from the quotas, holds while it runs, and how that ends.

/// What one call takes from the quotas, besides one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) input: u64,
    /// What it is expected to make.
    pub(crate) output: u64,
    /// The variance of the output, where a margin for it is kept for all calls together.
    pub(crate) variance: u64,
    /// What is set aside where that is to be enough for this call alone.
    pub(crate) safe: u64,
    /// What it declares as its limit, or as expected where it has none.
    pub(crate) declared: u64,
    /// Whether it declares a limit.
    pub(crate) limited: bool,
    /// Whether nobody knows at all how much it will make.
    pub(crate) blind: bool,
}

impl Cost {
    pub(crate) fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            variance: 0,
            safe: output,
            declared: output,
            limited: true,
            blind: false,
        }
    }

    /// Adds another call's, to a sum of many.
    pub(crate) fn add(&mut self, other: Self) {
        self.combine(other, u64::saturating_add);
    }

    /// Takes what was added.
    pub(crate) fn take(&mut self, other: Self) {
        self.combine(other, u64::saturating_sub);
    }

    fn combine(&mut self, other: Self, with: fn(u64, u64) -> u64) {
        self.input = with(self.input, other.input);
        self.output = with(self.output, other.output);
        self.safe = with(self.safe, other.safe);
        self.declared = with(self.declared, other.declared);
    }

    /// The mean of a sum over so many calls, as far as amounts go.
    pub(crate) fn over(self, calls: u64) -> Self {
        let calls = calls.max(1);
        Self {
            safe: self.safe / calls,
            declared: self.declared / calls,
            ..Self::new(self.input / calls, self.output / calls)
        }
    }
}

/// What a running call has reserved.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) cost: Cost,
    pub(crate) at: u64,
    /// What is held of its output, where it is held.
    pub(super) held: u64,
    /// The windows there were, one bit a kind: a later one does not know of it.
    pub(super) kinds: u8,
}

/// How a reservation ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settlement {
    /// The upstream said what was used.
    Used { input: u64, output: u64 },
    /// Nobody knows; at most what was reserved, or more where more was seen.
    Uncertain { input: u64, output: u64 },
    /// The upstream refused it before it did any work.
    Rejected,
    /// The call was never sent.
    Unsent,
}
