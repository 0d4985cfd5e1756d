//! The guards: every condition in the machines that keeps a promise, by name.
//!
//! [`guard`] is just its condition. Built with the feature `mutants`, one guard of
//! a thread can be removed: its condition then counts as met. The simulation
//! removes each in turn; a guard that no world misses is untested, or not needed.

macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A condition that keeps a promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard { $($(#[$doc])* $name,)* }

        impl Guard {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

guards! {
    /// A started agent moves no route before it has looked at the containers (P1, P2).
    RouteAfterLook,
    /// A started agent decides nothing before it has looked at the containers (P11).
    DecideAfterLook,
    /// A started agent does nothing before it has looked at the containers (P5).
    ActAfterLook,
    /// A swap opens only above the highest generation seen (P4).
    OpenAboveFence,
    /// A target counts only in the open swap's own generation (P4).
    TargetInGeneration,
    /// A swap opens only onto the revision that it expects (P12).
    OpenOntoExpected,
    /// A swap opens only while the coordinator's word counts (P7).
    OpenWithinLease,
    /// A cutover begins only while the coordinator's word counts (P7).
    CutWithinLease,
    /// What is merely prepared stays only while the coordinator's word counts (P7).
    PreparedWithinLease,
    /// The incumbent is a backup only while all of it passed and none fails (P1).
    WarmWhenHealthy,
    /// The route goes back only onto an incumbent of which all passed and none fails (P1).
    ReturnWhenHealthy,
    /// Smoke checks are asked only of what passed and is known to run (P7).
    SmokeWhenProved,
    /// A replica is proved only in the life in which it passed (P1).
    PassedInThisLife,
    /// A sample counts only for the life that was asked (P1).
    SampleOfThisLife,
    /// A container's end counts only for the life that ended (P7).
    EndOfThisLife,
    /// An answer counts only for the action that is wanted (P2).
    AnswerToWanted,
    /// nginx is shown to follow only the route that is wanted (P12).
    ProveWhatIsWanted,
    /// The route changes before anything is started or stopped (P1, P2).
    FlipBeforeAct,
    /// No two actions that are under way concern the same slot or revision (P2, P5).
    ApartWhileUnderWay,
    /// The incumbent stops only when its connections ended or their time did (P2).
    DrainIsOver,
    /// A count of no connections is believed only some time after the route changed (P2).
    DrainHasSettled,
    /// The observe window ends well only for a healthy candidate (P12).
    WatchedWhenHealthy,
    /// Targets only move forward, or back from what is uncommitted (P12).
    TargetLeadsOn,
    /// Only what is uncommitted is taken back by hand (P12).
    RevertUncommitted,
    /// A stopped, or half stopped, incumbent is back only after it was started again (P2).
    ReviveByStart,
    /// What was asked to stop, and may do so late, is stopped before it is started again (P1).
    StopIsFinished,
    /// Warmth ends, and weight rises, only for a candidate that is well now (P2).
    AdvanceWhenHealthy,
    /// A candidate that must pass again gets no requests while the incumbent can take them (P1).
    FlagOutUnproved,
    /// A replica gets no requests until it has passed, while another of its slot can take them (P1).
    OutUntilPassed,
    /// Only a replica that hangs is started again, and no other of its slot at the same time (P11).
    HaltOneAtATime,
    /// A replica that is being stopped because it hung does not pass again in this life (P1).
    HaltedIsNotPassed,
    /// Failed samples condemn only what has passed; what must pass again has its deadline (P7).
    CondemnOnlyPassed,
    /// Nobody is judged while the engine does not answer (P7).
    JudgeWithEngine,
    /// Only what the journal records as ended is removed (P5).
    RemoveOnlyEnded,
    /// A report counts only if no newer one is known (P12).
    NewestReport,
    /// A report of a swap counts only in the standing order's generation (P12).
    ReportInGeneration,
    /// What was reached is not unreached by an older report (P12).
    ReachedStays,
    /// A rollback undoes only what this rollout moved (P2, P12).
    UndoOnlyMoved,
    /// A wave ends only when all of it settled (P6).
    WaveIsSettled,
    /// A rollback counter-swaps only as many hosts at once as a wave holds (P6).
    CounterSwapsInWave,
    /// The barrier passes only when all are prepared and well (P12).
    BarrierWhenWell,
    /// The barrier passes only on fresh reports (P7).
    BarrierWhenFresh,
    /// The commit is decided only when all were well to the end of their windows (P12).
    CommitWhenWatched,
    /// No failure takes a decided host back (P12).
    DecidedStays,
    /// A host that fell after its commit was decided takes no other back (P12).
    DecidedTakesNobody,
    /// An older rollout falls silent only once it is closed (P9).
    SupersedeClosed,
    /// A superseded rollout orders nothing (P9).
    SupersededIsSilent,
}

/// `condition`; or true, where this guard is removed to see who misses it.
#[inline]
#[must_use]
pub(crate) fn guard(guard: Guard, condition: bool) -> bool {
    condition || removed(guard)
}

#[cfg(not(feature = "mutants"))]
#[inline]
const fn removed(_: Guard) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use mutants::remove;
#[cfg(feature = "mutants")]
use mutants::removed;

#[cfg(feature = "mutants")]
mod mutants {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static REMOVED: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Removes one guard on this thread, or none.
    pub fn remove(guard: Option<Guard>) {
        REMOVED.set(guard);
    }

    pub(super) fn removed(guard: Guard) -> bool {
        REMOVED.get() == Some(guard)
    }
}
