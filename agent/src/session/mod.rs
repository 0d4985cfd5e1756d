//! The one stream to the coordinator, kept for ever.
//!
//! [`run`] connects, says Hello, carries what the loop and the coordinator say to
//! each other, and connects again whenever it must. It decides nothing about
//! swaps. Certificates are renewed beside it ([`renewal`]).
//!
//! Kept true: Hello is taken from the loop at the moment when the stream opens,
//! and everything that the loop says after that moment goes into that stream;
//! what it says while there is none is dropped, because the next Hello says
//! where everything stands. The loop hears Connected and Disconnected in turn.
//! The coordinator hears which certificate is kept: by the connection, or by Renewed.

mod backoff;
mod reason;
mod renewal;
mod words;

use std::sync::Arc;
use std::time::Duration;

use cutover_proto::tls::{ClientTls, Connection, Dial};
use cutover_proto::v1::agent_link_client::AgentLinkClient;
use cutover_proto::v1::{Bye, FromAgent, Hello, Renewed, ToAgent, Welcome, from_agent, to_agent};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, info, warn};

use crate::enroll::{EnrollError, Membership};
use backoff::Backoff;
pub use reason::Reason;
use words::Words;

/// What is on its way to the coordinator; HTTP/2 takes it as fast as the other side reads.
const OUTGOING: usize = 16;
/// From Hello to Welcome: the coordinator looks into its store once.
const WELCOME_WITHIN: Duration = Duration::from_secs(15);
/// A Bye that does not go out does not hold up the end.
const BYE_WITHIN: Duration = Duration::from_secs(1);

/// What the loop hears.
#[derive(Debug)]
pub enum LinkEvent {
    /// The coordinator has welcomed this host.
    Connected(Welcome),
    /// It said something (never a Welcome).
    Said(Box<to_agent::What>),
    /// There is no stream, and why; comes once for each outage, and again when the reason changes.
    Disconnected(Reason),
    /// A new certificate is kept and used from the next connection on.
    Renewed,
}

/// What a session needs.
pub struct Settings {
    /// Who this host is.
    pub membership: Membership,
    /// /etc/machine-id.
    pub machine_id: String,
    /// Where the loop hears; bounded.
    pub events: mpsc::Sender<LinkEvent>,
    /// What the loop says; bounded. Carried even while the loop does not listen.
    pub outgoing: mpsc::Receiver<FromAgent>,
    /// What the loop answers, at any length; bounded. Goes where `outgoing` leaves room.
    pub answers: mpsc::Receiver<FromAgent>,
    /// Ends it, with a Bye.
    pub stop: CancellationToken,
}

/// Keeps the stream until it is stopped or the loop is gone. `hello` says where everything
/// stands; the session fills in the host, the machine and the protocols.
///
/// # Errors
/// When what makes this machine a host cannot be read.
pub async fn run(
    settings: Settings,
    hello: impl FnMut() -> Hello + Send,
) -> Result<(), EnrollError> {
    let Settings {
        membership,
        machine_id,
        events,
        outgoing,
        answers,
        stop,
    } = settings;
    let tls = Arc::new(ClientTls::mutual(
        &membership.credentials()?,
        &membership.trust()?,
    )?);
    let (renewed, seen) = watch::channel(Vec::new());
    let wanted = Arc::new(Notify::new());
    let renewal = renewal::Renewal {
        membership: membership.clone(),
        machine_id: machine_id.clone(),
        tls: Arc::clone(&tls),
        events: events.clone(),
        renewed,
        wanted: Arc::clone(&wanted),
    };
    let session = Session {
        host: membership.host().to_string(),
        machine_id,
        dial: Dial::new(membership.coordinator().clone(), tls),
        events,
        outgoing: Words {
            reports: outgoing,
            answers,
        },
        hello,
        wanted,
        renewed: seen,
        told: None,
    };
    // The renewal ends with the session: it is part of the same future.
    tokio::select! {
        () = session.run(&stop) => Ok(()),
        ended = renewal.run() => ended,
    }
}

