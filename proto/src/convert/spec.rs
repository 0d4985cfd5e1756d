//! A service's spec.

use cutover_core::spec as core;

use super::{Malformed, duration, nanos, need, port};
use crate::v1;

impl From<&core::ServiceSpec> for v1::ServiceSpec {
    fn from(spec: &core::ServiceSpec) -> Self {
        Self {
            app: spec.app.to_string(),
            service: spec.service.to_string(),
            container: Some((&spec.container).into()),
            replicas: spec.replicas,
            traffic: spec.traffic.iter().map(Into::into).collect(),
            placement: spec.placement.iter().map(Into::into).collect(),
            ready: Some((&spec.ready).into()),
            live: spec.live.as_ref().map(Into::into),
            smoke: spec.smoke.iter().map(Into::into).collect(),
            restart: Some((&spec.restart).into()),
            policy: Some((&spec.policy).into()),
        }
    }
}

impl TryFrom<v1::ServiceSpec> for core::ServiceSpec {
    type Error = Malformed;

    fn try_from(spec: v1::ServiceSpec) -> Result<Self, Malformed> {
        if spec.replicas == 0 {
            return Err(Malformed("a number of replicas"));
        }
        Ok(Self {
            app: spec.app.parse()?,
            service: spec.service.parse()?,
            container: need(spec.container, "a container's spec")?.try_into()?,
            replicas: spec.replicas,
            traffic: spec
                .traffic
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            placement: spec.placement.into_iter().map(Into::into).collect(),
            ready: need(spec.ready, "a readiness check")?.try_into()?,
            live: spec.live.map(TryInto::try_into).transpose()?,
            smoke: spec
                .smoke
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            restart: need(spec.restart, "a restart policy")?.try_into()?,
            policy: need(spec.policy, "a rollout policy")?.try_into()?,
        })
    }
}

fn strings(values: &[String]) -> v1::Strings {
    v1::Strings {
        values: values.to_vec(),
    }
}

