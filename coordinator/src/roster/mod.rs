//! The hosts that are connected: one live session each.
//!
//! A session is opened and read by [`Link`]; the loop hears of it as a
//! [`RosterEvent`] and speaks to it with [`Roster::send`].
//!
//! Kept true: a host has at most one session, the newest; what waits for a host
//! is bounded, and one that does not read loses its session (it comes back and
//! is told everything again); a session that ends says why.
//!
//! The map is behind a lock, not in the loop: a session must end within a second
//! even while the loop is busy. The lock is never held over an await.

mod farewell;
mod link;
mod outgoing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use cutover_core::HostId;
use cutover_proto::v1::{Hello, ToAgent, Welcome, from_agent, to_agent};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use farewell::Farewell;
pub use link::Link;
use outgoing::Outgoing;

use crate::gate::Caller;
use crate::pki::{Holding, Registry};

/// What waits for one host: an order for each of its services, and some requests.
const QUEUE: usize = 256;
/// What a peer is told has so long to reach it, before its connection is cut.
pub(crate) const PARTING: Duration = Duration::from_millis(300);

/// Which session; every one has its own number, and they rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What the loop hears.
#[derive(Debug)]
pub enum RosterEvent {
    /// A host is there; its session took the place of any other.
    Connected {
        /// Which host.
        host: HostId,
        /// Its session.
        session: SessionId,
        /// From where.
        peer: SocketAddr,
        /// What it said of itself.
        hello: Box<Hello>,
    },
    /// A host said something.
    Said {
        /// Which host.
        host: HostId,
        /// In which session.
        session: SessionId,
        /// What.
        what: Box<from_agent::What>,
    },
    /// A session ended. (Not the host's newest, perhaps: compare.)
    Disconnected {
        /// Which host.
        host: HostId,
        /// Its session.
        session: SessionId,
        /// Why, in words.
        why: String,
    },
    /// Two machines spoke for one host; both were refused. Comes each time that one of them tries.
    Quarantined {
        /// Which host.
        host: HostId,
        /// Both machines, in words.
        why: String,
    },
}

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The host is not there.
    #[error("the host is not connected")]
    Away,
    /// It did not read; its session was ended.
    #[error("the host does not read what it is sent; its session was ended")]
    Overflow,
}

/// What an agent is welcomed with.
#[derive(Clone, Debug)]
pub struct About {
    /// Which coordinator.
    pub coordinator_id: String,
    /// Which life of its store, at the start.
    pub epoch: u64,
    /// How long an order holds.
    pub lease_seconds: u32,
    /// What a host should hold; one that does not is asked to renew.
    pub holding: Holding,
}

/// A host that is there.
#[derive(Clone, Debug)]
pub struct Present {
    /// Which host.
    pub host: HostId,
    /// Its session.
    pub session: SessionId,
    /// Since when.
    pub since: SystemTime,
    /// From where.
    pub peer: SocketAddr,
    /// Its agent's version.
    pub agent_version: String,
}

/// The connected hosts.
pub struct Roster {
    about: About,
    epoch: AtomicU64,
    registry: Arc<dyn Registry>,
    events: mpsc::Sender<RosterEvent>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    closed: bool,
    live: BTreeMap<HostId, Live>,
}

struct Live {
    present: Present,
    caller: Caller,
    queue: mpsc::Sender<Box<ToAgent>>,
    /// Ends what is written, after what waits was written.
    farewell: oneshot::Sender<Farewell>,
    /// Ends what is read.
    ending: Arc<Ending>,
}

impl Live {
    fn end(self, farewell: Farewell) {
        if farewell.is_final() {
            let caller = self.caller;
            tokio::spawn(async move {
                tokio::time::sleep(PARTING).await; // so that it hears why, if it reads
                caller.cut();
            });
        }
        let _ = self.ending.why.set(farewell.clone());
        let _ = self.farewell.send(farewell); // fails when the stream is gone already
        self.ending.now.cancel();
    }
}

/// Tells a session's reader that, and why, it ends.
#[derive(Default)]
struct Ending {
    now: CancellationToken,
    why: OnceLock<Farewell>,
}

