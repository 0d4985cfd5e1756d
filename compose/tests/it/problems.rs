//! Every error and warning has its place and its sentence.

use crate::workshop::{Workshop, errors, warnings, web};

#[test]
fn each_error_says_where_what_and_what_to_do() {
    for (lines, expected) in [
        (
            "user: u",
            "2:3: error: 'services.web' has no 'image'; name one, or say it with --image",
        ),
        (
            "build: .",
            "2:3: error: 'services.web' has 'build' but no 'image': Cutover builds nothing; build and push it in CI, and name \
             the result under 'image' or with --image",
        ),
        (
            "image: A B",
            "3:5: error: 'services.web.image' is \"A B\", but must be an image; write it like team/name:tag",
        ),
        (
            "image: x:${TAG}",
            "3:14: error: 'services.web.image' needs the variable TAG, which is not set; set it, or write ${TAG:-DEFAULT}",
        ),
        (
            "image: \"x:${TAG:?set the tag}\"",
            "3:15: error: 'services.web.image' needs the variable TAG, which is not set; set the tag",
        ),
        (
            "image: x\nports: [\"53:53/udp\"]",
            "4:13: error: 'services.web.ports[0]' is UDP, which Cutover cannot carry: nginx switches HTTP and TCP; publish it \
             by other means",
        ),
        (
            "image: x\nports:\n  - 80:80\n  - 80:81",
            "6:9: error: 'services.web.ports[1]' listens on port 80 a second time; remove one of them",
        ),
        (
            "image: x\nports: [\"80-90:80\"]",
            "4:13: error: 'services.web.ports[0]' has ranges of different length; write as many published ports as container \
             ports",
        ),
        (
            "image: x\nports: [\"[::1]:80:80\"]",
            "4:13: error: 'services.web.ports[0]' is \"[::1]:80:80\", whose address is no IPv4 address; IPv6 is not supported yet",
        ),
        (
            "image: x\nports: [\"80:99999\"]",
            "4:13: error: 'services.web.ports[0]' is \"80:99999\", but must be a port like \"80:8080\"",
        ),
        (
            "image: x\nvolumes: [\"./conf:/etc/conf:ro\"]",
            "4:15: error: 'services.web.volumes[0]' is a bind mount with a relative source: the hosts do not have this \
             directory; put files under 'configs:' (file: …), which travel with the release; or write the host's absolute path",
        ),
        (
            "image: x\nvolumes: [data:/data]",
            "4:15: error: 'services.web.volumes[0]' is \"data:/data\", whose volume is not declared; add it under \
             'volumes' of the file",
        ),
        (
            "image: x\nvolumes: [/data]",
            "4:15: error: 'services.web.volumes[0]' is a volume without a name: its data would be lost with every new version; \
             name it and declare it under 'volumes', or use 'tmpfs'",
        ),
        (
            "image: x\ntmpfs: [/a, /a]",
            "4:17: error: 'services.web.tmpfs[1]' is mounted where something else is already; remove one of them",
        ),
        (
            "image: x\nnetwork_mode: host",
            "4:5: error: 'services.web.network_mode' cannot be honoured: Cutover needs an address of its own for each \
             container; use 'networks'",
        ),
        (
            "image: x\nprivileged: true",
            "4:5: error: 'services.web.privileged' cannot be honoured: a privileged container owns its host; name what it \
             needs in 'cap_add'",
        ),
        (
            "image: x\nsecrets: [db]",
            "4:5: error: 'services.web.secrets' cannot be honoured: not supported yet: secrets in a Compose file",
        ),
        (
            "image: x\nx-cutover: {guard: {failures: 5}}",
            "4:17: error: 'services.web.x-cutover.guard' cannot be honoured: not supported yet: a guard after commit; a longer \
             'observe' watches before it",
        ),
        (
            "image: x\nx-cutover: {strategy: canary}",
            "4:17: error: 'services.web.x-cutover.strategy' cannot be honoured: not supported yet: canary; use rolling or \
             blue-green",
        ),
        (
            "image: x\nx-cutover: {strategy: blue-gren}",
            "4:17: error: 'services.web.x-cutover.strategy' is \"blue-gren\", but must be one of rolling, blue-green, recreate, \
             canary; did you mean 'blue-green'?",
        ),
        (
            "image: x\nx-cutovr: {}",
            "4:5: error: 'services.web.x-cutovr' is not known; did you mean 'x-cutover'?",
        ),
        (
            "image: x\nstop_grace_period: 10",
            "4:5: error: 'services.web.stop_grace_period' is \"10\", but must be a duration; write it with units, like 1m30s or \
             500ms",
        ),
        (
            "image: x\nmem_limit: 1m",
            "4:5: error: 'services.web.mem_limit' is \"1m\", less than the engine takes; 6m is the least",
        ),
        (
            "image: x\ncpus: 1\ndeploy: {resources: {limits: {cpus: 2}}}",
            "4:5: error: 'services.web.cpus' says something else than 'services.web.deploy.resources.limits.cpus'; remove one \
             of them",
        ),
        (
            "image: x\nscale: 0",
            "4:5: error: 'services.web.scale' is \"0\", but must be a whole number from 1 to 100",
        ),
        (
            "image: x\nlabels: {com.docker.compose.project: y}",
            "4:14: error: 'services.web.labels.com.docker.compose.project' is a label that is not yours to \
             set; those of Compose and 'dev.cutover.' are taken",
        ),
        (
            "image: x\ndeploy: {placement: {constraints: [node.role == manager]}}",
            "4:40: error: 'services.web.deploy.placement.constraints[0]' is \"node.role == manager\", which Cutover cannot \
             check; write 'node.labels.KEY == VALUE' or 'node.hostname != NAME'",
        ),
        (
            "image: x\ndepends_on: [wbe]",
            "4:18: error: 'services.web.depends_on[0]' names no service of the file; did you mean 'web'?",
        ),
        (
            "image: x\ndepends_on: [web]",
            "2:3: error: 'services.web' depends on itself: web → web; take one of these 'depends_on' away",
        ),
        (
            "image: x\nhealthcheck: {test: [curl, localhost]}",
            "4:19: error: 'services.web.healthcheck.test' is no check; write [\"CMD\", PROGRAM, ARGUMENT, …], [\"CMD-SHELL\", \
             COMMAND], or one text for the shell",
        ),
        (
            "image: x\nx-cutover: {ready: {http: /h}}",
            "4:25: error: 'services.web.x-cutover.ready.http' has no port to ask; add 'port: PORT'",
        ),
        (
            "image: x\nexpose: [80]\nx-cutover: {traffic: [{listen: 80, host: \"a;b\"}]}",
            "5:40: error: 'services.web.x-cutover.traffic[0].host' is \"a;b\", but must be a host name; write it like \
             shop.example.com or *.example.com",
        ),
        (
            "image: x\nports: [\"80:80\"]\nx-cutover: {ready: {tcp: 80, within: 4s, settle: 5s}}",
            "5:17: error: 'services.web.x-cutover.ready' can never be proved: 'within' is 4s; make 'within' longer than \
             'settle', and than 'every' times 'successes'",
        ),
        (
            "image: x\ncontainer_name: c\nscale: 2",
            "2:3: error: 'services.web' has a fixed 'container_name' but several replicas; remove 'container_name'",
        ),
        (
            "image: x\nenvironment: 5",
            "4:5: error: 'services.web.environment' is a single value, but must be a mapping or a list",
        ),
        (
            "image: x\nx-cutover: {drain: 25h}",
            "4:17: error: 'services.web.x-cutover.drain' is \"25h\", but at most 24h are waited",
        ),
        (
            "image: [x]",
            "3:5: error: 'services.web.image' is a list, but must be a single value",
        ),
    ] {
        let found = errors(lines);
        assert!(
            found.contains(&format!("compose.yaml:{expected}")),
            "{lines}\n{found:#?}"
        );
    }
}

