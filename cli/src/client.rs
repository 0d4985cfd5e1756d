//! The way to the coordinator: one connection, questions with a deadline, and
//! errors that say what was being done, to what, why not, and what to do next.
//!
//! Kept true: a question whose answer was lost is never called refused, and
//! "nothing was accepted" (exit code 5) is said only when that is known.

use std::sync::Arc;
use std::time::Duration;

use cutover_proto::tls::{Connection, Dial, DialError, random, refusal_in};
use cutover_proto::v1::operator_client::OperatorClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::context::Context;
use crate::failure::{Failure, Kind};

/// For an answer; the coordinator answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// For the answer to a release: a host looks its images up before (within 120 s).
const DECISION_WITHIN: Duration = Duration::from_secs(150);
/// Before a question whose answer was lost is asked again, and between two attempts to reach somebody.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A coordinator that died is started again within this.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// So many answers may be lost before it is called not known.
const ASKS: u32 = 5;
/// The largest answer; a fleet of 1,000 hosts with a full timeline is far below it.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The generated client.
pub(crate) type Api = OperatorClient<Channel>;

/// What follows when an answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Nothing: it only looked.
    Look,
    /// Nothing; but the answer may need registries.
    Study,
    /// It may have been accepted.
    Change,
}

/// A connection to the coordinator.
pub(crate) struct Client {
    dial: Dial,
    connection: Connection,
    api: Api,
}

impl Client {
    /// Connects, as the context says.
    pub(crate) async fn connect(context: &Context) -> Result<Self, Failure> {
        let dial = Dial::new(context.address.clone(), Arc::new(context.tls()?));
        let connection = dial.connect().await.map_err(not_connected)?;
        let api = api(&connection);
        Ok(Self {
            dial,
            connection,
            api,
        })
    }

    /// Connects anew.
    pub(crate) async fn reconnect(&mut self) -> Result<(), Failure> {
        self.connection = self.dial.connect().await.map_err(not_connected)?;
        self.api = api(&self.connection);
        Ok(())
    }

    /// For streams.
    pub(crate) fn api(&mut self) -> &mut Api {
        &mut self.api
    }

    /// Asks one thing; `doing` is what for, in words.
    pub(crate) async fn ask<Q, A>(
        &mut self,
        asking: Asking,
        doing: &str,
        question: Q,
        call: impl AsyncFnOnce(&mut Api, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let call = call(&mut self.api, Request::new(question));
        let within = match asking {
            Asking::Look | Asking::Change => ANSWER_WITHIN,
            Asking::Study => DECISION_WITHIN,
        };
        match tokio::time::timeout(within, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.refused(asking, doing, status)),
            Err(_) => Err(self.silent(asking, doing, within)),
        }
    }

    /// Asks for a change that carries a request id: again after a lost answer, over a new connection (a coordinator
    /// that died is back in a moment); the id keeps it one change.
    pub(crate) async fn ask_until_known<Q: Clone, A>(
        &mut self,
        doing: &str,
        question: Q,
        call: impl AsyncFn(&mut Api, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let mut asks = 1;
        loop {
            let asked = call(&mut self.api, Request::new(question.clone()));
            let status = match tokio::time::timeout(DECISION_WITHIN, asked).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(self.silent(Asking::Change, doing, DECISION_WITHIN)),
            };
            // One that is just starting knows no more than one that is gone.
            let starting = asks > 1 && status.code() == Code::Unavailable;
            if !self.was_lost(&status) && !starting {
                return Err(self.refused(Asking::Change, doing, status));
            }
            if asks == ASKS {
                return Err(lost(doing, status));
            }
            asks += 1;
            self.reach_again(doing).await?;
        }
    }

