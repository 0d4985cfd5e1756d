//! The verbs that look, and those of hosts: what is asked, and what is printed.

use std::collections::{HashMap, VecDeque};

use cutover_proto::v1::{
    ContainerReport, ContainersResponse, EventRecord, Finding, HistoryResponse, HostContainers,
    HostView, LogLine, MakeTokenResponse, PlanResponse, RevisionView, ServicePlanView,
    ServiceStatus, StatusResponse, WaveView,
};

use super::peer::{Peer, Script};
use super::views::committed;

fn services(names: &[&str]) -> StatusResponse {
    let one = |name: &&str| ServiceStatus {
        service: (*name).to_owned(),
        current: 2,
        image: "web:2".to_owned(),
        hosts_wanted: 3,
        hosts_there: 3,
        ..ServiceStatus::default()
    };
    StatusResponse {
        coordinator_id: "c-1".to_owned(),
        version: "0.1.0".to_owned(),
        services: names.iter().map(one).collect(),
        hosts: 3,
        hosts_ready: 3,
        ..StatusResponse::default()
    }
}

fn host(name: &str, state: &str) -> HostView {
    HostView {
        host: name.to_owned(),
        state: state.to_owned(),
        ..HostView::default()
    }
}

#[tokio::test]
async fn status_is_a_table_or_an_object() {
    let peer = Peer::start(Script {
        status: services(&["shop/web"]),
        ..Script::default()
    })
    .await;
    let ran = peer.run(&["status"]).await;
    assert_eq!(
        ran.out,
        "coordinator c-1, version 0.1.0: 3 of 3 hosts ready\n\n\
         SERVICE   CURRENT  HOSTS  STATE   IMAGE\n\
         shop/web  @2       3/3    steady  web:2\n"
    );
    let value = peer
        .run(&["status", "-o", "json", "-p", "shop"])
        .await
        .json();
    assert_eq!(value["services"][0]["current_revision"], 2);
    assert_eq!(
        value["services"][0]["open_rollout"],
        serde_json::Value::Null
    );
    assert_eq!(peer.script().asked, ["status \"\"", "status \"shop\""]);
}

#[tokio::test]
async fn a_service_is_found_by_its_name_alone_where_that_is_unique() {
    let history = HistoryResponse {
        current: 2,
        revisions: vec![RevisionView {
            number: 2,
            image: "web:2".to_owned(),
            ..RevisionView::default()
        }],
        ..HistoryResponse::default()
    };
    let peer = Peer::start(Script {
        status: services(&["shop/web", "blog/web", "blog/db"]),
        history,
        ..Script::default()
    })
    .await;
    // The Compose file here is shop's.
    assert_eq!(peer.run(&["history", "web"]).await.code, 0);
    assert_eq!(
        peer.run(&["history", "db", "-o", "json"]).await.json()[0]["current"],
        true
    );
    let mut command = peer.command(&["history", "db"]);
    command.env("COMPOSE_PROJECT_NAME", "shop");
    assert_eq!(super::run::run(command).await.code, 0);
    let asked: Vec<String> = peer
        .script()
        .asked
        .iter()
        .filter(|asked| asked.starts_with("history"))
        .cloned()
        .collect();
    assert_eq!(
        asked,
        ["history shop/web", "history blog/db", "history shop/db"]
    );
    // Without it, two are meant.
    let mut command = peer.command(&["history", "web", "-o", "json"]);
    std::fs::remove_file(peer.scratch.join("compose.yaml")).expect("it was written");
    command.env_remove("COMPOSE_PROJECT_NAME");
    let ran = super::run::run(command).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], "ambiguous");
    assert!(ran.err.contains("shop/web or blog/web"), "{ran:?}");
}

#[tokio::test]
async fn a_plan_tells_changes_by_its_exit_code_when_asked() {
    let web = ServicePlanView {
        service: "shop/web".to_owned(),
        from_revision: 1,
        to_revision: 2,
        changes: vec!["image: web:1 → web:2".to_owned()],
        waves: vec![
            WaveView {
                hosts: vec!["h1".to_owned()],
            },
            WaveView {
                hosts: vec!["h2".to_owned()],
            },
        ],
        strategy: "rolling".to_owned(),
        ..ServicePlanView::default()
    };
    let same = ServicePlanView {
        already_there: true,
        ..web.clone()
    };
    let refused = ServicePlanView {
        refused: "r-9 is open".to_owned(),
        ..web.clone()
    };
    for (service, plain, asked) in [(&web, 0, 10), (&same, 0, 0), (&refused, 7, 7)] {
        let plan = PlanResponse {
            services: vec![service.clone()],
            ..PlanResponse::default()
        };
        let peer = Peer::start(Script {
            plan,
            ..Script::default()
        })
        .await;
        assert_eq!(peer.run(&["plan"]).await.code, plain);
        assert_eq!(peer.run(&["plan", "--exit-code"]).await.code, asked);
    }
    let plan = PlanResponse {
        services: vec![web],
        ..PlanResponse::default()
    };
    let peer = Peer::start(Script {
        plan,
        ..Script::default()
    })
    .await;
    let ran = peer.run(&["plan"]).await;
    assert_eq!(
        ran.out,
        "shop/web @1 → @2: rolling, 2 hosts\n  ~ image: web:1 → web:2\n  wave 1: h1\n  wave 2: h2\n\n1 would change, 0 stay\n"
    );
    assert_eq!(
        peer.run(&["plan", "-o", "json"]).await.json()["changes"],
        true
    );
}

