//! What the coordinator says to this host.

use std::time::Duration;

use cutover_core::swap::{Berth, Event};
use cutover_core::{Moment, ServiceId};
use cutover_daemon::logging::chain;
use cutover_proto::v1::{self, from_agent, to_agent};
use futures::StreamExt;
use prost::Message;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::docker::LogQuery;
use crate::helm::Helm;
use crate::helm::post::Post;
use crate::session::LinkEvent;

/// A piece of a log is sent when it is so large, or when no more lines wait.
const CHUNK_BYTES: usize = 16 * 1024;

impl Helm {
    pub(super) fn linked(&mut self, now: Moment, event: LinkEvent) {
        match event {
            LinkEvent::Connected(welcome) => {
                info!(
                    coordinator = welcome.coordinator_id,
                    epoch = welcome.epoch,
                    "connected to the coordinator"
                );
                self.connected = true;
                self.tell_anew();
                self.lease = Duration::from_secs(u64::from(welcome.lease_seconds.max(1)));
            }
            LinkEvent::Disconnected(reason) => {
                warn!(%reason, "no coordinator; this host goes on by itself");
                self.connected = false;
                self.reading.clear();
            }
            LinkEvent::Renewed => info!("the certificate was renewed"),
            LinkEvent::Said(what) => self.said(now, *what),
        }
    }

    fn said(&mut self, now: Moment, what: to_agent::What) {
        match what {
            to_agent::What::Order(order) => {
                if let Err(why) = self.ordered(now, &order.order) {
                    error!(why, "an order could not be taken");
                }
            }
            to_agent::What::Request(request) => self.requested(request),
            to_agent::What::Cancel(cancel) => drop(self.reading.remove(&cancel.request_id)),
            to_agent::What::Welcome(_) | to_agent::What::Refused(_) => {}
        }
    }

    fn ordered(&mut self, now: Moment, bytes: &[u8]) -> Result<(), String> {
        let wire = v1::SwapOrder::decode(bytes).map_err(|error| chain(&error))?;
        let service: ServiceId = wire.service.parse().map_err(|error| chain(&error))?;
        for revision in &wire.revisions {
            self.parts
                .revisions
                .keep(&service, revision)
                .map_err(|error| chain(&error))?;
        }
        let mut order = wire.order().map_err(|error| chain(&error))?;
        if !self.posts.contains_key(&service) {
            if order.plan.is_none() {
                return Ok(());
            }
            // What the journal lost may run here, and is taken over first. Orders are said again.
            if !self.listing.knows(&service) {
                self.list();
                return Ok(());
            }
            self.posts
                .insert(service.clone(), Post::new(Berth::new(service.clone())));
            // Nothing is done for a berth before its containers were read.
            self.list();
        }
        order.target = self.target_in_a_trial(&service, order.target);
        self.tell(now, &service, Event::Ordered(order));
        Ok(())
    }

    fn requested(&mut self, request: v1::Request) {
        let id = request.id;
        match request.what {
            Some(v1::request::What::Logs(query)) => self.logs(id, query),
            Some(v1::request::What::Question(question)) => self.question(id, question),
            None => self.answer_failed(
                id,
                "this agent does not know that question; is it older than the coordinator?",
            ),
        }
    }

    fn answer_failed(&self, id: u64, why: &str) {
        let piece = v1::answer::Piece::Failed(why.to_owned());
        // One that finds no room is missed by who asked, who does not wait for ever.
        let _ = self.say(from_agent::What::Answer(v1::Answer {
            request_id: id,
            piece: Some(piece),
        }));
    }

    fn question(&self, id: u64, question: Vec<u8>) {
        let (docker, answers) = (self.parts.hands.docker.clone(), self.parts.answers.clone());
        let revisions = self.parts.revisions.clone();
        tokio::spawn(async move {
            let piece = match crate::helm::asked::answered(&docker, &revisions, &question).await {
                Ok(result) => v1::answer::Piece::Done(v1::Done { result }),
                Err(why) => v1::answer::Piece::Failed(why),
            };
            let what = from_agent::What::Answer(v1::Answer {
                request_id: id,
                piece: Some(piece),
            });
            drop(answers.send(v1::FromAgent { what: Some(what) }).await);
        });
    }

