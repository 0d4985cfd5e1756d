//! The coordinator dies at every write of a rollout over three real hosts, again while it picks up, and whoever
//! watches, and whoever sends requests, need not care.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use cutover_tests::fleet::Fleet;
use cutover_tests::load::{Load, Running};
use cutover_tests::{image, root_or_skip, wait};
use nix::sys::signal::Signal;

use crate::compose::web;
use crate::look::{SOON, Swap, assert_all_answer, json, status, swaps};

/// Hosts in change at once, by the Compose file.
const AT_ONCE: usize = 2;
/// Requests a second at each of three doors.
const RATE: f64 = 17.0;
/// Of one rollout, deaths included.
const ROLLOUT: Duration = Duration::from_secs(60);
/// The exit code of a deploy that found nobody: nothing was accepted.
const UNREACHABLE: i32 = 5;
/// A rollout has fewer writes than this.
const MOST_WRITES: u64 = 100;

/// Starts it again, to die at this write (empty: to live).
fn revive(fleet: &mut Fleet, die_at: &str) {
    fleet
        .coordinator
        .change(|recipe| recipe.env("CUTOVER_TEST_DIE_AT", die_at));
    fleet.coordinator.start_again();
}

/// Ends the life that is (it may just have died) and begins another one.
async fn restart(fleet: &mut Fleet, die_at: &str) {
    fleet.coordinator.signal(Signal::SIGTERM);
    let end = fleet.coordinator.wait_for_end(SOON).await;
    end.expect("it ends when asked to");
    revive(fleet, die_at);
}

/// Whether the coordinator answers, or has died on the way there.
async fn answers_or_died(fleet: &mut Fleet) {
    wait::until(SOON, "the coordinator to answer, or to die", async || {
        let asked = fleet.cutover(&["status"]).output();
        asked.is_ok_and(|output| output.status.success()) || fleet.coordinator.ended().is_some()
    })
    .await;
}

/// Deploys while each life of the coordinator dies at its write; gives how often it died, and the exit code.
async fn deploy_through(fleet: &mut Fleet, file: &str, lives: &[String]) -> (usize, i32, String) {
    let tries = 0..=lives.len();
    let mut lives = lives.iter();
    restart(fleet, lives.next().map_or("", String::as_str)).await;
    let mut deaths = 0;
    let mut bury = |fleet: &mut Fleet| {
        if let Some(status) = fleet.coordinator.ended() {
            assert_eq!(status.signal(), Some(6), "{}", fleet.coordinator.tail());
            deaths += 1;
            revive(fleet, lives.next().map_or("", String::as_str));
        }
    };
    let mut last = (UNREACHABLE, String::new());
    for _ in tries {
        answers_or_died(fleet).await;
        // One that dies before it has answered anybody is started again first, as systemd does.
        bury(fleet);
        let deploy = fleet.run_beside(&["deploy", "-f", file]);
        wait::until(ROLLOUT, "the deploy to end", async || {
            bury(fleet);
            deploy.is_finished()
        })
        .await;
        let (code, out, err) = deploy.await.expect("it ran");
        last = (code, format!("{out}{err}"));
        // Nothing was accepted, it says: then it may be asked for again, and nothing of it is in the way.
        if code != UNREACHABLE {
            break;
        }
    }
    // A death after the last answer.
    bury(fleet);
    (deaths, last.0, last.1)
}

/// The most swaps that were open in one moment.
fn most_at_once(hosts: &[Vec<Swap>]) -> usize {
    let all: Vec<&Swap> = hosts.iter().flatten().collect();
    let open_at = |moment: &String| {
        all.iter()
            .filter(|swap| swap.from <= *moment)
            .filter(|swap| swap.until.as_ref().is_none_or(|until| until > moment))
            .count()
    };
    all.iter()
        .map(|swap| open_at(&swap.from))
        .max()
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p4_p6_killed_at_every_write_of_a_rollout_nobody_who_watches_or_asks_is_let_down() {
    if !root_or_skip(
        "p3_p4_p6_killed_at_every_write_of_a_rollout_nobody_who_watches_or_asks_is_let_down",
    ) {
        return;
    }
    let mut fleet = Fleet::start(3).await;
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    ];
    let compose = |fleet: &Fleet, n: u64| {
        let text = web(
            &images[usize::from(n % 2 == 1)],
            "drain: 500ms\nobserve: 300ms\n",
            &format!("      update_config: {{parallelism: {AT_ONCE}}}\n"),
        );
        // So many starts on one machine: some may be slow, and none is to be judged for it.
        let text = text.replace("within: 15s", "within: 60s");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &compose(&fleet, 0)]);
    let loads: Vec<Running> = fleet
        .hosts
        .iter()
        .map(|host| {
            Load::new(host.door(), "shop.example")
                .keep_alive(4, RATE)
                .start()
        })
        .collect();
    let (began, mut deaths, mut rollouts) = (Instant::now(), 0, 0);
    for write in 1..MOST_WRITES {
        // Stored and not said, or not stored: the first life dies before this write, the second one soon after a
        // write of its own, at another place each time.
        let lives = [
            format!("before:{write}"),
            format!("after:{}", 1 + write % 7),
        ];
        let file = compose(&fleet, write);
        let (died, code, said) = deploy_through(&mut fleet, &file, &lives).await;
        assert_eq!(code, 0, "{lives:?}: {said}");
        assert_all_answer(&fleet, if write % 2 == 1 { "2" } else { "1" });
        for host in &fleet.hosts {
            let status = status(host).expect("the agent lives");
            assert_eq!(status["phase"], "", "{lives:?}: {status}");
        }
        (deaths, rollouts) = (deaths + died, rollouts + 1);
        if died == 0 {
            break; // a rollout has fewer writes
        }
    }
    println!(
        "{deaths} deaths in {rollouts} rollouts, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    assert!(
        deaths > 15,
        "only {deaths}: is the coordinator a debug build?"
    );
    for (host, load) in fleet.hosts.iter().zip(loads) {
        let tally = load.stop().await;
        println!("{}: {tally}", host.name);
        tally.assert_nothing_failed();
    }
    restart(&mut fleet, "").await;
    fleet.wait_for_coordinator().await;
    let listed = json(&fleet.ok(&["rollout", "ls", "-o", "json"]));
    for rollout in listed.as_array().expect("a list") {
        assert_eq!(rollout["outcome"], "committed", "{rollout}");
    }
    let swaps: Vec<Vec<Swap>> = fleet.hosts.iter().map(swaps).collect();
    for (host, swaps) in fleet.hosts.iter().zip(&swaps) {
        for pair in swaps.windows(2) {
            assert!(
                pair[0].generation < pair[1].generation,
                "{} went back: {pair:?}",
                host.name
            );
        }
    }
    assert_eq!(most_at_once(&swaps), AT_ONCE, "hosts in change at once");
}
