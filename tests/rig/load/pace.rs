//! When each request is sent, and what it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tally::{FailureKind, Kind};
use super::wire::{Answer, Connection, Problem, cut};
use super::{Book, MOST_UNDER_WAY, Part, Target, held};

/// Of an upload.
const PIECE: usize = 8 * 1024;

/// What all senders of one load share.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) to: Arc<Target>,
    pub(super) book: Arc<Book>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

pub(super) fn begin(part: Part, most: u64, sender: Sender) {
    match part {
        Part::KeepAlive { connections, rate } => {
            let pool = Arc::new(Pool {
                idle: Mutex::default(),
                open: AtomicUsize::new(0),
                most: connections,
            });
            sender.clone().pace(rate, most, Kind::KeepAlive, move |to| {
                kept(pool.clone(), to)
            });
        }
        Part::OneShot { rate } => sender.clone().pace(rate, most, Kind::OneShot, async |to| {
            get(&to, &to.path).await
        }),
        Part::Slow { rate, time } => {
            let path = format!("/slow?ms={}", time.as_millis());
            sender
                .clone()
                .pace_long(rate, most, Kind::Slow, time, move |to| {
                    let path = path.clone();
                    async move { get(&to, &path).await }
                });
        }
        Part::Upload { rate, bytes, over } => {
            sender
                .clone()
                .pace_long(rate, most, Kind::Upload, over, move |to| async move {
                    upload(&to, bytes, over).await
                });
        }
        Part::Download {
            rate,
            chunks,
            every,
        } => {
            let path = format!("/stream?chunks={chunks}&ms={}", every.as_millis());
            sender
                .clone()
                .pace_long(rate, most, Kind::Download, every * chunks, move |to| {
                    let path = path.clone();
                    async move { get(&to, &path).await }
                });
        }
        Part::Tcp { rate } => sender
            .clone()
            .pace(rate, most, Kind::Tcp, async |to| tcp(&to).await),
        Part::WebSockets { connections } => {
            for _ in 0..connections {
                sender.tasks.spawn(held::websocket(sender.clone()));
            }
        }
        Part::TcpHeld { connections } => {
            for _ in 0..connections {
                sender.tasks.spawn(held::tcp(sender.clone()));
            }
        }
    }
}

impl Sender {
    fn pace<F>(
        self,
        rate: f64,
        most: u64,
        kind: Kind,
        each: impl Fn(Arc<Target>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<String, Problem>> + Send + 'static,
    {
        self.pace_long(rate, most, kind, Duration::ZERO, each);
    }

    /// Open loop: request n is sent at start + n / rate, whatever has become of the others.
    fn pace_long<F>(
        self,
        rate: f64,
        most: u64,
        kind: Kind,
        takes: Duration,
        each: impl Fn(Arc<Target>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<String, Problem>> + Send + 'static,
    {
        assert!(rate > 0.0, "a rate is more than 0 a second");
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let start = Instant::now();
            for nth in 0..most {
                let due = start + Duration::from_secs_f64(nth as f64 / rate);
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                if self.tasks.len() > MOST_UNDER_WAY {
                    self.book.lock().unsent += 1;
                    continue;
                }
                self.book.sent(kind);
                let (book, within) = (self.book.clone(), self.to.answer_within + takes);
                let exchange = each(self.to.clone());
                self.tasks.spawn(async move {
                    let began = Instant::now();
                    let result =
                        tokio::time::timeout(within, exchange)
                            .await
                            .unwrap_or_else(|_| {
                                Err(Problem::new(
                                    FailureKind::TimedOut,
                                    format!("no whole answer within {within:?}"),
                                ))
                            });
                    book.ended(kind, began, result);
                });
            }
        });
    }
}

/// Kept connections: first opened until there are as many as asked for, then used in turn, the longest idle first, so
/// that each is idle for a while between two uses, which is when a proxy may close it.
struct Pool {
    idle: Mutex<VecDeque<Kept>>,
    open: AtomicUsize,
    most: usize,
}

/// One connection that counts as open until it is dropped.
struct Kept {
    connection: Connection,
    pool: Weak<Pool>,
}

impl Pool {
    fn take(&self) -> Option<Kept> {
        // An extra one, opened while all were busy, closes after its answer.
        if self.open.load(Ordering::Relaxed) < self.most {
            None
        } else {
            self.idle().pop_front()
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn kept(pool: Arc<Pool>, to: Arc<Target>) -> Result<String, Problem> {
    let mut kept = match pool.take() {
        Some(kept) => kept,
        None => {
            // Counted before it is open: others begin while this one connects.
            pool.open.fetch_add(1, Ordering::Relaxed);
            let opened = Connection::open(to.address).await;
            let connection = opened.inspect_err(|_| {
                pool.open.fetch_sub(1, Ordering::Relaxed);
            })?;
            Kept {
                connection,
                pool: Arc::downgrade(&pool),
            }
        }
    };
    kept.connection
        .write(head(&to, "GET", &to.path, "").as_bytes())
        .await;
    let answer = kept.connection.answer().await?;
    if answer.keeps && pool.open.load(Ordering::Relaxed) <= pool.most {
        pool.idle().push_back(kept);
    }
    Ok(answer.version)
}

async fn get(to: &Target, path: &str) -> Result<String, Problem> {
    let mut connection = Connection::open(to.address).await?;
    connection
        .write(head(to, "GET", path, "Connection: close\r\n").as_bytes())
        .await;
    connection.answer().await.map(|answer| answer.version)
}

async fn upload(to: &Target, bytes: usize, over: Duration) -> Result<String, Problem> {
    let mut connection = Connection::open(to.address).await?;
    connection
        .write(
            head(
                to,
                "POST",
                "/upload",
                &format!("Connection: close\r\nContent-Length: {bytes}\r\n"),
            )
            .as_bytes(),
        )
        .await;
    let start = Instant::now();
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut done = 0;
    while done < bytes && !connection.is_broken() {
        let piece: Vec<u8> = (done..bytes.min(done + PIECE))
            .map(|place| (place * 31 % 251) as u8)
            .collect();
        // FNV-1a, as the test service does it.
        sum = piece.iter().fold(sum, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        connection.write(&piece).await;
        done += piece.len();
        tokio::time::sleep_until((start + over.mul_f64(done as f64 / bytes as f64)).into()).await;
    }
    let Answer { version, body, .. } = connection.answer().await?;
    let (said, expected) = (
        String::from_utf8_lossy(&body).trim().to_owned(),
        format!("{bytes} {sum:016x}"),
    );
    if said == expected {
        Ok(version)
    } else {
        Err(Problem::new(
            FailureKind::WrongContent,
            format!("{said:?} instead of {expected:?}"),
        ))
    }
}

async fn tcp(to: &Target) -> Result<String, Problem> {
    let mut connection = Connection::open(to.address).await?;
    let version = held::greeting(&mut connection).await?;
    held::echo(&mut connection, b"one and only\n").await?;
    let _ = connection.stream.get_mut().shutdown().await;
    let mut rest = Vec::new();
    connection
        .stream
        .read_to_end(&mut rest)
        .await
        .map_err(|problem| cut(&problem.to_string()))?;
    if rest.is_empty() {
        Ok(version)
    } else {
        Err(Problem::new(
            FailureKind::WrongContent,
            "more than was sent came back",
        ))
    }
}

pub(super) fn head(to: &Target, method: &str, path: &str, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: cutover-load\r\n{}{more}\r\n",
        to.host, to.headers
    )
}
