//! The database state of a replica, and `database accept`.

use crate::harness::Service;

#[test]
fn database_state_is_shown_and_accepted() {
    let service = Service::start();
    let shown = service.json(&["database", "status"]);
    assert_eq!((&shown["trusted"], &shown["known"]["epoch"]), (&true.into(), &1.into()));
    let id = shown["known"]["database_id"].clone();
    assert_eq!(id.as_str().unwrap().len(), 32, "{shown}");

    let accepted = service.json(&["database", "accept", "--reason", "restored", "--reapply"]);
    let shown = (&accepted["database"]["database_id"], &accepted["accepted"]);
    assert_eq!(shown, (&id, &false.into()), "the database is already trusted");
    assert_eq!(
        (&accepted["retained_revocations"], &accepted["reapplied"]),
        (&serde_json::json!([]), &0.into())
    );
    let ran = service.run(&["database", "status"], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("trusted     yes") && ran.stdout.contains("epoch 1"), "{}", ran.stdout);

    let ran = service.run(&["database", "accept", "--reason", ""], "");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("--reason: must"), "{}", ran.stderr);
}
