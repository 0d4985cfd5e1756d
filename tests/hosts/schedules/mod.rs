//! Random faults at random moments of two rollouts, then a look from outside: did every promise hold?
//!
//! A schedule is drawn from its seed alone, printed before it is run, and run again by that seed. Several fleets play side
//! by side. What a fault excuses is a window of time; anything else that is lost fails the schedule.

mod draw;
mod excuse;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cutover_tests::bed::{Bed, Beside, Cut, Machine};
use cutover_tests::wait;
use futures::FutureExt as _;
use serde_json::Value;

use super::fleet::{Fleet, PATIENCE, Watch};
use draw::{Act, Fault, LATEST, LONGEST, Strike, schedule, words};
use excuse::{Done, UNDER_WAY, unexcused};
use turns::Turns;

/// Of hosts in a fleet.
const HOSTS: usize = 3;

/// What to play.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How many schedules.
    pub(crate) schedules: u64,
    /// The first one's seed.
    pub(crate) seed: u64,
    /// How many fleets play side by side.
    pub(crate) fleets: NonZeroUsize,
    /// Where the packages are.
    pub(crate) debs: PathBuf,
    /// What takes long to make is kept there.
    pub(crate) cache: PathBuf,
}

/// Plays them; says whether all held.
pub(crate) fn run(asked: &Asked) -> bool {
    let began = Instant::now();
    let seeds = Mutex::new(asked.seed..asked.seed + asked.schedules);
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let score = Mutex::new(Score::default());
    // Machines are waited for while a thread does nothing else: each fleet has one of its own.
    thread::scope(|scope| {
        for _ in 0..asked.fleets.get() {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made");
                runtime.block_on(fleet_by_fleet(asked, next, &score));
            });
        }
    });
    let score = score.into_inner().unwrap_or_else(PoisonError::into_inner);
    score.print(began.elapsed(), asked.fleets.get());
    score.wrong.is_empty()
}

/// Plays one schedule after the other; one that goes wrong costs the fleet, and the next one gets another.
async fn fleet_by_fleet(
    asked: &Asked,
    mut next: impl FnMut() -> Option<u64>,
    score: &Mutex<Score>,
) {
    let bed = Bed::make(&asked.cache).await;
    let mut fleet = None;
    while let Some(seed) = next() {
        let mut on = match fleet.take() {
            Some(fleet) => fleet,
            None => made(&bed, &asked.debs).await,
        };
        let acts = schedule(seed);
        let played = AssertUnwindSafe(play(&mut on, &acts)).catch_unwind().await;
        let played = played.map_err(|panic| {
            let why = super::scenario::words(&*panic);
            format!(
                "{why}\n  what they said last: {}",
                on.last_words(&seed.to_string()).display()
            )
        });
        println!("seed {seed}: {}", words(&acts));
        match &played {
            Ok(played) => println!("  {played}"),
            Err(why) => println!("  WRONG: {why}"),
        }
        if played.is_ok() {
            fleet = Some(on);
        }
        let mut score = score.lock().unwrap_or_else(PoisonError::into_inner);
        score.add(seed, &acts, played);
    }
}

async fn made(bed: &Arc<Bed>, debs: &Path) -> Fleet {
    let mut fleet = Fleet::boot(bed, debs).await;
    fleet.install().await;
    fleet
}

/// What came of all of them.
#[derive(Debug, Default)]
struct Score {
    ran: u32,
    sent: u64,
    lost: u64,
    /// How often each fault was done.
    faults: BTreeMap<Fault, u32>,
    codes: BTreeMap<i32, u32>,
    wrong: Vec<(u64, String)>,
}

impl Score {
    fn add(&mut self, seed: u64, acts: &[Act], played: Result<Played, String>) {
        self.ran += 1;
        for strike in acts.iter().flat_map(|act| &act.strikes) {
            *self.faults.entry(strike.fault).or_default() += 1;
        }
        match played {
            Ok(played) => {
                self.sent += played.sent;
                self.lost += played.lost;
                for code in played.codes {
                    *self.codes.entry(code).or_default() += 1;
                }
            }
            Err(why) => self.wrong.push((seed, why)),
        }
    }

    fn print(&self, took: Duration, fleets: usize) {
        println!(
            "\n{} schedules on {fleets} fleets in {} s; exit codes {:?}; {} of {} requests lost in those that held, all \
             excused; {} wrong\nfaults: {:?}",
            self.ran,
            took.as_secs(),
            self.codes,
            self.lost,
            self.sent,
            self.wrong.len(),
            self.faults
        );
        for (seed, why) in &self.wrong {
            println!(
                "WRONG  seed {seed}: {}",
                why.lines().next().unwrap_or_default()
            );
        }
    }
}

