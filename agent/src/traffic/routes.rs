//! The directories in which nginx looks up, for each request, where it goes.
//!
//! A route is a *state*: a directory that holds, for each of a hundred
//! buckets, one flag file (`07.green`) and one link to the sockets of the same
//! slot (`tcp.07`), and `warm` if the other slot is backup. `current` is a link
//! to one of them; renaming another link over it is the switch.
//!
//! Keeps true: a state is complete before it has its name; a colour is said by
//! a file that is there, never by one that is not. All states but the weighted
//! ones, and the links to them, are made beforehand: a switch then makes no
//! inode and works on a full disk. Does not know nginx's configuration.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cutover_core::spec::Protocol;
use cutover_core::{Route, ServiceId, Slot, Weight};

use super::disk::{Entry, fill, gone, link, open_directory, sync};
use super::plan::{key, variant};
use super::{RouteError, Site};

const BUCKETS: u8 = 100;
/// States that are made for every service.
const ALWAYS: [Route; 5] = [
    Route::Nobody,
    Route::Alone(Slot::Blue),
    Route::Alone(Slot::Green),
    Route::Warm(Slot::Blue),
    Route::Warm(Slot::Green),
];

/// The slot that `bucket` goes to.
pub(super) fn slot_of(route: Route, bucket: u8) -> Option<Slot> {
    match route {
        Route::Nobody => None,
        Route::Alone(slot) | Route::Warm(slot) => Some(slot),
        Route::Split { to, weight } => Some(if bucket < weight.percent() {
            to
        } else {
            to.other()
        }),
    }
}

/// Whether the slot that does not get a request is its backup.
pub(super) fn is_warm(route: Route) -> bool {
    match route {
        Route::Nobody | Route::Alone(_) => false,
        Route::Warm(_) | Route::Split { .. } => true,
    }
}

pub(super) fn directory(routes: &Path, service: &ServiceId) -> PathBuf {
    routes
        .join(service.app.as_str())
        .join(service.service.as_str())
}

fn name(route: Route) -> String {
    match route {
        Route::Nobody => "nobody".to_owned(),
        Route::Alone(slot) => slot.to_string(),
        Route::Warm(slot) => format!("{slot}_warm"),
        Route::Split { to, weight } => format!("{to}_{}", weight.percent()),
    }
}

fn parse(target: &Path) -> Option<Route> {
    let name = target.to_str()?.strip_prefix("states/")?;
    ALWAYS
        .into_iter()
        .find(|route| self::name(*route) == name)
        .or_else(|| {
            let (slot, percent) = name.split_once('_')?;
            let to = Slot::ALL.into_iter().find(|to| to.as_str() == slot)?;
            let weight =
                Weight::new(percent.parse().ok()?).filter(|weight| *weight < Weight::FULL)?;
            Some(Route::Split { to, weight }).filter(|route| self::name(*route) == name)
        })
}

fn entries(route: Route) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    if route == Route::Nobody {
        entries.insert("nobody".to_owned(), Entry::Flag);
    }
    let way = if is_warm(route) { "warm" } else { "alone" };
    if is_warm(route) {
        entries.insert("warm".to_owned(), Entry::Flag);
    }
    for bucket in 0..BUCKETS {
        if let Some(slot) = slot_of(route, bucket) {
            entries.insert(format!("{bucket:02}.{slot}"), Entry::Flag);
            entries.insert(
                format!("tcp.{bucket:02}"),
                Entry::Link(format!("../../{slot}/{way}")),
            );
        }
    }
    entries
}

/// Makes (or mends) all that a site needs before nginx is told of it. A route
/// that is there stays as it is; a new service's is `nobody`.
pub(super) fn prepare(routes: &Path, runtime: &Path, site: &Site) -> io::Result<()> {
    let (key, here) = (key(&site.service), directory(routes, &site.service));
    for open in [
        routes,
        runtime,
        &routes.join(site.service.app.as_str()),
        &here,
    ] {
        open_directory(open)?;
    }
    for sub in ["states", "links", "slots"] {
        open_directory(&here.join(sub))?;
    }
    for route in ALWAYS {
        state(&here, route)?;
        link(
            &here.join("links").join(name(route)),
            Path::new(&format!("states/{}", name(route))),
        )?;
    }
    // A route that stands on a weighted state is mended, too.
    if let Ok(Some(route)) = current(routes, &site.service) {
        state(&here, route)?;
    }
    for slot in Slot::ALL {
        prepare_slot(&here, runtime, &key, site, slot)?;
    }
    if fs::symlink_metadata(here.join("current")).is_err() {
        point(&here, "current", "states", &name(Route::Nobody))?;
    }
    link(&runtime.join(&key), &here.join("current"))
}