#[test]
fn what_is_not_acted_on_is_named() {
    for (lines, expected) in [
        (
            "foo: 1",
            "4:5: warning: 'services.web.foo' is not acted on: there is no such field",
        ),
        (
            "enviroment: {}",
            "4:5: warning: 'services.web.enviroment' is not acted on: there is no such field; did you mean 'environment'?",
        ),
        (
            "tty: true",
            "4:5: warning: 'services.web.tty' is not acted on: nobody looks at a terminal of Cutover's",
        ),
        (
            "deploy: {replcas: 2}",
            "4:14: warning: 'services.web.deploy.replcas' is not acted on: there is no such field; did you mean 'replicas'?",
        ),
        (
            "ports: [{target: 80, published: 80, mode: host}]",
            "4:41: warning: 'services.web.ports[0].mode' is not acted on: nginx of each host listens, and only there",
        ),
        (
            "ports: [\"80\"]",
            "4:13: warning: 'services.web.ports[0]' is not listened for: no port is published; write \"LISTEN:PORT\", or \
             'expose' if only containers call it",
        ),
        (
            "environment: [A]",
            "4:19: warning: 'services.web.environment[0]' has no value, and no variable of that name is set: the container does not get \
             it; set it, or write a value; an empty one is \"\"",
        ),
        (
            "x-cutover: {drian: 5s}",
            "4:17: warning: 'services.web.x-cutover.drian' is not acted on: there is no such field; did you mean 'drain'?",
        ),
        (
            "deploy: {update_config: {max_failure_ratio: 0.5}}",
            "4:30: warning: 'services.web.deploy.update_config.max_failure_ratio' is not acted on: not supported yet: a share \
             of the hosts; none may fail, which is stricter; write 0, or 'failure_action: continue' for all",
        ),
    ] {
        let found = warnings(&format!("image: x\n{lines}"));
        assert_eq!(found, [format!("compose.yaml:{expected}")], "{lines}");
    }
    for silent in [
        "tty: false",
        "privileged: false",
        "x-anything: {a: b}",
        "ipc: private",
        "devices: []",
        "pull_policy: always",
    ] {
        assert_eq!(
            warnings(&format!("image: x\n{silent}")),
            Vec::<String>::new(),
            "{silent}"
        );
    }
}

