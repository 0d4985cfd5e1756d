//! Wall clocks that differ are said, and decide nothing.

use cutover_proto::v1;
use tokio_stream::StreamExt as _;

use crate::bed::{Bed, spec, until};

const AHEAD: i64 = 11_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_said_by_doctor_host_show_and_an_event_and_decides_nothing() {
    let mut bed = Bed::new(&["h1", "h2"]).await;
    bed.host("h1").cut().await;
    bed.host("h1")
        .temper(|temper| temper.clock_ahead_millis = AHEAD);
    bed.host("h1").connect();
    bed.connected(2).await;
    let mut api = bed.api().await;
    let findings = until("the doctor to say so", async || {
        let mut api = api.clone();
        let found = api.doctor(v1::DoctorRequest {}).await.ok()?.into_inner();
        let off: Vec<v1::Finding> = found
            .findings
            .into_iter()
            .filter(|finding| finding.what.contains("its clock was"))
            .collect();
        (!off.is_empty()).then_some(off)
    })
    .await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let said = &findings[0];
    assert_eq!((said.level.as_str(), said.host.as_str()), ("warn", "h1"));
    assert!(
        said.what.contains("s ahead of the coordinator's"),
        "{said:?}"
    );
    assert!(said.mend.contains("timedatectl set-ntp true"), "{said:?}");

    let hosts = api
        .list_hosts(v1::ListHostsRequest::default())
        .await
        .expect("a list")
        .into_inner()
        .hosts;
    let skew = |name: &str| {
        let host = hosts.iter().find(|host| host.host == name);
        host.expect("it is there").clock_skew_millis
    };
    assert!((skew("h1") - AHEAD).abs() < 5_000, "{hosts:?}");
    assert!(skew("h2").abs() < 5_000, "{hosts:?}");

    let events = api
        .events(v1::EventsRequest {
            tail: 100,
            ..v1::EventsRequest::default()
        })
        .await
        .expect("events")
        .into_inner();
    let all: Vec<v1::EventRecord> = events.filter_map(Result::ok).collect().await;
    let warned = all
        .iter()
        .any(|event| event.host == "h1" && event.text.contains("its clock was"));
    assert!(warned, "{all:?}");

    let view = bed.deploy(spec("shop/web", "1")).await;
    assert_eq!(view.outcome(), v1::Outcome::Committed);
}
