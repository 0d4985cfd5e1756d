//! What a caller may ask, checked before any service sees the request.
//!
//! Kept true: whose certificate was taken back or has ended gets no answer, on a
//! connection that still lives too; agents open sessions and do nothing else;
//! everything else is for operators. A service that is added later is closed to
//! agents without anybody having to think of it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use cutover_proto::identity::Identity;
use cutover_proto::tls::DenyList;
use futures::future::{Either, Ready, ready};
use tonic::Status;
use tonic::server::NamedService;
use tower::{Layer, Service};

use super::connections::Caller;
use super::refusals::Refusals;

type AgentLink = cutover_proto::v1::agent_link_server::AgentLinkServer<crate::roster::Link>;

#[derive(Debug, thiserror::Error)]
enum NotPermitted {
    #[error("{0} is for agents alone")]
    AgentsOnly(String),
    #[error("{0} is for operators alone")]
    OperatorsOnly(String),
    #[error("the certificate was revoked")]
    Revoked,
    #[error("the certificate has expired")]
    Expired,
    #[error("there is no certificate")]
    Nobody,
}

/// Checks every request of the main gate.
#[derive(Clone)]
pub(super) struct Permit {
    pub(super) denied: Arc<DenyList>,
    pub(super) refusals: Arc<Refusals>,
}

impl Permit {
    fn check(&self, caller: Option<&Caller>, path: &str) -> Result<Identity, NotPermitted> {
        let caller = caller.ok_or(NotPermitted::Nobody)?;
        if self.denied.denies(caller.serial()) {
            return Err(NotPermitted::Revoked);
        }
        if SystemTime::now() > caller.until() {
            return Err(NotPermitted::Expired);
        }
        let service = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        let for_agents = service == <AgentLink as NamedService>::NAME;
        match caller.identity() {
            who @ Identity::Agent(_) if for_agents => Ok(who.clone()),
            who @ Identity::Operator(_) if !for_agents => Ok(who.clone()),
            Identity::Operator(_) => Err(NotPermitted::AgentsOnly(path.to_owned())),
            Identity::Agent(_) | Identity::Coordinator if for_agents => {
                Err(NotPermitted::AgentsOnly(path.to_owned()))
            }
            Identity::Agent(_) | Identity::Coordinator => {
                Err(NotPermitted::OperatorsOnly(path.to_owned()))
            }
        }
    }
}

impl<S> Layer<S> for Permit {
    type Service = Permitted<S>;

    fn layer(&self, inner: S) -> Permitted<S> {
        Permitted {
            inner,
            permit: self.clone(),
        }
    }
}

/// A service behind the check.
#[derive(Clone)]
pub(super) struct Permitted<S> {
    inner: S,
    permit: Permit,
}

impl<S, B, R> Service<http::Request<B>> for Permitted<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        match self.permit.check(caller, request.uri().path()) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                Either::Left(self.inner.call(request))
            }
            Err(reason) => {
                if let Some(caller) = caller {
                    let who = caller.identity().to_string();
                    self.permit
                        .refusals
                        .note("main", caller.peer(), &who, &reason);
                }
                let status = match reason {
                    NotPermitted::AgentsOnly(_) | NotPermitted::OperatorsOnly(_) => {
                        Status::permission_denied(reason.to_string())
                    }
                    NotPermitted::Revoked | NotPermitted::Expired | NotPermitted::Nobody => {
                        Status::unauthenticated(reason.to_string())
                    }
                };
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}
