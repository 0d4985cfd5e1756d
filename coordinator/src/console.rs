//! The operators' service: each method is a question to the loop.
//!
//! Keeps true: who asks is the certificate's name; a refusal has the status that
//! `operator.proto` promises for it. Decides nothing.

use std::pin::Pin;

use cutover_proto::identity::Identity;
use cutover_proto::v1;
use cutover_proto::v1::operator_server::Operator;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::helm::{Question, Refusal, Reply, Steer, Wake, Watched};
use crate::store::{Key, Store, Table};

/// Rollouts in one watch.
const WATCHED: usize = 256;
/// Events that are shown when nobody says how many, and read at a time.
const EVENTS: usize = 50;
const EVENTS_PAGE: usize = 256;

/// The service of the main gate that is for operators.
pub struct Console {
    helm: mpsc::Sender<Wake>,
    store: Store,
    stop: CancellationToken,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Console {
    /// Asks the loop behind `helm`; its streams end with `stop`.
    #[must_use]
    pub fn new(helm: mpsc::Sender<Wake>, store: Store, stop: CancellationToken) -> Self {
        Self { helm, store, stop }
    }

    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.helm
            .send(Wake::Asked(question(reply)))
            .await
            .map_err(|_| status(Refusal::Stopping))?;
        answer
            .await
            .map_err(|_| status(Refusal::Stopping))?
            .map_err(status)
    }

    async fn steer(
        &self,
        steer: Steer,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<v1::RolloutView>, Status> {
        let who = who(&request)?;
        let request = request.into_inner();
        self.ask(|reply| Question::Steer(who, steer, request, reply))
            .await
            .map(Response::new)
    }

    /// A stream that ends when the coordinator stops.
    fn streamed<T: 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Streamed<T>> {
        let stop = self.stop.clone();
        Response::new(Box::pin(stream.take_until(stop.cancelled_owned())))
    }
}

fn who<T>(request: &Request<T>) -> Result<String, Status> {
    match request.extensions().get::<Identity>() {
        Some(Identity::Operator(name)) => Ok(name.to_string()),
        Some(Identity::Agent(_) | Identity::Coordinator) | None => {
            Err(Status::permission_denied("this is for operators alone"))
        }
    }
}

fn status(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Invalid(_) => Status::invalid_argument(text),
        Refusal::NotFound(_) => Status::not_found(text),
        Refusal::Refused(_) | Refusal::Busy { .. } => Status::failed_precondition(text),
        Refusal::Store(_) => Status::internal(text),
        Refusal::Stopping => Status::unavailable(text),
    }
}

macro_rules! asked {
    ($self:ident, $request:ident, $question:ident) => {{
        who(&$request)?;
        let request = $request.into_inner();
        $self
            .ask(|reply| Question::$question(request, reply))
            .await
            .map(Response::new)
    }};
    ($self:ident, $request:ident, $question:ident, by_whom) => {{
        let who = who(&$request)?;
        let request = $request.into_inner();
        $self
            .ask(|reply| Question::$question(who, request.into(), reply))
            .await
            .map(Response::new)
    }};
}

#[tonic::async_trait]
impl Operator for Console {
    async fn deploy(
        &self,
        request: Request<v1::DeployRequest>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        asked!(self, request, Deploy, by_whom)
    }

    async fn plan(
        &self,
        request: Request<v1::DeployRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        asked!(self, request, Plan, by_whom)
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        asked!(self, request, Rollback, by_whom)
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        asked!(self, request, Remove, by_whom)
    }

