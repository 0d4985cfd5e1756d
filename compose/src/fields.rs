//! Every field of a Compose service, and what Cutover does with it.
//!
//! One list, compared by a test with the fields of the Compose Specification:
//! a field is acted on, warned about or refused; none is forgotten. Warned
//! about is what can be left out without harm to the service; what changes
//! whether it works or who may do what is refused.

use crate::node::{Kind, Node};
use crate::units;

/// What Cutover does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It is read and honoured.
    Acted,
    /// It is left out, said aloud, because …
    Warned(&'static str),
    /// There is no release with it, because …
    Refused(&'static str),
}

/// One field with its treatment.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) treatment: Treatment,
    /// Values that only say what is so anyway.
    usual: &'static [&'static str],
}

impl Known {
    /// Whether this value says nothing: empty, `false`, or what is so anyway.
    pub(crate) fn changes_nothing(&self, node: &Node) -> bool {
        match &node.kind {
            Kind::Null => true,
            Kind::List(items) => items.is_empty(),
            Kind::Map(entries) => entries.is_empty(),
            Kind::Scalar(scalar) => {
                let off =
                    self.usual.contains(&"false") && units::boolean(&scalar.text) == Some(false);
                off || self.usual.contains(&scalar.text.as_str())
            }
        }
    }
}

const fn acted(name: &'static str) -> Known {
    Known {
        name,
        treatment: Treatment::Acted,
        usual: &[],
    }
}

const fn warned(name: &'static str, why: &'static str) -> Known {
    Known {
        name,
        treatment: Treatment::Warned(why),
        usual: &[],
    }
}

const fn refused(name: &'static str, why: &'static str) -> Known {
    Known {
        name,
        treatment: Treatment::Refused(why),
        usual: &[],
    }
}

const fn unless(known: Known, usual: &'static [&'static str]) -> Known {
    Known { usual, ..known }
}

const TUNING: &str = "Cutover does not set it; what it limits is not limited";
const RESOURCES: &str = "Cutover sets CPUs, memory and processes only; use 'deploy.resources'";

