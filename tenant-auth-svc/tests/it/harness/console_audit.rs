//! An audit log to look at in the console.

use tenant_auth_svc::domain::access::Role;

use super::{
    TestDatabase, TestService,
    callers::CallersFile,
    console::{Browser, start_with_people},
};

/// A service with 250 changes of keys by two callers, one per second from 2030 on, and a browser that is logged in.
pub(crate) async fn with_entries(database: &TestDatabase, role: Role) -> (CallersFile, TestService, Browser) {
    let (file, service) = start_with_people(database, &[role]).await;
    database
        .server()
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 249) \
             INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
             SELECT 1893456000000 + i * 1000, iif(i % 2, 'anna', 'bert'), iif(i % 5, 'key.issue', 'key.revoke'), \
                    'key_' || i, 'acme', 'request-' || i, 'detail ' || i FROM n",
        )
        .unwrap();
    let browser = Browser::logged_in(&service, role).await;
    (file, service, browser)
}
