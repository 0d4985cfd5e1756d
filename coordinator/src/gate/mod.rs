//! The coordinator's doors: the main gate and the enrolment gate.
//!
//! The main gate (7443) demands a certificate of our CA before any code of ours
//! runs; behind it, [`permit`] says who may ask what. The enrolment gate (7444)
//! is apart, so that it can be firewalled apart, and asks for none.
//!
//! Kept true: a peer that is removed loses its live connections, not only its
//! next handshake; closing the gates ends, within a bound, whatever is open.

mod accept;
mod connections;
mod enrolment;
mod permit;
mod refusals;
mod sources;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cutover_proto::identity::Identity;
use cutover_proto::tls::{CheckedCertificate, Credentials, DenyList, ServerTls, TlsError, Trust};
use cutover_proto::v1::agent_link_server::AgentLinkServer;
use cutover_proto::v1::enrolment_server::EnrolmentServer;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustls_pki_types::CertificateDer;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use accept::{Accept, NotLetIn};
pub use connections::{Caller, Connections};
pub use enrolment::EnrolmentService;
pub(crate) use refusals::chain;
pub use refusals::{Refusal, Refusals};

use crate::roster::{Link, PARTING, Roster};

/// An idle link is asked so often whether the other side is still there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
/// And given up when no answer came within this.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);
/// Connections of the main gate: every one has a certificate of ours.
const MAIN_CONNECTIONS: usize = 16_384;
/// Connections of the enrolment gate: anybody can open one.
const ENROLMENT_CONNECTIONS: usize = 256;
/// An enrolment is two messages; a connection that stays is not one.
const ENROLMENT_WITHIN: Duration = Duration::from_secs(20);
/// The largest message that the enrolment gate reads.
const ENROLMENT_MESSAGE: usize = 64 * 1024;
/// The largest message that an agent may send: a report of a host with many services.
const LINK_MESSAGE: usize = 4 * 1024 * 1024;
/// Calls at the same time on one connection.
const CALLS: u32 = 256;

