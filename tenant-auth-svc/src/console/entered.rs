//! What people enter in forms.

use std::time::Duration;

use http::StatusCode;
use prost_types::Timestamp;

use super::failure::Failure;
use crate::domain::clock::UnixMillis;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest life of a key that a form can ask for.
const MAX_DAYS: u32 = 3_650;

/// The words of a text, separated by spaces or commas.
pub(super) fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The time some days from now; `None` if nothing was entered.
pub(super) fn days_from_now(entered: &str, now: UnixMillis) -> Result<Option<Timestamp>, Failure> {
    let Some(days) = whole_number(entered, "days", 1..=MAX_DAYS)? else { return Ok(None) };
    let at = now.plus(DAY.saturating_mul(days));
    Ok(Some(Timestamp { seconds: at.0.div_euclid(1_000), nanos: 0 }))
}

/// A whole number in a range; `None` if nothing was entered.
pub(super) fn whole_number(
    entered: &str,
    of: &str,
    range: std::ops::RangeInclusive<u32>,
) -> Result<Option<u32>, Failure> {
    match entered.trim() {
        "" => Ok(None),
        entered => match entered.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = (range.start(), range.end());
                let message = format!("The number of {of} must be a whole number from {least} to {most}.");
                Err(Failure::new(StatusCode::BAD_REQUEST, &message))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_separated_by_spaces_and_commas() {
        assert_eq!(words(" a:b, c\n,\td "), ["a:b", "c", "d"]);
        assert!(words(" , ").is_empty());
    }

    #[test]
    fn numbers_outside_of_the_range_are_refused() {
        let days = |entered| days_from_now(entered, UnixMillis(5_000)).ok();
        assert_eq!(days(" "), Some(None));
        assert_eq!(days("2"), Some(Some(Timestamp { seconds: 5 + 2 * 86_400, nanos: 0 })));
        for entered in ["0", "-1", "3651", "1.5", "x"] {
            assert_eq!(days(entered), None, "{entered}");
        }
    }
}
