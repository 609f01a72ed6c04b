//! Windows of the calendar, and refills, in SQL: by the database's clock, because there is only one.

/// Returns the start of the window that contains a time; NULL if `window` is none of the calendar. Both are SQL expressions.
pub(super) fn window_start_sql(window: &str, at: &str) -> String {
    format!(
        "CASE {window} WHEN 'hour' THEN {at} - {at} % 3600000 WHEN 'day' THEN {at} - {at} % 86400000 \
         WHEN 'month' THEN CAST(strftime('%s', {at} / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000 END"
    )
}

/// Returns the end of the window that contains a time; NULL if `window` is none of the calendar.
pub(super) fn window_end_sql(window: &str, at: &str) -> String {
    format!(
        "CASE {window} WHEN 'hour' THEN {at} - {at} % 3600000 + 3600000 WHEN 'day' THEN {at} - {at} % 86400000 + 86400000 \
         WHEN 'month' THEN CAST(strftime('%s', {at} / 1000, 'unixepoch', 'start of month', '+1 month') AS INTEGER) * 1000 END"
    )
}

/// Returns how many windows began after one time and until another; 0 if `window` is none of the calendar.
fn windows_begun_sql(window: &str, from: &str, until: &str) -> String {
    let month = |at: &str| {
        format!("(strftime('%Y', {at} / 1000, 'unixepoch') * 12 + strftime('%m', {at} / 1000, 'unixepoch'))")
    };
    format!(
        "max(CASE {window} WHEN 'hour' THEN {until} / 3600000 - {from} / 3600000 \
            WHEN 'day' THEN {until} / 86400000 - {from} / 86400000 WHEN 'month' THEN {} - {} ELSE 0 END, 0)",
        month(until),
        month(from)
    )
}

/// Returns the credits of a counter with the refills until a time. `limit` and `counter` name rows of the tables.
///
/// A refill raises the balance at most to the maximum, and never lowers it.
pub(in crate::database::sql) fn credited_sql(limit: &str, counter: &str, now: &str) -> String {
    let begun = windows_begun_sql(&format!("{limit}.refill_every"), &format!("{counter}.refreshed_at"), now);
    let refilled = format!("{counter}.credited + {begun} * {limit}.refill_amount");
    format!(
        "CASE WHEN {limit}.max_balance = 0 THEN {refilled} \
         ELSE max({counter}.credited, min({refilled}, {counter}.counted + {limit}.max_balance)) END"
    )
}
