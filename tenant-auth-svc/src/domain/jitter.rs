//! Chance, so that replicas and callers do not act in step.

/// A number from 0 to 1, each as likely as the others; `without_randomness` where the operating system gives none, which makes
/// everybody act in step: worse, not wrong.
#[must_use]
pub fn random_fraction(without_randomness: f64) -> f64 {
    getrandom::u32().map_or(without_randomness, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_fraction_covers_its_whole_range() {
        let drawn: Vec<_> = (0..1_000).map(|_| random_fraction(2.0)).collect();
        assert!(drawn.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(drawn.iter().any(|chance| *chance < 0.25) && drawn.iter().any(|chance| *chance > 0.75));
    }
}
