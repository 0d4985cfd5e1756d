//! The load generator: sends at a steady pace, whatever comes back, and counts every request to its end.
//!
//! What it keeps true: each request that was sent is in the tally once, as answered or as failed; nothing is ever
//! sent twice. It runs on a thread of its own, so that a busy test does not slow it. It speaks raw HTTP/1.1 on its
//! sockets, because a client library's retries and connection checks would hide the very losses it is there to see:
//! a kept connection that turns out closed when it is used *is* a failure.
#![expect(
    clippy::disallowed_methods,
    reason = "pacing is sleeping until the next request is due"
)]

mod held;
mod pace;
mod tally;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use tally::{Count, Failure, FailureKind, Kind, Seen, Tally};
use wire::Problem;

/// A load runs no longer than this, even if nobody stops it.
const LONGEST: Duration = Duration::from_secs(600);
/// How long one answer may take, beyond what the request itself asks for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Requests under way at once. Beyond it the target is so far behind that pacing means nothing any more.
const MOST_UNDER_WAY: usize = 8_000;

/// What is to be sent: any of the kinds together, each at its own rate.
#[derive(Debug, Clone)]
#[must_use = "a load does nothing before start()"]
pub struct Load {
    to: Target,
    parts: Vec<Part>,
    longest: Duration,
    most: u64,
}

/// Where requests go and what each says.
#[derive(Debug, Clone)]
struct Target {
    address: SocketAddr,
    host: String,
    path: String,
    headers: String,
    answer_within: Duration,
    websockets_live: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    KeepAlive {
        connections: usize,
        rate: f64,
    },
    OneShot {
        rate: f64,
    },
    Slow {
        rate: f64,
        time: Duration,
    },
    Upload {
        rate: f64,
        bytes: usize,
        over: Duration,
    },
    Download {
        rate: f64,
        chunks: u32,
        every: Duration,
    },
    WebSockets {
        connections: usize,
    },
    Tcp {
        rate: f64,
    },
    TcpHeld {
        connections: usize,
    },
}

impl Load {
    /// Requests for `/` of `host` at this address; none before a kind is chosen.
    pub fn new(address: SocketAddr, host: &str) -> Self {
        let to = Target {
            address,
            host: host.to_owned(),
            path: "/".to_owned(),
            headers: String::new(),
            answer_within: ANSWER_WITHIN,
            websockets_live: Duration::ZERO,
        };
        Self {
            to,
            parts: Vec::new(),
            longest: LONGEST,
            most: u64::MAX,
        }
    }

    /// Requests of every kind, `rate` kept-alive ones a second among them: what a busy service has at the same time.
    pub fn of_every_kind(address: SocketAddr, host: &str, rate: f64) -> Self {
        Self::new(address, host)
            .keep_alive(16, rate)
            .one_shot(rate / 5.0)
            .slow(1.0, Duration::from_secs(5))
            .uploads(2.0, 200_000, Duration::from_secs(1))
            .websockets(4)
            .websockets_live(Duration::from_secs(6))
    }

