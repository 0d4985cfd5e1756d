//! A coordinator that plays a script: real gRPC, real mTLS, scripted answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use cutover_proto::v1::operator_server::{Operator, OperatorServer};
use cutover_proto::v1::*;
use cutover_tests::scratch::Scratch;
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, async_trait};

use super::network::Wire;

/// What a Watch says, step by step.
#[derive(Clone)]
pub(crate) enum Step {
    /// The rollout stands so.
    View(Box<RolloutView>),
    /// Nothing, until the test says go.
    Wait,
    /// The wire is cut.
    Cut,
    /// The stream ends as if all were said.
    End,
}

impl From<RolloutView> for Step {
    fn from(view: RolloutView) -> Self {
        Self::View(Box::new(view))
    }
}

/// What the coordinator will say, and what it was asked.
#[derive(Default)]
pub(crate) struct Script {
    /// Answers to Deploy, Rollback, Remove and DrainHost, in turn; the last one again and again.
    pub(crate) decisions: VecDeque<Result<DeployResponse, Status>>,
    /// So many first answers are lost: the wire is cut when they should be sent.
    pub(crate) lose: usize,
    /// Each Watch in turn.
    pub(crate) watches: VecDeque<Vec<Step>>,
    /// What AbortRollout says.
    pub(crate) aborted: RolloutView,
    pub(crate) rollouts: Vec<RolloutView>,
    pub(crate) plan: PlanResponse,
    pub(crate) status: StatusResponse,
    pub(crate) containers: ContainersResponse,
    pub(crate) history: HistoryResponse,
    pub(crate) events: Vec<EventRecord>,
    pub(crate) logs: Vec<LogLine>,
    /// Each ListHosts in turn; the last one again and again.
    pub(crate) hosts: VecDeque<Vec<HostView>>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) token: MakeTokenResponse,
    /// Said instead of everything else.
    pub(crate) refusal: Option<Status>,
    /// What came, a line each: the method, and what matters of the request.
    pub(crate) asked: Vec<String>,
    pub(crate) deploys: Vec<DeployRequest>,
}

/// The server, its wire, and what an operator needs to speak with it.
pub(crate) struct Peer {
    script: Arc<Mutex<Script>>,
    pub(crate) wire: Wire,
    pub(crate) scratch: Scratch,
    /// A Watch began, or reached its `Wait`.
    pub(crate) reached: Arc<Notify>,
    go: Arc<Notify>,
}

impl Peer {
    /// Starts one, and writes `ca.pem`, `cert.pem` and `key.pem` of the operator "test".
    pub(crate) async fn start(script: Script) -> Self {
        let scratch = Scratch::new("cli");
        let server = certificates(&scratch);
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has free ports");
        let wire = Wire::to(listener.local_addr().expect("it is bound")).await;
        let peer = Self {
            script: Arc::new(Mutex::new(script)),
            wire,
            scratch,
            reached: Arc::new(Notify::new()),
            go: Arc::new(Notify::new()),
        };
        let play = Play {
            script: Arc::clone(&peer.script),
            wire: peer.wire.clone(),
            reached: Arc::clone(&peer.reached),
            go: Arc::clone(&peer.go),
        };
        tokio::spawn(async move {
            Server::builder()
                .tls_config(server)
                .expect("good certificates")
                .add_service(OperatorServer::new(play))
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
        });
        peer
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script
            .lock()
            .expect("no test panics while it holds it")
    }

    /// Ends one `Wait`.
    pub(crate) fn go(&self) {
        self.go.notify_one();
    }
}

fn certificates(scratch: &Scratch) -> ServerTlsConfig {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("signed").pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let leaf = |uri: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("good names");
        let uri = uri.try_into().expect("ASCII");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let key = rcgen::KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &issuer).expect("signed");
        (signed.pem(), key.serialize_pem())
    };
    let write =
        |name: &str, text: &str| std::fs::write(scratch.join(name), text).expect("writable");
    let (cert, key) = leaf("cutover://operator/test", &[]);
    write("ca.pem", &ca_pem);
    write("cert.pem", &cert);
    write("key.pem", &key);
    let (cert, key) = leaf("cutover://coordinator", &["127.0.0.1"]);
    ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(ca_pem))
}

