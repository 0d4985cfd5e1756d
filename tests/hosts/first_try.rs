//! The first day: the README's very commands on a machine as a distribution installs it, and the playbook of
//! packaging/examples on one that shall become a host.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cutover_tests::bed::{Machine, Root, Wish};
use cutover_tests::image;

use super::fleet::{Fleet, boot};
use super::table::{Count, Found};

/// Who tries it: nobody in particular, who may use sudo.
const USER: &str = "somebody";

/// The README's first try.
pub(crate) async fn of_the_readme(fleet: &mut Fleet) -> Found {
    let (compose, commands) = readme();
    let wanted = compose
        .lines()
        .find_map(|line| line.trim().strip_prefix("image: "))
        .expect("the example has an image");
    let wish = Wish {
        name: "fresh",
        alias: None,
        address: 30,
        root: Root::Fresh,
        disks: &[],
    };
    let machine = Machine::boot(&Arc::clone(&fleet.bed), wish).await;
    machine.ok(&format!(
        "useradd -m -s /bin/bash {USER}; echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}"
    ));
    fleet.bring(
        &machine,
        &["cutover-agent", "cutover-coordinator", "cutover"],
    );
    machine.ok(&format!("cp /srv/debs/*.deb ~{USER}/"));
    machine.put(&format!("~{USER}/compose.yaml"), &compose);
    for command in commands.lines().filter(|line| !line.trim().is_empty()) {
        if command.starts_with("cutover deploy") {
            // Nobody can pull here: the image is brought, under the name that the example pulls.
            image::custom(fleet.bed.engine(), "hello", &[("PORT", "80")]).await;
            fleet.bed.docker(&["tag", "cutover-test/web:hello", wanted]);
            machine.load_images(&[wanted.to_owned()]);
        }
        // apt asks, and somebody says yes.
        let said = machine.sh_with(&format!("runuser -l {USER} -c '{command}'"), "Y\n");
        println!("{USER}$ {command}\n{}\n{}", said.out, said.err);
        assert_eq!(said.code, 0, "{command}: {}\n{}", said.out, said.err);
    }
    Found {
        outcome: "installed, set up, deployed and answering".to_owned(),
        spared: Count::default(),
        struck: Count::default(),
    }
}

/// The playbook makes a machine a host, once.
pub(crate) async fn by_ansible(fleet: &mut Fleet) -> Found {
    let machine = boot(&fleet.bed, "solo", None, 31, &[]).await;
    fleet.bring(&machine, &["cutover-coordinator", "cutover"]);
    machine.ok("apt-get install -qq -y /srv/debs/*.deb </dev/null && cutover-coordinator init --address 127.0.0.1");
    fleet.bring(&machine, &["cutover-agent"]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/ansible");
    machine.copy(&example, "/srv/ansible");
    machine.put("/srv/ansible/inventory.yml", INVENTORY);
    let play = "cd /srv/ansible && deb=$(echo /srv/debs/*.deb) && \
                ansible-playbook -i inventory.yml -e \"{cutover_debs: [$deb]}\" site.yml";
    let first = machine.ok(play);
    assert!(
        first.contains("failed=0") && !first.contains("changed=0"),
        "{first}"
    );
    machine.ok("cutover host wait --count 1 --for ready --timeout 10s && systemctl is-active cutover-agent");
    let again = machine.ok(play);
    assert!(
        again.contains("changed=0") && again.contains("failed=0"),
        "{again}"
    );
    Found {
        outcome: "installed, enrolled and ready; a second run changes nothing".to_owned(),
        spared: Count::default(),
        struck: Count::default(),
    }
}

/// Of one machine, over a local connection.
const INVENTORY: &str = "\
all:
  children:
    cutover_hosts:
      hosts: {solo: {}}
      vars:
        ansible_connection: local
        ansible_python_interpreter: /usr/bin/python3
        cutover_coordinator: 127.0.0.1:7444
        cutover_apt_update: false
        cutover_wait: 60s
";

/// The README's file and commands of the first try.
fn readme() -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&path).expect("the README is there");
    let part = text
        .split("<!-- try:begin -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- try:end -->").next())
        .expect("the README marks its first try");
    let block = |kind: &str| {
        let block = part.split(&format!("```{kind}\n")).nth(1);
        let block = block.and_then(|rest| rest.split("```").next());
        block
            .unwrap_or_else(|| panic!("no {kind} in the README's first try"))
            .to_owned()
    };
    (block("yaml"), block("sh"))
}