    /// Sends the lines of a service's containers as [`v1::LogChunk`]s.
    fn logs(&mut self, id: u64, query: v1::LogsRequest) {
        self.reading.retain(|_, task| !task.is_finished());
        let wanted = |service: &ServiceId, revision: u64| {
            service.app.as_str() == query.app
                && service.service.as_str() == query.service
                && (query.revision == 0 || query.revision == revision)
        };
        let names: Vec<String> = self
            .posts
            .values()
            .flat_map(|post| &post.found)
            .filter(|found| {
                found
                    .identity
                    .as_ref()
                    .is_ok_and(|id| wanted(&id.service, id.revision.get()))
            })
            .map(|found| found.name.clone())
            .collect();
        let line_query = LogQuery {
            follow: query.follow,
            tail: (query.tail > 0).then_some(query.tail),
            since: u32::try_from(query.since_unix_seconds)
                .ok()
                .filter(|since| *since > 0),
        };
        let (docker, answers) = (self.parts.hands.docker.clone(), self.parts.answers.clone());
        let task = tokio::spawn(async move {
            let mut streams = Vec::new();
            for name in names {
                if let Ok(lines) = docker.logs(&name, &line_query).await {
                    streams.push(Box::pin(lines.map(move |line| (name.clone(), line))));
                }
            }
            let mut all = futures::stream::select_all(streams).ready_chunks(64);
            let answer = |piece| v1::FromAgent {
                what: Some(from_agent::What::Answer(v1::Answer {
                    request_id: id,
                    piece: Some(piece),
                })),
            };
            while let Some(lines) = all.next().await {
                let mut chunk = v1::LogChunk::default();
                for (container, line) in lines {
                    let Ok(line) = line else { continue };
                    let stderr = line.output == crate::docker::Output::Err;
                    chunk.lines.push(v1::LogLine {
                        host: String::new(),
                        container,
                        time: line.at,
                        stderr,
                        text: line.text,
                    });
                    if chunk.encoded_len() >= CHUNK_BYTES {
                        let full = std::mem::take(&mut chunk).encode_to_vec();
                        if answers
                            .send(answer(v1::answer::Piece::Chunk(full)))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                }
                let rest = v1::answer::Piece::Chunk(chunk.encode_to_vec());
                if !chunk.lines.is_empty() && answers.send(answer(rest)).await.is_err() {
                    return;
                }
            }
            drop(
                answers
                    .send(answer(v1::answer::Piece::Done(v1::Done {
                        result: Vec::new(),
                    })))
                    .await,
            );
        });
        self.reading.insert(id, AbortOnDropHandle::new(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helm::Wake;
    use crate::helm::bed::{Bed, first, revision, service};
    use crate::session::Reason;
    use cutover_core::Slot;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn p5_an_order_that_comes_before_the_first_look_does_not_hide_what_runs() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(1000);
        let order = first(7, now + Duration::from_secs(30));
        let said = || {
            Wake::Link(LinkEvent::Said(Box::new(to_agent::What::Order(
                order.clone(),
            ))))
        };
        bed.wake(now, said());
        assert!(
            !bed.helm.posts.contains_key(&service()),
            "a berth that knows nothing of its containers"
        );
        bed.list(now, &[(7, Slot::Green, true)]);
        bed.wake(now, said());
        let post = &bed.helm.posts[&service()];
        let current = post.berth.current().expect("it was taken over");
        assert_eq!(
            (current.side.revision, current.slot),
            (revision(7), Slot::Green)
        );
        assert!(post.berth.open_plan().is_none(), "it runs already");
        let refusal = post.berth.report(1, now).refusal.expect("a refusal");
        assert_eq!(refusal.why, "@7 runs here, not nothing");

        let mut new = Bed::new();
        new.list(now, &[]);
        new.wake(now, said());
        assert!(
            new.helm.posts[&service()].berth.open_plan().is_some(),
            "on a host without it, it begins"
        );
    }

    /// Within this, what is done beside the loop has happened.
    const SOON: Duration = Duration::from_secs(10);

    fn asked(what: v1::request::What) -> Wake {
        let request = v1::Request {
            id: 5,
            what: Some(what),
        };
        Wake::Link(LinkEvent::Said(Box::new(to_agent::What::Request(request))))
    }

    /// The engine is asked for a log that goes on for ever, until the loop hears this.
    async fn a_log_is_read_until(end: LinkEvent) {
        let mut bed = Bed::new();
        let now = Moment::from_millis(1000);
        let engine = UnixListener::bind(&bed.engine).expect("a socket");
        bed.list(now, &[(7, Slot::Green, true)]);
        let logs = v1::LogsRequest {
            app: "shop".to_owned(),
            service: "web".to_owned(),
            follow: true,
            ..v1::LogsRequest::default()
        };
        bed.wake(now, asked(v1::request::What::Logs(logs)));
        let accepted = tokio::time::timeout(SOON, engine.accept()).await;
        let (mut stream, _) = accepted.expect("it is asked").expect("accepted");
        assert!(stream.read(&mut [0; 1024]).await.expect("read") > 0);
        bed.wake(now, Wake::Link(end));
        let over = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} };
        tokio::time::timeout(SOON, over)
            .await
            .expect("nobody reads it any more");
    }

    #[tokio::test]
    async fn a_log_that_is_not_wanted_any_more_is_not_read_any_more() {
        let cancel = to_agent::What::Cancel(v1::Cancel { request_id: 5 });
        a_log_is_read_until(LinkEvent::Said(Box::new(cancel))).await;
    }

    #[tokio::test]
    async fn a_log_is_not_read_longer_than_somebody_is_connected() {
        a_log_is_read_until(LinkEvent::Disconnected(Reason::ShuttingDown)).await;
    }

    #[tokio::test]
    async fn answers_take_no_room_of_reports() {
        let mut bed = Bed::new();
        let question = v1::request::What::Question(b"what?".to_vec());
        bed.wake(Moment::from_millis(1000), asked(question));
        let answer = tokio::time::timeout(SOON, bed.answers.recv()).await;
        assert!(answer.expect("it is answered").is_some());
        assert!(bed.said.try_recv().is_err(), "beside the reports");
    }
}