struct Play {
    script: Arc<Mutex<Script>>,
    wire: Wire,
    reached: Arc<Notify>,
    go: Arc<Notify>,
}

type Answer<T> = Result<Response<T>, Status>;
type Said<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Play {
    /// Writes down what was asked, and answers from the script.
    fn say<T>(&self, asked: String, answer: impl FnOnce(&mut Script) -> T) -> Answer<T> {
        let mut script = self
            .script
            .lock()
            .expect("no test panics while it holds it");
        script.asked.push(asked);
        match &script.refusal {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(Response::new(answer(&mut script))),
        }
    }

    async fn decide(&self, asked: String) -> Answer<DeployResponse> {
        let answer = self.say(asked, |script| {
            let lost = script.lose > 0;
            script.lose = script.lose.saturating_sub(1);
            let last = script.decisions.len() <= 1;
            let next = script.decisions.front().cloned().expect("a decision");
            if !last {
                script.decisions.pop_front();
            }
            (lost, next)
        })?;
        let (lost, answer) = answer.into_inner();
        if lost {
            self.wire.cut();
            std::future::pending::<()>().await;
        }
        answer.map(Response::new)
    }
}

#[async_trait]
impl Operator for Play {
    type WatchStream = Said<RolloutView>;
    type EventsStream = Said<EventRecord>;
    type LogsStream = Said<LogLine>;

    async fn deploy(&self, request: Request<DeployRequest>) -> Answer<DeployResponse> {
        let request = request.into_inner();
        let asked = format!("deploy {} {} services", request.app, request.services.len());
        self.script
            .lock()
            .expect("not poisoned")
            .deploys
            .push(request);
        self.decide(asked).await
    }

