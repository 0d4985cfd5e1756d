//! Cutover's own bridge network, and the user's networks that its containers join.
//!
//! A stopped container's fixed address is free for anybody (*tried*): so the
//! engine gives strangers addresses from `ip_range` alone, and slots have theirs
//! outside of it. The engine does not look at the host's routes when it is told
//! a subnet; we do, before a network takes the office VPN's place.

use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use cutover_core::AppName;
use cutover_core::spec::Network;

use super::{Cidr, Class, Docker, Error, filters, labels, present};

/// The network that all replicas of this host are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Its name in the engine.
    pub name: String,
    /// All its addresses.
    pub subnet: Cidr,
    /// The part from which the engine chooses; no slot's address lies in it.
    pub ip_range: Cidr,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// The interface's name; `None`: the engine's choice.
    pub bridge_name: Option<String>,
}

impl Docker {
    /// Makes Cutover's network be there in the wanted shape; `true` when it had to be made.
    ///
    /// # Errors
    /// [`Class::Conflict`]: one of that name has another shape or another owner,
    /// or the subnet is in use by another network or a route of this host.
    pub async fn ensure_network(&self, plan: &NetworkPlan) -> Result<bool, Error> {
        let _alone = self.one_network_at_a_time().await;
        if self.look_at_network(plan).await? {
            return Ok(false);
        }
        let doing = format!("making network {} ({})", plan.name, plan.subnet);
        self.create_network(&doing, request(plan, self.host().as_str()))
            .await?;
        Ok(true)
    }

    /// Whether Cutover's network is there in the wanted shape; if not, it could be made. Changes nothing.
    ///
    /// # Errors
    /// As of [`Docker::ensure_network`].
    pub async fn look_at_network(&self, plan: &NetworkPlan) -> Result<bool, Error> {
        let doing = format!("making network {} ({})", plan.name, plan.subnet);
        if let Some(found) = self.inspect_network(&plan.name).await? {
            let differs = differences(plan, &found, self.host().as_str());
            return if differs.is_empty() {
                Ok(true)
            } else {
                let found = format!(
                    "a network of that name is there, but {}",
                    differs.join(", ")
                );
                Err(Error::refused(doing, Class::Conflict, found))
            };
        }
        if !plan.subnet.holds(plan.gateway) || !plan.ip_range.is_part_of(plan.subnet) {
            let found = format!(
                "gateway {} and range {} must lie within the subnet",
                plan.gateway, plan.ip_range
            );
            return Err(Error::refused(doing, Class::Other, found));
        }
        for (name, block) in self.blocks_of_networks().await? {
            if block.overlaps(plan.subnet) {
                return Err(Error::refused(
                    doing,
                    Class::Conflict,
                    format!("docker network {name} has {block}"),
                ));
            }
        }
        let routes = tokio::fs::read_to_string(ROUTES).await;
        let routes = routes.map_err(|error| Error::file(format!("reading {ROUTES}"), error))?;
        for (interface, block) in blocks_of_routes(&routes) {
            if block.overlaps(plan.subnet) && plan.bridge_name.as_ref() != Some(&interface) {
                let found = format!("this host has a route to {block} through {interface}");
                return Err(Error::refused(doing, Class::Conflict, found));
            }
        }
        Ok(false)
    }

    /// Removes a network of this host; done when there is none.
    ///
    /// # Errors
    /// It is somebody else's, or containers are on it ([`Class::Conflict`]).
    pub async fn remove_network(&self, name: &str) -> Result<(), Error> {
        let doing = format!("removing network {name}");
        let Some(found) = self.inspect_network(name).await? else {
            return Ok(());
        };
        if let Some(differs) = owner_differs(&found, self.host().as_str()) {
            return Err(Error::refused(doing, Class::Conflict, differs));
        }
        let answer = self
            .limited(
                self.limits().remove,
                self.client(&doing)?.remove_network(name),
            )
            .await;
        match present(self.told(&doing, answer)) {
            Err(error) if error.says("active endpoints") => Err(Error::refused(
                doing,
                Class::Conflict,
                "containers still run on it",
            )),
            answer => answer.map(drop),
        }
    }

    /// Makes a user's network be there; an external one is only looked for, and nobody's to make.
    pub(super) async fn ensure_joined(
        &self,
        network: &Network,
        app: &AppName,
    ) -> Result<(), Error> {
        let _alone = self.one_network_at_a_time().await;
        let doing = format!("making network {}", network.name);
        match self.inspect_one(&doing, &network.name).await {
            // One of them may be ours, left by an agent that died before it could give way.
            Err(error) if error.class() == Class::Ambiguous => {
                return self.give_way(&doing, &network.name).await;
            }
            answer => {
                if bears(answer?.as_ref(), &network.name) {
                    return Ok(());
                }
            }
        }
        if network.external {
            return Err(absent(
                format!("joining network {}", network.name),
                "network",
                &network.name,
            ));
        }
        let labels = [
            (labels::HOST, self.host().as_str()),
            (labels::APP, app.as_str()),
        ];
        let request = NetworkCreateRequest {
            name: network.name.clone(),
            driver: Some("bridge".to_owned()),
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..Default::default()
        };
        self.create_network(&doing, request).await
    }

