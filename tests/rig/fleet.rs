//! A whole installation on this machine: one coordinator, several agents, each
//! with its own nginx, on one Docker engine. Real programs, real sockets.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::engine::{Engine, Options, Subnet};
use crate::engine_proxy::EngineProxy;
use crate::process::{Daemon, Recipe, built};
use crate::proxy::Nginx;
use crate::reaper::{self, Cleanup};
use crate::scratch::{Loopback, Scratch};
use crate::wait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// Where every host's nginx listens for the services of a test.
pub const PORT: u16 = 8080;
/// For a daemon to be up, and a host to be connected.
const STARTING: Duration = Duration::from_secs(30);

/// Fleets at the same time in a test process, of those that say they may be: two. The others want the machine alone.
static TURN: OnceLock<Arc<Semaphore>> = OnceLock::new();
const ALONE: u32 = 2;

/// One coordinator and its hosts.
#[derive(Debug)]
pub struct Fleet {
    /// The engine that all hosts of this fleet share, and no other fleet.
    pub engine: Arc<Engine>,
    /// The coordinator's process.
    pub coordinator: Daemon,
    /// The hosts, h1 first.
    pub hosts: Vec<Host>,
    scratch: Scratch,
    _loopback: Loopback,
    /// One fleet at a time in a test process, unless it was wished otherwise.
    _turn: Option<OwnedSemaphorePermit>,
}

/// How a fleet differs from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// More lines for the coordinator's configuration.
    pub coordinator_extra: &'a str,
    /// It takes no turn: others may run beside it.
    pub beside_others: bool,
    /// Nothing is timed and no request counted there: another such fleet may run beside it.
    pub light: bool,
    /// Each agent's state lies on a file system of this size, as `mount -o size=` takes it.
    pub state_size: Option<&'a str>,
    /// Each agent reaches the engine through a proxy of its own.
    pub behind_proxies: bool,
}

/// One host: an agent and its nginx.
#[derive(Debug)]
pub struct Host {
    /// h1, h2, …
    pub name: String,
    /// Where its nginx listens.
    pub address: Ipv4Addr,
    /// Its proxy.
    pub nginx: Nginx,
    /// Its agent's process.
    pub agent: Daemon,
    /// Its agent's configuration.
    pub config: PathBuf,
    /// Its agent's state.
    pub state: PathBuf,
    /// Where its agent, a debug build, looks for what a trial wants of it.
    pub trial: PathBuf,
    _disk: Option<Cleanup>,
    /// Between its agent and the engine, in fleets that were started behind proxies.
    pub proxy: Option<EngineProxy>,
    _subnet: Subnet,
}

impl Host {
    /// Where a test's service is found.
    #[must_use]
    pub fn door(&self) -> SocketAddr {
        SocketAddr::from((self.address, PORT))
    }

    /// The agent's own verbs, as somebody on the host would type them.
    ///
    /// # Panics
    /// When the program can't be started.
    #[must_use]
    pub fn agent_says(&self, words: &[&str]) -> Output {
        let mut command = Command::new(built("cutover-agent"));
        command
            .arg("--config")
            .arg(&self.config)
            .args(words)
            .stdin(Stdio::null());
        command.output().expect("the agent's program starts")
    }
}

impl Fleet {
    /// A coordinator and `count` hosts, enrolled and connected.
    ///
    /// # Panics
    /// When anything does not come up; with the end of its log.
    pub async fn start(count: u8) -> Self {
        Self::start_with(count, "").await
    }

    /// As [`Fleet::start`], where nothing is timed and no request counted.
    ///
    /// # Panics
    /// When anything does not come up; with the end of its log.
    pub async fn start_light(count: u8) -> Self {
        let wishes = Wishes {
            light: true,
            ..Wishes::default()
        };
        Self::start_at(count, Loopback::claim(), wishes).await
    }

    /// As [`Fleet::start`], with more lines for the coordinator's configuration.
    ///
    /// # Panics
    /// When anything does not come up; with the end of its log.
    pub async fn start_with(count: u8, coordinator_extra: &str) -> Self {
        let wishes = Wishes {
            coordinator_extra,
            ..Wishes::default()
        };
        Self::start_at(count, Loopback::claim(), wishes).await
    }

    /// As [`Fleet::start`], each agent reaching the engine through a proxy of its own, so that one host's engine can
    /// be lamed and the others' not.
    ///
    /// # Panics
    /// When anything does not come up; with the end of its log.
    pub async fn start_behind_proxies(count: u8) -> Self {
        let wishes = Wishes {
            behind_proxies: true,
            light: true,
            ..Wishes::default()
        };
        Self::start_at(count, Loopback::claim(), wishes).await
    }