    async fn plan(&self, request: Request<DeployRequest>) -> Answer<PlanResponse> {
        self.say(format!("plan {}", request.get_ref().app), |script| {
            script.plan.clone()
        })
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Answer<DeployResponse> {
        let request = request.into_inner();
        self.decide(format!(
            "rollback {} to {} because {:?}",
            request.service, request.to_revision, request.reason
        ))
        .await
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Answer<DeployResponse> {
        self.decide(format!("remove {}", request.into_inner().what.join(" ")))
            .await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let asked = format!("watch {}", request.get_ref().rollouts.join(" "));
        let steps = self
            .say(asked, |script| script.watches.pop_front())?
            .into_inner();
        let steps = steps.unwrap_or_else(|| vec![Step::Wait]);
        let (wire, reached, go) = (
            self.wire.clone(),
            Arc::clone(&self.reached),
            Arc::clone(&self.go),
        );
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for step in steps {
                match step {
                    Step::View(view) => {
                        if sender.send(Ok(*view)).await.is_err() {
                            return;
                        }
                    }
                    Step::Wait => {
                        reached.notify_one();
                        go.notified().await;
                    }
                    Step::Cut => {
                        // The view before it must have left: the client has read it when the channel is empty.
                        while sender.capacity() == 0 {
                            tokio::task::yield_now().await;
                        }
                        wire.cut();
                    }
                    Step::End => return,
                }
            }
            reached.notify_one();
            sender.closed().await; // stays open as long as somebody listens
        });
        let stream = futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|item| (item, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_rollouts(
        &self,
        request: Request<ListRolloutsRequest>,
    ) -> Answer<ListRolloutsResponse> {
        let request = request.into_inner();
        self.say(
            format!(
                "list_rollouts {:?} open {}",
                request.service, request.open_only
            ),
            |script| ListRolloutsResponse {
                rollouts: script.rollouts.clone(),
            },
        )
    }

    async fn show_rollout(&self, request: Request<RolloutRequest>) -> Answer<RolloutView> {
        self.say(format!("show_rollout {}", request.get_ref().id), |script| {
            script.rollouts[0].clone()
        })
    }

    async fn pause_rollout(&self, request: Request<RolloutRequest>) -> Answer<RolloutView> {
        self.say(format!("pause {}", request.get_ref().id), |script| {
            script.rollouts[0].clone()
        })
    }

    async fn resume_rollout(&self, request: Request<RolloutRequest>) -> Answer<RolloutView> {
        self.say(format!("resume {}", request.get_ref().id), |script| {
            script.rollouts[0].clone()
        })
    }

    async fn abort_rollout(&self, request: Request<RolloutRequest>) -> Answer<RolloutView> {
        let request = request.into_inner();
        self.say(
            format!("abort {} because {:?}", request.id, request.reason),
            |script| script.aborted.clone(),
        )
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        self.say(format!("status {:?}", request.get_ref().app), |script| {
            script.status.clone()
        })
    }

    async fn containers(&self, request: Request<ServiceSelector>) -> Answer<ContainersResponse> {
        self.say(
            format!("containers {:?}", request.get_ref().service),
            |script| script.containers.clone(),
        )
    }

    async fn history(&self, request: Request<ServiceSelector>) -> Answer<HistoryResponse> {
        self.say(format!("history {}", request.get_ref().service), |script| {
            script.history.clone()
        })
    }

    async fn events(&self, request: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        let events = self.say(
            format!("events tail {}", request.get_ref().tail),
            |script| script.events.clone(),
        )?;
        let stream = futures::stream::iter(events.into_inner().into_iter().map(Ok));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn logs(&self, request: Request<LogsQuery>) -> Answer<Self::LogsStream> {
        let query = request.into_inner();
        let lines = self.say(
            format!("logs {} tail {}", query.service, query.tail),
            |script| script.logs.clone(),
        )?;
        let stream = futures::stream::iter(lines.into_inner().into_iter().map(Ok));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn make_token(&self, request: Request<MakeTokenRequest>) -> Answer<MakeTokenResponse> {
        self.say(
            format!("make_token {:?}", request.get_ref().labels),
            |script| script.token.clone(),
        )
    }

    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Answer<ListHostsResponse> {
        self.say("list_hosts".to_owned(), |script| {
            let last = script.hosts.len() <= 1;
            let hosts = script.hosts.front().cloned().unwrap_or_default();
            if !last {
                script.hosts.pop_front();
            }
            ListHostsResponse { hosts }
        })
    }

    async fn label_host(&self, request: Request<LabelHostRequest>) -> Answer<HostView> {
        let request = request.into_inner();
        let asked = format!(
            "label {} {:?} remove {:?}",
            request.host, request.set, request.remove
        );
        self.say(asked, |_| HostView {
            host: request.host,
            ..HostView::default()
        })
    }

    async fn cordon_host(&self, request: Request<CordonHostRequest>) -> Answer<HostView> {
        let request = request.into_inner();
        self.say(
            format!("cordon {} {}", request.host, request.cordon),
            |_| HostView {
                host: request.host,
                ..HostView::default()
            },
        )
    }

    async fn drain_host(&self, request: Request<HostRequest>) -> Answer<DeployResponse> {
        self.decide(format!("drain {}", request.get_ref().host))
            .await
    }

    async fn remove_host(&self, request: Request<HostRequest>) -> Answer<HostView> {
        let request = request.into_inner();
        self.say(
            format!("remove_host {} force {}", request.host, request.force),
            |_| HostView {
                host: request.host,
                ..HostView::default()
            },
        )
    }

    async fn doctor(&self, _: Request<DoctorRequest>) -> Answer<DoctorResponse> {
        self.say("doctor".to_owned(), |script| DoctorResponse {
            findings: script.findings.clone(),
        })
    }
}
