//! A wire that can be cut: what comes in on one port goes to another, until it does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// The wire to one server.
#[derive(Clone)]
pub(crate) struct Wire {
    address: SocketAddr,
    cut: broadcast::Sender<()>,
    dead: Arc<AtomicBool>,
}

impl Wire {
    /// Listens on loopback, and carries to `server`.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has free ports");
        let wire = Self {
            address: listener.local_addr().expect("it is bound"),
            cut: broadcast::channel(1).0,
            dead: Arc::new(AtomicBool::new(false)),
        };
        let this = wire.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if this.dead.load(Ordering::SeqCst) {
                    continue; // closed at once: nobody is there
                }
                let mut cut = this.cut.subscribe();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        wire
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection ends now; new ones work.
    pub(crate) fn cut(&self) {
        let _ = self.cut.send(());
    }

    /// Every connection ends now; no new one works, or works again.
    pub(crate) fn dead(&self, dead: bool) {
        self.dead.store(dead, Ordering::SeqCst);
        if dead {
            self.cut();
        }
    }
}
