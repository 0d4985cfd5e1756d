//! From a spec to what the engine is asked to make, and the hash that tells two make-ups apart.
//!
//! The hash is taken over the engine's own words (its API's JSON, keys sorted),
//! so it changes when the container would, and not when this program is upgraded.
//! The generation is no part of it: a parked container serves a later swap.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, NetworkingConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use cutover_core::HostId;
use cutover_core::spec::{ContainerSpec, Healthcheck, MountSource};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::labels::{FIXED_NAME, GENERATION, SPEC};
use super::naming::fixed_name;
use super::{Identity, files, hex};

/// One replica as it shall be.
#[derive(Clone, Copy, Debug)]
pub struct ContainerPlan<'a> {
    /// Which replica of what it is.
    pub identity: &'a Identity,
    /// Its address on `network`.
    pub address: Ipv4Addr,
    /// Cutover's own network.
    pub network: &'a str,
    /// How it is made; its image resolved.
    pub spec: &'a ContainerSpec,
}

/// The engine's order for `plan`, labels and hash included.
pub(super) fn body(
    plan: &ContainerPlan<'_>,
    host: &HostId,
    name: &str,
    files: &Path,
) -> ContainerCreateBody {
    let spec = plan.spec;
    let mut labels: HashMap<_, _> = spec.labels.clone().into_iter().collect();
    labels.extend(plan.identity.labels(host, name));
    labels.extend(fixed_name(plan).map(|fixed| (FIXED_NAME.to_owned(), fixed.to_owned())));
    let mut body = ContainerCreateBody {
        image: Some(image(spec).to_owned()),
        hostname: spec.hostname.clone(),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        env: Some(
            spec.environment
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        cmd: spec.command.clone(),
        // The engine's word for "cleared"; an empty list means the image's.
        entrypoint: spec.entrypoint.clone().map(|words| {
            if words.is_empty() {
                vec![String::new()]
            } else {
                words
            }
        }),
        exposed_ports: some(
            spec.expose
                .iter()
                .map(|port| format!("{port}/tcp"))
                .collect(),
        ),
        healthcheck: spec.healthcheck.as_ref().map(health),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: i64::try_from(super::container::whole_seconds(spec.stop_grace)).ok(),
        host_config: Some(host_config(plan, name, files)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(plan.network.to_owned(), endpoint(plan.address))].into()),
        }),
        labels: Some(labels),
        ..Default::default()
    };
    let hash = hash(&body);
    if let Some(labels) = &mut body.labels {
        labels.insert(SPEC.to_owned(), hash);
    }
    body
}

/// What the image was resolved to; what was written when nobody resolved it.
pub(super) fn image(spec: &ContainerSpec) -> &str {
    if spec.resolved_image.is_empty() {
        &spec.image
    } else {
        &spec.resolved_image
    }
}

fn host_config(plan: &ContainerPlan<'_>, name: &str, files: &Path) -> HostConfig {
    let spec = plan.spec;
    let ulimit = |(name, (soft, hard)): (&String, &(i64, i64))| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(*soft),
        hard: Some(*hard),
    };
    let tmpfs = |entry: &String| {
        let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
        (path.to_owned(), options.to_owned())
    };
    HostConfig {
        network_mode: Some(plan.network.to_owned()),
        // Only the agent starts containers (P1).
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        init: spec.init.then_some(true),
        readonly_rootfs: spec.read_only.then_some(true),
        tmpfs: (!spec.tmpfs.is_empty()).then(|| spec.tmpfs.iter().map(tmpfs).collect()),
        cap_add: some(spec.cap_add.clone()),
        cap_drop: some(spec.cap_drop.clone()),
        security_opt: some(spec.security_opt.clone()),
        sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.clone().into_iter().collect()),
        ulimits: some(spec.ulimits.iter().map(ulimit).collect()),
        extra_hosts: some(
            spec.extra_hosts
                .iter()
                .map(|(name, address)| format!("{name}:{address}"))
                .collect(),
        ),
        dns: some(spec.dns.clone()),
        shm_size: spec.shm_size,
        nano_cpus: spec.resources.nano_cpus,
        memory: spec.resources.memory,
        memory_reservation: spec.resources.memory_reservation,
        pids_limit: spec.resources.pids,
        log_config: spec.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: Some(logging.driver.clone()),
            config: Some(logging.options.clone().into_iter().collect()),
        }),
        mounts: some(
            spec.mounts
                .iter()
                .map(|wanted| mount(wanted, name, files))
                .collect(),
        ),
        ..Default::default()
    }
}

