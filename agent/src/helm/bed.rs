//! A loop for tests of it: its real parts in a folder of their own, and the other ends of its channels.
//!
//! Its engine is a socket at which nobody answers, unless a test listens there; nginx
//! does not run, and the service has no traffic. Tests tell the loop what woke it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_core::spec::Order;
use cutover_core::swap::{Action, Berth, Ended, Kind, Side, SwapOrder, SwapPlan, Target};
use cutover_core::{Generation, Moment, RevisionNumber, ServiceId, Slot};
use cutover_proto::v1::{self, FromAgent};
use prost::Message;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::docker::{Deadlines, Docker, Found, Identity, Listing, Settings, State};
use crate::helm::{Arranger, Hands, Helm, Parts, Standing, Wake};
use crate::journal::Journal;
use crate::revisions::Revisions;
use crate::signals::Signals;
use crate::traffic::{Paths, Traffic};

/// What the loop says and nobody takes, at most.
pub(super) const OUTGOING: usize = 4;
/// Wakes that nobody takes.
const WAKES: usize = 64;

/// A loop and what is around it.
pub(super) struct Bed {
    pub(super) helm: Helm,
    pub(super) said: mpsc::Receiver<FromAgent>,
    pub(super) answers: mpsc::Receiver<FromAgent>,
    pub(super) hello: watch::Receiver<Standing>,
    /// Where the loop looks for its engine.
    pub(super) engine: PathBuf,
    _wakes: mpsc::Receiver<Wake>,
    _folder: TempDir,
}

/// The one service.
pub(super) fn service() -> ServiceId {
    "shop/web".parse().expect("a name")
}

impl Bed {
    /// A loop that remembers nothing.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let opened = Journal::open(&path("journal"), "boot").expect("a journal");
        let addresses = Addresses::open(&path("addresses"), "10.213.0.0/20").expect("addresses");
        let network = Arc::new(addresses.network("cutover"));
        let docker = Docker::with(Settings {
            socket: path("engine"),
            host: "h1".parse().expect("a name"),
            files: path("files"),
            shared_engine: false,
            deadlines: Deadlines::default(),
        });
        let (signals, _reader) = Signals::open(&path("signals")).expect("a socket");
        let paths = Paths {
            command: Vec::new(),
            pid_file: path("pid"),
            conf: path("conf"),
            routes: path("routes"),
            runtime: path("run"),
            listen_address: None,
            access_log: None,
        };
        let traffic = Traffic::new(paths, signals.clone()).expect("paths");
        let (wakes, woken) = mpsc::channel(WAKES);
        let (arranger, _arranging) = Arranger::new(traffic.clone(), signals.clone(), wakes.clone());
        let (outgoing, said) = mpsc::channel(OUTGOING);
        let (answer, answers) = mpsc::channel(OUTGOING);
        let (hello, hellos) = watch::channel(Standing::default());
        let revisions = Revisions::new(path("revisions"));
        for number in [7, 8] {
            let revision = v1::Revision {
                number,
                spec: Some(spec()),
                ..v1::Revision::default()
            };
            revisions.keep(&service(), &revision).expect("kept");
        }
        let helm = Helm::new(Parts {
            journal: opened.journal,
            berths: opened.berths,
            start: opened.start,
            rebooted: opened.rebooted,
            hands: Hands {
                docker,
                traffic,
                arranger,
                network,
                listen_address: Ipv4Addr::LOCALHOST,
            },
            revisions,
            addresses,
            signals,
            include_only: Vec::new(),
            wakes,
            outgoing,
            answers: answer,
            hello,
            stop: CancellationToken::new(),
        });
        Self {
            helm,
            said,
            answers,
            hello: hellos,
            engine: path("engine"),
            _wakes: woken,
            _folder: folder,
        }
    }

    /// Something wakes the loop, which then looks after all whom it concerns.
    pub(super) fn wake(&mut self, now: Moment, wake: Wake) {
        self.helm.wake(now, wake);
        self.helm.tend(now);
    }

    /// The engine lists one replica of each of these revisions, in its slot, running or parked.
    pub(super) fn list(&mut self, now: Moment, containers: &[(u64, Slot, bool)]) {
        let found = containers.iter().map(|(number, slot, up)| {
            let state = if *up {
                State::Running(SystemTime::UNIX_EPOCH)
            } else {
                State::Created(String::new())
            };
            found(*number, *slot, state)
        });
        let listing = Listing {
            found: found.collect(),
            unknown: Vec::new(),
        };
        self.helm.listing.began = now;
        self.wake(now, Wake::Listed(Ok(listing)));
    }

    /// What is under way for the one service.
    pub(super) fn under_way(&self) -> Vec<Action> {
        let post = self.helm.posts.get(&service());
        post.into_iter()
            .flat_map(|post| post.under_way.actions())
            .collect()
    }

    /// The last swap is one from 8 to 7 that somebody on the host asked for; whether there is such a berth.
    pub(super) fn ended_by_hand(&mut self, at: Moment, reached: Target) -> bool {
        let Some(post) = self.helm.posts.get_mut(&service()) else {
            return false;
        };
        let Some(mut summary) = post.berth.summary() else {
            return false;
        };
        summary.last = Some(Ended {
            plan: plan(),
            reached,
            why: None,
            at,
        });
        post.berth = Berth::resume(summary);
        true
    }
}

