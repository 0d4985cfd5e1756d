//! A host's stand-in: the agent's own enrolment and session, and real berths
//! whose containers, nginx and registry are a few lines of memory.
//!
//! The berths outlive a session, as a journal would. What the fleet does is
//! watched across all hosts ([`Watcher`]): how many are in change, and whether a
//! generation was ever used for two swaps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutover_agent::enroll::{Membership, Wish, enroll};
use cutover_agent::session::{self, LinkEvent, Settings};
use cutover_core::swap::{
    Action, Berth, Event, Failure, Incarnation, Report, Seen, SeenReplica, SeenState, SwapOrder,
    SwapPlan,
};
use cutover_core::{Generation, HostId, RevisionNumber, ServiceId, Slot};
use cutover_daemon::clock;
use cutover_proto::token::Token;
use cutover_proto::v1;
use cutover_proto::v1::{answer, from_agent, question, request, to_agent};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often a stand-in looks after its berths.
const TURN: Duration = Duration::from_millis(5);
/// And reports though nothing changed.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// What happens on all hosts, seen from above.
#[derive(Default)]
pub(crate) struct Watcher {
    /// Open swaps, by host and service.
    open: BTreeSet<(HostId, ServiceId)>,
    /// The most hosts that were in change at once.
    pub(crate) most: usize,
    /// What each generation was used for.
    used: BTreeMap<(HostId, ServiceId, Generation), SwapPlan>,
    /// What must never be.
    pub(crate) violations: Vec<String>,
}

/// What a stand-in does beyond the ordinary.
#[derive(Clone, Default)]
pub(crate) struct Temper {
    /// Revisions whose probes fail.
    pub(crate) sick: BTreeSet<u64>,
    /// What the registry says instead of a digest.
    pub(crate) registry_fails: Option<String>,
    /// Containers never start.
    pub(crate) cannot_start: bool,
    /// Connections to what left the route do not end by themselves.
    pub(crate) keeps_open: bool,
    /// A revision that it says it holds, besides.
    pub(crate) boasts: Option<u64>,
    /// Its wall clock is so far ahead.
    pub(crate) clock_ahead_millis: i64,
}

#[derive(Default)]
struct World {
    berths: BTreeMap<ServiceId, Station>,
    revisions: BTreeMap<(String, u64), v1::Revision>,
    temper: Temper,
    reports: u64,
}

struct Station {
    berth: Berth,
    containers: BTreeMap<(Slot, RevisionNumber, u32), SeenState>,
    lives: u64,
    said: Option<Vec<u8>>,
    said_at: cutover_core::Moment,
    noted: Option<Generation>,
}

/// One stand-in.
pub(crate) struct Host {
    pub(crate) id: HostId,
    membership: Membership,
    machine_id: String,
    world: Arc<Mutex<World>>,
    watcher: Arc<Mutex<Watcher>>,
    live: Option<Live>,
    /// What the session said, in short.
    pub(crate) link: Arc<Mutex<Vec<String>>>,
}

