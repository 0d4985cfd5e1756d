//! What the coordinator is told: each berth's account, when it changed and while a swap is open.

use std::time::{Duration, SystemTime};

use cutover_core::{Moment, Route, ServiceId, Slot};
use cutover_proto::v1::{self, FromAgent, from_agent};
use prost::Message;

use crate::docker::{Found, State};
use crate::helm::Helm;
use crate::helm::post::Post;
use crate::signals::{Counts, Tally};

impl Helm {
    /// Tells what changed, and what must be told again.
    pub(super) fn report(&mut self, now: Moment) {
        let start = self.parts.start;
        let mut changed = false;
        let mut reports = Vec::new();
        for post in self.posts.values_mut() {
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
                reports.push(report);
            }
        }
        if changed {
            // A service whose facts can't be kept is told as it was kept: left out, it would be gone.
            let all = self.posts.values_mut().filter_map(|post| {
                let whole = post.unsaved.is_empty().then(|| account(post, start, now));
                let report = whole
                    .or_else(|| standstill(post))
                    .or_else(|| post.kept.clone());
                Some(report?.encode_to_vec())
            });
            let all = all.collect();
            self.parts.hello.send_replace(all);
        }
        if !self.connected {
            return;
        }
        for report in reports {
            let report = v1::Report {
                report: report.encode_to_vec(),
                clock_nanos: now.as_nanos(),
            };
            self.say(from_agent::What::Report(report));
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

    /// Sends something; what finds no room is dropped, and a new Hello will say where everything stands.
    pub(super) fn say(&self, what: from_agent::What) {
        if let Err(error) = self.parts.outgoing.try_send(FromAgent { what: Some(what) }) {
            tracing::warn!(%error, "the coordinator does not read fast enough; a report was dropped");
        }
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
