//! Making one connection to a gate, and saying in words why there is none.
//!
//! Under TLS 1.3 a client learns only after its own handshake that the server
//! refused its certificate: the first call then fails as an unknown "transport
//! error". So the stream below HTTP/2 is watched, and the alert that it saw
//! tells the reason ([`Connection::refusal`]).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::failure::{CertificateRefusal, DialError, refusal_in};
use super::{Address, ClientTls};
use crate::identity::Identity;

/// Name, TCP and TLS together; a host that blackholes must not hold a caller for minutes.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// An idle link is asked so often whether the other side is still there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
/// And given up when no answer came within this.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct Dial {
    address: Address,
    tls: Arc<ClientTls>,
}

/// One connection; when it ends, it is not made again.
pub struct Connection {
    /// For the generated clients.
    pub channel: Channel,
    alert: Arc<OnceLock<CertificateRefusal>>,
}

impl Connection {
    /// Whether, and why, the server refused our certificate after the handshake.
    #[must_use]
    pub fn refusal(&self) -> Option<CertificateRefusal> {
        self.alert.get().cloned()
    }
}

impl Dial {
    /// A way to connect to `address`, showing and believing what `tls` says.
    #[must_use]
    pub fn new(address: Address, tls: Arc<ClientTls>) -> Self {
        Self { address, tls }
    }

    /// Where to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Makes one connection, to the coordinator and nobody else.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self) -> Result<Connection, DialError> {
        let address = self.address.clone();
        let alert = Arc::new(OnceLock::new());
        let stream = tokio::time::timeout(CONNECT_WITHIN, self.handshake(&alert))
            .await
            .map_err(|_| DialError::TimedOut {
                address: address.clone(),
            })??;
        let once = Arc::new(Mutex::new(Some(stream)));
        let connector = service_fn(move |_: http::Uri| {
            let taken = once.lock().map_or(None, |mut stream| stream.take());
            std::future::ready(
                taken
                    .map(TokioIo::new)
                    .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)),
            )
        });
        match endpoint().connect_with_connector(connector).await {
            Ok(channel) => Ok(Connection { channel, alert }),
            Err(source) => Err(match alert.get() {
                Some(reason) => DialError::Refused {
                    address,
                    reason: reason.clone(),
                },
                None => DialError::Http { address, source },
            }),
        }
    }

    /// A channel that connects at its first call, and again whenever it must.
    #[must_use]
    pub fn lazy(&self) -> Channel {
        let dial = self.clone();
        endpoint().connect_with_connector_lazy(service_fn(move |_: http::Uri| {
            let dial = dial.clone();
            async move {
                let alert = Arc::new(OnceLock::new());
                let address = dial.address.clone();
                match tokio::time::timeout(CONNECT_WITHIN, dial.handshake(&alert)).await {
                    Ok(stream) => stream.map(TokioIo::new),
                    Err(_) => Err(DialError::TimedOut { address }),
                }
            }
        }))
    }

    async fn handshake(
        &self,
        alert: &Arc<OnceLock<CertificateRefusal>>,
    ) -> Result<Watched, DialError> {
        let address = || self.address.clone();
        let unreachable = |source| DialError::Unreachable {
            address: address(),
            source,
        };
        let name = self
            .address
            .server_name()
            .ok_or_else(|| unreachable(io::ErrorKind::InvalidInput.into()))?;
        let tcp = TcpStream::connect((self.address.host(), self.address.port()))
            .await
            .map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let stream = TlsConnector::from(self.tls.current())
            .connect(name, tcp)
            .await
            .map_err(|error| DialError::of_handshake(self.address.clone(), error))?;
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .map_or(&[][..], AsRef::as_ref);
        match Identity::of_certificate(peer) {
            Ok(Identity::Coordinator) => Ok(Watched {
                stream,
                alert: Arc::clone(alert),
            }),
            Ok(who @ (Identity::Agent(_) | Identity::Operator(_))) => {
                Err(DialError::NotCoordinator {
                    address: address(),
                    who,
                })
            }
            Err(source) => Err(DialError::Nobody {
                address: address(),
                source,
            }),
        }
    }
}

fn endpoint() -> Endpoint {
    // The name is not looked up: the connector knows where to. "http", because TLS is the connector's too.
    Endpoint::from_static("http://coordinator")
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
}

/// A TLS stream that remembers which alert ended it.
struct Watched {
    stream: TlsStream<TcpStream>,
    alert: Arc<OnceLock<CertificateRefusal>>,
}

impl Watched {
    fn watch<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled
            && let Some(reason) = refusal_in(error)
        {
            let _ = self.alert.set(reason); // the first one counts
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
