//! Deploys and what becomes of them, in fair weather and foul.

use std::time::Duration;

use cutover_proto::v1;
use tonic::Code;

use crate::bed::{Bed, deploying, spec, until};

const WEB: &str = "shop/web";

fn outcome(view: &v1::RolloutView) -> v1::Outcome {
    view.outcome()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_three_hosts_are_deployed_one_after_the_other_and_then_moved_on() {
    let bed = Bed::new(&["h1", "h2", "h3"]).await;
    let first = bed.deploy(spec(WEB, "1")).await;
    assert_eq!(outcome(&first), v1::Outcome::Committed, "{first:#?}");
    let second = bed.deploy(spec(WEB, "2")).await;
    assert_eq!(outcome(&second), v1::Outcome::Committed, "{second:#?}");
    assert_eq!((second.from_revision, second.to_revision), (1, 2));
    for host in &bed.hosts {
        assert_eq!(host.current(WEB), 2);
    }
    assert_eq!(bed.watcher.lock().expect("whole").most, 1, "waves of one");
    bed.assert_sound();
    let texts: Vec<&str> = second
        .timeline
        .iter()
        .map(|entry| entry.text.as_str())
        .collect();
    for text in [
        "wave 1 began",
        "serving web@2",
        "committed web@2",
        "commit decided for h1",
        "committed on every host",
    ] {
        assert!(texts.contains(&text), "{text} is not in {texts:#?}");
    }
    let mut api = bed.api().await;
    let status = api
        .status(v1::StatusRequest::default())
        .await
        .expect("answered")
        .into_inner();
    let web = &status.services[0];
    assert_eq!(
        (web.current, web.hosts_wanted, web.hosts_there),
        (2, 3, 3),
        "{web:#?}"
    );
    let again = api
        .deploy(deploying(spec(WEB, "2")))
        .await
        .expect("accepted")
        .into_inner();
    assert!(again.services[0].already_there, "{again:#?}");
    let selector = v1::ServiceSelector {
        service: "web".to_owned(),
        ..Default::default()
    };
    let history = api.history(selector).await.expect("answered").into_inner();
    assert_eq!(history.revisions.len(), 2);
    assert!(history.revisions[0].resolved_image.contains("@sha256:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sick_candidate_goes_back_everywhere_and_its_last_log_is_kept() {
    let mut bed = Bed::new(&["h1", "h2", "h3"]).await;
    bed.deploy(spec(WEB, "1")).await;
    bed.host("h2").temper(|temper| {
        temper.sick.insert(2);
    });
    let view = bed.deploy(spec(WEB, "2")).await;
    assert_eq!(outcome(&view), v1::Outcome::RolledBack, "{view:#?}");
    for host in &bed.hosts {
        assert_eq!(host.current(WEB), 1);
    }
    let h2 = view
        .hosts
        .iter()
        .find(|host| host.host == "h2")
        .expect("there");
    assert!(h2.why.contains("sick") || !h2.why.is_empty());
    assert_eq!(h2.last_log, "the last words of the candidate");
    let mut api = bed.api().await;
    let status = api
        .status(v1::StatusRequest::default())
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(
        status.services[0].current, 1,
        "what is current did not change"
    );
    // Numbers are never used again.
    bed.host("h2").temper(|temper| temper.sick.clear());
    let third = bed.deploy(spec(WEB, "2")).await;
    assert_eq!(
        (outcome(&third), third.to_revision),
        (v1::Outcome::Committed, 3)
    );
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_serves_nowhere_before_all_are_prepared() {
    let mut bed = Bed::new(&["h1", "h2", "h3"]).await;
    let green = |tag: &str| {
        let mut green = spec(WEB, tag);
        let policy = green.policy.as_mut().expect("there");
        policy.set_strategy(v1::Strategy::BlueGreen);
        green
    };
    let first = bed.deploy(green("1")).await;
    assert_eq!(outcome(&first), v1::Outcome::Committed, "{first:#?}");
    bed.host("h3").temper(|temper| {
        temper.sick.insert(2);
    });
    let view = bed.deploy(green("2")).await;
    assert_eq!(outcome(&view), v1::Outcome::RolledBack, "{view:#?}");
    assert!(
        !view
            .timeline
            .iter()
            .any(|entry| entry.text.contains("serving")),
        "{:#?}",
        view.timeline
    );
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_a_second_rollout_of_a_service_is_refused_with_the_firsts_id_waits_or_supersedes_it() {
    let mut bed = Bed::new(&["h1"]).await;
    bed.deploy(spec(WEB, "1")).await;
    let mut slow = spec(WEB, "2");
    slow.policy.as_mut().expect("there").observe = 3_600_000_000_000;
    let mut api = bed.api().await;
    let open = api
        .deploy(deploying(slow))
        .await
        .expect("accepted")
        .into_inner();
    let open = open.services[0].rollout.clone();
    let refused = api
        .deploy(deploying(spec(WEB, "3")))
        .await
        .expect_err("busy");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(&open), "{}", refused.message());
    let mut waiting = deploying(spec(WEB, "3"));
    waiting.set_if_busy(v1::IfBusy::Wait);
    let waits = api.deploy(waiting).await.expect("accepted").into_inner();
    let waits = waits.services[0].rollout.clone();
    let show = |id: &str| v1::RolloutRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    let queued = api
        .show_rollout(show(&waits))
        .await
        .expect("there")
        .into_inner();
    assert_eq!(queued.stage, "queued");
    let mut superseding = deploying(spec(WEB, "4"));
    superseding.set_if_busy(v1::IfBusy::Supersede);
    let last = api
        .deploy(superseding)
        .await
        .expect("accepted")
        .into_inner();
    let last = bed.ended(&last.services[0].rollout).await;
    assert_eq!(outcome(&last), v1::Outcome::Committed, "{last:#?}");
    assert_eq!(outcome(&bed.ended(&open).await), v1::Outcome::Aborted);
    assert_eq!(bed.host("h1").current(WEB), last.to_revision);
    bed.assert_sound();
}

/// It once was "already there", exit code 0, while the open rollout went on to something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_the_current_revision_is_not_already_there_while_a_rollout_leads_away_from_it() {
    let mut bed = Bed::new(&["h1"]).await;
    bed.deploy(spec(WEB, "1")).await;
    let mut slow = spec(WEB, "2");
    slow.policy.as_mut().expect("there").observe = 3_600_000_000_000;
    let mut api = bed.api().await;
    let open = api
        .deploy(deploying(slow))
        .await
        .expect("accepted")
        .into_inner();
    let open = open.services[0].rollout.clone();
    let refused = api
        .deploy(deploying(spec(WEB, "1")))
        .await
        .expect_err("busy");
    assert!(refused.message().contains(&open), "{}", refused.message());
    let mut superseding = deploying(spec(WEB, "1"));
    superseding.set_if_busy(v1::IfBusy::Supersede);
    let last = api
        .deploy(superseding)
        .await
        .expect("accepted")
        .into_inner();
    assert!(!last.services[0].already_there, "{last:#?}");
    let last = bed.ended(&last.services[0].rollout).await;
    assert_eq!(outcome(&last), v1::Outcome::Committed, "{last:#?}");
    assert_eq!(outcome(&bed.ended(&open).await), v1::Outcome::Aborted);
    assert_eq!(bed.host("h1").current(WEB), 1);
    let again = api
        .deploy(deploying(spec(WEB, "1")))
        .await
        .expect("accepted")
        .into_inner();
    let there = &again.services[0];
    assert!(there.already_there && there.hosts == ["h1"], "{again:#?}");
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_host_that_boasts_of_a_huge_revision_uses_up_no_numbers() {
    let mut bed = Bed::new(&["h1", "h2"]).await;
    bed.deploy(spec(WEB, "1")).await;
    bed.host("h2")
        .temper(|temper| temper.boasts = Some(u64::MAX));
    let said = until("its account to be laughed at", async || {
        let log = bed.coordinator.tail();
        log.contains("a report that makes no sense").then_some(log)
    })
    .await;
    assert!(said.contains("the newest known is @1"), "{said}");
    bed.host("h2").temper(|temper| temper.boasts = None);
    let view = bed.deploy(spec(WEB, "2")).await;
    assert_eq!(
        (outcome(&view), view.to_revision),
        (v1::Outcome::Committed, 2)
    );
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_no_order_could_carry_is_refused_at_once() {
    let bed = Bed::new(&["h1"]).await;
    let mut huge = spec(WEB, "1");
    let container = huge.container.as_mut().expect("there");
    let value = "x".repeat(2_000_000);
    container.environment.insert("HUGE".to_owned(), value);
    let refused = bed
        .api()
        .await
        .deploy(deploying(huge))
        .await
        .expect_err("too large");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("shop/web has 2000 kB"),
        "{}",
        refused.message()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_with_the_same_request_id_finds_what_it_began() {
    let bed = Bed::new(&["h1"]).await;
    let mut api = bed.api().await;
    let mut request = deploying(spec(WEB, "1"));
    request.request_id = "one".to_owned();
    let first = api
        .deploy(request.clone())
        .await
        .expect("accepted")
        .into_inner();
    let again = api.deploy(request).await.expect("accepted").into_inner();
    assert_eq!(first, again);
    bed.ended(&first.services[0].rollout).await;
    let list = api
        .list_rollouts(v1::ListRolloutsRequest::default())
        .await
        .expect("answered");
    assert_eq!(list.into_inner().rollouts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_away_host_is_skipped_and_owes_and_converges_when_it_is_back() {
    let mut bed = Bed::new(&["h1", "h2", "h3", "h4", "h5"]).await;
    bed.deploy(spec(WEB, "1")).await;
    bed.host("h5").cut().await;
    until("h5 to be away", async || {
        let hosts = bed
            .api()
            .await
            .list_hosts(v1::ListHostsRequest::default())
            .await
            .ok()?;
        let mut hosts = hosts.into_inner().hosts.into_iter();
        hosts
            .any(|host| host.host == "h5" && host.state == "away")
            .then_some(())
    })
    .await;
    let view = bed.deploy(spec(WEB, "2")).await;
    assert_eq!(
        (outcome(&view), view.skipped.as_slice()),
        (v1::Outcome::Mixed, &["h5".to_owned()][..])
    );
    bed.host("h5").connect();
    until("h5 to follow", async || {
        (bed.hosts[4].current(WEB) == 2).then_some(())
    })
    .await;
    let mut api = bed.api().await;
    let list = api
        .list_rollouts(v1::ListRolloutsRequest::default())
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(list.rollouts[0].kind, "follow-up");
    for name in ["h3", "h4", "h5"] {
        bed.host(name).cut().await;
    }
    until("them to be away", async || {
        let hosts = bed
            .api()
            .await
            .list_hosts(v1::ListHostsRequest::default())
            .await
            .ok()?;
        let away = hosts
            .into_inner()
            .hosts
            .iter()
            .filter(|host| host.state == "away")
            .count();
        (away == 3).then_some(())
    })
    .await;
    let refused = api
        .deploy(deploying(spec(WEB, "3")))
        .await
        .expect_err("most are away");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("3 of 5 hosts are away"),
        "{}",
        refused.message()
    );
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_remove_and_drain_take_services_where_they_should_be() {
    let mut bed = Bed::new(&["h1", "h2"]).await;
    bed.deploy(spec(WEB, "1")).await;
    bed.deploy(spec(WEB, "2")).await;
    let mut api = bed.api().await;
    let back = v1::RollbackRequest {
        service: "web".to_owned(),
        ..Default::default()
    };
    let back = api.rollback(back).await.expect("accepted").into_inner();
    let view = bed.ended(&back.services[0].rollout).await;
    assert_eq!(
        (outcome(&view), view.to_revision, view.kind.as_str()),
        (v1::Outcome::Committed, 1, "rollback")
    );
    let drain = v1::HostRequest {
        host: "h1".to_owned(),
        ..Default::default()
    };
    let drained = api.drain_host(drain).await.expect("accepted").into_inner();
    bed.ended(&drained.services[0].rollout).await;
    assert_eq!(
        (bed.host("h1").current(WEB), bed.host("h2").current(WEB)),
        (0, 1)
    );
    let last = v1::HostRequest {
        host: "h2".to_owned(),
        ..Default::default()
    };
    let refused = api.drain_host(last).await.expect_err("it is the last one");
    assert!(
        refused.message().contains("shop/web runs on h2 alone"),
        "{}",
        refused.message()
    );
    let hosts = api.list_hosts(v1::ListHostsRequest::default()).await;
    let hosts = hosts.expect("answered").into_inner().hosts;
    assert!(
        hosts
            .iter()
            .all(|host| host.host != "h2" || host.state == "ready"),
        "{hosts:#?}"
    );
    let remove = v1::RemoveRequest {
        what: vec!["shop".to_owned()],
        ..Default::default()
    };
    let removed = api.remove(remove).await.expect("accepted").into_inner();
    let view = bed.ended(&removed.services[0].rollout).await;
    assert_eq!(
        (outcome(&view), bed.host("h2").current(WEB)),
        (v1::Outcome::Committed, 0)
    );
    let status = api
        .status(v1::StatusRequest::default())
        .await
        .expect("answered")
        .into_inner();
    assert!(status.services.is_empty(), "{status:#?}");
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_of_an_open_rollout_takes_it_back() {
    let mut bed = Bed::new(&["h1"]).await;
    bed.deploy(spec(WEB, "1")).await;
    let mut slow = spec(WEB, "2");
    slow.policy.as_mut().expect("there").observe = 3_600_000_000_000;
    let mut api = bed.api().await;
    let open = api
        .deploy(deploying(slow))
        .await
        .expect("accepted")
        .into_inner();
    let open = open.services[0].rollout.clone();
    until("it to serve", async || {
        (bed.hosts[0].open_swap(WEB) == Some(2)).then_some(())
    })
    .await;
    let back = v1::RollbackRequest {
        service: WEB.to_owned(),
        ..Default::default()
    };
    let back = api.rollback(back).await.expect("accepted").into_inner();
    assert_eq!(back.services[0].rollout, open);
    assert_eq!(outcome(&bed.ended(&open).await), v1::Outcome::Aborted);
    assert_eq!(bed.host("h1").current(WEB), 1);
    bed.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_of_a_release_begin_in_order_and_stop_at_the_first_that_fails() {
    let mut bed = Bed::new(&["h1"]).await;
    bed.host("h1").temper(|temper| temper.cannot_start = true);
    let mut request = deploying(spec("shop/db", "1"));
    request.services.push(spec(WEB, "1"));
    let mut api = bed.api().await;
    let answer = api.deploy(request).await.expect("accepted").into_inner();
    let db = bed.ended(&answer.services[0].rollout).await;
    let web = bed.ended(&answer.services[1].rollout).await;
    assert_eq!(
        (outcome(&db), outcome(&web)),
        (v1::Outcome::RolledBack, v1::Outcome::Aborted)
    );
    assert!(web.why.contains("shop/db"), "{}", web.why);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_before_anything_changes() {
    let mut bed = Bed::new(&["h1"]).await;
    let mut api = bed.api().await;
    let mut nowhere = spec(WEB, "1");
    nowhere.placement.push(v1::Constraint {
        label: "role".to_owned(),
        equal: true,
        value: "web".to_owned(),
    });
    let refused = api.deploy(deploying(nowhere)).await.expect_err("no host");
    assert!(
        refused
            .message()
            .contains("no host matches node.labels.role == web"),
        "{}",
        refused.message()
    );
    bed.host("h1")
        .temper(|temper| temper.registry_fails = Some("manifest unknown".to_owned()));
    let refused = api
        .deploy(deploying(spec(WEB, "1")))
        .await
        .expect_err("no image");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("manifest unknown"),
        "{}",
        refused.message()
    );
    bed.host("h1").temper(|temper| temper.registry_fails = None);
    bed.deploy(spec(WEB, "1")).await;
    let mut same_port = spec("shop/api", "1");
    same_port.traffic = spec(WEB, "1").traffic;
    let refused = api.deploy(deploying(same_port)).await.expect_err("taken");
    assert!(
        refused.message().contains("shop/web's already"),
        "{}",
        refused.message()
    );
    let refused = api
        .deploy(v1::DeployRequest::default())
        .await
        .expect_err("empty");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_sees_every_stage_to_the_end() {
    let bed = Bed::new(&["h1", "h2"]).await;
    let mut api = bed.api().await;
    let answer = api
        .deploy(deploying(spec(WEB, "1")))
        .await
        .expect("accepted")
        .into_inner();
    let rollouts = vec![answer.services[0].rollout.clone()];
    let mut views = api
        .watch(v1::WatchRequest { rollouts })
        .await
        .expect("watched")
        .into_inner();
    let mut last = None;
    let all = async {
        while let Some(view) = views.message().await.expect("a view") {
            last = Some(view);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("it ends with the rollout");
    assert_eq!(last.expect("a view").outcome(), v1::Outcome::Committed);
    let mut events = api
        .events(v1::EventsRequest::default())
        .await
        .expect("answered")
        .into_inner();
    let mut texts = Vec::new();
    while let Some(event) = events.message().await.expect("an event") {
        texts.push(event.text);
    }
    assert!(
        texts.iter().any(|text| text == "committed on every host"),
        "{texts:#?}"
    );
    let mut logs = api
        .logs(v1::LogsQuery {
            service: WEB.to_owned(),
            ..Default::default()
        })
        .await
        .expect("answered")
        .into_inner();
    let mut hosts = Vec::new();
    while let Some(line) = logs.message().await.expect("a line") {
        hosts.push(line.host);
    }
    hosts.sort();
    assert_eq!(hosts, ["h1", "h2"]);
}
