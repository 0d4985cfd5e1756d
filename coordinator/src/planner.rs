//! From a wish to a plan: which hosts take part, from what to what, and why not.
//!
//! Keeps true: the host set is frozen here; a host that is away is skipped and
//! named, never waited for in silence; nothing is planned that would take the
//! service from everywhere by mistake.
//!
//! Does not know sessions, the store or the clock: everything is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cutover_core::rollout::{HostPlan, RolloutPlan};
use cutover_core::spec::{Constraint, Listener, Protocol, RolloutPolicy, ServiceSpec, Subject};
use cutover_core::swap::{
    CUT_WITHIN, ENGINE_PATIENCE, FETCH_WITHIN, Kind, MAKE_WITHIN, SMOKE_WITHIN, START_WITHIN,
    STOP_SLACK, Side,
};
use cutover_core::{Generation, HostId, RevisionNumber, RolloutId, ServiceId};

/// Besides what a swap itself may take: orders, reports, and the store.
const PROGRESS_SLACK: Duration = Duration::from_secs(60);
/// A rollout is refused when more than one host in so many is away.
const AWAY_ONE_IN: usize = 4;

/// What runs of the service on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Nothing.
    Nothing,
    /// This.
    Revision(Side),
    /// A revision that nobody here remembers.
    Unknown(RevisionNumber),
}

/// A host as it stands when a plan is made.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Which.
    pub host: HostId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// No new work goes there.
    pub cordoned: bool,
    /// It has a session, and no other swap of the service is open there.
    pub present: bool,
    /// What runs of the service there, as last reported.
    pub runs: Runs,
    /// The highest generation that is known of host and service.
    pub fence: Generation,
}

/// What to do about hosts that are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// Skip them; they are owing. Too many: refuse.
    Skip,
    /// Refuse.
    Refuse,
    /// Skip them, however many: a follow-up or a drain of named hosts.
    SkipAny,
}

/// What shall be.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The rollout's name.
    pub id: RolloutId,
    /// The service.
    pub service: ServiceId,
    /// The coordinator's epoch.
    pub epoch: u64,
    /// The revision that shall run, and its spec; none: the service shall go.
    pub to: Option<(RevisionNumber, &'a ServiceSpec)>,
    /// How it goes over the hosts.
    pub policy: RolloutPolicy,
    /// Hosts that may take part; none: all.
    pub only: Option<&'a BTreeSet<HostId>>,
    /// What about hosts that are away.
    pub away: Away,
    /// How long an order holds.
    pub lease: Duration,
    /// Ended revisions that stay parked on a host.
    pub retain: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It is so already, everywhere.
    AlreadyThere,
    /// This is to be done.
    Plan(Box<RolloutPlan>),
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefusal {
    /// Nobody would run it.
    #[error("{service}: no host matches{}", conditions(.constraints))]
    NoHost {
        /// What.
        service: ServiceId,
        /// Which conditions it has.
        constraints: Vec<String>,
    },
    /// Most of the fleet cannot be reached.
    #[error(
        "{service}: {} of {of} hosts are away ({}); bring them back, or `cutover host cordon` those that stay away",
        away.len(), names(away)
    )]
    TooManyAway {
        /// What.
        service: ServiceId,
        /// Which are away.
        away: Vec<HostId>,
        /// How many match.
        of: usize,
    },
    /// Somebody asked for all or nothing.
    #[error("{service}: {} away, and no host may be left behind", are(away))]
    Away {
        /// What.
        service: ServiceId,
        /// Which.
        away: Vec<HostId>,
    },
    /// A host runs what nobody remembers.
    #[error("{service}: {host} runs revision {revision}, which is not known here (yet)")]
    UnknownRevision {
        /// What.
        service: ServiceId,
        /// Where.
        host: HostId,
        /// Which.
        revision: RevisionNumber,
    },
}

fn condition(constraint: &Constraint) -> String {
    let subject = match &constraint.subject {
        Subject::Hostname => "node.hostname".to_owned(),
        Subject::Label(key) => format!("node.labels.{key}"),
    };
    let sign = if constraint.equal { "==" } else { "!=" };
    format!("{subject} {sign} {}", constraint.value)
}

fn names(hosts: &[HostId]) -> String {
    let names: Vec<&str> = hosts.iter().map(HostId::as_str).collect();
    names.join(", ")
}

fn are(hosts: &[HostId]) -> String {
    let verb = if hosts.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names(hosts))
}

fn conditions(constraints: &[String]) -> String {
    if constraints.is_empty() {
        ": none is enrolled, or all are cordoned".to_owned()
    } else {
        format!(" {}", constraints.join(" and "))
    }
}

/// What a machine must know of this revision.
#[must_use]
pub fn side_of(spec: &ServiceSpec, revision: RevisionNumber) -> Side {
    Side::of(revision, spec)
}

/// Whether the service runs on hosts like this one.
#[must_use]
pub fn matches(spec: &ServiceSpec, host: &HostId, labels: &BTreeMap<String, String>) -> bool {
    spec.placement
        .iter()
        .all(|constraint| constraint.holds(host.as_str(), labels))
}

