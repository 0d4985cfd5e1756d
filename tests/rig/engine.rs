//! A Docker engine of our own, beside whatever Docker the machine runs.
//!
//! It has its own containerd (as a real host has: kill -9 of dockerd leaves the containers running), folders, socket,
//! bridge, addresses and cgroup, and writes no firewall rules unless asked: several engines in one network namespace
//! would delete each other's. What it leaves is removed by one script, at its end or after our death: processes,
//! mounts, bridges, cgroups, folders.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, OnceCell};

use crate::process::{Daemon, Recipe};
use crate::reaper::{self, Cleanup};
use crate::scratch::{Claim, Scratch};
use crate::wait;

/// For dockerd to answer; it takes a second or two when the machine is quiet.
const STARTING: Duration = Duration::from_secs(60);
/// For dockerd to end after SIGTERM, its containers included.
const STOPPING: Duration = Duration::from_secs(60);
/// Of one call, in seconds: bollard takes whole ones.
const CALL: u64 = 60;

/// How an engine differs from the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Containers outlive dockerd (`--live-restore`).
    pub live_restore: bool,
    /// Firewall rules as on a real host: published ports by DNAT, networks apart. One such engine at a time.
    pub iptables: bool,
}

/// A Docker engine to test against.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    // In the order of their end.
    dockerd: Mutex<Daemon>,
    _containerd: Daemon,
    _cleanup: Cleanup,
    scratch: Scratch,
    net: Claim,
}

impl Engine {
    /// This process's own engine, started when first asked for. Tests in one process share it: those that kill it
    /// want [`Engine::start_with`].
    pub async fn private() -> Arc<Self> {
        static PRIVATE: OnceCell<Arc<Engine>> = OnceCell::const_new();
        PRIVATE
            .get_or_init(async || Arc::new(Self::start_with(Options::default()).await))
            .await
            .clone()
    }

    /// An engine for one test alone.
    ///
    /// # Panics
    /// When it cannot be started; the end of its log is printed.
    pub async fn start_with(options: Options) -> Self {
        let scratch = Scratch::new("docker");
        let routes = routes();
        let net = Claim::of("docker-net", 100..=227, |second| {
            !routes
                .iter()
                .any(|route| route.meets(Ipv4Addr::new(10, second, 0, 0), 0xffff_0000))
        });
        let cleanup = reaper::at_the_end(&cleanup(&scratch, net.number, options));
        prepare_cgroups();
        make_bridge(&net);

        let at = |name: &str| scratch.join(name).display().to_string();
        fs::write(scratch.join("containerd.toml"), containerd_config(&scratch))
            .expect("a scratch folder is writable");
        fs::write(scratch.join("daemon.json"), "{}").expect("a scratch folder is writable");
        let containerd = Recipe::new("containerd", at("containerd.log"))
            .args(["--config".to_owned(), at("containerd.toml")])
            .start();

        let mut args = vec![
            format!("--config-file={}", at("daemon.json")),
            format!("--containerd={}", at("containerd.sock")),
            format!("--data-root={}", at("data")),
            format!("--exec-root={}", at("exec")),
            format!("--pidfile={}", at("docker.pid")),
            format!("--host=unix://{}", at("docker.sock")),
            format!("--bridge={}", bridge(&net)),
            format!(
                "--default-address-pool=base=10.{}.128.0/17,size=24",
                net.number
            ),
            format!("--cgroup-parent=/{}", cgroup(&net)),
            // Not systemd's driver: its slices would be named, and cleaned, in another way.
            "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
            "--shutdown-timeout=5".to_owned(),
        ];
        if options.live_restore {
            args.push("--live-restore".to_owned());
        }
        if !options.iptables {
            args.extend(
                [
                    "--iptables=false",
                    "--ip6tables=false",
                    "--ip-masq=false",
                    "--ip-forward=false",
                ]
                .map(str::to_owned),
            );
        }
        let socket = scratch.join("docker.sock");
        let dockerd = Recipe::new("dockerd", at("dockerd.log")).args(args);
        let containerd_socket = scratch.join("containerd.sock");
        wait::until(STARTING, "containerd's socket", async || {
            containerd_socket.exists()
        })
        .await;
        let dockerd = Mutex::new(dockerd.start());
        let engine = Self {
            socket,
            dockerd,
            _containerd: containerd,
            _cleanup: cleanup,
            scratch,
            net,
        };
        engine.wait_until_it_answers().await;
        engine
    }

