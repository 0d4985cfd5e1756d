//! Who may ask what, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_proto::tls::{ClientTls, Dial};
use cutover_proto::v1;
use cutover_proto::v1::operator_client::OperatorClient;
use cutover_tests::wait;
use tonic::Code;

use crate::bed::{Bed, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_asks_what_operators_ask_is_refused() {
    let mut bed = Bed::new(&["h1"]).await;
    let membership = bed.host("h1").membership().clone();
    let tls = ClientTls::mutual(
        &membership.credentials().expect("kept"),
        &membership.trust().expect("kept"),
    );
    let dial = Dial::new(
        membership.coordinator().clone(),
        Arc::new(tls.expect("fits")),
    );
    let mut api = OperatorClient::new(dial.connect().await.expect("connected").channel);
    let refused = api
        .status(v1::StatusRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = api
        .make_token(v1::MakeTokenRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_host_loses_its_stream_within_a_second_and_does_not_come_back() {
    let mut bed = Bed::new(&["h1", "h2"]).await;
    let mut api = bed.api().await;
    let request = v1::HostRequest {
        host: "h1".to_owned(),
        ..Default::default()
    };
    let gone = api
        .remove_host(request)
        .await
        .expect("removed")
        .into_inner();
    let begun = Instant::now();
    assert_eq!(gone.state, "removed");
    let link = Arc::clone(&bed.host("h1").link);
    until("the stream to end", async || {
        let said = link.lock().expect("whole");
        said.iter()
            .any(|said| said.contains("disconnected"))
            .then_some(())
    })
    .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    bed.coordinator.signal(nix::sys::signal::Signal::SIGKILL);
    until("it to be dead", async || bed.coordinator.ended()).await;
    bed.coordinator.start_again();
    bed.connected(1).await;
    wait::throughout(Duration::from_millis(500), "one host alone", async || {
        let mut api = bed.api().await;
        let hosts = api.list_hosts(v1::ListHostsRequest::default()).await;
        hosts.expect("answered").into_inner().hosts.len() == 1
    })
    .await;
}
