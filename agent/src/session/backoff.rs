//! How long to wait before the next attempt to connect.
//!
//! Full jitter: a fleet that lost its coordinator in one instant comes back
//! spread out. The first attempt after a session is quick, because mostly the
//! coordinator was restarted.

use std::time::Duration;

use super::Reason;

/// The first attempt comes within this.
const FIRST: Duration = Duration::from_millis(500);
/// The later ones within twice as much each time, beginning here.
const BASE: Duration = Duration::from_secs(1);
/// And never later than this. A coordinator that has just started waits somewhat longer for its hosts before it calls
/// any of them away.
const CAP: Duration = Duration::from_secs(15);

/// Counts attempts that failed.
#[derive(Default)]
pub(super) struct Backoff {
    failed: u32,
}

impl Backoff {
    /// A session was open: what failed before does not count.
    pub(super) fn forget(&mut self) {
        self.failed = 0;
    }

    /// After one more failure; `chance` is from 0 to 1.
    pub(super) fn next(&mut self, reason: &Reason, chance: f64) -> Duration {
        let failed = self.failed;
        self.failed = failed.saturating_add(1);
        if reason.needs_a_person() {
            return CAP.mul_f64(0.5 + 0.5 * chance);
        }
        let most = match failed.checked_sub(1) {
            None => FIRST,
            Some(doublings) => BASE
                .saturating_mul(2_u32.saturating_pow(doublings))
                .min(CAP),
        };
        most.mul_f64(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_spread_out_up_to_a_quarter_of_a_minute_and_begin_quickly() {
        let mut backoff = Backoff::default();
        let lost = Reason::Lost("x".to_owned());
        let most: Vec<_> = (0..9)
            .map(|_| backoff.next(&lost, 1.0).as_millis())
            .collect();
        assert_eq!(
            most,
            [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000, 15000]
        );
        assert_eq!(backoff.next(&lost, 0.5), CAP / 2);
        backoff.forget();
        assert_eq!(backoff.next(&lost, 1.0), FIRST);
        assert_eq!(Backoff { failed: u32::MAX }.next(&lost, 1.0), CAP);
    }

    #[test]
    fn what_a_person_must_change_is_tried_slowly_from_the_first() {
        assert!(Backoff::default().next(&Reason::Revoked, 0.0) >= CAP / 2);
    }
}
