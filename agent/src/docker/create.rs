//! Making a container: what it needs around it, its name, its address, or the
//! one that is there already.

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, EndpointSettings, NetworkConnectRequest,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use cutover_core::spec::{ContainerSpec, MountSource, Network};

use super::found::{labels_of, state};
use super::network::absent;
use super::{Class, ContainerPlan, Docker, Error, Identity, State, body, labels, present};

/// What [`Docker::create`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The engine's id of the container.
    pub id: String,
    /// It was not there before, or was made otherwise and has been made anew.
    pub made: bool,
    /// How it stands.
    pub state: State,
}

impl Docker {
    /// Makes the container of `plan` be there, on its networks, with its files.
    ///
    /// One that is there and made alike is used again, parked or running. One of
    /// this very revision that was made otherwise, or for a network that is gone,
    /// is made anew unless it runs.
    ///
    /// # Errors
    /// [`Class::Conflict`]: the name or the address is somebody else's, named in the error, or what was made
    /// otherwise runs. [`Class::NoSuchImage`]: pull first. [`Class::NotFound`]: a network is missing.
    /// [`Class::Other`]: what is external, and must exist already, does not.
    pub async fn create(&self, plan: &ContainerPlan<'_>) -> Result<Created, Error> {
        let name = self.name_of(plan.identity);
        let doing = format!("creating container {name}");
        // Each to its end: a network that is being made is not left half made.
        let (surrounded, borne, existing) = tokio::join!(
            self.ensure_surroundings(&doing, plan),
            self.may_bear(&doing, plan),
            self.owned(&doing, &name),
        );
        surrounded?;
        borne?;
        self.materialise(&name, plan.spec).await?;
        let mut body = body::body(plan, self.host(), &name, &self.shared.settings.files);
        if let Some(existing) = existing? {
            if let Err(found) = same_replica(plan.identity, &existing) {
                return Err(Error::refused(doing, Class::Conflict, found));
            }
            if alike(&body, &existing) && self.networks_still_there(&existing).await? {
                self.join(&doing, plan.spec, &existing).await?;
                return Ok(Created {
                    state: state(existing.state.as_ref()),
                    id: existing.id.unwrap_or_default(),
                    made: false,
                });
            }
            if state(existing.state.as_ref()).is_up() {
                let found = "one of that name runs and was made otherwise; stop it first";
                return Err(Error::refused(doing, Class::Conflict, found));
            }
            self.delete(&doing, &existing).await?;
        }
        if let Some(owner) = self.owner_of(plan.address).await? {
            let found = format!(
                "address {} is held by container {}",
                plan.address, owner.container
            );
            return Err(Error::refused(doing, Class::Conflict, found));
        }
        if plan.spec.command.as_ref().is_some_and(Vec::is_empty) && plan.spec.entrypoint.is_none() {
            // The engine takes an empty command for the image's unless it is told what to execute.
            let facts = self.image_facts(body::image(plan.spec)).await?;
            let words = facts
                .map(|facts| facts.entrypoint)
                .filter(|words| !words.is_empty());
            body.entrypoint = Some(words.unwrap_or_else(|| vec![String::new()]));
        }
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let answer = self
            .limited(
                self.limits().make,
                self.client(&doing)?.create_container(Some(options), body),
            )
            .await;
        let id = self.told(&doing, answer)?.id;
        match self.inspect(&id).await? {
            Some(made) => {
                self.join(&doing, plan.spec, &made).await?;
                Ok(Created {
                    id,
                    made: true,
                    state: state(made.state.as_ref()),
                })
            }
            None => Err(Error::refused(
                doing,
                Class::NotFound,
                "it was removed as soon as it was made",
            )),
        }
    }

    /// Whether the container of `plan` is there as [`Self::create`] makes it. Not asked is whether its networks still are:
    /// a start tells that ([`Class::NotFound`], [`Class::Ambiguous`]; [`Class::Other`] where the engine is in a swarm).
    ///
    /// # Errors
    /// Its name is somebody else's, or the engine is down or hangs.
    pub async fn is_made(&self, plan: &ContainerPlan<'_>) -> Result<bool, Error> {
        let name = self.name_of(plan.identity);
        let body = body::body(plan, self.host(), &name, &self.shared.settings.files);
        let doing = format!("looking at container {name}");
        let Some(found) = self.owned(&doing, &name).await? else {
            return Ok(false);
        };
        Ok(same_replica(plan.identity, &found).is_ok()
            && alike(&body, &found)
            && lacks(plan.spec, &found).next().is_none()
            && self.has_files(&name, plan.spec).await)
    }

