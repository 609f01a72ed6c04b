//! Numbers as text.

/// A number with thin groups of three digits, such as `12,345`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut shown = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// The share of a whole, in per cent; `None` of nothing.
pub(super) fn percentage(part: i64, whole: i64) -> Option<i64> {
    let share = i128::from(part).checked_mul(100)?.checked_div(i128::from(whole))?;
    i64::try_from(share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
            (-12_345, "-12,345"),
            (i64::MIN, "-9,223,372,036,854,775,808"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn percentage_of_nothing_is_none() {
        assert_eq!(percentage(1, 0), None);
        assert_eq!(percentage(i64::MAX, i64::MAX), Some(100));
        assert_eq!(percentage(999, 1_000), Some(99));
    }
}
