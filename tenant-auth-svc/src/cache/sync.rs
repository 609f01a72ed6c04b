//! Synchronisation primitives of the fence and the pools. They are in a separate module so that
//! `tests/interleavings` can compile the same source files against a scheduler that explores their
//! interleavings.

pub(super) use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