/// Why the gates do not open.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The address is not ours, or taken.
    #[error("listening at {address} for {gate}")]
    Listen {
        /// Which gate.
        gate: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("setting up TLS")]
    Tls(#[from] TlsError),
    /// HTTP/2 ended with an error.
    #[error("serving {gate}")]
    Serve {
        /// Which gate.
        gate: &'static str,
        /// What happened.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Where the gates are, and what they show and believe.
pub struct Doors {
    /// The main gate's address.
    pub main: SocketAddr,
    /// The enrolment gate's address.
    pub enrolment: SocketAddr,
    /// The coordinator's certificate.
    pub credentials: Credentials,
    /// Whose certificates are let in.
    pub trust: Trust,
    /// Which are not.
    pub denied: Arc<DenyList>,
    /// Where refusals are noted.
    pub refusals: Arc<Refusals>,
}

/// The open gates.
pub struct Gates {
    /// Where the main gate is (the port, if any was asked for).
    pub main: SocketAddr,
    /// Where the enrolment gate is.
    pub enrolment: SocketAddr,
    tls: [Arc<ServerTls>; 2],
    connections: Arc<Connections>,
    enrolling: Arc<Connections>,
    denied: Arc<DenyList>,
    roster: Arc<Roster>,
    stop: CancellationToken,
}

impl Gates {
    /// Opens both. `more` are the services of the main gate besides the agents' link; all of them
    /// are for operators, and find an [`Identity`] and a [`Caller`] in a request's extensions.
    /// The second value must be polled: it is the serving, and ends with [`Gates::close`].
    ///
    /// # Errors
    /// When an address or a certificate cannot be used.
    pub fn open(
        doors: Doors,
        roster: Arc<Roster>,
        enrolment: EnrolmentService,
        more: Routes,
    ) -> Result<(Self, BoxFuture<'static, Result<(), GateError>>), GateError> {
        let listen = |gate, address| {
            accept::listen(address)
                .and_then(|listener| Ok((listener.local_addr()?, listener)))
                .map_err(|source| GateError::Listen {
                    gate,
                    address,
                    source,
                })
        };
        let (main, main_listener) = listen("the main gate", doors.main)?;
        let (enrolment_at, enrolment_listener) = listen("the enrolment gate", doors.enrolment)?;
        let main_tls = Arc::new(ServerTls::mutual(
            &doors.credentials,
            &doors.trust,
            Arc::clone(&doors.denied),
        )?);
        let enrolment_tls = Arc::new(ServerTls::open(&doors.credentials)?);
        let gates = Self {
            main,
            enrolment: enrolment_at,
            tls: [Arc::clone(&main_tls), Arc::clone(&enrolment_tls)],
            connections: Arc::default(),
            enrolling: Arc::default(),
            denied: Arc::clone(&doors.denied),
            roster: Arc::clone(&roster),
            stop: CancellationToken::new(),
        };
        let known = Accept {
            gate: "main",
            listener: main_listener,
            tls: main_tls,
            let_in: known_peer,
            connections: Arc::clone(&gates.connections),
            room: MAIN_CONNECTIONS,
            refusals: Arc::clone(&doors.refusals),
            stop: gates.stop.clone(),
        };
        let strangers = Accept {
            gate: "enrolment",
            listener: enrolment_listener,
            tls: enrolment_tls,
            let_in: stranger,
            connections: Arc::clone(&gates.enrolling),
            room: ENROLMENT_CONNECTIONS,
            refusals: Arc::clone(&doors.refusals),
            stop: gates.stop.clone(),
        };
        let permit = permit::Permit {
            denied: doors.denied,
            refusals: Arc::clone(&doors.refusals),
        };
        let link = Link::new(roster, doors.refusals, Arc::clone(&gates.denied));
        let link = AgentLinkServer::new(link).max_decoding_message_size(LINK_MESSAGE);
        let main_serving = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
            .max_concurrent_streams(CALLS)
            .layer(permit)
            .add_routes(more.add_service(link))
            .serve_with_incoming(ReceiverStream::new(known.start()))
            .map(|served| {
                served.map_err(|source| GateError::Serve {
                    gate: "the main gate",
                    source,
                })
            });
        let enrolment = EnrolmentService {
            port: Some(enrolment.port.unwrap_or(main.port())),
            ..enrolment
        };
        let enrolment =
            EnrolmentServer::new(enrolment).max_decoding_message_size(ENROLMENT_MESSAGE);
        let enrolment_serving = Server::builder()
            .timeout(ENROLMENT_WITHIN)
            .max_connection_age(ENROLMENT_WITHIN)
            .max_connection_age_grace(ENROLMENT_WITHIN)
            .max_concurrent_streams(2)
            .add_service(enrolment)
            .serve_with_incoming(ReceiverStream::new(strangers.start()))
            .map(|served| {
                served.map_err(|source| GateError::Serve {
                    gate: "the enrolment gate",
                    source,
                })
            });
        let serving =
            futures::future::try_join(main_serving, enrolment_serving).map(|both| both.map(|_| ()));
        Ok((gates, serving.boxed()))
    }

    /// Shows and believes this from the next handshake on; nobody is disconnected.
    ///
    /// # Errors
    /// When it cannot be used; then what was before stays.
    pub fn replace(&self, credentials: &Credentials, trust: &Trust) -> Result<(), GateError> {
        self.tls
            .iter()
            .try_for_each(|tls| tls.replace(credentials, trust))
            .map_err(GateError::Tls)
    }

    /// A peer is no longer believed: `serials` are refused from now on, its session and its
    /// connections end within a second. The registry must have forgotten it before.
    pub async fn expel(
        &self,
        who: &Identity,
        serials: impl IntoIterator<Item = cutover_proto::tls::Serial>,
    ) {
        self.denied.deny(serials);
        if let Identity::Agent(host) = who {
            self.roster
                .end(host, crate::roster::Farewell::removed(host));
        }
        tokio::time::sleep(PARTING).await;
        self.connections.cut(who);
    }

    /// How many connections the main gate has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Stops listening, tells every session that we stop, and ends what is open.
    pub async fn close(&self) {
        self.stop.cancel();
        self.roster.close();
        let _ = tokio::time::timeout(PARTING, self.connections.gone()).await; // who lingers is cut
        self.connections.cut_all();
        self.enrolling.cut_all();
    }
}

fn known_peer(
    chain: &[CertificateDer<'_>],
    peer: SocketAddr,
    cut: CancellationToken,
) -> Result<(Caller, Option<Identity>), NotLetIn> {
    let certificate = CheckedCertificate::read(chain.first().map_or(&[], AsRef::as_ref))?;
    let who = certificate.identity.clone();
    if who == Identity::Coordinator {
        return Err(NotLetIn::Role(who)); // two coordinators do not talk to each other
    }
    Ok((Caller::new(certificate, peer, cut), Some(who)))
}

#[allow(clippy::unnecessary_wraps)] // one of two functions of this type
fn stranger(
    _chain: &[CertificateDer<'_>],
    peer: SocketAddr,
    _cut: CancellationToken,
) -> Result<(enrolment::From, Option<Identity>), NotLetIn> {
    Ok((enrolment::From(peer), None))
}