/// The one replica of a revision, as the engine tells of it.
pub(super) fn found(number: u64, slot: Slot, state: State) -> Found {
    let identity = Identity {
        service: service(),
        revision: revision(number),
        slot,
        replica: 1,
        generation: generation(number),
    };
    Found {
        name: identity.name(),
        id: format!("{number:064x}"),
        identity: Ok(identity),
        state,
        address: None,
        process: None,
        image_id: String::new(),
    }
}

/// The order to begin with a revision where nothing runs.
pub(super) fn first(number: u64, lease_until: Moment) -> v1::Order {
    let spec = spec().try_into().expect("a spec");
    let plan = SwapPlan {
        kind: Kind::First {
            candidate: Side::of(revision(number), &spec),
        },
        rollout: "rollout-1".parse().expect("a name"),
        ..plan()
    };
    let order = SwapOrder {
        generation: plan.generation,
        plan: Some(Box::new(plan)),
        target: Target::Prepared,
        lease_until,
    };
    v1::Order {
        order: v1::SwapOrder::new(&service(), &order, Vec::new()).encode_to_vec(),
    }
}

/// From 8 to 7, because somebody on the host asked for it.
fn plan() -> SwapPlan {
    let spec = spec().try_into().expect("a spec");
    SwapPlan {
        service: service(),
        rollout: "by-hand-1".parse().expect("a name"),
        generation: generation(9),
        kind: Kind::Change {
            incumbent: Side::of(revision(8), &spec),
            candidate: Side::of(revision(7), &spec),
        },
        order: Order::StartFirst,
        drain: Duration::ZERO,
        observe: Duration::ZERO,
        retain: 3,
    }
}

pub(super) fn generation(number: u64) -> Generation {
    Generation { epoch: 1, number }
}

pub(super) fn revision(number: u64) -> RevisionNumber {
    RevisionNumber::new(number).expect("a revision")
}

/// What both revisions are made of.
pub(super) fn spec() -> v1::ServiceSpec {
    let second = 1_000_000_000;
    v1::ServiceSpec {
        app: "shop".to_owned(),
        service: "web".to_owned(),
        container: Some(v1::ContainerSpec {
            image: "registry.example/web:1".to_owned(),
            resources: Some(v1::Resources::default()),
            stop_grace: second,
            ..v1::ContainerSpec::default()
        }),
        replicas: 1,
        ready: Some(v1::Readiness {
            check: Some(v1::Check {
                check: Some(v1::check::Check::TcpPort(8080)),
            }),
            every: second,
            timeout: second,
            successes: 1,
            failures: 1,
            within: 10 * second,
            settle: 0,
        }),
        restart: Some(v1::RestartPolicy {
            condition: v1::RestartCondition::No.into(),
            delay: second,
            max_attempts: None,
            window: second,
        }),
        policy: Some(v1::RolloutPolicy {
            strategy: v1::Strategy::Rolling.into(),
            wave: 1,
            observe: second,
            drain: second,
            ..v1::RolloutPolicy::default()
        }),
        ..v1::ServiceSpec::default()
    }
}