impl Ending {
    async fn wait(&self) -> Farewell {
        self.now.cancelled().await;
        self.why
            .get()
            .cloned()
            .unwrap_or_else(Farewell::shutting_down)
    }
}

/// What a session's two directions hold.
struct Opened {
    session: SessionId,
    outgoing: Outgoing,
    ending: Arc<Ending>,
}

impl Roster {
    /// An empty one; `events` go to the loop.
    #[must_use]
    pub fn new(
        about: About,
        registry: Arc<dyn Registry>,
        events: mpsc::Sender<RosterEvent>,
    ) -> Arc<Self> {
        Arc::new(Self {
            epoch: AtomicU64::new(about.epoch),
            about,
            registry,
            events,
            inner: Mutex::default(),
        })
    }

    /// The store began another epoch: sessions that open from now on are told.
    pub fn now_in_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Says something to a host, without waiting.
    ///
    /// # Errors
    /// When the host is away, or does not read.
    pub fn send(&self, host: &HostId, what: to_agent::What) -> Result<(), NotSent> {
        let mut inner = self.lock();
        let live = inner.live.get(host).ok_or(NotSent::Away)?;
        match live.queue.try_send(Box::new(ToAgent { what: Some(what) })) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotSent::Away),
            Err(mpsc::error::TrySendError::Full(_)) => {
                if let Some(live) = inner.live.remove(host) {
                    live.end(Farewell::overflow(QUEUE));
                }
                Err(NotSent::Overflow)
            }
        }
    }

    /// Ends a host's session, if it has one; the agent is told why.
    pub fn end(&self, host: &HostId, farewell: Farewell) {
        if let Some(live) = self.lock().live.remove(host) {
            live.end(farewell);
        }
    }

    /// Ends all sessions and opens no more: the coordinator stops.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for (_, live) in std::mem::take(&mut inner.live) {
            live.end(Farewell::shutting_down());
        }
    }

    /// Who is there, by name.
    #[must_use]
    pub fn present(&self) -> Vec<Present> {
        self.lock()
            .live
            .values()
            .map(|live| live.present.clone())
            .collect()
    }

    /// Whether this host is there, and how.
    #[must_use]
    pub fn host(&self, host: &HostId) -> Option<Present> {
        self.lock().live.get(host).map(|live| live.present.clone())
    }

    /// Makes room for a session, whose first message is a welcome; an older one ends.
    fn open(
        &self,
        host: &HostId,
        hello: &Hello,
        caller: &Caller,
        welcome: Welcome,
    ) -> Result<Opened, Farewell> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (farewell, last) = oneshot::channel();
        let ending = Arc::<Ending>::default();
        let peer = caller.peer();
        let welcome = Box::new(ToAgent {
            what: Some(to_agent::What::Welcome(welcome)),
        });
        if queue.try_send(welcome).is_err() {
            return Err(Farewell::overflow(QUEUE)); // never: it is empty
        }
        let mut inner = self.lock();
        if inner.closed {
            return Err(Farewell::shutting_down());
        }
        inner.last += 1;
        let session = SessionId(inner.last);
        let present = Present {
            host: host.clone(),
            session,
            since: SystemTime::now(),
            peer,
            agent_version: hello.agent_version.clone(),
        };
        let live = Live {
            present,
            caller: caller.clone(),
            queue,
            farewell,
            ending: Arc::clone(&ending),
        };
        if let Some(older) = inner.live.insert(host.clone(), live) {
            older.end(Farewell::replaced(peer));
        }
        Ok(Opened {
            session,
            outgoing: Outgoing::new(waiting, last),
            ending,
        })
    }

    /// Takes a session away, unless a newer one has its place.
    fn depart(&self, host: &HostId, session: SessionId, farewell: Farewell) {
        let mut inner = self.lock();
        if inner
            .live
            .get(host)
            .is_some_and(|live| live.present.session == session)
            && let Some(live) = inner.live.remove(host)
        {
            live.end(farewell);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
