//! One cell: a swap is brought to a phase, a fault is done to the world, and what
//! comes of it is held against the table.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, Instant};

use cutover_core::swap::Phase;
use cutover_tests::load::Tally;
use cutover_tests::wait;

use crate::stand::{LEASE, PATIENCE, Said, Stand};
use crate::table::{End, Expected, Fault, Loss, strategy};

/// Requests that one container may be answering at once, under this load: two slow ones a second that take a second
/// each, and one of each other kind.
const IN_FLIGHT: u64 = 5;
/// systemd starts nginx again after this; long enough to be noticed.
const RESTART: Duration = Duration::from_secs(1);
/// A full disk stays full for so long.
const DISK_FULL: Duration = Duration::from_secs(3);

/// What was seen of one cell.
pub(crate) struct Seen {
    pub(crate) end: End,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) took: Duration,
}

/// Tries it; says what was not as it should be.
pub(crate) async fn try_it(
    stand: &mut Stand,
    phase: Phase,
    fault: Fault,
    expected: Expected,
) -> Result<Seen, String> {
    let began = Instant::now();
    let before = stand.status().ok_or("the agent does not answer")?["services"][0].clone();
    let incumbent = before["revision"].as_u64().unwrap_or(0);
    let old_version = stand.answers();
    let load = stand.load();
    let file = stand.next_version(strategy(phase));
    let new_version = format!("v{}", stand.versions);
    prepare(stand, phase, fault);
    let mut deploy = stand.begin(&["deploy", "-f", &file]);
    let abort = match phase.is_back() {
        true => Some(send_back(stand, phase).await?),
        false => None,
    };
    afflict(stand, phase, fault, incumbent).await?;
    stand.let_go(phase);
    let (code, said) = ended(&mut deploy)
        .await
        .map_err(|why| waiting(stand, &why))?;
    if let Some(mut abort) = abort {
        ended(&mut abort).await?;
    }
    stand.free_disk();
    settled(stand).await?;
    let tally = load.stop().await;
    let end = if stand.answers() == new_version {
        End::Forward
    } else {
        End::Back
    };
    let wrong = [
        how_it_ended(end, expected, code, phase.is_back(), &said),
        who_answers(&stand.answers(), end, &old_version, &new_version),
        lost_too_many(&tally, expected.loss),
        orphans(stand).await?,
        half_written(stand),
    ];
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    Ok(Seen {
        end,
        sent: tally.sent_in_all(),
        lost: tally.lost() + not_served(&tally),
        took: began.elapsed(),
    })
}

/// What must lie ready before the deploy begins.
fn prepare(stand: &Stand, phase: Phase, fault: Fault) {
    match fault {
        Fault::AgentDiesBeforeSave => stand.place(&format!("die-before-{}", phase.as_str())),
        Fault::AgentDiesAfterSave => stand.place(&format!("die-after-{}", phase.as_str())),
        Fault::CandidateDies
        | Fault::IncumbentDies
        | Fault::BothDie
        | Fault::EngineRestarts
        | Fault::ProxyDies
        | Fault::DiskFull
        | Fault::CoordinatorGone => stand.hold(phase),
    }
    if phase.is_back() {
        stand.hold(Phase::Serving);
    }
}

/// Somebody takes the rollout back while the candidate serves.
async fn send_back(stand: &Stand, phase: Phase) -> Result<Said, String> {
    stand.held(Phase::Serving).await?;
    let (_, listed, said) = stand.fleet.run(&["rollout", "ls", "--open", "-o", "json"]);
    let listed: serde_json::Value =
        serde_json::from_str(&listed).map_err(|error| format!("{error}: {listed}{said}"))?;
    let id = listed[0]["id"]
        .as_str()
        .ok_or_else(|| format!("no open rollout in {listed}"))?;
    let abort = stand.begin(&["rollout", "abort", id, "--reason", "a trial"]);
    if stand
        .host()
        .trial
        .join(format!("hold-{}", phase.as_str()))
        .exists()
    {
        stand.held(phase).await?;
    }
    stand.let_go(Phase::Serving);
    Ok(abort)
}

/// Does it, once the swap is where it shall be; undoes what an operating system would undo.
async fn afflict(
    stand: &mut Stand,
    phase: Phase,
    fault: Fault,
    incumbent: u64,
) -> Result<(), String> {
    if matches!(
        fault,
        Fault::AgentDiesBeforeSave | Fault::AgentDiesAfterSave
    ) {
        let agent = &mut stand.fleet.hosts[0].agent;
        let died = agent.wait_for_end(PATIENCE).await;
        died.map_err(|timed_out| format!("at that save: {timed_out}"))?;
        agent.start_again();
        return Ok(());
    }
    stand.held(phase).await?;
    let status = stand.status().ok_or("the agent does not answer")?;
    let candidate = status["services"][0]["candidate"].as_u64().unwrap_or(0);
    match fault {
        Fault::CandidateDies => stand.kill(candidate).await,
        Fault::IncumbentDies => stand.kill(incumbent).await,
        Fault::BothDie => {
            stand.kill(candidate).await?;
            stand.kill(incumbent).await
        }
        Fault::EngineRestarts => {
            stand.fleet.engine.restart().await;
            Ok(())
        }
        Fault::ProxyDies => {
            let nginx = &mut stand.fleet.hosts[0].nginx;
            nginx.kill_all().await;
            stand.let_go(phase);
            pause(RESTART).await;
            let nginx = &mut stand.fleet.hosts[0].nginx;
            nginx.start_again();
            nginx.wait_until_it_serves().await;
            Ok(())
        }
        Fault::DiskFull => {
            stand.fill_disk();
            stand.let_go(phase);
            pause(DISK_FULL).await;
            stand.free_disk();
            Ok(())
        }
        Fault::CoordinatorGone => {
            stand.fleet.coordinator.kill().await;
            pause(LEASE + RESTART).await;
            stand.fleet.coordinator.start_again();
            stand.fleet.wait_for_coordinator().await;
            Ok(())
        }
        Fault::AgentDiesBeforeSave | Fault::AgentDiesAfterSave => Ok(()),
    }
}

