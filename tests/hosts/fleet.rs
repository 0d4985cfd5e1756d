//! One coordinator and three hosts, installed from the packages as an admin does it, and one service on them.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_tests::bed::{Bed, Beside, Disk, Machine, Root, Said, Wish};
use cutover_tests::load::{Load, Running, Tally};
use cutover_tests::{image, process, wait};
use serde_json::Value;

use super::table::{Count, Found};

/// For anything that gets well by itself to be well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// By which name hosts reach the coordinator.
pub(crate) const COORDINATOR: &str = "deploy";
/// What there is to be released: good, and bad in two ways.
const IMAGES: [&str; 3] = ["1", "dies", "never-ready"];
/// Of h3: enough for what its agent keeps, in MiB.
const STATE_DISK: u32 = 32;
/// And for a few images.
const DOCKER_DISK: u32 = 400;
/// For how long an order holds on a host that hears nothing more, in seconds.
pub(crate) const LEASE: u64 = 10;
/// Requests a second at each host's door: 200 over all of them.
const RATE: f64 = 66.0;

/// The installation.
pub(crate) struct Fleet {
    pub(crate) bed: Arc<Bed>,
    pub(crate) coordinator: Machine,
    /// h1, h2, and h3, whose disks are small.
    pub(crate) hosts: Vec<Machine>,
    /// h3's, for what its agent keeps.
    pub(crate) state: Disk,
    _docker: Disk,
    /// Where the packages are.
    pub(crate) debs: PathBuf,
    /// And those of the previous release, where there are any.
    pub(crate) previous: Option<PathBuf>,
    /// Versions released so far, whatever became of them: no number is used twice.
    released: u32,
    /// The one that all hosts shall answer with.
    serving: u32,
    /// And the one before it.
    before: u32,
    /// What is said before a program whose clock is moved; empty: no clock is.
    pub(crate) moved: String,
}

/// What is released.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    /// Of the image: what is wrong with it.
    pub(crate) tag: &'static str,
    /// How hosts are arranged.
    pub(crate) strategy: &'static str,
    /// Seconds under real requests before the commit.
    pub(crate) observe: u32,
    /// Seconds for what is still being answered.
    pub(crate) drain: u32,
    /// Hosts at a time; 0: all.
    pub(crate) wave: u32,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            tag: "1",
            strategy: "rolling",
            observe: 2,
            drain: 3,
            wave: 0,
        }
    }
}

/// Requests to every host, until they are counted.
pub(crate) struct Watch(Vec<(String, Running)>);

/// A machine as a server that has served for a while.
pub(crate) async fn boot(
    bed: &Arc<Bed>,
    name: &str,
    alias: Option<&str>,
    address: u8,
    disks: &[(&str, &Disk)],
) -> Machine {
    let wish = Wish {
        name,
        alias,
        address,
        root: Root::Server,
        disks,
    };
    Machine::boot(bed, wish).await
}

impl Fleet {
    /// Four machines with nothing of ours.
    pub(crate) async fn boot(bed: &Arc<Bed>, debs: &Path) -> Self {
        for tag in IMAGES {
            image::web(bed.engine(), tag).await;
        }
        let (state, docker) = (Disk::new(STATE_DISK), Disk::new(DOCKER_DISK));
        let small = [
            ("/var/lib/cutover-agent", &state),
            ("/var/lib/docker", &docker),
        ];
        let (coordinator, one, two, three) = tokio::join!(
            boot(bed, "c1", Some(COORDINATOR), 10, &[]),
            boot(bed, "h1", None, 11, &[]),
            boot(bed, "h2", None, 12, &[]),
            boot(bed, "h3", None, 13, &small),
        );
        Self {
            bed: Arc::clone(bed),
            coordinator,
            hosts: vec![one, two, three],
            state,
            _docker: docker,
            debs: debs.to_owned(),
            previous: None,
            released: 0,
            serving: 0,
            before: 0,
            moved: String::new(),
        }
    }

