//! Medians and spread.

/// Values of several rounds, in their order; `None` of a round that was left out.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<Option<f64>>);

impl Rounds {
    /// One more.
    pub fn add(&mut self, value: Option<f64>) {
        self.0.push(value);
    }

    /// The ratio to a baseline's value of the same round, of each round: what disturbs the machine for longer than a round
    /// disturbs both alike. A round that either lacks has none.
    #[must_use]
    pub fn ratios_to(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(this, baseline)| Some((*this)? / (*baseline)?)).collect())
    }

    /// Each of them so many times.
    #[must_use]
    pub fn scaled_by(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value.map(|value| value * factor)).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.0.iter().flatten().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one; of an even number, between the two in the middle. `None` without any.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let last = sorted.len().checked_sub(1)?;
        Some(f64::midpoint(*sorted.get(last / 2)?, *sorted.get(last.div_ceil(2))?))
    }

    /// Whether most of the rounds have a value: else the median depends on which have none.
    #[must_use]
    pub fn has_most_values(&self) -> bool {
        2 * self.0.iter().flatten().count() > self.0.len()
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
        self.median().filter(|median| *median > 0.0).map_or(0.0, |median| (high - low) / 2.0 / median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_range_of_rounds() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.median(), None);
        for value in [3.0, 1.0, 2.0] {
            rounds.add(Some(value));
        }
        assert_eq!(rounds.median(), Some(2.0));
        rounds.add(Some(10.0));
        assert_eq!(rounds.median(), Some(2.5));
        assert_eq!(rounds.spread(), (1.0, 10.0));
        let mut baseline = Rounds::default();
        for value in [6.0, 1.0, 4.0, 20.0] {
            baseline.add(Some(value));
        }
        assert_eq!(rounds.ratios_to(&baseline).median(), Some(0.5));
    }

    #[test]
    fn excluded_round_is_in_no_median() {
        let (mut rounds, mut baseline) = (Rounds::default(), Rounds::default());
        for (value, of_baseline) in
            [(Some(2.0), Some(1.0)), (None, Some(1.0)), (Some(9.0), None), (Some(4.0), Some(1.0))]
        {
            rounds.add(value);
            baseline.add(of_baseline);
        }
        assert_eq!(rounds.median(), Some(4.0));
        assert_eq!(rounds.ratios_to(&baseline).median(), Some(3.0), "of the same rounds");
        assert_eq!(rounds.scaled_by(10.0).spread(), (20.0, 90.0));
        assert_eq!(Rounds::default().ratios_to(&baseline).median(), None);
        assert!(
            rounds.has_most_values() && !rounds.ratios_to(&baseline).has_most_values(),
            "3 of 4, and 2 of 4"
        );
    }
}
