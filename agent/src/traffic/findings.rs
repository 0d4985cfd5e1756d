//! What is wrong with the nginx of this host, and the command that mends it. Changes nothing.

use std::path::Path;

use cutover_daemon::findings::Finding;
use cutover_daemon::logging::chain;

use super::process::{self, Crew, Test};
use super::{Paths, verdict};

/// How nginx is made to read its configuration again.
const RELOAD: &str = "nginx -t && systemctl reload nginx";

/// Looks at the program, its processes and its configuration.
pub(crate) async fn examine(paths: &Paths) -> Vec<Finding> {
    let build = match process::build(paths).await {
        Ok(build) => build,
        Err(error) => {
            return vec![Finding::error(chain(&error), "apt-get install nginx")];
        }
    };
    let mut findings = vec![Finding::ok(format!("nginx {} is there", build.version))];
    if build.lacks_split_clients {
        findings.push(Finding::error(
            "this nginx was built without split_clients, which spreads requests",
            "apt-get install nginx (the distribution's own has it)",
        ));
    }
    findings.push(running(&process::crew(paths)));
    match process::test(paths).await {
        Ok(test) => findings.extend(configuration(&test, paths)),
        Err(error) => findings.push(Finding::error(chain(&error), "nginx -t")),
    }
    findings
}

fn running(crew: &Crew) -> Finding {
    match crew.master {
        Some(_) => Finding::ok(format!("nginx runs with {} workers", crew.workers.len())),
        None if crew.orphans.is_empty() => {
            Finding::error("nginx does not run", "systemctl enable --now nginx")
        }
        None => Finding::error(
            format!(
                "nginx's master is gone, {} of its workers still serve: nothing can be reloaded",
                crew.orphans.len()
            ),
            "systemctl restart nginx (what its workers answer now is lost)",
        ),
    }
}

fn configuration(test: &Test, paths: &Paths) -> Vec<Finding> {
    if !test.accepted {
        return vec![Finding::error(
            format!(
                "nginx refuses its configuration: {}",
                verdict::first_error(&test.messages)
            ),
            "nginx -t names file and line; mend it there",
        )];
    }
    let mut findings = vec![Finding::ok("nginx accepts its configuration")];
    let (http, stream) = (paths.conf.join("http.conf"), paths.conf.join("stream.conf"));
    // A file that was not generated yet is included by a pattern that matches nothing so far.
    let mentioned = |file: &Path| {
        let stem = file.with_extension("").display().to_string();
        test.reads(file) || test.dump.contains(&format!("include {stem}."))
    };
    if !mentioned(&http) {
        findings.push(Finding::error(
            "nginx does not include what the agent writes: services over HTTP can't be served",
            format!(
                "in nginx's `http {{}}`: include {}; then: {RELOAD}",
                pattern(&http)
            ),
        ));
    }
    if !mentioned(&stream) {
        findings.push(Finding::warn(
            "nginx has no `stream {}` that includes what the agent writes: services over TCP can't be served",
            format!(
                "apt-get install libnginx-mod-stream; beside nginx's `http {{}}`: stream {{ include {}; }}; then: {RELOAD}",
                pattern(&stream)
            ),
        ));
    }
    findings.extend(default_servers(&test.dump, &paths.conf));
    findings
}

/// An include that matches nothing is no error, where a plain one is.
fn pattern(file: &Path) -> String {
    let stem = file.with_extension("");
    format!("{}.con[f]", stem.display())
}

/// Others' servers that take whatever has no host name: a service without `host` can't have their port.
fn default_servers(dump: &str, ours: &Path) -> Vec<Finding> {
    let mut file = "";
    let mut found = Vec::new();
    for line in dump.lines() {
        if let Some(name) = line
            .strip_prefix("# configuration file ")
            .and_then(|rest| rest.strip_suffix(':'))
        {
            file = name;
            continue;
        }
        if Path::new(file).starts_with(ours) {
            continue;
        }
        let listens = line.split(['{', '}', ';']).find_map(|words| {
            let mut words = words.split_whitespace();
            let at = words
                .next()
                .filter(|word| *word == "listen")
                .and(words.next())?;
            words
                .any(|word| word == "default_server" || word == "default")
                .then_some(at)
        });
        let Some(at) = listens else { continue };
        found.push(Finding::warn(
            format!(
                "{file} is the default server of {at}: a service without `host` can't have that port"
            ),
            format!("rm {file} (or take `default_server` out of it), then: {RELOAD}"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_server_of_somebody_else_is_found_with_its_file_and_ours_is_not() {
        let dump = "# configuration file /etc/nginx/sites-enabled/default:\nserver {\n\tlisten 80 default_server;\n\
                    \tlisten 81;\n}\nserver { listen 83 default_server; }\n# configuration file /s/nginx/v-1/http.conf:\n    listen 82 default_server;\n";
        let found = default_servers(dump, Path::new("/s/nginx"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].what.contains("default server of 83:"), "{found:?}");
        assert!(
            found[0]
                .what
                .starts_with("/etc/nginx/sites-enabled/default is the default server of 80:"),
            "{found:?}"
        );
    }
}
