//! The service that the tests deploy: it answers over HTTP, echoes over TCP, or works in the background,
//! and shows on demand every fault that a new version may have.
//!
//! The faults are set by environment variables (see [`behaviour`]), so that a "version 3" is another image tag
//! or another `environment:` in the Compose file. It knows nothing of Cutover.
#![allow(
    clippy::print_stdout,
    reason = "the log of a container is its standard output"
)]

mod behaviour;
mod connections;
mod http;
mod routes;
mod sha1;
mod tcp;
mod websocket;
mod worker;

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::Backlog;

use behaviour::{Behaviour, Mode};
use connections::Connections;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

fn main() -> ExitCode {
    // Blocked before any thread exists, so that only the waiting thread below ever sees it. As process 1 of a
    // container we would otherwise ignore SIGTERM altogether.
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.add(Signal::SIGINT);
    term.thread_block()
        .expect("blocking a signal in our own thread cannot fail");

    let behaviour = match Behaviour::from_environment() {
        Ok(behaviour) => Arc::new(behaviour),
        Err(problem) => {
            println!("cannot start: {problem}");
            return ExitCode::from(78);
        }
    };
    println!(
        "version {} replica {} starting",
        behaviour.version, behaviour.replica
    );
    for line in 1..=behaviour.log_lines {
        println!("log line {line} of {}", behaviour.log_lines);
    }
    if behaviour.exit_at_start {
        println!("exiting at start, as told");
        return behaviour.exit_code();
    }
    let connections = Arc::new(Connections::default());

    let waiting = (behaviour.clone(), connections.clone());
    thread::spawn(move || wait_for_term(&term, &waiting.0, &waiting.1));
    if let Some(after) = behaviour.exit_after {
        let behaviour = behaviour.clone();
        thread::spawn(move || {
            thread::sleep(after);
            println!("exiting after {after:?}, as told");
            behaviour.exit();
        });
    }

    if behaviour.mode == Mode::Worker {
        worker::run(&behaviour, &connections);
    } else {
        let bind = || TcpListener::bind((behaviour.bind.as_str(), behaviour.port));
        let _taken = behaviour.port_taken.then(bind);
        let listener = match bind() {
            Ok(listener) => listener,
            Err(problem) => {
                println!(
                    "cannot listen on {}:{}: {problem}",
                    behaviour.bind, behaviour.port
                );
                return ExitCode::FAILURE;
            }
        };
        let serve = if behaviour.mode == Mode::Tcp {
            tcp::serve
        } else {
            routes::serve
        };
        // More than std's 128: where a full queue drops a connection, it is the service that was slow, not what is tried.
        let _ = Backlog::new(BACKLOG).map(|backlog| nix::sys::socket::listen(&listener, backlog));
        connections.accept_all(listener, &behaviour, serve);
    }

    // The listener is closed; what was accepted may finish.
    let left = connections.wait_until_done(behaviour.grace);
    println!("stopped with {left} connections cut");
    ExitCode::SUCCESS
}

fn wait_for_term(term: &SigSet, behaviour: &Behaviour, connections: &Connections) {
    loop {
        match term.wait() {
            Ok(signal) if behaviour.ignore_term => println!("{signal} ignored, as told"),
            Ok(signal) => {
                println!("{signal}: stopping");
                connections.stop(&behaviour.bind, behaviour.port);
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
