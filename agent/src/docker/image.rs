//! Images: from what was written to what runs, and onto this host.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{HealthConfig, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use cutover_core::spec::Healthcheck;
use futures::StreamExt;

use super::deadline::Limit;
use super::{Class, Docker, Error, Failure, present};

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its address, as image names begin with it; empty: Docker Hub.
    pub server: String,
    /// Who.
    pub username: String,
    /// Never printed.
    pub password: String,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What a reference means: the same bytes everywhere and for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// `name@sha256:…`, which any host can pull.
    Digest(String),
    /// `sha256:…`, which only hosts that have it can run.
    Id(String),
}

impl Resolved {
    /// As the engine and a revision write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Digest(text) | Self::Id(text) => text,
        }
    }
}

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFacts {
    /// `sha256:…`.
    pub id: String,
    /// `name@sha256:…`, one a repository it was pulled from or pushed to.
    pub repo_digests: Vec<String>,
    /// Its HEALTHCHECK; zero durations mean the engine's defaults.
    pub healthcheck: Option<Healthcheck>,
    /// TCP ports that it declares.
    pub ports: BTreeSet<u16>,
    /// Paths for which it wants a volume.
    pub volumes: BTreeSet<String>,
    /// Its stop signal; `None`: SIGTERM.
    pub stop_signal: Option<String>,
    /// Its user; `None`: root.
    pub user: Option<String>,
    /// What it executes.
    pub entrypoint: Vec<String>,
    /// With which arguments.
    pub command: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
}

impl Docker {
    /// Resolves `reference` (tag, digest or image id) to what it means now.
    ///
    /// The registry decides. This host's own image is taken when the registry
    /// can't be reached, and when it was made here and never was in a registry.
    ///
    /// # Errors
    /// [`Class::NoSuchImage`], [`Class::Unauthorized`], [`Class::RegistryUnreachable`],
    /// [`Class::RegistryUntrusted`], as the registry said, with no image here to fall back on.
    pub async fn resolve_image(
        &self,
        reference: &str,
        credentials: Option<&Registry>,
    ) -> Result<Resolved, Error> {
        let doing = format!("resolving image {reference}");
        if is_id(reference) {
            return match self.image_facts(reference).await? {
                Some(facts) => Ok(Resolved::Id(facts.id)),
                None => Err(Error::refused(
                    doing,
                    Class::NoSuchImage,
                    "it is an image id, and this host has no such image",
                )),
            };
        }
        if reference.contains('@') {
            return Ok(Resolved::Digest(reference.to_owned()));
        }
        let (name, tag) = split(reference);
        let tagged = format!("{name}:{tag}");
        let call = self
            .client(&doing)?
            .inspect_registry_image(&tagged, credentials.map(docker_credentials));
        let error = match self.limited(self.limits().registry, call).await {
            Ok(answer) => match answer.descriptor.digest {
                Some(digest) => return Ok(Resolved::Digest(format!("{name}@{digest}"))),
                None => Error::refused(doing, Class::Other, "the registry's answer has no digest"),
            },
            Err(Failure::Engine(error)) => Error::registry(&doing, error),
            Err(Failure::Silent(limit)) => self.stalled(&doing, limit).await,
        };
        let Some(local) = self.image_facts(&tagged).await? else {
            return Err(error);
        };
        let from_registry = local
            .repo_digests
            .iter()
            .find(|digest| digest.split('@').next().map(familiar) == Some(familiar(name)));
        match (error.class(), from_registry) {
            (Class::RegistryUnreachable, Some(digest)) => Ok(Resolved::Digest(digest.clone())),
            (Class::RegistryUnreachable | Class::NoSuchImage | Class::Unauthorized, None) => {
                Ok(Resolved::Id(local.id))
            }
            (_, _) => Err(error),
        }
    }

