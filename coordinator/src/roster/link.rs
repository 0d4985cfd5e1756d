//! Opening an agent's session and reading it.
//!
//! Kept true: the host is the certificate's, and Hello must say the same; a
//! session opens only after the registry has let this machine speak for the
//! host; the loop hears Connected before anything else of a session, and
//! Disconnected last.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_core::HostId;
use cutover_proto::PROTOCOL;
use cutover_proto::identity::Identity;
use cutover_proto::tls::{DenyList, Serial};
use cutover_proto::v1::agent_link_server::AgentLink;
use cutover_proto::v1::{FromAgent, Hello, Renewed, Welcome, from_agent};
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::{Ending, Farewell, Opened, Outgoing, Roster, RosterEvent, SessionId};
use crate::gate::{Caller, Refusals};
use crate::pki::admission::AdmissionRefusal;
use crate::pki::{HostRecord, RegistryError};

/// An agent speaks first; one that does not is not worth a stream.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// The service of the main gate that is for agents.
pub struct Link {
    roster: Arc<Roster>,
    refusals: Arc<Refusals>,
    denied: Arc<DenyList>,
}

impl Link {
    /// Opens sessions in `roster`.
    #[must_use]
    pub fn new(roster: Arc<Roster>, refusals: Arc<Refusals>, denied: Arc<DenyList>) -> Self {
        Self {
            roster,
            refusals,
            denied,
        }
    }
}

#[tonic::async_trait]
impl AgentLink for Link {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Outgoing>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::unauthenticated("there is no certificate"))?;
        let Identity::Agent(host) = caller.identity() else {
            return Err(Status::permission_denied("sessions are for agents alone"));
        };
        let mut incoming = request.into_inner();
        match self.open(host, &caller, &mut incoming).await {
            Ok((
                machine_id,
                Opened {
                    session,
                    outgoing,
                    ending,
                },
            )) => {
                info!(%host, peer = %caller.peer(), "a host connected");
                let reader = Reader {
                    roster: Arc::clone(&self.roster),
                    host: host.clone(),
                    machine_id,
                    session,
                    ending,
                    until: caller.until(),
                };
                tokio::spawn(reader.run(incoming));
                Ok(Response::new(outgoing))
            }
            Err(farewell) => {
                self.refusals.note(
                    "main",
                    caller.peer(),
                    &caller.identity().to_string(),
                    &farewell,
                );
                Ok(Response::new(Outgoing::refused(farewell)))
            }
        }
    }
}

impl Link {
    async fn open(
        &self,
        host: &HostId,
        caller: &Caller,
        incoming: &mut Streaming<FromAgent>,
    ) -> Result<(String, Opened), Farewell> {
        let hello = hello(incoming).await?;
        if hello.host_id != host.as_str() {
            let said = hello
                .host_id
                .chars()
                .take(cutover_core::name::MAX_NAME)
                .collect::<String>();
            return Err(Farewell::bad_hello(format!(
                "the certificate is of the host {host}, Hello says {said:?}"
            )));
        }
        if let Some(farewell) =
            Farewell::of_protocol(hello.protocol, hello.oldest_protocol, &hello.agent_version)
        {
            return Err(farewell);
        }
        let record = self.may_speak(host, &hello, caller).await?;
        let behind = record.holding() != Some(&self.roster.about.holding);
        let opened = self
            .roster
            .open(host, &hello, caller, self.welcome(behind))?;
        // Removed between the handshake and here? Whoever removes denies first and ends after; so
        // either that end found this session, or this look finds the denial.
        if self.denied.denies(caller.serial()) {
            let farewell = Farewell::removed(host);
            self.roster.depart(host, opened.session, farewell.clone());
            return Err(farewell);
        }
        let machine_id = hello.machine_id.clone();
        let connected = RosterEvent::Connected {
            host: host.clone(),
            session: opened.session,
            peer: caller.peer(),
            hello: Box::new(hello),
        };
        if self.roster.events.send(connected).await.is_err() {
            let farewell = Farewell::shutting_down();
            self.roster.depart(host, opened.session, farewell.clone());
            return Err(farewell);
        }
        Ok((machine_id, opened))
    }

