//! The swap by hand, as a careful script would do it, on a host of a fleet: the same engine, network, nginx and images
//! as the agent's, and nothing else. It proves nothing, keeps nothing and could not go back.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, NetworkingConfig,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use cutover_tests::fleet::{Fleet, Host};

use crate::web;

/// Where it is served, beside the service under test.
const PORT: u16 = 8090;
/// Between two looks at the new container, as `every: 50ms` says it for the agent.
const EVERY: Duration = Duration::from_millis(50);
/// No round takes so long.
const LONG: Duration = Duration::from_secs(30);
/// The last numbers of its two addresses. Slots begin at 16 and the engine's own choice at 128.
const PLACES: [(&str, u8); 2] = [("blue", 100), ("green", 101)];

/// A host's second service, switched by hand.
pub(crate) struct Bare {
    docker: Docker,
    network: String,
    prefix: [u8; 3],
    door: SocketAddr,
    routes: PathBuf,
    round: usize,
    running: Option<String>,
}

impl Bare {
    /// Writes what nginx must know and reloads it, once. The agent must have made its network.
    pub(crate) async fn begin(fleet: &Fleet, host: &Host) -> Self {
        let docker = fleet.engine.client();
        let (network, [a, b, c]) = network_of_the_agent(&docker).await;
        let routes = fleet.path().join("bare");
        for (slot, _) in PLACES {
            let state = routes.join("states").join(slot);
            fs::create_dir_all(&state).unwrap();
            fs::write(state.join(slot), "").unwrap();
        }
        symlink("states/green", routes.join("current")).unwrap();
        let upstreams = PLACES.map(|(slot, last)| {
            format!("upstream bare_{slot} {{ server {a}.{b}.{c}.{last}:8080; }}\n")
        });
        host.nginx.write_http(
            "bare.conf",
            &format!(
                "{}server {{\n  listen {}:{PORT};\n  set $bare blue;\n  if (-f {}/current/green) {{ set $bare green; }}\n  \
                 location / {{ proxy_pass http://bare_$bare; }}\n}}\n",
                upstreams.concat(),
                host.address,
                routes.display()
            ),
        );
        host.nginx.reload().await;
        Self {
            docker,
            network,
            prefix: [a, b, c],
            door: SocketAddr::from((host.address, PORT)),
            routes,
            round: 0,
            running: None,
        }
    }

    /// Create, start, ask until it answers with 200, rename the link, see the new version through nginx.
    pub(crate) async fn swap(&mut self, image: &str, version: &str) -> Duration {
        let (slot, last) = PLACES[self.round % 2];
        self.round += 1;
        let [a, b, c] = self.prefix;
        let address = Ipv4Addr::new(a, b, c, last);
        let name = format!("bare-{}", self.round);
        let begun = Instant::now();
        self.run(&name, image, address).await;
        let mut looks = tokio::time::interval(EVERY);
        while begun.elapsed() < LONG {
            looks.tick().await;
            let answer = web::get(SocketAddr::from((address, 8080)), "/healthz").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                break;
            }
        }
        let new = self.routes.join("new");
        symlink(format!("states/{slot}"), &new).unwrap();
        fs::rename(&new, self.routes.join("current")).unwrap();
        while begun.elapsed() < LONG {
            let answer = web::get(self.door, "/").await;
            if answer.is_ok_and(|answer| answer.version == version) {
                break;
            }
        }
        let took = begun.elapsed();
        assert!(
            took < LONG,
            "by hand: no answer of version {version} within {LONG:?}"
        );
        self.remove_former(name).await;
        took
    }

    async fn run(&self, name: &str, image: &str, address: Ipv4Addr) {
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(address.to_string()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.clone()),
                ..Default::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some([(self.network.clone(), endpoint)].into()),
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.docker
            .create_container(Some(options), body)
            .await
            .unwrap();
        let options = None::<bollard::query_parameters::StartContainerOptions>;
        self.docker.start_container(name, options).await.unwrap();
    }

    async fn remove_former(&mut self, name: String) {
        if let Some(former) = self.running.replace(name) {
            let options = RemoveContainerOptionsBuilder::default().force(true).build();
            self.docker
                .remove_container(&former, Some(options))
                .await
                .unwrap();
        }
    }
}

/// Its name, and what its addresses begin with.
async fn network_of_the_agent(docker: &Docker) -> (String, [u8; 3]) {
    let networks = docker
        .list_networks(None::<bollard::query_parameters::ListNetworksOptions>)
        .await
        .unwrap();
    let begins = format!("cutover-{}-", std::process::id());
    let found = networks.into_iter().find_map(|network| {
        let name = network.name.filter(|name| name.starts_with(&begins))?;
        let subnet = network.ipam?.config?.into_iter().next()?.subnet?;
        let [a, b, c, _] = subnet.split('/').next()?.parse::<Ipv4Addr>().ok()?.octets();
        Some((name, [a, b, c]))
    });
    found.expect("the agent has made its network")
}
