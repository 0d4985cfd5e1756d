//! An nginx of our own: its configuration, its processes, and every way to end them.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Daemon, Recipe};
use crate::reaper::{self, Cleanup};
use crate::wait;

const STARTING: Duration = Duration::from_secs(20);
const STOPPING: Duration = Duration::from_secs(20);
/// Where the status page is, on the address that the servers under test have too.
const STATUS_PORT: u16 = 8999;

/// A running nginx. Dropped, all its processes are killed.
#[derive(Debug)]
pub struct Nginx {
    prefix: PathBuf,
    listen: Ipv4Addr,
    master: Daemon,
    /// Masters started so far; their process groups hold all workers, orphans included.
    groups: Vec<Pid>,
    own_requests: AtomicU64,
    cleanup: Cleanup,
}

impl Nginx {
    /// A master with two workers in `prefix`, where `http.d/*.conf` and `stream.d/*.conf` are included, ready when its
    /// status page answers on `listen`. `prefix` must be open to www-data ([`crate::scratch::Scratch`] is).
    ///
    /// # Panics
    /// When it does not start; with its error log.
    pub async fn start(prefix: &Path, listen: Ipv4Addr) -> Self {
        Self::start_with(prefix, listen, "").await
    }

    /// As [`Nginx::start`], with what an admin may have written into the `http` block.
    ///
    /// # Panics
    /// When it does not start; with its error log.
    pub async fn start_with(prefix: &Path, listen: Ipv4Addr, http_extra: &str) -> Self {
        for folder in ["http.d", "stream.d"] {
            fs::create_dir_all(prefix.join(folder)).expect("the prefix must be writable");
        }
        fs::write(
            prefix.join("nginx.conf"),
            configuration(prefix, listen, http_extra),
        )
        .expect("the prefix must be writable");
        let at = |name: &str| prefix.join(name).display().to_string();
        let master = Recipe::new("nginx", at("output.log"))
            .args([
                "-p".to_owned(),
                format!("{}/", prefix.display()),
                "-c".to_owned(),
                at("nginx.conf"),
                "-e".to_owned(),
                at("error.log"),
            ])
            .args(["-g", "daemon off;"])
            .start();
        let groups = vec![master.pid()];
        let cleanup = reaper::at_the_end(&killing(&groups));
        let mut nginx = Self {
            prefix: prefix.to_owned(),
            listen,
            master,
            groups,
            own_requests: AtomicU64::new(0),
            cleanup,
        };
        nginx.wait_until_it_serves().await;
        nginx
    }

