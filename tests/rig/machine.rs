//! A machine of its own for commands that touch one place of a machine alone: in namespaces, with its own `/etc`,
//! `/var/lib`, `/run`, name and network, and as much of systemd as starts our two units.
//!
//! Not known here: what a real systemd makes of the units; that is tried on hosts that boot one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::process::built;
use crate::reaper::{self, Cleanup};
use crate::scratch::Scratch;

/// What the machine calls itself.
pub const NAME: &str = "one";

/// The first process: makes the machine, then waits for the end of its standard input. Its end is everybody's there.
const BOOT: &str = r#"
set -eu
dir=$1
mount --make-rprivate /
ip link set lo up
hostname one
mount -t tmpfs tmpfs "$dir/tmp"
for place in etc var/lib; do
  name=$(echo "$place" | tr / -)
  mkdir -p "$dir/tmp/$name/up" "$dir/tmp/$name/work"
  mount -t overlay -o "lowerdir=/$place,upperdir=$dir/tmp/$name/up,workdir=$dir/tmp/$name/work" overlay "/$place"
done
rm -rf /etc/cutover /var/lib/cutover-agent /var/lib/cutover-coordinator
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
echo up
exec cat
"#;

/// As much of systemctl as Cutover asks for. A unit is there unless `absent-UNIT` is, starts unless `broken-UNIT` is or
/// its condition is not met, and runs while its process does. A start does not wait for the service to be ready.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
dir=$(dirname "$(dirname "$0")")
verb=$1
for unit; do :; done
echo "$*" >>"$dir/asked"
runs() { [ -e "$dir/$unit.pid" ] && grep -q '^State:.[^ZX]' "/proc/$(cat "$dir/$unit.pid")/status" 2>/dev/null; }
case $verb in
show)
  if [ -e "$dir/absent-$unit" ]; then echo LoadState=not-found; else echo LoadState=loaded; fi
  if runs; then echo ActiveState=active; else echo ActiveState=inactive; fi ;;
start)
  case $unit in
  cutover-agent) needs=/var/lib/cutover-agent/membership/link.json ;;
  *) needs=/var/lib/cutover-coordinator/pki/ca.pem ;;
  esac
  [ -e "$needs" ] || exit 0
  if [ -e "$dir/broken-$unit" ]; then echo "Job for $unit failed." >&2; exit 1; fi
  setsid "$dir/bin/$unit" run </dev/null >>"$dir/$unit.log" 2>&1 &
  echo $! >"$dir/$unit.pid" ;;
stop) if runs; then kill -9 "$(cat "$dir/$unit.pid")"; fi ;;
esac
"#;

/// The machine. Dropped, all that runs in it ends.
#[derive(Debug)]
pub struct Machine {
    scratch: Scratch,
    boot: Child,
    /// The first process in it, as seen from outside.
    first: u32,
    _cleanup: Cleanup,
}

impl Machine {
    /// Boots one. Our programs are in its path; nothing of ours runs yet.
    ///
    /// # Panics
    /// When it can't be made; with what was said.
    #[must_use]
    pub fn boot() -> Self {
        let scratch = Scratch::new("machine");
        let [bin, ..] = ["bin", "tmp", "home"].map(|name| scratch.folder(name));
        for program in ["cutover", "cutover-agent", "cutover-coordinator"] {
            symlink(built(program), bin.join(program)).expect("a new folder");
        }
        let systemctl = bin.join("systemctl");
        fs::write(&systemctl, SYSTEMCTL).expect("a new folder");
        let made = Command::new("chmod").arg("755").arg(&systemctl).status();
        assert!(made.is_ok_and(|status| status.success()), "chmod");
        let mut boot = Command::new("unshare")
            .args(["--mount", "--net", "--uts", "--pid", "--fork"])
            .args(["--kill-child", "--mount-proc", "sh", "-c", BOOT, "boot"])
            .arg(scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare must be startable");
        let cleanup = reaper::at_the_end(&format!("kill -9 {} 2>/dev/null; true", boot.id()));
        let output = boot.stdout.take().expect("it was asked for");
        let said = BufReader::new(output).lines().next();
        let up = said.is_some_and(|line| line.is_ok_and(|line| line == "up"));
        assert!(up, "the machine does not boot");
        let id = boot.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let first = children.ok().and_then(|text| text.trim().parse().ok());
        Self {
            scratch,
            boot,
            first: first.expect("unshare has one child"),
            _cleanup: cleanup,
        }
    }

    /// Files of the machine: `absent-UNIT`, `broken-UNIT`, `home/`, `UNIT.log`.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// What a command in it comes to; by a shell, as root.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn run(&self, line: &str) -> Output {
        let first = self.first.to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.scratch.join("bin");
        Command::new("nsenter")
            .args(["--target", &first, "--mount", "--net", "--uts", "--pid"])
            .args(["sh", "-c", line])
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()))
            .env("HOME", self.scratch.join("home"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("SUDO_USER")
            .env("CI", "1")
            .stdin(Stdio::null())
            .output()
            .expect("nsenter must be startable")
    }

    /// The exit code, and all that was said.
    #[must_use]
    pub fn says(&self, line: &str) -> (i32, String) {
        let output = self.run(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap_or(-1), said)
    }

    /// The end of what a unit's service wrote.
    #[must_use]
    pub fn log(&self, unit: &str) -> String {
        fs::read_to_string(self.scratch.join(&format!("{unit}.log"))).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for unit in ["cutover-coordinator", "cutover-agent"] {
                eprintln!("--- {unit} ---\n{}\n---", self.log(unit));
            }
        }
        let _ = self.boot.kill();
        let _ = self.boot.wait();
    }
}