impl From<&core::ContainerSpec> for v1::ContainerSpec {
    fn from(spec: &core::ContainerSpec) -> Self {
        let sysctls = spec
            .sysctls
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        let ulimits = spec.ulimits.iter().map(|(name, (soft, hard))| {
            (
                name.clone(),
                v1::Ulimit {
                    soft: *soft,
                    hard: *hard,
                },
            )
        });
        let hosts = spec
            .extra_hosts
            .iter()
            .map(|(name, address)| v1::ExtraHost {
                name: name.clone(),
                address: address.clone(),
            });
        Self {
            image: spec.image.clone(),
            resolved_image: spec.resolved_image.clone(),
            command: spec.command.as_deref().map(strings),
            entrypoint: spec.entrypoint.as_deref().map(strings),
            environment: spec.environment.clone().into_iter().collect(),
            labels: spec.labels.clone().into_iter().collect(),
            expose: spec.expose.iter().map(|port| u32::from(*port)).collect(),
            networks: spec.networks.iter().map(Into::into).collect(),
            mounts: spec.mounts.iter().map(Into::into).collect(),
            user: spec.user.clone(),
            working_dir: spec.working_dir.clone(),
            hostname: spec.hostname.clone(),
            container_name: spec.container_name.clone(),
            init: spec.init,
            read_only: spec.read_only,
            tmpfs: spec.tmpfs.clone(),
            cap_add: spec.cap_add.clone(),
            cap_drop: spec.cap_drop.clone(),
            security_opt: spec.security_opt.clone(),
            sysctls: sysctls.collect(),
            ulimits: ulimits.collect(),
            extra_hosts: hosts.collect(),
            dns: spec.dns.clone(),
            shm_size: spec.shm_size,
            resources: Some((&spec.resources).into()),
            logging: spec.logging.as_ref().map(Into::into),
            stop_signal: spec.stop_signal.clone(),
            stop_grace: nanos(spec.stop_grace),
            healthcheck: spec.healthcheck.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::ContainerSpec> for core::ContainerSpec {
    type Error = Malformed;

    fn try_from(spec: v1::ContainerSpec) -> Result<Self, Malformed> {
        Ok(Self {
            image: spec.image,
            resolved_image: spec.resolved_image,
            command: spec.command.map(|command| command.values),
            entrypoint: spec.entrypoint.map(|entrypoint| entrypoint.values),
            environment: spec.environment.into_iter().collect(),
            labels: spec.labels.into_iter().collect(),
            expose: spec
                .expose
                .into_iter()
                .map(port)
                .collect::<Result<_, _>>()?,
            networks: spec.networks.into_iter().map(Into::into).collect(),
            mounts: spec
                .mounts
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            user: spec.user,
            working_dir: spec.working_dir,
            hostname: spec.hostname,
            container_name: spec.container_name,
            init: spec.init,
            read_only: spec.read_only,
            tmpfs: spec.tmpfs,
            cap_add: spec.cap_add,
            cap_drop: spec.cap_drop,
            security_opt: spec.security_opt,
            sysctls: spec.sysctls.into_iter().collect(),
            ulimits: spec
                .ulimits
                .into_iter()
                .map(|(name, limit)| (name, (limit.soft, limit.hard)))
                .collect(),
            extra_hosts: spec
                .extra_hosts
                .into_iter()
                .map(|host| (host.name, host.address))
                .collect(),
            dns: spec.dns,
            shm_size: spec.shm_size,
            resources: need(spec.resources, "resources")?.into(),
            logging: spec.logging.map(Into::into),
            stop_signal: spec.stop_signal,
            stop_grace: duration(spec.stop_grace),
            healthcheck: spec.healthcheck.map(Into::into),
        })
    }
}

impl From<&core::Network> for v1::Network {
    fn from(network: &core::Network) -> Self {
        Self {
            name: network.name.clone(),
            external: network.external,
            aliases: network.aliases.clone(),
        }
    }
}

impl From<v1::Network> for core::Network {
    fn from(network: v1::Network) -> Self {
        Self {
            name: network.name,
            external: network.external,
            aliases: network.aliases,
        }
    }
}

impl From<&core::Mount> for v1::Mount {
    fn from(mount: &core::Mount) -> Self {
        let source = match &mount.source {
            core::MountSource::Volume { name, external } => {
                v1::mount::Source::Volume(v1::VolumeSource {
                    name: name.clone(),
                    external: *external,
                })
            }
            core::MountSource::Bind(path) => v1::mount::Source::Bind(path.clone()),
            core::MountSource::Content {
                name,
                content,
                mode,
            } => v1::mount::Source::Content(v1::ContentSource {
                name: name.clone(),
                content: content.clone(),
                mode: *mode,
            }),
        };
        Self {
            source: Some(source),
            target: mount.target.clone(),
            read_only: mount.read_only,
        }
    }
}

impl TryFrom<v1::Mount> for core::Mount {
    type Error = Malformed;

    fn try_from(mount: v1::Mount) -> Result<Self, Malformed> {
        let source = match need(mount.source, "a mount's source")? {
            v1::mount::Source::Volume(volume) => core::MountSource::Volume {
                name: volume.name,
                external: volume.external,
            },
            v1::mount::Source::Bind(path) => core::MountSource::Bind(path),
            v1::mount::Source::Content(file) => core::MountSource::Content {
                name: file.name,
                content: file.content,
                mode: file.mode,
            },
        };
        Ok(Self {
            source,
            target: mount.target,
            read_only: mount.read_only,
        })
    }
}

impl From<&core::Resources> for v1::Resources {
    fn from(limits: &core::Resources) -> Self {
        let core::Resources {
            nano_cpus,
            memory,
            memory_reservation,
            pids,
        } = *limits;
        Self {
            nano_cpus,
            memory,
            memory_reservation,
            pids,
        }
    }
}

impl From<v1::Resources> for core::Resources {
    fn from(limits: v1::Resources) -> Self {
        let v1::Resources {
            nano_cpus,
            memory,
            memory_reservation,
            pids,
        } = limits;
        Self {
            nano_cpus,
            memory,
            memory_reservation,
            pids,
        }
    }
}

impl From<&core::Logging> for v1::Logging {
    fn from(logging: &core::Logging) -> Self {
        Self {
            driver: logging.driver.clone(),
            options: logging.options.clone().into_iter().collect(),
        }
    }
}

impl From<v1::Logging> for core::Logging {
    fn from(logging: v1::Logging) -> Self {
        Self {
            driver: logging.driver,
            options: logging.options.into_iter().collect(),
        }
    }
}

impl From<&core::Healthcheck> for v1::Healthcheck {
    fn from(check: &core::Healthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: nanos(check.interval),
            timeout: nanos(check.timeout),
            retries: check.retries,
            start_period: nanos(check.start_period),
        }
    }
}

impl From<v1::Healthcheck> for core::Healthcheck {
    fn from(check: v1::Healthcheck) -> Self {
        Self {
            test: check.test,
            interval: duration(check.interval),
            timeout: duration(check.timeout),
            retries: check.retries,
            start_period: duration(check.start_period),
        }
    }
}

impl From<&core::Listener> for v1::Listener {
    fn from(listener: &core::Listener) -> Self {
        let protocol = match listener.protocol {
            core::Protocol::Http => v1::Protocol::Http,
            core::Protocol::Grpc => v1::Protocol::Grpc,
            core::Protocol::Tcp => v1::Protocol::Tcp,
        };
        Self {
            address: listener.address.map(|address| address.to_string()),
            listen: u32::from(listener.listen),
            host: listener.host.clone(),
            path: listener.path.clone(),
            port: u32::from(listener.port),
            protocol: protocol.into(),
        }
    }
}

impl TryFrom<v1::Listener> for core::Listener {
    type Error = Malformed;

    fn try_from(listener: v1::Listener) -> Result<Self, Malformed> {
        let protocol = match listener.protocol() {
            v1::Protocol::Http => core::Protocol::Http,
            v1::Protocol::Grpc => core::Protocol::Grpc,
            v1::Protocol::Tcp => core::Protocol::Tcp,
            v1::Protocol::Unspecified => return Err(Malformed("a listener's protocol")),
        };
        let address = listener
            .address
            .map(|text| text.parse().map_err(|_| Malformed("a listener's address")))
            .transpose()?;
        let (listen, port) = (port(listener.listen)?, port(listener.port)?);
        Ok(Self {
            address,
            listen,
            host: listener.host,
            path: listener.path,
            port,
            protocol,
        })
    }
}

impl From<&core::Constraint> for v1::Constraint {
    fn from(constraint: &core::Constraint) -> Self {
        let label = match &constraint.subject {
            core::Subject::Hostname => String::new(),
            core::Subject::Label(key) => key.clone(),
        };
        Self {
            label,
            equal: constraint.equal,
            value: constraint.value.clone(),
        }
    }
}

impl From<v1::Constraint> for core::Constraint {
    fn from(constraint: v1::Constraint) -> Self {
        let subject = if constraint.label.is_empty() {
            core::Subject::Hostname
        } else {
            core::Subject::Label(constraint.label)
        };
        Self {
            subject,
            equal: constraint.equal,
            value: constraint.value,
        }
    }
}

impl From<&core::Check> for v1::Check {
    fn from(check: &core::Check) -> Self {
        let check = match check {
            core::Check::Http { path, port } => v1::check::Check::Http(v1::HttpCheck {
                path: path.clone(),
                port: u32::from(*port),
            }),
            core::Check::Tcp { port } => v1::check::Check::TcpPort(u32::from(*port)),
            core::Check::Exec { command } => v1::check::Check::Exec(strings(command)),
            core::Check::Docker => v1::check::Check::Docker(v1::Nothing {}),
            core::Check::Running => v1::check::Check::Running(v1::Nothing {}),
        };
        Self { check: Some(check) }
    }
}

impl TryFrom<v1::Check> for core::Check {
    type Error = Malformed;

    fn try_from(check: v1::Check) -> Result<Self, Malformed> {
        Ok(match need(check.check, "a check")? {
            v1::check::Check::Http(http) => Self::Http {
                path: http.path,
                port: port(http.port)?,
            },
            v1::check::Check::TcpPort(number) => Self::Tcp {
                port: port(number)?,
            },
            v1::check::Check::Exec(command) => Self::Exec {
                command: command.values,
            },
            v1::check::Check::Docker(_) => Self::Docker,
            v1::check::Check::Running(_) => Self::Running,
        })
    }
}

impl From<&core::Readiness> for v1::Readiness {
    fn from(ready: &core::Readiness) -> Self {
        Self {
            check: Some((&ready.check).into()),
            every: nanos(ready.every),
            timeout: nanos(ready.timeout),
            successes: ready.successes,
            failures: ready.failures,
            within: nanos(ready.within),
            settle: nanos(ready.settle),
        }
    }
}

impl TryFrom<v1::Readiness> for core::Readiness {
    type Error = Malformed;

    fn try_from(ready: v1::Readiness) -> Result<Self, Malformed> {
        Ok(Self {
            check: need(ready.check, "a readiness check")?.try_into()?,
            every: duration(ready.every),
            timeout: duration(ready.timeout),
            successes: ready.successes,
            failures: ready.failures,
            within: duration(ready.within),
            settle: duration(ready.settle),
        })
    }
}

impl From<&core::Liveness> for v1::Liveness {
    fn from(live: &core::Liveness) -> Self {
        Self {
            check: Some((&live.check).into()),
            every: nanos(live.every),
            timeout: nanos(live.timeout),
            failures: live.failures,
            restart: live.restart,
        }
    }
}

impl TryFrom<v1::Liveness> for core::Liveness {
    type Error = Malformed;

    fn try_from(live: v1::Liveness) -> Result<Self, Malformed> {
        Ok(Self {
            check: need(live.check, "a liveness check")?.try_into()?,
            every: duration(live.every),
            timeout: duration(live.timeout),
            failures: live.failures,
            restart: live.restart,
        })
    }
}

impl From<&core::SmokeCheck> for v1::SmokeCheck {
    fn from(smoke: &core::SmokeCheck) -> Self {
        Self {
            path: smoke.path.clone(),
            status: smoke.status.map(u32::from),
            contains: smoke.contains.clone(),
        }
    }
}

impl TryFrom<v1::SmokeCheck> for core::SmokeCheck {
    type Error = Malformed;

    fn try_from(smoke: v1::SmokeCheck) -> Result<Self, Malformed> {
        let status = smoke
            .status
            .map(|status| u16::try_from(status).map_err(|_| Malformed("a status")))
            .transpose()?;
        Ok(Self {
            path: smoke.path,
            status,
            contains: smoke.contains,
        })
    }
}
