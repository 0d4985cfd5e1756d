//! nginx in front of the containers of this host. The only folder that says nginx.
//!
//! [`Traffic::ensure`] writes a configuration of our own (never the admin's
//! files) and reloads nginx when it changed. [`Traffic::switch`] changes where
//! a service's requests go, by one atomic rename and without a reload: each
//! request looks up its slot in a directory of flag files. [`Traffic::prove`]
//! asks through the real listener whether nginx does as told.
//!
//! Keeps true: a configuration that nginx refuses is never left in place; no
//! request ever goes to a default colour; a switch needs neither nginx's
//! configuration to be sound nor room on the disk. Does not know what a
//! revision, a swap or a container is, nor when to do any of this; it keeps no
//! state of its own: all of it is on the disk, and asked twice it does nothing.
//! One `ensure` at a time.
//!
//! What lies where (`KEY` is made from `APP/SERVICE`):
//!
//! ```text
//! conf/http.conf, stream.conf, sites/…   → live/…, included by the admin's nginx
//! conf/live                              → v-FINGERPRINT, the configuration that is in force
//! conf/untested                          → what was in force; only while a new one is tried
//! routes/APP/SERVICE/current             → states/green_warm …, the route: one rename
//! routes/APP/SERVICE/blue                → slots/blue/all | slots/blue/without_1
//! runtime/KEY                            → routes/APP/SERVICE/current, short enough for a socket's path
//! runtime/KEY-5432-blue_warm.sock        inner listeners of TCP services
//! ```
//!
//! All three directories must outlive a reboot, since nginx starts before the
//! agent; nginx's workers must be able to enter `routes` and `runtime`.

mod admin;
mod alone;
mod conf;
mod disk;
mod ensure;
mod error;
mod findings;
mod holder;
mod plan;
mod process;
mod prove;
mod render;
mod routes;
mod sockets;
mod verdict;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_core::spec::Listener;
use cutover_core::{Route, ServiceId, Slot};

use crate::signals::Signals;

use alone::Alone;

pub use ensure::Ensured;
pub use error::{Error, RouteError, Unproved};
pub(crate) use findings::examine;
pub use process::Nginx;
pub use sockets::remove_stale_sockets;

/// How long a request may take, unless a site says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// One service as nginx shall carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Whose requests.
    pub service: ServiceId,
    /// Where they come in; none: nothing is written for it.
    pub listeners: Vec<Listener>,
    /// Addresses of the blue slot's replicas, in their order; at least one.
    pub blue: Vec<Ipv4Addr>,
    /// Addresses of the green slot's replicas, in their order; at least one.
    pub green: Vec<Ipv4Addr>,
    /// Longest silence of the service within one request.
    pub request_timeout: Duration,
    /// The admin has a `server` of their own, which includes our two files;
    /// none is written here.
    pub include_only: bool,
}

impl Site {
    /// The addresses of one slot.
    #[must_use]
    pub fn replicas(&self, slot: Slot) -> &[Ipv4Addr] {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

/// Where nginx and our part of it are on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The program and the options that choose its instance (`-c`, `-p`): `["nginx"]`.
    pub command: Vec<String>,
    /// Where its master writes its process id.
    pub pid_file: PathBuf,
    /// Our generated configuration.
    pub conf: PathBuf,
    /// The routes.
    pub routes: PathBuf,
    /// Sockets, and short ways to the routes.
    pub runtime: PathBuf,
    /// Listen here where a listener names no address; `None`: everywhere.
    pub listen_address: Option<Ipv4Addr>,
    /// The `access_log` line's value for requests to our services besides our
    /// own (`/var/log/nginx/access.log combined`); `None`: no such log.
    pub access_log: Option<String>,
}

/// The nginx of this host.
#[derive(Clone, Debug)]
pub struct Traffic {
    paths: Paths,
    signals: Signals,
    alone: Alone,
}

impl Traffic {
    /// Checks that the paths can be written into a configuration; touches nothing.
    pub fn new(paths: Paths, signals: Signals) -> Result<Self, Error> {
        for path in [
            &paths.conf,
            &paths.routes,
            &paths.runtime,
            &signals.path().to_owned(),
        ] {
            plan::check_path(path)?;
        }
        Ok(Self {
            paths,
            signals,
            alone: Alone::default(),
        })
    }

    /// Makes nginx carry exactly these sites: writes, tests, reloads, waits for
    /// the new workers and proves each listener. The same sites again: only
    /// proves. On an error the old configuration is in place and in force.
    pub async fn ensure(&self, sites: &[Site]) -> Result<Ensured, Error> {
        ensure::ensure(self, sites).await
    }

    /// Sends the service's requests where `route` says, from the next one on.
    ///
    /// One rename, microseconds (milliseconds while this very service is
    /// prepared), no reload, no room on the disk needed (but for the first use
    /// of a weight). After a power cut the route is this one or
    /// the one before, never none; [`Traffic::settle`] makes it this one.
    pub fn switch(&self, service: &ServiceId, route: Route) -> io::Result<()> {
        self.alone.with(service, || {
            routes::switch(&self.paths.routes, service, route)
        })
    }

    /// Makes the last switch and the last [`Traffic::set_out`] outlive a power cut.
    pub fn settle(&self, service: &ServiceId) -> io::Result<()> {
        routes::settle(&self.paths.routes, service)
    }

    /// Where the service's requests go; `None`: it has no routes here.
    pub fn current(&self, service: &ServiceId) -> Result<Option<Route>, RouteError> {
        routes::current(&self.paths.routes, service)
    }

    /// Takes one replica out of its slot's upstreams (the others of the slot
    /// carry its share), or takes all of them in again. No reload. As backup of
    /// the other slot it stays in.
    pub fn set_out(&self, service: &ServiceId, slot: Slot, replica: Option<u32>) -> io::Result<()> {
        self.alone.with(service, || {
            routes::set_out(&self.paths.routes, service, slot, replica)
        })
    }

    /// The replica that is out of its slot, if one is.
    pub fn out(&self, service: &ServiceId, slot: Slot) -> io::Result<Option<u32>> {
        routes::out(&self.paths.routes, service, slot)
    }

    /// Asks through each real listener of the site whether its requests go
    /// where `expected` says.
    pub async fn prove(&self, site: &Site, expected: Route) -> Result<(), Unproved> {
        prove::prove(self, site, expected, prove::Patience::Switch).await
    }

    /// What nginx is doing.
    pub async fn alive(&self) -> Result<Nginx, Error> {
        process::look(&self.paths).await
    }

    /// Forgets a service's routes, after an `ensure` without it.
    pub fn remove(&self, service: &ServiceId) -> io::Result<()> {
        self.alone.with(service, || {
            routes::remove(&self.paths.routes, &self.paths.runtime, service)
        })
    }

    fn signals_socket(&self) -> &Path {
        self.signals.path()
    }
}
