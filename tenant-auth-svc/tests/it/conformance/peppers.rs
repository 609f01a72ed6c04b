//! Adding and removing peppers keeps keys findable.

use std::sync::Arc;

use tenant_auth_svc::{
    database::{engine::Engine, migrate, sql::SqlStore},
    domain::{
        key::{ImportOutcome, Peppers},
        store::{FailureKind, Lane, Store as _},
    },
};

use crate::harness::{
    call, change,
    records::{new_key, new_tenant, to_import},
};

pub(super) const PEPPERS: &str =
    "issue new nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\naccept old oooooooooooooooooooooooooooooooo";

/// Keys stored before, during and after a pepper change are found as long as their pepper is configured.
pub(super) async fn check_rotation<E: Engine>(engine: &Arc<E>) {
    let store = |text: Option<&str>| {
        let peppers = text.map_or_else(Peppers::default, |text| Peppers::parse(text).unwrap());
        SqlStore::new(Arc::clone(engine), Arc::new(peppers))
    };
    let (new, old) = PEPPERS.split_once('\n').unwrap();
    let old = old.strip_prefix("accept ").unwrap();
    let plain = store(None);
    let tenant =
        plain.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let mut hashes = Vec::new();
    for (writer, pepper) in
        [(&plain, None), (&store(Some(old)), Some("old")), (&store(Some(PEPPERS)), Some("new"))]
    {
        let key = new_key(&tenant.id, &[], None);
        let stored =
            writer.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap().outcome.unwrap().0;
        assert_eq!(stored.pepper_id.as_deref(), pepper, "the row names its pepper");
        hashes.push(key.hash);
    }
    let found = async |store: &SqlStore<Arc<E>>| {
        let lookup = store.lookup_keys(call(Lane::Unknown), &hashes).await.unwrap();
        lookup.records.iter().map(|record| *record != Ok(None)).collect::<Vec<_>>()
    };
    assert_eq!(found(&store(Some(PEPPERS))).await, [true, true, true]);
    assert_eq!(found(&store(Some(new))).await, [true, false, true]);
    // A start without a pepper that is in use is rejected: it would report that pepper's keys as unknown.
    let both = Peppers::parse(PEPPERS).unwrap();
    migrate::verify_peppers(engine, &both).await.unwrap();
    let refused = migrate::verify_peppers(engine, &Peppers::parse(new).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("pepper old"), "{refused}");
    // A key that is not found may exist under the missing pepper, so it is not imported a second time.
    let lookup = store(Some(new)).lookup_keys(call(Lane::Unknown), &hashes).await.unwrap();
    let error = lookup.not_found_error.unwrap();
    assert_eq!(error.kind, FailureKind::PepperMissing);
    let mut import = to_import(new_key(&tenant.id, &[], None));
    import.key.hash = hashes[1];
    import.created_at = None;
    let imports = [import];
    let refused = store(Some(new)).import_keys(call(Lane::Admin), &imports, &change()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::PepperMissing);
    let outcome = store(Some(PEPPERS)).import_keys(call(Lane::Admin), &imports, &change()).await.unwrap();
    assert!(matches!(outcome.outcome[..], [ImportOutcome::Existing(_)]), "{outcome:?}");
}
