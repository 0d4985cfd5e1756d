//! What the figures were taken on.

use std::process::Command;

/// The machine and what it runs.
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    docker: String,
    nginx: String,
    build: &'static str,
}

impl Machine {
    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} cores ({}), Linux {}, Docker {}, nginx {}, {} build",
            self.cores, self.processor, self.kernel, self.docker, self.nginx, self.build
        )
    }
}

/// As it says of itself.
pub(crate) fn described() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    Machine {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        processor: processor.trim().to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        // "Docker version 28.2.2, build …", "nginx version: nginx/1.22.1"
        docker: word(&["dockerd", "--version"], "version "),
        nginx: word(&["nginx", "-v"], "nginx/"),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    }
}

/// What stands behind `after`, up to a space or comma, in what a program says.
fn word(program: &[&str], after: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let said = program.split_first().and_then(|(name, words)| {
        Command::new(name)
            .args(words)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .output()
            .ok()
    });
    let said = said.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    });
    let version = said
        .split_once(after)
        .map_or("unknown", |(_, version)| version);
    version
        .split([' ', ',', '\n'])
        .next()
        .unwrap_or_default()
        .to_owned()
}
