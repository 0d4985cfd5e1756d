//! What real requests say about the revisions that answered them.
//!
//! The proxy sends one datagram a request to a unix socket. A [`Reader`] takes
//! them off that socket, counts them per service and slot in constant memory,
//! and hands the lines that prove a route to whoever waits for them. A
//! [`Signals`] is the handle with which the rest of the agent asks.
//!
//! Keeps true: a datagram that it can't read changes no count but `garbled`;
//! a service that it was not told of takes no memory; no address, path or
//! header of a client is kept. Does not know what the numbers mean: verdicts
//! are drawn elsewhere. A datagram for which the queue had no room leaves no
//! trace here (the proxy's error log has a line for each); with a queue of 512 a
//! reader that keeps up loses none. After a start the first line of each of the
//! proxy's logs is lost, as it still goes to the former socket.

mod line;
mod tally;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cutover_core::{ServiceId, Slot};
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};

pub use line::{Line, Place, Proof, parse};
pub use tally::{Latency, Tally};

/// Questions that may wait for the reader.
const ASKS: usize = 64;
/// Proofs that may wait at the same time; the oldest gives way to a new one.
const WAITING_PROOFS: usize = 256;
/// Longest datagram that is read; ours have a few hundred bytes.
const LONGEST: usize = 8192;
/// Datagrams read before a question gets its turn.
const BURST: usize = 1024;
/// Datagrams that the kernel keeps for a socket made from now on. systemd sets
/// 512 at boot; where it does not run the kernel's 10 drops some of any burst.
const QUEUE_LIMIT: &str = "/proc/sys/net/unix/max_dgram_qlen";
const QUEUE: u32 = 512;

/// Why the signals could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error("could not make the signals socket {}; is its directory there, and is no other agent using it?", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The reader is gone; the agent is ending.
    #[error("the reader of signals has ended")]
    Ended,
}

/// What was counted, by service and slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Since the reader started; two readings are subtracted with [`Tally::since`].
    pub slots: BTreeMap<(ServiceId, Slot), Tally>,
    /// By service: requests that found no readable route. Each is an alarm.
    pub unreadable: BTreeMap<ServiceId, u64>,
    /// By service: requests while its route was `nobody`.
    pub nobody: BTreeMap<ServiceId, u64>,
    /// Datagrams that were none of ours, or of a service that is not known.
    pub garbled: u64,
}

/// The handle with which the agent asks for counts and waits for proofs.
#[derive(Clone, Debug)]
pub struct Signals {
    path: PathBuf,
    asks: mpsc::Sender<Ask>,
}

/// Reads the socket until it is dropped.
#[derive(Debug)]
pub struct Reader {
    socket: UnixDatagram,
    asks: mpsc::Receiver<Ask>,
    book: Book,
}

#[derive(Debug)]
enum Ask {
    Know(Vec<(ServiceId, Slot, Vec<Ipv4Addr>)>, oneshot::Sender<()>),
    Counts(oneshot::Sender<Counts>),
    Expect(Expected, oneshot::Sender<Proof>, oneshot::Sender<()>),
}

/// What a waiting proof is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expected {
    /// The nonce of an HTTP proof.
    Nonce(String),
    /// A TCP proof: the service, its listener's port, and the port that we came from.
    From(ServiceId, u16, u16),
}

impl Signals {
    /// Makes the socket at `path` (what a former agent left there is replaced)
    /// and lets every worker of the proxy write to it.
    pub fn open(path: &Path) -> Result<(Self, Reader), Error> {
        deepen_queue();
        let socket = bind(path).map_err(|source| Error::Socket {
            path: path.to_owned(),
            source,
        })?;
        let (send, asks) = mpsc::channel(ASKS);
        let reader = Reader {
            socket,
            asks,
            book: Book::default(),
        };
        Ok((
            Self {
                path: path.to_owned(),
                asks: send,
            },
            reader,
        ))
    }

    /// Where the proxy sends its datagrams.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells which addresses answer for which slot. What is counted for others is forgotten.
    pub async fn know(&self, replicas: Vec<(ServiceId, Slot, Vec<Ipv4Addr>)>) -> Result<(), Error> {
        self.ask(|done| Ask::Know(replicas, done)).await
    }

    /// The counts so far.
    pub async fn counts(&self) -> Result<Counts, Error> {
        self.ask(Ask::Counts).await
    }

    /// Waits for the line that `expected` describes. When this returns, a line
    /// that comes from now on is caught; the receiver yields it.
    pub async fn expect(&self, expected: Expected) -> Result<oneshot::Receiver<Proof>, Error> {
        let (found, line) = oneshot::channel();
        self.ask(|done| Ask::Expect(expected, found, done)).await?;
        Ok(line)
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.asks
            .send(make(answer))
            .await
            .map_err(|_| Error::Ended)?;
        answered.await.map_err(|_| Error::Ended)
    }
}

fn deepen_queue() {
    let limit = fs::read_to_string(QUEUE_LIMIT)
        .ok()
        .and_then(|limit| limit.trim().parse::<u32>().ok());
    if limit.is_some_and(|limit| limit < QUEUE)
        && let Err(error) = fs::write(QUEUE_LIMIT, QUEUE.to_string())
    {
        tracing::warn!(%error, "some signals will be dropped under load: could not raise {QUEUE_LIMIT} to {QUEUE}");
    }
}

