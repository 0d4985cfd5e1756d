//! What a load saw.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use super::wire::Problem;

/// Failures kept with their text; all are counted.
const KEPT: usize = 10_000;

/// The kinds of request that a load can send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// On a kept connection.
    KeepAlive,
    /// On a connection of its own.
    OneShot,
    /// That takes long to answer.
    Slow,
    /// With a large body.
    Upload,
    /// With an answer that takes long to arrive.
    Download,
    /// A WebSocket, from handshake to close.
    WebSocket,
    /// One echo over raw TCP.
    Tcp,
    /// A raw TCP connection with many echoes.
    TcpHeld,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// No connection.
    NotConnected,
    /// The connection ended before the first byte of the answer, a reused one included.
    ClosedBeforeAnswer,
    /// The connection ended in the middle of the answer.
    ClosedInAnswer,
    /// No whole answer in time.
    TimedOut,
    /// Not HTTP.
    Malformed,
    /// A whole answer, but not 2xx.
    Status(u16),
    /// A whole answer that says something wrong: another checksum, another echo.
    WrongContent,
    /// A WebSocket that ended without a close frame.
    CutOff,
    /// A WebSocket that ended with a close frame, but too soon.
    ClosedTooSoon,
}

/// One failed request.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was sent.
    pub kind: Kind,
    /// How it failed.
    pub how: FailureKind,
    /// When it failed, since the load's start.
    pub at: Duration,
    /// How long after it was sent.
    pub after: Duration,
    /// In words.
    pub text: String,
}

/// Of one kind. `sent` is the sum of the others once the load has stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Begun.
    pub sent: u64,
    /// Ended well.
    pub answered: u64,
    /// Ended badly.
    pub failed: u64,
}

/// A version that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub times: u64,
    /// Its first answer, since the load's start.
    pub first: Duration,
    /// Its last answer, since the load's start.
    pub last: Duration,
}

/// All of it. Prints as one line.
#[derive(Debug, Clone)]
pub struct Tally {
    /// When the load started.
    pub started: Instant,
    /// By kind of request.
    pub kinds: BTreeMap<Kind, Count>,
    /// By version (`X-Version`, or what the greeting says; "?" for an answer without).
    pub versions: BTreeMap<String, Seen>,
    /// The first 10,000, in order of time.
    pub failures: Vec<Failure>,
    /// Echoes over WebSockets and held TCP connections.
    pub echoes: u64,
    /// Not sent because too many were under way: the target was far behind. Counted nowhere else.
    pub unsent: u64,
    /// The longest time in which no request of any kind ended well, while some were sent.
    pub longest_gap: Duration,
    how_often: BTreeMap<FailureKind, u64>,
    times: Times,
    last_answer: Instant,
}

impl Tally {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            kinds: BTreeMap::new(),
            versions: BTreeMap::new(),
            failures: Vec::new(),
            echoes: 0,
            unsent: 0,
            longest_gap: Duration::ZERO,
            how_often: BTreeMap::new(),
            times: Times::default(),
            last_answer: started,
        }
    }

    /// How many were begun.
    #[must_use]
    pub fn sent_in_all(&self) -> u64 {
        self.kinds.values().map(|count| count.sent).sum()
    }

    /// How many ended well.
    #[must_use]
    pub fn answered_in_all(&self) -> u64 {
        self.kinds.values().map(|count| count.answered).sum()
    }

    /// How many ended badly, answers other than 2xx included.
    #[must_use]
    pub fn failed_in_all(&self) -> u64 {
        self.kinds.values().map(|count| count.failed).sum()
    }

    /// How many got no complete, valid answer.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let with_answer: u64 = self
            .how_often
            .iter()
            .filter(|(how, _)| matches!(how, FailureKind::Status(_)))
            .map(|(_, times)| times)
            .sum();
        self.failed_in_all() - with_answer
    }

    /// How many failed in this way.
    #[must_use]
    pub fn failed_by(&self, how: FailureKind) -> u64 {
        self.how_often.get(&how).copied().unwrap_or(0)
    }

    /// How many this version answered.
    #[must_use]
    pub fn answered_by(&self, version: &str) -> u64 {
        self.versions.get(version).map_or(0, |seen| seen.times)
    }

    /// Of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Count {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// The time within which this share of keep-alive and one-shot requests was answered, to within 4 %.
    #[must_use]
    pub fn within(&self, share: f64) -> Duration {
        self.times.within(share)
    }

    /// # Panics
    /// When a request failed, or none was sent; with the first failures.
    #[track_caller]
    pub fn assert_nothing_failed(&self) {
        assert!(self.answered_in_all() > 0, "nothing was answered: {self}");
        if self.failed_in_all() + self.unsent > 0 {
            let first: Vec<String> = self
                .failures
                .iter()
                .take(20)
                .map(ToString::to_string)
                .collect();
            panic!("{self}\n{}", first.join("\n"));
        }
    }

    pub(super) fn sent(&mut self, kind: Kind) {
        self.kinds.entry(kind).or_default().sent += 1;
    }

    pub(super) fn answered(&mut self, kind: Kind, began: Instant, version: &str) {
        self.kinds.entry(kind).or_default().answered += 1;
        if matches!(kind, Kind::KeepAlive | Kind::OneShot) {
            self.times.add(began.elapsed());
        }
        self.alive();
        // Held connections said it when they learnt it: until their end, nobody would know of them.
        if !matches!(kind, Kind::WebSocket | Kind::TcpHeld) {
            self.saw(version);
        }
    }

    pub(super) fn saw(&mut self, version: &str) {
        let now = self.started.elapsed();
        match self.versions.get_mut(version) {
            Some(seen) => {
                seen.times += 1;
                seen.last = now;
            }
            None => {
                self.versions.insert(
                    version.to_owned(),
                    Seen {
                        times: 1,
                        first: now,
                        last: now,
                    },
                );
            }
        }
    }

    pub(super) fn alive(&mut self) {
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now.duration_since(self.last_answer));
        self.last_answer = now;
    }

    pub(super) fn failed(&mut self, kind: Kind, began: Instant, problem: Problem) {
        self.kinds.entry(kind).or_default().failed += 1;
        *self.how_often.entry(problem.how).or_default() += 1;
        // A failure is sent traffic without an answer: the gap goes on.
        self.longest_gap = self.longest_gap.max(self.last_answer.elapsed());
        if self.failures.len() < KEPT {
            let (at, after) = (self.started.elapsed(), began.elapsed());
            self.failures.push(Failure {
                kind,
                how: problem.how,
                at,
                after,
                text: problem.text,
            });
        }
    }
}