/// Makes what was prepared outlive a power cut.
pub(super) fn outlive(routes: &Path, runtime: &Path, service: &ServiceId) -> io::Result<()> {
    let here = directory(routes, service);
    for durable in [
        &here.join("states"),
        &here.join("links"),
        &here,
        &routes.join(service.app.as_str()),
    ] {
        sync(durable)?;
    }
    sync(routes)?;
    sync(runtime)
}

fn prepare_slot(here: &Path, runtime: &Path, key: &str, site: &Site, slot: Slot) -> io::Result<()> {
    let slots = here.join("slots").join(slot.as_str());
    open_directory(&slots)?;
    for out in outs(site, slot) {
        let ways = out_name(out);
        let mut entries = BTreeMap::new();
        if let Some(replica) = out {
            entries.insert(format!("out.{replica}"), Entry::Flag);
        }
        open_directory(&slots.join(&ways))?;
        fill(
            &here.join("links"),
            &slots.join(&ways),
            &entries,
            &["alone", "warm"],
        )?;
        for (way, warm) in [("alone", false), ("warm", true)] {
            let sockets = slots.join(&ways).join(way);
            open_directory(&sockets)?;
            let mut entries = BTreeMap::new();
            for listener in site
                .listeners
                .iter()
                .filter(|listener| listener.protocol == Protocol::Tcp)
            {
                let inner = inner_socket(runtime, key, listener.listen, &variant(slot, warm, out));
                entries.insert(
                    format!("{}.sock", listener.listen),
                    Entry::Link(inner.display().to_string()),
                );
            }
            fill(&here.join("links"), &sockets, &entries, &[])?;
        }
        link(
            &here.join("links").join(format!("{slot}.{ways}")),
            Path::new(&format!("slots/{slot}/{ways}")),
        )?;
    }
    // A replica that no longer exists can't be out.
    let known = fs::read_link(here.join(slot.as_str())).ok();
    if !outs(site, slot)
        .any(|out| known == Some(PathBuf::from(format!("slots/{slot}/{}", out_name(out)))))
    {
        point(here, slot.as_str(), &format!("slots/{slot}"), "all")?;
    }
    Ok(())
}

fn outs(site: &Site, slot: Slot) -> impl Iterator<Item = Option<u32>> {
    let count = u32::try_from(site.replicas(slot).len()).unwrap_or(u32::MAX);
    std::iter::once(None).chain((0..count).filter(move |_| count > 1).map(Some))
}

fn out_name(out: Option<u32>) -> String {
    out.map_or_else(|| "all".to_owned(), |replica| format!("without_{replica}"))
}

/// Where nginx's inner listener for one way into a slot is.
pub(super) fn inner_socket(runtime: &Path, key: &str, port: u16, variant: &str) -> PathBuf {
    runtime.join(format!("{key}-{port}-{variant}.sock"))
}

/// Changes the route. See [`super::Traffic::switch`].
pub(super) fn switch(routes: &Path, service: &ServiceId, route: Route) -> io::Result<()> {
    let here = directory(routes, service);
    if matches!(route, Route::Split { .. }) {
        state(&here, route)?;
    }
    point(&here, "current", "states", &name(route))
}

/// Flags a replica out. See [`super::Traffic::set_out`].
pub(super) fn set_out(
    routes: &Path,
    service: &ServiceId,
    slot: Slot,
    replica: Option<u32>,
) -> io::Result<()> {
    let ways = out_name(replica);
    point(
        &directory(routes, service),
        slot.as_str(),
        &format!("slots/{slot}"),
        &ways,
    )
}

