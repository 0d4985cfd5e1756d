//! Proofs: a request through the real listener, and the log line that it caused.
//!
//! A test of nginx's proves syntax. That requests reach *our* server, that the
//! workers run *this* configuration, and that they can read the route, is seen
//! only by asking. The answer itself says nothing; the log line on the signals
//! socket does. An HTTP proof carries a nonce and ends in nginx; a TCP proof is
//! known by the port it comes from, and reaches the container as a connection
//! that is closed at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cutover_core::spec::{Listener, Protocol};
use cutover_core::{Route, Slot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::conf::Conf;
use super::error::{Cause, Door};
use super::plan::{key, variant};
use super::{Site, Traffic, Unproved, process, render, routes};
use crate::signals::{Expected, Place, Proof};

/// For one attempt; a line comes within milliseconds of its request.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Between two attempts while the new workers are awaited.
const PAUSE: Duration = Duration::from_millis(20);
/// Attempts before silence is believed: after the agent's start each worker
/// loses the line with which it finds the former socket closed.
const SWITCH_ATTEMPTS: u32 = 8;
/// What is read of an answer.
const ANSWER: usize = 512;

/// How long a proof may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// After a switch: at once.
    Switch,
    /// After a reload: until then.
    Reload(Instant),
}

/// Proves each listener of the site.
pub(super) async fn prove(
    traffic: &Traffic,
    site: &Site,
    expected: Route,
    patience: Patience,
) -> Result<(), Unproved> {
    for listener in &site.listeners {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Err(unproved) = once(traffic, site, listener, expected).await else {
                break;
            };
            let again = match patience {
                Patience::Switch => {
                    attempts < SWITCH_ATTEMPTS && matches!(unproved.cause, Cause::Silent { .. })
                }
                // While workers change, a stranger is the default server of the old ones.
                Patience::Reload(deadline) => {
                    let passes = matches!(
                        unproved.cause,
                        Cause::OldConfiguration
                            | Cause::Closed(_)
                            | Cause::Silent { .. }
                            | Cause::Stranger { .. }
                    );
                    passes && Instant::now() < deadline
                }
            };
            if !again {
                return Err(unproved);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn once(
    traffic: &Traffic,
    site: &Site,
    listener: &Listener,
    expected: Route,
) -> Result<(), Unproved> {
    let address = listener
        .address
        .or(traffic.paths.listen_address)
        .filter(|address| !address.is_unspecified());
    let address = SocketAddr::from((address.unwrap_or(Ipv4Addr::LOCALHOST), listener.listen));
    let found = match timeout(ATTEMPT, ask(traffic, site, listener, address)).await {
        Ok(found) => found,
        Err(_) => Err(Cause::Silent {
            milliseconds: ATTEMPT.as_millis(),
            socket: traffic.signals_socket().to_owned(),
        }),
    };
    let judged = found.and_then(|proof| compare(traffic, site, listener, expected, &proof));
    judged.map_err(|cause| Unproved {
        service: site.service.clone(),
        listener: Door {
            address,
            host: listener.host.clone(),
        },
        cause,
    })
}

async fn ask(
    traffic: &Traffic,
    site: &Site,
    listener: &Listener,
    address: SocketAddr,
) -> Result<Proof, Cause> {
    if listener.protocol == Protocol::Tcp {
        return knock(traffic, site, listener, address).await;
    }
    let nonce = nonce();
    let line = traffic
        .signals
        .expect(Expected::Nonce(nonce.clone()))
        .await
        .map_err(Cause::Signals)?;
    let host = listener
        .host
        .as_deref()
        .map_or_else(|| "cutover".to_owned(), |host| host.replace('*', "cutover"));
    let path = format!("{}?n={nonce}", render::proof_path(&key(&site.service)));
    let request = match listener.protocol {
        Protocol::Grpc => http2_request(&host, &path),
        Protocol::Http | Protocol::Tcp => {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cutover-agent\r\nConnection: close\r\n\r\n").into_bytes()
        }
    };
    let mut stream = from_ourselves(address)?
        .connect(address)
        .await
        .map_err(Cause::Closed)?;
    stream.write_all(&request).await.map_err(Cause::Closed)?;
    let mut answer = vec![0; ANSWER];
    let length = stream.read(&mut answer).await.map_err(Cause::Closed)?;
    let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
    let first = answer.lines().next().unwrap_or_default();
    if answer.contains("plain HTTP request was sent to HTTPS port") {
        return Err(Cause::Encrypted);
    }
    if listener.protocol == Protocol::Http && !first.contains(" 204") {
        return Err(Cause::Stranger {
            answer: first.to_owned(),
        });
    }
    // Hold the stream until the line is there: HTTP/2 must not be cut short.
    let proof = line
        .await
        .map_err(|_| Cause::Signals(crate::signals::Error::Ended));
    drop(stream);
    proof
}

async fn knock(
    traffic: &Traffic,
    site: &Site,
    listener: &Listener,
    address: SocketAddr,
) -> Result<Proof, Cause> {
    // The line is expected before it can come: the port is known before the connection.
    let socket = from_ourselves(address)?;
    let port = socket.local_addr().map_err(Cause::Closed)?.port();
    let expected = Expected::From(site.service.clone(), listener.listen, port);
    let line = traffic
        .signals
        .expect(expected)
        .await
        .map_err(Cause::Signals)?;
    let mut stream = socket.connect(address).await.map_err(Cause::Closed)?;
    // All is sent; the container closes when it sees that, and then the line is written.
    let _closed = stream.shutdown().await;
    let end = Instant::now() + ATTEMPT;
    let mut rest = vec![0; ANSWER];
    while let Ok(Ok(1..)) = timeout_at(end, stream.read(&mut rest)).await {}
    line.await
        .map_err(|_| Cause::Signals(crate::signals::Error::Ended))
}

/// A socket that comes from the address that it goes to: nginx answers proofs to nobody else.
fn from_ourselves(address: SocketAddr) -> Result<TcpSocket, Cause> {
    let socket = TcpSocket::new_v4().map_err(Cause::Closed)?;
    socket
        .bind(SocketAddr::from((address.ip(), 0)))
        .map_err(Cause::Closed)?;
    Ok(socket)
}

fn compare(
    traffic: &Traffic,
    site: &Site,
    listener: &Listener,
    expected: Route,
    proof: &Proof,
) -> Result<(), Cause> {
    if proof.service != site.service {
        return Err(Cause::Stranger {
            answer: format!("the service {}", proof.service),
        });
    }
    if Conf::new(&traffic.paths.conf)
        .live()
        .is_some_and(|live| live != proof.config)
    {
        return Err(Cause::OldConfiguration);
    }
    let front = listener.protocol == Protocol::Tcp && proof.place == Place::Nobody;
    if proof.place == Place::Unreadable || (front && expected != Route::Nobody) {
        return Err(Cause::Unreadable {
            why: closed_to_workers(traffic, site),
        });
    }
    let wanted: Vec<Option<Slot>> = match proof.bucket {
        Some(bucket) => vec![routes::slot_of(expected, bucket)],
        None => Slot::ALL
            .into_iter()
            .filter(|slot| expected.reaches(*slot))
            .map(Some)
            .collect(),
    };
    let holds = match proof.place {
        Place::Nobody | Place::Unreadable => expected == Route::Nobody,
        // TCP's line knows no bucket; a warm route goes to one slot all the same.
        Place::Slot { slot, warm, .. } => match expected {
            Route::Alone(only) | Route::Warm(only) => {
                slot == only && warm == routes::is_warm(expected)
            }
            Route::Split { .. } => warm && wanted.contains(&Some(slot)),
            Route::Nobody => false,
        },
    };
    if holds {
        Ok(())
    } else {
        Err(Cause::Elsewhere {
            expected,
            found: describe(proof.place),
        })
    }
}

fn describe(place: Place) -> String {
    match place {
        Place::Slot {
            slot,
            warm,
            without,
        } => variant(slot, warm, without),
        Place::Nobody => "nobody".to_owned(),
        Place::Unreadable => "unreadable".to_owned(),
    }
}

/// Why nginx can't read a route: the first directory on the way that its workers may not enter.
fn closed_to_workers(traffic: &Traffic, site: &Site) -> String {
    let current = routes::directory(&traffic.paths.routes, &site.service).join("current");
    let real = match std::fs::canonicalize(&current) {
        Ok(real) => real,
        Err(error) => {
            return format!(
                "{} leads nowhere ({error}); switch the route anew",
                current.display()
            );
        }
    };
    let crew = process::crew(&traffic.paths);
    let worker = crew
        .workers
        .first()
        .or(crew.orphans.first())
        .and_then(|pid| process::identity(*pid));
    if let Some((user, groups)) = worker {
        let ways: [&Path; 2] = [&real, &traffic.paths.runtime];
        for directory in ways.iter().flat_map(|way| ancestors(way)) {
            if !may_enter(&directory, user, &groups) {
                let (user, directory) = (name_of(user), directory.display());
                return format!(
                    "its workers (user {user}) may not enter {directory}; allow it with: chmod o+x {directory}"
                );
            }
        }
    }
    format!(
        "its workers don't find the flags in {}; is nginx confined (AppArmor, SELinux, a chroot), or was a file removed?",
        real.display()
    )
}

fn ancestors(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    all.reverse();
    all
}

fn may_enter(directory: &Path, user: u32, groups: &[u32]) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = std::fs::metadata(directory) else {
        return false;
    };
    let bit = if user == 0 {
        return true;
    } else if about.uid() == user {
        0o100
    } else if groups.contains(&about.gid()) {
        0o010
    } else {
        0o001
    };
    about.mode() & bit != 0
}

fn name_of(user: u32) -> String {
    let known = nix::unistd::User::from_uid(user.into()).ok().flatten();
    known.map_or_else(|| user.to_string(), |known| known.name)
}

/// Unlike every other of this machine since it booted, and not to be guessed by accident.
fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{}-{count}-{}", std::process::id(), random.trim())
}

/// A whole HTTP/2 GET, as bytes: preface, empty settings, one header block without compression.
fn http2_request(host: &str, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86]; // :method GET, :scheme http
    for (index, value) in [(0x04, path), (0x01, host)] {
        block.push(index); // a literal with an indexed name, not to be remembered: :path, :authority
        let length = value.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend_from_slice(value.as_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend(length.iter().skip(1));
    bytes.extend_from_slice(&[1, 0x05, 0, 0, 0, 1]); // HEADERS, END_STREAM and END_HEADERS, stream 1
    bytes.extend(block);
    bytes
}
