//! One machine: a container that boots systemd.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Bed, Disk, NETWORK, Root};
use crate::wait;

/// For systemd to have started everything; a second or two when this machine is quiet.
const BOOTING: Duration = Duration::from_secs(90);
/// For one command, in seconds; apt takes the longest.
const COMMAND: u32 = 240;
/// Where Docker keeps everything.
const DOCKER: &str = "/var/lib/docker";
/// What anything run on a machine finds its programs in.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a machine shall be.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Its host name, and its name on the network.
    pub name: &'a str,
    /// Another name on the network.
    pub alias: Option<&'a str>,
    /// The last number of its address.
    pub address: u8,
    /// What it boots.
    pub root: Root,
    /// Folders that are disks of their own.
    pub disks: &'a [(&'a str, &'a Disk)],
}

/// A machine that runs systemd. Gone with its bed, or when dropped.
#[derive(Debug)]
pub struct Machine {
    bed: Arc<Bed>,
    name: String,
    address: Ipv4Addr,
    /// Of its process 1, as this machine counts; none while it is down.
    init: Mutex<Option<u32>>,
}

/// How a command on a machine ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; 128 + the signal that ended it.
    pub code: i32,
    /// Standard output, without the last line's end.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Machine {
    /// Boots it, and waits until systemd has started everything.
    ///
    /// # Panics
    /// When it does not boot; with what failed.
    pub async fn boot(bed: &Arc<Bed>, wish: Wish<'_>) -> Self {
        let address = bed.address(wish.address);
        let mut volumes: Vec<String> = wish
            .disks
            .iter()
            .map(|(at, disk)| format!("{}:{at}", disk.path().display()))
            .collect();
        // Docker's storage can't lie on a container's own.
        if !wish.disks.iter().any(|(at, _)| *at == DOCKER) {
            volumes.push(format!("{}-docker:{DOCKER}", wish.name));
        }
        let (ip, alias) = (address.to_string(), wish.alias.unwrap_or(wish.name));
        let dns = bed.address(super::GATEWAY).to_string();
        let mut words = vec![
            "run",
            "--detach",
            "--name",
            wish.name,
            "--hostname",
            wish.name,
            "--network",
            NETWORK,
            "--ip",
            &ip,
            "--network-alias",
            alias,
            "--dns",
            &dns,
            // What a machine may do to itself, but for what is the whole machine's: its clock, its modules, its limits.
            "--cap-add",
            "ALL",
            "--cap-drop",
            "SYS_RESOURCE",
            "--cap-drop",
            "SYS_TIME",
            "--cap-drop",
            "SYS_MODULE",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
            "--security-opt",
            "systempaths=unconfined",
            "--device-cgroup-rule",
            "a *:* rwm",
            "--cgroupns",
            "private",
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/run/lock",
            "--tmpfs",
            "/tmp",
            // As on a machine: a missing CAP_NET_BIND_SERVICE must show.
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=1024",
            "--stop-signal",
            "SIGRTMIN+3",
            "--env",
            "container=docker",
        ];
        for volume in &volumes {
            words.extend(["--volume", volume]);
        }
        words.extend([wish.root.image(), "/sbin/bed-init"]);
        bed.docker(&words);
        let machine = Self {
            bed: Arc::clone(bed),
            name: wish.name.to_owned(),
            address,
            init: Mutex::new(None),
        };
        machine.come_up().await;
        machine
    }

    async fn come_up(&self) {
        let pid = self
            .bed
            .docker(&["inspect", "--format", "{{.State.Pid}}", &self.name]);
        let pid = pid.parse().expect("a running container has a process 1");
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
        let what = format!("{} to boot", self.name);
        wait::until(BOOTING, &what, async || {
            let state = self.sh("systemctl is-system-running").out;
            match state.as_str() {
                "running" => Ok(()),
                // Something failed, and nothing is under way any more.
                "degraded" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A port of it.
    #[must_use]
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// What comes of a shell script there, as root.
    pub fn sh(&self, script: &str) -> Said {
        self.sh_with(script, "")
    }

    /// As [`Machine::sh`], with something on its standard input.
    ///
    /// # Panics
    /// When the machine is down, or this machine can't start programs.
    pub fn sh_with(&self, script: &str, input: &str) -> Said {
        let mut child = self.begin(script, Stdio::piped());
        let mut stdin = child.stdin.take().expect("it was asked for");
        // Who does not read it need not.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        said(child.wait_with_output())
    }

    /// What it prints; it must end with 0.
    ///
    /// # Panics
    /// When it does not; with what it said.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        self.ok_with(script, "")
    }

    /// As [`Machine::ok`], with something on its standard input.
    ///
    /// # Panics
    /// When it does not; with what it said.
    #[track_caller]
    pub fn ok_with(&self, script: &str, input: &str) -> String {
        let said = self.sh_with(script, input);
        assert!(
            said.code == 0,
            "{}: `{script}` ended with {}\n{}\n{}",
            self.name,
            said.code,
            said.out,
            said.err
        );
        said.out
    }

    /// Begins a script and does not wait for it.
    #[must_use]
    pub fn beside(&self, script: &str) -> Beside {
        Beside(Some(self.begin(script, Stdio::null())))
    }

    /// Writes a file there.
    pub fn put(&self, path: &str, text: &str) {
        self.ok_with(
            &format!("mkdir -p \"$(dirname {path})\"; cat > {path}"),
            text,
        );
    }

    /// Copies a file of this machine's there.
    pub fn copy(&self, from: &std::path::Path, to: &str) {
        self.bed.docker(&[
            "cp",
            &from.display().to_string(),
            &format!("{}:{to}", self.name),
        ]);
    }

    /// Gives its Docker an image of the bed's.
    ///
    /// # Panics
    /// When it can't be taken there; with what was said.
    pub fn load_images(&self, references: &[String]) {
        let mut save = Command::new("docker")
            .args(["-H", &self.bed.engine().host(), "save"])
            .args(references)
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker must be startable");
        let images = save.stdout.take().expect("it was asked for");
        let mut load = self.command("docker load");
        let loaded = load.stdin(images).output();
        let loaded = said(loaded);
        let saved = save.wait().is_ok_and(|status| status.success());
        assert!(saved && loaded.code == 0, "{}: {}", self.name, loaded.err);
    }

    /// Shut down and started again, in good order.
    pub async fn reboot(&self) {
        self.shut_down();
        self.start().await;
    }

    /// Shut down, in good order.
    pub fn shut_down(&self) {
        self.bed.docker(&["stop", "--time", "60", &self.name]);
        self.is_down();
    }

    /// No power from one moment to the next.
    pub fn cut_power(&self) {
        self.bed.docker(&["kill", &self.name]);
        self.is_down();
    }

    /// Started after it was down.
    pub async fn start(&self) {
        self.bed.docker(&["start", &self.name]);
        self.come_up().await;
    }

    fn is_down(&self) {
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn begin(&self, script: &str, input: Stdio) -> Child {
        self.command(script)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter must be startable")
    }

    fn command(&self, script: &str) -> Command {
        let init = *self.init.lock().unwrap_or_else(PoisonError::into_inner);
        let init = init.unwrap_or_else(|| panic!("{} is down", self.name));
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &init.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args([
                "--",
                "env",
                "-i",
                PATH,
                "HOME=/root",
                "LANG=C.UTF-8",
                "CI=1",
            ])
            .args(["timeout", &COMMAND.to_string(), "/bin/sh", "-c", script]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self
            .bed
            .try_docker(&["rm", "--force", "--volumes", &self.name]);
        let volume = format!("{}-docker", self.name);
        let _ = self.bed.try_docker(&["volume", "rm", "--force", &volume]);
    }
}

/// A script that runs on a machine while the test goes on; ended with this.
#[derive(Debug)]
pub struct Beside(Option<Child>);

impl Beside {
    /// Waits for its end.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub async fn end(mut self) -> Said {
        let child = self.0.take().expect("it is taken once");
        tokio::task::spawn_blocking(move || said(child.wait_with_output()))
            .await
            .expect("waiting is not cancelled")
    }

    /// Whether it is still at it.
    pub fn runs(&mut self) -> bool {
        self.0
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn said(output: std::io::Result<Output>) -> Said {
    use std::os::unix::process::ExitStatusExt as _;
    let output = output.expect("a program that was started can be waited for");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Said {
        code: output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}
