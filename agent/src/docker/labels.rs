//! The labels that say whose a container is and what it is for.
//!
//! They are all that an agent with an empty journal has to recognise its
//! containers by; names are for people.

use std::collections::HashMap;

use cutover_core::{AppName, Generation, HostId, RevisionNumber, ServiceId, ServiceName, Slot};

pub(super) const HOST: &str = "dev.cutover.host";
pub(super) const APP: &str = "dev.cutover.app";
pub(super) const SERVICE: &str = "dev.cutover.service";
const REVISION: &str = "dev.cutover.revision";
const SLOT: &str = "dev.cutover.slot";
const REPLICA: &str = "dev.cutover.replica";
/// The generation whose swap made the container; a later swap may use it again.
pub(super) const GENERATION: &str = "dev.cutover.generation";
/// `APP-SERVICE-REV-N`, also while the engine knows it by the user's fixed name.
pub(super) const NAME: &str = "dev.cutover.name";
/// The user's fixed name, which it bears while it runs.
pub(super) const FIXED_NAME: &str = "dev.cutover.fixed-name";
/// A hash of how it was made.
pub(super) const SPEC: &str = "dev.cutover.spec";

/// Which replica of what a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of which service.
    pub service: ServiceId,
    /// Of which revision.
    pub revision: RevisionNumber,
    /// In which slot.
    pub slot: Slot,
    /// Which of its replicas; the first is 1.
    pub replica: u32,
    /// Whose swap made it.
    pub generation: Generation,
}

impl Identity {
    /// `APP-SERVICE-REV-N`.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "{}-{}-{}-{}",
            self.service.app, self.service.service, self.revision, self.replica
        )
    }

    pub(super) fn labels(&self, host: &HostId, name: &str) -> HashMap<String, String> {
        [
            (HOST, host.to_string()),
            (APP, self.service.app.to_string()),
            (SERVICE, self.service.service.to_string()),
            (REVISION, self.revision.to_string()),
            (SLOT, self.slot.to_string()),
            (REPLICA, self.replica.to_string()),
            (GENERATION, self.generation.to_string()),
            (NAME, name.to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// Reads them back; the error names the first label that is missing or makes no sense.
    pub(super) fn read(labels: &HashMap<String, String>) -> Result<Self, String> {
        Ok(Self {
            service: ServiceId {
                app: parsed::<AppName>(labels, APP)?,
                service: parsed::<ServiceName>(labels, SERVICE)?,
            },
            revision: parsed(labels, REVISION)?,
            slot: read(labels, SLOT, |text| {
                Slot::ALL.into_iter().find(|slot| slot.as_str() == text)
            })?,
            replica: read(labels, REPLICA, |text| {
                text.parse().ok().filter(|number| *number >= 1)
            })?,
            generation: read(labels, GENERATION, |text| {
                let (epoch, number) = text.split_once('.')?;
                Some(Generation {
                    epoch: epoch.parse().ok()?,
                    number: number.parse().ok()?,
                })
            })?,
        })
    }
}

fn parsed<T: std::str::FromStr>(labels: &HashMap<String, String>, key: &str) -> Result<T, String> {
    read(labels, key, |text| text.parse().ok())
}

fn read<T>(
    labels: &HashMap<String, String>,
    key: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let text = labels
        .get(key)
        .ok_or_else(|| format!("label {key} is missing"))?;
    parse(text).ok_or_else(|| format!("label {key} is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_give_back_the_identity_and_say_which_one_is_bad() {
        let identity = Identity {
            service: "shop/web".parse().expect("a service"),
            revision: "7".parse().expect("a revision"),
            slot: Slot::Green,
            replica: 2,
            generation: Generation {
                epoch: 1,
                number: 12,
            },
        };
        let host = "web-1".parse().expect("a host");
        let mut labels = identity.labels(&host, &identity.name());
        assert_eq!(Identity::read(&labels), Ok(identity));
        labels.insert(REPLICA.to_owned(), "0".to_owned());
        assert_eq!(
            Identity::read(&labels),
            Err("label dev.cutover.replica is \"0\"".to_owned())
        );
        labels.remove(SLOT);
        assert_eq!(
            Identity::read(&labels),
            Err("label dev.cutover.slot is missing".to_owned())
        );
    }
}
