//! nginx and its clients: where a request goes, who answers it, and who loses it.

use std::collections::BTreeSet;

use cutover_core::{Route, Slot};

use crate::fault::Fault;
use crate::host::{ContainerKey, Ender, Request};
use crate::promises;
use crate::queue::Happening;
use crate::world::{MS, World};
use cutover_core::swap::Incarnation;

/// For so long after a flip a request may still see the flag before it.
const STALE_FOR: u64 = 300 * MS;
/// A dead address costs this.
const CONNECT_TIMEOUT: u64 = 250 * MS;

impl World {
    /// Renames the symlink: the cutover.
    /// `false`: it could not be made.
    pub(crate) fn flip(&mut self, host: usize, service: usize, route: Route) -> bool {
        if self.strikes(Fault::FlipFails) {
            self.say(|| format!("h{host} s{service}    ~ {route} fails"));
            self.hosts[host].fronts[service].failed_at = self.now;
            return false;
        }
        self.say(|| format!("h{host} s{service}    ~ {route}"));
        promises::before_flip(self, host, service, route);
        let now = self.now;
        let front = &mut self.hosts[host].fronts[service];
        for slot in Slot::ALL {
            if front.reaches(slot) {
                front.reached.insert(slot, now);
            }
        }
        front.before = front.link;
        front.link = route;
        front.flipped_at = now;
        front.served |= route != Route::Nobody;
        self.tally.count(
            "flips",
            match route {
                Route::Nobody => "nobody",
                Route::Alone(_) => "alone",
                Route::Warm(_) => "warm",
                Route::Split { .. } => "split",
            },
        );
        for _ in 0..3 {
            let after = self.chance.between(0, 400 * MS);
            self.later(
                after,
                Happening::ClientSends {
                    host,
                    service,
                    again: false,
                },
            );
        }
        true
    }

    /// Flags exactly these replicas out.
    pub(crate) fn take_out(&mut self, host: usize, service: usize, out: BTreeSet<(Slot, u32)>) {
        if self.hosts[host].fronts[service].out == out {
            return;
        }
        self.say(|| format!("h{host} s{service}    ~ out: {out:?}"));
        promises::before_out(self, host, service, &out);
        self.tally
            .count("flips", if out.is_empty() { "all in" } else { "one out" });
        self.hosts[host].fronts[service].out = out;
    }

    pub(crate) fn nginx_back(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].nginx_up = true;
        for front in &mut self.hosts[host].fronts {
            for slot in Slot::ALL {
                if front.reaches(slot) {
                    front.reached.insert(slot, now);
                }
            }
            front.stuck = None;
        }
    }

    pub(crate) fn client_sends(&mut self, host: usize, service: usize, again: bool) {
        if again {
            let after = self.chance.between(200 * MS, 900 * MS);
            self.later(
                after,
                Happening::ClientSends {
                    host,
                    service,
                    again,
                },
            );
        }
        let kind = self.chance.below(10);
        let takes = match kind {
            0..=5 => self.chance.between(2 * MS, 30 * MS),
            6..=7 => self.chance.between(50 * MS, 300 * MS),
            _ => self.chance.between(300 * MS, 650 * MS),
        };
        let stale = self.chance.one_in(8);
        let (now, replicas) = (self.now, self.services[service].replicas);
        if !self.hosts[host].up || !self.services[service].traffic {
            return;
        }
        if !self.hosts[host].nginx_up {
            self.tally.count("requests", "lost: nginx was down");
            return;
        }
        let front = &mut self.hosts[host].fronts[service];
        let stale = stale && now < front.flipped_at + STALE_FOR && front.stuck.is_none();
        let route = if stale { front.before } else { front.actual() };
        front.turn += 1;
        let turn = front.turn;
        let slots = match route {
            Route::Nobody => {
                self.tally.count("requests", "503");
                promises::unserved(self, host, service, stale);
                return;
            }
            Route::Alone(slot) => vec![slot],
            Route::Warm(slot) => vec![slot, slot.other()],
            Route::Split { to, weight } => {
                if turn % 100 < u64::from(weight.percent()) {
                    vec![to, to.other()]
                } else {
                    vec![to.other(), to]
                }
            }
        };
        let order =
            (0..replicas).map(|i| (u32::try_from(turn % 64).unwrap_or(0) + i) % replicas + 1);
        // As backup of the other slot, what is out stays in.
        let (first, out) = (slots[0], &front.out);
        let mut rest: Vec<(Slot, u32)> = slots
            .into_iter()
            .flat_map(|slot| order.clone().map(move |n| (slot, n)))
            .filter(|(slot, n)| *slot != first || !out.contains(&(*slot, *n)))
            .collect();
        rest.reverse();
        let request = self.serial();
        self.hosts[host].requests.insert(
            request,
            Request {
                service,
                began: now,
                takes,
                route,
                rest,
                at: None,
            },
        );
        self.tries(host, service, request);
    }

    pub(crate) fn tries(&mut self, host: usize, service: usize, request: u64) {
        let now = self.now;
        let Some(mut taken) = self.hosts[host].requests.remove(&request) else {
            return;
        };
        let Some((slot, replica)) = taken.rest.pop() else {
            promises::unanswered(self, host, &taken);
            return;
        };
        let found = self.hosts[host]
            .at_address(service, slot, replica)
            .map(|(key, c)| (*key, c.up(), c.listens(now)));
        let after = match found {
            Some((key, Some(incarnation), true)) => {
                taken.at = Some((key, incarnation));
                let takes = taken.takes;
                self.hosts[host].requests.insert(request, taken);
                self.later(
                    takes,
                    Happening::Answered {
                        host,
                        service,
                        request,
                    },
                );
                return;
            }
            Some(_) => MS,
            None => CONNECT_TIMEOUT,
        };
        self.hosts[host].requests.insert(request, taken);
        self.later(
            after,
            Happening::Tries {
                host,
                service,
                request,
            },
        );
    }

    pub(crate) fn answered(&mut self, host: usize, _service: usize, request: u64) {
        let Some(taken) = self.hosts[host].requests.remove(&request) else {
            return;
        };
        let well = taken
            .at
            .and_then(|(key, _)| self.hosts[host].containers.get(&key))
            .is_some_and(|container| container.well(self.now));
        self.tally.count(
            "requests",
            if well {
                "answered"
            } else {
                "answered badly by a sick container"
            },
        );
    }

    /// The requests that a container was answering when it ended.
    pub(crate) fn cut_requests(
        &mut self,
        host: usize,
        key: ContainerKey,
        incarnation: Incarnation,
        by: Ender,
    ) {
        let cut = self.hosts[host]
            .requests
            .iter()
            .filter(|(_, r)| r.at == Some((key, incarnation)));
        let cut: Vec<u64> = cut.map(|(id, _)| *id).collect();
        for id in cut {
            if let Some(request) = self.hosts[host].requests.remove(&id) {
                promises::cut(self, host, &request, key, by);
            }
        }
    }
}