    /// Where its files are.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Its main configuration file.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.prefix.join("nginx.conf")
    }

    /// Its pid file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.prefix.join("nginx.pid")
    }

    /// Writes one file of the `http` block; takes effect with the next reload.
    pub fn write_http(&self, name: &str, text: &str) {
        fs::write(self.prefix.join("http.d").join(name), text)
            .expect("the prefix must be writable");
    }

    /// Writes one file of the `stream` block; takes effect with the next reload.
    pub fn write_stream(&self, name: &str, text: &str) {
        fs::write(self.prefix.join("stream.d").join(name), text)
            .expect("the prefix must be writable");
    }

    /// `nginx -t`.
    #[must_use]
    pub fn test(&self) -> Output {
        self.command()
            .arg("-t")
            .output()
            .expect("nginx must be startable")
    }

    /// The nginx command with our prefix and configuration, for `-t`, `-s` and the like.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("nginx");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-p")
            .arg(&self.prefix)
            .arg("-c")
            .arg(self.conf())
            .arg("-e")
            .arg(self.prefix.join("error.log"));
        command
    }

    /// SIGHUP, and waits until workers of the new configuration are there. The old ones may still be shutting down.
    ///
    /// # Panics
    /// When the new configuration is refused; with the end of the error log.
    pub async fn reload(&self) {
        let before: BTreeSet<Pid> = self.workers().into_iter().collect();
        self.master.signal(Signal::SIGHUP);
        let reloaded = wait::try_until(STARTING, "nginx to have new workers", async || {
            let new = self
                .workers()
                .into_iter()
                .filter(|pid| !before.contains(pid) && !is_shutting_down(*pid))
                .count();
            let old = before
                .iter()
                .filter(|pid| self.lives(**pid) && !is_shutting_down(**pid))
                .count();
            new >= 2 && old == 0
        })
        .await;
        if let Err(timed_out) = reloaded {
            panic!("{timed_out}\n{}", self.error_log());
        }
    }

    /// Waits until no worker of an earlier configuration is left.
    pub async fn wait_for_old_workers(&self, within: Duration) {
        wait::until(within, "old nginx workers to end", async || {
            !self.workers().into_iter().any(is_shutting_down)
        })
        .await;
    }

    /// The master, if it lives.
    #[must_use]
    pub fn master(&mut self) -> Option<Pid> {
        self.master.ended().is_none().then(|| self.master.pid())
    }

    /// All workers, those of masters that were killed included.
    #[must_use]
    pub fn workers(&self) -> Vec<Pid> {
        processes_of(&self.groups)
            .into_iter()
            .filter(|pid| !self.groups.contains(pid))
            .collect()
    }

    /// kill -9 of the master alone: the workers go on serving and hold the port.
    pub async fn kill_master(&mut self) {
        self.master.kill().await;
    }

    /// kill -9 of all of it.
    pub async fn kill_all(&mut self) {
        if self.master.ended().is_none() {
            // The master first: it would replace its workers.
            self.master.kill().await;
        }
        for pid in processes_of(&self.groups) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        wait::until(STOPPING, "nginx's workers to be gone", async || {
            processes_of(&self.groups).is_empty()
        })
        .await;
    }

    /// SIGQUIT: open requests may finish.
    pub async fn quit(&mut self, within: Duration) {
        self.master.signal(Signal::SIGQUIT);
        self.master
            .wait_for_end(within)
            .await
            .unwrap_or_else(|timed_out| panic!("after SIGQUIT: {timed_out}"));
    }

    /// A new master after the old one's end, whether or not it can serve.
    pub fn start_again(&mut self) {
        self.master.start_again();
        self.groups.push(self.master.pid());
        // Its counters begin anew.
        self.own_requests.store(0, Ordering::Relaxed);
        self.cleanup.replace_by(&killing(&self.groups));
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not; with the end of the error log.
    pub async fn wait_until_it_serves(&mut self) {
        let answered = wait::try_until(STARTING, "nginx to answer", async || {
            match self.master.ended() {
                Some(status) => Ok(Err(status)),
                None => self.status().await.map(Ok),
            }
        })
        .await;
        match answered {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => panic!(
                "nginx ended ({status})\n{}\n{}",
                self.master.tail(),
                self.error_log()
            ),
            Err(timed_out) => panic!("{timed_out}\n{}", self.error_log()),
        }
    }

    /// How many HTTP requests it has counted since its start, by all workers and over reloads, without those for its
    /// status page.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn requests(&self) -> u64 {
        let page = self.status().await.expect("nginx must answer");
        // "Active connections: 1\nserver accepts handled requests\n 12 12 34\n…", this request included.
        let all: u64 = page
            .lines()
            .find_map(|line| {
                line.strip_prefix(' ')?
                    .split_whitespace()
                    .nth(2)?
                    .parse()
                    .ok()
            })
            .expect("a status page");
        all - self.own_requests.load(Ordering::Relaxed)
    }

    async fn status(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((self.listen, STATUS_PORT)).await?;
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if !answer.contains("server accepts handled requests") {
            return Err(std::io::Error::other(format!("no status page: {answer:?}")));
        }
        self.own_requests.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    /// Its error log so far.
    #[must_use]
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.prefix.join("error.log")).unwrap_or_default()
    }

    fn lives(&self, pid: Pid) -> bool {
        processes_of(&self.groups).contains(&pid)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.error_log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- last lines of nginx's error log ---\n{}\n---",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

fn configuration(prefix: &Path, listen: Ipv4Addr, http_extra: &str) -> String {
    let dir = prefix.display();
    let user = if nix::unistd::geteuid().is_root() {
        "user www-data;"
    } else {
        ""
    };
    format!(
        "{load}\n{user}\nworker_processes 2;\nworker_rlimit_nofile 16384;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log notice;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  \
         fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n\
         server {{ listen {listen}:{STATUS_PORT}; location = /status {{ stub_status; access_log off; }} }}\n\
         {http_extra}\n  include {dir}/http.d/*.conf;\n}}\n\
         stream {{\n  include {dir}/stream.d/*.conf;\n}}\n",
        load = stream_module().map_or_else(String::new, |module| format!(
            "load_module {};",
            module.display()
        )),
    )
}

/// Debian has it as a module in one of two places; nginx.org's packages have it built in.
fn stream_module() -> Option<PathBuf> {
    ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"]
        .map(|folder| Path::new(folder).join("ngx_stream_module.so"))
        .into_iter()
        .find(|module| module.exists())
}

/// All living processes of these process groups. nginx's workers stay in their master's group when it dies.
fn processes_of(groups: &[Pid]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // "pid (name) state parent group": the name may hold anything, so from its last parenthesis on.
            let mut words = stat.rsplit_once(')')?.1.split_whitespace();
            let (state, group) = (words.next()?, words.nth(1)?.parse().ok()?);
            (state != "Z" && groups.contains(&Pid::from_raw(group))).then_some(Pid::from_raw(pid))
        })
        .collect()
}

fn is_shutting_down(worker: Pid) -> bool {
    fs::read_to_string(format!("/proc/{worker}/cmdline"))
        .is_ok_and(|title| title.contains("shutting down"))
}

fn killing(groups: &[Pid]) -> String {
    groups
        .iter()
        .map(|group| format!("kill -s KILL -- -{group} 2>/dev/null\n"))
        .collect()
}
