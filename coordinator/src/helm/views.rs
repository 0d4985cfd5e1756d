//! A rollout as people and scripts see it.

use std::collections::BTreeSet;

use cutover_core::rollout::{Fate, HostView, StageView};
use cutover_core::swap::Target;
use cutover_core::{HostId, Moment};
use cutover_proto::v1;

use super::Helm;
use super::deeds::Deeds;
use super::diff::strategy_name;
use super::live::{Live, rollout_number};
use super::resume::load_rollout;
use super::services::unreadable;
use super::wake::{Refusal, Watched};
use crate::store::{Key, Table};

/// Rollouts that are listed when nobody says how many.
const LISTED: usize = 20;
/// And the most.
const LISTED_MOST: usize = 500;

impl Helm {
    /// Shows every touched rollout to those who watch it.
    pub(super) fn publish(&self, deeds: &Deeds) {
        for number in &deeds.touched {
            let Some(live) = self.live.get(number) else {
                continue;
            };
            if live.watch.receiver_count() > 0 || live.outcome().is_some() {
                live.watch
                    .send_replace(self.view(live, deeds.now, deeds.unix_millis));
            }
        }
    }

    pub(super) fn watch(&self, ids: &[String], deeds: &mut Deeds) -> Result<Vec<Watched>, Refusal> {
        ids.iter().map(|id| self.watch_one(id, deeds)).collect()
    }

    fn watch_one(&self, id: &str, deeds: &mut Deeds) -> Result<Watched, Refusal> {
        let live = rollout_number(id).and_then(|number| self.live.get(&number));
        match live.filter(|live| live.outcome().is_none()) {
            Some(live) => {
                let watched = live.watch.subscribe();
                deeds.touched.insert(live.number); // what it is now is shown once that is durable
                Ok(Watched::Open(watched))
            }
            None => Ok(Watched::Over(Box::new(self.show_rollout(id)?))),
        }
    }

    pub(super) fn show_rollout(&self, id: &str) -> Result<v1::RolloutView, Refusal> {
        let unknown = || Refusal::NotFound(format!("there is no rollout {id:?}"));
        let number = rollout_number(id).ok_or_else(unknown)?;
        let (now, millis) = (
            cutover_daemon::clock::now(),
            cutover_daemon::clock::unix_millis(),
        );
        if let Some(live) = self.live.get(&number) {
            return Ok(self.view(live, now, millis));
        }
        let record: Option<v1::RolloutRecord> = self
            .store
            .read(Table::Rollouts, &Key::at(number))
            .map_err(|error| unreadable(&error))?;
        self.archived(number, record.ok_or_else(unknown)?)
    }

    fn archived(&self, number: u64, record: v1::RolloutRecord) -> Result<v1::RolloutView, Refusal> {
        let live = load_rollout(&self.store, number, record)
            .map_err(|error| Refusal::Store(cutover_daemon::logging::chain(&error)))?;
        let (now, millis) = (
            cutover_daemon::clock::now(),
            cutover_daemon::clock::unix_millis(),
        );
        Ok(self.view(&live, now, millis))
    }

    pub(super) fn list_rollouts(
        &self,
        request: &v1::ListRolloutsRequest,
    ) -> Result<v1::ListRolloutsResponse, Refusal> {
        let limit = match request.limit {
            0 => LISTED,
            limit => LISTED_MOST.min(limit as usize),
        };
        let service = if request.service.is_empty() {
            None
        } else {
            Some(self.one_service(&request.service)?.to_string())
        };
        let kept: Vec<(Key, v1::RolloutRecord)> = self
            .store
            .scan_back(Table::Rollouts, &Key::all(), None, LISTED_MOST)
            .map_err(|error| unreadable(&error))?;
        let mut rollouts = Vec::new();
        for (key, record) in kept {
            let Some(number) = key.parts().number() else {
                continue;
            };
            let other = service
                .as_ref()
                .is_some_and(|service| *service != record.service);
            let over = record.outcome() != v1::Outcome::Unspecified;
            if other || request.open_only && over {
                continue;
            }
            if rollouts.len() == limit {
                break;
            }
            let mut view = match self.live.get(&number) {
                Some(_) => self.show_rollout(&super::live::rollout_id(number))?,
                None => self.archived(number, record)?,
            };
            view.timeline.clear(); // `rollout show` has it
            rollouts.push(view);
        }
        Ok(v1::ListRolloutsResponse { rollouts })
    }

