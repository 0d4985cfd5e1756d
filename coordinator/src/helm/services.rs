//! The services as the loop knows them, and their revisions.
//!
//! Keeps true: a revision's number is never given twice, whatever became of the
//! first; a revision once made never changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cutover_core::ServiceId;
use cutover_core::spec::ServiceSpec;
use cutover_proto::v1;

use super::deeds::Deeds;
use super::wake::Refusal;
use crate::store::{Key, ReadError, Store, Table};

/// Revisions of a service that are remembered; hosts keep fewer.
const REVISIONS_KEPT: u64 = 100;

/// Every service that was ever deployed.
#[derive(Default)]
pub(super) struct Services {
    pub(super) services: BTreeMap<ServiceId, Service>,
}

/// One service.
#[derive(Default)]
pub(super) struct Service {
    pub(super) record: v1::ServiceRecord,
    /// Those that were needed since the start; the store has all.
    revisions: BTreeMap<u64, (v1::Revision, ServiceSpec)>,
}

impl Service {
    /// One that is remembered.
    pub(super) fn of(record: v1::ServiceRecord) -> Self {
        Self {
            record,
            ..Self::default()
        }
    }
}

impl Services {
    pub(super) fn get(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(id)
    }

    /// A revision and its spec, from memory or the store.
    pub(super) fn revision(
        &mut self,
        store: &Store,
        id: &ServiceId,
        number: u64,
    ) -> Result<Option<&(v1::Revision, ServiceSpec)>, Refusal> {
        if number == 0 {
            return Ok(None);
        }
        let service = self.services.entry(id.clone()).or_default();
        if let Entry::Vacant(place) = service.revisions.entry(number) {
            let kept: Option<v1::Revision> = store
                .read(Table::Revisions, &key(id, number))
                .map_err(|error| unreadable(&error))?;
            let Some(revision) = kept else {
                return Ok(None);
            };
            let spec = spec_of(&revision)?;
            place.insert((revision, spec));
        }
        Ok(service.revisions.get(&number))
    }

    /// Keeps a revision that was just made, or that a host told us of.
    pub(super) fn keep(
        &mut self,
        deeds: &mut Deeds,
        id: &ServiceId,
        revision: v1::Revision,
        spec: ServiceSpec,
    ) {
        let number = revision.number;
        deeds.put(Table::Revisions, key(id, number), &revision);
        deeds.change(|batch| batch.raise_counter(counter(id), number));
        let service = self.services.entry(id.clone()).or_default();
        service.record.service = id.to_string();
        service.record.newest = service.record.newest.max(number);
        service.revisions.insert(number, (revision, spec));
        if let Some(old) = number.checked_sub(REVISIONS_KEPT).filter(|old| {
            *old > 0 && *old != service.record.current && *old != service.record.previous
        }) {
            service.revisions.remove(&old);
            deeds.change(|batch| batch.remove(Table::Revisions, key(id, old)));
        }
        self.save(deeds, id);
    }

    /// The next revision's number.
    pub(super) fn next_number(&self, store: &Store, id: &ServiceId) -> Result<u64, Refusal> {
        let counted = store
            .counter(&counter(id))
            .map_err(|error| unreadable(&error))?;
        let newest = self.get(id).map_or(0, |service| service.record.newest);
        let last = counted.max(newest);
        last.checked_add(1)
            .ok_or_else(|| Refusal::Store(format!("{id} has no revision number left above {last}")))
    }

    /// A host holds a revision of this number: the next is above it.
    pub(super) fn note_number(&mut self, deeds: &mut Deeds, id: &ServiceId, number: u64) {
        let newest = self.get(id).map_or(0, |service| service.record.newest);
        if number > newest {
            let service = self.services.entry(id.clone()).or_default();
            service.record.service = id.to_string();
            service.record.newest = number;
            deeds.change(|batch| batch.raise_counter(counter(id), number));
            self.save(deeds, id);
        }
    }

    /// A person said what shall run: nothing is doubted any more.
    pub(super) fn be_sure(&mut self, deeds: &mut Deeds, id: &ServiceId) {
        if let Some(known) = self.services.get_mut(id)
            && !known.record.unsure.is_empty()
        {
            known.record.unsure.clear();
            self.save(deeds, id);
        }
    }

    pub(super) fn save(&self, deeds: &mut Deeds, id: &ServiceId) {
        if let Some(service) = self.get(id) {
            deeds.put(Table::Services, Key::of(id.to_string()), &service.record);
        }
    }
}

/// What a revision is made of.
pub(super) fn spec_of(revision: &v1::Revision) -> Result<ServiceSpec, Refusal> {
    let wrong = |what: String| Refusal::Store(format!("revision {}: {what}", revision.number));
    let spec = revision
        .spec
        .clone()
        .ok_or_else(|| wrong("it has no spec".to_owned()))?;
    spec.try_into()
        .map_err(|error: cutover_proto::convert::Malformed| wrong(error.to_string()))
}

pub(super) fn key(id: &ServiceId, number: u64) -> Key {
    Key::of(id.to_string()).number(number)
}

fn counter(id: &ServiceId) -> Key {
    Key::of("revision").text(id.to_string())
}

pub(super) fn unreadable(error: &ReadError) -> Refusal {
    Refusal::Store(cutover_daemon::logging::chain(error))
}
