//! Medians and spread.

/// Values of several rounds.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of an even number, between the two in the middle. 0 without any.
    #[must_use]
    pub fn median(&self) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = |index: usize| self.0.get(index).copied().unwrap_or_default();
        f64::midpoint(at(last / 2), at(last.div_ceil(2)))
    }

    /// The lowest and the highest.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or_default();
        (end(self.0.first()), end(self.0.last()))
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
    }
}
