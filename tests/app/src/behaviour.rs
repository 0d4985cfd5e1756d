//! What this instance does, read once from the environment.
//!
//! | variable | meaning (default) |
//! |---|---|
//! | `VERSION` | what `X-Version` says ("0") |
//! | `REPLICA` | what `X-Replica` says (the host name) |
//! | `MODE` | `http`, `tcp` or `worker` (http) |
//! | `BIND`, `PORT` | where to listen (0.0.0.0, 8080) |
//! | `READY_AFTER_MS` | /healthz is 503 before (0) |
//! | `NEVER_READY` | /healthz is always 503 |
//! | `PORT_TAKEN` | its port is held already when it wants to listen (by itself) |
//! | `EXIT_AT_START` | exit at once with `EXIT_CODE` |
//! | `EXIT_AFTER_MS` | exit so long after the start, in the middle of whatever is going on |
//! | `EXIT_CODE` | of the two above (1) |
//! | `FAIL_RATE` | percentage of requests for / answered 500 while /healthz stays 200 (0; 100 with `FAIL_AFTER_MS`) |
//! | `FAIL_AFTER_MS` | `FAIL_RATE` holds only from then on (0) |
//! | `LATENCY_MS` | every answer to / is so late (0) |
//! | `SMOKE_STATUS` | what /smoke and /api/v1/health answer (200) |
//! | `IDLE_CLOSE_MS` | idle keep-alive connections are closed after so long (never) |
//! | `IGNORE_TERM` | SIGTERM does nothing |
//! | `GRACE_MS` | how long open requests may take after SIGTERM (30000) |
//! | `HANG_AFTER_MS` | accepts but answers nothing from then on (never) |
//! | `LOG_LINES` | lines printed at the start (0) |
//! | `LOCK_FILE` | worker: complains when a second worker runs at once |
//! | `TICK_MS` | worker: time between its lines (100) |

use std::env;
use std::fmt::Display;
use std::process::{self, ExitCode};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Http,
    Tcp,
    Worker,
}

#[derive(Debug)]
pub(crate) struct Behaviour {
    pub(crate) version: String,
    pub(crate) replica: String,
    pub(crate) mode: Mode,
    pub(crate) bind: String,
    pub(crate) port: u16,
    pub(crate) port_taken: bool,
    pub(crate) exit_at_start: bool,
    pub(crate) exit_after: Option<Duration>,
    pub(crate) latency: Duration,
    pub(crate) smoke_status: u16,
    pub(crate) idle_close: Option<Duration>,
    pub(crate) ignore_term: bool,
    pub(crate) grace: Duration,
    pub(crate) log_lines: u64,
    pub(crate) lock_file: Option<String>,
    pub(crate) tick: Duration,
    started: Instant,
    ready_after: Option<Duration>,
    exit_code: u8,
    fail_rate: u64,
    fail_after: Duration,
    hang_after: Option<Duration>,
    asked: AtomicU64,
}

impl Behaviour {
    pub(crate) fn from_environment() -> Result<Self, String> {
        let ready_after = Duration::from_millis(number("READY_AFTER_MS")?.unwrap_or(0));
        let fail_after = number("FAIL_AFTER_MS")?;
        Ok(Self {
            version: text("VERSION").unwrap_or_else(|| "0".to_owned()),
            replica: text("REPLICA").unwrap_or_else(host_name),
            mode: match text("MODE").as_deref() {
                None | Some("http") => Mode::Http,
                Some("tcp") => Mode::Tcp,
                Some("worker") => Mode::Worker,
                Some(other) => return Err(format!("MODE is http, tcp or worker, not {other:?}")),
            },
            bind: text("BIND").unwrap_or_else(|| "0.0.0.0".to_owned()),
            port: number("PORT")?.unwrap_or(8080),
            port_taken: flag("PORT_TAKEN"),
            exit_at_start: flag("EXIT_AT_START"),
            exit_after: number("EXIT_AFTER_MS")?.map(Duration::from_millis),
            latency: Duration::from_millis(number("LATENCY_MS")?.unwrap_or(0)),
            smoke_status: number("SMOKE_STATUS")?.unwrap_or(200),
            idle_close: number("IDLE_CLOSE_MS")?.map(Duration::from_millis),
            ignore_term: flag("IGNORE_TERM"),
            grace: Duration::from_millis(number("GRACE_MS")?.unwrap_or(30_000)),
            log_lines: number("LOG_LINES")?.unwrap_or(0),
            lock_file: text("LOCK_FILE"),
            tick: Duration::from_millis(number("TICK_MS")?.unwrap_or(100)),
            started: Instant::now(),
            ready_after: if flag("NEVER_READY") {
                None
            } else {
                Some(ready_after)
            },
            exit_code: number("EXIT_CODE")?.unwrap_or(1),
            fail_rate: number("FAIL_RATE")?.unwrap_or(if fail_after.is_some() { 100 } else { 0 }),
            fail_after: Duration::from_millis(fail_after.unwrap_or(0)),
            hang_after: number("HANG_AFTER_MS")?.map(Duration::from_millis),
            asked: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_after
            .is_some_and(|after| self.started.elapsed() >= after)
    }

    pub(crate) fn hangs(&self) -> bool {
        self.hang_after
            .is_some_and(|after| self.started.elapsed() >= after)
    }

    /// Whether this request for / is one of those that fail. Counted, not drawn, so that 20 % of 100 is 20.
    pub(crate) fn fails_this_one(&self) -> bool {
        if self.fail_rate == 0 || self.started.elapsed() < self.fail_after {
            return false;
        }
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        (nth * self.fail_rate) % 100 + self.fail_rate >= 100
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }

    pub(crate) fn exit(&self) -> ! {
        process::exit(i32::from(self.exit_code))
    }
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn flag(name: &str) -> bool {
    text(name).is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "no"))
}

fn number<N: FromStr<Err: Display>>(name: &str) -> Result<Option<N>, String> {
    let Some(value) = text(name) else {
        return Ok(None);
    };
    value
        .parse()
        .map(Some)
        .map_err(|problem| format!("{name}={value:?}: {problem}"))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
