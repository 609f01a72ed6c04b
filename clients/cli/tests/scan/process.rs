//! Exit codes, streams and failures.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{command, generate_key, scan, text};

/// Returns the end of the line of a finding.
fn shown(key: &str) -> String {
    format!("{}…  sha256 {}…", &key[..7], hex::encode(&Sha256::digest(key.as_bytes())[..6]))
}

#[test]
fn finding_names_place_and_never_shows_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (generate_key("ta"), generate_key("acme_live"));
    let path = folder.path().join("a.env");
    fs::write(&path, format!("x\nONE={one}\nTWO={two}\nAGAIN={one}\n")).unwrap();
    let name = text(&path);

    let ran = scan(&[text(folder.path())], b"");
    let expected = format!("{name}:2: {0}\n{name}:4: {0}\n", shown(&one));
    assert_eq!((ran.code, &*ran.stdout), (1, &*expected));
    assert!(ran.stderr.starts_with("2 findings; 1 file scanned, "), "{}", ran.stderr);
    let ran = scan(&[name, "--prefix", "acme_live"], b"");
    assert_eq!(ran.stdout.matches("acme_live_").count(), 1, "{}", ran.stdout);
    assert!(ran.stdout.contains(&two[..14]) && !ran.stdout.contains(&two[..15]), "{}", ran.stdout);
    let ran = scan(&[name, "--prefix", "ta", "--prefix", "acme_live"], b"");
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
}

#[test]
fn scan_result_as_json_is_one_document() {
    let key = generate_key("ta");
    let ran = scan(&["--json", "-"], format!("\n{key}").as_bytes());
    let finding = json!({
        "path": "<stdin>", "line": 2, "prefix": &key[..7],
        "sha256_prefix": hex::encode(&Sha256::digest(key.as_bytes())[..6]),
    });
    let expected = json!({
        "findings": [finding], "found": 1, "files": 1, "bytes": 40, "unread": 0, "reports": null,
    });
    assert_eq!((ran.code, serde_json::from_str::<Value>(&ran.stdout).unwrap()), (1, expected));
    assert!(ran.stdout.starts_with("{\n  \"findings\": [\n    {\n      \"path\": "), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\n  \"reports\": null\n}\n"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
    let nothing: Value = serde_json::from_str(&scan(&["--json", "-"], b"").stdout).unwrap();
    assert_eq!((&nothing["findings"], &nothing["files"]), (&json!([]), &json!(1)));
}

#[test]
fn unread_path_is_named_and_sets_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, empty) = (folder.path().join("missing"), folder.path().join("empty"));
    fs::write(&empty, "").unwrap();
    let ran = scan(&[text(&empty)], b"");
    assert_eq!((ran.code, &*ran.stdout), (0, ""));
    let ran = scan(&[text(&missing), text(&empty)], b"");
    assert_eq!((ran.code, &*ran.stdout), (6, ""));
    assert!(ran.stderr.starts_with(&format!("{}: No such file", text(&missing))), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 could not be read completely"), "{}", ran.stderr);

    // A key matters more.
    let key = generate_key("ta");
    let ran = scan(&["--json", text(&missing), "-"], key.as_bytes());
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &json["found"], &json["unread"]), (1, &json!(1), &json!(1)));
    let note: Value = serde_json::from_str(ran.stderr.trim_end()).unwrap();
    assert!(note["note"].as_str().unwrap().starts_with(text(&missing)), "{note}");
}

#[cfg(target_os = "linux")]
#[test]
fn file_that_fails_while_it_is_read_is_named() {
    // Its first page cannot be read.
    let ran = scan(&["/proc/self/mem", "/proc/self/environ"], b"");
    assert_eq!((ran.code, &*ran.stdout), (6, ""), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("/proc/self/mem: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("; 1 file scanned"), "a file without a length: {}", ran.stderr);
}

#[test]
fn invalid_scan_option_exits_with_2() {
    for (args, expected) in [
        (&["--exclude", "a[", "."][..], "--exclude: "),
        (&["--prefix", "Ta", "."], "must be 1 to 18 characters"),
        (&["--source", "x", "."], "--report"),
        (&["--report", "--source", "a b", "."], "must be 1 to 64 visible ASCII characters"),
        (&["--report", "--token-file", "/nowhere/token", "."], "--token-file: cannot read"),
        (&[], "<PATH>"),
    ] {
        let ran = scan(args, b"");
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    }
}

#[cfg(unix)]
#[test]
fn finding_in_a_slow_stream_is_printed_before_a_signal_ends() {
    use std::os::unix::process::ExitStatusExt as _;

    let key = generate_key("ta");
    let mut child = command(&["-"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Less could be the beginning of an archive.
    stdin.write_all(format!("{}\n{key}\n", "x".repeat(600)).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("<stdin>:2: {}\n", shown(&key)));

    // As Ctrl-C does: the program handles neither. A shell lets its background jobs, such as this test, ignore SIGINT.
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[cfg(target_os = "linux")]
#[test]
fn endless_stream_needs_little_memory() {
    let mut child = command(&["-"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One line, and the beginning of a key again and again.
    let part = "ta_0123456789ABCDEFGHIJKLMNOPQRST".repeat(32 * 1_024);
    for _ in 0..200 {
        stdin.write_all(part.as_bytes()).unwrap();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 64 * 1_024, "{kibibytes} KiB after {} MiB", 200 * part.len() / 1_048_576);
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn closed_stdout_ends_the_scan() {
    let key = generate_key("ta");
    let mut child = command(&["-"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let line = format!("{key}\n").repeat(1_000);
    // Endless for a program that reads on.
    while stdin.write_all(line.as_bytes()).is_ok() {}
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8(output.stderr).unwrap()), (Some(1), ""));
}
