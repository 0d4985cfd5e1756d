//! Where cells are tried: one host with its coordinator, its engine and its nginx,
//! all real and nobody else's, and one service under load.
//!
//! A stand goes from cell to cell as long as each ends well: what one trial leaves
//! behind, the next would find.

use std::collections::BTreeSet;
use std::fmt;
use std::process::{Child, Stdio};
use std::time::Duration;

use cutover_core::swap::Phase;
use cutover_tests::fleet::{Fleet, Host, PORT, Wishes};
use cutover_tests::load::{Load, Running};
use cutover_tests::scratch::Loopback;
use cutover_tests::{image, wait};

/// Longer than any state of a swap may wait here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long an order holds.
pub(crate) const LEASE: Duration = Duration::from_secs(4);
/// The agent's state: enough for what it keeps, and quickly filled.
const STATE: &str = "24m";

pub(crate) struct Stand {
    pub(crate) fleet: Fleet,
    pub(crate) image: String,
    /// Revisions deployed so far: the service's environment says which.
    pub(crate) versions: u32,
}

impl Stand {
    /// With the service's first version committed.
    pub(crate) async fn new() -> Self {
        let extra = format!("lease_seconds = {}\n", LEASE.as_secs());
        let wishes = Wishes {
            coordinator_extra: &extra,
            beside_others: true,
            state_size: Some(STATE),
            ..Wishes::default()
        };
        // Five at once would keep the machine so busy that leases end.
        static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _alone = MAKING.lock().await;
        let fleet = Fleet::start_at(1, Loopback::claim(), wishes).await;
        let image = image::web(&fleet.engine, "1").await;
        std::fs::create_dir_all(&fleet.hosts[0].trial).expect("the scratch folder is writable");
        let mut stand = Self {
            fleet,
            image,
            versions: 0,
        };
        let file = stand.next_version("rolling");
        stand.fleet.ok(&["deploy", "-f", &file]);
        stand
    }

    pub(crate) fn host(&self) -> &Host {
        &self.fleet.hosts[0]
    }

    /// A Compose file with one version more than the last.
    pub(crate) fn next_version(&mut self, strategy: &str) -> String {
        self.versions += 1;
        let text = format!(
            "name: shop\nservices:\n  web:\n    image: {image}\n    environment: {{VERSION: \"v{version}\"}}\n\
             \x20   restart: unless-stopped\n    stop_grace_period: 1s\n    ports: [\"{PORT}:8080\"]\n\
             \x20   x-cutover:\n      strategy: {strategy}\n\
             \x20     ready: {{http: /healthz, every: 100ms, timeout: 1s, successes: 2, failures: 3, within: 30s}}\n\
             \x20     smoke: [/smoke]\n      drain: 3s\n      observe: 1s\n",
            image = self.image,
            version = self.versions,
        );
        self.fleet.compose("compose.yaml", &text)
    }

    pub(crate) fn load(&self) -> Running {
        Load::new(self.host().door(), "shop.example")
            .keep_alive(4, 40.0)
            .one_shot(10.0)
            .slow(2.0, Duration::from_secs(1))
            .start()
    }

    /// `cutover` with these words, in the background.
    pub(crate) fn begin(&self, words: &[&str]) -> Said {
        let mut command = self.fleet.cutover(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Said(command.spawn().expect("the cutover program starts"))
    }

    /// Tells the agent that a swap shall stay in this phase.
    pub(crate) fn hold(&self, phase: Phase) {
        self.place(&format!("hold-{}", phase.as_str()));
    }

    pub(crate) fn place(&self, name: &str) {
        std::fs::write(self.host().trial.join(name), "").expect("the scratch folder is writable");
    }

    /// Waits until a swap is held there.
    pub(crate) async fn held(&self, phase: Phase) -> Result<(), String> {
        let file = self.host().trial.join(format!("held-{}", phase.as_str()));
        let what = format!("the swap to be {}", phase.as_str());
        let reached = wait::try_until(PATIENCE, &what, async || file.exists()).await;
        reached.map_err(|timed_out| timed_out.to_string())
    }

    pub(crate) fn let_go(&self, phase: Phase) {
        for what in ["hold", "held"] {
            let name = format!("{what}-{}", phase.as_str());
            let _ = std::fs::remove_file(self.host().trial.join(name));
        }
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self) -> Option<serde_json::Value> {
        let said = self.host().agent_says(&["status", "-o", "json"]);
        serde_json::from_slice(&said.stdout).ok()
    }

    /// Which version answers at the door.
    pub(crate) fn answers(&self) -> String {
        let door = self.host().door();
        let answer = std::process::Command::new("curl")
            .args(["-s", "-m", "3", "-D", "-", "-o", "/dev/null"])
            .arg(format!("http://{door}/"))
            .output()
            .expect("curl is installed");
        let head = String::from_utf8_lossy(&answer.stdout).to_lowercase();
        let version = head
            .lines()
            .find_map(|line| line.strip_prefix("x-version: "));
        version.map_or_else(
            || format!("nothing ({})", head.lines().next().unwrap_or("no answer")),
            |version| version.trim().to_owned(),
        )
    }

    /// Every container of the service: revision, name, whether it runs.
    pub(crate) async fn containers(&self) -> Result<Vec<Container>, String> {
        let options = bollard::query_parameters::ListContainersOptionsBuilder::default()
            .all(true)
            .build();
        let client = self.fleet.engine.client();
        let listed = client.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| error.to_string())?;
        let of_ours = listed.into_iter().map(|found| {
            let labels = found.labels.unwrap_or_default();
            Container {
                id: found.id.unwrap_or_default(),
                name: found.names.unwrap_or_default().concat(),
                revision: labels
                    .get("dev.cutover.revision")
                    .and_then(|number| number.parse().ok())
                    .unwrap_or(0),
                runs: format!("{:?}", found.state)
                    .to_lowercase()
                    .contains("running"),
            }
        });
        Ok(of_ours.collect())
    }

    /// kill -9 of a revision's processes.
    pub(crate) async fn kill(&self, revision: u64) -> Result<(), String> {
        let containers = self.containers().await?;
        let mut running = containers
            .iter()
            .filter(|one| one.revision == revision && one.runs)
            .peekable();
        if running.peek().is_none() {
            return Err(format!("revision {revision} does not run: {containers:?}"));
        }
        for one in running {
            let client = self.fleet.engine.client();
            let killed = client.kill_container(&one.id, None).await;
            killed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes every free byte of the agent's state.
    pub(crate) fn fill_disk(&self) {
        use std::io::Write;
        let mut file =
            std::fs::File::create(self.host().state.join("filler")).expect("it has a name left");
        let piece = [0_u8; 4096];
        while file.write_all(&piece).is_ok() {}
    }

    pub(crate) fn free_disk(&self) {
        let _ = std::fs::remove_file(self.host().state.join("filler"));
    }

    /// Revisions that the agent knows of.
    pub(crate) fn known(status: &serde_json::Value) -> BTreeSet<u64> {
        let service = &status["services"][0];
        let parked = service["parked"].as_array().cloned().unwrap_or_default();
        parked
            .iter()
            .chain([&service["revision"]])
            .filter_map(serde_json::Value::as_u64)
            .collect()
    }
}

/// A `cutover` that was begun; ended with this.
pub(crate) struct Said(pub(crate) Child);

impl Drop for Said {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One container of the engine.
pub(crate) struct Container {
    id: String,
    name: String,
    pub(crate) revision: u64,
    pub(crate) runs: bool,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.runs { "runs" } else { "is down" };
        write!(f, "{} {state}", self.name)
    }
}