    /// The packages, enrolment, and a first release.
    pub(crate) async fn install(&mut self) -> Found {
        let outcome = self.set_up();
        let file = self.next(Release::default());
        self.cutover(&format!("deploy -f {file}"));
        self.is_well().await;
        Found {
            outcome,
            spared: Count::default(),
            struck: Count::default(),
        }
    }

    fn set_up(&self) -> String {
        let deploy = &self.coordinator;
        self.bring(deploy, &["cutover-coordinator", "cutover"]);
        deploy.ok("apt-get install -qq -y /srv/debs/*.deb </dev/null");
        // Nothing runs that was not set up.
        assert_unit(deploy, "cutover-coordinator", "inactive");
        deploy.ok(&format!(
            "echo 'lease_seconds = {LEASE}' >> /etc/cutover/coordinator.toml"
        ));
        deploy.ok(&format!("cutover-coordinator init --address {COORDINATOR}"));
        assert_unit(deploy, "cutover-coordinator", "active");
        let token = self.cutover("host token --uses 60 --expires 2h --label role=web");
        for host in &self.hosts {
            self.enrol(host, &token);
        }
        self.cutover("host wait --count 3 --for ready --timeout 60s");
        "nothing runs before it is set up; enrolled twice, changed once".to_owned()
    }

    /// Installs the agent, which does nothing yet, and fetches images as nobody could pull them here.
    pub(crate) fn prepare(&self, host: &Machine) {
        self.bring(host, &["cutover-agent"]);
        host.load_images(&IMAGES.map(|tag| format!("cutover-test/web:{tag}")));
        host.ok("apt-get install -qq -y /srv/debs/*.deb </dev/null");
        assert_unit(host, "cutover-agent", "inactive");
    }

    /// Installs the agent and makes the machine a host.
    pub(crate) fn enrol(&self, host: &Machine, token: &str) {
        self.prepare(host);
        let enrol = format!("cutover-agent enroll --coordinator {COORDINATOR}:7444 --token-file -");
        host.ok_with(&enrol, token);
        let again = host.ok_with(&enrol, token);
        assert!(again.contains("unchanged"), "{again}");
        assert_unit(host, "cutover-agent", "active");
    }

    /// The coordinator's machine and the hosts.
    pub(crate) fn machines(&self) -> impl Iterator<Item = &Machine> {
        std::iter::once(&self.coordinator).chain(&self.hosts)
    }

    /// Puts packages on a machine.
    pub(crate) fn bring(&self, machine: &Machine, names: &[&str]) {
        self.bring_from(&self.debs, machine, names, "/srv/debs");
    }

    /// Puts packages from there into a folder of a machine that holds nothing else.
    pub(crate) fn bring_from(&self, from: &Path, machine: &Machine, names: &[&str], to: &str) {
        machine.ok(&format!("rm -rf {to} && mkdir -p {to}"));
        for name in names {
            let deb = package(from, name);
            let file = deb.file_name().expect("it has a name").to_string_lossy();
            machine.copy(&deb, &format!("{to}/{file}"));
        }
    }

    /// What `cutover` prints on the coordinator's machine; it must end with 0.
    #[track_caller]
    pub(crate) fn cutover(&self, words: &str) -> String {
        self.coordinator
            .ok(&format!("{}cutover {words}", self.moved))
    }

    /// As [`Fleet::cutover`], whatever comes of it.
    pub(crate) fn try_cutover(&self, words: &str) -> Said {
        self.coordinator
            .sh(&format!("{}cutover {words}", self.moved))
    }

    /// What `cutover -o json` prints.
    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> Value {
        let text = self.cutover(&format!("{words} -o json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words}: {error}: {text}"))
    }

