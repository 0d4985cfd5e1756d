//! Who is behind an address, and who listens on the host's ports.

use std::net::Ipv4Addr;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptions;

use super::{Docker, Error, Identity, labels};

/// The running container behind an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The engine's name for it.
    pub container: String,
    /// The engine's id.
    pub id: String,
    /// Which replica of this host's it is; `None`: a stranger's.
    pub identity: Option<Identity>,
}

/// A port of the host that a container publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The engine's name for the container.
    pub container: String,
    /// The host's address; all of them: `0.0.0.0` or `::`.
    pub address: String,
    /// The host's port.
    pub port: u16,
}

impl Docker {
    /// The running container behind `address`, of whatever network and whosever it is; `None`: nobody.
    ///
    /// # Errors
    /// The engine is down or hangs.
    pub async fn owner_of(&self, address: Ipv4Addr) -> Result<Option<Owner>, Error> {
        let wanted = address.to_string();
        let has = |summary: &ContainerSummary| {
            let networks = summary
                .network_settings
                .as_ref()
                .and_then(|settings| settings.networks.as_ref());
            networks.is_some_and(|all| {
                all.values()
                    .any(|endpoint| endpoint.ip_address.as_ref() == Some(&wanted))
            })
        };
        let running = self
            .running(&format!("asking who has address {address}"))
            .await?;
        Ok(running.into_iter().find(has).map(|summary| {
            let labels = summary.labels.clone().unwrap_or_default();
            let ours = labels.get(labels::HOST).map(String::as_str) == Some(self.host().as_str());
            Owner {
                container: name_of(&summary),
                id: summary.id.unwrap_or_default(),
                identity: Identity::read(&labels).ok().filter(|_| ours),
            }
        }))
    }

    /// Every port of the host that some container publishes.
    ///
    /// # Errors
    /// The engine is down or hangs.
    pub async fn published(&self) -> Result<Vec<Published>, Error> {
        let mut published = Vec::new();
        for summary in self.running("listing published ports").await? {
            for port in summary.ports.iter().flatten() {
                if let Some(number) = port.public_port {
                    let address = port.ip.clone().unwrap_or_default();
                    published.push(Published {
                        container: name_of(&summary),
                        address,
                        port: number,
                    });
                }
            }
        }
        Ok(published)
    }

    async fn running(&self, doing: &str) -> Result<Vec<ContainerSummary>, Error> {
        let options = None::<ListContainersOptions>;
        let answer = self
            .limited(
                self.limits().ask,
                self.client(doing)?.list_containers(options),
            )
            .await;
        self.told(doing, answer)
    }
}

fn name_of(summary: &ContainerSummary) -> String {
    summary
        .names
        .iter()
        .flatten()
        .next()
        .map(|name| name.trim_start_matches('/').to_owned())
        .unwrap_or_default()
}
