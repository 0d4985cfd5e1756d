//! A service without ports: a line at every tick, and an outcry when it is not alone.
//!
//! The lock file must be on a filesystem that both workers see (a shared volume).

use std::fs::{File, OpenOptions};
use std::thread;

use nix::fcntl::{Flock, FlockArg};

use crate::behaviour::Behaviour;
use crate::connections::Connections;

pub(crate) fn run(behaviour: &Behaviour, connections: &Connections) {
    let mut held: Option<Flock<File>> = None;
    let mut tick = 0_u64;
    while !connections.stopping() {
        if held.is_none() {
            held = behaviour
                .lock_file
                .as_deref()
                .and_then(|path| lock(path, behaviour));
        }
        tick += 1;
        println!(
            "tick {tick} version {} replica {}",
            behaviour.version, behaviour.replica
        );
        thread::sleep(behaviour.tick);
    }
}

/// The kernel lets the lock go with its process, however that ends, so a worker that was killed is not "running".
fn lock(path: &str, behaviour: &Behaviour) -> Option<Flock<File>> {
    let file = match OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
    {
        Ok(file) => file,
        Err(problem) => {
            println!("cannot open {path}: {problem}");
            return None;
        }
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Some(held),
        Err(_) => {
            println!(
                "TWO AT ONCE: version {} replica {} found another worker running",
                behaviour.version, behaviour.replica
            );
            None
        }
    }
}
