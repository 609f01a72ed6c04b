//! Changes by forms: who may make them, what they need, and what is recorded.

use tenant_auth_proto::v1::{self, SessionExpiry, Verdict};
use tenant_auth_testkit::Fault;

use crate::harness::{
    HttpAnswer,
    captured::TestLog,
    console::{Browser, form_token},
    console_pages::Pages,
    sessions::{bind_session, validate_session},
};

/// The caller, the action and the detail of the latest entry about a target.
async fn latest(pages: &Pages, target: &str) -> (String, String, String) {
    let request = v1::ListAuditEventsRequest { target: target.to_owned(), ..Default::default() };
    let events = pages.writer.admin().list_audit_events(request).await.unwrap().into_inner().events;
    let event = events.into_iter().next().unwrap();
    (event.caller, event.action, event.detail)
}

async fn verdict(pages: &Pages, key: &str) -> Verdict {
    pages.writer.poll_feed().await;
    pages.writer.validate(key).await.unwrap().verdict()
}

/// Returns the plaintext on a page.
fn plaintext(page: &str) -> &str {
    let (_, rest) = page.split_once("<code id=\"new-key\">").expect("the page must show a key");
    rest.split_once('<').unwrap().0
}

/// Returns the id of the form with this action.
fn form_id(page: &str, action: &str) -> String {
    let (_, form) = page.split_once(&format!("action=\"{action}\"")).expect("the form must be there");
    let (_, rest) = form.split_once("name=\"form_id\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn every_change_needs_the_role_and_a_reason() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, key_id) = pages.writer.issue_key(&tenant, &[]).await;
    let (of_tenant, of_key) = (format!("/tenants/{tenant}"), format!("/keys/{key_id}"));
    let form = "0".repeat(64);
    for path in [
        format!("{of_tenant}/suspend"),
        format!("{of_tenant}/resume"),
        format!("{of_tenant}/keys"),
        "/sessions/unbind".to_owned(),
        format!("{of_key}/rotate"),
        format!("{of_key}/pause"),
        format!("{of_key}/resume"),
        format!("{of_key}/revoke"),
    ] {
        let fields = |reason: &'static str| {
            [
                ("form_id", form.clone()),
                ("overlap_hours", "24".to_owned()),
                ("expiry", "kept".to_owned()),
                ("session_id", "s".to_owned()),
                ("tenant_id", tenant.clone()),
                ("reason", reason.to_owned()),
            ]
        };
        let send = async |browser: &Browser, reason| {
            let fields = fields(reason);
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            browser.submit("/tenants", &path, &fields).await
        };
        let answer = send(&pages.viewer, "because").await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
        assert!(answer.body.contains("changes need the role operator"), "{path}: {}", answer.body);
        for no_reason in ["", "  ", "a\u{202e}b"] {
            let answer = send(&pages.operator, no_reason).await;
            assert_eq!(answer.status, 400, "{path} {no_reason:?}: {}", answer.body);
            assert!(answer.body.contains("the reason must"), "{path}: {}", answer.body);
        }
        let fields = [("reason", "because"), ("form_token", "0000")];
        let answer = pages.operator.post_raw(&path, &fields, &pages.operator.same_origin()).await;
        assert_eq!(answer.status, 403, "{path}: a form of another page");
    }
    assert_eq!(verdict(&pages, &key).await, Verdict::Valid, "nothing has changed");
    assert_eq!(latest(&pages, &key_id).await.1, "key.issue");
}

