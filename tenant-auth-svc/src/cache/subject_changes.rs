//! What entries learn of changes of the subjects that they share.

use std::{sync::Arc, time::Duration};

use super::{
    bounds::{key, pool},
    entry::ReadPoint,
    fence::Fence,
    loaded::LoadedRecord,
    subjects::{Revocations, Subjects, Unreflected},
};
use crate::domain::{
    change::{ChangeEvent, ChangeKind, PerSubject},
    clock::UnixMillis,
    id::TenantId,
    key::{KeyHash, KeyRecord},
    tenant::TenantStatus,
    verdict::Revision,
};

fn event(kind: ChangeKind, revision: Option<i64>) -> ChangeEvent {
    ChangeEvent { kind, revision: revision.map(Revision) }
}

/// Records a change as the pool does, and returns its epoch.
fn record(subjects: &Subjects, fence: &Fence, tenant: &TenantId, event: ChangeEvent) {
    let changes = PerSubject::for_tenant(tenant, event);
    let _guard = fence.record_changes(&changes, UnixMillis(0));
    subjects.record(&changes, fence.epoch(), fence);
}

#[test]
fn entry_is_compared_with_the_latest_change_of_its_tenant() {
    let (subjects, fence) = (Subjects::default(), Fence::new());
    let mut shared = key(1, 5);
    let tenant = shared.tenant.id.clone();
    let (mark, none) = subjects.share(&mut shared);
    assert!(none.is_none());
    let read_at = |epoch, revision| ReadPoint::new(Duration::ZERO, epoch, Revision(revision));
    let says = |read: ReadPoint| mark.unreflected(&read, &fence);
    let suspended = || Unreflected::Revoked(Revocations::from_iter([ChangeKind::Suspended]));
    let old = read_at(fence.epoch(), 5);
    assert_eq!(says(old), Unreflected::Nothing);

    record(&subjects, &fence, &tenant, event(ChangeKind::Suspended, Some(10)));
    assert_eq!(says(old), suspended());
    assert_eq!(says(read_at(0, 10)), Unreflected::Nothing, "it was read at the change");
    assert_eq!(says(read_at(fence.epoch(), 5)), Unreflected::Nothing, "the fence has decided about it");
    // A lagging copy of the database reports an earlier change.
    record(&subjects, &fence, &tenant, event(ChangeKind::Changed, Some(7)));
    assert_eq!(says(old), suspended());
    // A change of this replica whose outcome is unknown.
    record(&subjects, &fence, &tenant, event(ChangeKind::Changed, None));
    assert_eq!(says(read_at(0, 10)), Unreflected::Changed);
    assert_eq!(says(old), Unreflected::Changed);
}

#[test]
fn positions_of_another_log_are_not_compared() {
    let (subjects, fence) = (Subjects::default(), Fence::new());
    let mut shared = key(1, 5);
    let tenant = shared.tenant.id.clone();
    let (mark, _) = subjects.share(&mut shared);
    record(&subjects, &fence, &tenant, event(ChangeKind::Changed, Some(90)));
    let reflecting = ReadPoint::new(Duration::ZERO, 0, Revision(100));
    fence.require_revalidation();
    assert_eq!(mark.unreflected(&reflecting, &fence), Unreflected::Nothing);
    record(&subjects, &fence, &tenant, event(ChangeKind::Suspended, Some(3)));
    let expected = Unreflected::Revoked(Revocations::from_iter([ChangeKind::Suspended]));
    assert_eq!(mark.unreflected(&reflecting, &fence), expected, "position 3 of the new log is later");
}

#[test]
fn records_share_equal_parts_until_none_is_left() {
    let subjects = Subjects::default();
    let mut first = key(2, 10);
    let mut second = first.clone();
    second.tenant = Arc::new((*first.tenant).clone());
    second.scopes = Arc::new((*first.scopes).clone());
    let (mark, _) = subjects.share(&mut first);
    let (same, _) = subjects.share(&mut second);
    assert!(Arc::ptr_eq(&mark, &same));
    drop(same);
    assert!(Arc::ptr_eq(&first.tenant, &second.tenant) && Arc::ptr_eq(&first.scopes, &second.scopes));
    Arc::make_mut(&mut second.tenant).name = "Another name".into();
    let (same, _) = subjects.share(&mut second);
    assert!(Arc::ptr_eq(&mark, &same), "a renamed tenant is the same subject");
    drop((first, second, same));
    subjects.sweep();
    assert_eq!(subjects.len(), (1, 0), "an entry still has the mark");
    drop(mark);
    subjects.sweep();
    assert_eq!(subjects.len(), (0, 0));
}

/// A lagging copy of the database does not have the key yet, and its tenant was suspended meanwhile.
#[test]
fn older_negative_result_is_answered_with_newer_record_and_its_revocation() {
    let pool = pool::<KeyRecord>(10, 10);
    let (id, record) = (KeyHash::from_bytes([7; 32]), key(1, 5));
    let tenant = record.tenant.id.clone();
    let load = |record, revision| {
        let (revision, loaded_at, epoch) = (Revision(revision), Duration::ZERO, pool.epoch());
        let loaded = LoadedRecord { record, revision, loaded_at, epoch, is_lagging: false };
        pool.apply_load(&id, loaded, 0, Duration::ZERO).cached.record
    };
    assert_eq!(load(Some(record), 10).unwrap().tenant.status, TenantStatus::Active);
    let suspension = PerSubject::for_tenant(&tenant, event(ChangeKind::Suspended, Some(20)));
    pool.apply(&suspension, UnixMillis(0));
    assert_eq!(load(None, 5).unwrap().tenant.status, TenantStatus::Suspended);
}
