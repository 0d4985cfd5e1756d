//! What is wrong with the nginx of this host, and the command that mends it. Changes nothing.

use cutover_daemon::findings::{Finding, files_of};
use cutover_daemon::logging::chain;

use super::admin::{Admin, RELOAD, mend_default};
use super::process::{self, Build, Crew, Test};
use super::{Paths, verdict};

/// Looks at the program, its processes and its configuration.
pub(crate) async fn examine(paths: &Paths) -> Vec<Finding> {
    let build = match process::build(paths).await {
        Ok(build) => build,
        Err(error) => {
            return vec![Finding::error(chain(&error), "apt-get install nginx")];
        }
    };
    let mut findings = vec![Finding::ok(format!("nginx {} is there", build.version))];
    findings.extend(lacking(&build));
    let crew = process::crew(paths);
    findings.push(running(&crew));
    match process::test(paths).await {
        Ok(test) => {
            findings.extend(configuration(&test, paths, &build));
            findings.extend(room(&test, &crew));
        }
        Err(error) => findings.push(Finding::error(chain(&error), "nginx -t")),
    }
    findings
}

fn lacking(build: &Build) -> Option<Finding> {
    (!build.lacks.is_empty()).then(|| {
        Finding::error(
            format!(
                "this nginx was built without {}, which what the agent writes needs",
                build.lacks.join(", ")
            ),
            "apt-get install nginx (the distribution's own has it)",
        )
    })
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

fn configuration(test: &Test, paths: &Paths, build: &Build) -> Vec<Finding> {
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
    let admin = Admin::of(&test.dump);
    let (http, stream) = (paths.conf.join("http.conf"), paths.conf.join("stream.conf"));
    if !admin.includes(&http) {
        findings.push(Finding::error(
            "nginx does not include what the agent writes: services over HTTP can't be served",
            format!("{}; then: {RELOAD}", admin.mend_http(&http)),
        ));
    }
    if !admin.includes(&stream) {
        let why = if admin.knows_stream(build) {
            "nginx has no `stream {}` that includes what the agent writes"
        } else {
            "nginx has not loaded its stream module"
        };
        findings.push(Finding::warn(
            format!("{why}: services over TCP can't be served"),
            format!("{}; then: {RELOAD}", admin.mend_stream(&stream, build)),
        ));
    }
    findings.extend(default_servers(&admin, paths));
    findings
}

/// Others' servers that take whatever has no host name: a service without `host` can't have their ports.
fn default_servers(admin: &Admin<'_>, paths: &Paths) -> Vec<Finding> {
    let all = admin.default_servers(&paths.conf);
    let mut files: Vec<&str> = all.iter().map(|one| one.file).collect();
    files.dedup();
    let of_file = |file: &str| {
        let here: Vec<_> = all.iter().filter(|one| one.file == file).collect();
        let ports: Vec<&str> = here.iter().map(|one| one.at).collect();
        let line = here.first().map_or(0, |one| one.line);
        Finding::warn(
            format!(
                "{file} is the default server of {}: a service without `host` can't have that port",
                ports.join(", ")
            ),
            format!("{}; then: {RELOAD}", mend_default(file, line)),
        )
    };
    files.into_iter().map(of_file).collect()
}

/// Whether a worker may open as many files as it takes connections; each is a file, and so is each to a container.
fn room(test: &Test, crew: &Crew) -> Option<Finding> {
    let looked = crew.workers.first().copied().or(crew.master)?;
    let files = files_of(looked)?;
    test.accepted
        .then(|| judged(Admin::of(&test.dump).worker_connections(), files))
}

fn judged(connections: u64, files: u64) -> Finding {
    let what = format!(
        "a worker of nginx takes {connections} connections (a request through it needs two) and may open {files} files"
    );
    if files < connections {
        Finding::warn(
            format!("{what}: it will refuse requests with \"too many open files\""),
            format!(
                "write at the top of nginx.conf: worker_rlimit_nofile {}; then: {RELOAD}",
                connections.saturating_mul(2)
            ),
        )
    } else {
        Finding::ok(what)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cutover_daemon::findings::Level;

    use super::*;

    fn paths() -> Paths {
        Paths {
            command: vec!["nginx".to_owned()],
            pid_file: "/run/nginx.pid".into(),
            conf: "/s/nginx".into(),
            routes: "/s/routes".into(),
            runtime: "/s/run".into(),
            listen_address: None,
            access_log: None,
        }
    }

    fn accepted(dump: &str) -> Test {
        Test {
            accepted: true,
            messages: String::new(),
            dump: dump.to_owned(),
        }
    }

    #[test]
    fn a_default_server_of_somebody_else_is_one_finding_a_file_and_ours_is_none() {
        let dump = "# configuration file /etc/nginx/sites-enabled/default:\nserver {\n\tlisten 80 default_server;\n\tlisten [::]:80 default_server;\n\
                    \tlisten 81;\n}\n# configuration file /s/nginx/v-1/http.conf:\n    listen 82 default_server;\n";
        let found = default_servers(&Admin::of(dump), &paths());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].what.contains("the default server of 80, [::]:80:"),
            "{found:?}"
        );
        let mend = found[0].mend.as_deref().unwrap_or_default();
        assert!(
            mend.starts_with("rm /etc/nginx/sites-enabled/default; then:"),
            "{mend}"
        );
    }

    #[test]
    fn missing_includes_are_an_error_for_http_and_a_warning_for_tcp() {
        let build = Build::parse("--with-stream=dynamic");
        let dump = "# configuration file /etc/nginx/nginx.conf:\ninclude /etc/nginx/modules-enabled/*.conf;\nevents {}\n\
                    http { include /etc/nginx/conf.d/*.conf; }\n";
        let found = configuration(&accepted(dump), &paths(), &build);
        let levels: Vec<Level> = found.iter().map(|one| one.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Error, Level::Warn], "{found:?}");
        assert!(
            found[2].what.contains("has not loaded its stream module"),
            "{found:?}"
        );
        let both = format!(
            "{dump}load_module modules/ngx_stream_module.so;\nhttp {{ include {0}/http.con[f]; }}\nstream {{ include {0}/stream.con[f]; }}\n",
            Path::new("/s/nginx").display()
        );
        let found = configuration(&accepted(&both), &paths(), &build);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn modules_that_were_left_out_are_an_error() {
        assert_eq!(lacking(&Build::parse("--with-stream")), None);
        let found = lacking(&Build::parse("--without-http_rewrite_module")).expect("it lacks one");
        assert_eq!(found.level, Level::Error);
        assert!(found.what.contains("http_rewrite"), "{found:?}");
    }

    #[test]
    fn a_worker_that_takes_more_connections_than_it_may_open_files_is_a_warning() {
        assert_eq!(judged(768, 1024).level, Level::Ok);
        let found = judged(8192, 1024);
        assert_eq!(found.level, Level::Warn);
        let mend = found.mend.expect("a mend");
        assert!(mend.contains("worker_rlimit_nofile 16384;"), "{mend}");
    }
}
