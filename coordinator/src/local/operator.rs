//! Asking the coordinator of this machine as its operator, through the same gate as everybody.
//!
//! Kept true: every wait ends, and then says what was waited for and which
//! journal to read; what waiting can't mend is not waited for.

use std::sync::Arc;
use std::time::Duration;

use cutover_core::HostId;
use cutover_proto::tls::{Address, ClientTls, Credentials, Dial, DialError, TlsError, Trust};
use cutover_proto::v1::operator_client::OperatorClient;
use cutover_proto::v1::{ListHostsRequest, MakeTokenRequest};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// It answers from memory, or something is wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The token is used at once.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// Why the coordinator did not help.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// TLS could not be set up.
    #[error("setting up TLS for the operator")]
    Tls(#[from] TlsError),
    /// It did not answer in time.
    #[error(
        "waited {seconds} s for the coordinator to answer at {address}; `journalctl -u cutover-coordinator -n 50` says why \
         it does not; then run this again"
    )]
    Silent {
        /// Where.
        address: Address,
        /// How long.
        seconds: u64,
        /// What came last.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else answers there, or it does not take the certificate.
    #[error(
        "the coordinator at {address} can't be used; `ss -ltnp 'sport = :{port}'` says who listens there", port = address.port()
    )]
    Dial {
        /// Where.
        address: Address,
        /// Why not.
        #[source]
        source: Box<DialError>,
    },
    /// It said no.
    #[error(
        "{doing}: the coordinator said {said:?}; `journalctl -u cutover-coordinator -n 50` says more"
    )]
    Refused {
        /// What was wanted.
        doing: &'static str,
        /// Its words.
        said: String,
    },
    /// The host did not get ready.
    #[error(
        "waited {seconds} s for the host {host} to be ready, and it is {state}; `journalctl -u cutover-agent -n 50` says \
         why; then run this again"
    )]
    NotReady {
        /// Which.
        host: HostId,
        /// How long.
        seconds: u64,
        /// How it stands.
        state: String,
    },
    /// Two machines speak for the host.
    #[error(
        "the host {host} is quarantined: {why}; `cutover host rm {host}`, remove the agent's `membership` folder, then run this again"
    )]
    Quarantined {
        /// Which.
        host: HostId,
        /// Why.
        why: String,
    },
}

/// How the coordinator sees this machine.
#[derive(Debug)]
pub(super) struct Seen {
    /// It is a host, and its agent is connected; or somebody counted it out, which is theirs to end.
    pub(super) connected: bool,
    state: String,
    why: String,
}

/// The way to ask.
pub(super) struct Operator {
    api: OperatorClient<Channel>,
}

impl Operator {
    /// Connects as soon as the coordinator answers.
    pub(super) async fn reach(
        address: Address,
        credentials: &Credentials,
        trust: &Trust,
        within: Duration,
    ) -> Result<Self, OperatorError> {
        let until = Instant::now() + within;
        let dial = Dial::new(
            address.clone(),
            Arc::new(ClientTls::mutual(credentials, trust)?),
        );
        loop {
            let failed: Box<dyn std::error::Error + Send + Sync> = match dial.connect().await {
                Ok(connection) => {
                    let mut operator = Self {
                        api: OperatorClient::new(connection.channel),
                    };
                    match operator.hosts("").await {
                        Ok(_) => return Ok(operator),
                        Err(status) if starts(&status) => status.into(),
                        Err(status) => return Err(refused("asking for the hosts", &status)),
                    }
                }
                Err(source) if waits(&source) => source.into(),
                Err(source) => {
                    let source = Box::new(source);
                    return Err(OperatorError::Dial { address, source });
                }
            };
            if Instant::now() >= until {
                return Err(OperatorError::Silent {
                    address,
                    seconds: within.as_secs(),
                    source: failed,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A token that one machine may use, now.
    pub(super) async fn token(&mut self) -> Result<String, OperatorError> {
        let request = MakeTokenRequest {
            uses: 1,
            expires_seconds: TOKEN_LIFE.as_secs(),
            labels: std::collections::HashMap::new(),
        };
        let asked = timeout(ANSWER_WITHIN, self.api.make_token(request)).await;
        let made = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("nothing in time")));
        match made {
            Ok(made) => Ok(made.into_inner().token),
            Err(status) => Err(refused("making a token", &status)),
        }
    }

    /// How it sees the host; `None`: it knows none of that name.
    pub(super) async fn sees(&mut self, host: &HostId) -> Result<Option<Seen>, OperatorError> {
        let hosts = self.hosts(host.as_str()).await;
        let hosts = match hosts {
            Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
            hosts => hosts,
        };
        let mut hosts = hosts.map_err(|status| refused("asking for the hosts", &status))?;
        let seen = hosts.drain(..).find(|view| view.host == host.as_str());
        Ok(seen.map(|view| Seen {
            connected: matches!(view.state.as_str(), "ready" | "cordoned"),
            state: view.state,
            why: view.why,
        }))
    }

    /// Waits until the host is connected.
    pub(super) async fn wait_for(
        &mut self,
        host: &HostId,
        within: Duration,
    ) -> Result<(), OperatorError> {
        let until = Instant::now() + within;
        loop {
            let state = match self.sees(host).await? {
                Some(seen) if seen.connected => return Ok(()),
                Some(seen) if seen.state == "quarantined" => {
                    return Err(OperatorError::Quarantined {
                        host: host.clone(),
                        why: seen.why,
                    });
                }
                Some(seen) => seen.state,
                None => "not known".to_owned(),
            };
            if Instant::now() >= until {
                return Err(OperatorError::NotReady {
                    host: host.clone(),
                    seconds: within.as_secs(),
                    state,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn hosts(&mut self, host: &str) -> Result<Vec<cutover_proto::v1::HostView>, Status> {
        let request = ListHostsRequest {
            host: host.to_owned(),
        };
        let asked = timeout(ANSWER_WITHIN, self.api.list_hosts(request)).await;
        let answer = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("nothing in time")))?;
        Ok(answer.into_inner().hosts)
    }
}

/// It is not there yet, or its machine is busy.
fn waits(error: &DialError) -> bool {
    matches!(
        error,
        DialError::Unreachable { .. } | DialError::TimedOut { .. } | DialError::Http { .. }
    )
}

/// It is there, and not ready yet.
fn starts(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

fn refused(doing: &'static str, status: &Status) -> OperatorError {
    OperatorError::Refused {
        doing,
        said: status.message().to_owned(),
    }
}