    /// As [`Fleet::start`], on these addresses: hosts from .1, the coordinator at .100.
    ///
    /// # Panics
    /// When anything does not come up; with the end of its log.
    pub async fn start_at(count: u8, loopback: Loopback, wishes: Wishes<'_>) -> Self {
        let engine = Arc::new(Engine::start_with(Options::default()).await);
        let turn = if wishes.beside_others {
            None
        } else {
            let turn = TURN.get_or_init(|| Arc::new(Semaphore::new(ALONE as usize)));
            let share = if wishes.light { 1 } else { ALONE };
            let turn = Arc::clone(turn).acquire_many_owned(share).await;
            Some(turn.expect("it is never closed"))
        };
        let scratch = Scratch::new("fleet");
        let coordinator =
            start_coordinator(&scratch, loopback.address(100), wishes.coordinator_extra);
        let mut fleet = Self {
            engine,
            coordinator,
            hosts: Vec::new(),
            scratch,
            _loopback: loopback,
            _turn: turn,
        };
        fleet.wait_for_coordinator().await;
        let token = fleet
            .ok(&["host", "token", "--uses", "100"])
            .trim()
            .to_owned();
        for number in 1..=count {
            let host = fleet.start_host(number, &token, wishes).await;
            fleet.hosts.push(host);
        }
        if count > 0 {
            fleet.wait_for_hosts(count).await;
        }
        fleet
    }

    /// Waits until every host is connected.
    ///
    /// # Panics
    /// When it takes too long.
    #[allow(clippy::unused_async, reason = "waits, as those beside it do")]
    pub async fn wait_for_hosts(&self, count: u8) {
        self.ok(&[
            "host",
            "wait",
            "--count",
            &count.to_string(),
            "--for",
            "ready",
            "--timeout",
            "30s",
        ]);
    }

    /// Waits until the coordinator answers operators.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn wait_for_coordinator(&self) {
        wait::until(STARTING, "the coordinator to answer", || {
            let asked = self.cutover(&["status", "-o", "json"]).output();
            async move { asked.is_ok_and(|output| output.status.success()) }
        })
        .await;
    }

    async fn start_host(&self, number: u8, token: &str, wishes: Wishes<'_>) -> Host {
        let name = format!("h{number}");
        let address = self._loopback.address(number);
        let home = self.scratch.folder(&name);
        let nginx = Nginx::start(&self.scratch.folder(&format!("{name}/nginx")), address).await;
        let subnet = self.engine.free_subnet();
        let state = home.join("s");
        let disk = wishes.state_size.map(|size| small_disk(&state, size));
        nginx.write_http(
            "cutover.conf",
            &format!("include {}/nginx/http.con[f];\n", state.display()),
        );
        nginx.write_stream(
            "cutover.conf",
            &format!("include {}/nginx/stream.con[f];\n", state.display()),
        );
        fs::write(home.join("machine-id"), format!("{number:032x}\n"))
            .expect("the scratch folder is writable");
        let config = home.join("agent.toml");
        let proxy = wishes
            .behind_proxies
            .then(|| EngineProxy::start(home.join("docker.sock"), &self.engine));
        let engine = proxy
            .as_ref()
            .map_or(self.engine.socket(), EngineProxy::socket);
        fs::write(
            &config,
            agent_config(&home, &state, address, &nginx, engine, &subnet),
        )
        .expect("the scratch folder is writable");
        fs::write(home.join("token"), token).expect("the scratch folder is writable");
        let enrolment = SocketAddr::from((self._loopback.address(100), 7444));
        let enrolled = Command::new(built("cutover-agent"))
            .arg("--config")
            .arg(&config)
            .args([
                "enroll",
                "--coordinator",
                &enrolment.to_string(),
                "--host",
                &name,
                "--token-file",
            ])
            .arg(home.join("token"))
            .output()
            .expect("the agent's program starts");
        assert!(
            enrolled.status.success(),
            "{name} could not enrol: {}",
            String::from_utf8_lossy(&enrolled.stderr)
        );
        let agent = Recipe::new(
            built("cutover-agent"),
            self.scratch.join(&format!("{name}.log")),
        )
        .name(&name)
        .args([
            "--config".into(),
            config.clone().into_os_string(),
            "run".into(),
        ])
        .env(
            "CUTOVER_LOG",
            "info,cutover_agent=debug,cutover_coordinator=debug",
        )
        .env("CUTOVER_TEST_TRIAL", home.join("trial"))
        .start();
        Host {
            trial: home.join("trial"),
            _disk: disk,
            name,
            address,
            nginx,
            agent,
            config,
            state,
            proxy,
            _subnet: subnet,
        }
    }

    /// The `cutover` program with these words, in this fleet's context.
    #[must_use]
    pub fn cutover(&self, words: &[&str]) -> Command {
        let mut command = Command::new(built("cutover"));
        command
            .args(words)
            .stdin(Stdio::null())
            .env("XDG_CONFIG_HOME", self.scratch.join("config"))
            .env("CI", "1");
        command
    }

    /// What `cutover` prints; it must end with 0.
    ///
    /// # Panics
    /// When it does not; with what it said.
    pub fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert!(
            code == 0,
            "cutover {} ended with {code}\n{out}{err}",
            words.join(" ")
        );
        out
    }

    /// The exit code, what was printed, and what was said to people.
    ///
    /// # Panics
    /// When the program can't be started.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> (i32, String, String) {
        said(&self.cutover(words).output())
    }

    /// As [`Fleet::run`], while the test goes on; it ends with the test.
    #[must_use]
    pub fn run_beside(&self, words: &[&str]) -> JoinHandle<(i32, String, String)> {
        let mut command = tokio::process::Command::from(self.cutover(words));
        command.kill_on_drop(true);
        tokio::spawn(async move { said(&command.output().await) })
    }

    /// Writes a Compose file and gives its path.
    ///
    /// # Panics
    /// When the scratch folder is not writable.
    #[must_use]
    pub fn compose(&self, name: &str, text: &str) -> String {
        let path = self.scratch.join(name);
        fs::write(&path, text).expect("the scratch folder is writable");
        path.display().to_string()
    }

    /// A folder of this fleet's.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }
}

