//! Flags replicas out of nginx's choice, and in again, as their berth wants it.
//!
//! Kept true: what is told is compared with what the disk says, so that neither an
//! agent that died in between nor a site that was made anew leaves anybody out, or
//! in, by mistake. Nothing is acted for a berth before this was done.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use cutover_core::{Moment, ServiceId, Slot};
use cutover_daemon::logging::chain;
use tracing::{error, info, warn};

use crate::helm::Helm;

impl Helm {
    /// Has nginx leave out exactly the replicas that the berth wants out.
    pub(super) fn take_out(&mut self, now: Moment, service: &ServiceId) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        // What is wanted in again has passed, and that must be kept before it is relied on.
        let Some(wanted) = post.berth.want(now).out.filter(|_| post.unsaved.is_empty()) else {
            return;
        };
        if post.out.as_ref() == Some(&wanted) {
            return;
        }
        let mut told = true;
        for slot in Slot::ALL {
            told &= self.take_out_of(service, slot, &wanted);
        }
        if let Some(post) = self.posts.get_mut(service) {
            post.out = told.then_some(wanted);
            post.owes |= !told;
        }
    }

    /// `false`: it could not be done, and is tried again.
    fn take_out_of(&self, service: &ServiceId, slot: Slot, wanted: &BTreeSet<(Slot, u32)>) -> bool {
        let traffic = &self.parts.hands.traffic;
        let of_slot = wanted.iter().find(|(of, _)| *of == slot);
        // A berth counts replicas from 1, nginx's addresses are counted from 0.
        let out = of_slot.map(|(_, replica)| replica - 1);
        match traffic.out(service, slot) {
            Ok(before) if before == out => return true,
            Ok(_) => {}
            // Nothing was made for it: it has no traffic, or not yet.
            Err(problem) if problem.kind() == ErrorKind::NotFound => return out.is_none(),
            Err(problem) => {
                warn!(%service, %slot, error = chain(&problem), "who is left out can't be read")
            }
        }
        match traffic.set_out(service, slot, out) {
            Ok(()) => {
                match of_slot {
                    Some((_, replica)) => {
                        warn!(%service, %slot, replica, "a replica gets no requests until it has passed")
                    }
                    None => info!(%service, %slot, "all replicas get requests"),
                }
                true
            }
            Err(problem) => {
                error!(%service, %slot, error = chain(&problem), "a replica could not be left out; is the state directory writable?");
                false
            }
        }
    }
}
