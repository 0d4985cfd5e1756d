//! Lost answers and lost connections: said, made again, and never exit code 0 by accident.

use std::collections::VecDeque;

use super::peer::{Peer, Script, Step};
use super::views::{begun, committed, decided, phase, rolled_back};

fn script(watches: Vec<Vec<Step>>) -> Script {
    Script {
        decisions: VecDeque::from([Ok(decided("r-1"))]),
        watches: watches.into(),
        ..Script::default()
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_request_id() {
    let mut script = script(vec![vec![committed("r-1").into()]]);
    script.lose = 1;
    let peer = Peer::start(script).await;
    let ran = peer.run(&["deploy"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ids: Vec<String> = peer
        .script()
        .deploys
        .iter()
        .map(|asked| asked.request_id.clone())
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_answer_that_is_lost_time_after_time_is_not_known_and_not_nothing() {
    let mut script = script(Vec::new());
    script.lose = 5;
    let peer = Peer::start(script).await;
    let ran = peer.run(&["deploy", "-o", "json"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], "lost_answer", "{ran:?}");
    assert_eq!(peer.script().deploys.len(), 5);
}

#[tokio::test]
async fn a_lost_connection_is_said_and_made_again_and_no_line_is_said_twice() {
    let proving = || phase(begun("r-1"), 0, "proving");
    let peer = Peer::start(script(vec![
        vec![proving().into(), Step::Cut],
        vec![proving().into(), Step::Cut],
        vec![proving().into(), rolled_back("r-1").into()],
    ]))
    .await;
    let ran = peer.run(&["deploy"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.out.matches("proving").count(), 1, "{ran:?}");
    assert_eq!(ran.err.matches("lost the connection").count(), 2, "{ran:?}");
    assert_eq!(
        ran.err
            .matches("connected to the coordinator again")
            .count(),
        2,
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_no_success() {
    let peer = Peer::start(script(vec![
        vec![begun("r-1").into(), Step::End],
        vec![committed("r-1").into()],
    ]))
    .await;
    let ran = peer.run(&["deploy"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        peer.script()
            .asked
            .iter()
            .filter(|asked| *asked == "watch r-1")
            .count(),
        2
    );
    let peer = Peer::start(script(vec![vec![Step::End]; 100])).await;
    assert_eq!(peer.run(&["deploy", "--timeout", "2s"]).await.code, 6);
}

#[tokio::test]
async fn a_coordinator_that_is_gone_for_good_is_exit_code_6_when_the_time_is_over() {
    let peer = Peer::start(script(vec![vec![begun("r-1").into(), Step::Wait]])).await;
    let child = peer
        .command(&["deploy", "--timeout", "3s"])
        .spawn()
        .expect("it starts");
    peer.reached.notified().await;
    peer.wire.dead(true);
    let ran = super::run::end(child).await;
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.contains("when it was last heard"), "{ran:?}");
}

#[tokio::test]
async fn watch_streams_each_changed_view_as_a_line_of_json() {
    let mut script = script(vec![vec![
        begun("r-1").into(),
        begun("r-1").into(),
        committed("r-1").into(),
    ]]);
    script.rollouts = vec![begun("r-1")];
    let peer = Peer::start(script).await;
    let ran = peer.run(&["rollout", "watch", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let stages: Vec<String> = ran
        .lines()
        .iter()
        .map(|line| line["stage"].to_string())
        .collect();
    assert_eq!(stages, ["\"forward\"", "\"closed\""]);
    assert!(
        peer.script()
            .asked
            .contains(&"list_rollouts \"\" open true".to_owned())
    );
}

#[tokio::test]
async fn an_abort_is_done_when_every_host_is_back() {
    let mut script = script(vec![vec![rolled_back("r-1").into()]]);
    script.aborted = begun("r-1");
    let peer = Peer::start(script).await;
    let ran = peer
        .run(&["rollout", "abort", "r-1", "--reason", "wrong tag"])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        peer.script()
            .asked
            .contains(&"abort r-1 because \"wrong tag\"".to_owned())
    );
}
