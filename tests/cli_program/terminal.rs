//! The moving picture, on a real terminal (a pty made by script(1)).

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cutover_tests::process::built;
use cutover_tests::wait::throughout;
use tokio::process::Command;

use super::peer::{Peer, Script, Step};
use super::run::end;
use super::views::{begun, committed, decided, phase};

/// `cutover deploy` on a pty of 100 columns.
fn on_a_terminal(peer: &Peer, variables: &[(&str, &str)]) -> Command {
    let inner = peer.command(&[]);
    let inside = format!(
        "stty cols 100 rows 30; exec {} deploy",
        built("cutover").display()
    );
    let mut command = Command::new("script");
    command
        .args(["-qec", &inside, "/dev/null"])
        .current_dir(peer.scratch.path())
        .env_clear();
    let inherited = inner
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    command
        .envs(inherited)
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn seen(variables: &[(&str, &str)]) -> String {
    let steps = vec![
        phase(begun("r-1"), 0, "proving").into(),
        Step::Wait,
        committed("r-1").into(),
    ];
    let script = Script {
        decisions: VecDeque::from([Ok(decided("r-1"))]),
        watches: VecDeque::from([steps]),
        ..Script::default()
    };
    let peer = Peer::start(script).await;
    let child = on_a_terminal(&peer, variables)
        .spawn()
        .expect("script(1) is part of util-linux");
    peer.reached.notified().await;
    // Long enough for several pictures.
    throughout(Duration::from_millis(1200), "time goes on", async || true).await;
    peer.go();
    let ran = end(child).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out
}

#[tokio::test]
async fn on_a_terminal_the_picture_is_redrawn_and_goes_at_the_end() {
    if !Path::new("/usr/bin/script").exists() {
        return;
    }
    let out = seen(&[]).await;
    assert!(
        out.matches("proving").count() > 1,
        "it was redrawn: {out:?}"
    );
    assert!(out.contains("\u{1b}[1m"), "the title is bold: {out:?}");
    assert!(
        out.trim_end()
            .ends_with("shop/web@2 on 2 hosts after 41 s; 0 of 12,044 requests lost"),
        "{out:?}"
    );
}

#[tokio::test]
async fn with_ci_set_a_terminal_gets_lines_and_with_no_color_no_colours() {
    if !Path::new("/usr/bin/script").exists() {
        return;
    }
    let out = seen(&[("CI", "true")]).await;
    assert_eq!(out.matches("proving").count(), 1, "{out:?}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    let out = seen(&[("NO_COLOR", "1")]).await;
    assert!(!out.contains("\u{1b}[1m"), "{out:?}");
}
