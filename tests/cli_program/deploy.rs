//! `deploy`, `rollback`, `rm`: from the files to the exit code.

use std::collections::VecDeque;

use cutover_proto::v1::{DeployResponse, IfBusy, OnAway, Outcome, ServiceDecision, Strategy};
use tonic::Status;

use super::peer::{Peer, Script, Step};
use super::run::{end, interrupt};
use super::views::{begun, closed, committed, decided, phase, rolled_back};

/// A script that decides on `r-1` and then watches so.
fn watched(steps: Vec<Step>) -> Script {
    Script {
        decisions: VecDeque::from([Ok(decided("r-1"))]),
        watches: VecDeque::from([steps]),
        ..Script::default()
    }
}

#[tokio::test]
async fn a_deploy_in_a_pipe_says_each_change_and_then_what_is_so() {
    let steps = vec![
        begun("r-1").into(),
        phase(begun("r-1"), 0, "proving").into(),
        phase(begun("r-1"), 0, "proving").into(),
        committed("r-1").into(),
    ];
    let peer = Peer::start(watched(steps)).await;
    let ran = peer
        .run(&[
            "deploy",
            "--reason",
            "ticket 7",
            "--if-busy",
            "wait",
            "--on-away",
            "refuse",
        ])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran
        .out
        .lines()
        .map(|line| line.split_once(' ').expect("a time").1)
        .collect();
    assert_eq!(
        lines,
        [
            "shop/web@2: rolling r-1, 2 hosts in 2 waves, from @1",
            "shop/web: wave 1 of 2",
            "shop/web h1: proving",
            "shop/web h1: committed",
            "shop/web h2: committed",
            "on 2 hosts after 41 s; 0 of 12,044 requests lost",
        ]
    );
    assert!(
        ran.out
            .contains("\nshop/web@2 on 2 hosts after 41 s; 0 of 12,044 requests lost\n"),
        "{ran:?}"
    );
    let asked = peer.script().deploys.remove(0);
    assert_eq!(
        (asked.app.as_str(), asked.reason.as_str()),
        ("shop", "ticket 7")
    );
    assert_eq!(
        (asked.if_busy(), asked.on_away()),
        (IfBusy::Wait, OnAway::Refuse)
    );
    assert_eq!(
        (asked.request_id.len(), asked.file.as_str()),
        (32, "compose.yaml")
    );
    assert_eq!(
        asked.services[0]
            .container
            .as_ref()
            .expect("it has one")
            .image,
        "registry.example.com/web:2"
    );
}

#[tokio::test]
async fn a_rollback_is_exit_code_3_with_the_last_lines_of_the_log() {
    let peer = Peer::start(watched(vec![
        begun("r-1").into(),
        rolled_back("r-1").into(),
    ]))
    .await;
    let ran = peer.run(&["deploy"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let said = "back on shop/web@1 after 41 s: h2: replica 1 of @2 exited with code 1\n  last lines on h2:\n    panic: no database\n";
    assert!(ran.out.ends_with(said), "{ran:?}");
}

#[tokio::test]
async fn every_end_of_a_rollout_has_its_exit_code() {
    let mut held = begun("r-1");
    held.stage = "holding".to_owned();
    held.why = "h1: both are sick".to_owned();
    let mut owing = committed("r-1");
    owing.hosts[1].owing = true;
    for (last, code) in [
        (closed(begun("r-1"), Outcome::Aborted, "back"), 4),
        (closed(begun("r-1"), Outcome::Mixed, "stuck"), 9),
        (owing, 9),
        (held, 8),
    ] {
        let peer = Peer::start(watched(vec![last.into()])).await;
        let ran = peer.run(&["deploy", "-o", "json"]).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.json()["exit"], code, "{ran:?}");
    }
}

#[tokio::test]
async fn json_is_one_object_on_standard_output_and_the_words_are_elsewhere() {
    let peer = Peer::start(watched(vec![begun("r-1").into(), committed("r-1").into()])).await;
    let ran = peer.run(&["deploy", "-o", "json"]).await;
    let value = ran.json();
    assert_eq!(
        (value["exit"].as_u64(), value["result"].as_str()),
        (Some(0), Some("done"))
    );
    assert_eq!(value["release"], "rel-1");
    assert_eq!(value["services"][0]["rollout"], "r-1");
    assert_eq!(value["rollouts"][0]["outcome"], "committed");
    assert_eq!(value["rollouts"][0]["hosts"][0]["traffic"]["lost"], 0);
    assert!(ran.err.contains("shop/web h1: committed"), "{ran:?}");
}

#[tokio::test]
async fn what_is_there_already_needs_no_rollout() {
    let there = ServiceDecision {
        service: "shop/web".to_owned(),
        already_there: true,
        to_revision: 2,
        hosts: vec!["h1".to_owned()],
        ..ServiceDecision::default()
    };
    let answer = DeployResponse {
        services: vec![there],
        warnings: vec!["web has no check".to_owned()],
        ..DeployResponse::default()
    };
    let peer = Peer::start(Script {
        decisions: VecDeque::from([Ok(answer)]),
        ..Script::default()
    })
    .await;
    let ran = peer.run(&["deploy"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "shop/web@2 runs on 1 host already\n")
    );
    assert!(ran.err.contains("warning: web has no check"), "{ran:?}");
}

#[tokio::test]
async fn detached_says_how_to_watch_and_does_not_wait() {
    let peer = Peer::start(watched(Vec::new())).await;
    let ran = peer.run(&["deploy", "--detach"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "shop/web@2 is on its way by r-1\n")
    );
    assert!(ran.err.contains("cutover rollout watch r-1"), "{ran:?}");
}

#[tokio::test]
async fn the_time_over_is_exit_code_6_and_the_rollout_goes_on() {
    let peer = Peer::start(watched(vec![begun("r-1").into(), Step::Wait])).await;
    let ran = peer.run(&["deploy", "--timeout", "3s"]).await;
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.out.contains("r-1 goes on without us"), "{ran:?}");
    assert!(ran.err.contains("cutover rollout watch r-1"), "{ran:?}");
}

