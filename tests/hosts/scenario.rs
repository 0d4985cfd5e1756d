//! All scenarios in the order in which they are run, on one fleet that goes from each to the next.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use cutover_tests::bed::Bed;
use futures::FutureExt as _;

use super::fleet::Fleet;
use super::table::{Found, Row};
use super::{
    certificates, clocks, first_try, identities, network, packages, releases, servers, skew,
};

type Running<'a> = Pin<Box<dyn Future<Output = Found> + 'a>>;

/// Something that happens to servers.
pub(crate) struct Scenario {
    /// What happens, as the table has it.
    pub(crate) name: &'static str,
    /// Whether CI runs it.
    pub(crate) part: bool,
    run: for<'a> fn(&'a mut Fleet) -> Running<'a>,
}

macro_rules! scenarios {
    ($($name:literal $part:ident $run:path;)*) => {
        vec![$(Scenario { name: $name, part: $part, run: |fleet| Box::pin($run(fleet)) }),*]
    };
}

const CI: bool = true;
const LATER: bool = false;

/// In the order in which they are run.
pub(crate) fn all() -> Vec<Scenario> {
    scenarios! {
        "a good release, host by host" CI releases::good;
        "a release that crashes after 3 s" CI releases::bad;
        "an agent is killed during a swap" CI releases::agent_killed;
        "an agent is restarted during a swap" LATER releases::agent_restarted;
        "an agent hangs during a swap" LATER releases::agent_hung;
        "systemd looks at the units" CI packages::exposure;
        "the agents are upgraded during a release" CI packages::agent_is_upgraded;
        "the coordinator is upgraded during a release" LATER packages::coordinator_is_upgraded;
        "agent and coordinator are of two releases" LATER skew::of_one_release;
        "a host reboots" CI servers::reboot;
        "a host loses its power during a swap" LATER servers::power_cut;
        "the coordinator's machine loses its power during a release" LATER servers::coordinator_power_cut;
        "Docker is upgraded" LATER servers::docker_upgrade;
        "nginx is upgraded" LATER servers::nginx_upgrade;
        "a library is replaced during a swap, and needrestart sees to it" LATER servers::needrestart;
        "unattended-upgrades replaces agent, nginx and Docker during a swap" LATER servers::unattended_upgrades;
        "dockerd crashes until systemd gives up" LATER servers::three_dockerd_crashes;
        "nginx's master is killed" LATER servers::nginx_killed;
        "the agent's disk is full when a candidate dies" LATER servers::disk_full;
        "the agent's file system is read-only" LATER servers::read_only;
        "Docker's disk is full" LATER servers::docker_disk_full;
        "a host is not heard for 12 s during a swap" LATER network::unheard;
        "a host hears nothing for 12 s during a swap" LATER network::deaf;
        "the coordinator is dead and somebody reverts by hand" LATER network::break_glass;
        "the README's first try, on a fresh machine" CI first_try::of_the_readme;
        "a machine becomes a host by Ansible" CI first_try::by_ansible;
        "a host is cloned" LATER identities::cloned;
        "a host is rebuilt under its old name" LATER identities::rebuilt;
        "the coordinator is restored from an old backup" LATER identities::restored;
        "a second coordinator is started by mistake" LATER identities::second_coordinator;
        "the agent is purged, and installed again" CI packages::purged_and_installed_again;
        "clocks jump by an hour, there and back" LATER clocks::jump;
        "another CA takes over" LATER certificates::succession;
        "75 days pass" LATER certificates::renewal;
        "the coordinator is off for a weekend when certificates are due" LATER certificates::weekend;
        "a host comes back after its certificate's end" LATER certificates::expired;
    }
}

/// Runs them on one fleet; a scenario that goes wrong costs the fleet, and the next one gets another.
pub(crate) async fn run(
    bed: &Arc<Bed>,
    debs: &Path,
    previous: Option<&Path>,
    chosen: Vec<Scenario>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut fleet = None;
    for one in chosen {
        let mut on = match fleet.take() {
            Some(fleet) => fleet,
            None => {
                let began = Instant::now();
                let mut fleet = Fleet::boot(bed, debs).await;
                fleet.previous = previous.map(Path::to_owned);
                let (row, well) = tried(INSTALL, began, &mut fleet, |fleet| {
                    Box::pin(fleet.install())
                })
                .await;
                rows.push(row);
                if !well {
                    return rows;
                }
                fleet
            }
        };
        let (row, well) = tried(one.name, Instant::now(), &mut on, one.run).await;
        rows.push(row);
        fleet = well.then_some(on);
    }
    rows
}

/// What every fleet begins with.
const INSTALL: &str = "the packages are installed, hosts enrol, the first release";

async fn tried(
    name: &'static str,
    began: Instant,
    fleet: &mut Fleet,
    run: for<'a> fn(&'a mut Fleet) -> Running<'a>,
) -> (Row, bool) {
    let ran = AssertUnwindSafe(async {
        let found = run(fleet).await;
        fleet.is_well().await;
        found
    });
    let result = ran.catch_unwind().await.map_err(|panic| words(&*panic));
    let well = result.is_ok();
    if !well {
        println!(
            "  what they said last: {}",
            fleet.last_words(&name.replace(' ', "-")).display()
        );
    }
    let row = Row {
        name,
        result,
        took: began.elapsed(),
    };
    println!(
        "{:5.1} s  {name}: {}; {}",
        row.took.as_secs_f64(),
        row.outcome(),
        row.requests()
    );
    (row, well)
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked without a word")
        .to_owned()
}