    async fn may_speak(
        &self,
        host: &HostId,
        hello: &Hello,
        caller: &Caller,
    ) -> Result<HostRecord, Farewell> {
        if hello.machine_id.is_empty() {
            return Err(Farewell::bad_hello("Hello has no machine-id"));
        }
        let registry = &self.roster.registry;
        let spoken = registry.speak(host, &hello.machine_id, caller.serial());
        match spoken.await {
            Ok(record) => Ok(record),
            Err(RegistryError::Refused(refusal @ AdmissionRefusal::Quarantined { .. })) => {
                let farewell = Farewell::quarantined(refusal.to_string());
                self.roster.end(host, farewell.clone()); // neither of the two may speak
                let quarantined = RosterEvent::Quarantined {
                    host: host.clone(),
                    why: refusal.to_string(),
                };
                let _ = self.roster.events.send(quarantined).await; // fails when the loop has ended
                Err(farewell)
            }
            Err(RegistryError::Refused(refusal)) => Err(Farewell::unknown(refusal.to_string())),
            Err(error @ RegistryError::Store { .. }) => {
                warn!(%host, error = crate::gate::chain(&error), "a session was not opened");
                Err(Farewell::unavailable())
            }
        }
    }

    fn welcome(&self, behind: bool) -> Welcome {
        let about = &self.roster.about;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Welcome {
            coordinator_id: about.coordinator_id.clone(),
            epoch: self.roster.epoch.load(std::sync::atomic::Ordering::Acquire),
            protocol: PROTOCOL,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            server_time_unix_millis: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            lease_seconds: about.lease_seconds,
            renew_certificate: behind,
        }
    }
}

async fn hello(incoming: &mut Streaming<FromAgent>) -> Result<Hello, Farewell> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message())
        .await
        .map_err(|_| Farewell::bad_hello(format!("no Hello within {} s", HELLO_WITHIN.as_secs())))?
        .map_err(|status| Farewell::bad_hello(format!("reading Hello: {}", status.message())))?;
    match first.and_then(|first| first.what) {
        Some(from_agent::What::Hello(hello)) => Ok(hello),
        Some(
            from_agent::What::Report(_)
            | from_agent::What::Facts(_)
            | from_agent::What::Answer(_)
            | from_agent::What::Bye(_)
            | from_agent::What::Renewed(_),
        )
        | None => Err(Farewell::bad_hello("the first message is not Hello")),
    }
}

/// Reads one session until it ends.
struct Reader {
    roster: Arc<Roster>,
    host: HostId,
    machine_id: String,
    session: SessionId,
    ending: Arc<Ending>,
    until: SystemTime,
}

impl Reader {
    async fn run(self, mut incoming: Streaming<FromAgent>) {
        let ending = Arc::clone(&self.ending);
        let left = self
            .until
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let farewell = tokio::select! {
            farewell = self.read(&mut incoming) => farewell,
            farewell = ending.wait() => farewell,
            () = tokio::time::sleep(left) => Farewell::certificate_expired(),
        };
        self.roster
            .depart(&self.host, self.session, farewell.clone());
        info!(host = %self.host, why = %farewell, "a session ended");
        let gone = RosterEvent::Disconnected {
            host: self.host,
            session: self.session,
            why: farewell.to_string(),
        };
        let _ = self.roster.events.send(gone).await; // fails when the loop has ended
    }

    /// The host keeps a certificate that this connection was not opened with.
    async fn renewed(&self, renewed: &Renewed) {
        let serial = Serial::from_bytes(&renewed.serial);
        let registry = &self.roster.registry;
        let spoken = registry.speak(&self.host, &self.machine_id, &serial);
        if let Err(error) = spoken.await {
            // Its next connection shows it.
            warn!(host = %self.host, error = crate::gate::chain(&error), "which certificate it holds was not kept");
        }
    }

    async fn read(&self, incoming: &mut Streaming<FromAgent>) -> Farewell {
        loop {
            let what = match incoming.message().await {
                Ok(Some(FromAgent { what: Some(what) })) => what,
                Ok(Some(FromAgent { what: None })) => continue, // a newer agent's word, unknown here
                Ok(None) => return Farewell::left("the agent closed it"),
                Err(status) => {
                    return Farewell::left(format!(
                        "the connection was lost ({})",
                        status.message()
                    ));
                }
            };
            if let from_agent::What::Hello(_) = what {
                return Farewell::bad_hello("a second Hello in one session");
            }
            if let from_agent::What::Renewed(renewed) = &what {
                self.renewed(renewed).await;
                continue;
            }
            let bye = if let from_agent::What::Bye(bye) = &what {
                Some(bye.reason.clone())
            } else {
                None
            };
            let said = RosterEvent::Said {
                host: self.host.clone(),
                session: self.session,
                what: Box::new(what),
            };
            if self.roster.events.send(said).await.is_err() {
                return Farewell::shutting_down();
            }
            if let Some(reason) = bye {
                return Farewell::left(format!("the agent left ({reason})"));
            }
        }
    }
}
