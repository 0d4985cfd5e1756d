//! What can go wrong with nginx, told to the person who can help.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use cutover_core::{Route, ServiceId};

use super::admin::mend_default;

/// nginx could not be made to carry the sites. The old configuration is in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of ours could not be read or written.
    #[error("could not {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A path cannot be written into a configuration or is too long for sockets.
    #[error("the path {} cannot be used: {why}; choose another in agent.toml", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// A site cannot be written as it is.
    #[error("{service}: {why}")]
    Site {
        /// Whose.
        service: ServiceId,
        /// What is wrong and what to do.
        why: String,
    },
    /// nginx could not be run.
    #[error("could not run {command:?}; is nginx installed, and is `command` in agent.toml right?")]
    Run {
        /// The program and its arguments.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// nginx ran, but did not end in time.
    #[error("{command:?} did not end within {seconds} s; it was killed")]
    Hung {
        /// The program and its arguments.
        command: String,
        /// How long it had.
        seconds: u64,
    },
    /// nginx refuses our part of its configuration.
    #[error("nginx refuses Cutover's configuration: {message}; the former one stays in force")]
    Refused {
        /// nginx's words, file and line included.
        message: String,
    },
    /// nginx refuses a file that is not ours.
    #[error(
        "nginx's configuration is broken outside of Cutover's files, so nothing can be changed: {message}; mend it \
         (`nginx -t` shows it) and try again; what is in force stays, and switches go on working"
    )]
    Foreign {
        /// nginx's words, file and line included.
        message: String,
    },
    /// A name that we want is taken by another server, which would get our requests or lose its own.
    #[error(
        "the server name {name:?} on {address} is claimed twice: by {ours}, and by {theirs}; remove one of them, or put \
         the service under `include_only` in agent.toml"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where.
        address: String,
        /// Our service or file.
        ours: String,
        /// The other's file and line.
        theirs: String,
    },
    /// Two servers take whatever no other one claims.
    #[error(
        "a service without `host` has to be the default server of {address}, which {} is already; {}, then deploy again; \
         or give the service a `host`",
        whose(theirs),
        room(theirs)
    )]
    DefaultTaken {
        /// Where.
        address: String,
        /// The other's file and line, if they are known.
        theirs: Option<(String, usize)>,
    },
    /// Our file exists, but nginx does not read it.
    #[error("nginx does not read {}; on this host: {mend}; then deploy again", file.display())]
    NotIncluded {
        /// Our file.
        file: PathBuf,
        /// The command or line that makes it.
        mend: String,
    },
    /// TCP listeners need a module that nginx has not loaded.
    #[error(
        "nginx has not loaded its stream module, which services over TCP need; on this host: apt-get install \
         libnginx-mod-stream; then deploy again"
    )]
    NoStream,
    /// nginx is not running.
    #[error("nginx is not running; the configuration was tested and is in place: start nginx")]
    NotRunning,
    /// The master is gone; its workers may serve on.
    #[error(
        "nginx's master process is gone, so nothing can be reloaded; {workers} workers of it still serve as before and \
         hold their ports; end them and start nginx again"
    )]
    MasterGone {
        /// How many are left.
        workers: usize,
    },
    /// Another program listens where nginx should.
    #[error(
        "nginx can't listen on {address}: {holder} holds that port; stop it there, or let the service listen on another one"
    )]
    PortTaken {
        /// As nginx wrote it.
        address: String,
        /// Whoever it is.
        holder: String,
    },
    /// nginx was told to reload, but no worker with the new configuration answers.
    #[error("nginx did not take the new configuration: {why}; the former one stays in force")]
    NotTaken {
        /// The error log's words, or what was seen.
        why: String,
    },
}

fn whose(theirs: &Option<(String, usize)>) -> String {
    match theirs {
        Some((file, line)) => format!("the `server` in {file}:{line}"),
        None => "another `server`".to_owned(),
    }
}

fn room(theirs: &Option<(String, usize)>) -> String {
    match theirs {
        Some((file, line)) => mend_default(file, *line),
        None => "`nginx -T` shows its `default_server`, which must go".to_owned(),
    }
}

/// Why a route could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The link could not be read.
    #[error("could not read the route {}", path.display())]
    Read {
        /// The link.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The link names no state of ours.
    #[error("the route {} points to {target:?}, which is no route; switch it anew", path.display())]
    Garbage {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
}

/// Why it is not proved that a service's requests go where they should.
#[derive(Debug, thiserror::Error)]
#[error("{service} through {listener}: {cause}")]
pub struct Unproved {
    /// Whose requests.
    pub service: ServiceId,
    /// Through which listener.
    pub listener: Door,
    /// Why not.
    pub cause: Cause,
}

/// A listener, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where it was asked.
    pub address: SocketAddr,
    /// The virtual host.
    pub host: Option<String>,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{} ({host})", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// What stood in the way of a proof.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Nobody listens.
    #[error("nothing accepts connections there; is nginx running?")]
    Closed(#[source] io::Error),
    /// Something answered, but our line did not come.
    #[error(
        "something answered {answer:?}, but not nginx with Cutover's configuration; another `server` has this address and name"
    )]
    Stranger {
        /// Its first line.
        answer: String,
    },
    /// The listener is encrypted, which a proof does not speak.
    #[error("it expects TLS, so its route can't be proved from here")]
    Encrypted,
    /// Our line did not come in time.
    #[error("no log line of the proof came within {milliseconds} ms, time after time; nginx may be overloaded, or may not write to {}", socket.display())]
    Silent {
        /// How long each attempt had.
        milliseconds: u128,
        /// The signals socket.
        socket: PathBuf,
    },
    /// It was answered by workers with another configuration.
    #[error("a worker with an older configuration answered")]
    OldConfiguration,
    /// nginx can't read the route.
    #[error("nginx can't read the route: {why}")]
    Unreadable {
        /// Which directory, and why.
        why: String,
    },
    /// The request would go somewhere else.
    #[error("the route should be `{expected}`, but the request went to `{found}`")]
    Elsewhere {
        /// What was expected.
        expected: Route,
        /// What nginx said.
        found: String,
    },
    /// The signals are gone.
    #[error("the proof could not be waited for")]
    Signals(#[source] crate::signals::Error),
}
