//! `cutover-coordinator doctor`: what is wrong with this coordinator's machine, and what mends it.
//!
//! Kept true: nothing is changed, and nothing needs to run. What a running one finds
//! in its fleet is `cutover doctor`'s.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, SystemTime};

use cutover_daemon::findings::{self, Finding};
use cutover_daemon::logging::chain;

use crate::config::Config;
use crate::pki::Authority;
use crate::store::{self, Condition, Probe};

/// It is renewed long before: with less left than this, that has failed for a while.
const CERTIFICATE_WARN: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY: u64 = 24 * 3600;
/// What `timesyncd` leaves when it has set the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// What else keeps a clock right, by the name of its process.
const KEEPERS: [&str; 3] = ["chronyd", "ntpd", "ntpsec"];
/// What makes room here.
const ROOM: &str = "free some space: with less than 16 MiB nothing is decided any more; snapshots/ keeps the newest by itself";

/// Looks at everything.
#[must_use]
pub fn examine(config: &Config, probe: &Probe) -> Vec<Finding> {
    let condition = store::examine(&config.state_dir, probe);
    let runs = matches!(condition, Condition::InUse(_));
    let mut found = addresses(config);
    found.extend(gates(config, runs));
    found.push(certificate(config, SystemTime::now()));
    found.extend(crate::ca::findings(config, SystemTime::now()));
    found.push(of_store(condition));
    found.push(findings::room(&config.state_dir, ROOM));
    found.push(findings::open_files("cutover-coordinator"));
    found.push(clock(Path::new("/")));
    found
}

/// Whether hosts can find it by the names that its certificate says.
fn addresses(config: &Config) -> Vec<Finding> {
    let reached = match config.reached_at() {
        Ok(reached) => reached,
        Err(error) => {
            return vec![Finding::error(
                chain(&error),
                "cutover-coordinator init --address HOST",
            )];
        }
    };
    let one = |name: &String| match (name.as_str(), config.port).to_socket_addrs() {
        Ok(mut found) => match found.next() {
            Some(address) => Finding::ok(format!("hosts reach it as {name} ({})", address.ip())),
            None => Finding::warn(format!("{name} has no address"), unknown(name)),
        },
        Err(problem) => Finding::warn(
            format!("{name} can't be resolved here: {problem}"),
            unknown(name),
        ),
    };
    reached.iter().map(one).collect()
}

fn unknown(name: &str) -> String {
    format!("add {name} to the DNS, or set `addresses` in coordinator.toml to what hosts can reach")
}

/// Whether its ports are its own, or free.
fn gates(config: &Config, runs: bool) -> Vec<Finding> {
    let gates: [(&str, SocketAddr); 3] = [
        ("main gate", config.main()),
        ("enrolment gate", config.enrolment()),
        ("metrics and health", config.http()),
    ];
    let one = |(what, at): (&str, SocketAddr)| match TcpListener::bind(at) {
        Ok(_) if runs => Finding::warn(
            format!("a coordinator runs, and nobody listens on {at} ({what})"),
            "journalctl -u cutover-coordinator -n 50; was coordinator.toml changed since its start?",
        ),
        Ok(_) => Finding::ok(format!("{at} is free for the {what}")),
        Err(problem) if problem.kind() == ErrorKind::AddrInUse && runs => {
            Finding::ok(format!("the {what} is on {at}"))
        }
        Err(problem) if problem.kind() == ErrorKind::AddrInUse => Finding::error(
            format!("somebody else listens on {at}, which the {what} needs"),
            format!("ss -ltnp 'sport = :{}' says who", at.port()),
        ),
        Err(problem) => Finding::error(
            format!("nothing can listen on {at} ({what}): {problem}"),
            "set listen_address in coordinator.toml to an address of this machine",
        ),
    };
    gates.into_iter().map(one).collect()
}

