//! The user's fixed name (`container_name`), which one container of the engine can bear.
//!
//! Kept true: a container is made and parked under its own name, and bears the fixed one while it runs: whoever asks the
//! engine by that name finds what runs. Where two run, the one that came first bears it until it stops. It does not know which
//! of them gets requests.

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{ListContainersOptionsBuilder, RenameContainerOptionsBuilder};
use cutover_core::ServiceId;

use super::found::{labels_of, state};
use super::{Class, ContainerPlan, Docker, Error, Identity, filters, labels};

/// The fixed name of a replica: the first one's.
pub(super) fn fixed_name<'a>(plan: &ContainerPlan<'a>) -> Option<&'a str> {
    let name = plan.spec.container_name.as_deref();
    name.filter(|_| plan.identity.replica == 1)
}

impl Docker {
    /// Fails where a stranger bears the name: that is found out before anything is stopped for it.
    pub(super) async fn may_bear(
        &self,
        doing: &str,
        plan: &ContainerPlan<'_>,
    ) -> Result<(), Error> {
        let Some(fixed) = fixed_name(plan) else {
            return Ok(());
        };
        match self.inspect(fixed).await? {
            Some(holder) if !self.is_sibling(&holder, &plan.identity.service) => {
                Err(self.taken(doing, fixed, &holder))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What is about to start takes its fixed name, unless a sibling runs under it.
    pub(super) async fn take_fixed_name(
        &self,
        doing: &str,
        found: &ContainerInspectResponse,
    ) -> Result<(), Error> {
        let Some(fixed) = label(found, labels::FIXED_NAME) else {
            return Ok(());
        };
        let _alone = self.shared.names.lock().await;
        if let Some(holder) = self.inspect(fixed).await? {
            if holder.id == found.id {
                return Ok(());
            }
            let service = labels_of(found).and_then(|labels| Identity::read(labels).ok());
            let sibling = service.is_some_and(|this| self.is_sibling(&holder, &this.service));
            match label(&holder, labels::NAME).filter(|_| sibling) {
                Some(_) if state(holder.state.as_ref()).is_up() => return Ok(()),
                Some(own) => self.rename(doing, id(&holder), own).await?,
                None => return Err(self.taken(doing, fixed, &holder)),
            }
        }
        self.rename(doing, id(found), fixed).await
    }

    /// What has stopped goes by its own name; a sibling that runs bears the fixed one from here on.
    pub(super) async fn leave_fixed_name(
        &self,
        doing: &str,
        found: &ContainerInspectResponse,
    ) -> Result<(), Error> {
        let (Some(fixed), Some(own)) =
            (label(found, labels::FIXED_NAME), label(found, labels::NAME))
        else {
            return Ok(());
        };
        let _alone = self.shared.names.lock().await;
        let bears = self.inspect(fixed).await?;
        if bears.is_none_or(|holder| holder.id != found.id) {
            return Ok(());
        }
        self.rename(doing, id(found), own).await?;
        let same = [
            labels::HOST,
            labels::APP,
            labels::SERVICE,
            labels::FIXED_NAME,
        ];
        let wanted = same.map(|key| format!("{key}={}", label(found, key).unwrap_or_default()));
        let options = ListContainersOptionsBuilder::default()
            .filters(&filters([("label", wanted.to_vec())]))
            .build();
        let listing = self.client(doing)?.list_containers(Some(options));
        let answer = self.limited(self.limits().ask, listing).await;
        let sibling = self.told(doing, answer)?.into_iter().find_map(|one| one.id);
        match sibling {
            Some(sibling) => self.rename(doing, &sibling, fixed).await,
            None => Ok(()),
        }
    }

    fn is_sibling(&self, holder: &ContainerInspectResponse, service: &ServiceId) -> bool {
        let labels = labels_of(holder);
        let identity = labels.and_then(|labels| Identity::read(labels).ok());
        let ours = label(holder, labels::HOST) == Some(self.host().as_str());
        ours && identity.is_some_and(|identity| identity.service == *service)
    }

    fn taken(&self, doing: &str, fixed: &str, holder: &ContainerInspectResponse) -> Error {
        let found = format!("the name {fixed} is taken: {}", self.stranger_is(holder));
        Error::refused(doing.to_owned(), Class::Conflict, found)
    }

    async fn rename(&self, doing: &str, id: &str, to: &str) -> Result<(), Error> {
        let options = RenameContainerOptionsBuilder::default().name(to).build();
        let renaming = self.client(doing)?.rename_container(id, options);
        let answer = self.limited(self.limits().make, renaming).await;
        self.told(doing, answer)
    }
}

fn label<'a>(found: &'a ContainerInspectResponse, key: &str) -> Option<&'a str> {
    labels_of(found)?.get(key).map(String::as_str)
}

fn id(found: &ContainerInspectResponse) -> &str {
    found.id.as_deref().unwrap_or_default()
}