struct Live {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Host {
    pub(crate) async fn enrol(
        name: &str,
        folder: &std::path::Path,
        token: &v1::MakeTokenResponse,
        watcher: &Arc<Mutex<Watcher>>,
    ) -> Self {
        let machine_id = format!("machine-of-{name}");
        let wish = Wish {
            coordinator: token.enrolment_address.parse().expect("an address"),
            token: Token::from_line(&token.token).expect("a token"),
            host: name.parse().expect("a name"),
            machine_id: machine_id.clone(),
            labels: BTreeMap::new(),
        };
        let enrolled = enroll(&folder.join(name), wish).await.expect("enrolled");
        let membership = match enrolled {
            cutover_agent::enroll::Enrolled::New(new) => new,
            cutover_agent::enroll::Enrolled::Already(known) => known,
        };
        Self {
            id: name.parse().expect("a name"),
            membership,
            machine_id,
            world: Arc::default(),
            watcher: Arc::clone(watcher),
            live: None,
            link: Arc::default(),
        }
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(crate) fn temper(&self, change: impl FnOnce(&mut Temper)) {
        change(&mut self.world.lock().expect("whole").temper);
    }

    /// Opens a session and looks after the berths.
    pub(crate) fn connect(&mut self) {
        if self.live.is_some() {
            return;
        }
        let (events, heard) = mpsc::channel(64);
        let (say, outgoing) = mpsc::channel(64);
        let (_, answers) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let settings = Settings {
            membership: self.membership.clone(),
            machine_id: self.machine_id.clone(),
            events,
            outgoing,
            answers,
            stop: stop.clone(),
        };
        let world = Arc::clone(&self.world);
        let hello = move || world.lock().expect("whole").hello();
        let session = tokio::spawn(async move {
            session::run(settings, hello).await.expect("a member");
        });
        let turning = turn(
            self.id.clone(),
            Arc::clone(&self.world),
            Arc::clone(&self.watcher),
            Arc::clone(&self.link),
            heard,
            say,
        );
        let turning = tokio::spawn(turning);
        self.live = Some(Live {
            stop,
            tasks: vec![session, turning],
        });
    }

    /// The network to it is gone.
    pub(crate) async fn cut(&mut self) {
        if let Some(live) = self.live.take() {
            live.stop.cancel();
            for task in live.tasks {
                task.abort();
                let _ = task.await;
            }
        }
    }

    pub(crate) fn current(&self, service: &str) -> u64 {
        let world = self.world.lock().expect("whole");
        let station = world
            .berths
            .get(&service.parse::<ServiceId>().expect("a service"));
        let current = station.and_then(|station| station.berth.current());
        current.map_or(0, |settled| settled.side.revision.get())
    }

    /// The open swap's candidate.
    pub(crate) fn open_swap(&self, service: &str) -> Option<u64> {
        let world = self.world.lock().expect("whole");
        let station = world
            .berths
            .get(&service.parse::<ServiceId>().expect("a service"))?;
        let plan = station.berth.open_plan()?;
        Some(plan.kind.candidate().map_or(0, |side| side.revision.get()))
    }

    /// As if another coordinator had spoken to it.
    pub(crate) fn obey(&self, service: &str, generation: Generation) {
        let mut world = self.world.lock().expect("whole");
        let id: ServiceId = service.parse().expect("a service");
        let station = world.station(&id);
        let plan_less = SwapOrder {
            plan: None,
            generation,
            target: cutover_core::swap::Target::Reverted,
            lease_until: clock::now() + Duration::from_secs(60),
        };
        let _ = station
            .berth
            .handle(clock::now(), Event::Ordered(plan_less));
        let fenced = cutover_core::swap::Stamped {
            at: clock::now(),
            fact: cutover_core::swap::Fact::Fenced(generation),
        };
        station.berth.apply(fenced.at, &fenced.fact);
    }
}

impl World {
    fn station(&mut self, service: &ServiceId) -> &mut Station {
        self.berths
            .entry(service.clone())
            .or_insert_with(|| Station {
                berth: Berth::new(service.clone()),
                containers: BTreeMap::new(),
                lives: 0,
                said: None,
                said_at: clock::now(),
                noted: None,
            })
    }

    fn hello(&mut self) -> v1::Hello {
        let now = clock::now();
        self.reports += 1;
        let start = self.reports;
        let berths = self.berths.values_mut().map(|station| {
            station.said = None;
            v1::BerthReport::from(&station.berth.report(1, now)).encode_to_vec()
        });
        let _ = start;
        v1::Hello {
            boot_id: "this one".to_owned(),
            clock_nanos: now.as_nanos(),
            facts: BTreeMap::from([("kernel".to_owned(), "stand-in".to_owned())])
                .into_iter()
                .collect(),
            berths: berths.collect(),
            unix_millis: clock::unix_millis() + self.temper.clock_ahead_millis,
            ..v1::Hello::default()
        }
    }

    fn order(&mut self, host: &HostId, bytes: &[u8], watcher: &Mutex<Watcher>) {
        let order = v1::SwapOrder::decode(bytes).expect("an order");
        let service: ServiceId = order.service.parse().expect("a service");
        for revision in &order.revisions {
            let key = (order.service.clone(), revision.number);
            self.revisions.insert(key, revision.clone());
        }
        let order = order.order().expect("makes sense");
        if let Some(plan) = &order.plan {
            for side in plan
                .kind
                .incumbent()
                .into_iter()
                .chain(plan.kind.candidate())
            {
                let key = (service.to_string(), side.revision.get());
                if !self.revisions.contains_key(&key) {
                    let mut watcher = watcher.lock().expect("whole");
                    watcher.violations.push(format!(
                        "{host}: ordered {service}@{} without its revision",
                        side.revision
                    ));
                }
            }
        }
        let station = self.station(&service);
        let _ = station.berth.handle(clock::now(), Event::Ordered(order));
    }