/// The fields of a service.
pub(crate) const SERVICE: &[Known] = &[
    warned("annotations", "Cutover sets labels, no annotations"),
    warned("attach", "it concerns 'docker compose up' alone"),
    warned("blkio_config", TUNING),
    acted("build"),
    acted("cap_add"),
    acted("cap_drop"),
    refused(
        "cgroup",
        "Cutover cannot choose the cgroup namespace; remove it",
    ),
    refused(
        "cgroup_parent",
        "Cutover cannot choose the parent cgroup; remove it",
    ),
    acted("command"),
    acted("configs"),
    acted("container_name"),
    warned("cpu_count", RESOURCES),
    warned("cpu_percent", RESOURCES),
    warned("cpu_period", RESOURCES),
    warned("cpu_quota", RESOURCES),
    warned("cpu_rt_period", TUNING),
    warned("cpu_rt_runtime", TUNING),
    warned("cpu_shares", RESOURCES),
    acted("cpus"),
    warned("cpuset", TUNING),
    refused("credential_spec", "it is for Windows containers"),
    acted("depends_on"),
    acted("deploy"),
    warned("develop", "it concerns 'docker compose watch' alone"),
    refused(
        "device_cgroup_rules",
        "Cutover cannot give a container devices yet",
    ),
    refused("devices", "Cutover cannot give a container devices yet"),
    acted("dns"),
    refused(
        "dns_opt",
        "Cutover sets name servers ('dns'), no resolver options yet",
    ),
    refused(
        "dns_search",
        "Cutover sets name servers ('dns'), no search domains yet",
    ),
    refused(
        "domainname",
        "Cutover sets 'hostname' alone; write the whole name there",
    ),
    acted("entrypoint"),
    acted("env_file"),
    acted("environment"),
    acted("expose"),
    refused(
        "extends",
        "not supported yet: 'extends'; use several -f or a YAML anchor with '<<'",
    ),
    refused(
        "external_links",
        "links are gone from Docker's networks; put both on one network",
    ),
    acted("extra_hosts"),
    refused("gpus", "Cutover cannot give a container devices yet"),
    refused(
        "group_add",
        "Cutover cannot add groups yet; write 'user: UID:GID' or put the group into the image",
    ),
    acted("healthcheck"),
    acted("hostname"),
    acted("image"),
    acted("init"),
    unless(
        refused(
            "ipc",
            "two containers side by side cannot share it; remove it",
        ),
        &["private"],
    ),
    unless(
        refused("isolation", "it is for Windows containers"),
        &["default"],
    ),
    acted("label_file"),
    acted("labels"),
    refused(
        "links",
        "links are gone from Docker's networks; services on one network find each other by name",
    ),
    acted("logging"),
    refused(
        "mac_address",
        "two containers side by side cannot have one address; remove it",
    ),
    acted("mem_limit"),
    acted("mem_reservation"),
    warned("mem_swappiness", TUNING),
    warned("memswap_limit", TUNING),
    refused("models", "not supported yet: AI models"),
    refused(
        "network_mode",
        "Cutover needs an address of its own for each container; use 'networks'",
    ),
    acted("networks"),
    unless(warned("oom_kill_disable", TUNING), &["false"]),
    warned("oom_score_adj", TUNING),
    refused(
        "pid",
        "Cutover gives each container process ids of its own; remove it",
    ),
    acted("pids_limit"),
    warned(
        "platform",
        "an image runs on the platform of its host; one that cannot run does not get traffic",
    ),
    acted("ports"),
    refused(
        "post_start",
        "not supported yet: hooks; do it in the image's entrypoint",
    ),
    refused(
        "pre_stop",
        "not supported yet: hooks; do it when the stop signal comes",
    ),
    unless(
        refused(
            "privileged",
            "a privileged container owns its host; name what it needs in 'cap_add'",
        ),
        &["false"],
    ),
    acted("profiles"),
    refused("provider", "not supported yet: providers"),
    unless(
        warned(
            "pull_policy",
            "an image is resolved once and is then the same on every host",
        ),
        &["always", "missing", "if_not_present"],
    ),
    warned(
        "pull_refresh_after",
        "an image is resolved once and is then the same on every host",
    ),
    acted("read_only"),
    acted("restart"),
    refused(
        "runtime",
        "Cutover uses the engine's default runtime; make it the default on the host",
    ),
    acted("scale"),
    refused("secrets", "not supported yet: secrets in a Compose file"),
    acted("security_opt"),
    acted("shm_size"),
    unless(
        warned("stdin_open", "nobody types into a container of Cutover's"),
        &["false"],
    ),
    acted("stop_grace_period"),
    acted("stop_signal"),
    warned("storage_opt", TUNING),
    acted("sysctls"),
    acted("tmpfs"),
    unless(
        warned("tty", "nobody looks at a terminal of Cutover's"),
        &["false"],
    ),
    acted("ulimits"),
    unless(
        refused(
            "use_api_socket",
            "a container with the engine's socket owns its host",
        ),
        &["false"],
    ),
    acted("user"),
    refused(
        "userns_mode",
        "Cutover cannot choose the user namespace; remove it",
    ),
    refused("uts", "Cutover cannot choose the UTS namespace; remove it"),
    acted("volumes"),
    refused(
        "volumes_from",
        "name the volumes under 'volumes' in both services",
    ),
    acted("working_dir"),
];

/// The fields of the file, beside those that are read.
pub(crate) const FILE: &[Known] = &[
    refused(
        "include",
        "not supported yet: 'include'; name the files with -f",
    ),
    refused("models", "not supported yet: AI models"),
    warned("secrets", "not supported yet: secrets in a Compose file"),
    warned("version", "it means nothing any more; remove it"),
];

/// The fields of `deploy`, beside those that are read.
pub(crate) const DEPLOY: &[Known] = &[
    unless(
        warned("endpoint_mode", "nginx of each host is the way in"),
        &["vip"],
    ),
    warned(
        "labels",
        "Cutover has no service objects; labels of containers are 'labels' of the service",
    ),
    warned(
        "rollback_config",
        "a rollback always takes every host back as fast as it can",
    ),
];

/// The fields of `deploy.placement`, beside those that are read.
pub(crate) const PLACEMENT: &[Known] = &[
    warned(
        "max_replicas_per_node",
        "'replicas' counts per host already",
    ),
    warned(
        "preferences",
        "a service runs on every host that matches its constraints",
    ),
];