/// A file system of its own for an agent's state.
fn small_disk(at: &Path, size: &str) -> Cleanup {
    fs::create_dir_all(at).expect("the scratch folder is writable");
    let cleanup = reaper::at_the_end(&format!(
        "umount -l {} 2>/dev/null; true",
        reaper::quoted(at)
    ));
    let mounted = Command::new("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size},mode=755"),
            "tmpfs",
        ])
        .arg(at)
        .status();
    assert!(
        mounted.is_ok_and(|status| status.success()),
        "{} can't be mounted",
        at.display()
    );
    cleanup
}

fn said(output: &std::io::Result<Output>) -> (i32, String, String) {
    let output = output.as_ref().expect("the cutover program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn start_coordinator(scratch: &Scratch, address: Ipv4Addr, extra: &str) -> Daemon {
    let (home, context) = (
        scratch.folder("coordinator"),
        scratch.folder("config/cutover"),
    );
    let (state, config) = (home.join("state"), home.join("coordinator.toml"));
    fs::write(
        &config,
        format!(
            "state_dir = \"{}\"\nlisten_address = \"{address}\"\n{extra}\n",
            state.display()
        ),
    )
    .expect("the scratch folder is writable");
    let made = Command::new(built("cutover-coordinator"))
        .arg("init")
        .args(["--address", &address.to_string(), "--context-dir"])
        .arg(&context)
        .arg("--config")
        .arg(&config)
        .output()
        .expect("the coordinator's program starts");
    assert!(
        made.status.success(),
        "init failed: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Recipe::new(
        built("cutover-coordinator"),
        scratch.join("coordinator.log"),
    )
    .args(["run".into(), "--config".into(), config.into_os_string()])
    .env(
        "CUTOVER_LOG",
        "info,cutover_agent=debug,cutover_coordinator=debug",
    )
    .start()
}

fn agent_config(
    home: &Path,
    state: &Path,
    address: Ipv4Addr,
    nginx: &Nginx,
    engine: &Path,
    subnet: &Subnet,
) -> String {
    let number = address.octets()[3];
    format!(
        "state_dir = \"{state}\"\nruntime_dir = \"{run}\"\nlisten_address = \"{address}\"\nmachine_id_file = \"{id}\"\n\
         [docker]\nsocket = \"{socket}\"\nnetwork = \"cutover-{pid}-{number}\"\nsubnet = \"{subnet}\"\nshared = true\n\
         [nginx]\ncommand = [\"nginx\", \"-p\", \"{prefix}/\", \"-c\", \"{conf}\", \"-e\", \"{prefix}/error.log\"]\npid_file = \"{pid_file}\"\n",
        state = state.display(),
        run = home.join("run").display(),
        id = home.join("machine-id").display(),
        socket = engine.display(),
        pid = std::process::id(),
        subnet = subnet.cidr(),
        prefix = nginx.prefix().display(),
        conf = nginx.conf().display(),
        pid_file = nginx.pid_file().display(),
    )
}
