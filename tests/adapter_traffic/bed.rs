//! One nginx, one signals socket, and services as processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cutover_agent::signals::{Counts, Signals};
use cutover_agent::traffic::{Paths, Site, Traffic};
use cutover_core::spec::{Listener, Protocol};
use cutover_core::{Route, ServiceId, Slot, Weight};
use cutover_tests::load::Load;
use cutover_tests::process::{Daemon, Recipe};
use cutover_tests::proxy::Nginx;
use cutover_tests::scratch::{Loopback, Scratch};
use cutover_tests::service::app_path;
use cutover_tests::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const SOON: Duration = Duration::from_secs(10);
pub const PORT: u16 = 8080;
pub const BLUE: Route = Route::Alone(Slot::Blue);
pub const GREEN: Route = Route::Alone(Slot::Green);
pub const BLUE_WARM: Route = Route::Warm(Slot::Blue);
pub const GREEN_WARM: Route = Route::Warm(Slot::Green);

pub struct Bed {
    pub nginx: Nginx,
    pub traffic: Traffic,
    pub signals: Signals,
    pub paths: Paths,
    pub loopback: Loopback,
    pub scratch: Scratch,
}

impl Bed {
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With what the admin wrote into `http {}`.
    pub async fn with(http: &str) -> Self {
        let (scratch, loopback) = (Scratch::new("t"), Loopback::claim());
        let nginx = Nginx::start_with(&scratch.folder("n"), loopback.address(1), http).await;
        let prefix = nginx.prefix().display().to_string();
        let paths = Paths {
            command: [
                "nginx",
                "-p",
                &prefix,
                "-c",
                &nginx.conf().display().to_string(),
                "-e",
                &format!("{prefix}/error.log"),
            ]
            .map(str::to_owned)
            .to_vec(),
            pid_file: nginx.pid_file(),
            conf: scratch.folder("conf"),
            routes: scratch.folder("routes"),
            runtime: scratch.folder("run"),
            listen_address: Some(loopback.address(1)),
            access_log: None,
        };
        // The bracket: a pattern may match nothing, as long as the agent has not run.
        nginx.write_http(
            "cutover.conf",
            &format!("include {}/http.con[f];", paths.conf.display()),
        );
        nginx.write_stream(
            "cutover.conf",
            &format!("include {}/stream.con[f];", paths.conf.display()),
        );
        let (signals, reader) = Signals::open(&scratch.join("signals.sock")).unwrap();
        tokio::spawn(reader.run());
        let traffic = Traffic::new(paths.clone(), signals.clone()).unwrap();
        Self {
            nginx,
            traffic,
            signals,
            paths,
            loopback,
            scratch,
        }
    }

    pub fn address(&self) -> SocketAddr {
        (self.loopback.address(1), 80).into()
    }

    pub fn replica(&self, slot: Slot, index: u8) -> Ipv4Addr {
        let first = match slot {
            Slot::Blue => 10,
            Slot::Green => 20,
        };
        self.loopback.address(first + index)
    }

    /// One replica a slot, on port 80 of any host.
    pub fn site(&self, name: &str) -> Site {
        Site {
            service: service(name),
            listeners: vec![http(80, None, "/")],
            blue: vec![self.replica(Slot::Blue, 0)],
            green: vec![self.replica(Slot::Green, 0)],
            request_timeout: Duration::from_secs(60),
            include_only: false,
        }
    }

    /// Starts one replica and waits until it accepts; its version is its slot.
    pub async fn app(&self, slot: Slot, index: u8, environment: &[(&str, &str)]) -> Daemon {
        let address = self.replica(slot, index);
        let mut recipe = Recipe::new(
            app_path(),
            self.scratch.join(&format!("{slot}-{index}.log")),
        )
        .env("BIND", address.to_string())
        .env("PORT", PORT.to_string())
        .env("VERSION", slot.as_str())
        .env("REPLICA", index.to_string());
        for (name, value) in environment {
            recipe = recipe.env(name, value);
        }
        let daemon = recipe.start();
        until(SOON, "the app to accept", async || {
            TcpStream::connect((address, PORT)).await.map(drop)
        })
        .await;
        daemon
    }

    pub async fn both(&self) -> [Daemon; 2] {
        [
            self.app(Slot::Blue, 0, &[]).await,
            self.app(Slot::Green, 0, &[]).await,
        ]
    }

    /// Ensures these sites, and that each is proved; all go to blue.
    pub async fn serve(&self, sites: &[Site]) {
        self.know(sites).await;
        let ensured = self.traffic.ensure(sites).await.unwrap();
        assert!(
            ensured.unproved.is_empty() && ensured.unreadable.is_empty(),
            "{ensured:?}"
        );
        for site in sites {
            self.switch(site, BLUE).await;
        }
    }

    pub async fn know(&self, sites: &[Site]) {
        let replicas = sites.iter().flat_map(|site| {
            Slot::ALL.map(|slot| (site.service.clone(), slot, site.replicas(slot).to_vec()))
        });
        self.signals.know(replicas.collect()).await.unwrap();
    }

    pub async fn switch(&self, site: &Site, route: Route) {
        self.traffic.switch(&site.service, route).unwrap();
        self.traffic
            .prove(site, route)
            .await
            .unwrap_or_else(|unproved| panic!("{unproved}"));
    }

    pub fn load(&self) -> Load {
        Load::new(self.address(), "any.example")
    }

    pub async fn get(&self, host: &str, path: &str) -> String {
        get(self.address(), host, path, "").await
    }

    /// Counts, once `enough` holds for them: log lines come a moment after their answers.
    pub async fn counts(&self, enough: impl Fn(&Counts) -> bool) -> Counts {
        until(SOON, "the signals to be counted", async || {
            let counts = self.signals.counts().await.unwrap();
            if enough(&counts) {
                Ok(counts)
            } else {
                Err(format!("{counts:?}"))
            }
        })
        .await
    }
}

pub fn http(listen: u16, host: Option<&str>, path: &str) -> Listener {
    Listener {
        address: None,
        listen,
        host: host.map(str::to_owned),
        path: path.to_owned(),
        port: PORT,
        protocol: Protocol::Http,
    }
}

pub fn tcp(listen: u16) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        ..http(listen, None, "/")
    }
}

pub fn service(name: &str) -> ServiceId {
    name.parse().unwrap()
}

pub fn split(to: Slot, percent: u8) -> Route {
    Route::Split {
        to,
        weight: Weight::new(percent).unwrap(),
    }
}

/// A request on a connection of its own; the whole answer, "" when there was none.
pub async fn get(address: SocketAddr, host: &str, path: &str, headers: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return String::new();
    };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn write(path: impl AsRef<std::path::Path>, text: &str) {
    fs::write(path, text).unwrap();
}