/// What came of a schedule in which everything held.
#[derive(Debug)]
struct Played {
    codes: Vec<i32>,
    sent: u64,
    lost: u64,
    took: Duration,
}

impl fmt::Display for Played {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?}, {} of {} lost, {:.1} s",
            self.codes,
            self.lost,
            self.sent,
            self.took.as_secs_f64()
        )
    }
}

async fn play(fleet: &mut Fleet, acts: &[Act]) -> Played {
    let began = Instant::now();
    let before: Vec<_> = (0..HOSTS)
        .map(|host| generations(&fleet.hosts[host]))
        .collect();
    let watch = fleet.under_load();
    let (mut codes, mut done) = (Vec::new(), Vec::new());
    let mut turns = Turns::of(fleet.version());
    for act in acts {
        codes.push(perform(fleet, act, &mut done, &mut turns).await);
    }
    for (host, before) in before.iter().enumerate() {
        sound(&fleet.hosts[host], before);
    }
    let (sent, lost) = count(watch, acts, &done, &turns).await;
    Played {
        codes,
        sent,
        lost,
        took: began.elapsed(),
    }
}

/// One rollout with its faults; gives the exit code, which was held against every host (P12).
async fn perform(fleet: &mut Fleet, act: &Act, done: &mut Vec<Done>, turns: &mut Turns) -> i32 {
    let file = fleet.next(act.release);
    // What never is ready never gets a request.
    if act.release.tag != "never-ready" {
        turns.begins(fleet.version());
    }
    let deploy = fleet
        .coordinator
        .beside(&format!("cutover deploy -f {file}"));
    let began = Instant::now();
    let mut coming = act.strikes.iter().peekable();
    let mut lasting: Vec<Lasting> = Vec::new();
    loop {
        // What comes next: another fault, or the end of one.
        let strike = coming.peek().map(|strike| began + strike.after);
        let ends = (0..lasting.len()).min_by_key(|place| lasting[*place].until);
        match (strike, ends) {
            (Some(at), ends) if ends.is_none_or(|place| lasting[place].until > at) => {
                reach(at).await;
                if let Some(strike) = coming.next() {
                    let (began, undo) = (Instant::now(), do_it(fleet, *strike).await);
                    match undo {
                        Some(undo) => lasting.push(Lasting {
                            until: Instant::now() + strike.lasts,
                            done: began,
                            strike: *strike,
                            undo,
                        }),
                        None => done.push(strike.done(began)),
                    }
                }
            }
            (_, Some(place)) => {
                let over = lasting.swap_remove(place);
                reach(over.until).await;
                match over.undo {
                    Undo::Cut(cut) => drop(cut),
                    Undo::Thaw => {
                        fleet.hosts[over.strike.host].sh("systemctl kill -s CONT cutover-agent");
                    }
                }
                done.push(over.strike.done(over.done));
            }
            (_, None) => break,
        }
    }
    let code = settle(fleet, deploy).await;
    turns.ends(&fleet.version());
    code
}

impl Strike {
    /// It was done, and has just ended.
    fn done(self, began: Instant) -> Done {
        Done {
            fault: self.fault,
            host: self.host,
            began,
            ended: Instant::now(),
        }
    }
}

async fn reach(at: Instant) {
    wait::until(LATEST + LONGEST, "a moment of the schedule", async || {
        Instant::now() >= at
    })
    .await;
}

/// A fault that goes on until something is done about it.
struct Lasting {
    until: Instant,
    done: Instant,
    strike: Strike,
    undo: Undo,
}

enum Undo {
    Cut(Cut),
    Thaw,
}

async fn do_it(fleet: &Fleet, strike: Strike) -> Option<Undo> {
    let (host, coordinator) = (&fleet.hosts[strike.host], &fleet.coordinator);
    match strike.fault {
        Fault::AgentKilled => host.sh("systemctl kill -s KILL cutover-agent"),
        Fault::AgentFrozen => {
            host.sh("systemctl kill -s STOP cutover-agent");
            return Some(Undo::Thaw);
        }
        Fault::CoordinatorKilled => coordinator.sh("systemctl kill -s KILL cutover-coordinator"),
        Fault::CoordinatorRestarted => coordinator.sh("systemctl restart cutover-coordinator"),
        // A unit that was given up is another scenario's.
        Fault::DockerdKilled => {
            host.sh("systemctl reset-failed docker; systemctl kill -s KILL --kill-who=main docker")
        }
        Fault::NginxKilled => host.sh("systemctl kill -s KILL nginx"),
        Fault::ContainerKilled => {
            host.sh("docker kill $(docker ps -q | shuf -n 1 --random-source=/etc/hostname)")
        }
        Fault::Unheard => return Some(Undo::Cut(fleet.bed.cut(host, coordinator))),
        Fault::Deaf => return Some(Undo::Cut(fleet.bed.cut(coordinator, host))),
        Fault::PowerCut => {
            host.cut_power();
            host.start().await;
            return None;
        }
    };
    None
}

