//! A door between one host's agent and the Docker engine, which can be told to lie.
//!
//! Everything passes, byte for byte, but what a test took away: the event stream (nothing of it arrives, and no
//! connection ends, as when an engine hangs on it alone), a container or an image (it hangs on it alone), or an image (the
//! engine "has" it not, nor can pull it).
//! It does not know Docker's answers: a connection carries one request, so none has to be understood.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// The head of a request that the agent sends; bollard's are a few hundred bytes.
const HEAD: usize = 64 * 1024;

/// One host's door to its engine. Dropped, every connection through it ends.
#[derive(Debug)]
pub struct EngineProxy {
    socket: PathBuf,
    rules: Arc<Mutex<Rules>>,
    listening: JoinHandle<()>,
    end: CancellationToken,
}

/// What does not pass.
#[derive(Debug, Default)]
struct Rules {
    silent: bool,
    hidden: BTreeSet<String>,
    hung: BTreeSet<String>,
    /// Events that were kept from the agent, in bytes.
    withheld: usize,
}

impl EngineProxy {
    /// Listens at `socket` for `engine`'s.
    ///
    /// # Panics
    /// When it cannot listen there.
    #[must_use]
    pub fn start(socket: PathBuf, engine: &Engine) -> Self {
        let listener = UnixListener::bind(&socket).expect("the scratch folder is writable");
        let rules = Arc::<Mutex<Rules>>::default();
        let end = CancellationToken::new();
        let (to, shared, ends) = (engine.socket().to_owned(), rules.clone(), end.clone());
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, rules, ends) = (to.clone(), shared.clone(), ends.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = ends.cancelled() => {}
                        // A peer that went away has nobody left to be told.
                        _ = pass(client, &to, &rules) => {}
                    }
                });
            }
        });
        Self {
            socket,
            rules,
            listening,
            end,
        }
    }

    /// What goes in the agent's configuration.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// From now on no event arrives, on streams that are open or opened later; nothing tells the agent so.
    pub fn withhold_events(&self) {
        lock(&self.rules).silent = true;
    }

    /// How many bytes of events were withheld: that there was something to miss.
    #[must_use]
    pub fn withheld(&self) -> usize {
        lock(&self.rules).withheld
    }

    /// From now on, or not any more, nobody is told how the container or image of this id stands, and nothing tells why.
    pub fn hang_on(&self, id: &str, hangs: bool) {
        let hung = &mut lock(&self.rules).hung;
        if hangs {
            hung.insert(id.to_owned());
        } else {
            hung.remove(id);
        }
    }

    /// From now on the engine has no such image (by the reference or id that it is asked for), and no registry has.
    pub fn hide_image(&self, reference: &str) {
        lock(&self.rules).hidden.insert(reference.to_owned());
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.end.cancel();
    }
}

fn lock(rules: &Mutex<Rules>) -> MutexGuard<'_, Rules> {
    rules.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, and so one request.
async fn pass(mut client: UnixStream, engine: &Path, rules: &Mutex<Rules>) -> io::Result<()> {
    let Some((head, rest)) = head(&mut client).await? else {
        return Ok(());
    };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if asks_for_hidden(&path, &lock(rules).hidden) {
        let answer = "{\"message\":\"No such image\"}";
        let answer = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        return client.write_all(answer.as_bytes()).await;
    }
    let inspected = ["/containers/", "/images/"]
        .iter()
        .find_map(|kind| path.split_once(kind))
        .and_then(|(_, rest)| rest.split_once("/json"));
    let inspected = inspected.map(|(id, _)| id.replace("%3A", ":"));
    if inspected.is_some_and(|id| lock(rules).hung.contains(&id)) {
        // Until whoever asked has had enough.
        return client.read(&mut [0; 1]).await.map(drop);
    }
    let mut upstream = UnixStream::connect(engine).await?;
    upstream.write_all(one_request(&head).as_bytes()).await?;
    upstream.write_all(&rest).await?;
    if path
        .split('?')
        .next()
        .is_some_and(|path| path.ends_with("/events"))
    {
        return events(client, upstream, rules).await;
    }
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

/// The engine's events, as long as they may pass; its silence, as long as the agent listens.
async fn events(
    mut client: UnixStream,
    mut upstream: UnixStream,
    rules: &Mutex<Rules>,
) -> io::Result<()> {
    let (mut bytes, mut gone) = (vec![0; 16 * 1024], [0; 1]);
    loop {
        tokio::select! {
            read = upstream.read(&mut bytes) => {
                let length = read?;
                let silent = {
                    let mut rules = lock(rules);
                    rules.withheld += if rules.silent { length } else { 0 };
                    rules.silent
                };
                match (length, silent) {
                    (0, _) => return Ok(()),
                    (_, true) => {}
                    (_, false) => client.write_all(&bytes[..length]).await?,
                }
            }
            read = client.read(&mut gone) => if read? == 0 { return Ok(()) },
        }
    }
}

/// A request's head, blank line included, and what came behind it.
async fn head(client: &mut UnixStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    while bytes.len() < HEAD {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), rest)));
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    Err(io::Error::other("a request's head without end"))
}

/// The head, asking for the connection's end after the answer, unless it asks for another protocol.
fn one_request(head: &str) -> String {
    let says = |line: &str| line.to_ascii_lowercase().starts_with("connection:");
    if head
        .lines()
        .any(|line| says(line) && line.to_ascii_lowercase().contains("upgrade"))
    {
        return head.to_owned();
    }
    let lines = head.trim_end().lines().filter(|line| !says(line));
    let kept: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("{kept}Connection: close\r\n\r\n")
}

/// `/images/REFERENCE/json`, `/distribution/REFERENCE/json` or `/images/create?fromImage=REFERENCE`.
fn asks_for_hidden(path: &str, hidden: &BTreeSet<String>) -> bool {
    let path = path.replace("%3A", ":").replace("%2F", "/");
    let about_images = ["/images/", "/distribution/"]
        .iter()
        .any(|part| path.contains(part));
    about_images && hidden.iter().any(|reference| path.contains(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_asks_for_the_end_of_its_connection_unless_it_upgrades() {
        let head = "GET /v1.41/_ping HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(
            one_request(head),
            "GET /v1.41/_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let upgrade = "POST /exec/1/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        assert_eq!(one_request(upgrade), upgrade);
    }

    #[test]
    fn only_questions_about_the_hidden_image_are_refused() {
        let hidden = BTreeSet::from(["sha256:12".to_owned()]);
        assert!(asks_for_hidden("/v1.41/images/sha256%3A12/json", &hidden));
        assert!(!asks_for_hidden("/v1.41/images/sha256:34/json", &hidden));
        assert!(!asks_for_hidden(
            "/v1.41/containers/sha256:12/json",
            &hidden
        ));
    }
}
