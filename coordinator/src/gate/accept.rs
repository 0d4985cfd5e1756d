//! Taking connections: each handshake on its own, all of them bounded.
//!
//! Kept true: a peer that stalls its handshake holds up nobody else; a peer that
//! is refused learns why (the alert reaches it) and is noted; no code beyond
//! this file sees a connection whose peer was not let in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cutover_proto::identity::{Identity, IdentityError};
use cutover_proto::tls::ServerTls;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connections::{Connections, GateStream, LetInPeer};
use super::refusals::Refusals;
use super::sources::{Guest, Sources};

/// Connections that the kernel keeps for us: a whole fleet that comes back at once.
const BACKLOG: u32 = 4096;
/// Handshakes at the same time: some 20 KiB each, so 20 MiB at worst.
const HANDSHAKES: usize = 1024;
/// Of those that one place may have, of the smaller of that and of the gate's room: fleets stand behind one address, too.
const SHARE: usize = 4;
/// For one handshake; a slow link needs about one second.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// So long, and so much, is read from a refused peer, so that the alert reaches it and not a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;
/// Let-in connections that wait for HTTP/2 to take them.
const HANDOVER: usize = 64;
/// Before the next attempt when the kernel gives no connection (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a peer was not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotLetIn {
    #[error("the TLS handshake")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake was not finished within {} s", HANDSHAKE_WITHIN.as_secs())]
    Slow,
    #[error("too many unfinished handshakes come from there")]
    Crowded,
    #[error("the certificate")]
    Identity(#[from] IdentityError),
    #[error("{0} has nothing to ask here")]
    Role(Identity),
}

/// What to do with a peer whose handshake succeeded: who it is to us.
pub(super) type LetIn<I> = fn(
    &[CertificateDer<'_>],
    SocketAddr,
    CancellationToken,
) -> Result<(I, Option<Identity>), NotLetIn>;

/// One listening gate.
pub(super) struct Accept<I> {
    pub(super) gate: &'static str,
    pub(super) listener: TcpListener,
    pub(super) tls: Arc<ServerTls>,
    pub(super) let_in: LetIn<I>,
    pub(super) connections: Arc<Connections>,
    /// Connections at the same time.
    pub(super) room: usize,
    pub(super) refusals: Arc<Refusals>,
    pub(super) stop: CancellationToken,
}

/// Listens at `address`.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?; // a restart must not wait for old connections to be forgotten
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl<I: Clone + Send + Sync + 'static> Accept<I> {
    /// Accepts until stopped; what it gives is let in.
    pub(super) fn start(self) -> mpsc::Receiver<io::Result<GateStream<I>>> {
        let (sender, receiver) = mpsc::channel(HANDOVER);
        tokio::spawn(async move {
            let stop = self.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.run(sender) => {}
            }
        });
        receiver
    }

    async fn run(self, sender: mpsc::Sender<io::Result<GateStream<I>>>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let room = Arc::new(Semaphore::new(self.room));
        let sources = Sources::new(HANDSHAKES.min(self.room) / SHARE);
        loop {
            let Ok(turn) = Arc::clone(&handshakes).acquire_owned().await else {
                return;
            };
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let (tcp, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(gate = self.gate, %error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(guest) = sources.admit(peer.ip()) else {
                self.refusals
                    .note(self.gate, peer, "unknown", &NotLetIn::Crowded);
                continue;
            };
            let handshake = Handshake {
                gate: self.gate,
                acceptor: TlsAcceptor::from(self.tls.current()),
                let_in: self.let_in,
                connections: Arc::clone(&self.connections),
                refusals: Arc::clone(&self.refusals),
                peer,
                guest,
            };
            let sender = sender.clone();
            let stop = self.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = handshake.run(tcp, turn, place, sender) => {}
                }
            });
        }
    }
}

struct Handshake<I> {
    gate: &'static str,
    acceptor: TlsAcceptor,
    let_in: LetIn<I>,
    connections: Arc<Connections>,
    refusals: Arc<Refusals>,
    peer: SocketAddr,
    guest: Guest,
}

impl<I: Clone + Send + Sync + 'static> Handshake<I> {
    async fn run(
        self,
        tcp: TcpStream,
        turn: OwnedSemaphorePermit,
        place: OwnedSemaphorePermit,
        sender: mpsc::Sender<io::Result<GateStream<I>>>,
    ) {
        match self.shake(tcp).await {
            Ok((stream, peer)) => {
                let stream = self.connections.add(stream, peer, place);
                drop((turn, self.guest));
                let _ = sender.send(Ok(stream)).await; // fails when the gate closes
            }
            Err(reason) => self.refusals.note(self.gate, self.peer, "unknown", &reason),
        }
    }

    async fn shake(
        &self,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, LetInPeer<I>), NotLetIn> {
        tcp.set_nodelay(true).map_err(NotLetIn::Handshake)?;
        let accept = self.acceptor.accept(tcp).into_fallible();
        let mut stream = match tokio::time::timeout(HANDSHAKE_WITHIN, accept).await {
            Err(_) => return Err(NotLetIn::Slow),
            Ok(Err((error, tcp))) => {
                linger(tcp).await;
                return Err(NotLetIn::Handshake(error));
            }
            Ok(Ok(stream)) => stream,
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let cut = CancellationToken::new();
        match (self.let_in)(chain, self.peer, cut.clone()) {
            Ok((info, who)) => Ok((stream, LetInPeer { info, who, cut })),
            Err(reason) => {
                let _ = tokio::time::timeout(LINGER, stream.shutdown()).await; // it is not ours to mend
                Err(reason)
            }
        }
    }
}

/// Closes so that the peer can still read what was sent: with unread bytes the kernel would reset.
async fn linger(mut tcp: TcpStream) {
    let _ = tokio::time::timeout(LINGER, async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut (&mut tcp).take(LINGER_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}
