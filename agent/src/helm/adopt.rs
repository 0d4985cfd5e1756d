//! Containers of this host that the journal does not know: a recovery, not a clean start.
//!
//! Kept true: nothing is stopped or removed here. What serves, by the route, is
//! taken for the current revision; other revisions' containers are kept as parked.

use std::collections::BTreeMap;

use cutover_core::swap::{Berth, Settled, Side, Summary};
use cutover_core::{Generation, RevisionNumber, Route, ServiceId, Slot};
use cutover_daemon::logging::chain;
use tracing::{error, warn};

use crate::docker::Found;
use crate::helm::Helm;
use crate::helm::post::Post;

impl Helm {
    /// Takes over a service's containers that nobody remembered.
    pub(super) fn adopt(&mut self, service: &ServiceId, found: &[Found]) {
        let route = match self.parts.hands.traffic.current(service) {
            Ok(route) => route.unwrap_or(Route::Nobody),
            Err(problem) => {
                error!(%service, error = chain(&problem), "unknown containers, and the route can't be read; they are left alone");
                return;
            }
        };
        let mut fence = Generation::NONE;
        let mut places: BTreeMap<RevisionNumber, (Slot, bool)> = BTreeMap::new();
        for one in found {
            let Ok(identity) = &one.identity else {
                continue;
            };
            fence = fence.max(identity.generation);
            let place = places
                .entry(identity.revision)
                .or_insert((identity.slot, false));
            place.1 |= one.state.is_up();
        }
        let mut settled = Vec::new();
        for (revision, (slot, up)) in &places {
            match self.parts.revisions.spec(service, *revision) {
                Ok(spec) => settled.push((
                    Settled {
                        side: Side::of(*revision, &spec),
                        slot: *slot,
                    },
                    *up,
                )),
                Err(problem) => {
                    warn!(%service, %revision, error = chain(&problem), "containers of an unknown revision; they are left alone");
                }
            }
        }
        // What nginx sends to serves; without a route, the newest that runs.
        let serves = |(settled, up): &&(Settled, bool)| {
            *up && route.main().is_none_or(|slot| slot == settled.slot)
        };
        let current = settled
            .iter()
            .rfind(serves)
            .map(|(settled, _)| settled.clone());
        let Some(current) = current else {
            warn!(%service, containers = found.len(), "containers that the journal does not know, none serving; they are left alone");
            return;
        };
        let revision = current.side.revision;
        let parked = settled
            .into_iter()
            .rev()
            .map(|(settled, _)| settled)
            .filter(|settled| settled.side.revision != revision);
        let summary = Summary {
            service: service.clone(),
            current: Some(current),
            parked: parked.collect(),
            fence,
            route,
            passed: Vec::new(),
            hung: Vec::new(),
            last: None,
            hold: false,
        };
        if let Err(problem) = self.parts.journal.adopt(&summary) {
            error!(%service, error = chain(&problem), "unknown containers could not be taken over");
            return;
        }
        warn!(%service, %revision, %route, "containers that the journal did not know were taken over");
        self.posts
            .insert(service.clone(), Post::new(Berth::resume(summary)));
    }
}
