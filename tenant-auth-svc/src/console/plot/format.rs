//! Values as people read them: three digits and a unit.

use std::time::Duration;

use crate::console::html::duration;

/// What the values of a plot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum Unit {
    /// Events per second.
    Rate,
    /// Seconds.
    Seconds,
    /// A number of things.
    Count,
}

/// Ends of an axis of times, in seconds: from a minute on, a decimal one would be odd.
const LONG_TIMES: [f32; 12] = [
    60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
];

/// A value with its unit; `none` if there is no value.
pub(in crate::console) fn show(value: f32, unit: Unit) -> String {
    match unit {
        _ if value.is_nan() => "none".to_owned(),
        Unit::Rate => format!("{}/s", count(value)),
        Unit::Count => count(value),
        Unit::Seconds if value < 0.000_999_5 => format!("{} µs", count(value * 1_000_000.0)),
        Unit::Seconds if value < 0.999_5 => format!("{} ms", count(value * 1_000.0)),
        Unit::Seconds if value < 59.95 => format!("{} s", count(value)),
        Unit::Seconds => duration(Duration::try_from_secs_f32(value).unwrap_or_default()),
    }
}

/// A number in at least three digits, if it has so many; thousands are set apart.
pub(in crate::console) fn count(value: f32) -> String {
    let text = match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    let Some((whole, part)) = text.split_once('.') else { return group(&text) };
    match part.trim_end_matches('0') {
        "" => whole.to_owned(),
        part => format!("{whole}.{part}"),
    }
}

fn group(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{a0}');
        }
        grouped.push(digit);
    }
    grouped
}

/// The end of an axis: at least the highest value, and a number that people like.
pub(super) fn round_up(highest: f32, unit: Unit) -> f32 {
    if highest.is_nan() || highest <= 0.0 {
        return match unit {
            Unit::Rate | Unit::Count => 1.0,
            Unit::Seconds => 0.001,
        };
    }
    if unit == Unit::Seconds && highest > 50.0 {
        return LONG_TIMES.into_iter().find(|time| *time >= highest).unwrap_or(highest);
    }
    let power = 10_f32.powf(highest.log10().floor());
    // A hair more than the highest value counts as enough: powers are not exact.
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power * 1.000_1 >= highest);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit() {
        for (value, unit, shown) in [
            (0.0, Unit::Rate, "0/s"),
            (0.1, Unit::Rate, "0.1/s"),
            (41.0, Unit::Rate, "41/s"),
            (61.54, Unit::Rate, "61.5/s"),
            (1_234_567.0, Unit::Count, "1\u{a0}234\u{a0}567"),
            (999.0, Unit::Count, "999"),
            (0.000_05, Unit::Seconds, "50 µs"),
            (0.001_2, Unit::Seconds, "1.2 ms"),
            (0.999_9, Unit::Seconds, "1 s"),
            (59.9, Unit::Seconds, "59.9 s"),
            (312.0, Unit::Seconds, "5 min 12 s"),
            (f32::NAN, Unit::Seconds, "none"),
        ] {
            assert_eq!(show(value, unit), shown);
        }
    }

    #[test]
    fn axis_ends_at_a_round_number() {
        for (highest, unit, end) in [
            (0.0, Unit::Rate, "1/s"),
            (f32::NAN, Unit::Seconds, "1 ms"),
            (61.5, Unit::Rate, "100/s"),
            (100.0, Unit::Rate, "100/s"),
            (101.0, Unit::Rate, "200/s"),
            (0.003, Unit::Seconds, "5 ms"),
            (313.0, Unit::Seconds, "10 min"),
            (14_400.0, Unit::Seconds, "4 h"),
        ] {
            assert_eq!(show(round_up(highest, unit), unit), end, "{highest}");
        }
    }
}
