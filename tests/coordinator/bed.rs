//! The coordinator's process, its first operator, and a fleet of stand-ins.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutover_proto::tls::{ClientTls, Credentials, Dial, Trust};
use cutover_proto::v1;
use cutover_proto::v1::operator_client::OperatorClient;
use cutover_tests::process::{Daemon, Recipe, built};
use cutover_tests::scratch::{Loopback, Scratch};
use tonic::transport::Channel;

use crate::host::{Host, Watcher};

/// Longer than anything here takes, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Api = OperatorClient<Channel>;

pub(crate) struct Bed {
    pub(crate) hosts: Vec<Host>,
    pub(crate) watcher: Arc<Mutex<Watcher>>,
    pub(crate) coordinator: Daemon,
    pub(crate) address: String,
    pub(crate) scratch: Scratch,
    _loopback: Loopback,
}

impl Bed {
    /// A coordinator that runs, and these hosts, enrolled and connected.
    pub(crate) async fn new(names: &[&str]) -> Self {
        let mut bed = Self::empty();
        bed.add(names).await;
        bed
    }

    /// A coordinator alone.
    pub(crate) fn empty() -> Self {
        let scratch = Scratch::new("coordinator");
        let loopback = Loopback::claim();
        let address = loopback.address(1).to_string();
        let log = scratch.join("coordinator.log");
        let program = built("cutover-coordinator");
        let config = scratch.join("coordinator.toml");
        let state = scratch.join("state");
        std::fs::write(
            &config,
            format!("state_dir = {state:?}\nlisten_address = {address:?}\nlease_seconds = 6\n"),
        )
        .expect("a scratch folder is writable");
        let made = std::process::Command::new(&program)
            .arg("init")
            .args(["--address", &address, "--config"])
            .arg(&config)
            .arg("--context-dir")
            .arg(scratch.join("context"))
            .output()
            .expect("it starts");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let coordinator = Recipe::new(&program, log)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .start();
        Self {
            hosts: Vec::new(),
            watcher: Arc::default(),
            coordinator,
            address,
            scratch,
            _loopback: loopback,
        }
    }

    pub(crate) async fn add(&mut self, names: &[&str]) {
        let request = v1::MakeTokenRequest {
            uses: u32::try_from(names.len()).expect("few"),
            ..v1::MakeTokenRequest::default()
        };
        let token = self
            .api()
            .await
            .make_token(request)
            .await
            .expect("a token")
            .into_inner();
        let folder = self.scratch.folder("hosts");
        for name in names {
            let _ = self.scratch.folder(&format!("hosts/{name}"));
            let mut host = Host::enrol(name, &folder, &token, &self.watcher).await;
            host.connect();
            self.hosts.push(host);
        }
        self.connected(names.len()).await;
    }

    /// Waits until so many hosts at least are ready.
    pub(crate) async fn connected(&self, count: usize) {
        until("the hosts to be connected", async || {
            let mut api = self.api().await;
            let hosts = api.list_hosts(v1::ListHostsRequest::default()).await.ok()?;
            let hosts = hosts.into_inner().hosts;
            let ready = hosts.iter().filter(|host| host.state == "ready").count();
            (ready >= count).then_some(())
        })
        .await;
    }

    pub(crate) fn host(&mut self, name: &str) -> &mut Host {
        let found = self.hosts.iter_mut().find(|host| host.id.as_str() == name);
        found.expect("a host of this bed")
    }

    /// A connection as the first operator; waits until the coordinator is up.
    pub(crate) async fn api(&self) -> Api {
        self.try_api(PATIENCE)
            .await
            .expect("the coordinator comes up")
    }

    pub(crate) async fn try_api(&self, within: Duration) -> Option<Api> {
        let dial = operator(&self.scratch.join("context"), &self.address);
        let dialled = cutover_tests::wait::try_until(within, "the coordinator", async || {
            dial.connect().await
        });
        let connection = dialled.await.ok()?;
        Some(OperatorClient::new(connection.channel))
    }

    /// Waits for the end of a rollout.
    pub(crate) async fn ended(&self, id: &str) -> v1::RolloutView {
        until("the rollout to end", async || {
            let mut api = self.api().await;
            let request = v1::RolloutRequest {
                id: id.to_owned(),
                ..v1::RolloutRequest::default()
            };
            let view = api.show_rollout(request).await.ok()?.into_inner();
            (view.outcome() != v1::Outcome::Unspecified).then_some(view)
        })
        .await
    }

    /// Deploys and waits for the end.
    pub(crate) async fn deploy(&self, spec: v1::ServiceSpec) -> v1::RolloutView {
        let mut api = self.api().await;
        let answer = api
            .deploy(deploying(spec))
            .await
            .expect("accepted")
            .into_inner();
        self.ended(&answer.services[0].rollout).await
    }

    /// What must hold whatever happened.
    pub(crate) fn assert_sound(&self) {
        let watcher = self.watcher.lock().expect("whole");
        assert!(watcher.violations.is_empty(), "{:#?}", watcher.violations);
    }
}

pub(crate) fn operator(context: &Path, address: &str) -> Dial {
    let read = |name: &str| std::fs::read_to_string(context.join(name)).expect("made by init");
    let credentials = Credentials::from_pem(&read("default.pem"), &read("default.key"));
    let trust = Trust::from_pem(&read("default-ca.pem")).expect("a CA");
    let tls = ClientTls::mutual(&credentials.expect("a certificate"), &trust).expect("fits");
    Dial::new(
        format!("{address}:7443").parse().expect("an address"),
        Arc::new(tls),
    )
}

pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    cutover_tests::wait::until(PATIENCE, what, look).await
}

pub(crate) fn deploying(spec: v1::ServiceSpec) -> v1::DeployRequest {
    v1::DeployRequest {
        app: spec.app.clone(),
        services: vec![spec],
        reason: "a test".to_owned(),
        ..v1::DeployRequest::default()
    }
}

/// A service that a stand-in proves in no time.
pub(crate) fn spec(name: &str, tag: &str) -> v1::ServiceSpec {
    let (app, service) = name.split_once('/').expect("APP/SERVICE");
    let millis = |millis: u64| millis * 1_000_000;
    v1::ServiceSpec {
        app: app.to_owned(),
        service: service.to_owned(),
        container: Some(v1::ContainerSpec {
            image: format!("registry.example/{service}:{tag}"),
            resources: Some(v1::Resources::default()),
            stop_grace: millis(1000),
            ..v1::ContainerSpec::default()
        }),
        replicas: 1,
        traffic: vec![v1::Listener {
            listen: 80,
            host: Some(format!("{service}.example")),
            path: "/".to_owned(),
            port: 8080,
            protocol: v1::Protocol::Http.into(),
            ..v1::Listener::default()
        }],
        ready: Some(v1::Readiness {
            check: Some(v1::Check {
                check: Some(v1::check::Check::TcpPort(8080)),
            }),
            every: millis(10),
            timeout: millis(100),
            successes: 2,
            failures: 2,
            within: millis(2000),
            settle: 0,
        }),
        restart: Some(v1::RestartPolicy {
            condition: v1::RestartCondition::No.into(),
            delay: millis(10),
            max_attempts: None,
            window: millis(1000),
        }),
        policy: Some(v1::RolloutPolicy {
            strategy: v1::Strategy::Rolling.into(),
            wave: 1,
            observe: millis(20),
            drain: millis(1000),
            ..v1::RolloutPolicy::default()
        }),
        ..v1::ServiceSpec::default()
    }
}