/// Time that must pass, because the fault lasts so long.
async fn pause(time: Duration) {
    let until = Instant::now() + time;
    wait::until(time * 2, "time to pass", async || Instant::now() >= until).await;
}

/// The exit code of a `cutover` in the background, and what it said.
async fn ended(Said(child): &mut Said) -> Result<(i32, String), String> {
    let waited = wait::try_until(PATIENCE, "cutover to end", async || {
        child.try_wait().ok().flatten()
    });
    let status = match waited.await {
        Ok(status) => status,
        Err(timed_out) => return Err(timed_out.to_string()),
    };
    let mut said = String::new();
    for pipe in [
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read>),
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read>),
    ] {
        let _ = pipe.map(|mut pipe| pipe.read_to_string(&mut said));
    }
    Ok((status.code().unwrap_or(-1), said))
}

/// No swap is open, and every replica that should run is proved.
async fn settled(stand: &Stand) -> Result<(), String> {
    let waited = wait::try_until(PATIENCE, "the host to settle", async || {
        let status = stand
            .status()
            .ok_or("the agent does not answer".to_owned())?;
        let service = &status["services"][0];
        let is = service["phase"] == ""
            && service["replicas_wanted"] == service["replicas_proved"]
            && status["connected"] == true;
        is.then_some(()).ok_or(status.to_string())
    });
    waited.await.map_err(|timed_out| timed_out.to_string())
}

fn waiting(stand: &Stand, why: &str) -> String {
    let (_, listed, _) = stand.fleet.run(&["rollout", "ls", "--open"]);
    let status = stand.status().unwrap_or_default();
    format!("{why}; {listed}; {status}")
}

fn how_it_ended(
    end: End,
    expected: Expected,
    code: i32,
    aborted: bool,
    said: &str,
) -> Option<String> {
    let owes = expected.may_owe && code == 9 && said.contains("owing");
    let right = match (end, aborted) {
        (End::Forward, _) if owes => true,
        (End::Forward, _) => code == 0,
        (End::Back, true) => code == 4,
        (End::Back, false) => code == 3,
    };
    if end != expected.end {
        let wanted = expected.end.as_str();
        return Some(format!("ended {}, not {wanted}: {said}", end.as_str()));
    }
    (!right).then(|| {
        format!(
            "ended {}, but the exit code is {code}: {said}",
            end.as_str()
        )
    })
}

fn who_answers(answers: &str, end: End, old: &str, new: &str) -> Option<String> {
    let wanted = match end {
        End::Forward => new,
        End::Back => old,
    };
    (answers != wanted).then(|| format!("{answers} answers, not {wanted}"))
}

/// Answers other than 2xx: nginx had nobody to ask.
fn not_served(tally: &Tally) -> u64 {
    tally.failed_in_all() - tally.lost()
}

fn lost_too_many(tally: &Tally, allowed: Loss) -> Option<String> {
    let most = match allowed {
        Loss::Nothing => 0,
        Loss::InFlight => IN_FLIGHT,
        Loss::Excused => return None,
    };
    let failed = tally.failed_in_all();
    (failed > most).then(|| {
        let first = tally.failures.first().map(ToString::to_string);
        format!("{failed} requests lost, {most} allowed: {tally}; {first:?}")
    })
}

/// Containers that nobody would ever remove, or that should not run.
async fn orphans(stand: &Stand) -> Result<Option<String>, String> {
    let status = stand.status().ok_or("the agent does not answer")?;
    let current = status["services"][0]["revision"].as_u64();
    let known = Stand::known(&status);
    let containers = stand.containers().await?;
    let strange: BTreeSet<String> = containers
        .iter()
        .filter(|one| one.runs != (Some(one.revision) == current) || !known.contains(&one.revision))
        .map(|one| format!("{one:?}"))
        .collect();
    Ok((!strange.is_empty())
        .then(|| format!("containers that should not be so: {strange:?}, beside {status}")))
}

fn half_written(stand: &Stand) -> Option<String> {
    let tested = stand.host().nginx.test();
    let said = String::from_utf8_lossy(&tested.stderr).into_owned();
    (!tested.status.success()).then_some(said)
}