    /// Its socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What goes in `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What all its addresses begin with, as in `10.107.`.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("10.{}.", self.net.number)
    }

    /// A client of it.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn client(&self) -> Docker {
        Docker::connect_with_socket(&self.host(), CALL, bollard::API_DEFAULT_VERSION)
            .expect("the engine's socket must exist")
    }

    /// A network to make, which no other test on this machine is given as long as this one is kept, and which meets
    /// none that the engine itself chooses.
    #[must_use]
    pub fn free_subnet(&self) -> Subnet {
        let second = self.net.number;
        let routes = routes();
        Subnet {
            second,
            third: Claim::of("docker-subnet", 1..=127, |third| {
                let subnet = Ipv4Addr::new(10, second, third, 0);
                !routes.iter().any(|route| route.meets(subnet, 0xffff_ff00))
            }),
        }
    }

    /// SIGTERM to dockerd (without live-restore this stops the containers), and a new one.
    pub async fn restart(&self) {
        self.stop().await;
        self.start().await;
    }

    /// SIGTERM to dockerd, as `systemctl stop docker` does it.
    pub async fn stop(&self) {
        let mut dockerd = self.dockerd.lock().await;
        dockerd.terminate(STOPPING).await;
    }

    /// kill -9 of dockerd alone; containerd and the containers live on.
    pub async fn kill(&self) {
        self.dockerd.lock().await.kill().await;
    }

    /// Starts dockerd after [`Engine::stop`] or [`Engine::kill`], and waits until it answers.
    pub async fn start(&self) {
        // A pid file from before a kill may name a process that lives by now.
        let _ = fs::remove_file(self.scratch.join("docker.pid"));
        self.dockerd.lock().await.start_again();
        self.wait_until_it_answers().await;
    }

    /// SIGSTOP: it accepts connections and answers nothing. Over when every thread of it has stopped.
    pub async fn freeze(&self) {
        let dockerd = self.dockerd.lock().await;
        dockerd.signal(Signal::SIGSTOP);
        wait::until(STOPPING, "all threads to stop", async || {
            dockerd.stands_still()
        })
        .await;
    }

    /// SIGCONT.
    pub async fn thaw(&self) {
        self.dockerd.lock().await.signal(Signal::SIGCONT);
    }

    /// The file in which it notes a container's state; it reads it when it starts.
    #[must_use]
    pub fn notes_of(&self, id: &str) -> PathBuf {
        self.scratch
            .join("data/containers")
            .join(id)
            .join("config.v2.json")
    }

    /// What dockerd has printed.
    pub async fn log(&self) -> String {
        self.dockerd.lock().await.whole_log()
    }

    async fn wait_until_it_answers(&self) {
        let mut dockerd = self.dockerd.lock().await;
        let answered = wait::try_until(STARTING, "dockerd to answer", async || {
            if let Some(status) = dockerd.ended() {
                panic!("dockerd ended ({status})\n{}", dockerd.tail());
            }
            self.socket.exists() && self.client().ping().await.is_ok()
        })
        .await;
        if let Err(timed_out) = answered {
            panic!("{timed_out}\n{}", dockerd.tail());
        }
    }
}

/// A /24 to make a network of. Keep it until that network is removed.
#[derive(Debug)]
pub struct Subnet {
    second: u8,
    third: Claim,
}

impl Subnet {
    /// As `--subnet` wants it.
    #[must_use]
    pub fn cidr(&self) -> String {
        format!("10.{}.{}.0/24", self.second, self.third.number)
    }

    /// One of its addresses.
    #[must_use]
    pub fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third.number, last)
    }
}

/// A route of the machine, as network and mask.
struct Route {
    network: u32,
    mask: u32,
}

impl Route {
    /// Whether it has an address in common with this network. A default route meets nothing.
    fn meets(&self, network: Ipv4Addr, mask: u32) -> bool {
        let common = self.mask & mask;
        self.mask != 0 && self.network & common == u32::from(network) & common
    }
}

fn routes() -> Vec<Route> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let number = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::swap_bytes);
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // A left-over bridge of an engine of ours that died with the machine's reaper is found here, too.
            Some(Route {
                network: number(words.get(1)?)?,
                mask: number(words.get(7)?)?,
            })
        })
        .collect()
}

fn bridge(net: &Claim) -> String {
    format!("cutrig{}", net.number)
}

fn cgroup(net: &Claim) -> String {
    format!("cutover-rig-{}-{}", std::process::id(), net.number)
}

