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

    /// What [`above`](Self::above) is among things that last as long as they are large,
    /// seen at one moment: large ones are over-represented by `variance / mean`.
    pub(crate) fn running(&self, deviations: f64) -> f64 {
        // The standard deviation is about 1.3 mean absolute deviations.
        let variance = (1.3 * self.deviation).powi(2);
        self.above(deviations) + variance / self.mean.max(1.0)
    }

    /// The mean and this many deviations.
    pub(crate) fn above(&self, deviations: f64) -> f64 {
        self.mean + deviations * self.deviation
    }
}
