//! What the loop remembers from its life before: hosts, tokens, services, and the
//! rollouts that are queued, open or owed.

use cutover_core::rollout::{Event, Rollout, Stamped};
use cutover_core::{HostId, ServiceId};
use cutover_daemon::clock;
use cutover_proto::tls::Serial;
use cutover_proto::v1;

use super::deeds::Deeds;
use super::fleet::{Desk, Host};
use super::live::{Live, rollout_id};
use super::sentences;
use super::services::Service;
use super::{Helm, HelmError};
use crate::store::{Key, ReadError, Store, Table};

/// Records that are read at a time.
const PAGE: usize = 256;

impl Helm {
    /// Reads everything that the loop keeps in memory.
    pub(super) fn load(&mut self) -> Result<(), HelmError> {
        let store = self.store.clone();
        self.last_rollout = store.counter(&Key::of("rollout"))?;
        self.last_release = store.counter(&Key::of("release"))?;
        each(&store, Table::Hosts, |key, record: v1::HostRecord| {
            if let Some(id) = host_of(&key) {
                let host = Host {
                    record,
                    ..Host::default()
                };
                self.fleet.hosts.insert(id, host);
            }
        })?;
        each(&store, Table::Desks, |key, record: v1::DeskRecord| {
            let mut parts = key.parts();
            let host: Option<HostId> = parts.text().and_then(|text| text.parse().ok());
            let service: Option<ServiceId> = parts.text().and_then(|text| text.parse().ok());
            if let (Some(host), Some(service)) = (host, service)
                && let Some(host) = self.fleet.hosts.get_mut(&host)
            {
                let desk = Desk {
                    record,
                    ..Desk::default()
                };
                host.desks.insert(service, desk);
            }
        })?;
        each(&store, Table::Tokens, |_, record: v1::TokenRecord| {
            let hash = super::door::fingerprint(&record.hash);
            self.tokens.insert(hash, record);
        })?;
        each(&store, Table::Services, |_, record: v1::ServiceRecord| {
            if let Ok(id) = record.service.parse::<ServiceId>() {
                let service = Service::of(record);
                self.services.services.insert(id, service);
            }
        })?;
        let mut revoked = Vec::new();
        each(&store, Table::Serials, |_, record: v1::SerialRecord| {
            if record.revoked_unix_millis > 0 {
                revoked.extend(record.serial.parse::<Serial>());
            }
        })?;
        self.denied.deny(revoked);
        let mut answered = Vec::new();
        each(&store, Table::Requests, |key, record: v1::RequestRecord| {
            if let Some(id) = key.parts().text() {
                answered.push((record.unix_millis, id));
            }
        })?;
        answered.sort();
        self.answered = answered.into_iter().map(|(_, id)| id).collect();
        let mut rollouts = Vec::new();
        each(&store, Table::Rollouts, |key, record: v1::RolloutRecord| {
            if let Some(number) = key.parts().number() {
                rollouts.push((number, record));
            }
        })?;
        self.load_rollouts(rollouts)
    }

    fn load_rollouts(&mut self, rollouts: Vec<(u64, v1::RolloutRecord)>) -> Result<(), HelmError> {
        for (number, record) in rollouts {
            let over = record.outcome() != v1::Outcome::Unspecified;
            if over && record.plan.is_none() {
                continue; // it never began
            }
            let live = load_rollout(&self.store, number, record)?;
            if live.outcome().is_none() || live.is_owed() {
                self.live.insert(number, live);
            }
        }
        Ok(())
    }

    /// Says, first thing, that the machine booted, where it did.
    pub(super) fn wake_up(&mut self, deeds: &mut Deeds) {
        let other_boot: Vec<u64> = self
            .live
            .values()
            .filter(|live| live.machine.is_some() && live.record.boot_id != self.boot_id)
            .map(|live| live.number)
            .collect();
        for number in other_boot {
            if let Some(live) = self.live.get_mut(&number) {
                live.record.boot_id.clone_from(&self.boot_id);
                deeds.put(Table::Rollouts, Key::at(number), &live.record);
            }
            self.tell(number, Event::Rebooted, deeds);
        }
        for live in self.live.values() {
            deeds.touched.insert(live.number);
            tracing::info!(rollout = %live.id, service = %live.service, "goes on");
        }
    }
}

/// A rollout from its record and its facts.
pub(super) fn load_rollout(
    store: &Store,
    number: u64,
    mut record: v1::RolloutRecord,
) -> Result<Live, HelmError> {
    let wrong = |what: &str| {
        let what = format!("{what} of rollout {}", rollout_id(number));
        move |source: cutover_proto::convert::Malformed| HelmError::Record { what, source }
    };
    let id = rollout_id(number)
        .parse()
        .map_err(|error: cutover_core::NameError| wrong("the name")(error.into()))?;
    if record.service.is_empty()
        && let Some(plan) = &record.plan
    {
        record.service.clone_from(&plan.service);
    }
    let service = record
        .service
        .parse()
        .map_err(|error: cutover_core::NameError| wrong("the service")(error.into()))?;
    let now = clock::now();
    let plan = record.plan.clone();
    let never_begun = record.never_begun.clone();
    let ended = record.ended_unix_millis;
    let mut live = Live::new(number, id, service, record, now);
    if !never_begun.is_empty() {
        live.timeline.push(v1::TimelineEntry {
            unix_millis: ended,
            host: String::new(),
            text: never_begun,
        });
    }
    let Some(plan) = plan else { return Ok(live) };
    let mut facts: Vec<Stamped> = Vec::new();
    let mut from = Key::at(number);
    loop {
        let page: Vec<(Key, v1::RolloutFact)> =
            store.scan(Table::Facts, &Key::at(number), Some(&from), PAGE)?;
        let count = page.len();
        for (_, wire) in page {
            live.sequence += 1;
            if let Some(log) = &wire.last_log {
                if let Ok(host) = log.host.parse() {
                    live.last_logs.insert(host, log.text.clone());
                }
                continue;
            }
            live.timeline.push(sentences::entry(&wire));
            let stamped: Stamped = wire.try_into().map_err(wrong("a fact"))?;
            live.note(&stamped.fact);
            facts.push(stamped);
        }
        if count < PAGE {
            break;
        }
        from = Key::at(number).number(live.sequence);
    }
    let plan = plan.try_into().map_err(wrong("the plan"))?;
    live.machine = Some(Rollout::replay(plan, now, &facts));
    Ok(live)
}

fn host_of(key: &Key) -> Option<HostId> {
    key.parts().text()?.parse().ok()
}

/// Every record of a table, in the order of their keys.
fn each<M: prost::Message + Default>(
    store: &Store,
    table: Table,
    mut take: impl FnMut(Key, M),
) -> Result<(), ReadError> {
    let mut from: Option<Key> = None;
    loop {
        let page: Vec<(Key, M)> = store.scan(table, &Key::all(), from.as_ref(), PAGE)?;
        let count = page.len();
        let last = page.last().map(|(key, _)| key.clone());
        let again = from.is_some();
        for (at, (key, record)) in page.into_iter().enumerate() {
            if at > 0 || !again {
                take(key, record); // a page begins with the last record of the one before
            }
        }
        if count < PAGE {
            return Ok(());
        }
        from = last;
    }
}
