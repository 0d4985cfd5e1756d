//! What operators do with hosts: tokens, labels, cordons, and letting one go.
//!
//! Keeps true: of a token its hash alone is kept (P8); a removed host is
//! forgotten durably first, then refused everywhere within a second.

use std::time::Duration;

use cutover_core::HostId;
use cutover_proto::tls::{Serial, random};
use cutover_proto::token::{Token, TokenSecret};
use cutover_proto::v1;

use super::Helm;
use super::answers::parse;
use super::deeds::Deeds;
use super::fleet::Host;
use super::hear::host_event;
use super::wake::Refusal;
use crate::roster::Farewell;
use crate::store::{Key, Table};

/// A token that nobody says more of.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// And the longest.
const TOKEN_LIFE_MOST: Duration = Duration::from_secs(30 * 24 * 3600);
/// A token opens the door so often at most.
const TOKEN_USES: u32 = 10_000;
/// Labels of a host, and the length of one.
const LABELS: usize = 64;
const LABEL_BYTES: usize = 256;

impl Helm {
    pub(super) fn known_host(&self, text: &str) -> Result<HostId, Refusal> {
        let id: HostId = parse(text)?;
        if self.fleet.hosts.contains_key(&id) {
            Ok(id)
        } else {
            let known = self.fleet.hosts.keys().map(ToString::to_string).collect();
            Err(Refusal::unknown("host", text, &known))
        }
    }

