//! Commands in running containers: the user's checks, and their HEALTHCHECK.

use std::time::Duration;

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse, HealthConfig};
use futures::StreamExt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};

use super::process::is_in;
use super::{Class, Docker, Error, image};

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// It ended.
    Ended {
        /// Its exit code.
        code: i64,
        /// The first [`MAX_OUTPUT`] bytes that it wrote, both outputs.
        output: String,
    },
    /// It took longer than it may, and was killed with its process group.
    TooLong {
        /// What it had written by then.
        output: String,
    },
}

/// Bytes kept of a command's output; the rest is read and dropped.
pub const MAX_OUTPUT: usize = 4096;

impl Docker {
    /// Runs `command` in a container of this host, as the container's user.
    ///
    /// # Errors
    /// [`Class::NotFound`] and [`Class::NotRunning`]; the engine is down or hangs.
    /// A command that can't be executed ends with 126 or 127, as in a shell.
    pub async fn exec(
        &self,
        name: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<Execution, Error> {
        let doing = format!(
            "running {:?} in container {name}",
            command.first().map_or("nothing", String::as_str)
        );
        let id = self.begin_exec(&doing, name, command).await?;
        let client = self.client(&doing)?;
        let options = StartExecOptions {
            detach: false,
            tty: false,
            output_capacity: Some(MAX_OUTPUT),
        };
        let mut kept = Vec::new();
        let run = async {
            if let StartExecResults::Attached { mut output, .. } =
                client.start_exec(&id, Some(options)).await?
            {
                while let Some(frame) = output.next().await {
                    let frame = frame?;
                    let room = MAX_OUTPUT - kept.len();
                    kept.extend_from_slice(&frame.as_ref()[..frame.as_ref().len().min(room)]);
                }
            }
            Ok::<(), bollard::errors::Error>(())
        };
        let ended = tokio::time::timeout(timeout, run).await;
        let output = String::from_utf8_lossy(&kept).trim_end().to_owned();
        let ended = match ended {
            Ok(ended) => ended.map_err(|error| Error::engine(&doing, error)),
            Err(_elapsed) => {
                kill(&self.inspect_exec(&doing, &id).await?);
                return Ok(Execution::TooLong { output });
            }
        };
        let code = self.inspect_exec(&doing, &id).await?.exit_code;
        match (ended, code) {
            // The engine refuses to start what can't be executed, and says so by the code as well.
            (Ok(()), Some(code)) | (Err(_), Some(code @ (126 | 127))) => {
                Ok(Execution::Ended { code, output })
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(Error::refused(
                doing,
                Class::Other,
                "it ended without an exit code",
            )),
        }
    }

    /// What a container's HEALTHCHECK (its own or its image's) executes, as a command for [`Self::exec`].
    ///
    /// `None`: it has none, or it says NONE.
    ///
    /// # Errors
    /// [`Class::NotFound`]; the engine is down or hangs.
    pub async fn healthcheck_of(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let doing = format!("reading the HEALTHCHECK of container {name}");
        let Some(found) = self.owned(&doing, name).await? else {
            return Err(Error::refused(
                doing,
                Class::NotFound,
                "there is none of that name",
            ));
        };
        let config = found.config.unwrap_or_default();
        Ok(config
            .healthcheck
            .and_then(|check| command(check, config.shell)))
    }

    async fn begin_exec(
        &self,
        doing: &str,
        name: &str,
        command: &[String],
    ) -> Result<String, Error> {
        let config = || ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let found = self.owned(doing, name).await?;
        let Some(container) = found.and_then(|found| found.id) else {
            return Err(Error::refused(
                doing,
                Class::NotFound,
                "there is none of that name",
            ));
        };
        let answer = self
            .limited(
                self.limits().ask,
                self.client(doing)?.create_exec(&container, config()),
            )
            .await;
        Ok(self.told(doing, answer)?.id)
    }

    async fn inspect_exec(&self, doing: &str, id: &str) -> Result<ExecInspectResponse, Error> {
        let answer = self
            .limited(self.limits().ask, self.client(doing)?.inspect_exec(id))
            .await;
        self.told(doing, answer)
    }
}

fn command(check: HealthConfig, shell: Option<Vec<String>>) -> Option<Vec<String>> {
    let mut test = image::healthcheck(check)?.test;
    let kind = test.remove(0);
    match kind.as_str() {
        "CMD" => Some(test),
        // As the engine does it: the image's SHELL, or sh.
        "CMD-SHELL" => {
            let mut command = shell.filter(|shell| !shell.is_empty());
            let command =
                command.get_or_insert_with(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            command.append(&mut test);
            Some(std::mem::take(command))
        }
        _ => None,
    }
}

/// Kills the command and its children: the engine has no call for it, and a
/// hanging check, run every second, would fill the container with processes.
fn kill(exec: &ExecInspectResponse) {
    let pid = exec
        .pid
        .and_then(|pid| i32::try_from(pid).ok())
        .filter(|pid| *pid > 1 && exec.running == Some(true));
    let (Some(pid), Some(container)) = (pid, exec.container_id.as_deref()) else {
        return;
    };
    // The number may be another process's by now: it must lead a group, and be in this container.
    let ours = u32::try_from(pid).is_ok_and(|pid| is_in(container, pid).unwrap_or(false));
    let pid = Pid::from_raw(pid);
    if ours && getpgid(Some(pid)) == Ok(pid) {
        // Gone already is as good.
        let _ = killpg(pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_healthcheck_is_what_the_engine_would_execute() {
        let check = |test: &[&str], shell: Option<&[&str]>| {
            command(
                HealthConfig {
                    test: Some(words(test)),
                    ..Default::default()
                },
                shell.map(words),
            )
        };
        assert_eq!(
            check(&["CMD", "/app", "ok"], None),
            Some(words(&["/app", "ok"]))
        );
        assert_eq!(
            check(&["CMD-SHELL", "a || b"], None),
            Some(words(&["/bin/sh", "-c", "a || b"]))
        );
        assert_eq!(
            check(&["CMD-SHELL", "a"], Some(&["/bin/bash", "-ec"])),
            Some(words(&["/bin/bash", "-ec", "a"]))
        );
        assert_eq!(check(&["NONE"], None), None);
        assert_eq!(check(&[], None), None);
    }
}