/// The fields of `deploy.resources.reservations`, beside those that are read.
pub(crate) const RESERVATIONS: &[Known] = &[
    warned("cpus", "CPUs are not reserved; limit those of the others"),
    refused("devices", "Cutover cannot give a container devices yet"),
    refused(
        "generic_resources",
        "Cutover knows no generic resources; use placement constraints",
    ),
];

/// The fields of `healthcheck`, beside those that are read.
pub(crate) const HEALTHCHECK: &[Known] = &[warned(
    "start_interval",
    "until it is first healthy, a candidate is asked every second",
)];

const RENAME: &str =
    "the engine would not make it as written; make it yourself and say 'external: true'";

/// The fields of a named volume, beside those that are read.
pub(crate) const VOLUME: &[Known] = &[
    unless(refused("driver", RENAME), &["local"]),
    refused("driver_opts", RENAME),
    warned("labels", "Cutover sets none on volumes"),
];

/// The fields of a named network, beside those that are read.
pub(crate) const NETWORK: &[Known] = &[
    unless(
        warned("attachable", "it concerns swarm networks alone"),
        &["false", "true"],
    ),
    unless(refused("driver", RENAME), &["bridge", "default"]),
    refused("driver_opts", RENAME),
    unless(refused("enable_ipv4", RENAME), &["true"]),
    unless(refused("enable_ipv6", RENAME), &["false"]),
    unless(refused("internal", RENAME), &["false"]),
    refused("ipam", RENAME),
    warned("labels", "Cutover sets none on networks"),
];

const ADDRESS: &str = "two containers side by side cannot have one address; use an alias";

/// The fields of a service's network, beside those that are read.
pub(crate) const MEMBERSHIP: &[Known] = &[
    refused("driver_opts", "Cutover cannot pass driver options yet"),
    warned(
        "gw_priority",
        "Cutover joins networks in the order of their names",
    ),
    warned("interface_name", "the engine names interfaces"),
    refused("ipv4_address", ADDRESS),
    refused("ipv6_address", ADDRESS),
    refused("link_local_ips", ADDRESS),
    refused("mac_address", ADDRESS),
    warned(
        "priority",
        "Cutover joins networks in the order of their names",
    ),
];

/// The fields of a config, beside those that are read.
pub(crate) const CONFIG: &[Known] = &[
    warned("labels", "a config is a file in the container and has none"),
    warned(
        "name",
        "a config is a file in the container and has no other name",
    ),
    refused(
        "template_driver",
        "Cutover does not fill in templates; use 'content' with variables",
    ),
];

/// The fields of `x-cutover` that are known but not acted on yet.
pub(crate) const CUTOVER: &[Known] = &[
    refused(
        "canary",
        "not supported yet: canary steps; use 'strategy: rolling' or 'blue-green'",
    ),
    refused(
        "guard",
        "not supported yet: a guard after commit; a longer 'observe' watches before it",
    ),
    refused(
        "migrate",
        "not supported yet: migrations; run them before the deploy",
    ),
    unless(
        refused(
            "overlap",
            "not supported yet: workers that overlap; A stops when B starts",
        ),
        &["false"],
    ),
    refused(
        "rollback_on",
        "not supported yet: rollback on signals; 'ready' and 'smoke' judge a candidate",
    ),
    refused(
        "same_tag",
        "not supported yet: services that must have one version",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The properties of a service in the JSON schema of the Compose Specification.
    const SPECIFICATION: &str = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command \
        configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares \
        cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search \
        domainname entrypoint env_file environment expose extends external_links extra_hosts gpus group_add \
        healthcheck hostname image init ipc isolation label_file labels links logging mac_address mem_limit \
        mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid \
        pids_limit platform ports post_start pre_stop privileged profiles provider pull_policy pull_refresh_after \
        read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal \
        storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir";

    #[test]
    fn every_field_of_the_specification_is_accounted_for_once() {
        let specified: Vec<&str> = SPECIFICATION.split_whitespace().collect();
        let accounted: Vec<&str> = SERVICE.iter().map(|known| known.name).collect();
        assert_eq!(accounted, specified);
    }
}