/// Plans a rollout over these hosts.
///
/// # Errors
/// Why it is refused.
pub fn plan(wish: Wish<'_>, hosts: &[HostFacts]) -> Result<Planned, PlanRefusal> {
    let service = wish.service.clone();
    let concerned = |facts: &&HostFacts| wish.only.is_none_or(|only| only.contains(&facts.host));
    let fits = |facts: &HostFacts| match wish.to {
        Some((_, spec)) => matches(spec, &facts.host, &facts.labels),
        None => false,
    };
    let runs_target = |facts: &HostFacts| match (&facts.runs, wish.to) {
        (Runs::Revision(side), Some((number, _))) => side.revision == number,
        (Runs::Unknown(running), Some((number, _))) => *running == number,
        (Runs::Nothing, _) | (_, None) => false,
    };
    let (matching, others): (Vec<_>, Vec<_>) = hosts
        .iter()
        .filter(concerned)
        .filter(|facts| !facts.cordoned || wish.to.is_none() || wish.only.is_some())
        .partition(|facts| fits(facts));
    if let Some((_, spec)) = wish.to.filter(|_| matching.is_empty()) {
        let constraints = spec.placement.iter().map(condition).collect();
        return Err(PlanRefusal::NoHost {
            service,
            constraints,
        });
    }
    let leaving = others
        .into_iter()
        .filter(|facts| facts.runs != Runs::Nothing);
    let changing = matching.iter().copied().filter(|facts| !runs_target(facts));
    let mut plans = Vec::new();
    let mut skipped = Vec::new();
    // Those that leave come last, when the others serve.
    for (facts, stays) in changing
        .map(|facts| (facts, true))
        .chain(leaving.map(|facts| (facts, false)))
    {
        if !facts.present {
            skipped.push(facts.host.clone());
            continue;
        }
        let candidate = wish
            .to
            .filter(|_| stays)
            .map(|(number, spec)| side_of(spec, number));
        let kind = match (&facts.runs, candidate) {
            (Runs::Unknown(revision), _) => {
                return Err(PlanRefusal::UnknownRevision {
                    service,
                    host: facts.host.clone(),
                    revision: *revision,
                });
            }
            (Runs::Nothing, Some(candidate)) => Kind::First { candidate },
            (Runs::Revision(side), Some(candidate)) => Kind::Change {
                incumbent: side.clone(),
                candidate,
            },
            (Runs::Revision(side), None) => Kind::Retire {
                incumbent: side.clone(),
            },
            (Runs::Nothing, None) => continue,
        };
        plans.push(HostPlan {
            host: facts.host.clone(),
            kind,
            fence: facts.fence,
        });
    }
    refuse_away(&wish, matching.len(), plans.len(), &skipped)?;
    if plans.is_empty() && skipped.is_empty() {
        return Ok(Planned::AlreadyThere);
    }
    let progress = progress(&wish.policy, &plans);
    Ok(Planned::Plan(Box::new(RolloutPlan {
        id: wish.id,
        service: wish.service,
        epoch: wish.epoch,
        policy: wish.policy,
        hosts: plans,
        skipped,
        lease: wish.lease,
        progress,
        retain: wish.retain,
    })))
}

fn refuse_away(
    wish: &Wish<'_>,
    matching: usize,
    planned: usize,
    skipped: &[HostId],
) -> Result<(), PlanRefusal> {
    let service = wish.service.clone();
    let away = skipped.to_vec();
    match wish.away {
        _ if skipped.is_empty() => Ok(()),
        Away::SkipAny => Ok(()),
        Away::Refuse => Err(PlanRefusal::Away { service, away }),
        Away::Skip => {
            let of = matching.max(planned + skipped.len());
            if skipped.len() * AWAY_ONE_IN > of {
                Err(PlanRefusal::TooManyAway { service, away, of })
            } else {
                Ok(())
            }
        }
    }
}

/// How long a host may take for one step: what the longest one may take by its own rules, and some slack.
fn progress(policy: &RolloutPolicy, plans: &[HostPlan]) -> Duration {
    let sides = plans.iter().flat_map(|plan| {
        plan.kind
            .incumbent()
            .into_iter()
            .chain(plan.kind.candidate())
    });
    let (mut within, mut grace) = (Duration::ZERO, Duration::ZERO);
    for side in sides {
        within = within.max(side.within).max(side.settle);
        grace = grace.max(side.stop_grace);
    }
    let prepare = FETCH_WITHIN + MAKE_WITHIN + START_WITHIN + within + SMOKE_WITHIN;
    let move_traffic = CUT_WITHIN + SMOKE_WITHIN + policy.drain;
    prepare + move_traffic + grace + STOP_SLACK + ENGINE_PATIENCE + PROGRESS_SLACK
}

/// Why two services cannot run on one host; none: they can.
#[must_use]
pub fn conflict(spec: &ServiceSpec, other: &ServiceSpec) -> Option<String> {
    let who = format!("{}/{}", other.app, other.service);
    let name = spec.container.container_name.as_ref();
    if let Some(name) =
        name.filter(|_| spec.container.container_name == other.container.container_name)
    {
        return Some(format!("the container name {name:?} is {who}'s"));
    }
    spec.traffic.iter().find_map(|ours| {
        let theirs = other.traffic.iter().find(|theirs| clash(ours, theirs))?;
        Some(format!("{} is {who}'s", listener(theirs)))
    })
}

fn clash(one: &Listener, other: &Listener) -> bool {
    let address = one.address.is_none() || other.address.is_none() || one.address == other.address;
    if one.listen != other.listen || !address {
        return false;
    }
    let raw = |listener: &Listener| listener.protocol == Protocol::Tcp;
    raw(one) || raw(other) || (one.host == other.host && one.path == other.path)
}

fn listener(listener: &Listener) -> String {
    let host = listener.host.as_deref().unwrap_or("any host name");
    match listener.protocol {
        Protocol::Tcp => format!("port {}", listener.listen),
        Protocol::Http | Protocol::Grpc => {
            format!("port {}, {host}, path {}", listener.listen, listener.path)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