fn mount(wanted: &cutover_core::spec::Mount, name: &str, files: &Path) -> Mount {
    let (typ, source, read_only) = match &wanted.source {
        MountSource::Volume { name, .. } => (MountType::VOLUME, name.clone(), wanted.read_only),
        MountSource::Bind(path) => (MountType::BIND, path.clone(), wanted.read_only),
        MountSource::Content { content, mode, .. } => {
            let path = files::path_of(files, name, content, *mode);
            (MountType::BIND, path.to_string_lossy().into_owned(), true)
        }
    };
    Mount {
        target: Some(wanted.target.clone()),
        source: Some(source),
        typ: Some(typ),
        read_only: Some(read_only),
        ..Default::default()
    }
}

fn endpoint(address: Ipv4Addr) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn health(check: &Healthcheck) -> HealthConfig {
    let nanos = |length: std::time::Duration| i64::try_from(length.as_nanos()).ok();
    HealthConfig {
        test: Some(check.test.clone()),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: Some(i64::from(check.retries)),
        start_period: nanos(check.start_period),
        start_interval: None,
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn hash(body: &ContainerCreateBody) -> String {
    // Plain data with text keys: it always has a JSON form.
    let mut value = serde_json::to_value(body).unwrap_or_default();
    if let Some(labels) = value.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.remove(GENERATION);
    }
    let mut hasher = Sha256::new();
    feed(&mut hasher, &value);
    hex(&hasher.finalize())
}

/// Feeds `value` with sorted keys and a length before each text, so that no two values feed alike.
fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hasher.update(b"n"),
        Value::Bool(truth) => hasher.update(if *truth { b"t" } else { b"f" }),
        Value::Number(number) => text(hasher, b"#", &number.to_string()),
        Value::String(string) => text(hasher, b"s", string),
        Value::Array(items) => {
            text(hasher, b"[", &items.len().to_string());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            text(hasher, b"{", &fields.len().to_string());
            for (key, value) in fields {
                text(hasher, b"k", key);
                feed(hasher, value);
            }
        }
    }
}

fn text(hasher: &mut Sha256, kind: &[u8], text: &str) {
    hasher.update(kind);
    hasher.update((text.len() as u64).to_be_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_core::{Generation, Slot};

    fn identity(number: u64) -> Identity {
        Identity {
            service: "shop/web".parse().expect("a service"),
            revision: "7".parse().expect("a revision"),
            slot: Slot::Blue,
            replica: 1,
            generation: Generation { epoch: 1, number },
        }
    }

    fn made(spec: &ContainerSpec, generation: u64, address: [u8; 4]) -> ContainerCreateBody {
        let identity = identity(generation);
        let plan = ContainerPlan {
            identity: &identity,
            address: address.into(),
            network: "cutover",
            spec,
        };
        body(
            &plan,
            &"web-1".parse().expect("a host"),
            "shop-web-7-1",
            Path::new("/files"),
        )
    }

    fn hash_of(spec: &ContainerSpec, generation: u64, address: [u8; 4]) -> String {
        made(spec, generation, address)
            .labels
            .expect("labels")
            .remove(SPEC)
            .expect("a hash")
    }

    #[test]
    fn the_hash_tells_make_ups_apart_and_ignores_the_generation() {
        let mut spec = ContainerSpec {
            image: "web:1".to_owned(),
            ..Default::default()
        };
        spec.labels = [("a", "1"), ("b", "2"), ("c", "3")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let hash = hash_of(&spec, 1, [10, 1, 0, 2]);
        assert_eq!(hash, hash_of(&spec, 2, [10, 1, 0, 2]));
        assert_ne!(hash, hash_of(&spec, 1, [10, 1, 0, 3]));
        spec.environment.insert("A".to_owned(), "1".to_owned());
        assert_ne!(hash, hash_of(&spec, 1, [10, 1, 0, 2]));
    }

    #[test]
    fn a_parked_container_outlives_an_upgrade_of_the_agent_because_its_hash_stays() {
        let spec = ContainerSpec {
            image: "web:1".to_owned(),
            ..Default::default()
        };
        let known = "5b344f3a0c749a245c48ca2e6aaa57ebc780deaab8a2d89ecc9f73d5c4449b8f";
        assert_eq!(
            hash_of(&spec, 1, [10, 1, 0, 2]),
            known,
            "changing this re-makes every parked container"
        );
    }

    #[test]
    fn only_the_agent_restarts_and_nothing_is_published() {
        let body = made(
            &ContainerSpec {
                init: true,
                ..Default::default()
            },
            1,
            [10, 1, 0, 2],
        );
        let host = body.host_config.expect("a host config");
        assert_eq!(
            host.restart_policy.and_then(|policy| policy.name),
            Some(RestartPolicyNameEnum::NO)
        );
        assert_eq!(host.port_bindings, None);
        assert_eq!(host.init, Some(true));
        assert!(
            body.labels
                .expect("labels")
                .keys()
                .all(|key| key.starts_with("dev.cutover."))
        );
    }
}
