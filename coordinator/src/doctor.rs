//! `cutover-coordinator doctor`: what is wrong with this coordinator's machine, and what mends it.
//!
//! Kept true: nothing is changed, and nothing needs to run. What a running one finds
//! in its fleet is `cutover doctor`'s.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::time::SystemTime;

use cutover_daemon::findings::{self, Finding};
use cutover_daemon::logging::chain;

use crate::config::Config;
use crate::pki::Authority;
use crate::store::{self, Condition, Probe};

/// What makes room here.
const ROOM: &str = "free some space: with less than 16 MiB nothing is decided any more; snapshots/ keeps the newest by itself";

/// Looks at everything.
pub async fn examine(config: &Config, probe: &Probe) -> Vec<Finding> {
    let condition = store::examine(&config.state_dir, probe);
    let runs = matches!(condition, Condition::InUse(_));
    let mut found = addresses(config);
    found.extend(gates(config, runs));
    found.push(certificate(config, SystemTime::now()));
    found.extend(crate::ca::findings(config, SystemTime::now()));
    found.push(of_store(condition));
    found.push(findings::room(&config.state_dir, ROOM));
    found.push(findings::open_files("cutover-coordinator"));
    found.push(findings::clock(Path::new("/")).await);
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

/// Of the coordinator itself; [`crate::ca`] says how it stands with the CA.
fn certificate(config: &Config, now: SystemTime) -> Finding {
    if let Err(error) = Authority::load(&config.pki()) {
        return Finding::error(
            chain(&error),
            "cutover-coordinator init --address HOST; after a loss, put your copy of pki/ back",
        );
    }
    match Authority::own_life(&config.pki()) {
        Some(own) => findings::certificate(
            "its certificate",
            own.from,
            own.until,
            now,
            "systemctl restart cutover-coordinator (it renews at its start)",
        ),
        None => Finding::ok("it has no certificate of its own yet, and makes one at its start"),
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

    #[tokio::test]
    async fn a_machine_without_a_ca_is_sick_and_one_with_it_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = at(dir.path());
        let before = examine(&config, &Probe::Here).await;
        assert!(findings::sick(&before), "{before:?}");
        Authority::init(&config.pki(), &config.addresses, SystemTime::now()).expect("a CA");
        let after = examine(&config, &Probe::Here).await;
        assert!(!findings::sick(&after), "{after:?}");
        assert_eq!(level(&after, "there is no store yet"), Some(Level::Ok));
    }

    #[test]
    fn the_days_of_the_ca_and_of_its_own_certificate_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = at(dir.path());
        let now = SystemTime::now();
        Authority::init(&config.pki(), &config.addresses, now).expect("a CA");
        let days = |days: u64| now + std::time::Duration::from_secs(days * 24 * 3600);
        let levels = |now| {
            let mut found = crate::ca::findings(&config, now);
            found.push(certificate(&config, now));
            assert_eq!(found.len(), 2, "{found:?}");
            ["its certificate", "its CA"].map(|words| level(&found, words))
        };
        assert_eq!(levels(now), [Some(Level::Ok), Some(Level::Ok)]);
        assert_eq!(levels(days(80)), [Some(Level::Warn), Some(Level::Ok)]);
        assert_eq!(levels(days(3000)), [Some(Level::Error), Some(Level::Warn)]);
        assert_eq!(levels(days(3651)), [Some(Level::Error); 2]);
        let before = now - std::time::Duration::from_secs(24 * 3600);
        assert_eq!(levels(before), [Some(Level::Error); 2]);
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
