//! What the README tells somebody who has never seen it: its very commands, on a machine as a distribution installs it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cutover_tests::bed::{Machine, Root, Wish};
use cutover_tests::image;

use super::fleet::Fleet;
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
    machine.ok(&format!("cp /root/debs/*.deb /home/{USER}/"));
    machine.put(&format!("/home/{USER}/compose.yaml"), &compose);
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