#[tokio::test]
async fn key_is_paused_resumed_and_revoked() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, key_id) = pages.writer.issue_key(&tenant, &[]).await;
    let path = format!("/keys/{key_id}");
    for (action, expected, recorded) in [
        ("pause", Verdict::Disabled, "key.update"),
        ("resume", Verdict::Valid, "key.update"),
        ("revoke", Verdict::Revoked, "key.revoke"),
    ] {
        let reason = format!("{action} <for> ticket 7");
        let answer = pages.operator.submit(&path, &format!("{path}/{action}"), &[("reason", &reason)]).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let location = answer.header("location").unwrap().to_owned();
        assert!(location.starts_with(&format!("{path}?revision=")), "{location}");
        assert_eq!(verdict(&pages, &key).await, expected);
        let (caller, action, detail) = latest(&pages, &key_id).await;
        assert!(
            caller == "operator" && action == recorded && detail.contains(&reason),
            "{caller} {action} {detail}"
        );
        let page = pages.operator.page(&location).await;
        assert!(page.contains("role=\"status\""), "{page}");
        assert!(page.contains("&lt;for&gt; ticket 7") && !page.contains("<for>"), "{page}");
    }
    let page = pages.operator.page(&path).await;
    assert!(page.contains("A revoked key cannot be changed.") && !page.contains("/revoke\""), "{page}");
    let answer = pages.operator.submit("/tenants", &format!("{path}/resume"), &[("reason", "oops")]).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
}

#[tokio::test]
async fn tenant_is_suspended_and_resumed_and_its_session_unbound() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, _) = pages.writer.issue_key(&tenant, &[]).await;
    bind_session(&pages.writer, "session-1", &key, 600, SessionExpiry::Fixed).await.unwrap();
    let path = format!("/tenants/{tenant}");
    for (action, expected) in [("suspend", Verdict::TenantSuspended), ("resume", Verdict::Valid)] {
        let answer =
            pages.operator.submit(&path, &format!("{path}/{action}"), &[("reason", "unpaid?")]).await;
        let location = answer.header("location").unwrap_or_default().to_owned();
        assert!(
            answer.status == 303 && location.starts_with(&format!("{path}?revision=")),
            "{}",
            answer.body
        );
        assert_eq!(verdict(&pages, &key).await, expected);
        let expected = ("operator".to_owned(), format!("tenant.{action}"), "unpaid?".to_owned());
        assert_eq!(latest(&pages, &tenant).await, expected);
    }
    let fields = [("session_id", "session-1"), ("tenant_id", &*tenant), ("reason", "stolen")];
    let answer = pages.operator.submit(&path, "/sessions/unbind", &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let expected = ("operator".to_owned(), "session.unbind".to_owned(), "stolen".to_owned());
    assert_eq!(latest(&pages, "session-1").await, expected);
    pages.writer.poll_feed().await;
    let validated = validate_session(&pages.writer, "session-1", &key, &[]).await.unwrap();
    assert_eq!(validated.verdict(), Verdict::Unbound);
    assert!(pages.operator.page(&path).await.contains("No session is bound"));
}

async fn issue(pages: &Pages, tenant: &str, form: &str) -> HttpAnswer {
    let path = format!("/tenants/{tenant}");
    let fields = [
        ("form_id", form),
        ("name", "for ci"),
        ("scopes", "data:read, data:write"),
        ("networks", "203.0.113.0/24"),
        ("expires_in_days", "30"),
        ("reason", "ticket 7"),
    ];
    pages.operator.submit(&path, &format!("{path}/keys"), &fields).await
}

#[tokio::test]
async fn new_key_is_shown_once() {
    let log = TestLog::shared();
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let path = format!("/tenants/{tenant}");
    let form = form_id(&pages.operator.page(&path).await, &format!("{path}/keys"));
    let answer = issue(&pages, &tenant, &form).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.body);
    let key = plaintext(&answer.body).to_owned();
    for shown in
        ["nobody can show it again", "data-copy=\"new-key\" hidden", "data:read data:write", "for ci"]
    {
        assert!(answer.body.contains(shown), "{shown}: {}", answer.body);
    }
    let request = v1::ValidateKeyRequest {
        key: key.clone(),
        client_address: "203.0.113.7".to_owned(),
        ..Default::default()
    };
    let validated = pages.writer.validation().validate_key(request).await.unwrap().into_inner();
    assert_eq!(validated.verdict(), Verdict::Valid);
    assert!(!log.text().contains(&key), "the log has the key");

    let again = issue(&pages, &tenant, &form).await;
    assert_eq!(again.status, 409, "{}", again.body);
    for shown in ["This form was sent before", "cannot be shown again", "href=\"/keys/key_"] {
        assert!(again.body.contains(shown), "{shown}: {}", again.body);
    }
    assert!(!again.body.contains(&key), "{}", again.body);
    let page = pages.operator.page(&path).await;
    assert_eq!(page.matches("for ci</bdi></a>").count(), 1, "a reload issues nothing: {page}");
    assert!(!page.contains(&key), "{page}");
    let other = form_id(&page, &format!("{path}/keys"));
    assert_eq!(issue(&pages, &tenant, &other).await.status, 200, "another form is another key");
    assert_eq!(issue(&pages, &tenant, "made up").await.status, 400);
}

