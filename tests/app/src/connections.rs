//! All open connections, and the orderly stop: no new ones, idle ones closed, busy ones finish.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::behaviour::Behaviour;

/// Enough for a header buffer and a copy buffer; a thousand connections shall stay cheap.
const STACK: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    stopping: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    stream: TcpStream,
    idle: bool,
}

/// One connection's own place in the list; dropped, it is off the list.
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<Connections>,
    id: u64,
}

impl Connections {
    /// Returns when told to stop, with the listener closed.
    pub(crate) fn accept_all(
        self: &Arc<Self>,
        listener: TcpListener,
        behaviour: &Arc<Behaviour>,
        serve: fn(&TcpStream, &Place, &Behaviour),
    ) {
        for stream in listener.incoming() {
            // Those that came before the stop are served, too; then the queue is empty.
            if self.stopping() {
                let _ = listener.set_nonblocking(true);
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            let Ok(listed) = stream.try_clone() else {
                continue;
            };
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            self.lock().insert(
                id,
                Open {
                    stream: listed,
                    idle: false,
                },
            );
            let place = Place {
                all: self.clone(),
                id,
            };
            let behaviour = behaviour.clone();
            let spawned = thread::Builder::new().stack_size(STACK).spawn(move || {
                let _ = stream.set_nodelay(true);
                serve(&stream, &place, &behaviour);
                let _ = stream.shutdown(Shutdown::Both);
            });
            if let Err(problem) = spawned {
                println!("cannot serve a connection: {problem}");
            }
        }
    }

    pub(crate) fn stop(&self, bind: &str, port: u16) {
        {
            let open = self.lock();
            self.stopping.store(true, Ordering::SeqCst);
            for idle in open.values().filter(|open| open.idle) {
                // Bytes that have arrived are still readable after this, so a request on its way is answered.
                let _ = idle.stream.shutdown(Shutdown::Read);
            }
        }
        let bind = if bind == "0.0.0.0" { "127.0.0.1" } else { bind };
        if let Ok(ip) = bind.parse() {
            let _ = TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(1));
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// How many were still open when the time was over.
    pub(crate) fn wait_until_done(&self, grace: Duration) -> usize {
        let end = Instant::now() + grace;
        loop {
            let left = self.lock().len();
            if left == 0 || Instant::now() >= end {
                return left;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Between two requests. False when the service is stopping and the connection had better end.
    pub(crate) fn wait_idle(&self) -> bool {
        let mut open = self.all.lock();
        if let Some(this) = open.get_mut(&self.id) {
            this.idle = true;
        }
        !self.all.stopping()
    }

    pub(crate) fn busy(&self) {
        if let Some(this) = self.all.lock().get_mut(&self.id) {
            this.idle = false;
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.all.stopping()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}
