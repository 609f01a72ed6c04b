//! What the fence and the pools synchronise with. A module of its own so that `tests/interleavings` can compile the
//! very same files against a scheduler that tries their interleavings one by one.

pub(super) use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