    /// The network of this name, if there is one.
    pub(super) async fn inspect_network(
        &self,
        name: &str,
    ) -> Result<Option<NetworkInspect>, Error> {
        let doing = format!("looking at network {name}");
        let found = match self.inspect_one(&doing, name).await {
            // Two were made at once; the loser is being removed.
            Err(error) if error.class() == Class::Ambiguous => {
                match self.twins(name).await?.first() {
                    Some(first) => self.inspect_one(&doing, &first.id).await?,
                    None => None,
                }
            }
            answer => answer?,
        };
        Ok(found.filter(|found| bears(Some(found), name)))
    }

    /// Whoever looks for a network and makes it does so alone in this process: two services of one app ask for theirs
    /// at the same moment. Each call that is made meanwhile has its deadline.
    async fn one_network_at_a_time(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.networks.lock().await
    }

    async fn inspect_one(
        &self,
        doing: &str,
        name_or_id: &str,
    ) -> Result<Option<NetworkInspect>, Error> {
        let options = None::<bollard::query_parameters::InspectNetworkOptions>;
        let inspecting = self.client(doing)?.inspect_network(name_or_id, options);
        let answer = self.limited(self.limits().ask, inspecting).await;
        present(self.told(doing, answer))
    }

    /// All networks of this very name, the one that counts first: the oldest.
    async fn twins(&self, name: &str) -> Result<Vec<Twin>, Error> {
        let doing = format!("looking for networks named {name}");
        let named = filters([("name", vec![name.to_owned()])]);
        let options = ListNetworksOptionsBuilder::default()
            .filters(&named)
            .build();
        let answer = self
            .limited(
                self.limits().ask,
                self.client(&doing)?.list_networks(Some(options)),
            )
            .await;
        let all = self
            .told(&doing, answer)?
            .into_iter()
            .filter(|network| network.name.as_deref() == Some(name));
        let mut twins: Vec<_> = all
            .map(|network| Twin {
                age: age(network.created),
                id: network.id.unwrap_or_default(),
                ours: network
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(labels::HOST))
                    .is_some_and(|owner| owner == self.host().as_str()),
            })
            .collect();
        twins.sort();
        Ok(twins)
    }

    /// An engine before 25 makes a second network of the same name without a word, when two agents ask for it at once.
    /// The oldest stays; each maker removes its own when it is another. Containers join the oldest, by its id.
    async fn give_way(&self, doing: &str, name: &str) -> Result<(), Error> {
        let twins = self.twins(name).await?;
        for twin in twins.iter().skip(1).filter(|twin| twin.ours) {
            let removing = self.client(doing)?.remove_network(&twin.id);
            let answer = self.limited(self.limits().make, removing).await;
            match present(self.told(doing, answer)) {
                // Somebody joined it by hand: it is theirs to end.
                Err(error) if error.says("active endpoints") => {}
                answer => drop(answer?),
            }
        }
        Ok(())
    }

    async fn create_network(
        &self,
        doing: &str,
        request: NetworkCreateRequest,
    ) -> Result<(), Error> {
        let name = request.name.clone();
        let answer = self
            .limited(
                self.limits().make,
                self.client(doing)?.create_network(request),
            )
            .await;
        match self.told(doing, answer) {
            // Made by another agent of this engine in the meantime.
            Err(error) if error.class() == Class::Conflict && error.says("network with name") => {
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => self.give_way(doing, &name).await,
        }
    }

    async fn blocks_of_networks(&self) -> Result<Vec<(String, Cidr)>, Error> {
        let doing = "listing the engine's networks";
        let options = None::<bollard::query_parameters::ListNetworksOptions>;
        let answer = self
            .limited(
                self.limits().ask,
                self.client(doing)?.list_networks(options),
            )
            .await;
        let mut blocks = Vec::new();
        for network in self.told(doing, answer)? {
            let name = network.name.unwrap_or_default();
            for config in network
                .ipam
                .and_then(|ipam| ipam.config)
                .unwrap_or_default()
            {
                if let Some(block) = config.subnet.and_then(|subnet| subnet.parse().ok()) {
                    blocks.push((name.clone(), block));
                }
            }
        }
        Ok(blocks)
    }
}

