//! The table against a plain map, under random operations.

use std::{collections::HashMap, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    bounds::key,
    entry::{CacheEntry, ReadPoint},
    shard::Keep,
    subjects::SubjectMark,
    table::Table,
};
use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, PackedKeyId},
    key::{KeyHash, KeyRecord},
    verdict::Revision,
};

#[derive(Clone, Debug)]
enum Operation {
    /// Inserts the record of this public id under this hash.
    Insert(u8, u8),
    Remove(u8),
    /// Revokes the records with this public id.
    Revoke(u8),
    /// Removes the records with this public id.
    RemovePublic(u8),
    Use(u8),
    /// Removes the records whose hash is not a multiple of this number.
    RetainMultiples(u8),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => (any::<u8>(), 0..40_u8).prop_map(|(hash, id)| Operation::Insert(hash, id)),
        1 => any::<u8>().prop_map(Operation::Remove),
        2 => (0..40_u8).prop_map(Operation::Revoke),
        1 => (0..40_u8).prop_map(Operation::RemovePublic),
        3 => any::<u8>().prop_map(Operation::Use),
        1 => (1..4_u8).prop_map(Operation::RetainMultiples),
    ];
    proptest::collection::vec(operation, 0..400)
}

fn hash(number: u8) -> KeyHash {
    KeyHash::from_bytes([number; 32])
}

fn public_id(number: u8) -> PackedKeyId {
    KeyId::parse(&format!("key_{number:032x}")).unwrap().into()
}

fn entry(number: u8, id: u8) -> CacheEntry<KeyRecord> {
    let record = KeyRecord {
        key_id: public_id(id),
        // Its hash, so that `retain` can tell.
        last_used_at: Some(UnixMillis(number.into())).into(),
        ..key(1, 5)
    };
    let read = ReadPoint::new(Duration::ZERO, 0, Revision(i64::from(id)));
    CacheEntry::new(record, read, 0, (Arc::new(SubjectMark::default()), None))
}

/// The public id and whether it is revoked, by hash.
type Model = HashMap<u8, (u8, bool)>;

fn apply(table: &Table<KeyHash, KeyRecord>, model: &mut Model, operation: &Operation) -> u64 {
    match *operation {
        Operation::Insert(number, id) => {
            model.insert(number, (id, false));
            return table.insert(hash(number), 0, entry(number, id));
        }
        Operation::Remove(number) => {
            model.remove(&number);
            drop(table.remove(&hash(number)));
        }
        Operation::Revoke(id) => {
            model.values_mut().filter(|(other, _)| *other == id).for_each(|(_, revoked)| *revoked = true);
            table.update_public(&public_id(id), |entry| {
                entry.record.revoked_at = Some(UnixMillis(1)).into();
                Keep::Yes
            });
        }
        Operation::RemovePublic(id) => {
            model.retain(|_, (other, _)| *other != id);
            table.update_public(&public_id(id), |_| Keep::No);
        }
        Operation::Use(number) => drop(table.get(&hash(number), |_| ())),
        Operation::RetainMultiples(of) => {
            model.retain(|number, _| number.is_multiple_of(of));
            let number = |entry: &CacheEntry<KeyRecord>| entry.record.last_used_at.get().unwrap().0;
            table.retain(|entry| number(entry) % i64::from(of) == 0);
        }
    }
    0
}

fn found(table: &Table<KeyHash, KeyRecord>, number: u8) -> Option<(PackedKeyId, bool)> {
    table.peek(&hash(number), |entry| (entry.record.key_id.clone(), entry.record.revoked_at.get().is_some()))
}

proptest! {
    #[test]
    fn table_without_eviction_equals_a_map(operations in operations()) {
        // Several shards.
        let table = Table::new(16 * 1_024);
        let mut model = Model::new();
        for operation in &operations {
            prop_assert_eq!(apply(&table, &mut model, operation), 0, "nothing is evicted");
        }
        for number in 0..=u8::MAX {
            let expected = model.get(&number).map(|(id, revoked)| (public_id(*id), *revoked));
            prop_assert_eq!(found(&table, number), expected);
        }
        for id in 0..40 {
            let is_expected = model.values().any(|(other, _)| *other == id);
            prop_assert_eq!(table.find_public(&public_id(id), |_, _| Some(())).is_some(), is_expected);
        }
        prop_assert_eq!(table.len(), model.len() as u64);
        table.retain(|_| false);
        prop_assert_eq!((table.len(), table.weight()), (0, 0));
    }

    #[test]
    fn full_table_holds_only_what_was_inserted_and_not_removed(operations in operations()) {
        const CAPACITY: u64 = 20;
        let table = Table::new(CAPACITY);
        let mut model = Model::new();
        for operation in &operations {
            apply(&table, &mut model, operation);
            prop_assert!(table.weight() <= CAPACITY);
        }
        let mut count = 0;
        for number in 0..=u8::MAX {
            if let Some((id, revoked)) = found(&table, number) {
                count += 1;
                prop_assert_eq!(model.get(&number).map(|(id, revoked)| (public_id(*id), *revoked)), Some((id, revoked)));
            }
        }
        prop_assert_eq!(table.len(), count);
    }
}

#[test]
fn entries_in_constant_use_survive_a_scan() {
    const CAPACITY: u64 = 200;
    let table = Table::new(CAPACITY);
    let scanned = |number: u32| {
        let mut bytes = [0xff; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        KeyHash::from_bytes(bytes)
    };
    for number in 0..50 {
        assert_eq!(table.insert(hash(number), 0, entry(number, number)), 0);
    }
    let mut evicted = 0;
    for number in 0..10_000 {
        let hot = u8::try_from(number % 50).unwrap();
        assert!(table.get(&hash(hot), |_| ()).is_some(), "{hot} was evicted after {number} scanned entries");
        evicted += table.insert(scanned(number), 0, entry(200, 200));
    }
    assert_eq!(evicted, 10_000 + 50 - CAPACITY, "each new entry evicts one of those that were scanned");
}

#[test]
fn entry_that_is_larger_than_the_table_replaces_its_older_version_by_none() {
    let table = Table::new(1);
    assert_eq!(table.insert(hash(1), 0, entry(1, 1)), 0);
    assert_eq!(table.insert(hash(1), 10_000, entry(1, 1)), 1);
    assert!(found(&table, 1).is_none() && table.len() == 0);
}
