//! The frame of every page, and the parts that many pages share.

use std::time::Duration;

use maud::{DOCTYPE, Markup, html};
use prost_types::Timestamp;

use super::{
    assets,
    change::FORM_TOKEN_FIELD,
    person::{ANYONE, Person},
};
use crate::{build, domain::clock::UnixMillis, ops::format_rfc3339};

/// The place of a page in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Tenants,
    Audit,
    Elsewhere,
}

/// The navigation: place, path, label.
const PLACES: [(Place, &str, &str); 3] = [
    (Place::Overview, "/", "Overview"),
    (Place::Tenants, "/tenants", "Tenants and keys"),
    (Place::Audit, "/audit", "Audit log"),
];

/// The longest text that is shown whole, in characters: longer than any that the service accepts.
const MAX_SHOWN_CHARS: usize = 300;

/// A whole page for a person.
pub(super) fn page(person: &Person, place: Place, title: &str, content: &Markup) -> Markup {
    let navigation = html! {
        nav aria-label="Pages" {
            @for (other, path, label) in PLACES {
                a href=(path) aria-current=[(other == place).then_some("page")] { (label) }
            }
        }
        form.find method="post" action="/find" role="search" {
            (form_token(person))
            label.hidden for="find" { "Find a tenant or a key" }
            input #find type="search" name="text" maxlength="256" autocomplete="off" spellcheck="false" required
                placeholder="Tenant, key id, name, first characters, or a whole key";
            button { "Find" }
        }
        div.person {
            (text(person.name.as_deref().unwrap_or(ANYONE)))
            @if !person.may_change { span.tag { "may read" } }
            @if person.name.is_some() {
                form method="post" action="/logout" { (form_token(person)) button.quiet { "Log out" } }
            }
        }
    };
    document(title, Some(&navigation), content)
}

/// A whole page, with or without navigation.
pub(super) fn document(title: &str, navigation: Option<&Markup>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · tenant-auth" }
                link rel="stylesheet" href=(assets::STYLE.path());
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path());
                script src=(assets::SCRIPT.path()) defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header { a.brand href="/" { "tenant-auth" } @if let Some(navigation) = navigation { (navigation) } }
                main #content tabindex="-1" { (content) }
                footer { "tenant-auth " (build::THIS.version) " · " (build::THIS.commit) }
            }
        }
    }
}

/// The hidden field that every form of a person contains.
pub(super) fn form_token(person: &Person) -> Markup {
    html! { input type="hidden" name=(FORM_TOKEN_FIELD) value=(person.form_token); }
}

/// A text that somebody has chosen, such as a name: of any direction, and shortened if it is very long.
pub(super) fn text(text: &str) -> Markup {
    let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    let is_short = shown.len() == text.len();
    html! { bdi.text { (shown) @if !is_short { "… (" (text.chars().count()) " characters)" } } }
}

/// An id, to be copied.
pub(super) fn id(id: &str) -> Markup {
    html! { code.id { (id) } }
}

/// A table, which scrolls where the window is too narrow for it. Columns of numbers have a heading that ends with `#`.
pub(super) fn scrolling_table(label: &str, headings: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead {
                    tr {
                        @for heading in headings {
                            @let number = heading.strip_suffix('#');
                            th.number[number.is_some()] scope="col" { (number.unwrap_or(heading)) }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

/// A time in UTC. The script adds the local time, which appears on hover.
pub(super) fn time(at: UnixMillis) -> Markup {
    let rfc3339 = format_rfc3339(at);
    let shown = rfc3339.trim_end_matches('Z').replace('T', " ");
    html! { time datetime=(rfc3339) { (shown) span.utc { " UTC" } } }
}

/// The time of a message; `absent` where there is none.
pub(super) fn timestamp(at: Option<&Timestamp>, absent: &str) -> Markup {
    match at {
        Some(at) => {
            let millis = at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000));
            time(UnixMillis(millis))
        }
        None => html! { span.none { (absent) } },
    }
}

/// A duration in its two largest units, such as `5 min 12 s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(length, _)| seconds >= *length) else {
        return format!("{} ms", duration.as_millis());
    };
    let mut rest = seconds;
    let parts = units.iter().skip(first).take(2).filter_map(|(length, unit)| {
        let count = rest / length;
        rest %= length;
        (count > 0).then(|| format!("{count} {unit}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_two_units() {
        for (millis, shown) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (12_000, "12 s"),
            (312_000, "5 min 12 s"),
            (3_600_000, "1 h"),
            (3_601_000, "1 h"),
            (14_400_000 + 60_000, "4 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn text_of_others_is_inert_and_bounded() {
        let shown = text("<script>alert(1)</script>\u{202e}").into_string();
        assert_eq!(shown, "<bdi class=\"text\">&lt;script&gt;alert(1)&lt;/script&gt;\u{202e}</bdi>");
        let long = text(&"é".repeat(10_000)).into_string();
        assert!(long.ends_with("… (10000 characters)</bdi>") && long.len() < 700, "{long}");
    }
}