    /// The Compose file of the next version, there on the coordinator's machine.
    pub(crate) fn next(&mut self, release: Release) -> String {
        self.released += 1;
        self.before = std::mem::replace(&mut self.serving, self.released);
        let Release {
            tag,
            strategy,
            observe,
            drain,
            wave,
        } = release;
        let version = self.released;
        // What never is ready need not be waited for so long.
        let within = if tag == "never-ready" { 10 } else { 30 };
        let text = format!(
            "name: shop\nservices:\n  web:\n    image: cutover-test/web:{tag}\n    environment: {{VERSION: \"v{version}\"}}\n\
             \x20   restart: unless-stopped\n    stop_grace_period: 1s\n    ports: [\"80:8080\"]\n\
             \x20   deploy: {{update_config: {{parallelism: {wave}}}}}\n\
             \x20   x-cutover:\n      strategy: {strategy}\n\
             \x20     ready: {{http: /healthz, every: 100ms, timeout: 1s, successes: 2, failures: 3, within: {within}s}}\n\
             \x20     smoke: [/smoke]\n      drain: {drain}s\n      observe: {observe}s\n"
        );
        let file = format!("/srv/v{version}.yaml");
        self.coordinator.put(&file, &text);
        file
    }

    /// Begins the release of the next version, and waits until a host's swap is in this phase.
    pub(crate) async fn release_until(
        &mut self,
        release: Release,
        host: usize,
        phase: &str,
    ) -> Beside {
        let file = self.next(release);
        let deploy = self
            .coordinator
            .beside(&format!("{}cutover deploy -f {file}", self.moved));
        let what = format!("the swap on {} to be {phase}", self.hosts[host].name());
        wait::until(PATIENCE, &what, async || {
            let status = self.on(host)?;
            let now = status["phase"].as_str().unwrap_or_default().to_owned();
            if now == phase { Ok(()) } else { Err(now) }
        })
        .await;
        deploy
    }

    /// What a host's agent says of the service.
    pub(crate) fn on(&self, host: usize) -> Result<Value, String> {
        let said = self.hosts[host].sh("cutover-agent status -o json");
        let all: Value = serde_json::from_str(&said.out).map_err(|_| said.err)?;
        Ok(all["services"][0].clone())
    }

    /// Waits for a deploy, and holds what it says against the hosts (P12).
    ///
    /// 0 and 9: the new version is everywhere, by now or once those that owe are back. 3: the old one is.
    pub(crate) async fn ends(&mut self, deploy: Beside, codes: &[i32]) -> Said {
        let said = deploy.end().await;
        assert!(
            codes.contains(&said.code),
            "the deploy ended with {}, not {codes:?}\n{}\n{}",
            said.code,
            said.out,
            said.err
        );
        if said.code == 3 {
            self.was_taken_back();
        }
        self.is_well().await;
        said
    }

    /// The release begun last was taken back.
    pub(crate) fn was_taken_back(&mut self) {
        self.serving = self.before;
    }

    /// The version before the one that is released last.
    pub(crate) fn before(&self) -> u32 {
        self.before
    }

    /// The version that the last good release was of, and all hosts shall answer with.
    pub(crate) fn version(&self) -> String {
        format!("v{}", self.serving)
    }

    /// Requests to every host.
    pub(crate) fn under_load(&self) -> Watch {
        let load = |host: &Machine| {
            let load = Load::new(host.port(80), "shop.example")
                .keep_alive(8, RATE * 0.8)
                .one_shot(RATE * 0.18)
                .slow(RATE * 0.02, Duration::from_secs(1))
                .answer_within(Duration::from_secs(10));
            (host.name().to_owned(), load.start())
        };
        Watch(self.hosts.iter().map(load).collect())
    }

    /// Waits until the fleet is as it should be: all hosts there, all answering with the last good version, no rollout
    /// open, and no container that nobody wants.
    pub(crate) async fn is_well(&self) {
        wait::until(PATIENCE, "the fleet to be well", async || self.look()).await;
    }