    /// Connects anew, as soon as there is somebody.
    async fn reach_again(&mut self, doing: &str) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + REACHED_WITHIN;
        loop {
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
            match self.reconnect().await {
                Ok(()) => return Ok(()),
                Err(failure)
                    if failure.kind != Kind::Unreachable
                        || tokio::time::Instant::now() >= until =>
                {
                    return Err(lost(doing, failure));
                }
                Err(_) => {}
            }
        }
    }

    /// Whether the connection ended before the answer came, and not the coordinator said no.
    pub(crate) fn was_lost(&self, status: &Status) -> bool {
        self.refusal(status).is_none() && std::error::Error::source(status).is_some()
    }

    /// What a status means.
    pub(crate) fn refused(&self, asking: Asking, doing: &str, status: Status) -> Failure {
        let address = self.dial.address();
        if let Some(reason) = self.refusal(&status) {
            let what = format!("{doing}: {address} refused us: {reason}");
            return Failure::new(Kind::CertificateRefused, what).next(CERTIFICATE);
        }
        if self.was_lost(&status) {
            return match asking {
                Asking::Change => lost(doing, status),
                Asking::Look | Asking::Study => {
                    let what = format!("{doing}: the connection to {address} was lost");
                    Failure::because(Kind::Unreachable, what, status).next(UNREACHABLE)
                }
            };
        }
        let (kind, next) = meaning(status.code());
        let said = status.message();
        let what = if said.is_empty() {
            format!("{doing}: the coordinator said {:?}", status.code())
        } else {
            format!("{doing}: {said}")
        };
        Failure::new(kind, what).next(next)
    }

    fn refusal(&self, status: &Status) -> Option<cutover_proto::tls::CertificateRefusal> {
        refusal_in(status).or_else(|| {
            // The alert may be seen by the connection alone.
            std::error::Error::source(status)?;
            self.connection.refusal()
        })
    }

    fn silent(&self, asking: Asking, doing: &str, within: Duration) -> Failure {
        let seconds = within.as_secs();
        let address = self.dial.address();
        let what = format!("{doing}: no answer from {address} within {seconds} s");
        match asking {
            Asking::Change => lost(doing, Failure::new(Kind::LostAnswer, what)),
            Asking::Look | Asking::Study => Failure::new(Kind::Unreachable, what).next(UNREACHABLE),
        }
    }
}

const UNREACHABLE: &str = "see that cutover-coordinator runs there and that the port is open; `cutover context show` says which one is meant";
const CERTIFICATE: &str = "`cutover doctor` says how long the certificate holds; `sudo cutover-coordinator operator NAME` on the coordinator's machine makes a new one";

/// An id for a request that nobody else chooses.
pub(crate) fn request_id() -> Result<String, Failure> {
    let bytes: [u8; 16] = random()
        .map_err(|error| Failure::because(Kind::Unexpected, "choosing a request id", error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn api(connection: &Connection) -> Api {
    OperatorClient::new(connection.channel.clone()).max_decoding_message_size(MAX_ANSWER)
}

fn lost(doing: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    let what = format!("{doing}: the answer was lost, so it is not known whether it was accepted");
    Failure::because(Kind::LostAnswer, what, cause)
        .next("`cutover rollout ls` and `cutover events` say what is so")
}

fn not_connected(error: DialError) -> Failure {
    let (kind, next) = match &error {
        DialError::Unreachable { .. }
        | DialError::TimedOut { .. }
        | DialError::Tls { .. }
        | DialError::Http { .. } => (Kind::Unreachable, UNREACHABLE),
        DialError::Refused { .. } => (Kind::CertificateRefused, CERTIFICATE),
        DialError::UnknownCa { .. }
        | DialError::WrongFingerprint { .. }
        | DialError::WrongName { .. }
        | DialError::ServerExpired { .. }
        | DialError::NotCoordinator { .. }
        | DialError::Nobody { .. } => (
            Kind::CertificateRefused,
            "see that the context's address and CA are this coordinator's: `cutover context show`; if its CA was replaced, `sudo cutover-coordinator operator NAME` on its machine writes the context anew",
        ),
    };
    Failure::because(kind, "reaching the coordinator", error).next(next)
}

fn meaning(code: Code) -> (Kind, &'static str) {
    match code {
        Code::InvalidArgument | Code::OutOfRange => (Kind::Usage, ""),
        Code::NotFound => (
            Kind::NotFound,
            "`cutover status`, `cutover rollout ls` and `cutover host ls` say what there is",
        ),
        Code::FailedPrecondition | Code::AlreadyExists | Code::ResourceExhausted => {
            (Kind::Refused, "")
        }
        Code::Aborted => (
            Kind::Refused,
            "try again: something else changed it meanwhile",
        ),
        Code::PermissionDenied => (
            Kind::PermissionDenied,
            "ask somebody who may, or for the permission",
        ),
        Code::Unauthenticated => (Kind::CertificateRefused, CERTIFICATE),
        Code::Unavailable => (
            Kind::Unreachable,
            "try again: the coordinator is starting or stopping",
        ),
        Code::Unimplemented => (
            Kind::Unexpected,
            "the coordinator is older than this program: upgrade it first",
        ),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::DataLoss => (Kind::Unexpected, "the coordinator's log says more"),
    }
}
