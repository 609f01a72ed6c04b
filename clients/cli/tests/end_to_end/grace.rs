//! Commands that show, set and reset the grace of one replica.

use crate::harness::Service;

#[test]
fn replica_grace_is_shown_set_and_reset() {
    let service = Service::start();
    let shown = service.json(&["grace", "show"]);
    assert_eq!((&shown["grace_seconds"], &shown["audited"]), (&14_400.into(), &serde_json::Value::Null));
    let set = service.json(&["grace", "set", "12h", "--expires-in", "1d", "--reason", "an outage"]);
    assert_eq!((&set["grace_seconds"], &set["configured_seconds"]), (&43_200.into(), &14_400.into()));
    assert_eq!((&set["audited"], &set["reason"]), (&true.into(), &"an outage".into()));
    let ran = service.run(&["grace", "show"], "");
    assert!(ran.stdout.contains("12h") && ran.stdout.contains("an outage"), "{}", ran.stdout);
    assert!(ran.stderr.contains("this replica only"), "{}", ran.stderr);

    let ran = service.run(&["grace", "set", "8d", "--expires-in", "1d", "--reason", "too long"], "");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("TIME: must be from 0 s to 604800 s"), "{}", ran.stderr);
    let reset = service.json(&["grace", "reset", "--reason", "over"]);
    assert_eq!((&reset["grace_seconds"], &reset["expires_at"]), (&14_400.into(), &serde_json::Value::Null));
}