/// Binds beside the path and moves the socket there: whoever writes to it finds
/// the old one or the new one, with its permissions set.
fn bind(path: &Path) -> io::Result<UnixDatagram> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = UnixDatagram::bind(&beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o666))?;
    fs::rename(&beside, path)?;
    Ok(socket)
}

impl Reader {
    /// Reads and answers until every [`Signals`] is gone (`Ok`) or the socket fails.
    pub async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => {
                        self.drain(&mut buffer)?;
                        self.book.answer(ask);
                    }
                    None => return Ok(()),
                },
                ready = self.socket.readable() => {
                    ready?;
                    self.drain(&mut buffer)?;
                }
            }
        }
    }

    fn drain(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BURST {
            match self.socket.try_recv(buffer) {
                Ok(length) => self.book.enter(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the reader has written down.
#[derive(Debug, Default)]
struct Book {
    counts: Counts,
    slots: BTreeMap<Ipv4Addr, (ServiceId, Slot)>,
    waiting: Vec<(Expected, oneshot::Sender<Proof>)>,
}

impl Book {
    fn answer(&mut self, ask: Ask) {
        // Whoever asked may have gone; then nobody misses the answer.
        match ask {
            Ask::Know(replicas, done) => {
                self.know(replicas);
                let _gone = done.send(());
            }
            Ask::Counts(to) => {
                let _gone = to.send(self.counts.clone());
            }
            Ask::Expect(expected, found, done) => {
                self.waiting.retain(|(_, waiter)| !waiter.is_closed());
                if self.waiting.len() >= WAITING_PROOFS {
                    self.waiting.remove(0);
                }
                self.waiting.push((expected, found));
                let _gone = done.send(());
            }
        }
    }

    fn know(&mut self, replicas: Vec<(ServiceId, Slot, Vec<Ipv4Addr>)>) {
        let mut before = std::mem::take(&mut self.counts);
        self.counts.garbled = before.garbled;
        self.slots.clear();
        for (service, slot, addresses) in replicas {
            let key = (service.clone(), slot);
            self.counts
                .slots
                .insert(key.clone(), before.slots.remove(&key).unwrap_or_default());
            for (now, then) in [
                (&mut self.counts.unreadable, &before.unreadable),
                (&mut self.counts.nobody, &before.nobody),
            ] {
                now.insert(service.clone(), then.get(&service).copied().unwrap_or(0));
            }
            for address in addresses {
                self.slots.insert(address, (service.clone(), slot));
            }
        }
    }

    fn enter(&mut self, datagram: &[u8]) {
        match parse(datagram) {
            Some(Line::Request(request)) => self.count(&request),
            // A proof that nobody waits for came too late, or was never ours.
            Some(Line::Proof(proof)) => {
                let _waited_for = self.hand_over(proof);
            }
            None => self.counts.garbled += 1,
        }
    }

    fn count(&mut self, request: &line::Request) {
        if let Some(proof) = request.tcp_proof()
            && self.hand_over(proof)
        {
            return;
        }
        let chosen = match request.place {
            Place::Slot { slot, .. } => slot,
            Place::Nobody => {
                return bump(
                    &mut self.counts.nobody,
                    &request.service,
                    &mut self.counts.garbled,
                );
            }
            Place::Unreadable => {
                return bump(
                    &mut self.counts.unreadable,
                    &request.service,
                    &mut self.counts.garbled,
                );
            }
        };
        // An answer belongs to the slot that gave it; what a slot left to the other one is its `passed_on`.
        let answered = request
            .last_address()
            .and_then(|address| self.slots.get(&address))
            .filter(|(service, _)| *service == request.service)
            .map_or(chosen, |(_, slot)| *slot);
        if answered != chosen
            && let Some(tally) = self
                .counts
                .slots
                .get_mut(&(request.service.clone(), chosen))
        {
            tally.pass_on();
        }
        match self
            .counts
            .slots
            .get_mut(&(request.service.clone(), answered))
        {
            Some(tally) => tally.add(request),
            None => self.counts.garbled += 1,
        }
    }

    fn hand_over(&mut self, proof: Proof) -> bool {
        let matches = |expected: &Expected| match expected {
            Expected::Nonce(nonce) => proof.nonce.as_deref() == Some(nonce.as_str()),
            Expected::From(service, listener, port) => {
                proof.nonce.is_none()
                    && proof.service == *service
                    && proof.listener == Some(*listener)
                    && proof.from == Some(*port)
            }
        };
        let Some(at) = self
            .waiting
            .iter()
            .position(|(expected, _)| matches(expected))
        else {
            return false;
        };
        let (_, waiter) = self.waiting.swap_remove(at);
        waiter.send(proof).is_ok()
    }
}

fn bump(counts: &mut BTreeMap<ServiceId, u64>, service: &ServiceId, garbled: &mut u64) {
    *counts.get_mut(service).unwrap_or(garbled) += 1;
}
