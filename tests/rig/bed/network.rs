//! Cables that are cut: silently, in one direction or both.

use std::fs;
use std::process::{Command, Stdio};

use super::{Bed, Machine};
use crate::reaper::{self, Cleanup};

/// While it lives, nothing that one machine sends reaches the other. Dropped, it does again.
#[derive(Debug)]
pub struct Cut {
    _healing: Cleanup,
}

impl Bed {
    /// Drops whatever `from` sends to `to`, without a word to either.
    ///
    /// # Panics
    /// When the kernel's filter can't be set.
    #[must_use]
    pub fn cut(&self, from: &Machine, to: &Machine) -> Cut {
        let (out, into) = (cable(from), cable(to));
        let table = format!("cutover_bed_{out}_{into}");
        let healing = reaper::at_the_end(&format!(
            "nft delete table bridge {table} 2>/dev/null; true"
        ));
        let rules = format!(
            "table bridge {table} {{ chain forward {{ type filter hook forward priority 0; \
             iifname \"{out}\" oifname \"{into}\" drop; }}; }}\n"
        );
        let set = Command::new("nft")
            .arg(&rules)
            .stdin(Stdio::null())
            .output()
            .expect("nft must be startable: run tests/setup --hosts");
        assert!(
            set.status.success(),
            "nft {rules}: {}",
            String::from_utf8_lossy(&set.stderr)
        );
        Cut { _healing: healing }
    }
}

/// The machine's end of its cable, as this machine calls it.
fn cable(machine: &Machine) -> String {
    let index = machine.ok("cat /sys/class/net/eth0/iflink");
    let links = fs::read_dir("/sys/class/net").expect("the kernel lists its links");
    links
        .filter_map(Result::ok)
        .find(|link| {
            fs::read_to_string(link.path().join("ifindex")).is_ok_and(|text| text.trim() == index)
        })
        .unwrap_or_else(|| panic!("{} has no cable {index}", machine.name()))
        .file_name()
        .to_string_lossy()
        .into_owned()
}
