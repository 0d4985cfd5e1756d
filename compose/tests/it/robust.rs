//! No input makes it panic, hang or grow without bound.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::workshop::Workshop;

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").expect("a String");
    }
    let errors = Workshop::new(&[("compose.yaml", &text)]).errors();
    assert!(
        errors[0].contains("with this alias written out, more than 100000 values"),
        "{errors:?}"
    );
}

#[test]
fn depth_is_bounded_with_aliases_written_out() {
    let mut text = String::new();
    let mut before = "x".to_owned();
    for level in 0..20 {
        writeln!(
            text,
            "a{level}: &a{level} {}{before}{}",
            "[".repeat(10),
            "]".repeat(10)
        )
        .expect("a String");
        before = format!("*a{level}");
    }
    let errors = Workshop::new(&[("compose.yaml", &text)]).errors();
    assert!(errors[0].contains("more than 64 levels"), "{errors:?}");
    let errors = Workshop::new(&[("compose.yaml", &"[".repeat(100_000))]).errors();
    assert_eq!(errors.len(), 1);
}

#[test]
fn a_huge_file_is_refused_by_name() {
    let errors = Workshop::new(&[("compose.yaml", &"#".repeat((1 << 20) + 1))]).errors();
    assert_eq!(
        errors,
        ["compose.yaml:1:1: error: the file has more than 1048576 bytes; is it a Compose file?"]
    );
}

/// Pieces that lead far into the program when put together at random.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "services",
        "web",
        "image",
        "x:1",
        "ports",
        "80:80",
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        ", ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "-",
        "&a ",
        "*a",
        "<<",
        "!reset",
        "!override",
        "$",
        "${A}",
        "${A:-",
        "}",
        "'",
        "\"",
        "|",
        ">",
        "environment",
        "A=b",
        "volumes",
        "/a:/b",
        "./a:/b",
        "data:/d",
        "networks",
        "default",
        "healthcheck",
        "test",
        "CMD",
        "deploy",
        "replicas",
        "update_config",
        "order",
        "start-first",
        "x-cutover",
        "traffic",
        "listen",
        "ready",
        "http",
        "/h",
        "1",
        "-1",
        "99999999999999999999",
        "1m30s",
        "0.5",
        "null",
        "~",
        "true",
        "\t",
        "#",
        "---",
        "...",
        "%",
        "@",
        "ä",
        "\u{0}",
        "\u{feff}",
        "\\",
        "depends_on",
        "configs",
        "content",
        "file",
        "tmpfs",
        "ulimits",
        "soft",
        "logging",
        "profiles",
        "name",
        "expose",
        "8000-8010:1-11/tcp",
        "env_file",
    ];
    prop_oneof![8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

/// A mapping of known fields with values of every sort.
fn service() -> impl Strategy<Value = String> {
    let names = [
        "image",
        "command",
        "entrypoint",
        "environment",
        "env_file",
        "ports",
        "expose",
        "healthcheck",
        "networks",
        "volumes",
        "configs",
        "deploy",
        "stop_signal",
        "stop_grace_period",
        "labels",
        "logging",
        "user",
        "tmpfs",
        "cap_add",
        "security_opt",
        "sysctls",
        "ulimits",
        "extra_hosts",
        "dns",
        "shm_size",
        "depends_on",
        "profiles",
        "x-cutover",
        "restart",
        "scale",
        "mem_limit",
        "cpus",
        "build",
        "secrets",
        "privileged",
        "container_name",
        "working_dir",
        "init",
    ];
    let values = [
        "",
        "x",
        "1",
        "-1",
        "[]",
        "{}",
        "[a]",
        "{a: b}",
        "[{a: b}]",
        "[[a]]",
        "{a: {b: c}}",
        "[a:b:c:d]",
        "[\":\", \"::\", \":::\"]",
        "[\"/\", \"1/\", \"-\", \"1-\"]",
        "{test: [], interval: 1h}",
        "{a: {external: true}}",
        "[\"=\", \"a=\", \"=a\"]",
        "{update_config: {order: x, max_failure_ratio: 2}, resources: {limits: {cpus: -1}}, placement: {constraints: [\"==\", \"!=\"]}}",
        "{traffic: [{listen: 0}, {port: x}, 5], ready: {http: x, tcp: y}, smoke: [5, {}], live: {}, strategy: 1, drain: -1s}",
        "\"${A:-b}\"",
        "'\\'",
        "\"\\0\"",
        "99999999999999999999",
        "1e400",
        "0x",
        ".",
        "1.2.3",
        "ä",
        "\"ä:ä\"",
        "5ä",
    ];
    prop::collection::vec(
        (
            prop::sample::select(names.to_vec()),
            prop::sample::select(values.to_vec()),
        ),
        0..12,
    )
    .prop_map(|fields| {
        let lines: String = fields
            .iter()
            .map(|(name, value)| format!("    {name}: {value}\n"))
            .collect();
        format!("services:\n  web:\n    image: x\n{lines}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_text_makes_it_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        let _ = Workshop::new(&[("compose.yaml", &pieces.concat())]).load();
    }

    #[test]
    fn no_value_of_a_known_field_makes_it_panic(text in service(), over in service()) {
        let workshop = Workshop::new(&[("a.yaml", &text), ("b.yaml", &over)]);
        let _ = workshop.files(&["a.yaml"]).load();
        let workshop = Workshop::new(&[("a.yaml", &text), ("b.yaml", &over)]);
        let _ = workshop.files(&["a.yaml", "b.yaml"]).load();
    }

    #[test]
    fn no_dotenv_makes_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let _ = Workshop::new(&[("compose.yaml", "services: {web: {image: x}}"), (".env", &pieces.concat())]).load();
    }
}