    /// Makes the image be on this host; `tell` hears how it goes, a line at a time.
    ///
    /// What is resolved (digest or id) and here already costs one look. A tag is
    /// always asked for, because it may have moved.
    ///
    /// # Errors
    /// As [`Self::resolve_image`], and [`Class::NoSpace`].
    pub async fn pull(
        &self,
        reference: &str,
        credentials: Option<&Registry>,
        mut tell: impl FnMut(&str) + Send,
    ) -> Result<(), Error> {
        let doing = format!("pulling image {reference}");
        let fixed = is_id(reference) || reference.contains('@');
        if fixed && self.image_present(reference).await? {
            return Ok(());
        }
        if is_id(reference) {
            return Err(Error::refused(
                doing,
                Class::NoSuchImage,
                "an image id can't be pulled, and this host has no such image; load it here, or push it to a registry",
            ));
        }
        let options = if reference.contains('@') {
            CreateImageOptionsBuilder::default()
                .from_image(reference)
                .build()
        } else {
            // Without a tag the engine would pull every one.
            let (name, tag) = split(reference);
            CreateImageOptionsBuilder::default()
                .from_image(name)
                .tag(tag)
                .build()
        };
        let credentials = credentials.map(docker_credentials);
        let mut lines = Box::pin(self.client(&doing)?.create_image(
            Some(options),
            None,
            credentials,
        ));
        let limits = self.limits();
        let all = async {
            loop {
                match tokio::time::timeout(limits.progress.length, lines.next()).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(Ok(line))) => {
                        if let Some(text) = progress(&line) {
                            tell(&text);
                        }
                    }
                    Ok(Some(Err(error))) => return Err(Error::registry(&doing, error)),
                    Err(_elapsed) => return Err(self.stalled(&doing, limits.progress).await),
                }
            }
        };
        match tokio::time::timeout(limits.pull.length, all).await {
            Ok(done) => done,
            Err(_elapsed) => Err(self.stalled(&doing, limits.pull).await),
        }
    }

    /// A call about a registry got no answer: is it the registry, or the engine?
    async fn stalled(&self, doing: &str, limit: Limit) -> Error {
        match self.ping().await {
            Ok(()) => {
                let found = format!("no answer from the registry within {:?}", limit.length);
                Error::refused(doing, Class::RegistryUnreachable, found)
            }
            Err(_) => Error::silent(doing, limit.name, limit.length),
        }
    }

    /// Whether this host has the image.
    ///
    /// # Errors
    /// The engine is down or hangs.
    pub async fn image_present(&self, reference: &str) -> Result<bool, Error> {
        Ok(self.image_facts(reference).await?.is_some())
    }

    /// What the image says of itself; `None`: this host does not have it.
    ///
    /// # Errors
    /// The engine is down or hangs.
    pub async fn image_facts(&self, reference: &str) -> Result<Option<ImageFacts>, Error> {
        let doing = format!("looking at image {reference}");
        let answer = self
            .limited(
                self.limits().ask,
                self.client(&doing)?.inspect_image(reference),
            )
            .await;
        Ok(present(self.told(&doing, answer))?.map(facts))
    }
}

fn facts(image: ImageInspect) -> ImageFacts {
    let config = image.config.unwrap_or_default();
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    ImageFacts {
        id: image.id.unwrap_or_default(),
        repo_digests: image.repo_digests.unwrap_or_default(),
        healthcheck: config.healthcheck.and_then(healthcheck),
        ports: config
            .exposed_ports
            .unwrap_or_default()
            .iter()
            .filter_map(|port| tcp_port(port))
            .collect(),
        volumes: config.volumes.unwrap_or_default().into_iter().collect(),
        stop_signal: some(config.stop_signal),
        user: some(config.user),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        size: image
            .size
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(0),
    }
}

/// `None` when nothing is run: no test, or a test that says so.
pub(super) fn healthcheck(config: HealthConfig) -> Option<Healthcheck> {
    let test = config
        .test
        .filter(|test| !matches!(test.first().map(String::as_str), None | Some("NONE" | "")))?;
    let nanos = |value: Option<i64>| {
        Duration::from_nanos(
            value
                .and_then(|nanos| u64::try_from(nanos).ok())
                .unwrap_or(0),
        )
    };
    Some(Healthcheck {
        test,
        interval: nanos(config.interval),
        timeout: nanos(config.timeout),
        retries: config
            .retries
            .and_then(|retries| u32::try_from(retries).ok())
            .unwrap_or(0),
        start_period: nanos(config.start_period),
    })
}

fn tcp_port(text: &str) -> Option<u16> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse().ok().filter(|_| protocol == "tcp")
}

fn is_id(reference: &str) -> bool {
    reference.starts_with("sha256:")
}

/// Name and tag of a reference without digest; `latest` when it has none.
fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (reference, "latest"),
    }
}

/// A name as the engine lists it: without Docker Hub's own.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn progress(line: &bollard::models::CreateImageInfo) -> Option<String> {
    let status = line.status.as_deref()?;
    let detail = line
        .progress_detail
        .as_ref()
        .and_then(|detail| detail.current.zip(detail.total));
    Some(match (line.id.as_deref(), detail) {
        (Some(id), Some((current, total))) => format!("{id}: {status} {current}/{total}"),
        (Some(id), None) => format!("{id}: {status}"),
        (None, _) => status.to_owned(),
    })
}

fn docker_credentials(registry: &Registry) -> DockerCredentials {
    DockerCredentials {
        username: Some(registry.username.clone()),
        password: Some(registry.password.clone()),
        serveraddress: Some(registry.server.clone()),
        ..Default::default()
    }
}

/// Repairs the credentials' header: bollard writes ordinary base64, the engine
/// reads the URL-safe alphabet and silently takes what it can't read for "none".
pub(super) fn url_safe_credentials(
    mut request: bollard::BollardRequest,
) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let safe = value
            .to_str()
            .map(|text| text.replace('+', "-").replace('/', "_"))
            .ok();
        if let Some(Ok(mut safe)) = safe.map(|text| http::HeaderValue::from_str(&text)) {
            safe.set_sensitive(true);
            *value = safe;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_told_from_a_registrys_port() {
        assert_eq!(split("web"), ("web", "latest"));
        assert_eq!(split("web:1"), ("web", "1"));
        assert_eq!(
            split("127.0.0.1:5000/shop/web"),
            ("127.0.0.1:5000/shop/web", "latest")
        );
        assert_eq!(
            split("127.0.0.1:5000/shop/web:1"),
            ("127.0.0.1:5000/shop/web", "1")
        );
    }

    #[test]
    fn a_password_is_never_printed() {
        let registry = Registry {
            server: "r".to_owned(),
            username: "ci".to_owned(),
            password: "hunter2".to_owned(),
        };
        assert!(!format!("{registry:?}").contains("hunter2"));
    }
}