    /// Networks and external volumes: the engine would notice only at the start that they are missing.
    async fn ensure_surroundings(
        &self,
        doing: &str,
        plan: &ContainerPlan<'_>,
    ) -> Result<(), Error> {
        if self.inspect_network(plan.network).await?.is_none() {
            let found = format!("network {} is not there; make it first", plan.network);
            return Err(Error::refused(doing, Class::NotFound, found));
        }
        for network in &plan.spec.networks {
            self.ensure_joined(network, &plan.identity.service.app)
                .await?;
        }
        for mount in &plan.spec.mounts {
            let MountSource::Volume {
                name,
                external: true,
            } = &mount.source
            else {
                continue;
            };
            let answer = self
                .limited(self.limits().ask, self.client(doing)?.inspect_volume(name))
                .await;
            if present(self.told(doing, answer))?.is_none() {
                return Err(absent(format!("mounting volume {name}"), "volume", name));
            }
        }
        Ok(())
    }

    /// Whether every network that the container was made for is still the same one.
    async fn networks_still_there(&self, found: &ContainerInspectResponse) -> Result<bool, Error> {
        let networks = found
            .network_settings
            .as_ref()
            .and_then(|settings| settings.networks.as_ref());
        for (name, endpoint) in networks.into_iter().flatten() {
            // The engine fills it in at the first start.
            let Some(id) = endpoint.network_id.as_deref().filter(|id| !id.is_empty()) else {
                continue;
            };
            if self
                .inspect_network(name)
                .await?
                .and_then(|network| network.id)
                .as_deref()
                != Some(id)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Connects it to the user's networks that it is not on.
    async fn join(
        &self,
        doing: &str,
        spec: &ContainerSpec,
        found: &ContainerInspectResponse,
    ) -> Result<(), Error> {
        for network in lacks(spec, found) {
            let request = NetworkConnectRequest {
                container: found.id.clone().unwrap_or_default(),
                endpoint_config: Some(EndpointSettings {
                    aliases: Some(network.aliases.clone()),
                    ..Default::default()
                }),
            };
            // By its id: for a moment there may be a second one of that name.
            let id = self
                .inspect_network(&network.name)
                .await?
                .and_then(|found| found.id);
            let id = id.unwrap_or_else(|| network.name.clone());
            let call = self.client(doing)?.connect_network(&id, request);
            match self.told(doing, self.limited(self.limits().make, call).await) {
                Err(error) if error.says("already exists in network") => {}
                answer => answer?,
            }
        }
        Ok(())
    }
}

/// Whether what is there was made by these very words.
fn alike(body: &ContainerCreateBody, found: &ContainerInspectResponse) -> bool {
    let wanted = body
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::SPEC));
    wanted == labels_of(found).and_then(|labels| labels.get(labels::SPEC))
}

/// The user's networks that it is not on.
fn lacks<'a>(
    spec: &'a ContainerSpec,
    found: &'a ContainerInspectResponse,
) -> impl Iterator<Item = &'a Network> {
    let joined = found
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    spec.networks
        .iter()
        .filter(move |network| joined.is_none_or(|joined| !joined.contains_key(&network.name)))
}

/// `a-b` + `c` and `a` + `b-c` give one name; only the labels tell whose container it is.
fn same_replica(identity: &Identity, found: &ContainerInspectResponse) -> Result<(), String> {
    let read = labels_of(found).map_or_else(|| Err("it has no labels".to_owned()), Identity::read);
    let other = read.map_err(|why| format!("one of that name is there, and its {why}"))?;
    let same = other.service == identity.service
        && other.revision == identity.revision
        && other.replica == identity.replica;
    if same {
        Ok(())
    } else {
        Err(format!(
            "one of that name belongs to {}@{}",
            other.service, other.revision
        ))
    }
}