    fn look(&self) -> Result<(), String> {
        let said = self.try_cutover("status -o json");
        let status: Value = serde_json::from_str(&said.out).map_err(|_| said.err.clone())?;
        let (there, ready) = (&status["hosts"], &status["hosts_ready"]);
        if there != ready {
            return Err(format!("{ready} of {there} hosts are ready"));
        }
        for host in &self.hosts {
            let answer = host.sh("curl -s -m 2 -o /dev/null -D - http://127.0.0.1/");
            let version = answer.out.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("x-version: ")
                    .map(str::to_owned)
            });
            if version.as_deref().map(str::trim) != Some(&self.version()) {
                return Err(format!(
                    "{} answers {:?}, not {}",
                    host.name(),
                    version.unwrap_or(answer.out),
                    self.version()
                ));
            }
            let running = host.ok("docker ps -q | wc -l");
            if running != "1" {
                return Err(format!("{running} containers run on {}", host.name()));
            }
        }
        let open = self.try_cutover("rollout ls --open -o json").out;
        if open.trim() == "[]" {
            Ok(())
        } else {
            Err(format!("open: {open}"))
        }
    }

    /// Keeps what the machines say when `what` went wrong, and gives where.
    pub(crate) fn last_words(&self, what: &str) -> PathBuf {
        let folder = process::target().join("hosts/last-words").join(what);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the target folder is writable");
        for machine in self.machines() {
            let said = AssertUnwindSafe(|| machine.sh(LAST_WORDS).out);
            // One that is down says nothing.
            let text = std::panic::catch_unwind(said).unwrap_or_else(|_| "it is down".to_owned());
            fs::write(folder.join(format!("{}.log", machine.name())), text)
                .expect("the target folder is writable");
        }
        folder
    }
}

/// All that could help to see what went wrong.
const LAST_WORDS: &str = "cutover-agent status; docker ps -a; ls -lR /var/lib/cutover-agent/routes; cutover status; \
                          cutover rollout ls; cutover rollout show $(cutover rollout ls --limit 1 -o json | \
                          sed -n 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/p'); journalctl -o short-precise --no-pager";

impl Watch {
    /// Stops, and gives what the hosts counted: those named were struck, the others must have lost nothing.
    pub(crate) async fn end(self, struck: &[&str]) -> (Count, Count) {
        let (mut spared, mut hit) = (Count::default(), Count::default());
        let mut wrong = Vec::new();
        for (name, tally) in self.each().await {
            let lost = tally.failed_in_all() + tally.unsent;
            let to = if struck.contains(&name.as_str()) {
                &mut hit
            } else {
                if lost > 0 {
                    let failures = tally.failures.iter().take(5);
                    let first: Vec<String> = failures.map(ToString::to_string).collect();
                    wrong.push(format!("{name}: {tally}\n{}", first.join("\n")));
                }
                &mut spared
            };
            to.sent += tally.sent_in_all() + tally.unsent;
            to.lost += lost;
        }
        assert!(wrong.is_empty(), "requests were lost\n{}", wrong.join("\n"));
        (spared, hit)
    }

    /// Stops, and gives what each host's clients saw.
    pub(crate) async fn each(self) -> Vec<(String, Tally)> {
        let mut all = Vec::new();
        for (name, load) in self.0 {
            all.push((name, load.stop().await));
        }
        all
    }
}

/// What systemd says of a unit; anything else fails, with the end of its log.
#[track_caller]
pub(crate) fn assert_unit(machine: &Machine, unit: &str, state: &str) {
    let now = machine.sh(&format!("systemctl is-active {unit}")).out;
    assert!(
        now == state,
        "{} on {} is {now}, not {state}\n{}",
        unit,
        machine.name(),
        machine
            .sh(&format!("systemctl status --no-pager -l -n 20 {unit}"))
            .out
    );
}

/// The package of this name among those built.
pub(crate) fn package(debs: &Path, name: &str) -> PathBuf {
    let start = format!("{name}_");
    let entries = fs::read_dir(debs).unwrap_or_else(|error| panic!("{}: {error}", debs.display()));
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name().is_some_and(|file| {
                let file = file.to_string_lossy();
                file.starts_with(&start) && file.ends_with(".deb")
            })
        })
        .unwrap_or_else(|| panic!("{} has no {name}: make deb", debs.display()))
}