/// docker0 belongs to the machine's own Docker, which would not like another's address on it.
fn make_bridge(net: &Claim) {
    let name = bridge(net);
    let address = format!("10.{}.0.1/24", net.number);
    for args in [
        vec!["link", "add", &name, "type", "bridge"],
        vec!["addr", "add", &address, "dev", &name],
        vec!["link", "set", &name, "up"],
    ] {
        let output = Command::new("ip")
            .args(&args)
            .output()
            .expect("`ip` must be there: run tests/setup");
        assert!(
            output.status.success(),
            "ip {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Inside a container with cgroup v2, the processes in the root group keep its controllers from being handed down.
/// Moving them to a group below is what Docker's own docker-in-docker image does. Nothing is done elsewhere.
fn prepare_cgroups() {
    let script = r#"
        cd /sys/fs/cgroup || exit 0
        [ -f cgroup.controllers ] && [ -f cgroup.type ] || exit 0     # v1, or the machine's own root
        [ -z "$(cat cgroup.subtree_control)" ] || exit 0
        mkdir -p cutover-rig-init
        xargs -rn1 < cgroup.procs > cutover-rig-init/cgroup.procs 2>/dev/null
        sed -e 's/ / +/g' -e 's/^/+/' < cgroup.controllers > cgroup.subtree_control 2>/dev/null
    "#;
    let _ = Command::new("sh").args(["-c", script]).output();
}

fn containerd_config(scratch: &Scratch) -> String {
    let at = |name: &str| scratch.join(name).display().to_string();
    format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\", \"io.containerd.snapshotter.v1.btrfs\", \
         \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
         [grpc]\naddress = \"{}\"\n",
        at("containerd-data"),
        at("containerd-state"),
        at("containerd.sock")
    )
}

/// What must be gone after the engine, written so that it may run at any moment and more than once. Everything is
/// found by this engine's own names (folder, cgroup, addresses), never by a program's name.
fn cleanup(scratch: &Scratch, net: u8, options: Options) -> String {
    let dir = reaper::quoted(scratch.path());
    let group = format!("cutover-rig-{}-{net}", std::process::id());
    let mut script = format!(
        r#"
dir={dir}
ours() {{ grep -lsF "$dir/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3; find /sys/fs/cgroup -path "*/{group}*" -name cgroup.procs -exec cat {{}} + 2>/dev/null; }}
for round in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(ours | sort -u | grep -vx $$)
    [ -n "$pids" ] || break
    kill -9 $pids 2>/dev/null
    sleep 0.05
done
awk -v dir="$dir/" 'index($2, dir) == 1 {{ print $2 }}' /proc/self/mounts | sort -r | while read -r at; do umount -l "$at"; done
ip -o -4 addr show | awk '$4 ~ /^10\.{net}\./ {{ print $2 }}' | while read -r link; do ip link del "$link"; done
find /sys/fs/cgroup -depth -type d -path "*/{group}*" -exec rmdir {{}} \; 2>/dev/null
"#
    );
    if options.iptables {
        script.push_str(&firewall_cleanup(net));
    }
    script.push_str("rm -rf \"$dir\"\n");
    script
}

/// Deletes this engine's rules one by one. Never by restoring a snapshot: that would undo what anyone else did
/// meanwhile, and bring back rules that others have deleted. Docker's own chains go only if there were none before and
/// no other dockerd lives that would use them.
fn firewall_cleanup(net: u8) -> String {
    let saved = Command::new("iptables-save").output();
    let saved = saved
        .expect("iptables must be there: run tests/setup")
        .stdout;
    let chains_too = !String::from_utf8_lossy(&saved).contains(":DOCKER");
    format!(
        r#"
each() {{ iptables -w 5 -t "$table" "$@" 2>/dev/null; }}
for table in filter nat; do
    iptables-save -t $table | grep -e '10\.{net}\.' -e 'cutrig{net}\( \|$\)' | sed -n 's/^-A/-D/p' |
        while read -r rule; do each $rule; done
done
if {chains_too} && ! ps -C dockerd -o args= | grep -qv -e --iptables=false; then
    for table in filter nat; do
        iptables-save -t $table | grep -e '-j DOCKER' | sed -n 's/^-A/-D/p' | while read -r rule; do each $rule; done
        chains=$(iptables-save -t $table | sed -n 's/^:\(DOCKER[^ ]*\) .*/\1/p')
        for chain in $chains; do each -F $chain; done
        for chain in $chains; do each -X $chain; done
    done
fi
"#
    )
}
