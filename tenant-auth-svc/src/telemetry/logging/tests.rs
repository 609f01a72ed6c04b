use std::{
    io,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tracing::subscriber::with_default;

use super::*;
use crate::domain::{
    audit::AUDIT_LOG_TARGET,
    clock::{ManualClock, UnixMillis},
};

#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl CapturedLog {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged meanwhile, under a clock that can be moved.
fn capture_log(format: LogFormat, run: impl FnOnce(&ManualClock, &Log)) -> CapturedLog {
    let (memory, clock) = (CapturedLog::default(), ManualClock::at(UnixMillis(0)));
    let config = LogConfig { filter: "info".to_owned(), format, colours: false, burst: NonZeroU32::new(5) };
    let writer = memory.clone();
    let shared: SharedClock = Arc::<ManualClock>::clone(&clock) as SharedClock;
    let (subscriber, log) = subscriber(&config, shared, move || writer.clone());
    with_default(subscriber, || run(&clock, &log));
    memory
}

fn log_refusals(times: usize, code: &str) {
    for number in 0..times {
        tracing::warn!(target: RPC_TARGET, request_id = number, rpc.method = "a.B/C", rpc.response.status_code = code, "rpc handled");
    }
}

fn count(lines: &[Value], code: &str) -> (usize, u64) {
    let of_it: Vec<_> = lines.iter().filter(|line| line["rpc.response.status_code"] == code).collect();
    let suppressed: u64 = of_it.iter().filter_map(|line| line["suppressed_lines"].as_u64()).sum();
    let written = of_it.iter().filter(|line| line.get("suppressed_lines").is_none()).count();
    (of_it.len(), suppressed + u64::try_from(written).unwrap())
}

#[test]
fn field_names_are_unique_in_a_line() {
    let memory = capture_log(LogFormat::Json, |_, _| {
        let message = "what the database said";
        tracing::warn!(message, level = "low", target = 7, timestamp = true, "database call failed");
        tracing::warn!(message);
    });
    let text = memory.text();
    for name in ["message", "level", "target", "timestamp"] {
        assert_eq!(text.lines().next().unwrap().matches(&format!("\"{name}\":")).count(), 1, "{text}");
    }
    let lines = memory.lines();
    assert_eq!(lines[0]["message"], "database call failed");
    assert_eq!(lines[0]["message_2"], "what the database said");
    assert_eq!((&lines[0]["level_2"], &lines[0]["target_2"]), (&Value::from("low"), &Value::from(7)));
    assert_eq!(lines[1]["message"], "what the database said");
}

#[test]
fn values_are_truncated_and_escaped() {
    let long = "/x".repeat(7_500);
    let run = |_: &ManualClock, _: &Log| {
        tracing::warn!(path = long, error = %io::Error::other(long.clone()), short = "a \"b\"", "refused {long}");
        tracing::warn!(name = "\u{202e}evil\u{200b}\u{1b}[31m\ntwo\u{2028}", "escaped");
    };
    for format in [LogFormat::Json, LogFormat::Text] {
        let text = capture_log(format, run).text();
        assert!(text.len() < 3 * (line::MAX_VALUE_BYTES + 32) + 400, "{}: {text}", text.len());
        assert!(text.contains("… (15000 bytes)") && text.contains("… (15008 bytes)"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        for bad in ['\u{202e}', '\u{200b}', '\u{2028}'] {
            assert!(!text.contains(bad), "{text}");
        }
        assert!(!text.contains("\u{1b}[31m\n") && text.contains("u{202e}evil"), "{text}");
    }
}

#[test]
fn flood_is_sampled_and_the_rest_is_counted() {
    let memory = capture_log(LogFormat::Json, |clock, log| {
        log_refusals(2_000, "Unauthenticated");
        log_refusals(3, "Internal");
        log.flush_due_counts();
        clock.advance(Duration::from_secs(10));
        log.flush_due_counts();
        log_refusals(700, "Unauthenticated");
        clock.advance(Duration::from_secs(11));
        // Without anybody who asks for the count, the next line brings it.
        log_refusals(1, "Unauthenticated");
        clock.advance(Duration::from_secs(10));
        log.flush_due_counts();
        clock.advance(Duration::from_secs(10));
        log.flush_due_counts();
        // It is over, and begins anew.
        log_refusals(7, "Unauthenticated");
        log.finish();
    });
    let lines = memory.lines();
    assert_eq!(count(&lines, "Unauthenticated"), (5 + 1 + 1 + 1 + 1 + 5 + 1, 2_708), "{}", memory.text());
    assert_eq!(count(&lines, "Internal"), (3, 3), "other kinds have lines of their own");
    for (suppressed, seconds) in [(1_995, 10), (699, 11)] {
        let summary = lines.iter().find(|line| line["suppressed_lines"] == suppressed).unwrap();
        assert_eq!(summary["message"], "similar log lines suppressed");
        assert_eq!(
            (&summary["suppressed_message"], &summary["interval_s"]),
            (&Value::from("rpc handled"), &Value::from(seconds))
        );
    }
    let summary = lines.iter().find(|line| line["suppressed_lines"] == 1_995).unwrap();
    assert_eq!(
        (&summary["level"], &summary["target"], &summary["rpc.method"]),
        (&Value::from("WARN"), &Value::from(RPC_TARGET), &Value::from("a.B/C"))
    );
}

#[test]
fn line_kinds_are_bounded_and_no_line_is_uncounted() {
    let memory = capture_log(LogFormat::Json, |_, log| {
        for number in 0..5_000 {
            log_refusals(1, &format!("made-up-{number}"));
        }
        log.finish();
    });
    let lines = memory.lines();
    assert!(lines.len() < 600, "{}", lines.len());
    let suppressed: u64 = lines.iter().filter_map(|line| line["suppressed_lines"].as_u64()).sum();
    let written = lines.iter().filter(|line| line.get("suppressed_lines").is_none()).count();
    assert_eq!(suppressed + u64::try_from(written).unwrap(), 5_000);
}

#[test]
fn audit_fallback_lines_are_never_suppressed() {
    let memory = capture_log(LogFormat::Json, |_, _| {
        for _ in 0..100 {
            tracing::warn!(target: AUDIT_LOG_TARGET, "the grace was changed");
        }
    });
    assert_eq!(memory.lines().len(), 100);
}
