//! One service of the file → its [`ServiceSpec`].
//!
//! Every field is read in its own file; here they meet, and here what was not
//! read is said.

use cutover_core::ServiceName;
use cutover_core::spec::ServiceSpec;

use crate::container::{self, Context};
use crate::fields;
use crate::image::{self, ImageOverride};
use crate::mounts;
use crate::policy::{self, Nature};
use crate::reader::{Field, Fields};
use crate::ready;
use crate::settings::Settings;
use crate::traffic;

/// Containers of one service on one host; each has an address and an upstream.
const MAX_REPLICAS: u32 = 100;

/// Reads a service. What is wrong is in the log; the result is then of no use.
pub(crate) fn read(
    name: &ServiceName,
    service: &Fields<'_>,
    shared: Option<&Fields<'_>>,
    images: &[ImageOverride],
    cx: &Context<'_>,
) -> ServiceSpec {
    let settings = Settings::new(service.take("x-cutover"), shared);
    let deploy = service.take("deploy").and_then(|field| field.fields());
    let deploy = deploy.as_ref();
    let ports = traffic::read(service, &settings);
    let mounts = mounts::read(service, cx);
    let writable = mounts.writable();
    let mut container = container::read(service, deploy, mounts, cx);
    container.image = image(name, service, images);
    container.expose.clone_from(&ports.exposed);
    let replicas = replicas(service, deploy);
    if container.container_name.is_some() && replicas > 1 {
        service.of.error(
            "has a fixed 'container_name' but several replicas",
            "remove 'container_name'",
        );
    }
    let nature = Nature {
        writable,
        fixed_name: container.container_name.is_some(),
        lone_worker: replicas == 1 && ports.listeners.is_empty(),
    };
    let ready = ready::readiness(service, &settings, &ports, container.healthcheck.as_ref());
    let spec = ServiceSpec {
        app: cx.app.clone(),
        service: name.clone(),
        live: ready::liveness(&settings, &ports, &ready),
        smoke: ready::smoke(&settings, &ports),
        policy: policy::rollout(service, deploy, &settings, &nature),
        placement: policy::placement(deploy),
        restart: policy::restart(service, deploy),
        traffic: ports.listeners,
        container,
        replicas,
        ready,
    };
    if let Some(deploy) = deploy {
        deploy.finish(fields::DEPLOY);
    }
    settings.finish();
    service.finish(fields::SERVICE);
    spec
}

fn image(name: &ServiceName, service: &Fields<'_>, images: &[ImageOverride]) -> String {
    let built = service.take("build").is_some();
    let field = service.take("image");
    let written = field.as_ref().and_then(Field::word).unwrap_or("");
    let chosen = images
        .iter()
        .rfind(|choice| choice.name == name.as_str())
        .or_else(|| {
            images
                .iter()
                .rfind(|choice| !written.is_empty() && choice.name == image::repository(written))
        });
    if let Some(choice) = chosen {
        return choice.reference.clone();
    }
    match &field {
        None if built => service.of.error(
            "has 'build' but no 'image': Cutover builds nothing",
            "build and push it in CI, and name the result under 'image' or with --image",
        ),
        None => service
            .of
            .error("has no 'image'", "name one, or say it with --image"),
        Some(field) if !written.is_empty() && !image::is_reference(written) => {
            field.error(
                format!("is {}, but must be an image", field.shown()),
                "write it like team/name:tag",
            );
        }
        Some(_) => {}
    }
    written.to_owned()
}

/// `deploy.replicas`, `scale` and `deploy.mode`: containers per host.
fn replicas(service: &Fields<'_>, deploy: Option<&Fields<'_>>) -> u32 {
    let count = |field: &Field<'_>| field.count(1, MAX_REPLICAS);
    let scale = service.take("scale");
    let replicas = deploy.and_then(|deploy| deploy.take("replicas"));
    let values = (
        scale.as_ref().and_then(count),
        replicas.as_ref().and_then(count),
    );
    if let ((Some(a), Some(b)), Some(scale)) = (values, &scale)
        && a != b
    {
        scale.error(
            "says something else than 'deploy.replicas'",
            "remove one of them",
        );
    }
    if let Some(mode) = deploy.and_then(|deploy| deploy.take("mode")) {
        match mode.text() {
            Some("replicated") | None => {}
            Some("global") => {
                if let Some(replicas) = &replicas {
                    replicas.error(
                        "cannot be had with 'mode: global', which is one on every host",
                        "remove one of them",
                    );
                }
            }
            Some(_) => mode.error(
                format!("is {}, which Cutover cannot honour", mode.shown()),
                "there are replicated and global; jobs are not supported yet",
            ),
        }
    }
    values.1.or(values.0).unwrap_or(1)
}
