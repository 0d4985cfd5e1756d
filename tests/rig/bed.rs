//! Whole machines that boot systemd, on one network, on an engine of our own: where the packages are tried.
//!
//! Each is a container that runs Debian's (or whatever this machine is) own systemd, dockerd and nginx. They can be
//! rebooted, cut from power and from each other. Nothing here knows Cutover.

mod disk;
mod machine;
mod names;
mod network;
mod roots;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

pub use disk::Disk;
pub use machine::{Beside, Machine, Said, Wish};
pub use network::Cut;
pub use roots::Root;

use names::Names;

use crate::engine::{Engine, Options};
use crate::reaper::{self, Cleanup};

/// The last number of this machine's own address on the network.
const GATEWAY: u8 = 1;
/// The network that all machines of a bed are on.
const NETWORK: &str = "bed";

/// Machines on one network.
#[derive(Debug)]
pub struct Bed {
    engine: Arc<Engine>,
    /// The network's first three numbers.
    prefix: String,
    _door: Cleanup,
    _names: Option<Names>,
}

impl Bed {
    /// An engine with the images that machines are made of; `cache` keeps what takes long to make.
    ///
    /// # Panics
    /// When anything can't be made; with what was said.
    pub async fn make(cache: &Path) -> Arc<Self> {
        let engine = Arc::new(Engine::start_with(Options::default()).await);
        // Within what the engine leaves to networks, and apart from 10.213.0.0/20, which agents take inside of the
        // machines.
        let prefix = format!("{}200", engine.prefix());
        let bridge = format!("cutbed{}", prefix.split('.').nth(1).unwrap_or_default());
        let mut bed = Self {
            engine,
            _door: open(&bridge),
            _names: None,
            prefix,
        };
        bed.docker(&[
            "network",
            "create",
            "--subnet",
            &format!("{}.0/24", bed.prefix),
            "--opt",
            &format!("com.docker.network.bridge.name={bridge}"),
            NETWORK,
        ]);
        bed._names = Some(Names::answer(bed.address(GATEWAY)));
        roots::make(&bed, cache);
        Arc::new(bed)
    }

    /// An address on the network.
    #[must_use]
    pub fn address(&self, last: u8) -> Ipv4Addr {
        format!("{}.{last}", self.prefix)
            .parse()
            .expect("four numbers are an address")
    }

    /// The engine that the machines are containers of.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What `docker` prints; it must succeed.
    ///
    /// # Panics
    /// When it does not; with what it said.
    pub fn docker(&self, words: &[&str]) -> String {
        let said = self.try_docker(words);
        assert!(
            said.status.success(),
            "docker {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&said.stderr)
        );
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    /// As [`Bed::docker`], whatever comes of it.
    #[must_use]
    pub fn try_docker(&self, words: &[&str]) -> Output {
        Command::new("docker")
            .args(["-H", &self.engine.host()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("docker must be startable: run tests/setup")
    }
}

/// Where a Docker runs, nothing is forwarded that no rule lets through, not even from port to port of a bridge.
fn open(bridge: &str) -> Cleanup {
    let rule = format!("FORWARD -i {bridge} -o {bridge} -j ACCEPT");
    let door = reaper::at_the_end(&format!("iptables -w 5 -D {rule} 2>/dev/null; true"));
    let opened = Command::new("iptables")
        .args(["-w", "5", "-I"])
        .args(rule.split(' '))
        .status();
    assert!(
        opened.is_ok_and(|status| status.success()),
        "iptables -I {rule}"
    );
    door
}