    /// Another path than `/` (for [`Load::keep_alive`] and [`Load::one_shot`]).
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.to.path);
        self
    }

    /// One more header on each request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.to.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// `rate` requests a second, spread over this many kept connections. They are used in turn; when all are busy
    /// (the target is slow), more are opened rather than that the pace slows, and closed after their answer.
    pub fn keep_alive(mut self, connections: usize, rate: f64) -> Self {
        self.parts.push(Part::KeepAlive { connections, rate });
        self
    }

    /// `rate` requests a second, each on a connection of its own.
    pub fn one_shot(mut self, rate: f64) -> Self {
        self.parts.push(Part::OneShot { rate });
        self
    }

    /// `rate` requests a second for `/slow`, each taking so long.
    pub fn slow(mut self, rate: f64, time: Duration) -> Self {
        self.parts.push(Part::Slow { rate, time });
        self
    }

    /// `rate` uploads a second of so many bytes, each sent piece by piece over so long; the answered checksum counts.
    pub fn uploads(mut self, rate: f64, bytes: usize, over: Duration) -> Self {
        self.parts.push(Part::Upload { rate, bytes, over });
        self
    }

    /// `rate` downloads a second, each in so many chunks, one `every` so often.
    pub fn downloads(mut self, rate: f64, chunks: u32, every: Duration) -> Self {
        self.parts.push(Part::Download {
            rate,
            chunks,
            every,
        });
        self
    }

    /// So many WebSockets, each with an echo every 100 ms, opened again when closed. One is lost when it ends without
    /// a close frame.
    pub fn websockets(mut self, connections: usize) -> Self {
        self.parts.push(Part::WebSockets { connections });
        self
    }

    /// A WebSocket that is closed sooner than this is lost, too, close frame or not.
    pub fn websockets_live(mut self, at_least: Duration) -> Self {
        self.to.websockets_live = at_least;
        self
    }

    /// `rate` raw TCP connections a second: greeting, one echo, end.
    pub fn tcp(mut self, rate: f64) -> Self {
        self.parts.push(Part::Tcp { rate });
        self
    }

    /// So many raw TCP connections, each with an echo every 100 ms, opened again when ended. An end between two
    /// echoes is fair, one that swallows an echo is a loss.
    pub fn tcp_held(mut self, connections: usize) -> Self {
        self.parts.push(Part::TcpHeld { connections });
        self
    }

    /// Stops by itself after so long (10 minutes unless said).
    pub fn longest(mut self, time: Duration) -> Self {
        self.longest = time;
        self
    }

    /// Each paced kind stops by itself after so many requests.
    pub fn most(mut self, requests: u64) -> Self {
        self.most = requests;
        self
    }

    /// What takes longer than this, beyond what it asks for, has failed (30 s unless said).
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.to.answer_within = time;
        self
    }

    /// Begins to send.
    #[must_use = "dropped, it stops"]
    pub fn start(self) -> Running {
        assert!(!self.parts.is_empty(), "a load of no kind sends nothing");
        let book = Arc::new(Book {
            tally: Mutex::new(Tally::new(Instant::now())),
        });
        let stop = CancellationToken::new();
        let (for_thread, stop_of_thread) = (book.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made");
                runtime.block_on(self.run(&for_thread, &stop_of_thread));
            })
            .expect("a thread can be started");
        Running {
            book,
            stop,
            thread: Some(thread),
        }
    }

    async fn run(self, book: &Arc<Book>, stop: &CancellationToken) {
        let to = Arc::new(self.to);
        let tasks = TaskTracker::new();
        for part in self.parts {
            let sender = pace::Sender {
                to: to.clone(),
                book: book.clone(),
                stop: stop.clone(),
                tasks: tasks.clone(),
            };
            pace::begin(part, self.most, sender);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(self.longest) => stop.cancel(),
        }
        // Every request has its own deadline, so this ends; then nothing is under way and the tally is whole.
        tasks.close();
        tasks.wait().await;
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Running {
    book: Arc<Book>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// The tally up to now; requests under way are in `sent` only.
    #[must_use]
    pub fn so_far(&self) -> Tally {
        self.book.lock().clone()
    }

    /// Sends nothing new, waits for what is under way, and gives the whole tally.
    ///
    /// # Panics
    /// When the generator itself did.
    pub async fn stop(mut self) -> Tally {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join())
                .await
                .expect("joining is not cancelled");
            assert!(joined.is_ok(), "the load generator panicked");
        }
        self.book.lock().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where everything is counted.
#[derive(Debug)]
struct Book {
    tally: Mutex<Tally>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, kind: Kind) {
        self.lock().sent(kind);
    }

    fn ended(&self, kind: Kind, began: Instant, result: Result<String, Problem>) {
        let mut tally = self.lock();
        match result {
            Ok(version) => tally.answered(kind, began, &version),
            Err(problem) => tally.failed(kind, began, problem),
        }
    }
}