/// Reads who is out. See [`super::Traffic::out`].
pub(super) fn out(routes: &Path, service: &ServiceId, slot: Slot) -> io::Result<Option<u32>> {
    let target = fs::read_link(directory(routes, service).join(slot.as_str()))?;
    let name = target.file_name().and_then(|name| name.to_str());
    match name {
        Some("all") => Ok(None),
        Some(name) => name
            .strip_prefix("without_")
            .and_then(|replica| replica.parse().ok())
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("{} names no way in", target.display()))),
        None => Err(io::Error::other(format!(
            "{} names no way in",
            target.display()
        ))),
    }
}

/// Reads the route.
pub(super) fn current(routes: &Path, service: &ServiceId) -> Result<Option<Route>, RouteError> {
    let path = directory(routes, service).join("current");
    let target = match fs::read_link(&path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RouteError::Read { path, source }),
    };
    match parse(&target) {
        Some(route) if path.exists() => Ok(Some(route)),
        Some(_) | None => Err(RouteError::Garbage { path, target }),
    }
}

/// Makes the links of a service outlive a power cut.
pub(super) fn settle(routes: &Path, service: &ServiceId) -> io::Result<()> {
    sync(&directory(routes, service))
}

/// Removes all that `prepare` made for a service.
pub(super) fn remove(routes: &Path, runtime: &Path, service: &ServiceId) -> io::Result<()> {
    gone(fs::remove_file(runtime.join(key(service))))?;
    gone(fs::remove_dir_all(directory(routes, service)))?;
    let app = routes.join(service.app.as_str());
    match fs::remove_dir(&app) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
            ) =>
        {
            Err(error)
        }
        Ok(()) | Err(_) => sync(routes),
    }
}

/// Points `here/LINK` to `BELOW/NAME`, in one step. A link made beforehand is
/// used when there is one: then no inode is needed.
fn point(here: &Path, link: &str, below: &str, name: &str) -> io::Result<()> {
    let target = format!("{below}/{name}");
    if !here.join(&target).is_dir() {
        let what = format!("{} was not prepared", here.join(&target).display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    let ready = here.join("links").join(if link == "current" {
        name.to_owned()
    } else {
        format!("{link}.{name}")
    });
    let beside = here.join(format!(".{link}"));
    gone(fs::remove_file(&beside))?;
    if fs::read_link(&ready).is_ok_and(|there| there == Path::new(&target))
        && fs::hard_link(&ready, &beside).is_ok()
    {
        fs::rename(&beside, here.join(link))?;
        // Two names of one inode: the rename did nothing, and nothing was to be done.
        return gone(fs::remove_file(&beside));
    }
    symlink(&target, &beside)?;
    fs::rename(&beside, here.join(link))
}

/// Makes a state, or mends one that lacks a flag or has one too many.
fn state(here: &Path, route: Route) -> io::Result<()> {
    let (whole, entries) = (here.join("states").join(name(route)), entries(route));
    if whole.is_dir() {
        return fill(&here.join("links"), &whole, &entries, &[]);
    }
    let beside = here.join("states").join(format!(".{}", name(route)));
    gone(fs::remove_dir_all(&beside))?;
    open_directory(&beside)?;
    fill(&here.join("links"), &beside, &entries, &[])?;
    sync(&beside)?;
    fs::rename(&beside, &whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_back_from_its_link_and_nothing_else_is() {
        let weights = (1..100).filter_map(Weight::new);
        let splits = weights.flat_map(|weight| Slot::ALL.map(|to| Route::Split { to, weight }));
        for route in ALWAYS.into_iter().chain(splits) {
            assert_eq!(
                parse(Path::new(&format!("states/{}", name(route)))),
                Some(route)
            );
        }
        for bad in [
            "states/",
            "blue",
            "states/red",
            "states/blue_0",
            "states/blue_100",
            "states/blue_05",
            "/states/blue",
            "states/blue_warm/x",
        ] {
            assert_eq!(parse(Path::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn every_bucket_of_every_state_names_at_most_one_slot() {
        for route in ALWAYS.into_iter().chain([Route::Split {
            to: Slot::Green,
            weight: Weight::new(5).expect("a weight"),
        }]) {
            let entries = entries(route);
            for bucket in 0..BUCKETS {
                let flags = Slot::ALL
                    .iter()
                    .filter(|slot| entries.contains_key(&format!("{bucket:02}.{slot}")))
                    .count();
                assert_eq!(
                    flags,
                    usize::from(route != Route::Nobody),
                    "{route} {bucket}"
                );
            }
        }
    }
}
