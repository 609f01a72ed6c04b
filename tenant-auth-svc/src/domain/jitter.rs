//! Random jitter, so that replicas and callers do not act at the same time.

/// Returns a uniformly distributed number from 0 to 1, or `without_randomness` if the operating system has no
/// random bytes. Without jitter all replicas act at the same time, which is slower but correct.
#[must_use]
pub fn random_fraction(without_randomness: f64) -> f64 {
    getrandom::u32().map_or(without_randomness, |value| f64::from(value) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_fraction_covers_its_whole_range() {
        let values: Vec<_> = (0..1_000).map(|_| random_fraction(2.0)).collect();
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
        assert!(values.iter().any(|value| *value < 0.25) && values.iter().any(|value| *value > 0.75));
    }
}