struct Session<H> {
    host: String,
    machine_id: String,
    dial: Dial,
    events: mpsc::Sender<LinkEvent>,
    outgoing: Words,
    hello: H,
    wanted: Arc<Notify>,
    /// The serial number of the newest certificate that was kept.
    renewed: watch::Receiver<Vec<u8>>,
    /// The outage that the loop knows of.
    told: Option<Reason>,
}

/// Why a stream is over for the session itself.
enum Over {
    /// Connect again.
    Lost(Reason),
    /// The loop is gone, or wants no more.
    Stopped,
}

impl<H: FnMut() -> Hello + Send> Session<H> {
    async fn run(mut self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let reason = match self.live(stop, &mut backoff).await {
                Over::Stopped => return,
                Over::Lost(reason) => reason,
            };
            if self.told.as_ref() != Some(&reason) {
                warn!(coordinator = %self.dial.address(), %reason, "no session with the coordinator");
                if self
                    .tell(LinkEvent::Disconnected(reason.clone()), None)
                    .await
                {
                    return;
                }
            }
            let pause = backoff.next(&reason, cutover_proto::tls::chance().unwrap_or(1.0));
            self.told = Some(reason);
            debug!(?pause, "before the next attempt");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.renewed.changed() => {} // perhaps that was what was wrong
                () = drop_all(&mut self.outgoing) => return,
                () = stop.cancelled() => return,
            }
        }
    }

    /// One stream, from connecting to its end.
    async fn live(&mut self, stop: &CancellationToken, backoff: &mut Backoff) -> Over {
        let connected = tokio::select! {
            connected = self.dial.connect() => connected,
            () = drop_all(&mut self.outgoing) => return Over::Stopped,
            () = stop.cancelled() => return Over::Stopped,
        };
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => return Over::Lost(Reason::of_dial(&error)),
        };
        while self.outgoing.at_hand().is_some() {} // Hello says it all, and from here on nothing is dropped
        let hello = self.introduce();
        let (sender, stream) = mpsc::channel(OUTGOING);
        if sender
            .try_send(message(from_agent::What::Hello(hello)))
            .is_err()
        {
            return Over::Stopped; // never: it is empty
        }
        let mut client = AgentLinkClient::new(connection.channel.clone());
        let mut opening = std::pin::pin!(async {
            let mut incoming = client
                .session(ReceiverStream::new(stream))
                .await?
                .into_inner();
            let first = incoming.message().await?;
            Ok((first, incoming))
        });
        let mut deadline = std::pin::pin!(tokio::time::sleep(WELCOME_WITHIN));
        let opened: Result<_, tonic::Status> = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                () = &mut deadline => return Over::Lost(Reason::Silent(WELCOME_WITHIN)),
                () = stop.cancelled() => return Over::Stopped,
                over = carry(&mut self.outgoing, &sender) => if over { return Over::Stopped },
            }
        };
        let incoming = match opened {
            Err(status) => return Over::Lost(lost(&status, &connection)),
            Ok((first, incoming)) => match first.and_then(|first| first.what) {
                Some(to_agent::What::Welcome(welcome)) => {
                    info!(coordinator = %self.dial.address(), id = welcome.coordinator_id, "session open");
                    if welcome.renew_certificate {
                        self.wanted.notify_one();
                    }
                    backoff.forget();
                    self.told = None;
                    if self
                        .tell(LinkEvent::Connected(welcome), Some(&sender))
                        .await
                    {
                        return Over::Stopped;
                    }
                    incoming
                }
                Some(to_agent::What::Refused(refused)) => {
                    return Over::Lost(Reason::of_refused(refused));
                }
                Some(
                    to_agent::What::Order(_)
                    | to_agent::What::Request(_)
                    | to_agent::What::Cancel(_),
                )
                | None => {
                    return Over::Lost(Reason::Lost(
                        "the coordinator's first word was not Welcome".to_owned(),
                    ));
                }
            },
        };
        self.carry_both(incoming, sender, &connection, stop).await
    }

    async fn carry_both(
        &mut self,
        mut incoming: Streaming<ToAgent>,
        sender: mpsc::Sender<FromAgent>,
        connection: &Connection,
        stop: &CancellationToken,
    ) -> Over {
        let mut stopping = false;
        let mut unsaid = false;
        let mut end = std::pin::pin!(tokio::time::sleep(Duration::MAX));
        loop {
            tokio::select! {
                said = incoming.message() => match said {
                    Ok(Some(ToAgent { what: Some(to_agent::What::Refused(refused)) })) => {
                        return if stopping { Over::Stopped } else { Over::Lost(Reason::of_refused(refused)) };
                    }
                    Ok(Some(ToAgent { what: Some(what) })) => {
                        if self.tell(LinkEvent::Said(Box::new(what)), Some(&sender)).await {
                            return Over::Stopped;
                        }
                    }
                    Ok(Some(ToAgent { what: None })) => {} // a newer coordinator's word, unknown here
                    Ok(None) | Err(_) if stopping => return Over::Stopped,
                    Ok(None) => return Over::Lost(Reason::Lost("the coordinator closed it".to_owned())),
                    Err(status) => return Over::Lost(lost(&status, connection)),
                },
                over = carry(&mut self.outgoing, &sender), if !stopping => if over { return Over::Stopped },
                Ok(()) = self.renewed.changed(), if !stopping => unsaid = true,
                Ok(room) = sender.reserve(), if unsaid && !stopping => {
                    let serial = self.renewed.borrow().clone();
                    room.send(message(from_agent::What::Renewed(Renewed { serial })));
                    unsaid = false;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    while let Some(last) = self.outgoing.at_hand() {
                        let _ = sender.try_send(last); // what finds no room is said again after the restart
                    }
                    let bye = message(from_agent::What::Bye(Bye { reason: "the agent stops".to_owned() }));
                    let _ = tokio::time::timeout(BYE_WITHIN, sender.send(bye)).await;
                    end.as_mut().reset(tokio::time::Instant::now() + BYE_WITHIN);
                }
                () = &mut end, if stopping => return Over::Stopped,
            }
        }
    }

    /// Tells the loop, and meanwhile takes what it says: a loop that waits for us while we wait
    /// for it would wait for ever. True when it is gone.
    async fn tell(&mut self, event: LinkEvent, sender: Option<&mpsc::Sender<FromAgent>>) -> bool {
        loop {
            let carrying = async {
                match sender {
                    Some(sender) => carry(&mut self.outgoing, sender).await,
                    None => self.outgoing.next().await.is_none(), // dropped: Hello says it again
                }
            };
            tokio::select! {
                room = self.events.reserve() => {
                    return room.map(|room| room.send(event)).is_err();
                }
                gone = carrying => if gone { return true },
            }
        }
    }

    fn introduce(&mut self) -> Hello {
        Hello {
            protocol: cutover_proto::PROTOCOL,
            oldest_protocol: cutover_proto::OLDEST_PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_id: self.host.clone(),
            machine_id: self.machine_id.clone(),
            ..(self.hello)()
        }
    }
}

/// Carries one message of the loop's into the stream; true when the loop is gone.
async fn carry(outgoing: &mut Words, sender: &mpsc::Sender<FromAgent>) -> bool {
    // Room first: a message that was taken is never lost when another branch wins.
    let Ok(room) = sender.reserve().await else {
        return std::future::pending().await;
    };
    match outgoing.next().await {
        Some(message) => {
            room.send(message);
            false
        }
        None => true,
    }
}

/// Drops what the loop says while there is no stream; ends when the loop is gone.
async fn drop_all(outgoing: &mut Words) {
    while outgoing.next().await.is_some() {}
}

fn message(what: from_agent::What) -> FromAgent {
    FromAgent { what: Some(what) }
}

fn lost(status: &tonic::Status, connection: &Connection) -> Reason {
    match connection.refusal() {
        Some(refusal) => Reason::of_refusal(&refusal),
        None => Reason::of_status(status),
    }
}
