//! Medians and spread.

/// Values of several rounds, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The ratio to a baseline's value of the same round, of each round: what disturbs the machine for longer than a round
    /// disturbs both alike.
    #[must_use]
    pub fn over(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(this, baseline)| this / baseline).collect())
    }

    /// Each of them so many times.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value * factor).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one; of an even number, between the two in the middle. 0 without any.
    #[must_use]
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let last = sorted.len().saturating_sub(1);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        f64::midpoint(at(last / 2), at(last.div_ceil(2)))
    }

    /// The lowest and the highest.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or_default();
        let sorted = self.sorted();
        (end(sorted.first()), end(sorted.last()))
    }

    /// Half of the distance between the highest and the lowest, as a share of the median.
    #[must_use]
    pub fn uncertainty(&self) -> f64 {
        let (low, high) = self.spread();
        if self.median() > 0.0 { (high - low) / 2.0 / self.median() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        let mut rounds = Rounds::default();
        assert!(rounds.median() == 0.0);
        for value in [3.0, 1.0, 2.0] {
            rounds.add(value);
        }
        assert!((rounds.median() - 2.0).abs() < 1e-9);
        rounds.add(10.0);
        assert!((rounds.median() - 2.5).abs() < 1e-9);
        assert_eq!(rounds.spread(), (1.0, 10.0));
        let mut baseline = Rounds::default();
        for value in [6.0, 1.0, 4.0, 20.0] {
            baseline.add(value);
        }
        assert!((rounds.over(&baseline).median() - 0.5).abs() < 1e-9);
    }
}
