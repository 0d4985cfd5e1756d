//! Several files, anchors and variables.

use std::collections::BTreeSet;

use cutover_compose::Severity;

use crate::workshop::{Workshop, web};

const BASE: &str = "
services:
  web:
    image: base
    command: [a, b]
    environment: {A: 1, B: 2}
    labels: [x=1]
    ports: [\"80:8080\", \"81:8081\"]
    expose: [9000]
    dns: 1.1.1.1
    volumes: [data:/data, logs:/logs]
    healthcheck: {test: [CMD, a], interval: 5s}
    logging: {driver: json-file, options: {max-size: 1m}}
    networks: [one]
networks: {one: , two: }
volumes: {data: , logs: , other: }
";

fn merged(over: &str) -> cutover_core::spec::ServiceSpec {
    let workshop =
        Workshop::new(&[("a.yaml", BASE), ("b.yaml", over)]).files(&["a.yaml", "b.yaml"]);
    workshop.loaded().release.services.remove(0)
}

#[test]
fn a_later_file_adds_replaces_and_joins_by_composes_rules() {
    let spec = merged(
        "
services:
  web:
    image: over
    command: c
    environment: [B=3, C=4]
    labels: {y: 2}
    ports: [\"80:8080\", {target: 1, published: 82}]
    expose: [9000, 9001]
    dns: [8.8.8.8]
    volumes: [\"other:/data:ro\"]
    healthcheck: {test: [CMD, z], retries: 9}
    logging: {driver: journald}
    networks: {two: {aliases: [t]}}
",
    );
    let c = &spec.container;
    assert_eq!(
        (c.image.as_str(), c.command.clone()),
        ("over", Some(vec!["c".to_owned()]))
    );
    let environment: Vec<String> = c
        .environment
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(environment, ["A=1", "B=3", "C=4"]);
    assert_eq!(c.labels.len(), 2);
    let listens: Vec<u16> = spec
        .traffic
        .iter()
        .map(|listener| listener.listen)
        .collect();
    assert_eq!(listens, [80, 81, 82]);
    assert_eq!(c.dns, ["1.1.1.1", "8.8.8.8"]);
    let mounts: Vec<(&str, bool)> = c
        .mounts
        .iter()
        .map(|mount| (mount.target.as_str(), mount.read_only))
        .collect();
    assert_eq!(mounts, [("/data", true), ("/logs", false)]);
    let health = c.healthcheck.as_ref().expect("it is there");
    assert_eq!(
        (
            health.test.clone(),
            health.interval.as_secs(),
            health.retries
        ),
        (vec!["CMD".to_owned(), "z".to_owned()], 5, 9)
    );
    let logging = c.logging.as_ref().expect("it is there");
    assert_eq!(
        (logging.driver.as_str(), logging.options.len()),
        ("journald", 0)
    );
    let networks: Vec<&str> = c
        .networks
        .iter()
        .map(|network| network.name.as_str())
        .collect();
    assert_eq!(networks, ["shop_one", "shop_two"]);
}

#[test]
fn reset_takes_away_and_override_takes_the_place() {
    let spec = merged(
        "services:\n  web:\n    ports: !override [\"90:9090\"]\n    environment: !reset {}\n    dns: !reset\n    healthcheck: !override {test: x}\n",
    );
    assert_eq!(
        spec.traffic
            .iter()
            .map(|listener| listener.listen)
            .collect::<Vec<_>>(),
        [90]
    );
    assert!(spec.container.environment.is_empty() && spec.container.dns.is_empty());
    assert_eq!(
        spec.container
            .healthcheck
            .expect("it is there")
            .interval
            .as_secs(),
        30
    );
}

#[test]
fn what_was_reset_can_be_set_anew_by_a_third_file() {
    let one = "services: {web: {image: x, environment: {A: 1}}}";
    let two = "services: {web: {environment: !reset {B: 2}}}";
    let three = "services: {web: {environment: {C: 3}}}";
    let workshop = Workshop::new(&[("a.yaml", one), ("b.yaml", two), ("c.yaml", three)]);
    let service = workshop
        .files(&["a.yaml", "b.yaml", "c.yaml"])
        .loaded()
        .release
        .services
        .remove(0);
    assert_eq!(
        service
            .container
            .environment
            .into_keys()
            .collect::<Vec<_>>(),
        ["C"]
    );
}

#[test]
fn what_cannot_be_merged_says_where_both_are() {
    let workshop = Workshop::new(&[
        ("a.yaml", BASE),
        ("b.yaml", "services:\n  web:\n    healthcheck: off\n"),
    ]);
    assert_eq!(
        workshop.files(&["a.yaml", "b.yaml"]).errors()[0],
        "b.yaml:3:18: error: 'services.web.healthcheck' is a single value, but a mapping in an earlier file (a.yaml:12:18); \
         write it the same way, or put !override before it"
    );
}

#[test]
fn anchors_and_merge_keys_are_written_out_and_what_stands_there_wins() {
    let text = "
x-base: &base
  image: base
  environment: &env {A: 1}
services:
  web:
    <<: *base
    image: own
  two:
    <<: [{image: first}, *base]
    environment: {<<: *env, B: 2}
";
    let services = Workshop::new(&[("compose.yaml", text)])
        .loaded()
        .release
        .services;
    assert_eq!(
        (
            services[0].container.image.as_str(),
            services[0].container.environment.len()
        ),
        ("own", 1)
    );
    assert_eq!(
        (
            services[1].container.image.as_str(),
            services[1].container.environment.len()
        ),
        ("first", 2)
    );
}

#[test]
fn the_documents_of_one_file_merge_as_files_do() {
    let text = "services: {web: {image: a, user: u}}\n---\nservices: {web: {image: b}}\n";
    let service = Workshop::new(&[("compose.yaml", text)])
        .loaded()
        .release
        .services
        .remove(0);
    assert_eq!(
        (
            service.container.image.as_str(),
            service.container.user.as_deref()
        ),
        ("b", Some("u"))
    );
}

#[test]
fn variables_are_replaced_before_files_meet_and_dotenv_yields_to_the_environment() {
    let text = web(
        "image: shop/web:${TAG}\nports: [\"${PORT:-80}:8080\"]\nlabels: {app: $COMPOSE_PROJECT_NAME}\ncommand: echo $$HOME",
    );
    let workshop = Workshop::new(&[("compose.yaml", &text), (".env", "TAG=env\nPORT=81\n")])
        .with("TAG", "shell");
    let service = workshop.loaded().release.services.remove(0);
    assert_eq!(service.container.image, "shop/web:shell");
    assert_eq!(service.traffic[0].listen, 81);
    assert_eq!(service.container.labels["app"], "shop");
    assert_eq!(
        service.container.command,
        Some(vec!["echo".to_owned(), "$HOME".to_owned()])
    );
}

#[test]
fn a_message_shows_the_template_and_never_what_replaced_it() {
    let text = web(
        "image: x\nstop_grace_period: ${SECRET}\nports: [\"${SECRET}\"]\ndns: [\"${SECRET}\"]\nrestart: ${SECRET}",
    );
    let errors = Workshop::new(&[("compose.yaml", &text)])
        .with("SECRET", "hunter2")
        .errors();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(
        errors
            .iter()
            .all(|error| error.contains("${SECRET}") && !error.contains("hunter2")),
        "{errors:?}"
    );
}

/// Every form of value, in every field at once: all that can be said is said.
#[test]
fn no_field_lets_a_variable_into_a_message() {
    let words = include_str!("../../src/fields.rs").split('"');
    let names: BTreeSet<&str> = words
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(names.contains("volumes") && names.len() > 92);
    for value in [
        "S",
        "[S]",
        "{a: S}",
        "{a: [S]}",
        "{b: {c: S}}",
        "[{source: S, target: S, type: bind}]",
        "['a:S']",
        "['S:/a']",
        "['/a:/b:S']",
        "['a=S']",
        "['S=a']",
    ] {
        let value = value.replace(
            'S',
            if value.contains('\'') {
                "${SECRET}"
            } else {
                "'${SECRET}'"
            },
        );
        let lines: String = names
            .iter()
            .filter(|name| **name != "image")
            .map(|name| format!("{name}: {value}\n"))
            .collect();
        let workshop = Workshop::new(&[("compose.yaml", &web(&format!("image: x\n{lines}")))])
            .with("SECRET", "hunter2")
            .with("COMPOSE_PROFILES", "*");
        let said = workshop.load().expect_err("much is wrong");
        assert!(
            said.lines().count() > 20 && !said.contains("hunter2"),
            "{value}\n{said}"
        );
    }
}

#[test]
fn a_bare_number_that_compose_would_rewrite_is_kept_and_said() {
    let text = web(
        "image: x\nrestart: always\nenvironment: {A: 1.10, B: 0755, C: 12, D: \"1.10\", E: 1_000}",
    );
    let workshop = Workshop::new(&[("compose.yaml", &text)]);
    assert_eq!(
        workshop.loaded().release.services[0].container.environment["A"],
        "1.10"
    );
    let warnings = workshop.notes(Severity::Warning);
    let named: Vec<bool> = ["A", "B", "C", "D", "E"]
        .map(|name| {
            warnings
                .iter()
                .any(|warning| warning.contains(&format!("environment.{name}'")))
        })
        .into();
    assert_eq!(named, [true, true, false, false, true], "{warnings:?}");
}