#[test]
fn all_problems_come_at_once_sorted_by_place() {
    let text = "services:\n  web:\n    ports: [x]\n    image: ${A}\n  B: {}\nvolumes: {v: }\ninclude: [a]\n";
    let errors = Workshop::new(&[("compose.yaml", text)]).errors();
    let places: Vec<&str> = errors
        .iter()
        .filter_map(|error| error.split(": ").next())
        .collect();
    assert_eq!(
        places,
        [
            "compose.yaml:3:13",
            "compose.yaml:4:12",
            "compose.yaml:5:3",
            "compose.yaml:7:1"
        ],
        "{errors:#?}"
    );
}

#[test]
fn bad_yaml_shows_its_line() {
    for (text, expected) in [
        ("services:\n  web: [a\n", "compose.yaml:"),
        (
            "a: 1\na: 2\n",
            "compose.yaml:2:1: error: 'a' is there twice; first in line 1\n2 | a: …\n  | ^",
        ),
        ("a: *b\n", "compose.yaml:1:4: error: this is no YAML: "),
        (
            "a: &a [*a]\n",
            "compose.yaml:1:8: error: an anchor may not contain itself\n1 | a: …",
        ),
        (
            "<<: 5\n",
            "compose.yaml:1:1: error: '<<' takes a mapping or a list of mappings",
        ),
        (
            "? [a]\n: b\n",
            "compose.yaml:1:3: error: a key must be a single word",
        ),
        (
            "a: !what x\n",
            "compose.yaml:1:4: error: the tag '!what' means nothing in a Compose file; Compose has !reset and !override",
        ),
        ("a:\n\t- b\n", "compose.yaml:2:"),
        (
            "- a\n",
            "compose.yaml:1:1: error: is a list, but must be a mapping",
        ),
    ] {
        let errors = Workshop::new(&[("compose.yaml", text)]).errors();
        assert!(errors[0].starts_with(expected), "{text}\n{errors:?}");
    }
    assert_eq!(
        Workshop::new(&[("compose.yaml", "# nothing\n")]).errors(),
        ["error: compose.yaml is empty"]
    );
}

#[test]
fn two_services_cannot_listen_in_one_place_unless_their_hosts_differ() {
    let text =
        "services:\n  a: {image: x, ports: [\"80:80\"]}\n  b: {image: x, ports: [\"80:80\"]}\n";
    let errors = Workshop::new(&[("compose.yaml", text)]).errors();
    assert!(
        errors[0]
            .starts_with("compose.yaml:3:3: error: 'services.b' listens on port 80, as 'a' does"),
        "{errors:?}"
    );
    let traffic = |host: &str| {
        format!("{{image: x, x-cutover: {{traffic: [{{listen: 80, port: 80, host: {host}}}]}}}}")
    };
    let text = format!(
        "services:\n  a: {}\n  b: {}\n",
        traffic("a.example.com"),
        traffic("b.example.com")
    );
    assert_eq!(
        Workshop::new(&[("compose.yaml", &text)])
            .loaded()
            .release
            .services
            .len(),
        2
    );
}

#[test]
fn a_volume_or_network_that_would_not_be_as_written_is_refused() {
    let text = "services:\n  web: {image: x, volumes: [\"d:/d\"], networks: [n]}\nvolumes:\n  d: {driver: nfs}\n  unused: {}\nnetworks:\n  n: {internal: true}\n";
    let workshop = Workshop::new(&[("compose.yaml", text)]);
    assert_eq!(workshop.errors().len(), 2, "{:?}", workshop.errors());
    let all = workshop.load().err().unwrap_or_default();
    assert!(all.contains("compose.yaml:5:3: warning: 'volumes.unused' is used by no service of this release, and is not made"), "{all}");
}

#[test]
fn a_missing_env_file_is_an_error_at_its_name() {
    let errors = Workshop::new(&[("compose.yaml", &web("image: x\nenv_file: none.env"))]).errors();
    assert!(
        errors[0].starts_with(
            "compose.yaml:4:5: error: 'services.web.env_file' is \"none.env\", a file that cannot be read"
        ),
        "{errors:?}"
    );
}
