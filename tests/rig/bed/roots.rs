//! The root file systems that machines boot: made once from this machine's own apt sources, then kept as archives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Bed;

/// What a machine needs to boot and be looked at.
const BOOT: &str = "systemd systemd-sysv dbus ca-certificates iproute2 procps libnss-myhostname curl cron sudo openssl";
/// What Cutover's packages depend on.
const SERVES: &str = "docker.io iptables nginx libnginx-mod-stream";
/// What some tries need besides: a clock that can be moved, and the tool that admins install fleets with.
const TRIES: &str = "faketime ansible-core python3-apt";
/// Beginning with `bare`, in a container of it: what makes a root bootable as a container, and quiet.
const PREPARE: &str = include_str!("prepare");

/// What a scenario installs when it comes to it.
const NEEDED: &str = "needrestart unattended-upgrades";

/// Of how they are made; another one makes them anew.
const FORM: &str = "3";

/// Which root file system a machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// As a distribution installs it: neither Docker nor nginx; apt has their packages at hand.
    Fresh,
    /// With Docker and nginx, as a server that has served for a while.
    Server,
}

impl Root {
    pub(super) const fn image(self) -> &'static str {
        match self {
            Self::Fresh => "bed-fresh",
            Self::Server => "bed-server",
        }
    }
}

/// Makes sure that the bed's engine has an image of each.
pub(super) fn make(bed: &Bed, cache: &Path) {
    // Several beds may be made at once, with one cache.
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    fs::create_dir_all(cache).expect("the target folder is writable");
    let files = [Root::Fresh, Root::Server].map(|root| (root, file(cache, root)));
    let fresh = &files[0].1;
    if !fresh.exists() {
        bootstrap(fresh);
    }
    import(bed, Root::Fresh, fresh);
    let server = &files[1].1;
    if server.exists() {
        import(bed, Root::Server, server);
        return;
    }
    let script = format!(
        "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d\n\
         export DEBIAN_FRONTEND=noninteractive\n\
         apt-get install -qq -y --no-download --no-install-recommends {SERVES} {TRIES}\n\
         rm -f /usr/sbin/policy-rc.d\n\
         mkdir -p /etc/docker\n\
         echo '{{\"storage-driver\": \"overlay2\", \"live-restore\": true}}' > /etc/docker/daemon.json\n\
         # An admin has taken the distribution's own page away.\n\
         rm -f /etc/nginx/sites-enabled/default\n"
    );
    change(bed, Root::Fresh.image(), Root::Server.image(), &script);
    let made = bed.docker(&["create", Root::Server.image(), "true"]);
    let half = server.with_extension("half");
    bed.docker(&["export", "--output", &half.display().to_string(), &made]);
    bed.docker(&["rm", &made]);
    fs::rename(&half, server).expect("the target folder is writable");
}

/// Where it is kept; by another name when anything that makes it has changed.
fn file(cache: &Path, root: Root) -> PathBuf {
    let mut made_of = Sha256::new();
    for part in [BOOT, SERVES, TRIES, NEEDED, PREPARE, FORM, &codename()] {
        made_of.update(part);
    }
    let name: String = made_of.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    cache.join(format!("{}-{name}.tar", root.image()))
}

/// From this machine's own apt sources, with what is installed later already fetched: machines reach no network.
fn bootstrap(to: &Path) {
    let half = to.with_extension("half.tar");
    let download = "chroot \"$1\" apt-get install -qq -y --download-only";
    let fetch = format!(
        // As somebody's `apt install` would, and the rest as little as it takes.
        "{download} -o APT::Install-Recommends=true {SERVES} && {download} {TRIES} {NEEDED}"
    );
    let output = Command::new("mmdebstrap")
        .args([
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            "--skip=cleanup/apt",
        ])
        .arg(format!("--include={}", BOOT.replace(' ', ",")))
        .arg(format!("--customize-hook={fetch}"))
        .arg(codename())
        .arg(&half)
        .args(sources())
        .output()
        .expect("mmdebstrap must be startable: run tests/setup --hosts");
    assert!(
        output.status.success(),
        "mmdebstrap: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&half, to).expect("the target folder is writable");
}

fn import(bed: &Bed, root: Root, file: &Path) {
    let path = file.display().to_string();
    match root {
        Root::Fresh => {
            bed.docker(&["import", &path, "bed-bare"]);
            change(bed, "bed-bare", root.image(), PREPARE);
        }
        Root::Server => {
            bed.docker(&["import", &path, root.image()]);
        }
    }
}

/// An image more, by a shell script in a container of another.
fn change(bed: &Bed, from: &str, to: &str, script: &str) {
    let name = format!("change-{to}");
    bed.docker(&[
        "run",
        "--name",
        &name,
        "--network",
        "none",
        from,
        "/bin/sh",
        "-ec",
        script,
    ]);
    bed.docker(&["commit", &name, to]);
    bed.docker(&["rm", &name]);
}

/// The release that this machine runs.
fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .expect("/etc/os-release names the release")
        .trim_matches('"')
        .to_owned()
}

/// Files of the distribution's own sources; others' (of Docker, Node and so on) are not asked.
fn sources() -> Vec<PathBuf> {
    let codename = codename();
    [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list.d/ubuntu.sources",
        "/etc/apt/sources.list",
    ]
    .map(PathBuf::from)
    .into_iter()
    .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&codename)))
    .collect()
}