#[tokio::test]
async fn what_was_understood_of_the_files_needs_no_coordinator() {
    let peer = Peer::start(Script::default()).await;
    peer.wire.dead(true);
    let ran = peer.run(&["plan", "--normalized"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.starts_with("name: shop\n")
            || ran.out.contains("\nname: shop")
            || ran.out.contains("name: \"shop\""),
        "{ran:?}"
    );
    assert_eq!(
        peer.run(&["plan", "--normalized", "-o", "json"])
            .await
            .json()["app"],
        "shop"
    );
}

#[tokio::test]
async fn lists_are_arrays_and_streams_are_lines() {
    let container = ContainerReport {
        name: "shop-web-2-1".to_owned(),
        revision: 2,
        state: "running".to_owned(),
        ..ContainerReport::default()
    };
    let script = Script {
        containers: ContainersResponse {
            hosts: vec![HostContainers {
                host: "h1".to_owned(),
                service: "shop/web".to_owned(),
                containers: vec![container],
                away: false,
                warnings: vec!["shop-web-2-1 is frozen".to_owned()],
            }],
        },
        events: vec![
            EventRecord {
                number: 1,
                kind: "rollout".to_owned(),
                text: "began".to_owned(),
                ..EventRecord::default()
            },
            EventRecord {
                number: 2,
                kind: "host".to_owned(),
                text: "left".to_owned(),
                ..EventRecord::default()
            },
        ],
        logs: vec![LogLine {
            host: "h1".to_owned(),
            container: "shop-web-2-1".to_owned(),
            text: "hello".to_owned(),
            ..LogLine::default()
        }],
        rollouts: vec![committed("r-1")],
        hosts: VecDeque::from([vec![host("h1", "ready")]]),
        ..Script::default()
    };
    let peer = Peer::start(script).await;
    assert_eq!(
        peer.run(&["ps", "-o", "json"]).await.json()[0]["name"],
        "shop-web-2-1"
    );
    assert_eq!(
        peer.run(&["rollout", "ls", "-o", "json"]).await.json()[0]["outcome"],
        "committed"
    );
    assert_eq!(
        peer.run(&["host", "ls", "-o", "json"]).await.json()[0]["state"],
        "ready"
    );
    let numbers: Vec<_> = peer
        .run(&["events", "-o", "json"])
        .await
        .lines()
        .iter()
        .map(|line| line["number"].clone())
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(
        peer.run(&["logs", "shop/web", "-o", "json"]).await.lines()[0]["text"],
        "hello"
    );
    assert_eq!(
        peer.run(&["logs", "shop/web"]).await.out,
        "h1 shop-web-2-1 | hello\n"
    );
    assert!(
        peer.run(&["rollout", "show", "r-1"])
            .await
            .out
            .starts_with("r-1 committed: shop/web @1 → @2, rolling\n")
    );
}

#[tokio::test]
async fn a_token_is_alone_on_standard_output() {
    let token = MakeTokenResponse {
        token: "cutover1.abc".to_owned(),
        uses: 1,
        expires_unix_millis: 1_700_000_000_000,
        enrolment_address: "deploy.example.com:7444".to_owned(),
    };
    let peer = Peer::start(Script {
        token,
        ..Script::default()
    })
    .await;
    let ran = peer.run(&["host", "token", "--label", "zone=a"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "cutover1.abc\n"));
    assert!(
        ran.err.contains(
            "sudo cutover-agent enroll --coordinator deploy.example.com:7444 --token-file -"
        ),
        "{ran:?}"
    );
    assert_eq!(peer.script().asked, ["make_token {\"zone\": \"a\"}"]);
}

#[tokio::test]
async fn waiting_for_hosts_ends_when_they_are_there_or_the_time_is_over() {
    let hosts = VecDeque::from([
        Vec::new(),
        vec![host("h1", "ready"), host("h2", "away")],
        vec![host("h1", "ready"), host("h2", "ready")],
    ]);
    let peer = Peer::start(Script {
        hosts,
        ..Script::default()
    })
    .await;
    let ran = peer.run(&["host", "wait", "--count", "2"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "ready: h1, h2\n"));
    let ran = peer.run(&["host", "wait", "h3", "--timeout", "1s"]).await;
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.contains("h3 is not known"), "{ran:?}");
}

#[tokio::test]
async fn hosts_are_labelled_and_counted_out() {
    let peer = Peer::start(Script::default()).await;
    assert_eq!(
        peer.run(&["host", "label", "h1", "zone=a", "role-"])
            .await
            .code,
        0
    );
    assert_eq!(
        peer.run(&["host", "cordon", "h1"]).await.out,
        "h1 is cordoned: it gets nothing new, what it runs stays\n"
    );
    assert_eq!(peer.run(&["host", "rm", "h1", "--force"]).await.code, 0);
    let set = HashMap::from([("zone".to_owned(), "a".to_owned())]);
    assert_eq!(
        peer.script().asked,
        [
            format!("label h1 {set:?} remove [\"role\"]"),
            "cordon h1 true".to_owned(),
            "remove_host h1 force true".to_owned()
        ]
    );
}

#[tokio::test]
async fn the_doctor_is_content_with_warnings_and_not_with_errors() {
    let finding = |level: &str| Finding {
        level: level.to_owned(),
        what: "disk 91 % full".to_owned(),
        mend: "make room".to_owned(),
        ..Finding::default()
    };
    for (level, code) in [("ok", 0), ("warn", 0), ("error", 8)] {
        let peer = Peer::start(Script {
            findings: vec![finding(level)],
            ..Script::default()
        })
        .await;
        let ran = peer.run(&["doctor"]).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(
            ran.out.contains("mend: make room") && ran.out.contains("as cutover://operator/test"),
            "{ran:?}"
        );
    }
    let peer = Peer::start(Script::default()).await;
    peer.wire.dead(true);
    let ran = peer.run(&["doctor", "-o", "json"]).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(
        ran.json()[0]["level"],
        "ok",
        "what is known here is said all the same"
    );
}
