//! Import: each key has an outcome, a repetition changes nothing, and other values are reported.

use tenant_auth_svc::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{ImportOutcome, KeyToImport, KeyUpdate},
    scope::ScopeSet,
    store::{Lane, Store, UpdateConditions},
    text::{KeyName, PrefixHint, Reason},
};

use crate::harness::{
    NOW, call, change,
    records::{audit_actions, new_key, new_tenant, to_import},
};

/// Changes a value of an import.
type Edit = fn(&mut KeyToImport);

pub(super) async fn check_import(store: &impl Store) {
    check_outcomes(store).await;
    check_differing_values(store).await;
}

async fn check_outcomes(store: &impl Store) {
    let ours = store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let theirs =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let held = new_key(&theirs.id, &[], None);
    store.insert_key(call(Lane::Admin), &held, None, &change()).await.unwrap();

    let good = to_import(new_key(&ours.id, &["read"], Some(NOW)));
    let mut same_hash = to_import(new_key(&ours.id, &[], None));
    same_hash.key.hash = good.key.hash;
    let mut taken = to_import(new_key(&ours.id, &[], None));
    taken.key.hash = held.hash;
    let homeless = to_import(new_key(&TenantId::generate(), &[], None));
    let nowhere = homeless.key.tenant_id.clone();
    let batch = [good.clone(), same_hash, taken, homeless];
    let expected = [
        ImportOutcome::Imported(good.key.id.clone()),
        ImportOutcome::Different { id: good.key.id.clone(), fields: vec!["scopes", "expires_at"] },
        ImportOutcome::HeldByAnotherTenant,
        ImportOutcome::NoSuchTenant(nowhere),
    ];
    // Runs twice, as after a lost response: with the ids of the first run, the outcome is the same.
    for _ in 0..2 {
        let outcomes = store.import_keys(call(Lane::Admin), &batch, &change()).await.unwrap().outcome;
        assert_eq!(outcomes, expected);
    }
    assert_eq!(audit_actions(store, &ours.id).await, ["key.import", "tenant.create"]);
    let mut later = good.clone();
    later.key.id = KeyId::generate();
    let outcomes = store.import_keys(call(Lane::Admin), &[later], &change()).await.unwrap().outcome;
    assert_eq!(outcomes, [ImportOutcome::Existing(good.key.id.clone())]);

    let found = store.lookup_keys(call(Lane::Unknown), &[good.key.hash]).await.unwrap();
    let record = found.records[0].clone().unwrap().unwrap();
    assert_eq!((&record.key_id.unpack(), &*record.scopes), (&good.key.id, &good.key.scopes));
}

async fn check_differing_values(store: &impl Store) {
    let admin = || call(Lane::Admin);
    let tenant = store.create_tenant(admin(), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let first = to_import(new_key(&tenant.id, &["a", "b"], Some(NOW)));
    let id = first.key.id.clone();
    let imported = store.import_keys(admin(), std::slice::from_ref(&first), &change()).await.unwrap();
    assert_eq!(imported.outcome, [ImportOutcome::Imported(id.clone())]);
    let before = store.get_key(admin(), &id).await.unwrap().unwrap().key;

    // A second import has ids of its own.
    let again = |edit: Edit| {
        let mut import = first.clone();
        import.key.id = KeyId::generate();
        edit(&mut import);
        import
    };
    let edits: [(Edit, &[&'static str]); 8] = [
        (|_| {}, &[]),
        (|import| import.created_at = None, &[]),
        (|import| import.created_at = Some(UnixMillis(NOW.0 + 1)), &["created_at"]),
        (|import| import.key.name = KeyName::parse("another").unwrap(), &["name"]),
        (|import| import.key.prefix_hint = PrefixHint::parse("").unwrap(), &["prefix_hint"]),
        (|import| import.key.scopes = ScopeSet::parse(&mut ["a"]).unwrap(), &["scopes"]),
        (|import| import.key.expires_at = None, &["expires_at"]),
        (
            |import| {
                import.key.scopes = ScopeSet::parse(&mut []).unwrap();
                import.key.expires_at = Some(UnixMillis(NOW.0 + 1));
            },
            &["scopes", "expires_at"],
        ),
    ];
    let outcome = |fields: &[&'static str]| match fields {
        [] => ImportOutcome::Existing(id.clone()),
        fields => ImportOutcome::Different { id: id.clone(), fields: fields.to_vec() },
    };
    let imports: Vec<_> = edits.iter().map(|(edit, _)| again(*edit)).collect();
    let expected: Vec<_> = edits.iter().map(|(_, fields)| outcome(fields)).collect();
    assert_eq!(store.import_keys(admin(), &imports, &change()).await.unwrap().outcome, expected);
    assert_eq!(store.get_key(admin(), &id).await.unwrap().unwrap().key, before, "nothing was changed");

    let disable = KeyUpdate { enabled: Some(false), ..KeyUpdate::default() };
    store.update_key(admin(), &id, &disable, &UpdateConditions::default(), &change()).await.unwrap();
    let same = [again(|_| {})];
    let disabled = store.import_keys(admin(), &same, &change()).await.unwrap().outcome;
    assert_eq!(disabled, [outcome(&["enabled"])]);
    store.revoke_key(admin(), &id, &Reason::parse("leaked").unwrap(), &change()).await.unwrap();
    let revoked = store.import_keys(admin(), &same, &change()).await.unwrap().outcome;
    assert_eq!(revoked, [outcome(&["revoked_at", "enabled"])]);
    // The first import, repeated after a lost response, still reports what it did.
    let repeated = store.import_keys(admin(), &[first], &change()).await.unwrap().outcome;
    assert_eq!(repeated, [ImportOutcome::Imported(id)]);
}
