//! Waiting for a condition, always with a deadline and always with words for what did not happen.
//!
//! The one place in the tests that sleeps (the load generator's pacing apart); `clippy.toml` sees to that.
#![expect(clippy::disallowed_methods, reason = "the pause between two looks")]

use std::fmt::{self, Display};
use std::panic::Location;
use std::time::{Duration, Instant};

/// First and longest pause between two looks.
const SOONEST: Duration = Duration::from_millis(2);
const LATEST: Duration = Duration::from_millis(50);

/// What a look at the world gives: done (with a value), or not yet (with what was seen, if it can say).
pub trait Look {
    /// What the wait gives back.
    type Value;
    /// The value, or what stands in the way.
    fn seen(self) -> Result<Self::Value, Option<String>>;
}

impl Look for bool {
    type Value = ();
    fn seen(self) -> Result<(), Option<String>> {
        if self { Ok(()) } else { Err(None) }
    }
}

impl<T> Look for Option<T> {
    type Value = T;
    fn seen(self) -> Result<T, Option<String>> {
        self.ok_or(None)
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Value = T;
    fn seen(self) -> Result<T, Option<String>> {
        self.map_err(|problem| Some(problem.to_string()))
    }
}

/// A wait that ended without what it waited for.
#[derive(Debug, Clone)]
pub struct TimedOut {
    what: String,
    within: Duration,
    last: Option<String>,
}

impl Display for TimedOut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "waited {:?} in vain for: {}", self.within, self.what)?;
        self.last
            .as_ref()
            .map_or(Ok(()), |last| write!(out, " (last seen: {last})"))
    }
}

impl std::error::Error for TimedOut {}

/// Looks until the look gives `true`, `Some` or `Ok`; panics with the caller's place when the time is over.
///
/// A single look that hangs is cut off at the deadline, too.
#[track_caller]
pub fn until<L: Look>(
    within: Duration,
    what: &str,
    look: impl AsyncFnMut() -> L,
) -> impl Future<Output = L::Value> {
    let place = Location::caller();
    let what = what.to_owned();
    async move {
        match try_until(within, &what, look).await {
            Ok(value) => value,
            Err(timed_out) => panic!("{place}: {timed_out}"),
        }
    }
}

/// As [`until`], for those who can go on without.
///
/// # Errors
/// When the time is over.
pub async fn try_until<L: Look>(
    within: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> L,
) -> Result<L::Value, TimedOut> {
    let end = Instant::now() + within;
    let mut pause = SOONEST;
    let mut last = None;
    loop {
        match tokio::time::timeout_at(end.into(), look())
            .await
            .map(Look::seen)
        {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen.or(last),
            Err(_) => last = Some("the last look itself did not end".to_owned()),
        }
        if Instant::now() + pause >= end {
            return Err(TimedOut {
                what: what.to_owned(),
                within,
                last,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATEST);
    }
}

/// Asserts that something stays true for a while; the one thing that has to be waited out in full.
#[track_caller]
pub fn throughout<L: Look>(
    time: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> L,
) -> impl Future<Output = ()> {
    let place = Location::caller();
    let what = what.to_owned();
    async move {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Err(seen) = look().await.seen() {
                panic!(
                    "{place}: ended too early: {what} ({})",
                    seen.unwrap_or_default()
                );
            }
            tokio::time::sleep(LATEST.min(time)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_gives_the_value_or_says_what_it_last_saw() {
        let mut looks = 0;
        let third = until(Duration::from_secs(5), "the third look", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(third, 3);

        let never = try_until(Duration::from_millis(20), "pigs to fly", async || {
            Err::<(), _>("pigs on the ground")
        })
        .await;
        let words = never.unwrap_err().to_string();
        assert!(
            words.contains("pigs to fly") && words.contains("pigs on the ground"),
            "{words}"
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let hung = try_until(Duration::from_millis(20), "an answer", async || {
            std::future::pending::<bool>().await
        })
        .await;
        assert!(hung.unwrap_err().to_string().contains("did not end"));
    }
}
