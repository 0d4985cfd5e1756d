//! Making nginx carry the sites: write, test, reload, wait, prove.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cutover_core::ServiceId;
use tokio::time::Instant;

use super::conf::Conf;
use super::error::Cause;
use super::plan::{Plan, check_socket_room, plan};
use super::process::{self, Build, Crew, LogTail};
use super::prove::{Patience, prove};
use super::sockets::remove_stale_sockets;
use super::{Error, Paths, RouteError, Site, Traffic, Unproved, holder, render, routes, verdict};

/// From the signal to the first answer with the new configuration. nginx itself tries for 2.5 s to bind.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long old workers are waited for; who has long requests is reported, not waited for.
const OLD_WORKERS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(20);

/// What [`Traffic::ensure`] did.
#[derive(Debug, Default)]
#[must_use = "a site that is not proved may get no requests"]
pub struct Ensured {
    /// The configuration changed, and nginx was reloaded.
    pub reloaded: bool,
    /// Workers with the former configuration that still finish requests (slow
    /// ones, WebSockets). What they talk to must not be stopped before they end:
    /// [`Traffic::alive`] tells.
    pub leaving: Vec<u32>,
    /// nginx's warnings that don't concern our names.
    pub warnings: Vec<String>,
    /// Sites whose requests do not go where their route says.
    pub unproved: Vec<Unproved>,
    /// Sites whose route could not be read.
    pub unreadable: BTreeMap<ServiceId, RouteError>,
}

pub(super) async fn ensure(traffic: &Traffic, sites: &[Site]) -> Result<Ensured, Error> {
    let paths = &traffic.paths;
    check_socket_room(&paths.runtime)?;
    let conf = Conf::new(&paths.conf);
    if conf.recover()? {
        tracing::warn!(
            "the agent ended while a configuration of nginx was being tried; the former one is back"
        );
    }
    let plan = plan(paths, sites)?;
    // Both to their end: nobody prepares what a later list has changed.
    let (build, crew) = tokio::join!(process::build(paths), prepared(traffic, &plan));
    let (build, crew) = (build?, crew?);
    let (fingerprint, files) = render::render(&plan, paths, traffic.signals_socket(), &build)?;
    let held = conf.holds(&fingerprint, &files);
    if held && (crew.master.is_some() || !crew.orphans.is_empty()) {
        let mut ensured = Ensured {
            leaving: crew.leaving.clone(),
            ..Ensured::default()
        };
        proofs(traffic, sites, Patience::Switch, &mut ensured).await;
        if !ensured
            .unproved
            .iter()
            .any(|unproved| matches!(unproved.cause, Cause::OldConfiguration))
        {
            return Ok(ensured);
        }
    }
    if crew.master.is_none() && !crew.orphans.is_empty() {
        return Err(Error::MasterGone {
            workers: crew.orphans.len(),
        });
    }
    conf.try_out(&fingerprint, &files)?;
    match take(traffic, sites, &conf, &plan, &crew, &build).await {
        Ok(ensured) => {
            conf.confirm()?;
            Ok(ensured)
        }
        // Nothing runs that could disagree; what is in place was tested.
        Err(Error::NotRunning) => {
            conf.confirm()?;
            Err(Error::NotRunning)
        }
        Err(error) => {
            conf.restore()?;
            Err(named(error, paths).await)
        }
    }
}

/// Prepares the routes of all sites, and looks who runs. Beside the loop: these are hundreds of files a site, and every
/// process of the host.
async fn prepared(traffic: &Traffic, plan: &Plan<'_>) -> Result<Crew, Error> {
    let sites: Vec<Site> = plan.sites.iter().map(|keyed| keyed.site.clone()).collect();
    let (paths, alone) = (traffic.paths.clone(), traffic.alone.clone());
    let work = move || {
        for site in &sites {
            let service = &site.service;
            let prepare = || routes::prepare(&paths.routes, &paths.runtime, site);
            let prepared = alone.with(service, prepare);
            let outlives = || routes::outlive(&paths.routes, &paths.runtime, service);
            prepared
                .and_then(|()| outlives())
                .map_err(|source| unprepared(routes::directory(&paths.routes, service), source))?;
        }
        Ok(process::crew(&paths))
    };
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|panicked| {
        let routes = traffic.paths.routes.clone();
        Err(unprepared(routes, io::Error::other(panicked)))
    })
}

