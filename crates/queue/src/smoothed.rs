//! A smoothed mean and deviation, as TCP keeps of its round trips (RFC 6298, section 2).

/// Weights of a new value, as in RFC 6298.
const GAIN: f64 = 0.125;
const DEVIATION_GAIN: f64 = 0.25;

/// See the module's text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Smoothed {
    mean: f64,
    deviation: f64,
    seen: u32,
}

impl Smoothed {
    pub(crate) fn learn(&mut self, value: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.mean = value;
            self.deviation = value / 2.0;
            return;
        }
        let off = (value - self.mean).abs();
        self.deviation += DEVIATION_GAIN * (off - self.deviation);
        self.mean += GAIN * (value - self.mean);
    }

    /// How many values were seen.
    pub(crate) fn seen(&self) -> u32 {
        self.seen
    }

    /// The mean and this many deviations.
    pub(crate) fn above(&self, deviations: f64) -> f64 {
        self.mean + deviations * self.deviation
    }
}

/// A smoothed mean and variance that weigh the first values equally and remember the
/// last thousand: slower than [`Smoothed`], and far steadier.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    mean: f64,
    variance: f64,
    seen: u32,
}

impl Moments {
    const MEMORY: u32 = 1024;

    pub(crate) fn learn(&mut self, value: f64) {
        self.seen = (self.seen + 1).min(Self::MEMORY);
        let gain = 1.0 / f64::from(self.seen);
        let off = value - self.mean;
        self.mean += gain * off;
        // West 1979: the exponentially weighted form.
        self.variance = (1.0 - gain) * (self.variance + gain * off * off);
    }

    /// How many values were seen, as far as they are remembered.
    pub(crate) fn seen(&self) -> u32 {
        self.seen
    }

    pub(crate) fn variance(&self) -> f64 {
        self.variance
    }

    /// The mean and this many standard deviations.
    pub(crate) fn above(&self, deviations: f64) -> f64 {
        self.mean + deviations * self.variance.sqrt()
    }
}
