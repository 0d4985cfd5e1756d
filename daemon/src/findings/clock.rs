//! Whether something keeps this machine's clock right.
//!
//! Kept true: "right" is said only on somebody's word: systemd's, who asks the
//! kernel, or of the file that its own time service leaves. A time service that
//! merely runs may be far off, and then it is said that this can't be seen.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::Finding;

/// What `systemd-timesyncd` leaves when it has set the clock.
const SYNCHRONISED: &str = "run/systemd/timesync/synchronized";
/// What else keeps a clock right: the name of its process, and who is to be asked.
const KEEPERS: [(&str, &str); 4] = [
    ("chronyd", "chronyc tracking"),
    ("ntpd", "ntpq -p"),
    ("ntpsec", "ntpq -p"),
    ("openntpd", "ntpctl -s status"),
];
/// It answers from memory.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const WHAT_FOR: &str = "certificates and log lines need it, no decision does";

/// Looks, on a machine whose files begin at `root`.
pub async fn clock(root: &Path) -> Finding {
    let said = if root == Path::new("/") {
        systemd_says().await
    } else {
        None
    };
    judged(
        said,
        root.join(SYNCHRONISED).exists(),
        keeper(&root.join("proc")),
    )
}

fn judged(said: Option<bool>, synchronised: bool, keeper: Option<(&str, &str)>) -> Finding {
    match (said, keeper) {
        (Some(true), _) => Finding::ok("the clock is synchronised"),
        _ if synchronised => Finding::ok("the clock is synchronised (systemd-timesyncd)"),
        (Some(false), Some((name, ask))) => Finding::warn(
            format!("the clock is not synchronised, though {name} runs; {WHAT_FOR}"),
            format!("{ask} says why"),
        ),
        (Some(false), None) => Finding::warn(
            format!("the clock is not synchronised; {WHAT_FOR}"),
            "timedatectl set-ntp true (apt-get install systemd-timesyncd, where there is none)",
        ),
        (None, Some((name, ask))) => Finding::ok(format!(
            "{name} runs; whether the clock is right can't be seen from here: {ask}"
        )),
        (None, None) => Finding::warn(
            format!(
                "nothing here seems to keep the clock right, and nobody says whether it is; {WHAT_FOR}"
            ),
            "apt-get install systemd-timesyncd; timedatectl set-ntp true (in a container: on its host)",
        ),
    }
}

/// What the kernel tells systemd, whoever keeps the clock; `None`: nobody to ask.
async fn systemd_says() -> Option<bool> {
    let mut ask = Command::new("timedatectl");
    ask.args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(ANSWERS_WITHIN, ask.output())
        .await
        .ok()?
        .ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn keeper(processes: &Path) -> Option<(&'static str, &'static str)> {
    let entries = std::fs::read_dir(processes).ok()?.filter_map(Result::ok);
    let mut names =
        entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    names.find_map(|name| {
        KEEPERS
            .into_iter()
            .find(|(keeper, _)| *keeper == name.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Level;

    #[tokio::test]
    async fn a_clock_is_right_on_somebodys_word_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let unknown = clock(root.path()).await;
        assert_eq!(unknown.level, Level::Warn, "{unknown:?}");
        let process = root.path().join("proc/7");
        std::fs::create_dir_all(&process).expect("made");
        std::fs::write(process.join("comm"), "chronyd\n").expect("written");
        let kept = clock(root.path()).await;
        assert_eq!(kept.level, Level::Ok);
        assert!(
            kept.what.contains("can't be seen from here: chronyc"),
            "{kept:?}"
        );
        let file = root.path().join(SYNCHRONISED);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, "").expect("written");
        assert_eq!(
            clock(root.path()).await.what,
            "the clock is synchronised (systemd-timesyncd)"
        );
    }

    #[test]
    fn what_the_kernel_says_counts_more_than_who_runs() {
        let chrony = Some(KEEPERS[0]);
        assert_eq!(judged(Some(true), false, None).level, Level::Ok);
        let off = judged(Some(false), false, chrony);
        assert_eq!(off.level, Level::Warn);
        assert_eq!(off.mend.as_deref(), Some("chronyc tracking says why"));
        let mend = judged(Some(false), false, None).mend.expect("a mend");
        assert!(mend.starts_with("timedatectl set-ntp true"), "{mend}");
    }
}
