//! The nginx processes of this host: what was built in, who runs, test, reload.
//!
//! The master is who its pid file names, if that process is an nginx master; a
//! worker belongs to the master that is its parent. When the master was killed
//! its workers go on serving with nobody to tell them anything.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use super::{Error, Paths};

/// A test reads all files and resolves all names; a resolver that is away makes it slow.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// What is read of the error log after a failed reload.
const LOG_LIMIT: u64 = 64 * 1024;

/// Modules of nginx's own whose directives our configuration is made of.
const NEEDED: [&str; 8] = [
    "http_grpc",
    "http_map",
    "http_proxy",
    "http_rewrite",
    "http_split_clients",
    "http_upstream_keepalive",
    "stream_map",
    "stream_split_clients",
];

/// How this nginx was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) version: String,
    pub(super) realip: bool,
    /// The stream module is built in, and need not be loaded.
    pub(super) stream: bool,
    /// Modules that our configuration needs and that were left out.
    pub(super) lacks: Vec<&'static str>,
    numbers: (u32, u32, u32),
}

impl Build {
    /// `http2 on;` is known, and both HTTP versions share a socket.
    pub(super) fn http2_directive(&self) -> bool {
        self.numbers >= (1, 25, 1)
    }

    /// The stream module knows `proxy_half_close`.
    pub(super) fn half_close(&self) -> bool {
        self.numbers >= (1, 21, 4)
    }

    pub(super) fn parse(text: &str) -> Self {
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("nginx version: "))
            .unwrap_or("unknown");
        let version = version
            .rsplit('/')
            .next()
            .unwrap_or(version)
            .split_whitespace()
            .next()
            .unwrap_or_default();
        let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            version: version.to_owned(),
            realip: text.contains("--with-http_realip_module"),
            stream: text.split_whitespace().any(|word| word == "--with-stream"),
            lacks: NEEDED
                .into_iter()
                .filter(|module| text.contains(&format!("--without-{module}_module")))
                .collect(),
            numbers: (next(), next(), next()),
        }
    }
}

/// What nginx is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nginx {
    /// `1.22.1`.
    pub version: String,
    /// The running master; `None`: there is none, and nothing can be reloaded.
    pub master: Option<u32>,
    /// Its workers that take connections.
    pub workers: Vec<u32>,
    /// Its workers that only finish what they have, after a reload.
    pub leaving: Vec<u32>,
    /// Without a master: workers that outlived one, and still serve. (All of
    /// this host's, when it runs several instances.)
    pub orphans: Vec<u32>,
    /// nginx's test accepts its configuration; else its words.
    pub configuration: Result<(), String>,
    /// The stream module is there, and its configuration is read.
    pub stream: bool,
    /// Our `http.conf` is included.
    pub http_included: bool,
    /// Our `stream.conf` is included.
    pub stream_included: bool,
}

/// What nginx's test of its configuration said.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) accepted: bool,
    /// Its warnings and errors.
    pub(super) messages: String,
    /// All files that it read, when it accepted them.
    pub(super) dump: String,
}

impl Test {
    /// Whether a file was read.
    pub(super) fn reads(&self, file: &Path) -> bool {
        self.dump.lines().any(|line| {
            line.strip_prefix("# configuration file ")
                .and_then(|rest| rest.strip_suffix(':'))
                .is_some_and(|read| Path::new(read) == file)
        })
    }
}

pub(super) async fn build(paths: &Paths) -> Result<Build, Error> {
    let (_, _, words) = run(paths, "-V").await?;
    Ok(Build::parse(&words))
}

pub(super) async fn test(paths: &Paths) -> Result<Test, Error> {
    let (accepted, dump, messages) = run(paths, "-T").await?;
    Ok(Test {
        accepted,
        messages,
        dump,
    })
}

async fn run(paths: &Paths, option: &str) -> Result<(bool, String, String), Error> {
    let command = || format!("{} {option}", paths.command.join(" "));
    let (program, arguments) = paths.command.split_first().ok_or_else(|| Error::Run {
        command: String::new(),
        source: std::io::ErrorKind::InvalidInput.into(),
    })?;
    let mut nginx = Command::new(program);
    nginx
        .args(arguments)
        .arg(option)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(RUN_LIMIT, nginx.output()).await {
        Ok(Ok(output)) => Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )),
        Ok(Err(source)) => Err(Error::Run {
            command: command(),
            source,
        }),
        Err(_) => Err(Error::Hung {
            command: command(),
            seconds: RUN_LIMIT.as_secs(),
        }),
    }
}

