//! Programs of two releases together: an agent that is a release behind its coordinator, and one that is ahead of it.

use cutover_tests::bed::Machine;

use super::fleet::{Fleet, Release};
use super::table::{Count, Found};

/// Where the packages of another release are put on a machine.
const THERE: &str = "/srv/other";

/// One agent is of the previous release, then coordinator and command line are; good and bad releases each time.
pub(crate) async fn of_one_release(fleet: &mut Fleet) -> Found {
    let Some(previous) = fleet.previous.clone() else {
        return Found {
            outcome: "not tried: no packages of a previous release (PREVIOUS=FOLDER)".to_owned(),
            spared: Count::default(),
            struck: Count::default(),
        };
    };
    let newest = fleet.debs.clone();
    let watch = fleet.under_load();
    let agent = ["cutover-agent"];
    let brain = ["cutover-coordinator", "cutover"];

    let behind = fleet.replace(&fleet.hosts[0], &previous, &agent);
    releases(fleet).await;
    let ours = fleet.replace(&fleet.hosts[0], &newest, &agent);
    assert_ne!(behind, ours, "{} holds another release", previous.display());
    fleet.is_well().await;

    fleet.replace(&fleet.coordinator, &previous, &brain);
    releases(fleet).await;
    fleet.replace(&fleet.coordinator, &newest, &brain);
    releases(fleet).await;

    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: format!(
            "an agent of {behind} under a coordinator of {ours}, and the other way round: committed, and taken back"
        ),
        spared,
        struck,
    }
}

/// A good one and a bad one.
async fn releases(fleet: &mut Fleet) {
    fleet.is_well().await;
    for (tag, code) in [("1", 0), ("never-ready", 3)] {
        let release = Release {
            tag,
            ..Release::default()
        };
        let file = fleet.next(release);
        let deploy = fleet
            .coordinator
            .beside(&format!("cutover deploy -f {file}"));
        fleet.ends(deploy, &[code]).await;
    }
}

impl Fleet {
    /// Packages of that release instead of those that are there; gives the version of the first.
    fn replace(&self, on: &Machine, from: &std::path::Path, names: &[&str]) -> String {
        self.bring_from(from, on, names, THERE);
        // As an admin goes back: apt would want to be told so.
        on.ok(&format!("dpkg -i {THERE}/*.deb </dev/null"));
        on.ok(&format!("dpkg-query -W -f '${{Version}}' {}", names[0]))
    }
}
