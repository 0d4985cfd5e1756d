//! What is in the way on one host only: an image that is not there, a port that is taken. The reason names the host
//! and the thing, in one sentence.

use std::net::TcpListener;
use std::time::Instant;

use bollard::Docker;
use cutover_tests::fleet::{Fleet, PORT};
use cutover_tests::{image, root_or_skip, wait};
use nix::sys::signal::Signal;

use crate::compose::{SHORT, web};
use crate::kinds::tcp;
use crate::look::{
    SOON, answer_at, assert_all_answer, container, newest_rollout, status, wait_for_phase,
};

async fn image_id(client: &Docker, reference: &str) -> String {
    let found = client.inspect_image(reference).await;
    found.expect("it was built").id.expect("images have ids")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_an_image_that_one_of_three_hosts_has_not_ends_with_3_and_every_host_on_the_old_one() {
    if !root_or_skip(
        "p12_an_image_that_one_of_three_hosts_has_not_ends_with_3_and_every_host_on_the_old_one",
    ) {
        return;
    }
    let fleet = Fleet::start_behind_proxies(3).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file = |image: &str| fleet.compose("compose.yaml", &web(image, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let id = image_id(&fleet.engine.client(), &two).await;
    let proxy = fleet.hosts[2].proxy.as_ref();
    let proxy = proxy.expect("it was started behind one");
    proxy.hide_image(&two);
    proxy.hide_image(&id);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file(&two)]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    let why = newest_rollout(&fleet)["why"].to_string();
    assert!(
        why.contains("h3: ") && why.contains(&two) && !why.contains("\\n"),
        "not host and image in one sentence: {why}"
    );
    assert_all_answer(&fleet, "1");
    for host in &fleet.hosts {
        let status = status(host).expect("the agent lives");
        assert_eq!(status["revision"], 1, "{}: {status}", host.name);
        assert_eq!(status["phase"], "", "{}: {status}", host.name);
    }
}

// The one hand that an agent had for a service was busy with the image, for as long as a registry took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_what_serves_and_dies_is_started_again_while_an_image_is_waited_for() {
    if !root_or_skip("p7_what_serves_and_dies_is_started_again_while_an_image_is_waited_for") {
        return;
    }
    let fleet = Fleet::start_behind_proxies(2).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file = |image: &str| fleet.compose("compose.yaml", &web(image, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let id = image_id(&fleet.engine.client(), &two).await;
    let host = &fleet.hosts[1];
    let proxy = host.proxy.as_ref().expect("it was started behind one");
    proxy.hang_on(&id, true);
    fleet.ok(&["deploy", "--detach", "-f", &file(&two)]);
    wait_for_phase(host, "fetching").await;
    let before = container(&fleet, "h2", 1).await.expect("it serves");
    before.signal(Signal::SIGKILL);
    wait::until(SOON, "what serves to be started again", async || {
        let now = container(&fleet, "h2", 1).await.ok_or("gone")?;
        let again = now.runs() && now.started() > before.started();
        again.then_some(()).ok_or("it does not run")
    })
    .await;
    wait::until(SOON, "it to answer", async || {
        answer_at(&fleet, 1).contains("version 1 ")
    })
    .await;
    let phase = status(host).expect("the agent lives")["phase"].clone();
    assert_eq!(phase, "fetching", "the image came meanwhile");
    proxy.hang_on(&id, false);
    let id = newest_rollout(&fleet)["id"].to_string();
    let (code, out, err) = fleet.run(&["rollout", "watch", id.trim_matches('"')]);
    assert_eq!(code, 0, "{out}{err}");
    assert_all_answer(&fleet, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_port_that_a_stranger_holds_on_one_host_ends_with_3_and_says_which_port() {
    if !root_or_skip("p12_a_port_that_a_stranger_holds_on_one_host_ends_with_3_and_says_which_port")
    {
        return;
    }
    let fleet = Fleet::start_light(2).await;
    let one = image::web(&fleet.engine, "1").await;
    let file = fleet.compose("compose.yaml", &web(&one, SHORT, ""));
    let door = fleet.hosts[1].door();
    let stranger = TcpListener::bind(door).expect("nobody has it yet");
    let begun = Instant::now();
    let (code, out, err) = fleet.run(&["deploy", "-f", &file]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    let why = newest_rollout(&fleet)["why"].to_string();
    let holder = format!("(pid {})", std::process::id());
    assert!(
        why.contains("h2: ") && why.contains(&door.to_string()) && why.contains(&holder),
        "not host, port and holder: {why}"
    );
    assert!(
        begun.elapsed() < SOON,
        "it was tried again, as if the port could come free"
    );
    // Once it is gone, the same deploy goes through: nothing was left half-done.
    drop(stranger);
    fleet.ok(&["deploy", "-f", &file]);
    assert_all_answer(&fleet, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_candidate_that_finds_its_own_port_taken_ends_with_3_and_the_end_of_its_log() {
    if !root_or_skip(
        "p12_a_candidate_that_finds_its_own_port_taken_ends_with_3_and_the_end_of_its_log",
    ) {
        return;
    }
    let fleet = Fleet::start_light(1).await;
    let (one, taken) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "port-taken").await,
    );
    let file = |image: &str| {
        let text = web(image, SHORT, "").replace("within: 15s", "within: 4s");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file(&taken)]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("exited with code 1"), "{out}{err}");
    let log = out
        .split_once("last lines on h1:")
        .expect("the log's end")
        .1;
    assert!(log.contains("Address already in use"), "{out}{err}");
    assert_all_answer(&fleet, "1");
}

// A reload costs every service of the host its idle connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_cannot_be_made_costs_nginx_no_reload() {
    if !root_or_skip("a_candidate_that_cannot_be_made_costs_nginx_no_reload") {
        return;
    }
    let fleet = Fleet::start_light(1).await;
    let one = image::web(&fleet.engine, "1").await;
    let text = web(&one, SHORT, "");
    fleet.ok(&["deploy", "-f", &fleet.compose("compose.yaml", &text)]);
    let workers = fleet.hosts[0].nginx.workers();
    // It listens elsewhere, too, and its network is nobody's to make.
    let moved = text.replace(
        &format!("- \"{PORT}:8080\"\n"),
        &format!("- \"{PORT}:8080\"\n      - \"{}:8080\"\n", PORT + 1),
    );
    let nowhere = format!("{moved}networks: {{default: {{external: true, name: nowhere}}}}\n");
    let file = fleet.compose("compose.yaml", &nowhere);
    let begun = Instant::now();
    let (code, out, err) = fleet.run(&["deploy", "-f", &file]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        out.contains("`docker network create nowhere`"),
        "{out}{err}"
    );
    assert!(
        begun.elapsed() < SOON,
        "it was waited for, and nobody makes it"
    );
    assert_eq!(fleet.hosts[0].nginx.workers(), workers);
    assert_all_answer(&fleet, "1");
    // One that can be made is heard of.
    fleet.ok(&["deploy", "-f", &fleet.compose("compose.yaml", &moved)]);
    assert_ne!(fleet.hosts[0].nginx.workers(), workers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_admin_has_to_add_or_take_away_is_in_the_deploys_own_words_and_in_the_doctors() {
    if !root_or_skip(
        "what_an_admin_has_to_add_or_take_away_is_in_the_deploys_own_words_and_in_the_doctors",
    ) {
        return;
    }
    let fleet = Fleet::start_light(1).await;
    let one = image::web(&fleet.engine, "1").await;
    let host = &fleet.hosts[0];
    let doctor = || {
        let output = host.agent_says(&["doctor"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let prefix = host.nginx.prefix().to_owned();

    // Somebody else's default server, read first, so that nginx itself names ours.
    let other = prefix.join("http.d/aaa.conf");
    let listen = host.door();
    let text = format!("server {{ listen {listen} default_server; return 200 other; }}\n");
    host.nginx.write_http("aaa.conf", &text);
    let file = fleet.compose("compose.yaml", &web(&one, SHORT, ""));
    let (code, out, err) = fleet.run(&["deploy", "-f", &file]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    let mend = format!("take `default_server` out of {}:1", other.display());
    assert!(out.contains(&mend), "{out}{err}");
    assert!(doctor().contains(&mend), "{}", doctor());
    std::fs::remove_file(&other).expect("it was there");
    fleet.ok(&["deploy", "-f", &file]);
    assert_all_answer(&fleet, "1");

    // TCP, where nginx reads nothing of ours beside its http block.
    let stream = prefix.join("stream.d/cutover.conf");
    let include = std::fs::read_to_string(&stream).expect("the rig wrote it");
    std::fs::remove_file(&stream).expect("it was there");
    let at = format!("traffic: [{{listen: {},", listen.port() + 1);
    let text = tcp(&one, "2s").replace(&format!("traffic: [{{listen: {},", listen.port()), &at);
    let file = fleet.compose("tcp.yaml", &text);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    let mend = format!(
        "` into your own `stream {{}}` in {}:",
        host.nginx.conf().display()
    );
    assert!(out.contains(&mend), "{out}{err}");
    assert!(doctor().contains(&mend), "{}", doctor());
    host.nginx.write_stream("cutover.conf", &include);
    fleet.ok(&["deploy", "-f", &file]);
}
