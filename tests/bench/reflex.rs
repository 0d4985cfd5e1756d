//! Figure: how soon traffic is back when the new version dies while it serves.
//!
//! From the moment before the engine is asked to kill it to the moment when the route's link is seen to name the
//! incumbent's slot again (looked at each millisecond), and to the first answer by the old version at a client that
//! sends 200 requests a second.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
};
use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::{image, wait};
use futures::StreamExt;

use crate::Rounds;
use crate::agent_log::{self, AgentLog};
use crate::compose;
use crate::spread::Spread;
use crate::table::{Limit, Row};

/// In milliseconds.
const LIMIT: f64 = 60.0;
/// Between two looks at the route.
const LOOK: Duration = Duration::from_millis(1);
/// For any step of a round.
const LONG: Duration = Duration::from_secs(30);
/// Of the client.
const RATE: f64 = 200.0;

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let fleet = Fleet::start(1).await;
    let (old, new) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file = |image: &str, observe: &str| {
        let text = compose::web(image, &format!("drain: 1s\nobserve: {observe}\n"), "");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&old, "0s")]);
    let route = fleet.hosts[0].state.join("routes/shop/web/current");
    let (mut seen, mut after_end, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    let (mut died, mut told) = (Vec::new(), Vec::new());
    let (mut sent, mut lost) = (0, 0);
    for _ in 0..rounds.of(20, 4) {
        let one = round(&fleet, &file(&new, "25s"), &route).await;
        seen.push(one.route);
        after_end.push(one.after_end);
        answered.push(one.answer);
        died.push(one.died);
        told.push(one.told);
        sent += one.sent;
        lost += one.lost;
    }
    let (died, told) = (Spread::milliseconds(&died), Spread::milliseconds(&told));
    let notes = vec![format!(
        "the engine's event of the death is of {:.0} ms after the kill (median; worst {:.0}), the agent's verdict of {:.0} \
         (worst {:.0}); clients sent {sent} requests in these rounds and lost {lost}",
        died.median(),
        died.worst(),
        told.median(),
        told.worst()
    )];
    vec![
        Row {
            figure: "reflex",
            what: "candidate killed → route on the incumbent",
            unit: "ms",
            measured: Spread::milliseconds(&seen),
            beside: None,
            limit: Limit::AtMost(LIMIT),
            notes,
        },
        Row {
            figure: "reflex",
            what: "candidate's process gone → route on the incumbent",
            unit: "ms",
            measured: Spread::milliseconds(&after_end),
            beside: None,
            limit: Limit::AtMost(LIMIT),
            notes: Vec::new(),
        },
        Row {
            figure: "reflex",
            what: "candidate killed → first answer by the old version",
            unit: "ms",
            measured: Spread::milliseconds(&answered),
            beside: None,
            limit: Limit::AtMost(LIMIT),
            notes: Vec::new(),
        },
    ]
}

struct Round {
    route: Duration,
    /// Since the process was over, which the engine needed time for.
    after_end: Duration,
    answer: Duration,
    died: Duration,
    told: Duration,
    sent: u64,
    lost: u64,
}

async fn round(fleet: &Fleet, file: &str, route: &PathBuf) -> Round {
    let home = std::fs::read_link(route).unwrap();
    let log = AgentLog::from_now(fleet, &fleet.hosts[0]);
    let mut deploy = fleet
        .cutover(&["deploy", "-f", file])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait::until(LONG, "the candidate to serve", async || {
        log.when("Confirmed").is_some()
    })
    .await;
    let load = Load::new(fleet.hosts[0].door(), "shop.example")
        .keep_alive(16, RATE)
        .start();
    wait::until(LONG, "answers by the new version", async || {
        load.so_far().answered_by("2") > 20
    })
    .await;

    let docker = fleet.engine.client();
    let candidate = candidate(fleet).await;
    let about = docker
        .inspect_container(&candidate, None::<InspectContainerOptions>)
        .await
        .unwrap();
    let process = about.state.and_then(|state| state.pid).unwrap();
    let mut deaths = docker.events(Some(
        EventsOptionsBuilder::default()
            .since(&agent_log::now().as_secs().to_string())
            .filters(&[("event".to_owned(), vec!["die".to_owned()])].into())
            .build(),
    ));
    let kill = KillContainerOptionsBuilder::default()
        .signal("SIGKILL")
        .build();
    let (begun, begun_wall) = (Instant::now(), agent_log::now());
    let killing =
        tokio::spawn(async move { docker.kill_container(&candidate, Some(kill)).await.unwrap() });
    let mut looks = tokio::time::interval(LOOK);
    let mut ended = None;
    let back = loop {
        looks.tick().await;
        if ended.is_none() && is_over(process) {
            ended = Some(begun.elapsed());
        }
        if std::fs::read_link(route).is_ok_and(|now| now == home) {
            break begun.elapsed();
        }
        assert!(
            begun.elapsed() < LONG,
            "the route is not back after {LONG:?}"
        );
    };
    killing.await.unwrap();
    wait::until(LONG, "answers by the old version", async || {
        load.so_far().answered_by("1") > 20
    })
    .await;
    let tally = load.stop().await;
    let first = tally.started + tally.versions["1"].first;
    let deployed = tokio::task::spawn_blocking(move || deploy.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(deployed.code(), Some(3), "the deploy ended otherwise");
    let told = log.when("Sickened").unwrap().saturating_sub(begun_wall);
    let died = loop {
        let death = deaths.next().await.unwrap().unwrap();
        let at = Duration::from_nanos(death.time_nano.unwrap_or(0).cast_unsigned());
        if at >= begun_wall {
            break at.saturating_sub(begun_wall);
        }
    };
    Round {
        route: back,
        // Seen in the same look as the route, or before.
        after_end: back.saturating_sub(ended.unwrap_or(back)),
        answer: first.saturating_duration_since(begun),
        died,
        told,
        sent: tally.sent_in_all(),
        lost: tally.failed_in_all(),
    }
}

/// Whether a process has ended: nobody may have waited for it yet.
fn is_over(process: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// The running container of the newest revision.
async fn candidate(fleet: &Fleet) -> String {
    let options = None::<bollard::query_parameters::ListContainersOptions>;
    let running = fleet
        .engine
        .client()
        .list_containers(options)
        .await
        .unwrap();
    // Both may have been created in the same second, and that is all that the engine tells of the time.
    let revision = |container: &ContainerSummary| -> Option<u64> {
        let labels = container.labels.as_ref()?;
        labels.get("dev.cutover.revision")?.parse().ok()
    };
    let newest = running.into_iter().max_by_key(revision);
    let newest = newest.and_then(|container| container.id);
    newest.expect("a candidate runs")
}