    pub(super) fn make_token(
        &mut self,
        who: &str,
        request: v1::MakeTokenRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::MakeTokenResponse, Refusal> {
        let uses = request.uses.max(1);
        let life = match request.expires_seconds {
            0 => TOKEN_LIFE,
            seconds => Duration::from_secs(seconds),
        };
        if uses > TOKEN_USES || life > TOKEN_LIFE_MOST {
            return Err(Refusal::Invalid(format!(
                "a token opens at most {TOKEN_USES} times, for 30 days at most"
            )));
        }
        check_labels(request.labels.iter())?;
        let random = random::<32>().map_err(|error| Refusal::Refused(error.to_string()))?;
        let token = Token {
            ca: self.settings.ca,
            expires: super::door::at(deeds.unix_millis) + life,
            secret: TokenSecret::from_bytes(random),
        };
        let expires = deeds.unix_millis.saturating_add(millis(life));
        let hash = token.secret.hash();
        let record = v1::TokenRecord {
            hash: hash.as_bytes().to_vec(),
            expires_unix_millis: expires,
            uses_left: uses,
            labels: request.labels,
            who: who.to_owned(),
        };
        self.drop_old_tokens(deeds);
        deeds.put(Table::Tokens, Key::of(hash.to_string()), &record);
        self.tokens.insert(hash, record);
        deeds.event(v1::EventRecord {
            kind: "security".to_owned(),
            text: format!("{who} made an enrolment token for {uses} host(s)"),
            ..v1::EventRecord::default()
        });
        Ok(v1::MakeTokenResponse {
            token: token.to_line(),
            expires_unix_millis: expires,
            uses,
            enrolment_address: self.settings.enrolment_address.clone(),
        })
    }

    /// Tokens that opened for the last time, or never will again, a month ago.
    fn drop_old_tokens(&mut self, deeds: &mut Deeds) {
        let before = deeds.unix_millis.saturating_sub(millis(TOKEN_LIFE_MOST));
        let old: Vec<_> = self
            .tokens
            .iter()
            .filter(|(_, token)| token.expires_unix_millis < before)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in old {
            self.tokens.remove(&hash);
            deeds.change(|batch| batch.remove(Table::Tokens, Key::of(hash.to_string())));
        }
    }

    pub(super) fn list_hosts(
        &self,
        request: &v1::ListHostsRequest,
    ) -> Result<v1::ListHostsResponse, Refusal> {
        let hosts = if request.host.is_empty() {
            self.fleet
                .hosts
                .iter()
                .map(|(id, host)| view(id, host))
                .collect()
        } else {
            let id = self.known_host(&request.host)?;
            self.fleet
                .host(&id)
                .map(|host| view(&id, host))
                .into_iter()
                .collect()
        };
        Ok(v1::ListHostsResponse { hosts })
    }

    pub(super) fn label_host(
        &mut self,
        who: &str,
        request: v1::LabelHostRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::HostView, Refusal> {
        check_labels(request.set.iter())?;
        let set: Vec<String> = request.set.keys().cloned().collect();
        let text = format!("{who} set the labels {}", set.join(", "));
        self.mend_host(&request.host, &text, deeds, |record| {
            record.labels.extend(request.set);
            for label in &request.remove {
                record.labels.remove(label);
            }
        })
    }

    pub(super) fn cordon_host(
        &mut self,
        who: &str,
        request: &v1::CordonHostRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::HostView, Refusal> {
        let what = if request.cordon {
            "cordoned"
        } else {
            "uncordoned"
        };
        let text = format!("{what} by {who}");
        self.mend_host(&request.host, &text, deeds, |record| {
            record.cordoned = request.cordon;
            record.drained &= request.cordon;
        })
    }

    fn mend_host(
        &mut self,
        name: &str,
        text: &str,
        deeds: &mut Deeds,
        mend: impl FnOnce(&mut v1::HostRecord),
    ) -> Result<v1::HostView, Refusal> {
        let id = self.known_host(name)?;
        let unknown = || Refusal::NotFound(format!("there is no host {name:?}"));
        let host = self.fleet.hosts.get_mut(&id).ok_or_else(unknown)?;
        mend(&mut host.record);
        deeds.put(Table::Hosts, Key::of(id.as_str()), &host.record);
        deeds.event(host_event(&id, text, "info"));
        let view = view(&id, host);
        self.returned.insert(id); // it may match something now
        Ok(view)
    }

    pub(super) fn remove_host(
        &mut self,
        who: &str,
        request: &v1::HostRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::HostView, Refusal> {
        let id = self.known_host(&request.host)?;
        let running: Vec<String> = self.fleet.host(&id).map_or_else(Vec::new, |host| {
            let desks = host
                .desks
                .iter()
                .filter(|(_, desk)| desk.record.current > 0);
            desks.map(|(service, _)| service.to_string()).collect()
        });
        let there = self.fleet.host(&id).is_some_and(Host::is_there);
        if !running.is_empty() && there && !request.force {
            return Err(Refusal::Refused(format!(
                "{id} runs {}: `cutover host drain {id}` first, or use --force",
                running.join(", ")
            )));
        }
        for number in self.rollouts_of(&id) {
            let left = cutover_core::rollout::Event::Left(id.clone());
            self.tell(number, left, deeds);
        }
        self.unanswered(&id, deeds);
        let Some(host) = self.fleet.hosts.remove(&id) else {
            return Err(Refusal::NotFound(format!("there is no host {id}")));
        };
        deeds.change(|batch| {
            batch
                .remove(Table::Hosts, Key::of(id.as_str()))
                .remove_all(Table::Desks, Key::of(id.as_str()))
        });
        let mut serials = Vec::new();
        for certificate in &host.record.certificates {
            let revoked = v1::SerialRecord {
                revoked_unix_millis: deeds.unix_millis,
                ..certificate.clone()
            };
            deeds.put(Table::Serials, Key::of(&certificate.serial), &revoked);
            serials.extend(certificate.serial.parse::<Serial>());
        }
        deeds.event(host_event(&id, &format!("removed by {who}"), "warn"));
        let mut view = view(&id, &host);
        "removed".clone_into(&mut view.state);
        let (denied, roster) = (
            std::sync::Arc::clone(&self.denied),
            std::sync::Arc::clone(&self.roster),
        );
        deeds.after(move || {
            denied.deny(serials);
            roster.end(&id, Farewell::removed(&id));
        });
        Ok(view)
    }
}

fn check_labels<'a>(
    labels: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Refusal> {
    let many = labels.len() > LABELS;
    let mut labels = labels;
    if many
        || labels.any(|(key, value)| {
            key.is_empty() || key.len() > LABEL_BYTES || value.len() > LABEL_BYTES
        })
    {
        return Err(Refusal::Invalid(format!(
            "a host has at most {LABELS} labels, each with a name and at most {LABEL_BYTES} characters"
        )));
    }
    Ok(())
}

pub(super) fn view(id: &HostId, host: &Host) -> v1::HostView {
    let running = host
        .desks
        .iter()
        .filter(|(_, desk)| desk.record.current > 0);
    let services = running.map(|(service, desk)| format!("{service}@{}", desk.record.current));
    let why = if host.record.quarantined_with.is_empty() {
        String::new()
    } else {
        format!(
            "the machines {} and {} both spoke for it",
            host.record.machine_id, host.record.quarantined_with
        )
    };
    v1::HostView {
        host: id.to_string(),
        state: host.state().to_owned(),
        labels: host.record.labels.clone(),
        facts: host.record.facts.clone(),
        agent_version: host.record.agent_version.clone(),
        last_seen_unix_millis: host.record.last_seen_unix_millis,
        enrolled_unix_millis: host.record.enrolled_unix_millis,
        cordoned: host.record.cordoned,
        services: services.collect(),
        clock_skew_millis: host.record.clock_skew_millis,
        why,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
