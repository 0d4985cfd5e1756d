//! What kind of machine this is, for people.

use std::collections::HashMap;

use sysinfo::System;

use crate::docker::Docker;
use crate::traffic::Traffic;

/// What is installed, name to value; what can't be found out is left out.
pub(crate) async fn facts(docker: &Docker, traffic: &Traffic) -> HashMap<String, String> {
    let mut facts = HashMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    add("os", System::long_os_version().ok());
    add("kernel", System::kernel_version().ok());
    add(
        "cpus",
        std::thread::available_parallelism()
            .ok()
            .map(|cpus| cpus.to_string()),
    );
    if let Ok(engine) = docker.engine().await {
        add("docker", Some(engine.version));
        add("docker_api", Some(engine.api));
        add("docker_live_restore", Some(engine.live_restore.to_string()));
    }
    if let Ok(nginx) = traffic.alive().await {
        add("nginx", Some(nginx.version));
        add("nginx_stream", Some(nginx.stream.to_string()));
        add("nginx_included", Some(nginx.http_included.to_string()));
    }
    facts
}
