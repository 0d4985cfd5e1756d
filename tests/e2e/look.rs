//! What is so, seen from outside: at a host's door, in the engine, in what the agents and `cutover` say.

use std::process::Command;
use std::time::Duration;

use bollard::models::ContainerState;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use cutover_tests::fleet::{Fleet, Host};
use cutover_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For anything that a swap does by itself, on a machine with other work.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What the service answers at a host's door.
pub(crate) fn answer_at(fleet: &Fleet, host: usize) -> String {
    let door = fleet.hosts[host].door();
    let answer = Command::new("curl")
        .args(["-s", "-m", "5", &format!("http://{door}/")])
        .output();
    String::from_utf8_lossy(&answer.expect("curl is installed").stdout).into_owned()
}

/// # Panics
/// When a host does not answer with this version.
#[track_caller]
pub(crate) fn assert_all_answer(fleet: &Fleet, version: &str) {
    for host in 0..fleet.hosts.len() {
        let answer = answer_at(fleet, host);
        let expected = format!("version {version} ");
        assert!(answer.contains(&expected), "h{}: {answer:?}", host + 1);
    }
}

/// What this host's agent says of its only service, once it knows one.
pub(crate) fn status(host: &Host) -> Option<Value> {
    let said = host.agent_says(&["status", "-o", "json"]);
    let all: Value = serde_json::from_slice(&said.stdout).ok()?;
    all["services"].get(0).cloned()
}

/// Waits until the agent is in this phase of a swap (empty: in none).
pub(crate) async fn wait_for_phase(host: &Host, phase: &str) {
    let what = format!("{} to be {phase:?}", host.name);
    wait::until(SOON, &what, async || {
        let status = status(host).ok_or("no service yet".to_owned())?;
        (status["phase"] == phase)
            .then_some(())
            .ok_or_else(|| status.to_string())
    })
    .await;
}

/// The only container of a revision on a host, whatever its state.
pub(crate) async fn container(fleet: &Fleet, host: &str, revision: u64) -> Option<Container> {
    let labels = vec![
        format!("dev.cutover.host={host}"),
        format!("dev.cutover.revision={revision}"),
    ];
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&[("label".to_owned(), labels)].into())
        .build();
    let client = fleet.engine.client();
    let found = client.list_containers(Some(options)).await.ok()?;
    let id = found.into_iter().next()?.id?;
    let options = None::<InspectContainerOptions>;
    let state = client.inspect_container(&id, options).await.ok()?.state?;
    Some(Container { id, state })
}

/// A container as the engine knows it.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) state: ContainerState,
}

impl Container {
    pub(crate) fn runs(&self) -> bool {
        self.state.running == Some(true)
    }

    /// Its process, for signals that the engine does not hear of.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.state.pid.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.filter(|pid| *pid > 1).expect("it runs");
        kill(Pid::from_raw(pid), signal).expect("it is a process of ours");
    }

    pub(crate) fn started(&self) -> &str {
        self.state.started_at.as_deref().unwrap_or_default()
    }

    pub(crate) fn finished(&self) -> &str {
        self.state.finished_at.as_deref().unwrap_or_default()
    }
}

/// Waits until the container of a revision runs on a host.
pub(crate) async fn wait_for_running(fleet: &Fleet, host: &str, revision: u64) -> Container {
    let what = format!("revision {revision} to run on {host}");
    wait::until(SOON, &what, async || {
        let container = container(fleet, host, revision).await;
        container.filter(Container::runs)
    })
    .await
}

/// The newest rollout, as scripts see it.
pub(crate) fn newest_rollout(fleet: &Fleet) -> Value {
    let listed: Value = json(&fleet.ok(&["rollout", "ls", "-o", "json"]));
    let id = listed[0]["id"]
        .as_str()
        .expect("there is a rollout")
        .to_owned();
    json(&fleet.ok(&["rollout", "show", &id, "-o", "json"]))
}

/// # Panics
/// When it is none.
#[track_caller]
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|problem| panic!("{problem}: {text}"))
}

/// A swap as a host's agent logged it; its times are RFC 3339 and compare as text.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    pub(crate) generation: (u64, u64),
    pub(crate) from: String,
    pub(crate) until: Option<String>,
}

/// Every swap that a host's agent has opened.
pub(crate) fn swaps(host: &Host) -> Vec<Swap> {
    let mut swaps: Vec<Swap> = Vec::new();
    for line in host.agent.whole_log().lines() {
        let Ok(said) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        match said["message"].as_str() {
            Some("a swap began") => {
                let generation = text("generation");
                let (epoch, number) = generation.split_once('.').expect("EPOCH.NUMBER");
                let read = |text: &str| text.parse().expect("a number");
                swaps.push(Swap {
                    generation: (read(epoch), read(number)),
                    from: text("timestamp"),
                    until: None,
                });
            }
            Some("the swap is committed" | "the swap is reverted") => {
                if let Some(open) = swaps.last_mut() {
                    open.until.get_or_insert(text("timestamp"));
                }
            }
            _ => {}
        }
    }
    swaps
}