/// What the user said to be there, and nobody makes, is not.
pub(super) fn absent(doing: String, kind: &str, name: &str) -> Error {
    let found =
        format!("it is external, so it must exist already; `docker {kind} create {name}` makes it");
    Error::refused(doing, Class::Other, found)
}

/// One of several networks of the same name; the oldest sorts first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Twin {
    age: String,
    id: String,
    ours: bool,
}

/// Whether this network was found by its name: the engine also answers to the beginning of an id.
fn bears(found: Option<&NetworkInspect>, name: &str) -> bool {
    found.is_some_and(|found| found.name.as_deref() == Some(name))
}

/// When something was made, as text that sorts: the engine leaves out zeros at the end of a fraction.
fn age(created: Option<String>) -> String {
    created.unwrap_or_default().trim_end_matches('Z').to_owned()
}

fn request(plan: &NetworkPlan, host: &str) -> NetworkCreateRequest {
    let bridge = plan
        .bridge_name
        .iter()
        .map(|name| (BRIDGE_NAME.to_owned(), name.clone()));
    NetworkCreateRequest {
        name: plan.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(plan.subnet.to_string()),
                ip_range: Some(plan.ip_range.to_string()),
                gateway: Some(plan.gateway.to_string()),
                auxiliary_addresses: None,
            }]),
            ..Default::default()
        }),
        options: Some(bridge.collect()),
        labels: Some([(labels::HOST.to_owned(), host.to_owned())].into()),
        ..Default::default()
    }
}

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// How what is there differs from what is wanted, one phrase each.
fn differences(plan: &NetworkPlan, found: &NetworkInspect, host: &str) -> Vec<String> {
    let mut differs: Vec<String> = owner_differs(found, host).into_iter().collect();
    let mut compare = |what: &str, is: Option<&str>, wanted: Option<String>| {
        if is.filter(|text| !text.is_empty()) != wanted.as_deref() {
            let (is, wanted) = (is.unwrap_or("none"), wanted.as_deref().unwrap_or("none"));
            differs.push(format!("its {what} is {is}, not {wanted}"));
        }
    };
    let blocks = found
        .ipam
        .as_ref()
        .and_then(|ipam| ipam.config.as_deref())
        .unwrap_or_default();
    let block = blocks.iter().find(|block| {
        block
            .subnet
            .as_deref()
            .is_some_and(|subnet| !subnet.contains(':'))
    });
    compare("driver", found.driver.as_deref(), Some("bridge".to_owned()));
    compare(
        "subnet",
        block.and_then(|block| block.subnet.as_deref()),
        Some(plan.subnet.to_string()),
    );
    compare(
        "address range",
        block.and_then(|block| block.ip_range.as_deref()),
        Some(plan.ip_range.to_string()),
    );
    compare(
        "gateway",
        block.and_then(|block| block.gateway.as_deref()),
        Some(plan.gateway.to_string()),
    );
    if plan.bridge_name.is_some() {
        let bridge = found
            .options
            .as_ref()
            .and_then(|options| options.get(BRIDGE_NAME));
        compare(
            "interface",
            bridge.map(String::as_str),
            plan.bridge_name.clone(),
        );
    }
    differs
}

fn owner_differs(found: &NetworkInspect, host: &str) -> Option<String> {
    match found
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::HOST))
    {
        Some(owner) if owner == host => None,
        Some(owner) => Some(format!("it belongs to host {owner}")),
        None => Some("it was not made by Cutover".to_owned()),
    }
}

const ROUTES: &str = "/proc/net/route";

/// The blocks that /proc/net/route leads to, with their interfaces; the default route is none.
fn blocks_of_routes(table: &str) -> Vec<(String, Cidr)> {
    // Iface Destination Gateway Flags RefCnt Use Metric Mask …, addresses as little-endian hex.
    let address = |hex: &str| {
        u32::from_str_radix(hex, 16)
            .ok()
            .map(u32::from_be)
            .map(Ipv4Addr::from)
    };
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (interface, destination, mask) = (fields.next()?, fields.next()?, fields.nth(5)?);
        let prefix = u8::try_from(u32::from(address(mask)?).count_ones()).ok()?;
        (prefix > 0).then_some((
            interface.to_owned(),
            Cidr::around(address(destination)?, prefix),
        ))
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        text.parse().expect("a block")
    }

    #[test]
    fn the_kernels_routes_are_read_without_the_default_one() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     tun0\t0000070A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let expected = vec![
            ("docker0".to_owned(), block("172.17.0.0/16")),
            ("tun0".to_owned(), block("10.7.0.0/16")),
        ];
        assert_eq!(blocks_of_routes(table), expected);
    }
}