    fn answer(&self, request: v1::Request) -> Option<answer::Piece> {
        let failed = |why: &str| Some(answer::Piece::Failed(why.to_owned()));
        let done = |result: Vec<u8>| Some(answer::Piece::Done(v1::Done { result }));
        match request.what? {
            request::What::Logs(logs) => {
                let line = v1::LogLine {
                    container: format!("{}-{}-1-1", logs.app, logs.service),
                    text: "hello from a stand-in".to_owned(),
                    ..v1::LogLine::default()
                };
                let chunk = v1::LogChunk { lines: vec![line] };
                Some(answer::Piece::Chunk(chunk.encode_to_vec()))
            }
            request::What::Question(bytes) => {
                match v1::Question::decode(bytes.as_slice())
                    .expect("a question")
                    .what?
                {
                    question::What::ResolveImage(v1::ResolveImage { image }) => {
                        if let Some(why) = &self.temper.registry_fails {
                            return failed(why);
                        }
                        let name = image.split(':').next().unwrap_or_default();
                        let digest: String =
                            image.bytes().map(|byte| format!("{byte:02x}")).collect();
                        let reference = format!("{name}@sha256:{digest}");
                        done(v1::Resolved { reference }.encode_to_vec())
                    }
                    question::What::TellRevision(which) => {
                        let key = (which.service, which.number);
                        match self.revisions.get(&key) {
                            Some(revision) => done(revision.encode_to_vec()),
                            None => failed("it is not here"),
                        }
                    }
                }
            }
        }
    }

    /// Everything that the berths want, done; what they then have to say.
    fn work(&mut self, host: &HostId, watcher: &Mutex<Watcher>) -> Vec<v1::Report> {
        let temper = self.temper.clone();
        let mut reports = Vec::new();
        for (service, station) in &mut self.berths {
            station.work(&temper);
            station.note(host, service, watcher);
            let now = clock::now();
            let report = station.berth.report(1, now);
            let mut unstamped: Report = report.clone();
            unstamped.stamp.at = cutover_core::Moment::ZERO;
            if let Some(swap) = &mut unstamped.swap {
                swap.waits = None;
            }
            let bytes = v1::BerthReport::from(&unstamped).encode_to_vec();
            if station.said.as_ref() != Some(&bytes) || now.since(station.said_at) >= REPORT_EVERY {
                station.said = Some(bytes);
                station.said_at = now;
                let mut wire = v1::BerthReport::from(&report);
                if report.swap.as_ref().is_some_and(|swap| swap.reverting) {
                    wire.last_log = "the last words of the candidate".to_owned();
                }
                wire.parked.extend(temper.boasts);
                reports.push(v1::Report {
                    report: wire.encode_to_vec(),
                    clock_nanos: now.as_nanos(),
                });
            }
        }
        reports
    }
}

impl Station {
    fn work(&mut self, temper: &Temper) {
        for _ in 0..32 {
            let now = clock::now();
            let _ = self.berth.handle(now, Event::Saw(self.seen()));
            let want = self.berth.want(now);
            let mut facts = Vec::new();
            for watch in &want.watch {
                let lives: Vec<(u32, Incarnation)> = self
                    .containers
                    .iter()
                    .filter(|((slot, revision, _), _)| {
                        *slot == watch.slot && *revision == watch.revision
                    })
                    .filter(|((_, _, replica), _)| *replica == watch.replica)
                    .filter_map(|((_, _, replica), state)| match state {
                        SeenState::Up(life) => Some((*replica, *life)),
                        SeenState::Created | SeenState::Down(_) => None,
                    })
                    .collect();
                for (replica, incarnation) in lives {
                    let healthy = !temper.sick.contains(&watch.revision.get());
                    facts.extend(self.berth.handle(
                        now,
                        Event::Sampled {
                            slot: watch.slot,
                            replica,
                            incarnation,
                            healthy,
                            evidence: if healthy {
                                String::new()
                            } else {
                                "it is sick".to_owned()
                            },
                        },
                    ));
                }
            }
            if let Some(slot) = want.count {
                facts.extend(self.berth.handle(
                    now,
                    Event::Counted {
                        slot,
                        open: u64::from(temper.keeps_open),
                    },
                ));
            }
            if let Some(route) = want.flip {
                facts.extend(self.berth.handle(now, Event::Flipped(route)));
            } else if let Some(action) = want.upkeep.first().copied().or(want.step) {
                let done = self.act(action, temper);
                let _ = self.berth.handle(clock::now(), Event::Saw(self.seen()));
                facts.extend(self.berth.handle(clock::now(), done));
            }
            facts.extend(self.berth.handle(clock::now(), Event::Ticked));
            if facts.is_empty() {
                return;
            }
        }
    }

    fn seen(&self) -> Seen {
        let replicas = self
            .containers
            .iter()
            .map(|((slot, revision, replica), state)| SeenReplica {
                slot: *slot,
                replica: *replica,
                revision: *revision,
                state: *state,
            });
        Seen {
            replicas: replicas.collect(),
            engine_restarted: false,
        }
    }

    fn replicas(&self, revision: RevisionNumber) -> u32 {
        let kind = self.berth.kind();
        let sides = kind.and_then(|kind| kind.candidate()).into_iter();
        let current = self.berth.current().map(|settled| &settled.side);
        sides
            .chain(current)
            .find(|side| side.revision == revision)
            .map_or(1, |side| side.replicas)
    }

