//! What a wish becomes: which hosts, from what to what, or why not.

use super::*;
use cutover_core::spec::{
    Check, CommitRule, ContainerSpec, OnFailure, Order, Readiness, RestartCondition, RestartPolicy,
    Strategy,
};

pub(crate) fn spec() -> ServiceSpec {
    ServiceSpec {
        app: "shop".parse().expect("a name"),
        service: "web".parse().expect("a name"),
        container: ContainerSpec::default(),
        replicas: 1,
        traffic: Vec::new(),
        placement: vec![Constraint {
            subject: Subject::Label("role".to_owned()),
            equal: true,
            value: "web".to_owned(),
        }],
        ready: Readiness {
            check: Check::Running,
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 1,
            within: Duration::from_secs(60),
            settle: Duration::ZERO,
        },
        live: None,
        smoke: Vec::new(),
        restart: RestartPolicy {
            condition: RestartCondition::No,
            delay: Duration::ZERO,
            max_attempts: None,
            window: Duration::ZERO,
        },
        policy: RolloutPolicy {
            strategy: Strategy::Rolling,
            order: Order::StartFirst,
            wave: 1,
            delay: Duration::ZERO,
            failure_budget: 0,
            on_failure: OnFailure::Rollback,
            observe: Duration::ZERO,
            drain: Duration::from_secs(30),
            commit: CommitRule::PerWave,
        },
    }
}

/// `NAME:RUNS:FLAGS`: runs is a revision (0: nothing, ?N: one that nobody knows); flags are
/// a(way), c(ordoned), x (matches no more).
fn hosts(text: &str) -> Vec<HostFacts> {
    let host = |word: &str| {
        let mut parts = word.split(':');
        let name = parts.next().expect("a name");
        let runs = parts.next().expect("what runs");
        let flags = parts.next().unwrap_or_default();
        let number = |text: &str| text.parse::<RevisionNumber>().ok();
        let runs = match runs.strip_prefix('?') {
            Some(unknown) => Runs::Unknown(number(unknown).expect("a number")),
            None => number(runs).map_or(Runs::Nothing, |n| Runs::Revision(side_of(&spec(), n))),
        };
        let role = if flags.contains('x') { "db" } else { "web" };
        HostFacts {
            host: name.parse().expect("a name"),
            labels: BTreeMap::from([("role".to_owned(), role.to_owned())]),
            cordoned: flags.contains('c'),
            present: !flags.contains('a'),
            runs,
            fence: Generation::NONE,
        }
    };
    text.split_whitespace().map(host).collect()
}

fn planned(text: &str, to: Option<u64>, away: Away) -> String {
    let spec = spec();
    let wish = Wish {
        id: "r1".parse().expect("a name"),
        service: "shop/web".parse().expect("a service"),
        epoch: 1,
        to: to
            .and_then(RevisionNumber::new)
            .map(|number| (number, &spec)),
        policy: spec.policy.clone(),
        only: None,
        away,
        lease: Duration::from_secs(30),
        retain: 5,
    };
    match plan(wish, &hosts(text)) {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(Planned::AlreadyThere) => "already there".to_owned(),
        Ok(Planned::Plan(plan)) => {
            let side = |side: Option<&Side>| {
                side.map_or_else(|| "-".to_owned(), |side| side.revision.to_string())
            };
            let mut words: Vec<String> = plan
                .hosts
                .iter()
                .map(|host| {
                    let kind = &host.kind;
                    format!(
                        "{} {}>{}",
                        host.host,
                        side(kind.incumbent()),
                        side(kind.candidate())
                    )
                })
                .collect();
            words.extend(plan.skipped.iter().map(|host| format!("{host} skipped")));
            words.join(", ")
        }
    }
}

#[test]
fn each_host_goes_from_what_it_runs_to_what_it_should() {
    for (fleet, to, expected) in [
        ("a:0 b:1 c:2", Some(2), "a ->2, b 1>2"),
        ("a:2 b:2", Some(2), "already there"),
        ("a:1 b:1:x", Some(2), "a 1>2, b 1>-"),
        ("a:1:x b:1", Some(2), "b 1>2, a 1>-"), // what leaves comes last
        ("a:2 b:1:x", Some(2), "b 1>-"),
        ("a:1 b:0:c", Some(2), "a 1>2"),
        ("a:1 b:1:c", Some(2), "a 1>2"), // a cordoned host keeps what it runs
        ("a:1 b:2", None, "a 1>-, b 2>-"),
        ("a:1:c", None, "a 1>-"),
        ("a:0", None, "already there"),
    ] {
        assert_eq!(planned(fleet, to, Away::Skip), expected, "{fleet}");
    }
}

#[test]
fn hosts_that_are_away_are_skipped_unless_they_are_too_many() {
    let too_many = "refused: shop/web: 2 of 5 hosts are away (a, b); bring them back, \
                    or `cutover host cordon` those that stay away";
    for (fleet, away, expected) in [
        (
            "a:1:a b:1 c:1 d:1",
            Away::Skip,
            "b 1>2, c 1>2, d 1>2, a skipped",
        ),
        ("a:1:a b:1:a c:1 d:1 e:1", Away::Skip, too_many),
        (
            "a:1:a b:1:ac c:1 d:1 e:1",
            Away::Skip,
            "c 1>2, d 1>2, e 1>2, a skipped",
        ),
        ("a:2:a b:1", Away::Skip, "b 1>2"), // it is there already, as far as is known
        ("a:1:a b:1:a", Away::SkipAny, "a skipped, b skipped"),
        (
            "a:1:a b:1 c:1 d:1",
            Away::Refuse,
            "refused: shop/web: a is away, and no host may be left behind",
        ),
    ] {
        assert_eq!(planned(fleet, Some(2), away), expected, "{fleet}");
    }
}

#[test]
fn what_nobody_would_run_or_nobody_remembers_is_refused() {
    assert_eq!(
        planned("a:0:x", Some(1), Away::Skip),
        "refused: shop/web: no host matches node.labels.role == web"
    );
    assert_eq!(
        planned("a:?9", Some(2), Away::Skip),
        "refused: shop/web: a runs revision 9, which is not known here (yet)"
    );
    assert_eq!(planned("a:?2", Some(2), Away::Skip), "already there");
}

#[test]
fn two_services_cannot_have_one_listener_or_one_container_name() {
    let with = |listen: u16, host: Option<&str>, path: &str, protocol| {
        let mut spec = spec();
        spec.service = "api".parse().expect("a name");
        spec.traffic = vec![Listener {
            address: None,
            listen,
            host: host.map(str::to_owned),
            path: path.to_owned(),
            port: 8080,
            protocol,
        }];
        spec
    };
    let web = with(80, Some("shop.example"), "/", Protocol::Http);
    for (other, clashes) in [
        (with(80, Some("shop.example"), "/", Protocol::Http), true),
        (
            with(80, Some("shop.example"), "/api", Protocol::Http),
            false,
        ),
        (with(80, Some("api.example"), "/", Protocol::Http), false),
        (with(81, Some("shop.example"), "/", Protocol::Http), false),
        (with(80, None, "/", Protocol::Tcp), true),
    ] {
        assert_eq!(
            conflict(&web, &other).is_some(),
            clashes,
            "{:?}",
            other.traffic
        );
    }
    let mut named = spec();
    named.container.container_name = Some("one".to_owned());
    assert!(conflict(&named, &named.clone()).is_some());
    assert!(conflict(&spec(), &spec()).is_none());
}