/// A histogram in constant memory: 32 steps to each power of two, in microseconds.
#[derive(Debug, Clone)]
struct Times {
    steps: Vec<u64>,
}

const STEPS: u64 = 32;

impl Default for Times {
    fn default() -> Self {
        Self {
            steps: vec![0; 28 * STEPS as usize],
        }
    }
}

impl Times {
    fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let power = u64::from(micros.ilog2());
        // Of the number's leading bits, the five after the first.
        let step = if power >= 5 {
            micros >> (power - 5)
        } else {
            micros << (5 - power)
        } - STEPS;
        let place = usize::try_from(power * STEPS + step)
            .unwrap_or(usize::MAX)
            .min(self.steps.len() - 1);
        self.steps[place] += 1;
    }

    fn within(&self, share: f64) -> Duration {
        let wanted = (self.steps.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (place, times) in (0_u64..).zip(&self.steps) {
            seen += times;
            if seen >= wanted.max(1) {
                // The step's upper end.
                let (power, step) = (place / STEPS, place % STEPS + 1);
                return Duration::from_nanos((((STEPS + step) * 1000) << power) / STEPS);
            }
        }
        Duration::ZERO
    }
}

impl Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} sent, {} answered, {} failed ({} lost)",
            self.sent_in_all(),
            self.answered_in_all(),
            self.failed_in_all(),
            self.lost()
        )?;
        for (how, times) in &self.how_often {
            write!(out, ", {times}x {how:?}")?;
        }
        write!(out, "; by kind:")?;
        for (kind, count) in &self.kinds {
            write!(out, " {kind:?} {}/{}", count.answered, count.sent)?;
        }
        write!(out, "; by version:")?;
        for (version, seen) in &self.versions {
            write!(
                out,
                " {version} {}x {:.2}-{:.2}s",
                seen.times,
                seen.first.as_secs_f64(),
                seen.last.as_secs_f64()
            )?;
        }
        if self.echoes > 0 {
            write!(out, "; {} echoes", self.echoes)?;
        }
        if self.unsent > 0 {
            write!(out, "; {} UNSENT", self.unsent)?;
        }
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            out,
            "; p50 {:.1} p99 {:.1} ms, longest gap {:.0} ms",
            millis(self.within(0.5)),
            millis(self.within(0.99)),
            millis(self.longest_gap)
        )
    }
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "  at {:.3}s {:?} {:?} after {:.1} ms: {}",
            self.at.as_secs_f64(),
            self.kind,
            self.how,
            self.after.as_secs_f64() * 1000.0,
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_is_right_to_within_4_percent() {
        for micros in [
            1_u64, 7, 31, 32, 33, 250, 999, 20_000, 1_000_000, 60_000_000,
        ] {
            let mut times = Times::default();
            times.add(Duration::from_micros(micros));
            let said = times.within(0.99).as_nanos() as f64 / 1000.0;
            assert!(
                said >= micros as f64 && said <= micros as f64 * 1.04,
                "{micros} became {said}"
            );
        }
    }

    #[test]
    fn what_was_answered_with_an_error_is_failed_but_not_lost() {
        let mut tally = Tally::new(Instant::now());
        tally.sent(Kind::OneShot);
        tally.failed(
            Kind::OneShot,
            Instant::now(),
            Problem::new(FailureKind::Status(502), ""),
        );
        tally.sent(Kind::OneShot);
        tally.failed(
            Kind::OneShot,
            Instant::now(),
            Problem::new(FailureKind::TimedOut, ""),
        );
        assert_eq!((tally.failed_in_all(), tally.lost()), (2, 1));
    }
}
