//! `x-cutover`: the service's own, upon the file's.
//!
//! A key of the service takes the place of the file's key as a whole: a check
//! is not half of one and half of the other.

use crate::fields;
use crate::reader::{Field, Fields};

/// The `x-cutover` that applies to one service.
pub(crate) struct Settings<'a> {
    own: Option<Fields<'a>>,
    shared: Option<&'a Fields<'a>>,
}

/// One setting, and who said it.
pub(crate) struct Setting<'a> {
    pub(crate) field: Field<'a>,
    /// Said for this service, not for all: it must fit.
    pub(crate) own: bool,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(own: Option<Field<'a>>, shared: Option<&'a Fields<'a>>) -> Self {
        Self {
            own: own.and_then(|field| field.fields()),
            shared,
        }
    }

    /// What is said under `key`.
    pub(crate) fn take(&self, key: &str) -> Option<Setting<'a>> {
        let own = self.own.as_ref().and_then(|own| own.take(key));
        let shared = self.shared.and_then(|shared| shared.take(key));
        own.map(|field| Setting { field, own: true })
            .or(shared.map(|field| Setting { field, own: false }))
    }

    /// Says what of the service's own was not taken.
    pub(crate) fn finish(&self) {
        if let Some(own) = &self.own {
            own.finish(fields::CUTOVER);
        }
    }
}
