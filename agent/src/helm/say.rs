//! What the coordinator is told: each berth's account, when it changed and while a swap is open.

use std::time::{Duration, SystemTime};

use cutover_core::{Moment, Route, ServiceId, Slot};
use cutover_proto::v1::{self, FromAgent, from_agent};
use prost::Message;

use crate::docker::{Found, State};
use crate::helm::post::Post;
use crate::helm::{Helm, Standing};
use crate::signals::{Counts, Tally};

impl Helm {
    /// Tells what changed of these services, and what must be told again.
    pub(super) fn report(&mut self, now: Moment, services: &[ServiceId]) {
        let start = self.parts.start;
        let mut changed = false;
        let mut reports = Vec::new();
        for service in services {
            let Some(post) = self.posts.get_mut(service) else {
                continue;
            };
            let (report, renews) = if post.can_tell() {
                let report = account(post, start, now);
                post.kept = Some(report.clone());
                (report, post.berth.open_plan().is_some())
            } else if let Some(report) = standstill(post) {
                (report, false)
            } else {
                continue;
            };
            let timeless = timeless(report.clone());
            let due = post.told.as_ref().is_none_or(|(told, at)| {
                *told != timeless || renews && now >= *at + renewal(self.lease)
            });
            if due {
                changed |= post.told.as_ref().is_none_or(|(told, _)| *told != timeless);
                post.told = Some((timeless, now));
                reports.push((service.clone(), report));
            }
        }
        if changed || self.listing.once != self.parts.hello.borrow().seen {
            // A service whose facts can't be kept is told as it was kept: left out, it would be gone.
            let all = self.posts.values_mut().filter_map(|post| {
                let whole = post.unsaved.is_empty().then(|| account(post, start, now));
                let report = whole
                    .or_else(|| standstill(post))
                    .or_else(|| post.kept.clone());
                Some(report?.encode_to_vec())
            });
            let standing = Standing {
                seen: self.listing.once,
                berths: all.collect(),
            };
            self.parts.hello.send_replace(standing);
        }
        if !self.connected {
            return;
        }
        for (service, report) in reports {
            let report = v1::Report {
                report: report.encode_to_vec(),
                clock_nanos: now.as_nanos(),
            };
            let said = self.say(from_agent::What::Report(report));
            if let (false, Some(post)) = (said, self.posts.get_mut(&service)) {
                post.told = None;
                self.touched.all();
            }
        }
    }

    /// When a berth's account must be told again though nothing changed.
    pub(super) fn report_due(&self, post: &Post) -> Option<Moment> {
        let open = self.connected && post.berth.open_plan().is_some() && post.can_tell();
        post.told
            .as_ref()
            .filter(|_| open)
            .map(|(_, at)| *at + renewal(self.lease))
    }

    /// Nothing counts as told any more: what changed between Hello and Welcome is in neither.
    pub(super) fn tell_anew(&mut self) {
        for post in self.posts.values_mut() {
            post.told = None;
        }
    }

    /// Sends something. `false`: it found no room and was dropped; a report is made again at the next wake.
    pub(super) fn say(&self, what: from_agent::What) -> bool {
        let said = self.parts.outgoing.try_send(FromAgent { what: Some(what) });
        if let Err(error) = &said {
            tracing::warn!(%error, "the coordinator does not read fast enough; something was dropped");
        }
        said.is_ok()
    }

    /// Takes in what nginx counted.
    pub(super) fn signalled(&mut self, now: Moment, counts: Counts) {
        self.turned_away(now, &counts);
        for ((service, slot), tally) in counts.slots {
            if let Some(post) = self.posts.get_mut(&service) {
                post.tally.insert(slot, tally);
            }
        }
        // What was counted between two swaps belongs to neither.
        for post in self.posts.values_mut().filter(|post| post.count_anew) {
            post.before = post.tally.clone();
            post.count_anew = false;
        }
        for post in self.posts.values_mut().filter(|post| post.recount) {
            post.recount = false;
            // What comes after a swap is not its own.
            if post.berth.open_plan().is_none() {
                post.counted = traffic(post);
            }
        }
    }

