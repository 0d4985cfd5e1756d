//! The network: sessions that break, messages that are lost, late, repeated,
//! reordered, or come from a session that is over.

use cutover_core::swap::SwapOrder;

use crate::fault::Fault;
use crate::queue::{Happening, ToCoordinator};
use crate::world::{MS, S, World};

/// How long until an agent dials again.
const DIAL_AGAIN: u64 = 500 * MS;

impl World {
    pub(crate) fn dials(&mut self, host: usize, life: u64) {
        if !self.lives(host, life) {
            return;
        }
        let this = &self.hosts[host];
        if this.partitioned || !self.coordinator.is_up() {
            self.later(DIAL_AGAIN, Happening::Dials { host, life });
            return;
        }
        let session = self.serial();
        let clock = self.hosts[host].clock(self.now);
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        agent.session = Some(session);
        let reports = agent
            .keepers
            .iter()
            .enumerate()
            .filter(|(_, keeper)| {
                let known = keeper.berth.fence() != cutover_core::Generation::NONE
                    || !keeper.berth.is_empty();
                keeper.unsaved.is_empty() && known
            })
            .map(|(service, keeper)| (service, keeper.berth.report(agent.start, clock)))
            .collect();
        self.say(|| format!("h{host} session {session}"));
        // The first message of a stream is not lost without the stream.
        let message = ToCoordinator::Hello { clock, reports };
        let after = self.chance.between(MS / 5, 20 * MS);
        self.later(
            after,
            Happening::ToCoordinator {
                host,
                session,
                message,
            },
        );
    }

    pub(crate) fn send_to_coordinator(
        &mut self,
        host: usize,
        session: u64,
        message: ToCoordinator,
    ) {
        for after in self.deliveries() {
            let message = message.clone();
            self.later(
                after,
                Happening::ToCoordinator {
                    host,
                    session,
                    message,
                },
            );
        }
    }

    pub(crate) fn send_to_host(
        &mut self,
        host: usize,
        session: u64,
        service: usize,
        order: &SwapOrder,
    ) {
        for after in self.deliveries() {
            let order = order.clone();
            self.later(
                after,
                Happening::ToHost {
                    host,
                    session,
                    service,
                    order,
                },
            );
        }
    }

    /// After how long a message arrives, each time that it does.
    fn deliveries(&mut self) -> Vec<u64> {
        if self.strikes(Fault::MessageLost) {
            return Vec::new();
        }
        let quick = self.chance.between(MS / 5, 20 * MS);
        let first = if self.strikes(Fault::MessageLate) {
            self.chance.between(100 * MS, 8 * S)
        } else {
            quick
        };
        if self.strikes(Fault::MessageRepeated) {
            vec![first, first + self.chance.between(0, 4 * S)]
        } else {
            vec![first]
        }
    }

    pub(crate) fn to_host(&mut self, host: usize, session: u64, service: usize, order: SwapOrder) {
        let Some(agent) = &self.hosts[host].agent else {
            return;
        };
        if self.hosts[host].partitioned
            || agent.session != Some(session) && !self.strikes(Fault::MessageFromOldSession)
        {
            return;
        }
        self.ordered(host, service, order);
    }

    pub(crate) fn to_coordinator(&mut self, host: usize, session: u64, message: ToCoordinator) {
        if !self.coordinator.is_up() || self.hosts[host].partitioned {
            return;
        }
        if matches!(message, ToCoordinator::Hello { .. }) {
            let stands = |agent: &crate::agent::Agent| agent.session == Some(session);
            if !self.hosts[host].agent.as_ref().is_some_and(stands) {
                return;
            }
            self.coordinator.attach(host, session);
        }
        let current = self.coordinator.session(host) == Some(session);
        if current || self.strikes(Fault::MessageFromOldSession) {
            self.heard(host, message);
        }
    }

    /// A session ends for both sides, each in its own time.
    pub(crate) fn break_session(&mut self, host: usize) {
        let life = self.hosts[host].life;
        if let Some(agent) = &mut self.hosts[host].agent
            && let Some(session) = agent.session.take()
        {
            let lost = self.chance.between(0, S);
            self.later(lost, Happening::SessionLost { host, session });
            let dial = self.chance.between(10 * MS, 500 * MS);
            self.later(dial, Happening::Dials { host, life });
        }
    }

    /// The coordinator is gone: every agent finds its session ended.
    pub(crate) fn break_all_sessions(&mut self) {
        for host in 0..self.hosts.len() {
            self.break_session(host);
        }
    }
}