#[tokio::test]
async fn ctrl_c_detaches_with_exit_code_130() {
    let peer = Peer::start(watched(vec![begun("r-1").into(), Step::Wait])).await;
    let child = peer.command(&["deploy"]).spawn().expect("it starts");
    peer.reached.notified().await;
    interrupt(&child);
    let ran = end(child).await;
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.err.contains("cutover rollout watch r-1"), "{ran:?}");
    assert!(
        !peer
            .script()
            .asked
            .iter()
            .any(|asked| asked.starts_with("abort"))
    );
}

#[tokio::test]
async fn ctrl_c_aborts_when_that_was_said_and_waits_until_every_host_is_back() {
    let mut script = watched(vec![
        begun("r-1").into(),
        Step::Wait,
        closed(begun("r-1"), Outcome::Aborted, "back").into(),
    ]);
    script.aborted = begun("r-1");
    script.aborted.stage = "back".to_owned();
    let peer = Peer::start(script).await;
    let child = peer
        .command(&["deploy", "--on-interrupt", "abort"])
        .spawn()
        .expect("it starts");
    peer.reached.notified().await;
    interrupt(&child);
    peer.go();
    let ran = end(child).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        peer.script()
            .asked
            .contains(&"abort r-1 because \"interrupted\"".to_owned())
    );
}

#[tokio::test]
async fn a_strategy_is_another_than_the_files() {
    let peer = Peer::start(watched(vec![committed("r-1").into()])).await;
    let ran = peer
        .run(&[
            "deploy",
            "--strategy",
            "blue-green",
            "--image",
            "web=registry.example.com/web:3",
        ])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let asked = peer.script().deploys.remove(0);
    let policy = asked.services[0].policy.as_ref().expect("it has one");
    assert_eq!(
        (policy.strategy(), policy.commit_at_end, policy.stop_first),
        (Strategy::BlueGreen, true, false)
    );
    assert_eq!(
        asked.services[0]
            .container
            .as_ref()
            .expect("it has one")
            .image,
        "registry.example.com/web:3"
    );
}

#[tokio::test]
async fn a_rollback_of_an_open_rollout_is_done_when_it_is_back() {
    let mut open = closed(begun("r-1"), Outcome::Aborted, "back");
    open.why = "rollback asked".to_owned();
    let mut script = watched(vec![open.into()]);
    let mut aborting = decided("r-1");
    aborting.services[0].to_revision = 1;
    script.decisions = VecDeque::from([Ok(aborting)]);
    let peer = Peer::start(script).await;
    let ran = peer
        .run(&["rollback", "shop/web", "--reason", "sick"])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        peer.script()
            .asked
            .contains(&"rollback shop/web to 0 because \"sick\"".to_owned())
    );
    let mut new = rolled_back("r-1");
    new.kind = "rollback".to_owned();
    let peer = Peer::start(watched(vec![new.into()])).await;
    assert_eq!(
        peer.run(&["rollback", "shop/web", "--to", "1"]).await.code,
        3
    );
}

#[tokio::test]
async fn everything_of_an_app_is_removed_only_when_that_is_said() {
    let mut gone = committed("r-1");
    gone.to_revision = 0;
    let peer = Peer::start(watched(vec![gone.into()])).await;
    let ran = peer.run(&["rm"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = peer.run(&["rm", "--all"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("shop/web is gone from 2 hosts after 41 s"),
        "{ran:?}"
    );
    assert!(peer.script().asked.contains(&"remove shop".to_owned()));
}

#[tokio::test]
async fn a_refusal_is_exit_code_7_in_the_coordinators_words() {
    let busy = Status::failed_precondition("shop/web is busy: r-9 is open");
    let peer = Peer::start(Script {
        decisions: VecDeque::from([Err(busy)]),
        ..Script::default()
    })
    .await;
    let ran = peer.run(&["deploy", "-o", "json"]).await;
    assert_eq!(ran.code, 7, "{ran:?}");
    let error = &ran.json()["error"];
    assert_eq!(
        (error["code"].as_str(), error["exit"].as_u64()),
        (Some("refused"), Some(7))
    );
    assert_eq!(
        error["message"],
        "deploying shop: shop/web is busy: r-9 is open"
    );
}
