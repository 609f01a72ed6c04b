//! Queries about one key: the key itself, lookup by its first characters, and its audit entries.

use tenant_auth_svc::domain::{
    audit::{AuditFilter, AuditTerm},
    clock::UnixMillis,
    id::KeyId,
    key::{KeyPrefixCursor, StoredKey},
    page::{PageRequest, PageSize},
    store::{Change, Lane, NameCursor, NamedRecords, Store},
    tenant::NewTenant,
    text::{KeyName, NamePrefix, PrefixHint, Reason, TenantName},
    verdict::Verdict,
};

use crate::harness::{
    NOW, call, change,
    records::{new_key, new_tenant},
};

pub(super) async fn check_key_queries(store: &(impl Store + NamedRecords)) {
    check_by_id(store).await;
    check_by_prefix(store).await;
    check_by_name(store).await;
    check_audit_entries(store).await;
}

async fn check_by_id(store: &impl Store) {
    let admin = || call(Lane::Admin);
    let tenant = store.create_tenant(admin(), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let key = new_key(&tenant.id, &["a", "b"], Some(UnixMillis(NOW.0 + 5)));
    let stored = store.insert_key(admin(), &key, None, &change()).await.unwrap().outcome.unwrap();
    let read = async || store.get_key(admin(), &key.id).await.unwrap().unwrap();
    let StoredKey { key: read_key, tenant: read_tenant, .. } = read().await;
    assert_eq!((read_key, read_tenant), (stored.0, Some(tenant)));
    // The record equals the result of a lookup.
    let found = store.lookup_keys(call(Lane::Known), &[key.hash]).await.unwrap();
    assert_eq!(read().await.record(), found.records[0].clone().unwrap());

    let reason = Reason::parse("leaked").unwrap();
    store.revoke_key(admin(), &key.id, &reason, &change()).await.unwrap();
    let revoked = read().await;
    assert_eq!((revoked.key.revoked_at, &*revoked.key.revoke_reason), (Some(NOW), "leaked"));
    let verdict = Verdict::of_key(&revoked.record().unwrap(), NOW);
    assert_eq!(verdict, Verdict::Revoked);
    assert_eq!(store.get_key(admin(), &KeyId::generate()).await.unwrap(), None);
}

async fn check_by_prefix(store: &impl Store) {
    let (one, two) = (new_tenant(), new_tenant());
    // No other key starts with this hint, even on a shared database.
    let mark: String = one.id.as_str().chars().rev().take(6).collect();
    let hint = |rest: &str| PrefixHint::parse(&format!("{mark}{rest}")).unwrap();
    let mut ids = Vec::new();
    for tenant in [&one, &two] {
        store.create_tenant(call(Lane::Admin), tenant, &change()).await.unwrap();
        for rest in ["", "_a", "_a", "_ab", "_b"] {
            let mut key = new_key(&tenant.id, &[], None);
            key.prefix_hint = hint(rest);
            ids.push((key.prefix_hint.as_str().to_owned(), key.id.clone()));
            store.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap();
        }
    }
    let found = async |rest: &str, tenant, size| {
        let size = PageSize::from_request(size).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = PageRequest { size, after: after.take() };
            let what = (&hint(rest), tenant);
            let page = store.find_keys(call(Lane::Admin), what, &page, None).await.unwrap();
            found.extend(page.items.into_iter().map(|key| (key.prefix_hint, key.id)));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    ids.sort();
    let expected = |rests: &[&str]| -> Vec<_> {
        let is_among =
            |(prefix, _): &&(String, KeyId)| rests.iter().any(|rest| hint(rest).as_str() == prefix);
        ids.iter().filter(is_among).cloned().collect()
    };
    for size in [1, 3, 500] {
        assert_eq!(found("", None, size).await, ids);
        // Keys whose hint starts with the text, and keys for which only a shorter hint is stored.
        assert_eq!(found("_a", None, size).await, expected(&["", "_a", "_ab"]));
        assert_eq!(found("_abc", None, size).await, expected(&["", "_a", "_ab"]));
        assert_eq!(found("_x", None, size).await, expected(&[""]));
    }
    assert_eq!(found("_ab", Some(&one.id), 2).await.len(), 4);
    let all = PageRequest { size: PageSize::MAX, after: None };
    let (_, gone) = &expected(&["_b"])[0];
    store.revoke_key(call(Lane::Admin), gone, &Reason::parse("x").unwrap(), &change()).await.unwrap();
    let live = store.find_keys(call(Lane::Admin), (&hint("_b"), None), &all, Some(NOW)).await.unwrap();
    assert_eq!((live.items.len(), live.next), (3, None), "two keys with shorter hints, and one live key");
    let position = KeyPrefixCursor { prefix_hint: "sk live ".to_owned(), id: gone.clone() };
    assert_eq!(KeyPrefixCursor::parse(&position.to_string()), Some(position));
}

async fn check_by_name(store: &(impl Store + NamedRecords)) {
    let named = |text: &str| NewTenant { name: TenantName::stored(text), ..new_tenant() };
    // No other name starts with this, even on a shared database.
    let mark: String = new_tenant().id.as_str().chars().rev().take(6).collect();
    let (lower, upper) = (mark.to_ascii_lowercase(), mark.to_ascii_uppercase());
    let name = |mark: &str, rest: &str| format!("n{mark}{rest}");
    let mut names = Vec::new();
    for rest in ["", " a", " a", " A", " ab", " ä", " b%", " b_c"] {
        for mark in [&lower, &upper] {
            let tenant = named(&name(mark, rest));
            let mut key = new_key(&tenant.id, &[], None);
            key.name = KeyName::stored(&name(mark, rest));
            store.create_tenant(call(Lane::Admin), &tenant, &change()).await.unwrap();
            store.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap();
            names.push((name(mark, rest), tenant.id.clone(), key.id.clone()));
        }
    }
    let found = async |rest: &str, size| {
        let size = PageSize::from_request(size).unwrap();
        let prefix = NamePrefix::parse(&name(&lower, rest)).unwrap();
        let (mut tenants, mut keys) = (Vec::new(), Vec::new());
        let mut after = None;
        loop {
            let page = PageRequest { size, after: after.take() };
            let page = store.find_tenants_by_name(call(Lane::Admin), &prefix, &page).await.unwrap();
            tenants.extend(page.items.into_iter().map(|tenant| tenant.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = PageRequest { size, after: after.take() };
            let what = (&prefix, None);
            let page = store.find_keys_by_name(call(Lane::Admin), what, &page, Some(NOW)).await.unwrap();
            keys.extend(page.items.into_iter().map(|key| key.id));
            after = page.next;
            if after.is_none() {
                return (tenants, keys);
            }
        }
    };
    let expected = |rest: &str| {
        let prefix = name(&lower, rest).to_ascii_lowercase();
        let folded = |text: &str| text.to_ascii_lowercase();
        let mut of: Vec<_> = names.iter().filter(|(name, ..)| folded(name).starts_with(&prefix)).collect();
        of.sort_by_key(|(name, tenant, _)| (folded(name), tenant.clone()));
        let tenants: Vec<_> = of.iter().map(|(_, tenant, _)| tenant.clone()).collect();
        of.sort_by_key(|(name, _, key)| (folded(name), key.clone()));
        (tenants, of.iter().map(|(.., key)| key.clone()).collect::<Vec<_>>())
    };
    for size in [1, 3, 500] {
        for rest in ["", " a", " A", " ab", " ä", " b%", " b_", " c", " \u{10ffff}"] {
            assert_eq!(found(rest, size).await, expected(rest), "{rest}, {size} per page");
        }
        assert_eq!(found("", size).await.0.len(), names.len());
    }
    // Of one tenant; without revoked keys; and not after a position outside of the names.
    let prefix = NamePrefix::parse(&name(&lower, "")).unwrap();
    let (_, tenant, key) = &names[3];
    let all = || PageRequest { size: PageSize::MAX, after: None };
    let of_tenant = async |live_at| {
        let what = (&prefix, Some(tenant));
        let page = store.find_keys_by_name(call(Lane::Admin), what, &all(), live_at).await.unwrap();
        page.items.into_iter().map(|key| key.id).collect::<Vec<_>>()
    };
    assert_eq!(of_tenant(Some(NOW)).await, vec![key.clone()]);
    store.revoke_key(call(Lane::Admin), key, &Reason::parse("x").unwrap(), &change()).await.unwrap();
    assert_eq!((of_tenant(Some(NOW)).await, of_tenant(None).await), (vec![], vec![key.clone()]));
    for (name, count) in [("a", names.len()), ("zzz", 0)] {
        let after = Some(NameCursor { name: name.to_owned(), id: tenant.clone() });
        let page = PageRequest { size: PageSize::MAX, after };
        let found = store.find_tenants_by_name(call(Lane::Admin), &prefix, &page).await.unwrap();
        assert_eq!(found.items.len(), count, "{name}");
    }
}

async fn check_audit_entries(store: &impl Store) {
    let tenant = new_tenant();
    let by = |caller: &str, at: i64| {
        let mut change: Change = change();
        change.actor.caller = format!("{caller}-{}", tenant.id);
        change.at = UnixMillis(NOW.0 + at);
        change
    };
    store.create_tenant(call(Lane::Admin), &tenant, &by("alice", 0)).await.unwrap();
    let keys: Vec<_> = (0..3).map(|_| new_key(&tenant.id, &[], None)).collect();
    for (key, at) in keys.iter().zip([1, 2, 2]) {
        store.insert_key(call(Lane::Admin), key, None, &by("bob", at)).await.unwrap();
    }
    let reason = Reason::parse("leaked").unwrap();
    // Revoked by a replica whose clock is behind: the entry is listed by its timestamp.
    store.revoke_key(call(Lane::Admin), &keys[0].id, &reason, &by("alice", 1)).await.unwrap();

    let term = |text: &str| AuditTerm::parse(text).ok();
    let of_tenant = || AuditFilter { tenant: Some(tenant.id.clone()), ..AuditFilter::default() };
    let caller = |name: &str| term(&format!("{name}-{}", tenant.id));
    let at = |at: i64| Some(UnixMillis(NOW.0 + at));
    let [first, second, third] = [0, 1, 2].map(|index: usize| keys[index].id.to_string());
    let (create, revoke) = (("tenant.create", tenant.id.as_str()), ("key.revoke", &*first));
    let issue = |id| ("key.issue", id);
    for (filter, expected) in [
        (of_tenant(), vec![issue(&*third), issue(&second), revoke, issue(&first), create]),
        (AuditFilter { target: term(&first), ..AuditFilter::default() }, vec![revoke, issue(&first)]),
        (AuditFilter { caller: caller("alice"), ..AuditFilter::default() }, vec![revoke, create]),
        (AuditFilter { caller: caller("bob"), target: term(&first), ..of_tenant() }, vec![issue(&first)]),
        (AuditFilter { action: term("key.revoke"), ..of_tenant() }, vec![revoke]),
        (
            AuditFilter { action: term("key.issue"), since: at(2), ..of_tenant() },
            vec![issue(&third), issue(&second)],
        ),
        (AuditFilter { action: term("key"), ..of_tenant() }, vec![]),
        (AuditFilter { since: at(2), ..of_tenant() }, vec![issue(&third), issue(&second)]),
        (AuditFilter { since: at(1), until: at(2), ..of_tenant() }, vec![revoke, issue(&first)]),
        (AuditFilter { until: at(1), caller: caller("alice"), ..AuditFilter::default() }, vec![create]),
        (AuditFilter { since: at(3), ..of_tenant() }, vec![]),
    ] {
        for size in [1, 2, 500] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = PageRequest { size: PageSize::from_request(size).unwrap(), after: after.take() };
                let page = store.list_audit(call(Lane::Admin), &filter, &page).await.unwrap();
                listed.extend(page.items.into_iter().map(|event| (event.action, event.target)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let listed: Vec<_> = listed.iter().map(|(action, target)| (&**action, &**target)).collect();
            assert_eq!(listed, expected, "{filter:?}, {size} per page");
        }
    }
    // Without a subject, the filter uses the time range only.
    let recent = AuditFilter { since: at(1), until: at(3), ..AuditFilter::default() };
    let page = PageRequest { size: PageSize::MAX, after: None };
    let recent = store.list_audit(call(Lane::Admin), &recent, &page).await.unwrap();
    assert!(recent.items.iter().all(|event| event.at > NOW && event.at < UnixMillis(NOW.0 + 3)));
    assert!(recent.items.iter().any(|event| event.target == first));
}
