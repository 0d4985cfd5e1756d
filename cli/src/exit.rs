//! What the exit code says: one enum, and one function from how rollouts ended.
//!
//! Kept true (P12): 0 means that every host that should have moved has moved;
//! what is still open, or not known, is never 0.

use std::process::ExitCode;

use cutover_proto::v1::{Outcome, RolloutView, ServiceDecision};

/// How a run of the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or there already; a deploy is committed on every eligible host.
    Done,
    /// A failure that nobody thought of, or an outcome that is not known.
    Unexpected,
    /// Wrong arguments, or a file that is invalid.
    Usage,
    /// The new version was sick; every host is back.
    RolledBack,
    /// Somebody aborted it, or a newer rollout took its place; every host is back.
    Aborted,
    /// Nothing was accepted: unreachable, or a certificate was refused.
    Unaccepted,
    /// The time was over; it is still running.
    TimedOut,
    /// Refused: permission, busy, policy, preflight.
    Refused,
    /// It waits for a person.
    NeedsPerson,
    /// It ended, and hosts are elsewhere: left behind, owing or stuck.
    Mixed,
    /// `plan --exit-code`: a deploy would change something.
    Changes,
    /// Interrupted; what was begun goes on.
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Unexpected,
        Self::Usage,
        Self::RolledBack,
        Self::Aborted,
        Self::Unaccepted,
        Self::TimedOut,
        Self::Refused,
        Self::NeedsPerson,
        Self::Mixed,
        Self::Changes,
        Self::Interrupted,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::RolledBack => 3,
            Self::Aborted => 4,
            Self::Unaccepted => 5,
            Self::TimedOut => 6,
            Self::Refused => 7,
            Self::NeedsPerson => 8,
            Self::Mixed => 9,
            Self::Changes => 10,
            Self::Interrupted => 130,
        }
    }

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Unaccepted => "unaccepted",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::NeedsPerson => "needs_person",
            Self::Mixed => "mixed",
            Self::Changes => "changes",
            Self::Interrupted => "interrupted",
        }
    }

    /// What it says, in a line.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or there already; a deploy is committed on every eligible host",
            Self::Unexpected => "an unexpected failure, or an outcome that is not known",
            Self::Usage => {
                "wrong arguments, an unknown or ambiguous name, no context, or an invalid file"
            }
            Self::RolledBack => "rolled back: the new version was sick, every host is back",
            Self::Aborted => "aborted or superseded: every host is back",
            Self::Unaccepted => "nothing was accepted: unreachable, or a certificate was refused",
            Self::TimedOut => "the time was over; the rollout is still running",
            Self::Refused => "refused: permission, busy, policy or preflight",
            Self::NeedsPerson => "it waits for a person",
            Self::Mixed => "ended mixed: hosts left behind, owing or stuck, named",
            Self::Changes => "plan --exit-code: a deploy would change something",
            Self::Interrupted => "interrupted: detached, the rollout goes on",
        }
    }

    /// The one of two that says more trouble. What is over comes before what is
    /// open, and in each the less a person must do the better:
    /// 0, 4, 3, 9; then 6, 130, 8; then the rest.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Changes => 1,
            Self::Aborted => 2,
            Self::RolledBack => 3,
            Self::Mixed => 4,
            Self::TimedOut => 5,
            Self::Interrupted => 6,
            Self::NeedsPerson => 7,
            Self::Refused => 8,
            Self::Unaccepted => 9,
            Self::Usage => 10,
            Self::Unexpected => 11,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What whoever waits for a rollout wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That it commits.
    Forward,
    /// That it is aborted and goes back.
    Back,
}

/// What a rollout's standing means to who waits no longer for it.
#[must_use]
pub fn of_rollout(view: &RolloutView, wish: Wish) -> Exit {
    let left_behind = |hosts: &[&str]| {
        let fates = view.hosts.iter().map(|host| host.fate.as_str());
        view.hosts.iter().any(|host| host.owing) || fates.into_iter().any(|f| hosts.contains(&f))
    };
    if view.stage != "closed" {
        // Whoever paused it went away and left it: it waits for a person, too.
        return if view.stage == "holding" || view.paused {
            Exit::NeedsPerson
        } else {
            Exit::TimedOut
        };
    }
    match (view.outcome(), wish) {
        (Outcome::Committed, Wish::Forward) => {
            if !view.skipped.is_empty() || left_behind(&["stuck", "back"]) {
                Exit::Mixed
            } else {
                Exit::Done
            }
        }
        // It was too late to abort it: the new version is what runs.
        (Outcome::Committed, Wish::Back) => Exit::Mixed,
        (Outcome::RolledBack | Outcome::Aborted, _) if left_behind(&["stuck"]) => Exit::Mixed,
        (Outcome::RolledBack | Outcome::Aborted, Wish::Back) => Exit::Done,
        (Outcome::RolledBack, Wish::Forward) => Exit::RolledBack,
        (Outcome::Aborted, Wish::Forward) => Exit::Aborted,
        (Outcome::Mixed, _) => Exit::Mixed,
        (Outcome::Unspecified, _) => Exit::Unexpected,
    }
}

