//! The program `cutover-agent` as somebody on a host types it: what it says, and its exit code.
//!
//! The agent that is asked is played here by a line on its socket; what a real one answers is tested
//! where it is at home.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the report"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use cutover_proto::tls::Fingerprint;
use cutover_proto::token::{Token, TokenSecret};
use cutover_tests::process::built;
use cutover_tests::scratch::{Loopback, Scratch};

/// A machine with nothing on it but a configuration.
struct Machine {
    scratch: Scratch,
}

impl Machine {
    fn new() -> Self {
        let scratch = Scratch::new("agent");
        let path = scratch.path();
        let lines = format!(
            "state_dir = \"{0}/state\"\nmachine_id_file = \"{0}/machine-id\"\n",
            path.display()
        );
        std::fs::write(path.join("agent.toml"), lines).unwrap();
        std::fs::write(
            path.join("machine-id"),
            "0123456789abcdef0123456789abcdef\n",
        )
        .unwrap();
        Self { scratch }
    }

    /// Types it, with this on standard input; its exit code and what it said to whom.
    fn types(&self, words: &[&str], input: &str) -> (i32, String, String) {
        let mut command = Command::new(built("cutover-agent"));
        command
            .arg("--config")
            .arg(self.scratch.path().join("agent.toml"))
            .args(words);
        let pipe = Stdio::piped;
        let child = command.stdin(pipe()).stdout(pipe()).stderr(pipe());
        let mut child = child.spawn().unwrap();
        // It may end without having read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("it was not killed");
        (code, text(output.stdout), text(output.stderr))
    }

    /// Types it; it must fail with this code, and say this.
    #[track_caller]
    fn fails(&self, words: &[&str], input: &str, code: i32, says: &str) {
        let (got, out, err) = self.types(words, input);
        assert_eq!(got, code, "{words:?}: {err}");
        assert!(err.contains(says), "{words:?} must say {says:?}: {err}");
        assert!(out.is_empty(), "{words:?}: {out}");
    }

    /// An agent that gives one question this answer; empty: it hangs up instead.
    fn answers(&self, answer: &'static str) -> thread::JoinHandle<String> {
        let folder = self.scratch.path().join("state/sockets");
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
            asked
        })
    }
}

/// A token of nobody's.
fn token(life: Duration) -> String {
    let token = Token {
        ca: Fingerprint::of(b"nobody's"),
        expires: SystemTime::now() + life,
        secret: TokenSecret::from_bytes([7; 32]),
    };
    token.to_line()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_makes_no_sense_is_exit_code_2() {
    let machine = Machine::new();
    let token = token(HOUR);
    let at = |words: &[&'static str]| {
        [&["enroll", "--token-file", "-", "--coordinator"][..], words].concat()
    };
    let good = "127.0.0.1:1";
    for (words, input, says) in [
        (vec!["enrol"], "", "unrecognized subcommand"),
        (vec!["revert"], "", "<SERVICE>"),
        (vec!["revert", "Shop/Web"], "", "Shop"),
        (vec!["hold", "shop/web/1"], "", "shop/web/1"),
        (
            at(&["nowhere"]),
            token.as_str(),
            "\"nowhere\" is no HOST:PORT",
        ),
        (
            at(&[good, "--label", "web"]),
            token.as_str(),
            "write KEY=VALUE",
        ),
        (
            at(&[good, "--host", "Web 1"]),
            token.as_str(),
            "give another name with --host",
        ),
        (
            at(&[good]),
            &token[..token.len() - 4],
            "the token was cut off",
        ),
        (at(&[good]), "", "no token was given"),
    ] {
        machine.fails(&words, input, 2, says);
    }
    assert!(
        !machine
            .scratch
            .path()
            .join("state/membership/link.key")
            .exists(),
        "nothing was made for what makes no sense"
    );
}

#[test]
fn where_nobody_answers_is_exit_code_5() {
    let machine = Machine::new();
    let asking: [&[&str]; 5] = [
        &["status"],
        &["ps", "-o", "json"],
        &["revert", "shop/web"],
        &["revert", "web"],
        &["hold", "shop/web"],
    ];
    for words in asking {
        machine.fails(words, "", 5, "systemctl start cutover-agent");
    }
    let nobody = Loopback::claim();
    let address = nobody.free_port(1).to_string();
    let words = [
        "enroll",
        "--coordinator",
        &address,
        "--host",
        "h1",
        "--token-file",
        "-",
    ];
    machine.fails(&words, &token(HOUR), 5, &address);
}

#[test]
fn what_the_agent_says_decides_between_2_and_7_and_0() {
    let machine = Machine::new();
    let agent = machine.answers("{\"not_here\":\"shop/web is not here\"}\n");
    machine.fails(&["revert", "shop/web"], "", 2, "shop/web is not here");
    assert_eq!(
        agent.join().unwrap(),
        "{\"revert\":{\"service\":\"shop/web\"}}\n"
    );
    let agent = machine.answers("{\"refused\":\"nothing to revert\"}\n");
    machine.fails(&["revert", "shop/web"], "", 7, "nothing to revert");
    drop(agent.join());
    let agent = machine.answers("{\"done\":\"shop/web is held\"}\n");
    let said = machine.types(&["hold", "shop/web"], "");
    assert_eq!(said, (0, "shop/web is held\n".to_owned(), String::new()));
    let asked = agent.join().unwrap();
    assert_eq!(
        asked,
        "{\"hold\":{\"service\":\"shop/web\",\"hold\":true}}\n"
    );
}

// A script that takes 5 for "nothing happened" must not be told it where it may have happened.
#[test]
fn an_answer_that_is_lost_is_neither_5_nor_7() {
    let machine = Machine::new();
    let agent = machine.answers("");
    machine.fails(&["revert", "shop/web"], "", 1, "it may have been done");
    drop(agent.join());
    let agent = machine.answers("{\"sure\":\"ok\"}\n");
    machine.fails(&["revert", "shop/web"], "", 1, "is it another version");
    drop(agent.join());
}

#[test]
fn a_bare_name_is_one_service_or_exit_code_2() {
    let machine = Machine::new();
    let here = "{\"connected\":false,\"services\":[]}\n";
    let agent = machine.answers(here);
    machine.fails(&["revert", "web"], "", 2, "web is not on this host");
    assert_eq!(agent.join().unwrap(), "{\"status\":{}}\n");
}

#[test]
fn a_configuration_that_cannot_be_used_is_exit_code_78() {
    let machine = Machine::new();
    let file = machine.scratch.path().join("agent.toml");
    std::fs::write(&file, "state_dri = '/var/lib'\n").unwrap();
    for words in [&["status"][..], &["run"]] {
        machine.fails(words, "", 78, "state_dri");
    }
}
