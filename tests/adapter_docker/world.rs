//! What the tests of the adapter have in common: one host's handle on an engine, its network, its plans.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, NetworkingConfig,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, StartContainerOptions,
};
use cutover_agent::docker::{
    Cidr, ContainerPlan, Deadlines, Docker, Error, Identity, NetworkPlan, Settings,
};
use cutover_core::spec::ContainerSpec;
use cutover_core::{Generation, Slot};
use cutover_tests::engine::{Engine, Subnet};
use cutover_tests::image;
use cutover_tests::scratch::Scratch;
use futures::StreamExt;
use tokio::sync::OnceCell;

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A host with its handle, its network and an image that it can run.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) docker: Docker,
    pub(crate) subnet: Subnet,
    pub(crate) network: NetworkPlan,
    pub(crate) image: String,
    scratch: Scratch,
    host: String,
}

/// What a test leaves on a shared engine would hold the next one's subnet.
impl Drop for World {
    fn drop(&mut self) {
        let script = r#"
            for filter in "label=dev.cutover.host=$1" "network=$2"; do docker ps -aq --filter "$filter"; done | xargs -r docker rm -f
            docker network rm "$2"
        "#;
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", &self.host, &self.network.name])
            .env("DOCKER_HOST", self.engine.host());
        let _ = command.output();
    }
}

impl World {
    /// Each test has a host of its own on an engine that all tests of this process share.
    pub(crate) async fn new(host: &str) -> Self {
        Self::on(Engine::private().await, host).await
    }

    pub(crate) async fn on(engine: Arc<Engine>, host: &str) -> Self {
        let scratch = Scratch::new(host);
        let docker = handle(&engine, &scratch, host, Deadlines::default());
        let subnet = engine.free_subnet();
        let network = network(host, &subnet);
        docker.ensure_network(&network).await.unwrap();
        let image = image::web(&engine, "1").await;
        Self {
            engine,
            docker,
            subnet,
            network,
            image,
            scratch,
            host: host.to_owned(),
        }
    }

    /// Another host's handle on the same engine.
    pub(crate) fn other(&self, host: &str) -> Docker {
        handle(&self.engine, &self.scratch, host, Deadlines::default())
    }

    /// This host's handle with every deadline cut to `limit`.
    pub(crate) fn impatient(&self, host: &str, limit: Duration) -> Docker {
        handle(&self.engine, &self.scratch, host, Deadlines::at_most(limit))
    }

    /// A folder of the test's own.
    pub(crate) fn folder(&self, name: &str) -> std::path::PathBuf {
        self.scratch.folder(name)
    }

    pub(crate) fn files(&self) -> std::path::PathBuf {
        self.scratch.join("files")
    }

    pub(crate) fn spec(&self) -> ContainerSpec {
        ContainerSpec {
            image: self.image.clone(),
            resolved_image: self.image.clone(),
            stop_grace: Duration::from_secs(10),
            ..Default::default()
        }
    }

    pub(crate) fn address(&self, last: u8) -> Ipv4Addr {
        self.subnet.address(last)
    }

    /// Makes and starts a replica; its name.
    pub(crate) async fn run(&self, identity: &Identity, spec: &ContainerSpec, last: u8) -> String {
        self.create(identity, spec, last).await.unwrap();
        let name = self.docker.name_of(identity);
        self.docker.start(&name).await.unwrap();
        name
    }

    pub(crate) async fn create(
        &self,
        identity: &Identity,
        spec: &ContainerSpec,
        last: u8,
    ) -> Result<cutover_agent::docker::Created, Error> {
        self.docker.create(&self.plan(identity, spec, last)).await
    }

    pub(crate) fn plan<'a>(
        &'a self,
        identity: &'a Identity,
        spec: &'a ContainerSpec,
        last: u8,
    ) -> ContainerPlan<'a> {
        ContainerPlan {
            identity,
            address: self.address(last),
            network: &self.network.name,
            spec,
        }
    }

    /// A container that Cutover did not make, on this host's network.
    pub(crate) async fn stranger(&self, name: &str, last: u8) {
        let ipam = EndpointIpamConfig {
            ipv4_address: Some(self.address(last).to_string()),
            ..Default::default()
        };
        let endpoint = EndpointSettings {
            ipam_config: Some(ipam),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.name.clone()),
                ..Default::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some([(self.network.name.clone(), endpoint)].into()),
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let client = self.engine.client();
        client.create_container(Some(options), body).await.unwrap();
        client
            .start_container(name, None::<StartContainerOptions>)
            .await
            .unwrap();
    }

    /// The docker command, as an operator types it.
    pub(crate) fn docker_command(&self, args: &[&str]) -> String {
        let mut command = Command::new("docker");
        let output = command
            .env("DOCKER_HOST", self.engine.host())
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

pub(crate) fn handle(
    engine: &Engine,
    scratch: &Scratch,
    host: &str,
    deadlines: Deadlines,
) -> Docker {
    Docker::with(Settings {
        socket: engine.socket().to_owned(),
        host: host.parse().unwrap(),
        files: scratch.join("files"),
        shared_engine: true,
        deadlines,
    })
}

/// Slots below 128, strangers above.
pub(crate) fn network(host: &str, subnet: &Subnet) -> NetworkPlan {
    NetworkPlan {
        name: format!("cutover-{host}"),
        subnet: subnet.cidr().parse().unwrap(),
        ip_range: Cidr::around(subnet.address(128), 25),
        gateway: subnet.address(1),
        bridge_name: None,
    }
}

pub(crate) fn identity(service: &str, revision: u64, slot: Slot) -> Identity {
    Identity {
        service: service.parse().unwrap(),
        revision: revision.to_string().parse().unwrap(),
        slot,
        replica: 1,
        generation: Generation {
            epoch: 1,
            number: revision,
        },
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The whole chain of an error.
pub(crate) fn chain(error: &Error) -> String {
    format!("{error}{}", causes(error))
}

fn causes(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(String::new, |cause| format!(": {cause}{}", causes(cause)))
}

/// An image with a shell and sleep in it, made of this machine's own.
pub(crate) async fn shell_image(engine: &Engine) -> String {
    static TAR: OnceCell<Vec<u8>> = OnceCell::const_new();
    let tar = TAR.get_or_init(async || {
        let script = r#"
            set -e
            files="/bin/sh /bin/sleep /bin/cat /bin/stat"
            libs=$(ldd $files | grep -o '/[^ :)]*' | sort -u)
            tar --create --dereference --absolute-names --transform 's,^/*,,' $(printf '%s\n' $files $libs | sort -u)
        "#;
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    });
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo("cutover-test/shell")
        .tag("1")
        .build();
    let client = engine.client();
    let body = bollard::body_full(tar.await.clone().into());
    let mut steps = std::pin::pin!(client.create_image(Some(options), Some(body), None));
    while let Some(step) = steps.next().await {
        step.unwrap();
    }
    "cutover-test/shell:1".to_owned()
}