/// What was decided for a service means, when no rollout is to be waited for.
#[must_use]
pub fn of_decision(decision: &ServiceDecision) -> Exit {
    let settled = decision.already_there || decision.removed || !decision.rollout.is_empty();
    if !settled {
        Exit::Unexpected // nothing was done, and nobody said why
    } else if decision.already_there && !decision.skipped.is_empty() {
        Exit::Mixed
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use cutover_proto::v1::HostProgress;

    use super::*;

    fn view(stage: &str, outcome: Outcome, hosts: &[(&str, bool)]) -> RolloutView {
        RolloutView {
            stage: stage.into(),
            outcome: outcome.into(),
            hosts: hosts
                .iter()
                .map(|(fate, owing)| HostProgress {
                    fate: (*fate).into(),
                    owing: *owing,
                    ..HostProgress::default()
                })
                .collect(),
            ..RolloutView::default()
        }
    }

    #[test]
    fn p12_the_exit_code_says_what_happened_on_every_host() {
        use Outcome::{Aborted, Committed, Mixed, RolledBack, Unspecified};
        let good = ("committed", false);
        let back = ("back", false);
        let stuck = ("stuck", false);
        let owing = ("open", true);
        // Stage, outcome, hosts, exit code of who wanted it, of who wanted it back.
        type Row<'a> = (&'a str, Outcome, &'a [(&'a str, bool)], u8, u8);
        let table: [Row; 15] = [
            ("closed", Committed, &[good, good], 0, 9),
            ("closed", Committed, &[good, owing], 9, 9),
            ("closed", Committed, &[good, back], 9, 9),
            ("closed", Committed, &[good, stuck], 9, 9),
            ("closed", RolledBack, &[back, back], 3, 0),
            ("closed", RolledBack, &[back, stuck], 9, 9),
            ("closed", RolledBack, &[back, owing], 9, 9),
            ("closed", Aborted, &[back], 4, 0),
            ("closed", Aborted, &[stuck], 9, 9),
            ("closed", Mixed, &[good, back], 9, 9),
            ("closed", Unspecified, &[good], 1, 1),
            ("forward", Unspecified, &[good], 6, 6),
            ("back", Unspecified, &[good], 6, 6),
            ("queued", Unspecified, &[], 6, 6),
            ("holding", Unspecified, &[good], 8, 8),
        ];
        for (stage, outcome, hosts, forward, backward) in table {
            let view = view(stage, outcome, hosts);
            let codes = [Wish::Forward, Wish::Back].map(|wish| of_rollout(&view, wish).code());
            assert_eq!(codes, [forward, backward], "{stage} {outcome:?} {hosts:?}");
        }
        let mut skipped = view("closed", Committed, &[good]);
        skipped.skipped.push("h4".into());
        assert_eq!(of_rollout(&skipped, Wish::Forward), Exit::Mixed);
        let mut paused = view("forward", Unspecified, &[good]);
        paused.paused = true;
        assert_eq!(of_rollout(&paused, Wish::Forward), Exit::NeedsPerson);
    }

    #[test]
    fn p12_of_several_rollouts_the_worst_is_said() {
        let order = [0, 10, 4, 3, 9, 6, 130, 8, 7, 5, 2, 1];
        let by_code = |code| {
            *Exit::ALL
                .iter()
                .find(|exit| exit.code() == code)
                .expect("one")
        };
        for (place, better) in order.iter().enumerate() {
            for worse in &order[place..] {
                let (better, worse) = (by_code(*better), by_code(*worse));
                assert_eq!(better.worse(worse), worse);
                assert_eq!(worse.worse(better), worse);
            }
        }
    }

    #[test]
    fn a_service_for_which_nothing_was_decided_is_not_done() {
        let nothing = ServiceDecision::default();
        assert_eq!(of_decision(&nothing), Exit::Unexpected);
        let there = ServiceDecision {
            already_there: true,
            ..nothing
        };
        assert_eq!(of_decision(&there), Exit::Done);
        let away = ServiceDecision {
            skipped: vec!["h2".into()],
            ..there
        };
        assert_eq!(of_decision(&away), Exit::Mixed);
    }
}