    /// Every account, for people on this host.
    pub(super) fn accounts(&mut self, now: Moment) -> Vec<(ServiceId, v1::BerthReport)> {
        let start = self.parts.start;
        self.posts
            .iter_mut()
            .map(|(service, post)| {
                let account = account(post, start, now);
                let account = match &post.unkept {
                    Some(why) => troubled(account, why),
                    None => account,
                };
                (service.clone(), account)
            })
            .collect()
    }
}

fn renewal(lease: Duration) -> Duration {
    cutover_core::rollout::renewal(lease)
}

/// The account without what changes by itself.
fn timeless(mut report: v1::BerthReport) -> v1::BerthReport {
    report.at = 0;
    report.traffic = None;
    if let Some(swap) = &mut report.swap {
        swap.waits_at_most = 0;
    }
    for container in &mut report.containers {
        container.up_seconds = 0;
    }
    report
}

fn account(post: &mut Post, start: u64, now: Moment) -> v1::BerthReport {
    let mut report = v1::BerthReport::from(&post.berth.report(start, now));
    report.containers = post.found.iter().filter_map(container).collect();
    report.last_log.clone_from(&post.last_log);
    report.traffic = post.counted.or_else(|| traffic(post));
    report.warnings.extend(frozen(post));
    report.warnings.extend(turned_away(post));
    report
}

/// The last account of what was kept, with why nothing follows it. Its time is the old one: it renews nothing.
fn standstill(post: &Post) -> Option<v1::BerthReport> {
    Some(troubled(post.kept.clone()?, post.unkept.as_ref()?))
}

fn troubled(mut report: v1::BerthReport, why: &str) -> v1::BerthReport {
    let what = format!("facts could not be kept; nothing is done until they are: {why}");
    if let Some(swap) = &mut report.swap {
        swap.trouble = Some(what.clone());
    }
    report.warnings.push(what);
    report
}

/// Containers that should answer and that somebody has paused.
fn frozen(post: &Post) -> impl Iterator<Item = String> {
    let current = post.berth.current().map(|settled| settled.side.revision);
    let candidate = post.berth.candidate().map(|settled| settled.side.revision);
    let ours = move |found: &&Found| {
        let revision = found.identity.as_ref().ok().map(|id| id.revision);
        revision.is_some() && (revision == current || revision == candidate)
    };
    let paused = |found: &&Found| matches!(found.state, State::Paused(_));
    let say = |found: &Found| {
        format!(
            "{} is frozen: what reaches it waits until the health deadline",
            found.name
        )
    };
    post.found.iter().filter(ours).filter(paused).map(say)
}

/// Why requests are, or may be, answered by nobody or by another slot than the route says.
fn turned_away(post: &Post) -> impl Iterator<Item = String> {
    let deserted = (post.deserted && post.berth.route() == Route::Nobody)
        .then(|| "requests come, and the route leads to nobody".to_owned());
    post.doubt.clone().into_iter().chain(deserted)
}

fn container(found: &Found) -> Option<v1::ContainerReport> {
    let identity = found.identity.as_ref().ok()?;
    let (state, since) = match &found.state {
        State::Created(_) => ("created".to_owned(), None),
        State::Running(since) => ("running".to_owned(), Some(*since)),
        State::Paused(since) => ("paused".to_owned(), Some(*since)),
        State::Exited(exit) => (format!("exited {}", exit.code), None),
        State::Dying => ("removing".to_owned(), None),
    };
    let up = since.and_then(|since| SystemTime::now().duration_since(since).ok());
    Some(v1::ContainerReport {
        name: found.name.clone(),
        revision: identity.revision.get(),
        replica: identity.replica,
        state,
        address: found
            .address
            .map_or_else(String::new, |address| address.to_string()),
        green: identity.slot == Slot::Green,
        up_seconds: up.map_or(0, |up| up.as_secs()),
        image: found.image_id.clone(),
    })
}