    /// The rollout as it stands.
    pub(super) fn view(&self, live: &Live, now: Moment, unix_millis: i64) -> v1::RolloutView {
        let record = &live.record;
        let mut view = v1::RolloutView {
            id: live.id.to_string(),
            service: live.service.to_string(),
            from_revision: record.from_revision,
            to_revision: record.to_revision,
            who: record.who.clone(),
            reason: record.reason.clone(),
            begun_unix_millis: record.begun_unix_millis,
            ended_unix_millis: record.ended_unix_millis,
            outcome: record.outcome,
            timeline: live.timeline.clone(),
            kind: record.kind.clone(),
            why: record.never_begun.clone(),
            ..v1::RolloutView::default()
        };
        let Some(machine) = &live.machine else {
            let over = live.outcome().is_some();
            if over { "closed" } else { "queued" }.clone_into(&mut view.stage);
            return view;
        };
        let seen = machine.view();
        let plan = machine.plan();
        strategy_name(plan.policy.strategy).clone_into(&mut view.strategy);
        view.skipped = plan.skipped.iter().map(ToString::to_string).collect();
        view.waves = count(plan.waves());
        view.paused = seen.paused;
        match &seen.stage {
            StageView::Planned => "planned".clone_into(&mut view.stage),
            StageView::Forward { wave, of } => {
                "forward".clone_into(&mut view.stage);
                view.wave = count(*wave);
                view.waves = count(*of);
            }
            StageView::Holding { why } => {
                "holding".clone_into(&mut view.stage);
                view.why.clone_from(why);
            }
            StageView::Back { why } => {
                "back".clone_into(&mut view.stage);
                view.why.clone_from(why);
            }
            StageView::Closed(_) => {
                "closed".clone_into(&mut view.stage);
                view.why = self.why_closed(live);
            }
        }
        view.mixed = is_mixed(&seen.hosts, record.from_revision, record.to_revision);
        let by_host = |host: &HostId| {
            let wait = seen
                .waits
                .iter()
                .find(|wait| wait.host.as_ref() == Some(host));
            wait.cloned()
        };
        view.hosts = seen
            .hosts
            .iter()
            .map(|host| self.progress(live, host, by_host(&host.host), now))
            .collect();
        let until = |at: Option<Moment>| {
            at.map_or(0, |at| {
                let millis = i64::try_from(at.since(now).as_millis()).unwrap_or(i64::MAX);
                unix_millis.saturating_add(millis)
            })
        };
        view.waits = seen
            .waits
            .iter()
            .map(|wait| v1::WaitView {
                host: wait
                    .host
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
                what: wait.what.clone(),
                until_unix_millis: until(wait.until),
            })
            .collect();
        view
    }

    /// Why it went back, in the words of the time.
    fn why_closed(&self, live: &Live) -> String {
        let prefix = "every host goes back: ";
        let said = live.timeline.iter().rev().find_map(|entry| {
            entry
                .text
                .strip_prefix(prefix)
                .filter(|_| entry.host.is_empty())
        });
        said.unwrap_or_default().to_owned()
    }

    fn progress(
        &self,
        live: &Live,
        host: &HostView,
        wait: Option<cutover_core::rollout::Wait>,
        now: Moment,
    ) -> v1::HostProgress {
        let said = self.fleet.said(&host.host, &live.service);
        let swap = said.and_then(|said| said.wire.swap.as_ref());
        let ours = swap.is_some_and(|swap| swap.rollout == live.id.as_str());
        let most = match (swap.filter(|_| ours), &wait) {
            (Some(swap), _) if swap.waits_at_most > 0 => swap.waits_at_most / 1_000_000,
            (_, Some(wait)) => wait.until.map_or(0, |until| {
                u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX)
            }),
            (_, None) => 0,
        };
        v1::HostProgress {
            host: host.host.to_string(),
            wave: count(host.wave),
            fate: fate(host.fate).to_owned(),
            target: host
                .target
                .map_or_else(String::new, |target| target.to_string()),
            reached: host
                .reached
                .map_or_else(String::new, |target| target.to_string()),
            phase: host
                .phase
                .map_or_else(String::new, |phase| phase.as_str().to_owned()),
            why: host.fell.clone().unwrap_or_default(),
            // The machine of one that is over hears nobody any more.
            away: match live.outcome() {
                None => host.away,
                Some(_) => {
                    let known = self.fleet.host(&host.host);
                    !known.is_some_and(super::fleet::Host::is_there)
                }
            },
            owing: host.owing,
            trouble: host.trouble.clone().unwrap_or_default(),
            waits_for: wait.map_or_else(String::new, |wait| wait.what),
            waits_at_most_millis: most,
            current: self
                .fleet
                .desk(&host.host, &live.service)
                .map_or(0, |desk| desk.record.current),
            traffic: live
                .record
                .traffic
                .get(host.host.as_str())
                .copied()
                .or_else(|| said.and_then(|said| said.wire.traffic).filter(|_| ours)),
            warnings: said.map_or_else(Vec::new, |said| said.wire.warnings.clone()),
            last_log: live.last_logs.get(&host.host).cloned().unwrap_or_default(),
        }
    }
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Untouched => "untouched",
        Fate::Open => "open",
        // To people it is the same: it runs the candidate, and stays there. The timeline says whence.
        Fate::Committed | Fate::There => "committed",
        Fate::Back => "back",
        Fate::Stuck => "stuck",
    }
}

/// Whether requests are answered by both revisions now.
fn is_mixed(hosts: &[HostView], from: u64, to: u64) -> bool {
    if from == 0 || from == to {
        return false;
    }
    let serves_new = |host: &HostView| match host.fate {
        Fate::Committed | Fate::There | Fate::Stuck => true,
        Fate::Open => matches!(host.reached, Some(Target::Serving(_) | Target::Committed)),
        Fate::Untouched | Fate::Back => false,
    };
    let sides: BTreeSet<bool> = hosts.iter().map(serves_new).collect();
    sides.len() == 2
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
