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
use crate::pki::{Ask, HostRecord, Registry, RegistryError, Standing, TokenRecord, admission};
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
        serial: Serial,
        until: SystemTime,
        now: SystemTime,
    ) -> Result<HostRecord, RegistryError> {
        let of = host.clone();
        self.ask(host, |reply| DoorAsk::Renew {
            host: of,
            key,
            serial,
            until,
            now,
            reply,
        })
        .await
    }

    async fn speak(&self, host: &HostId, machine_id: &str) -> Result<(), RegistryError> {
        let (of, machine_id) = (host.clone(), machine_id.to_owned());
        self.ask(host, |reply| DoorAsk::Speak {
            host: of,
            machine_id,
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
                serial,
                until,
                now,
                reply,
            } => {
                let known = self.host_record(&host);
                let decided = admission::renew(known.as_ref(), &host, key, serial, until, now);
                if let Ok(record) = &decided {
                    self.keep_host(record, deeds);
                }
                deeds.after(move || drop(reply.send(decided.map_err(Into::into))));
            }
            DoorAsk::Speak {
                host,
                machine_id,
                reply,
            } => {
                let known = self.host_record(&host);
                let decided = match admission::speak(known.as_ref(), &host, &machine_id) {
                    Ok(None) => Ok(()),
                    Ok(Some(caught)) => {
                        self.keep_host(&caught, deeds);
                        caught.refuse_quarantined()
                    }
                    Err(refusal) => Err(refusal),
                };
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
        let serials = record.certificates.iter().filter_map(|certificate| {
            let serial = certificate.serial.parse().ok()?;
            Some((serial, at(certificate.until_unix_millis)))
        });
        Some(HostRecord {
            host: host.clone(),
            machine_id: record.machine_id.clone(),
            key: fingerprint(&record.key),
            labels: record.labels.clone().into_iter().collect(),
            serials: serials.collect(),
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
        record.serials = host
            .serials
            .iter()
            .map(|(serial, _)| serial.to_string())
            .collect();
        let holder = Identity::Agent(host.host.clone()).uri();
        let certificates = host.serials.iter().map(|(serial, until)| v1::SerialRecord {
            serial: serial.to_string(),
            until_unix_millis: millis(*until),
            revoked_unix_millis: 0,
            holder: holder.clone(),
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