fn unprepared(path: PathBuf, source: io::Error) -> Error {
    Error::File {
        doing: "prepare the routes in",
        path,
        source,
    }
}

/// With the place of a default server that nginx did not name, out of the configuration without ours.
async fn named(error: Error, paths: &Paths) -> Error {
    let Error::DefaultTaken {
        address,
        theirs: None,
    } = error
    else {
        return error;
    };
    let test = process::test(paths).await;
    let theirs = test
        .ok()
        .and_then(|test| verdict::default_server(&test.dump, &address, &paths.conf));
    Error::DefaultTaken { address, theirs }
}

async fn take(
    traffic: &Traffic,
    sites: &[Site],
    conf: &Conf<'_>,
    plan: &Plan<'_>,
    crew: &Crew,
    build: &Build,
) -> Result<Ensured, Error> {
    let paths = &traffic.paths;
    let test = process::test(paths).await?;
    let warnings = verdict::judge(&test, conf, plan, paths, build)?;
    remove_stale_sockets(&paths.runtime).map_err(|source| Error::File {
        doing: "remove stale sockets from",
        path: paths.runtime.clone(),
        source,
    })?;
    let master = crew.master.ok_or(Error::NotRunning)?;
    let log = LogTail::of(master);
    process::reload(master).map_err(|source| Error::NotTaken {
        why: source.to_string(),
    })?;
    let deadline = Instant::now() + TAKEN_WITHIN;
    let old: Vec<u32> = crew.workers.iter().chain(&crew.leaving).copied().collect();
    // New workers are there when one is that was not; nginx's error log knows sooner when none will come.
    loop {
        let now = process::crew(paths);
        if now.workers.iter().any(|pid| !old.contains(pid)) {
            break;
        }
        if let Some(why) = log.errors() {
            return Err(match holder::of_taken_port(&why) {
                Some((address, holder)) => Error::PortTaken { address, holder },
                None => Error::NotTaken { why },
            });
        }
        if Instant::now() >= deadline {
            let why = format!(
                "no new worker came within {} s; see nginx's error log",
                TAKEN_WITHIN.as_secs()
            );
            return Err(Error::NotTaken { why });
        }
        tokio::time::sleep(LOOK).await;
    }
    let mut ensured = Ensured {
        reloaded: true,
        warnings,
        ..Ensured::default()
    };
    proofs(traffic, sites, Patience::Reload(deadline), &mut ensured).await;
    ensured.leaving = old_workers(traffic, &old).await;
    Ok(ensured)
}

/// Waits until no worker of the former configuration is left; those that are still there at the end.
async fn old_workers(traffic: &Traffic, old: &[u32]) -> Vec<u32> {
    let deadline = Instant::now() + OLD_WORKERS_WITHIN;
    loop {
        let now = process::crew(&traffic.paths);
        let left: Vec<u32> = now
            .workers
            .iter()
            .chain(&now.leaving)
            .copied()
            .filter(|pid| old.contains(pid))
            .collect();
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn proofs(traffic: &Traffic, sites: &[Site], patience: Patience, ensured: &mut Ensured) {
    for site in sites.iter().filter(|site| !site.listeners.is_empty()) {
        match traffic.current(&site.service) {
            Ok(Some(route)) => {
                if let Err(unproved) = prove(traffic, site, route, patience).await {
                    ensured.unproved.push(unproved);
                }
            }
            // `prepare` made one; who took it away since is told as garbage.
            Ok(None) => {
                let path = routes::directory(&traffic.paths.routes, &site.service).join("current");
                ensured.unreadable.insert(
                    site.service.clone(),
                    RouteError::Garbage {
                        path,
                        target: "nothing".into(),
                    },
                );
            }
            Err(error) => {
                ensured.unreadable.insert(site.service.clone(), error);
            }
        }
    }
}
