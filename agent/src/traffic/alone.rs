//! Who changes a service's links does so alone: the loop switches while a thread beside it prepares.
//!
//! Kept true: a switch waits for nobody but who changes the links of the same service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cutover_core::ServiceId;

/// A turn for each service.
#[derive(Clone, Debug, Default)]
pub(super) struct Alone(Arc<Mutex<BTreeMap<ServiceId, Arc<Mutex<()>>>>>);

impl Alone {
    pub(super) fn with<T>(&self, service: &ServiceId, work: impl FnOnce() -> T) -> T {
        let turn = Arc::clone(held(&self.0).entry(service.clone()).or_default());
        let _turn = held(&turn);
        work()
    }
}

/// Nothing is kept in it that a panic could have left half done.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