    type WatchStream = Streamed<v1::RolloutView>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        who(&request)?;
        let ids = request.into_inner().rollouts;
        if ids.len() > WATCHED {
            return Err(Status::invalid_argument(format!(
                "at most {WATCHED} rollouts can be watched at once"
            )));
        }
        let watched = self.ask(|reply| Question::Watch(ids, reply)).await?;
        let streams = watched.into_iter().map(|watched| match watched {
            Watched::Over(view) => futures::stream::iter([Ok(*view)]).boxed(),
            Watched::Open(receiver) => until_over(WatchStream::new(receiver)).boxed(),
        });
        Ok(self.streamed(futures::stream::select_all(streams)))
    }

    async fn list_rollouts(
        &self,
        request: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::ListRolloutsResponse>, Status> {
        asked!(self, request, ListRollouts)
    }

    async fn show_rollout(
        &self,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<v1::RolloutView>, Status> {
        who(&request)?;
        let id = request.into_inner().id;
        self.ask(|reply| Question::ShowRollout(id, reply))
            .await
            .map(Response::new)
    }

    async fn pause_rollout(
        &self,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<v1::RolloutView>, Status> {
        self.steer(Steer::Pause, request).await
    }

    async fn resume_rollout(
        &self,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<v1::RolloutView>, Status> {
        self.steer(Steer::Resume, request).await
    }

    async fn abort_rollout(
        &self,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<v1::RolloutView>, Status> {
        self.steer(Steer::Abort, request).await
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        asked!(self, request, Status)
    }

    async fn containers(
        &self,
        request: Request<v1::ServiceSelector>,
    ) -> Result<Response<v1::ContainersResponse>, Status> {
        asked!(self, request, Containers)
    }

    async fn history(
        &self,
        request: Request<v1::ServiceSelector>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        asked!(self, request, History)
    }

    type EventsStream = Streamed<v1::EventRecord>;

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        who(&request)?;
        let wanted = request.into_inner();
        // Asked first, so that nothing falls between what is read and what is followed.
        let mut news = self.ask(Question::Events).await?;
        let store = self.store.clone();
        let stream = async_stream::try_stream! {
            let tail = if wanted.tail == 0 { EVENTS } else { wanted.tail as usize };
            let (mut last, first) = newest(&store, &wanted, tail)?;
            for event in first {
                yield event;
            }
            while wanted.follow && news.changed().await.is_ok() {
                loop {
                    let page = after(&store, last)?;
                    let more = page.len() == EVENTS_PAGE;
                    for event in page {
                        last = event.number;
                        if fits(&wanted, &event) {
                            yield event;
                        }
                    }
                    if !more {
                        break;
                    }
                }
            }
        };
        Ok(self.streamed(stream))
    }

    type LogsStream = Streamed<v1::LogLine>;

    async fn logs(
        &self,
        request: Request<v1::LogsQuery>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        who(&request)?;
        let query = request.into_inner();
        let lines = self.ask(|reply| Question::Logs(query, reply)).await?;
        Ok(self.streamed(ReceiverStream::new(lines).map(Ok)))
    }

    async fn make_token(
        &self,
        request: Request<v1::MakeTokenRequest>,
    ) -> Result<Response<v1::MakeTokenResponse>, Status> {
        asked!(self, request, MakeToken, by_whom)
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        asked!(self, request, ListHosts)
    }

    async fn label_host(
        &self,
        request: Request<v1::LabelHostRequest>,
    ) -> Result<Response<v1::HostView>, Status> {
        asked!(self, request, LabelHost, by_whom)
    }

    async fn cordon_host(
        &self,
        request: Request<v1::CordonHostRequest>,
    ) -> Result<Response<v1::HostView>, Status> {
        asked!(self, request, CordonHost, by_whom)
    }

    async fn drain_host(
        &self,
        request: Request<v1::HostRequest>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        asked!(self, request, DrainHost, by_whom)
    }

    async fn remove_host(
        &self,
        request: Request<v1::HostRequest>,
    ) -> Result<Response<v1::HostView>, Status> {
        asked!(self, request, RemoveHost, by_whom)
    }

    async fn doctor(
        &self,
        request: Request<v1::DoctorRequest>,
    ) -> Result<Response<v1::DoctorResponse>, Status> {
        who(&request)?;
        self.ask(Question::Doctor).await.map(Response::new)
    }
}

/// Views up to and including the one that says that it is over.
fn until_over(
    views: impl Stream<Item = v1::RolloutView> + Send + 'static,
) -> impl Stream<Item = Result<v1::RolloutView, Status>> + Send + 'static {
    async_stream::stream! {
        let mut views = std::pin::pin!(views);
        while let Some(view) = views.next().await {
            let over = view.outcome() != v1::Outcome::Unspecified;
            yield Ok(view);
            if over {
                return;
            }
        }
    }
}

fn fits(wanted: &v1::EventsRequest, event: &v1::EventRecord) -> bool {
    let same = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    same(&wanted.service, &event.service)
        && same(&wanted.host, &event.host)
        && same(&wanted.rollout, &event.rollout)
}

/// The newest events that fit, oldest first, and the number of the newest of all.
fn newest(
    store: &Store,
    wanted: &v1::EventsRequest,
    most: usize,
) -> Result<(u64, Vec<v1::EventRecord>), Status> {
    let mut found = Vec::new();
    let mut from: Option<Key> = None;
    let mut newest = 0;
    loop {
        let page = store
            .scan_back::<v1::EventRecord>(Table::Events, &Key::all(), from.as_ref(), EVENTS_PAGE)
            .map_err(unread)?;
        let count = page.len();
        let mut last = 0;
        for event in page.into_iter().map(numbered) {
            newest = newest.max(event.number);
            last = event.number;
            if fits(wanted, &event) && found.len() < most {
                found.push(event);
            }
        }
        if count < EVENTS_PAGE || found.len() >= most || last <= 1 {
            found.reverse();
            return Ok((newest, found));
        }
        from = Some(Key::at(last - 1));
    }
}

fn after(store: &Store, last: u64) -> Result<Vec<v1::EventRecord>, Status> {
    let page = store
        .scan::<v1::EventRecord>(
            Table::Events,
            &Key::all(),
            Some(&Key::at(last + 1)),
            EVENTS_PAGE,
        )
        .map_err(unread)?;
    Ok(page.into_iter().map(numbered).collect())
}

fn numbered((key, mut event): (Key, v1::EventRecord)) -> v1::EventRecord {
    event.number = key.parts().number().unwrap_or(event.number);
    event
}

fn unread(error: crate::store::ReadError) -> Status {
    Status::internal(cutover_daemon::logging::chain(&error))
}
