//! Plots of the last hour as SVG, of one size whatever they show, so that nothing jumps.

mod format;

use std::time::Duration;

use maud::{Markup, html};

pub(super) use self::format::{Unit, count, show};
use crate::{domain::clock::UnixMillis, ops::format_rfc3339};

/// The time that a plot shows.
const SPAN: Duration = Duration::from_secs(3_600);
/// Without a sample for longer than this, a line is interrupted.
const MAX_GAP: Duration = Duration::from_secs(30);
/// The size of the plot in the units of the paths: two per sample.
const WIDTH: i64 = 720;
const HEIGHT: f32 = 180.0;
/// How lines are drawn apart from their colours: dashes and gaps. The first is solid.
const DASHES: [&str; 8] = ["", "10 4", "2 4", "10 4 2 4", "16 4", "4 8", "10 4 2 4 2 4", "2 10"];

/// Lines over the last hour.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line>,
}

/// A line; what there is no value of is not a number.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) label: &'static str,
    pub(super) values: Vec<f32>,
    /// Whether it is better at 0.
    pub(super) is_bad: bool,
}

impl Line {
    fn latest(&self) -> f32 {
        self.values.last().copied().unwrap_or(f32::NAN)
    }

    fn highest(&self) -> f32 {
        self.values.iter().copied().fold(f32::NAN, f32::max)
    }
}

/// The plot, with a legend that has the latest values. `times`: those of the values.
pub(super) fn render(plot: &Plot, times: &[UnixMillis]) -> Markup {
    let title_id = format!("{}-title", plot.id);
    let highest = plot.lines.iter().map(Line::highest).fold(f32::NAN, f32::max);
    let top = format::round_up(highest, plot.unit);
    let newest = times.last().copied().filter(|_| times.len() > 1);
    html! {
        figure.plot {
            figcaption { (plot.title) }
            svg viewBox="0 0 360 118" width="360" height="118" role="img" aria-labelledby=(title_id) {
                title id=(title_id) { (summary(plot, newest.is_some())) }
                path.grid d="M0 12.5h360M0 57.5h360M0 102.5h360" {}
                @if let Some(newest) = newest {
                    text x="0" y="9" { (show(top, plot.unit)) }
                    @for (minutes, x, anchor) in [(60, 0, "start"), (30, 180, "middle"), (0, 360, "end")] {
                        text x=(x) y="115" text-anchor=(anchor) { (time_of_day(newest, minutes)) }
                    }
                    g transform="translate(0 12.5) scale(.5)" {
                        @for (index, line) in plot.lines.iter().enumerate() {
                            path.line.bad[line.is_bad].other[index > 0] stroke-dasharray=[dashes(index)]
                                d=(path(&line.values, times, newest, top)) {}
                        }
                    }
                } @else {
                    text x="180" y="60" text-anchor="middle" { "Not enough samples yet: there is one every 10 s." }
                }
            }
            ul.legend {
                @for (index, line) in plot.lines.iter().enumerate() {
                    li {
                        svg viewBox="0 0 24 8" width="24" height="8" aria-hidden="true" {
                            g transform="translate(0 4) scale(.5)" {
                                path.line.bad[line.is_bad].other[index > 0] stroke-dasharray=[dashes(index)] d="M0 0h48" {}
                            }
                        }
                        " " (line.label) " " span.value { (show(line.latest(), plot.unit)) }
                    }
                }
            }
        }
    }
}

/// The rows of a table of the latest values, for those who do not see plots.
pub(super) fn rows(plots: &[Plot]) -> Markup {
    html! {
        @for plot in plots {
            @for line in &plot.lines {
                tr {
                    th scope="row" { (plot.title) ": " (line.label) }
                    td.number { (show(line.latest(), plot.unit)) }
                    td.number { (show(line.highest(), plot.unit)) }
                }
            }
        }
    }
}

/// What the plot shows, in words.
fn summary(plot: &Plot, has_values: bool) -> String {
    if !has_values {
        return format!("{}: not enough samples yet", plot.title);
    }
    let line = |line: &Line| {
        let (latest, highest) = (show(line.latest(), plot.unit), show(line.highest(), plot.unit));
        format!("{} {latest} now, at most {highest}", line.label)
    };
    let lines: Vec<_> = plot.lines.iter().map(line).collect();
    format!("{} in the last hour: {}", plot.title, lines.join("; "))
}

fn time_of_day(newest: UnixMillis, minutes: i64) -> String {
    let at = format_rfc3339(UnixMillis(newest.0 - minutes * 60_000));
    let time = at.get(11..16).unwrap_or_default();
    if minutes == 0 { format!("{time} UTC") } else { time.to_owned() }
}

fn dashes(index: usize) -> Option<&'static str> {
    DASHES.get(index % DASHES.len()).copied().filter(|dashes| !dashes.is_empty())
}

/// The commands that draw a line: relative, and without the points on a level, because a page has dozens of lines.
fn path(values: &[f32], times: &[UnixMillis], newest: UnixMillis, top: f32) -> String {
    let mut commands = String::new();
    for piece in pieces(values, times, newest, top) {
        let is_corner = |place: usize| {
            let level = |other: Option<&(i64, i64)>| other.map(|(_, y)| *y);
            let here = level(piece.get(place));
            place == 0 || level(piece.get(place - 1)) != here || level(piece.get(place + 1)) != here
        };
        let corners =
            piece.iter().enumerate().filter(|(place, _)| is_corner(*place)).map(|(_, point)| *point);
        let mut last: Option<(i64, i64)> = None;
        for (x, y) in corners {
            match last {
                None => commands += &format!("M{x} {y}l"),
                Some((last_x, last_y)) => {
                    let (dx, dy) = (x - last_x, y - last_y);
                    let space = if commands.ends_with('l') { "" } else { " " };
                    let between = if dy < 0 { "" } else { " " };
                    commands += &format!("{space}{dx}{between}{dy}");
                }
            }
            last = Some((x, y));
        }
        // A point of its own is a dot.
        if commands.ends_with('l') {
            commands += "1 0";
        }
    }
    commands
}

