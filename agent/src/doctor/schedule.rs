//! Whether something on this host prunes Docker by the clock: that takes parked containers, images and our network.

use std::fs;
use std::path::{Path, PathBuf};

use cutover_daemon::findings::Finding;

/// Where jobs by the clock are written.
const PLACES: [&str; 13] = [
    "etc/crontab",
    "etc/anacrontab",
    "etc/cron.d",
    "etc/cron.hourly",
    "etc/cron.daily",
    "etc/cron.weekly",
    "etc/cron.monthly",
    "var/spool/cron",
    "var/spool/cron/crontabs",
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
];
/// What takes something of ours. Pruning images alone takes what is fetched again.
const PRUNES: [&str; 4] = [
    "docker system prune",
    "docker container prune",
    "docker network prune",
    "docker volume prune",
];
/// A longer file is no list of jobs.
const LONGEST: u64 = 1 << 20;

pub(super) fn look(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in PLACES.iter().flat_map(|place| files(&root.join(place))) {
        let small = fs::metadata(&file).is_ok_and(|about| about.is_file() && about.len() < LONGEST);
        let Some(text) = small.then(|| fs::read_to_string(&file).ok()).flatten() else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let job = line.trim_start();
            let prunes = !job.starts_with('#') && PRUNES.iter().any(|prune| job.contains(prune));
            if prunes && !job.contains("dev.cutover") {
                findings.push(Finding::warn(
                    format!(
                        "{}:{} prunes Docker: that takes parked containers and our network, and data with the volumes",
                        file.display(),
                        number + 1
                    ),
                    "let it run `docker image prune -f` instead, or add --filter label!=dev.cutover.host",
                ));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("nothing here prunes Docker by the clock"));
    }
    findings
}

fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_daemon::findings::Level;

    #[test]
    fn a_prune_by_the_clock_is_found_with_its_line_and_a_harmless_one_is_not() {
        let root = tempfile::tempdir().expect("a directory");
        let daily = root.path().join("etc/cron.daily");
        fs::create_dir_all(&daily).expect("made");
        fs::write(daily.join("images"), "#!/bin/sh\ndocker image prune -f\n").expect("written");
        assert_eq!(look(root.path())[0].level, Level::Ok);
        let unit = root.path().join("etc/systemd/system");
        fs::create_dir_all(&unit).expect("made");
        let timer = "[Timer]\nOnCalendar=daily\n";
        fs::write(unit.join("prune.timer"), timer).expect("written");
        let service = "[Service]\nExecStart=/usr/bin/docker volume prune -f\n";
        fs::write(unit.join("prune.service"), service).expect("written");
        let by_timer = look(root.path());
        assert_eq!(by_timer.len(), 1, "{by_timer:?}");
        assert!(by_timer[0].what.contains("prune.service:2"), "{by_timer:?}");
        fs::remove_file(unit.join("prune.service")).expect("it was there");
        let text = "#!/bin/sh\n# docker system prune\ndocker system prune -af\n";
        fs::write(daily.join("clean"), text).expect("written");
        let found = look(root.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, Level::Warn);
        assert!(found[0].what.contains("cron.daily/clean:3"), "{found:?}");
    }
}
