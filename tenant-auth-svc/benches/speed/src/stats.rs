//! Medians and spread.

/// Values of several rounds in order; `None` for an excluded round.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<Option<f64>>);

impl Rounds {
    /// Adds a value.
    pub fn add(&mut self, value: Option<f64>) {
        self.0.push(value);
    }

    /// Returns the ratio of each round to the baseline's value of the same round: a disturbance that lasts
    /// longer than a round affects both alike. A round without one of the two values has no ratio.
    #[must_use]
    pub fn ratios_to(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(this, baseline)| Some((*this)? / (*baseline)?)).collect())
    }

    /// Multiplies each value by a factor.
    #[must_use]
    pub fn scaled_by(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value.map(|value| value * factor)).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.0.iter().flatten().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Returns the median; `None` without any value.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let last = sorted.len().checked_sub(1)?;
        Some(f64::midpoint(*sorted.get(last / 2)?, *sorted.get(last.div_ceil(2))?))
    }

    /// Returns whether most of the rounds have a value. Otherwise the median depends on which do not.
    #[must_use]
    pub fn has_most_values(&self) -> bool {
        2 * self.0.iter().flatten().count() > self.0.len()
    }

    /// Returns the lowest and the highest value.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or_default();
        let sorted = self.sorted();
        (end(sorted.first()), end(sorted.last()))
    }

    /// Returns half of the distance between the highest and the lowest value, as a share of the median.
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