    fn act(&mut self, action: Action, temper: &Temper) -> Event {
        let failed = |reason: &str| {
            let failure = Failure {
                transient: false,
                reason: reason.to_owned(),
            };
            Event::Failed(action, failure)
        };
        match action {
            Action::Fetch { .. } | Action::Smoke { .. } | Action::Prove(_) => {}
            Action::Make { slot, revision } => {
                for replica in 1..=self.replicas(revision) {
                    self.containers
                        .entry((slot, revision, replica))
                        .or_insert(SeenState::Created);
                }
            }
            Action::Start { slot, revision } => {
                if temper.cannot_start {
                    return failed("the container exits with code 1");
                }
                for replica in 1..=self.replicas(revision) {
                    let state = self
                        .containers
                        .entry((slot, revision, replica))
                        .or_insert(SeenState::Created);
                    if !matches!(state, SeenState::Up(_)) {
                        self.lives += 1;
                        *state = SeenState::Up(Incarnation(self.lives));
                    }
                }
            }
            Action::Halt {
                slot,
                revision,
                replica,
            } => {
                if let Some(state) = self.containers.get_mut(&(slot, revision, replica)) {
                    *state = SeenState::Down(0);
                }
            }
            Action::Stop { slot, revision } => {
                for ((at, of, _), state) in &mut self.containers {
                    if *at == slot && *of == revision {
                        *state = SeenState::Down(0);
                    }
                }
            }
            Action::Remove { slot, revision } => self
                .containers
                .retain(|(at, of, _), _| !(*at == slot && *of == revision)),
        }
        Event::Did(action)
    }

    fn note(&mut self, host: &HostId, service: &ServiceId, watcher: &Mutex<Watcher>) {
        let open = self.berth.open_plan().cloned();
        let mut watcher = watcher.lock().expect("whole");
        let key = (host.clone(), service.clone());
        let Some(plan) = open else {
            watcher.open.remove(&key);
            return;
        };
        watcher.open.insert(key);
        watcher.most = watcher.most.max(watcher.open.len());
        let generation = plan.generation;
        if self.noted == Some(generation) {
            return;
        }
        if self.noted.is_some_and(|before| before > generation) {
            watcher
                .violations
                .push(format!("{host}: {generation} after a higher one"));
        }
        self.noted = Some(generation);
        let used = (host.clone(), service.clone(), generation);
        let before = watcher.used.insert(used, plan.clone());
        if before.is_some_and(|before| before != plan) {
            watcher.violations.push(format!(
                "{host}: the generation {generation} was used for two swaps"
            ));
        }
    }
}

async fn turn(
    host: HostId,
    world: Arc<Mutex<World>>,
    watcher: Arc<Mutex<Watcher>>,
    link: Arc<Mutex<Vec<String>>>,
    mut heard: mpsc::Receiver<LinkEvent>,
    say: mpsc::Sender<v1::FromAgent>,
) {
    let mut tick = tokio::time::interval(TURN);
    loop {
        let mut out = Vec::new();
        tokio::select! {
            event = heard.recv() => match event {
                None => return,
                Some(LinkEvent::Connected(welcome)) => {
                    link.lock().expect("whole").push(format!("welcome, epoch {}", welcome.epoch));
                }
                Some(LinkEvent::Disconnected(reason)) => {
                    link.lock().expect("whole").push(format!("disconnected: {reason}"));
                }
                Some(LinkEvent::Renewed) => {}
                Some(LinkEvent::Said(what)) => match *what {
                    to_agent::What::Order(order) => {
                        world.lock().expect("whole").order(&host, &order.order, &watcher);
                    }
                    to_agent::What::Request(request) => {
                        let id = request.id;
                        let logs = matches!(request.what, Some(request::What::Logs(_)));
                        let piece = world.lock().expect("whole").answer(request);
                        out.push(answered(id, piece));
                        if logs {
                            out.push(answered(id, Some(answer::Piece::Done(v1::Done::default()))));
                        }
                    }
                    to_agent::What::Cancel(_) | to_agent::What::Refused(_) | to_agent::What::Welcome(_) => {}
                },
            },
            _ = tick.tick() => {}
        }
        let reports = world.lock().expect("whole").work(&host, &watcher);
        out.extend(reports.into_iter().map(from_agent::What::Report));
        for what in out {
            let message = v1::FromAgent { what: Some(what) };
            if say.send(message).await.is_err() {
                return;
            }
        }
    }
}

fn answered(request_id: u64, piece: Option<answer::Piece>) -> from_agent::What {
    from_agent::What::Answer(v1::Answer { request_id, piece })
}