/// Waits until nothing moves any more, and gives how the rollout ended.
async fn settle(fleet: &mut Fleet, deploy: Beside) -> i32 {
    let said = deploy.end().await;
    // 5: its coordinator died under it before it answered; the rollout may be there all the same.
    assert!(
        matches!(said.code, 0 | 3 | 5 | 7 | 9),
        "the deploy ended with {}\n{}\n{}",
        said.code,
        said.out,
        said.err
    );
    wait::until(PATIENCE, "no rollout to be open", async || {
        let said = fleet.try_cutover("rollout ls --open -o json");
        if said.code == 0 && said.out.trim() == "[]" {
            Ok(())
        } else {
            Err(said.out)
        }
    })
    .await;
    let began = match said.code {
        0 | 9 => true,
        3 | 7 => false,
        _ => {
            let newest: Value = fleet.json("rollout ls --limit 1");
            let file = format!("{}.yaml", fleet.version());
            let ours = fleet.json("history shop/web")[0]["file"]
                .to_string()
                .contains(&file);
            ours && newest[0]["outcome"] == "committed"
        }
    };
    if !began {
        fleet.was_taken_back();
    }
    fleet.is_well().await;
    said.code
}

/// Generations of all swaps that a host's agent has begun, in their order.
fn generations(host: &Machine) -> Vec<String> {
    let log = host
        .sh("journalctl -u cutover-agent -o cat --no-pager | grep '\"a swap began\"'")
        .out;
    let of = |line: &str| {
        let said: Value = serde_json::from_str(line).ok()?;
        Some(said["generation"].as_str()?.to_owned())
    };
    log.lines().filter_map(of).collect()
}

/// P4: generations only grow. P1, P5: the route points at containers that run; nothing half-written, no orphan.
fn sound(host: &Machine, before: &[String]) {
    let number = |generation: &str| -> (u64, u64) {
        let (epoch, number) = generation.split_once('.').unwrap_or(("0", "0"));
        (epoch.parse().unwrap_or(0), number.parse().unwrap_or(0))
    };
    let now = generations(host);
    let new = now.get(before.len()..).unwrap_or(&now);
    let grow = new.windows(2).all(|two| number(&two[0]) < number(&two[1]));
    assert!(grow, "{}: generations do not grow: {new:?}", host.name());
    host.ok("test ! -L /var/lib/cutover-agent/nginx/untested && nginx -t -q");
    let running = host.ok("docker ps --filter label=dev.cutover.host --format '{{.Names}}'");
    assert_eq!(running.lines().count(), 1, "{}: {running}", host.name());
    // What an engine forgot is in no list of its own: the kernel is asked.
    let unknown = host.ok(UNKNOWN);
    assert_eq!(
        unknown,
        "",
        "{} runs what its engine does not know of",
        host.name()
    );
}

/// Containers with a process, that are not among those that the engine says run.
const UNKNOWN: &str = "docker ps -q --no-trunc | sort > /run/known; cat /proc/[0-9]*/cgroup 2>/dev/null | \
                       grep -oE 'docker[-/][0-9a-f]{64}' | grep -oE '[0-9a-f]{64}' | sort -u | comm -13 /run/known -";

/// What was sent and lost; what nothing excuses fails.
async fn count(watch: Watch, acts: &[Act], done: &[Done], turns: &Turns) -> (u64, u64) {
    let deaths = acts.iter().filter(|act| act.release.tag == "dies").count();
    let (mut sent, mut lost) = (0, 0);
    for (host, (name, tally)) in watch.each().await.into_iter().enumerate() {
        assert_eq!(tally.unsent, 0, "{name} was far behind: {tally}");
        for (version, seen) in &tally.versions {
            assert!(
                turns.may_answer(version, tally.started + seen.last),
                "{name}: {version} answered out of its turn: {tally}"
            );
        }
        let bare = unexcused(&tally.failures, tally.started, host, done);
        if bare.len() > deaths * UNDER_WAY {
            let first: Vec<String> = bare.iter().take(10).map(ToString::to_string).collect();
            let struck: Vec<String> = done
                .iter()
                .map(|one| {
                    let since = |at: Instant| at.duration_since(tally.started).as_secs_f64();
                    let (began, ended) = (since(one.began), since(one.ended));
                    format!("{:?} h{} {began:.1}-{ended:.1} s", one.fault, one.host + 1)
                })
                .collect();
            panic!(
                "{name}: {} of {} losses are excused by nothing\n{}\n  {tally}\n  {}",
                bare.len(),
                tally.failures.len(),
                first.join("\n"),
                struck.join(", ")
            );
        }
        sent += tally.sent_in_all();
        lost += tally.failed_in_all();
    }
    (sent, lost)
}
