//! Making this machine a host, by its own agent's `enroll`.
//!
//! Kept true (P8): the token is written to the agent's standard input; it is in
//! no argument, no environment and no message.

use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use cutover_core::HostId;
use cutover_proto::tls::Address;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// It asks once, and the coordinator answers at once.
const ENROLS_WITHIN: Duration = Duration::from_secs(60);

/// Why the machine is no host.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The agent's program.
    #[error(
        "could not run {program}; is cutover-agent installed whole? apt-get install --reinstall cutover-agent"
    )]
    Run {
        /// Which file.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("cutover-agent did not enrol this machine: {said}")]
    Refused {
        /// Its words, which say what to do.
        said: String,
    },
    /// It did not end.
    #[error(
        "cutover-agent did not enrol this machine within {seconds} s; `cutover-agent doctor` looks for what is in the way, \
         then run this again"
    )]
    Hung {
        /// How long it had.
        seconds: u64,
    },
}

/// What the agent said when it was done.
pub(super) async fn enrol(
    program: &Path,
    gate: &Address,
    host: &HostId,
    token: &str,
) -> Result<String, EnrolError> {
    let failed = |source| EnrolError::Run {
        program: program.display().to_string(),
        source,
    };
    let mut agent = Command::new(program)
        .args(["enroll", "--no-start", "--token-file", "-"])
        .args(["--coordinator", &gate.to_string(), "--host", host.as_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let told = async {
        if let Some(mut input) = agent.stdin.take() {
            // One that ended without reading says why on its standard error.
            let _unread = input.write_all(format!("{token}\n").as_bytes()).await;
        }
        agent.wait_with_output().await
    };
    match tokio::time::timeout(ENROLS_WITHIN, told).await {
        Ok(Ok(output)) => outcome(&output),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(EnrolError::Hung {
            seconds: ENROLS_WITHIN.as_secs(),
        }),
    }
}

fn outcome(output: &Output) -> Result<String, EnrolError> {
    if output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Ok(said.lines().next().unwrap_or_default().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("cutover-agent: ");
    Err(EnrolError::Refused {
        said: if said.is_empty() {
            output.status.to_string()
        } else {
            said.to_owned()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn by(script: &str) -> (Result<String, EnrolError>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("agent");
        let seen = folder.path().join("seen");
        let text = format!("#!/bin/sh\nSEEN={}\n{script}\n", seen.display());
        // By a copy, so that no other thread's child holds it open for writing when it is run.
        let writes = format!("cat >{0} && chmod 755 {0}", program.display());
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &writes])
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut input = shell.stdin.take().expect("it is piped");
        io::Write::write_all(&mut input, text.as_bytes()).expect("written");
        drop(input);
        shell.wait().expect("it ends");
        let gate = Address::new("127.0.0.1", 7444).expect("an address");
        let host = "one".parse().expect("a name");
        let came = enrol(&program, &gate, &host, "cutover1-secret").await;
        let seen = std::fs::read_to_string(seen).unwrap_or_default();
        (came, seen)
    }

    #[tokio::test]
    async fn p8_the_token_is_on_standard_input_and_in_no_argument() {
        let (came, seen) =
            by("echo \"$*\" >$SEEN; env >>$SEEN; read token; echo \"enrolled: ${#token}\"").await;
        assert_eq!(came.expect("it ends well"), "enrolled: 15");
        assert!(
            seen.contains("--coordinator 127.0.0.1:7444 --host one"),
            "{seen}"
        );
        assert!(!seen.contains("secret"), "{seen}");
    }

    #[tokio::test]
    async fn one_that_is_refused_is_told_in_the_agents_words() {
        let (came, _) = by("echo 'cutover-agent: the name one is taken' >&2; exit 1").await;
        let error = came.expect_err("it is refused").to_string();
        assert!(
            error.ends_with("this machine: the name one is taken"),
            "{error}"
        );
    }
}