fn certificate(config: &Config, now: SystemTime) -> Finding {
    if let Err(error) = Authority::load(&config.pki()) {
        return Finding::error(
            chain(&error),
            "cutover-coordinator init --address HOST; after a loss, put your copy of pki/ back",
        );
    }
    let Some(life) = Authority::own_life(&config.pki()) else {
        return Finding::ok("it has no certificate of its own yet, and makes one at its start");
    };
    if now < life.from {
        return Finding::error(
            "its certificate begins in the future: the clock here is wrong",
            "timedatectl set-ntp true",
        );
    }
    match life.until.duration_since(now) {
        Ok(left) if left > CERTIFICATE_WARN => Finding::ok(format!(
            "its certificate holds for {} days",
            left.as_secs() / DAY
        )),
        Ok(left) => Finding::warn(
            format!("its certificate ends in {} days", left.as_secs() / DAY),
            "systemctl restart cutover-coordinator (it renews at its start, too)",
        ),
        Err(_) => Finding::error(
            "its certificate has expired, or the clock here is wrong",
            "timedatectl set-ntp true; then systemctl restart cutover-coordinator",
        ),
    }
}

fn of_store(condition: Condition) -> Finding {
    match condition {
        Condition::Absent => Finding::ok("there is no store yet; it is made at the first start"),
        Condition::InUse(holder) => Finding::ok(format!(
            "the store is in use{}",
            holder.map_or_else(String::new, |holder| format!(" by {holder}"))
        )),
        Condition::Whole => Finding::ok("the store can be read from end to end"),
        Condition::Damaged(why) => Finding::error(
            format!("the store is damaged: {why}"),
            "start the coordinator: it sets it aside and begins anew from its newest snapshot; or cutover-coordinator restore FILE",
        ),
        Condition::Unknown(why) => Finding::warn(
            format!("the store can't be looked at: {why}"),
            "run this as root, or as the coordinator's user",
        ),
    }
}

/// Whether something keeps the clock right.
fn clock(root: &Path) -> Finding {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let kept = at(SYNCHRONISED).exists() || keeper(&at("/proc")).is_some();
    if kept {
        Finding::ok("something keeps the clock right")
    } else {
        Finding::warn(
            "nothing here seems to keep the clock right; certificates and log lines need it, no decision does",
            "timedatectl set-ntp true",
        )
    }
}

fn keeper(processes: &Path) -> Option<String> {
    let entries = std::fs::read_dir(processes).ok()?.filter_map(Result::ok);
    let names = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    names
        .map(|name| name.trim().to_owned())
        .find(|name| KEEPERS.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use cutover_daemon::findings::Level;

    use super::*;

    fn at(state: &Path) -> Config {
        Config {
            state_dir: state.to_owned(),
            listen_address: "127.0.77.1".parse().expect("an address"),
            addresses: vec!["127.0.77.1".to_owned()],
            ..Config::default()
        }
    }

    fn level(found: &[Finding], words: &str) -> Option<Level> {
        let one = found.iter().find(|finding| finding.what.contains(words));
        one.map(|finding| finding.level)
    }

    #[test]
    fn a_machine_without_a_ca_is_sick_and_one_with_it_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = at(dir.path());
        let before = examine(&config, &Probe::Here);
        assert!(findings::sick(&before), "{before:?}");
        Authority::init(&config.pki(), &config.addresses, SystemTime::now()).expect("a CA");
        let after = examine(&config, &Probe::Here);
        assert!(!findings::sick(&after), "{after:?}");
        assert_eq!(level(&after, "there is no store yet"), Some(Level::Ok));
    }

    #[test]
    fn a_port_that_somebody_else_has_is_an_error_that_says_how_to_find_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let taken = TcpListener::bind("127.0.77.2:0").expect("a port");
        let mut config = at(dir.path());
        config.listen_address = "127.0.77.2".parse().expect("an address");
        config.port = taken.local_addr().expect("an address").port();
        let found = gates(&config, false);
        assert_eq!(level(&found, "somebody else listens"), Some(Level::Error));
        assert_eq!(
            level(&gates(&config, true), "the main gate is on"),
            Some(Level::Ok)
        );
    }

    #[test]
    fn a_damaged_store_is_an_error_and_one_in_use_is_not() {
        assert_eq!(
            of_store(Condition::Damaged("x".to_owned())).level,
            Level::Error
        );
        assert_eq!(of_store(Condition::InUse(None)).level, Level::Ok);
    }
}
