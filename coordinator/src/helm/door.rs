//! Who a machine may be: the gates ask, the loop decides and keeps it.
//!
//! The decisions are [`crate::pki::admission`]'s; here they meet what is known,
//! in the loop's one order, so that of two at once one sees what the other did.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cutover_core::HostId;
use cutover_proto::identity::Identity;
use cutover_proto::tls::{Fingerprint, Serial};
use cutover_proto::v1;
use tokio::sync::{mpsc, oneshot};

use super::Helm;
use super::deeds::Deeds;
use super::hear::host_event;
use super::wake::{DoorAsk, Wake};
use crate::pki::admission::{self, AdmissionRefusal};
use crate::pki::holding::{Holding, Holdings, HostHolding};
use crate::pki::{Ask, Given, HostRecord, Registry, RegistryError, Standing, TokenRecord};
use crate::store::{Key, Table};

/// The registry that the gates ask: a way to the loop.
pub struct Door(pub mpsc::Sender<Wake>);

/// The loop is gone: the process ends.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator stops")]
struct Stopping;

impl Door {
    async fn ask<T>(
        &self,
        host: &HostId,
        ask: impl FnOnce(oneshot::Sender<Result<T, RegistryError>>) -> DoorAsk,
    ) -> Result<T, RegistryError> {
        let gone = || RegistryError::Store {
            host: host.clone(),
            source: Box::new(Stopping),
        };
        let (reply, answer) = oneshot::channel();
        self.0
            .send(Wake::Door(ask(reply)))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[tonic::async_trait]
impl Registry for Door {
    async fn admit(&self, ask: Ask, now: SystemTime) -> Result<HostRecord, RegistryError> {
        let host = ask.host.clone();
        let ask = Box::new(ask);
        self.ask(&host, |reply| DoorAsk::Admit { ask, now, reply })
            .await
    }

    async fn renew(
        &self,
        host: &HostId,
        key: Fingerprint,
        given: Given,
        now: SystemTime,
    ) -> Result<HostRecord, RegistryError> {
        let of = host.clone();
        self.ask(host, |reply| DoorAsk::Renew {
            host: of,
            key,
            given,
            now,
            reply,
        })
        .await
    }

    async fn speak(
        &self,
        host: &HostId,
        machine_id: &str,
        shown: &Serial,
    ) -> Result<HostRecord, RegistryError> {
        let (of, machine_id) = (host.clone(), machine_id.to_owned());
        let shown = shown.clone();
        self.ask(host, |reply| DoorAsk::Speak {
            host: of,
            machine_id,
            shown,
            reply,
        })
        .await
    }
}

impl Helm {
    pub(super) fn at_the_door(&mut self, ask: DoorAsk, deeds: &mut Deeds) {
        match ask {
            DoorAsk::Admit { ask, now, reply } => {
                let decided = self.admit(&ask, now, deeds);
                deeds.after(move || drop(reply.send(decided)));
            }
            DoorAsk::Renew {
                host,
                key,
                given,
                now,
                reply,
            } => {
                let known = self.host_record(&host);
                let decided = admission::renew(known.as_ref(), &host, key, given, now);
                if let Ok(record) = &decided {
                    self.keep_host(record, deeds);
                }
                deeds.after(move || drop(reply.send(decided.map_err(Into::into))));
            }
            DoorAsk::Speak {
                host,
                machine_id,
                shown,
                reply,
            } => {
                let known = self.host_record(&host);
                let spoken = admission::speak(known.as_ref(), &host, &machine_id, &shown);
                let decided = spoken.and_then(|changed| {
                    if let Some(changed) = &changed {
                        self.keep_host(changed, deeds);
                    }
                    let unknown = || AdmissionRefusal::UnknownHost(host.clone());
                    let record = changed.or(known).ok_or_else(unknown)?;
                    record.refuse_quarantined().map(|()| record)
                });
                deeds.after(move || drop(reply.send(decided.map_err(Into::into))));
            }
        }
    }

    fn admit(
        &mut self,
        ask: &Ask,
        now: SystemTime,
        deeds: &mut Deeds,
    ) -> Result<HostRecord, RegistryError> {
        let token = self.tokens.get(&ask.token).map(token_record);
        let known = self.host_record(&ask.host);
        let is_new = known.is_none();
        let (token, host) = admission::admit(token.as_ref(), known.as_ref(), ask, now)?;
        if let Some(kept) = self.tokens.get_mut(&token.hash) {
            kept.uses_left = token.uses_left;
            deeds.put(Table::Tokens, Key::of(token.hash.to_string()), kept);
        }
        self.keep_host(&host, deeds);
        if is_new {
            if let Some(known) = self.fleet.hosts.get_mut(&host.host) {
                known.record.enrolled_unix_millis = deeds.unix_millis;
                deeds.put(Table::Hosts, Key::of(host.host.as_str()), &known.record);
            }
            deeds.event(host_event(&host.host, "enrolled", "info"));
        }
        Ok(host)
    }

    /// What every host holds, as far as it is known to.
    pub(super) fn holdings(&self) -> Holdings {
        let hosts = self.fleet.hosts.iter().map(|(id, host)| {
            let record = self.host_record(id);
            let holding = record.as_ref().and_then(HostRecord::holding);
            HostHolding::new(id.to_string(), host.state().to_owned(), holding)
        });
        Holdings::new(&self.settings.holding, hosts.collect())
    }

    /// A host that was not given what hosts are given now, or did not get it.
    pub(super) fn is_behind(&self, host: &HostId) -> bool {
        let record = self.host_record(host);
        record.is_some_and(|record| record.holding() != Some(&self.settings.holding))
    }

    fn host_record(&self, host: &HostId) -> Option<HostRecord> {
        let record = &self.fleet.host(host)?.record;
        let standing = if record.quarantined_with.is_empty() {
            Standing::Good
        } else {
            Standing::Quarantined {
                first: record.machine_id.clone(),
                second: record.quarantined_with.clone(),
            }
        };
        let given = record.certificates.iter().filter_map(|certificate| {
            Some(Given {
                serial: certificate.serial.parse().ok()?,
                until: at(certificate.until_unix_millis),
                holding: Holding::of_record(certificate),
            })
        });
        Some(HostRecord {
            host: host.clone(),
            machine_id: record.machine_id.clone(),
            key: fingerprint(&record.key),
            labels: record.labels.clone().into_iter().collect(),
            given: given.collect(),
            shown: record
                .shown
                .parse()
                .ok()
                .filter(|_| !record.shown.is_empty()),
            token: fingerprint(&record.token),
            standing,
        })
    }

    fn keep_host(&mut self, host: &HostRecord, deeds: &mut Deeds) {
        let known = self.fleet.hosts.entry(host.host.clone()).or_default();
        let record = &mut known.record;
        record.host = host.host.to_string();
        record.machine_id.clone_from(&host.machine_id);
        record.key = host.key.as_bytes().to_vec();
        record.token = host.token.as_bytes().to_vec();
        record.labels = host.labels.clone().into_iter().collect();
        let serials = host.given.iter().map(|given| given.serial.to_string());
        record.serials = serials.collect();
        record.shown = host
            .shown
            .as_ref()
            .map_or_else(String::new, Serial::to_string);
        let holder = Identity::Agent(host.host.clone()).uri();
        let certificates = host.given.iter().map(|given| {
            let holding = given.holding.as_ref();
            let bytes = |ca: &Fingerprint| ca.as_bytes().to_vec();
            v1::SerialRecord {
                serial: given.serial.to_string(),
                until_unix_millis: millis(given.until),
                revoked_unix_millis: 0,
                holder: holder.clone(),
                issuer: holding.map_or_else(Vec::new, |holding| bytes(&holding.issuer)),
                trusts: holding.map_or_else(Vec::new, |holding| {
                    holding.trusts.iter().map(bytes).collect()
                }),
            }
        });
        record.certificates = certificates.collect();
        record.quarantined_with = match &host.standing {
            Standing::Good => String::new(),
            Standing::Quarantined { second, .. } => second.clone(),
        };
        deeds.put(Table::Hosts, Key::of(host.host.as_str()), &*record);
    }
}

fn token_record(record: &v1::TokenRecord) -> TokenRecord {
    TokenRecord {
        hash: fingerprint(&record.hash),
        expires: at(record.expires_unix_millis),
        uses_left: record.uses_left,
        labels: record.labels.clone().into_iter().collect(),
    }
}

/// Bytes that were kept of one; all zero when they are damaged, which fits nothing.
pub(super) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Fingerprint::from_bytes(bytes.try_into().unwrap_or([0; 32]))
}

pub(super) fn at(unix_millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_millis).unwrap_or(0))
}

pub(super) fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
