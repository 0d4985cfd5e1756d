//! What may go wrong, and how often it does in one world.
//!
//! Each world draws its own likelihood for each fault; a third of the worlds have
//! none at all, so that a lost request there has no excuse.

use crate::chance::Chance;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $likely:literal,)*) => {
        /// One way in which the world is unkind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The highest likelihood that a world may draw, in ten thousandths an occasion.
            const fn most(self) -> u32 { match self { $(Self::$name => $likely,)* } }
        }
    };
}

faults! {
    /// The agent dies with facts that it has not saved.
    AgentDiesBeforeSave 150,
    /// The agent dies between saving and doing.
    AgentDiesAfterSave 150,
    /// The agent dies between the flip and its record.
    AgentDiesAfterFlip 400,
    /// The agent dies with an action under way.
    AgentDiesActing 300,
    /// kill -9 of the agent at any time.
    AgentKilled 100,
    /// The coordinator dies with facts that it has not saved.
    CoordinatorDiesBeforeSave 150,
    /// The coordinator dies between saving and sending.
    CoordinatorDiesAfterSave 150,
    /// The coordinator dies with some orders sent.
    CoordinatorDiesSending 100,
    /// kill -9 of the coordinator at any time.
    CoordinatorKilled 100,
    /// The coordinator's machine boots.
    CoordinatorReboots 60,
    /// The coordinator's store is replaced by an old backup.
    CoordinatorRestored 40,
    /// The coordinator can't save.
    CoordinatorDiskFull 80,
    /// A rollout is planned on what a host ran once, or on its silence.
    PlannedOnOldNews 2500,
    /// A message is lost.
    MessageLost 1500,
    /// A message takes seconds.
    MessageLate 800,
    /// A message arrives twice.
    MessageRepeated 1500,
    /// A message of a broken session arrives all the same.
    MessageFromOldSession 5000,
    /// A session breaks.
    SessionBreaks 200,
    /// A host can't reach the coordinator for longer than a lease.
    Partition 50,
    /// The engine tells nobody that a container ended.
    EventLost 4000,
    /// A listing of containers takes long.
    ListingLate 2000,
    /// The engine acts, but its answer is lost, or comes after the act was given up.
    ReplyLost 400,
    /// An action fails and may be tried again.
    ActionFails 600,
    /// An action fails for good.
    ActionFailsForGood 100,
    /// The engine restarts and takes its containers along.
    EngineRestarts 60,
    /// The engine restarts, its containers live on.
    EngineRestartsLive 80,
    /// A start waits for a network, a volume or a busy disk.
    StartSlow 800,
    /// nginx is down.
    NginxDown 60,
    /// nginx does not follow the route.
    NginxStuck 80,
    /// A container crashes that was good so far.
    ContainerCrashes 150,
    /// A committed container hangs that was good so far.
    ContainerHangs 150,
    /// What hung answers well while it is being stopped for that.
    HungComesRound 9000,
    /// The route can't be changed.
    FlipFails 300,
    /// The host's disk is full.
    DiskFull 80,
    /// The host loses its power.
    PowerCut 50,
    /// The host boots in an orderly way.
    Reboot 50,
}

/// The likelihoods of one world.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    rates: Vec<u32>,
    /// After this, nothing goes wrong any more.
    pub(crate) healed: bool,
    /// This world has no faults at all.
    pub(crate) none: bool,
}

impl Faults {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let none = chance.one_in(3);
        // Few kinds at a time show more than all at once: long rollouts get further.
        let kinds = chance.pick(&[2_u64, 4, 8, 16]);
        let rates = Fault::ALL
            .iter()
            .map(|fault| {
                let on = !none && chance.below(16) < kinds;
                let rate = u64::from(fault.most());
                let rate = chance.between(rate / 8 + 1, rate);
                if on {
                    u32::try_from(rate).unwrap_or(0)
                } else {
                    0
                }
            })
            .collect();
        Self {
            rates,
            healed: false,
            none,
        }
    }

    /// Whether this world may have it.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0
    }

    /// Whether it happens now.
    pub(crate) fn strikes(&self, fault: Fault, chance: &mut Chance) -> bool {
        !self.healed && chance.hit(self.rates[fault as usize])
    }
}
