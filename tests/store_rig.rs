//! What the tests of the store share: the writing process and the check of what
//! it acknowledged.
#![allow(dead_code)] // each test file compiles this for itself and uses its part

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cutover_coordinator::store::{Key, Options, Probe, Store, Table};

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A writer process.
pub(crate) struct Writer {
    child: Child,
    listener: JoinHandle<Vec<String>>,
    ready: mpsc::Receiver<()>,
    acked: mpsc::Receiver<()>,
}

impl Writer {
    pub(crate) fn start(state: &Path, tag: &str, words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_store-writer"));
        command.arg("write").arg(state).arg(tag).args(words);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let out = child.stdout.take().expect("is piped");
        let (tell, ready) = mpsc::channel();
        let (tell_acked, told_acked) = mpsc::channel();
        let listener = std::thread::spawn(move || {
            let mut acked = Vec::new();
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                match line.strip_prefix("acked ") {
                    Some(key) => {
                        acked.push(key.to_owned());
                        let _ = tell_acked.send(());
                    }
                    None => drop(tell.send(())),
                }
            }
            acked
        });
        Self {
            child,
            listener,
            ready,
            acked: told_acked,
        }
    }

    /// Waits until the store is open.
    pub(crate) fn wait_ready(&self) {
        self.ready
            .recv_timeout(PATIENCE)
            .expect("the writer opens its store");
    }

    /// Waits until something was acknowledged.
    pub(crate) fn wait_acked(&self) {
        self.acked
            .recv_timeout(PATIENCE)
            .expect("the writer writes");
    }

    /// Whether the store is open, or the writer gone.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.ready.try_recv(), Err(mpsc::TryRecvError::Empty))
    }

    /// Kills it; returns what it acknowledged.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("is killed");
        self.child.wait().expect("ends");
        self.listener.join().expect("listens")
    }
}

/// The options under which tests open stores: with the probe as it is shipped.
pub(crate) fn options() -> Options {
    let program = env!("CARGO_BIN_EXE_store-writer").into();
    let probe = Probe::Process {
        program,
        args: vec!["store-probe".into()],
        within: PATIENCE,
    };
    let mut options = Options::new(probe);
    options.reserve = 0;
    options
}

/// What of the acknowledged is missing or not what it was.
pub(crate) fn lost(store: &Store, acked: &[String]) -> Vec<String> {
    let mut lost = Vec::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for key in acked {
        let (name, number) = key.rsplit_once('-').expect("TAG-WRITER-NUMBER");
        let number: u64 = number.parse().expect("a number");
        let found: Option<String> = store
            .read(Table::Facts, &Key::of(name).number(number))
            .expect("reads");
        if found.is_none_or(|text| !is_text_of(&text, key)) {
            lost.push(key.clone());
        }
        last.insert(name, number);
    }
    for (name, number) in last {
        let count = store.counter(&Key::of(name)).expect("reads");
        let desk: Option<String> = store.read(Table::Desks, &Key::of(name)).expect("reads");
        // The one after the last may be there without having been acknowledged.
        let good = (number + 1..=number + 2).contains(&count)
            && desk.is_some_and(|text| is_text_of(&text, &format!("{name}-{:06}", count - 1)));
        if !good {
            lost.push(format!("desk or counter of {name}"));
        }
    }
    lost
}

fn is_text_of(text: &str, key: &str) -> bool {
    !text.is_empty() && text.replace(key, "").is_empty()
}

/// Lets the writer work for a while: what is tested is the instant of its death.
pub(crate) fn linger(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::park_timeout(until - Instant::now());
    }
}
