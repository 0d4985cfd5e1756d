//! The live connections of a gate, so that a peer that is no longer believed loses all of them.
//!
//! A handshake is checked once; a connection lives for weeks. Removal therefore
//! cuts what is open: sessions, watches, and connections that idle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use cutover_proto::identity::Identity;
use cutover_proto::tls::{CheckedCertificate, Serial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::transport::server::Connected;

/// Who is at the other end of a connection, and from where; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    certificate: CheckedCertificate,
    peer: SocketAddr,
    cut: CancellationToken,
}

impl Caller {
    pub(super) fn new(
        certificate: CheckedCertificate,
        peer: SocketAddr,
        cut: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inside {
            certificate,
            peer,
            cut,
        }))
    }

    /// Ends this connection, whatever is open on it.
    pub(crate) fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.certificate.identity
    }

    /// The number of its certificate.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.0.certificate.serial
    }

    /// Until when its certificate holds.
    #[must_use]
    pub fn until(&self) -> SystemTime {
        self.0.certificate.life.until
    }

    /// From where it came.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }
}

/// The connections of one gate.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<Open>,
    streams: TaskTracker,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    open: BTreeMap<u64, (Option<Identity>, CancellationToken)>,
}

impl Connections {
    /// Cuts every connection of `who`; says how many there were.
    pub fn cut(&self, who: &Identity) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_who = open
            .open
            .values()
            .filter(|(identity, _)| identity.as_ref() == Some(who));
        of_who.map(|(_, token)| token.cancel()).count()
    }

    /// Cuts all of them.
    pub fn cut_all(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.open.values().for_each(|(_, token)| token.cancel());
    }

    /// Waits until there is none, and no more will come.
    pub(super) async fn gone(&self) {
        self.streams.close();
        self.streams.wait().await;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn add<I>(
        self: &Arc<Self>,
        tls: TlsStream<TcpStream>,
        peer: LetInPeer<I>,
        room: OwnedSemaphorePermit,
    ) -> GateStream<I> {
        let LetInPeer { info, who, cut } = peer;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.next += 1;
        let number = open.next;
        open.open.insert(number, (who, cut.clone()));
        let entry = Entry {
            connections: Arc::clone(self),
            number,
            _stream: self.streams.token(),
        };
        GateStream {
            tls,
            info,
            cut: Box::pin(cut.cancelled_owned()),
            _entry: entry,
            _room: room,
        }
    }
}

/// A peer whose handshake succeeded: what requests are told of it, and how its connection ends.
pub(super) struct LetInPeer<I> {
    pub(super) info: I,
    pub(super) who: Option<Identity>,
    pub(super) cut: CancellationToken,
}

struct Entry {
    connections: Arc<Connections>,
    number: u64,
    _stream: TaskTrackerToken,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .remove(&self.number);
    }
}

/// A connection that was let in, and can be cut.
pub(super) struct GateStream<I> {
    tls: TlsStream<TcpStream>,
    info: I,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Entry,
    _room: OwnedSemaphorePermit,
}

impl<I> GateStream<I> {
    fn check(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<I: Clone + Send + Sync + 'static> Connected for GateStream<I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<I: Unpin> AsyncRead for GateStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl<I: Unpin> AsyncWrite for GateStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