#[tokio::test]
async fn refused_form_can_be_sent_again_and_an_uncertain_one_cannot() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let path = format!("/tenants/{tenant}");
    let form = form_id(&pages.operator.page(&path).await, &format!("{path}/keys"));
    let fields = [("form_id", form.as_str()), ("scopes", "NOT A SCOPE"), ("reason", "r")];
    let answer = pages.operator.submit(&path, &format!("{path}/keys"), &fields).await;
    assert!(answer.status == 400 && answer.body.contains("scopes"), "{}", answer.body);
    pages.database.server().faults().set_writes(Fault::ResetAfterCommit);
    let answer = issue(&pages, &tenant, &form).await;
    pages.database.server().faults().clear();
    match answer.status {
        // The repetition of the write has found what the first one had written.
        200 => assert!(!plaintext(&answer.body).is_empty()),
        503 => assert!(answer.body.contains("The key may exist"), "{}", answer.body),
        status => panic!("{status}: {}", answer.body),
    }
    let again = issue(&pages, &tenant, &form).await;
    assert_eq!(again.status, 409, "{}", again.body);
}

#[tokio::test]
async fn rotated_key_is_valid_for_the_overlap_and_the_form_has_an_effect_once() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (old, old_id) = pages.writer.issue_key(&tenant, &["a"]).await;
    let path = format!("/keys/{old_id}");
    let page = pages.operator.page(&path).await;
    let (form, token) = (form_id(&page, &format!("{path}/rotate")), form_token(&page));
    let fields = [
        ("form_id", form.as_str()),
        ("form_token", &token),
        ("overlap_hours", "0"),
        ("expiry", "days"),
        ("expires_in_days", "10"),
        ("reason", "yearly"),
    ];
    let rotate = async || {
        pages.operator.post_raw(&format!("{path}/rotate"), &fields, &pages.operator.same_origin()).await
    };
    let answer = rotate().await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.body);
    let new = plaintext(&answer.body).to_owned();
    assert!(answer.body.contains(&format!("href=\"{path}\"")), "{}", answer.body);
    assert_eq!(verdict(&pages, &new).await, Verdict::Valid);
    assert_eq!(verdict(&pages, &old).await, Verdict::Expired);
    let (caller, action, detail) = latest(&pages, &old_id).await;
    assert_eq!((&*caller, &*action), ("operator", "key.rotate"));
    assert!(detail.contains("\"reason\":\"yearly\""), "{detail}");
    let again = rotate().await;
    assert!(again.status == 409 && again.body.contains("This form was sent before"), "{}", again.body);
    for (days, overlap) in [("", "0"), ("10", "-1"), ("10", "2161")] {
        let form = form_id(
            &pages.operator.page(&format!("/tenants/{tenant}")).await,
            &format!("/tenants/{tenant}/keys"),
        );
        let fields = [
            ("form_id", form.as_str()),
            ("overlap_hours", overlap),
            ("expiry", "days"),
            ("expires_in_days", days),
            ("reason", "r"),
        ];
        let answer = pages.operator.submit("/tenants", &format!("{path}/rotate"), &fields).await;
        assert_eq!(answer.status, 400, "{days} {overlap}: {}", answer.body);
    }
}