pub(super) async fn look(paths: &Paths) -> Result<Nginx, Error> {
    let (build, test) = (build(paths).await?, test(paths).await?);
    let crew = crew(paths);
    Ok(Nginx {
        version: build.version,
        master: crew.master,
        workers: crew.workers,
        leaving: crew.leaving,
        orphans: crew.orphans,
        stream: test
            .dump
            .lines()
            .any(|line| line.trim_start().starts_with("stream")),
        http_included: test.reads(&paths.conf.join("http.conf")),
        stream_included: test.reads(&paths.conf.join("stream.conf")),
        configuration: if test.accepted {
            Ok(())
        } else {
            Err(super::verdict::first_error(&test.messages))
        },
    })
}

/// Who runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Crew {
    pub(super) master: Option<u32>,
    pub(super) workers: Vec<u32>,
    pub(super) leaving: Vec<u32>,
    pub(super) orphans: Vec<u32>,
}

pub(super) fn crew(paths: &Paths) -> Crew {
    let mut crew = Crew::default();
    let named = fs::read_to_string(&paths.pid_file)
        .ok()
        .and_then(|pid| pid.trim().parse().ok());
    crew.master = named.filter(|pid| is_master(*pid));
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let title = title(pid);
        if !title.starts_with("nginx: worker process") {
            continue;
        }
        match parent(pid) {
            Some(parent) if crew.master == Some(parent) && title.contains("shutting down") => {
                crew.leaving.push(pid)
            }
            Some(parent) if crew.master == Some(parent) => crew.workers.push(pid),
            Some(parent) if crew.master.is_none() && !is_master(parent) => crew.orphans.push(pid),
            Some(_) | None => {}
        }
    }
    crew
}

fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn is_master(pid: u32) -> bool {
    title(pid).starts_with("nginx: master process")
}

fn parent(pid: u32) -> Option<u32> {
    status(pid, "PPid:")?.first().copied()
}

/// User and groups of a process.
pub(super) fn identity(pid: u32) -> Option<(u32, Vec<u32>)> {
    let user = status(pid, "Uid:")?.get(1).copied()?;
    let mut groups = status(pid, "Groups:")?;
    groups.extend(status(pid, "Gid:")?.get(1));
    Some((user, groups))
}

fn status(pid: u32, field: &str) -> Option<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(
        line.split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect(),
    )
}

/// The error log of a running master, from here on. nginx keeps it as its standard error.
#[derive(Debug)]
pub(super) struct LogTail {
    file: PathBuf,
    from: u64,
}

impl LogTail {
    pub(super) fn of(master: u32) -> Self {
        let file = PathBuf::from(format!("/proc/{master}/fd/2"));
        let from = fs::metadata(&file).map_or(0, |log| log.len());
        Self { file, from }
    }

    /// The errors that stopped nginx, written since.
    pub(super) fn errors(&self) -> Option<String> {
        let regular = fs::metadata(&self.file).is_ok_and(|log| log.is_file());
        let mut file = File::open(&self.file).ok().filter(|_| regular)?;
        file.seek(SeekFrom::Start(self.from)).ok()?;
        let mut bytes = Vec::new();
        file.take(LOG_LIMIT).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut errors: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("[emerg] ").map(|(_, words)| words))
            .collect();
        errors.dedup();
        let first = errors.first()?;
        // `12#12: bind() to … failed`: the numbers help nobody.
        Some(
            first
                .split_once(": ")
                .map_or(*first, |(_, words)| words)
                .to_owned(),
        )
    }
}

/// Tells the master to read its configuration anew.
pub(super) fn reload(master: u32) -> std::io::Result<()> {
    let pid = i32::try_from(master).map_err(std::io::Error::other)?;
    kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_or_built_in_is_read_from_the_arguments() {
        let debian =
            Build::parse("configure arguments: --with-stream=dynamic --with-stream_ssl_module");
        assert!(!debian.stream && debian.lacks.is_empty(), "{debian:?}");
        let small = Build::parse("arguments: --with-stream --without-http_rewrite_module");
        assert!(small.stream);
        assert_eq!(small.lacks, ["http_rewrite"]);
    }

    #[test]
    fn a_version_is_read_whatever_the_vendor_adds() {
        for (text, version, http2) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1", false),
            ("nginx version: nginx/1.24.0 (Ubuntu)\n", "1.24.0", false),
            ("nginx version: nginx/1.27.4\nbuilt by", "1.27.4", true),
            ("nginx version: openresty/1.25.3.2\n", "1.25.3.2", true),
        ] {
            let build = Build::parse(text);
            assert_eq!(
                (build.version.as_str(), build.http2_directive()),
                (version, http2)
            );
        }
    }
}
