//! `cutover host wait`: until so many hosts are what they shall be.

use std::collections::BTreeSet;
use std::time::Duration;

use cutover_proto::v1::HostView;
use tokio::time::Instant;

use super::Cx;
use super::host::list;
use crate::args::{self, Wait};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::render::json;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// `cutover host wait`
pub(super) async fn wait(cx: &Cx<'_>, client: &mut Client, args: &Wait) -> Result<Exit, Failure> {
    let until = Instant::now() + args.timeout;
    let count = args.count.unwrap_or(args.hosts.len().max(1));
    let state = args::word(args.state);
    let mut hosts = list(client, "").await?; // unreachable from the start is said at once
    loop {
        let there = matching(&hosts, &args.hosts, &state);
        if there.len() >= count {
            let values: Vec<_> = there.iter().map(|view| json::host::host(view)).collect();
            let names: Vec<&str> = there.iter().map(|view| view.host.as_str()).collect();
            cx.output
                .show(&values, || format!("{state}: {}", names.join(", ")));
            return Ok(Exit::Done);
        }
        if Instant::now() >= until {
            return Err(too_late(&hosts, args, count, &state));
        }
        tokio::time::sleep(PAUSE).await;
        match list(client, "").await {
            Ok(seen) => hosts = seen,
            // Whether that helps, the next look says.
            Err(_) => drop(client.reconnect().await),
        }
    }
}

fn matching<'a>(hosts: &'a [HostView], named: &[String], state: &str) -> Vec<&'a HostView> {
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    let wanted = |view: &&HostView| {
        view.state == state && (named.is_empty() || named.contains(view.host.as_str()))
    };
    hosts.iter().filter(wanted).collect()
}

fn too_late(hosts: &[HostView], args: &Wait, count: usize, state: &str) -> Failure {
    let others: Vec<String> = hosts
        .iter()
        .filter(|view| view.state != state)
        .map(|view| format!("{} is {}", view.host, view.state))
        .collect();
    let unknown = args
        .hosts
        .iter()
        .filter(|name| !hosts.iter().any(|view| view.host == **name));
    let others: Vec<String> = others
        .into_iter()
        .chain(unknown.map(|name| format!("{name} is not known")))
        .collect();
    let there = matching(hosts, &args.hosts, state).len();
    let mut what = format!(
        "{there} of {count} hosts are {state} after {} s",
        args.timeout.as_secs()
    );
    if !others.is_empty() {
        what.push_str(&format!(": {}", others.join(", ")));
    }
    Failure::new(Kind::TimedOut, what).next("`cutover host ls` and `cutover doctor` say more")
}
