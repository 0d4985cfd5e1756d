//! What P11 excuses: while the only one that could answer on a host is gone, what is asked there is lost. The rest is not.
//!
//! An excuse is a window: from what was done, to when the host must be well again. It is worked out from what was done
//! and when, never from what was lost. Nothing here knows how a fault is done.

use std::time::{Duration, Instant};

use cutover_tests::load::Failure;

use super::draw::Fault;

/// What one death of a version under load may cost: it was answering that much at once. (Two requests in a hundred take
/// a second, and each fast one a few milliseconds; most are asked again of the old version.)
pub(super) const UNDER_WAY: usize = 4;

/// A fault that was done to a host, in the time that it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) fault: Fault,
    pub(super) host: usize,
    pub(super) began: Instant,
    /// Its cause was gone: thawed, healed, booted.
    pub(super) ended: Instant,
}

impl Fault {
    /// Whether it takes away what answers.
    const fn silences(self) -> bool {
        match self {
            Self::NginxKilled | Self::ContainerKilled | Self::PowerCut => true,
            Self::AgentKilled
            | Self::AgentFrozen
            | Self::CoordinatorKilled
            | Self::CoordinatorRestarted
            | Self::DockerdKilled
            | Self::Unheard
            | Self::Deaf => false,
        }
    }

    /// Within which time after its end a host that answers nothing answers again.
    const fn mended_within(self) -> Duration {
        Duration::from_millis(match self {
            // The host's own agent does all of that, without a coordinator.
            Self::CoordinatorKilled | Self::CoordinatorRestarted | Self::Unheard | Self::Deaf => 0,
            // systemd starts another one, which looks and then acts.
            Self::AgentKilled | Self::AgentFrozen => 2_000,
            // systemd starts it again; sockets that were left behind are taken away first.
            Self::NginxKilled => 2_000,
            // The engine's start, and two answers.
            Self::ContainerKilled => 3_000,
            // Its own start takes 1.3 s, and what was asked of it before is asked again.
            Self::DockerdKilled => 5_000,
            // systemd has started everything; the agent starts the containers and proves them.
            Self::PowerCut => 5_000,
        })
    }
}

impl Done {
    fn well_by(&self) -> Instant {
        self.ended + self.fault.mended_within()
    }

    /// From when to when it excuses what is lost on its host: while what mends it is struck, too, it takes longer.
    fn window(&self, all: &[Self]) -> (Instant, Instant) {
        let mut until = self.well_by();
        loop {
            let longer = all
                .iter()
                .filter(|other| other.host == self.host && other.began <= until)
                .map(Self::well_by)
                .max();
            match longer {
                Some(longer) if longer > until => until = longer,
                Some(_) | None => return (self.began, until),
            }
        }
    }
}

/// Failures on a host that nothing excuses. They are told from the load's start on.
pub(super) fn unexcused<'a>(
    failures: &'a [Failure],
    started: Instant,
    host: usize,
    all: &[Done],
) -> Vec<&'a Failure> {
    let windows: Vec<(Instant, Instant)> = all
        .iter()
        .filter(|done| done.host == host && done.fault.silences())
        .map(|done| done.window(all))
        .collect();
    failures
        .iter()
        .filter(|failure| {
            let failed = started + failure.at;
            let sent = failed.checked_sub(failure.after).unwrap_or(started);
            !windows
                .iter()
                .any(|(from, until)| sent <= *until && failed >= *from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_tests::load::{FailureKind, Kind};

    fn at(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    fn done(fault: Fault, host: usize, began: Instant, ended: Instant) -> Done {
        Done {
            fault,
            host,
            began,
            ended,
        }
    }

    fn failures(seconds: &[u64]) -> Vec<Failure> {
        let one = |second: &u64| Failure {
            kind: Kind::OneShot,
            how: FailureKind::TimedOut,
            at: Duration::from_secs(*second),
            after: Duration::ZERO,
            text: String::new(),
        };
        seconds.iter().map(one).collect()
    }

    fn left(seconds: &[u64], host: usize, all: &[Done], started: Instant) -> Vec<u64> {
        unexcused(&failures(seconds), started, host, all)
            .iter()
            .map(|failure| failure.at.as_secs())
            .collect()
    }

    #[test]
    fn a_death_excuses_its_own_host_until_that_must_be_well_again() {
        let t = Instant::now();
        let all = [done(Fault::ContainerKilled, 1, at(t, 10), at(t, 10))];
        assert_eq!(left(&[9, 10, 13, 14], 1, &all, t), [9, 14]);
        assert_eq!(left(&[9, 10, 13, 14], 0, &all, t), [9, 10, 13, 14]);
    }

    #[test]
    fn a_request_that_was_under_way_when_it_struck_is_excused_whenever_it_failed() {
        let t = Instant::now();
        let all = [done(Fault::NginxKilled, 0, at(t, 10), at(t, 10))];
        let mut slow = failures(&[20]);
        slow[0].after = Duration::from_secs(11);
        assert!(unexcused(&slow, t, 0, &all).is_empty());
    }

    #[test]
    fn who_should_mend_it_was_struck_too_and_it_takes_longer() {
        let t = Instant::now();
        let frozen = done(Fault::AgentFrozen, 0, at(t, 8), at(t, 20));
        let killed = done(Fault::ContainerKilled, 0, at(t, 10), at(t, 10));
        assert_eq!(left(&[9, 10, 22, 23], 0, &[frozen, killed], t), [9, 23]);
        assert_eq!(left(&[9, 10, 22], 0, &[frozen], t), [9, 10, 22]);
    }
}