/// Requests since the open (or last) swap began.
fn traffic(post: &Post) -> Option<v1::TrafficReport> {
    let since = |slot: Slot| {
        let now = post.tally.get(&slot)?;
        Some(
            post.before
                .get(&slot)
                .map_or_else(|| now.clone(), |before| now.since(before)),
        )
    };
    let all: Vec<(Slot, Tally)> = Slot::ALL
        .into_iter()
        .filter_map(|slot| Some((slot, since(slot)?)))
        .collect();
    if all.is_empty() {
        return None;
    }
    let mut report = v1::TrafficReport::default();
    for (slot, tally) in &all {
        let failed = tally.by_class.get(4).copied().unwrap_or(0);
        report.requests += tally.requests;
        report.failed += failed;
        report.lost += tally.lost;
        if Some(*slot) == post.candidate {
            report.candidate_requests += tally.requests;
            report.candidate_failed += failed;
        }
    }
    Some(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helm::Wake;
    use crate::helm::bed::{Bed, OUTGOING};
    use crate::session::LinkEvent;
    use cutover_core::Generation;
    use cutover_core::swap::Event;

    const PARKED_AND_RUNNING: [(u64, Slot, bool); 2] =
        [(7, Slot::Blue, false), (8, Slot::Green, true)];

    fn welcome() -> Wake {
        Wake::Link(LinkEvent::Connected(v1::Welcome {
            lease_seconds: 30,
            ..v1::Welcome::default()
        }))
    }

    /// The reports that the coordinator has got since it was asked last.
    fn reports(bed: &mut Bed) -> Vec<v1::BerthReport> {
        let all = std::iter::from_fn(|| bed.said.try_recv().ok());
        let all = all.filter_map(|said| match said.what {
            Some(from_agent::What::Report(report)) => {
                Some(v1::BerthReport::decode(report.report.as_slice()).expect("a report"))
            }
            Some(
                from_agent::What::Hello(_)
                | from_agent::What::Facts(_)
                | from_agent::What::Answer(_)
                | from_agent::What::Bye(_)
                | from_agent::What::Renewed(_),
            )
            | None => None,
        });
        all.collect()
    }

    #[tokio::test]
    async fn what_changes_between_hello_and_welcome_is_reported() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(1000);
        bed.list(now, &PARKED_AND_RUNNING);
        assert_eq!(bed.hello.borrow().berths.len(), 1);
        // The session took its Hello: this is in no Hello, and nobody is connected yet.
        let service = crate::helm::bed::service();
        bed.helm.tell(now, &service, Event::HoldAsked(true));
        bed.helm.tend(now);
        assert!(reports(&mut bed).is_empty(), "there is no session");
        bed.wake(now, welcome());
        let held: Vec<bool> = reports(&mut bed).iter().map(|said| said.hold).collect();
        assert_eq!(held, [true], "nobody is ever told");
        bed.helm.tend(now);
        assert!(reports(&mut bed).is_empty(), "once is enough");
    }

    #[tokio::test]
    async fn a_report_that_found_no_room_is_made_again() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(1000);
        bed.list(now, &PARKED_AND_RUNNING);
        let noise = || from_agent::What::Facts(v1::Facts::default());
        for _ in 0..OUTGOING {
            assert!(bed.helm.say(noise()));
        }
        assert!(!bed.helm.say(noise()), "there is no room");
        bed.wake(now, welcome());
        assert!(reports(&mut bed).is_empty(), "nothing but noise found room");
        bed.helm.tend(now);
        assert_eq!(reports(&mut bed).len(), 1, "it counts as told");
    }

    #[tokio::test]
    async fn a_host_that_remembers_nothing_says_hello_once_it_has_seen_its_containers() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(1000);
        bed.helm.tend(now);
        assert!(!bed.hello.borrow().seen, "it would say that nothing runs");
        bed.wake(now, Wake::Listed(Err("the engine is away".to_owned())));
        assert!(!bed.hello.borrow().seen, "it has seen nothing");
        bed.list(now, &PARKED_AND_RUNNING);
        let standing = bed.hello.borrow().clone();
        assert!(standing.seen, "it can be said");
        let berth = v1::BerthReport::decode(standing.berths[0].as_slice()).expect("a report");
        assert_eq!((berth.current, berth.parked), (8, vec![7]));
        let fence: Option<Generation> = berth.fence.map(|fence| fence.into());
        assert_eq!(fence, Some(crate::helm::bed::generation(8)));

        let mut new = Bed::new();
        new.list(now, &[]);
        let standing = new.hello.borrow().clone();
        assert!(standing.seen && standing.berths.is_empty(), "a new host");
    }
}