/// The points of a line, in pieces between which there are no values.
fn pieces(values: &[f32], times: &[UnixMillis], newest: UnixMillis, top: f32) -> Vec<Vec<(i64, i64)>> {
    let mut pieces: Vec<Vec<(i64, i64)>> = Vec::new();
    let mut last_at = None;
    for (value, at) in values.iter().zip(times) {
        let age = newest.since(*at);
        if value.is_nan() || age > SPAN {
            last_at = None;
            continue;
        }
        let point = (x(age), y(value / top));
        match pieces.last_mut().filter(|_| last_at.is_some_and(|last| at.since(last) <= MAX_GAP)) {
            Some(piece) => piece.push(point),
            None => pieces.push(vec![point]),
        }
        last_at = Some(*at);
    }
    pieces
}

fn x(age: Duration) -> i64 {
    let back = age.as_millis() * WIDTH.unsigned_abs() as u128 / SPAN.as_millis();
    WIDTH - i64::try_from(back).unwrap_or(WIDTH)
}

#[allow(clippy::cast_possible_truncation, reason = "between 0 and the height")]
fn y(share: f32) -> i64 {
    (HEIGHT - share.clamp(0.0, 1.0) * HEIGHT).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(count: i64) -> Vec<UnixMillis> {
        (0..count).map(|place| UnixMillis(1_795_245_600_000 + place * 10_000)).collect()
    }

    fn path_of(values: &[f32]) -> String {
        let times = times(values.len().try_into().unwrap());
        path(values, &times, *times.last().unwrap(), 10.0)
    }

    #[test]
    fn line_ends_at_the_right_and_levels_have_no_points() {
        assert_eq!(path_of(&[0.0, 10.0]), "M718 180l2-180");
        assert_eq!(path_of(&[5.0, 5.0, 5.0, 5.0, 10.0, 0.0]), "M710 90l6 0 2-90 2 180");
    }

    #[test]
    fn line_is_interrupted_where_there_are_no_values() {
        assert_eq!(path_of(&[0.0, 0.0, f32::NAN, 5.0]), "M714 180l2 0M720 90l1 0");
        assert_eq!(path_of(&[f32::NAN, f32::NAN]), "");
        let gap = [UnixMillis(0), UnixMillis(10_000), UnixMillis(60_000)];
        assert_eq!(path(&[0.0, 0.0, 0.0], &gap, gap[2], 10.0), "M708 180l2 0M720 180l1 0");
    }

    #[test]
    fn values_older_than_an_hour_are_not_drawn() {
        let times = [UnixMillis(0), UnixMillis(3_600_000), UnixMillis(3_610_000)];
        assert_eq!(path(&[0.0, 0.0, 0.0], &times, times[2], 10.0), "M718 180l2 0");
    }

    fn plot(values: Vec<f32>) -> Plot {
        let line = |label, is_bad| Line { label, values: values.clone(), is_bad };
        let lines = vec![line("admitted", false), line("not decided", true)];
        Plot { id: "requests", title: "Requests by result", unit: Unit::Rate, lines }
    }

    #[test]
    fn plot_says_in_words_and_with_dashes_what_it_shows() {
        let markup = render(&plot(vec![1.0, 61.5, 41.0]), &times(3)).into_string();
        let title = "<title id=\"requests-title\">Requests by result in the last hour: admitted 41/s now, at most 61.5/s; not \
                     decided 41/s now, at most 61.5/s</title>";
        assert!(markup.contains(title), "{markup}");
        assert!(markup.contains("role=\"img\" aria-labelledby=\"requests-title\""));
        assert!(markup.contains("<text x=\"0\" y=\"9\">100/s</text>"), "{markup}");
        assert!(markup.contains(">06:20</text>") && markup.contains(">07:20 UTC</text>"), "{markup}");
        let dashed = "class=\"line bad other\" stroke-dasharray=\"10 4\"";
        assert_eq!(markup.matches(dashed).count(), 2, "the line and its legend: {markup}");
        assert!(!markup.contains("style"), "the content security policy forbids it");
    }

    #[test]
    fn plot_without_samples_has_the_same_size() {
        let size = |markup: &str| {
            let (_, rest) = markup.split_once("<svg ").unwrap();
            rest.split_once(" role").unwrap().0.to_owned()
        };
        let empty = render(&plot(vec![1.0]), &times(1)).into_string();
        let full = render(&plot(vec![1.0, 2.0]), &times(2)).into_string();
        assert!(empty.contains("Not enough samples yet: there is one every 10 s."), "{empty}");
        assert_eq!(size(&empty), size(&full));
    }

    #[test]
    fn hour_of_noise_is_small() {
        let values: Vec<_> =
            (0_u8..=255).cycle().take(360).map(|n| f32::from(n.wrapping_mul(97)) / 25.6).collect();
        let bytes = path_of(&values).len();
        println!("{bytes} bytes for the worst line");
        assert!(bytes < 3_000, "{bytes}");
    }
}
