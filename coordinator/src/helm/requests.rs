//! Questions to hosts, and what becomes of their answers.
//!
//! Keeps true: each question has a deadline and an end, also when its host
//! leaves; what nobody waits for any more is cancelled.

use std::time::Duration;

use cutover_core::{HostId, Moment, ServiceId};
use cutover_proto::v1;
use cutover_proto::v1::{answer, question, request, to_agent};
use prost::Message;
use tokio::sync::mpsc;

use super::Helm;
use super::answers::parse;
use super::deeds::Deeds;
use super::services::spec_of;
use super::wake::{LOG_LINES, Refusal};

/// For a registry, or for pulling the image where that is the only way to know it.
const RESOLVE_WITHIN: Duration = Duration::from_secs(125);
/// For a revision that the host holds.
const TELL_WITHIN: Duration = Duration::from_secs(15);
/// Questions that wait for answers.
const ASKED: usize = 1024;

/// One question that waits.
pub(super) struct Asked {
    host: HostId,
    what: What,
    /// None: as long as somebody reads.
    until: Option<Moment>,
}

enum What {
    Image { draft: u64, image: String },
    Revision { service: ServiceId, number: u64 },
    Logs(mpsc::Sender<v1::LogLine>),
}

impl Helm {
    fn ask(
        &mut self,
        host: &HostId,
        what: What,
        within: Option<Duration>,
        ask: request::What,
        now: Moment,
    ) -> Result<(), String> {
        if self.asked.len() >= ASKED {
            return Err("too many questions to hosts are open; try again".to_owned());
        }
        self.last_asked += 1;
        let id = self.last_asked;
        let request = v1::Request {
            id,
            what: Some(ask),
        };
        self.roster
            .send(host, to_agent::What::Request(request))
            .map_err(|error| format!("{host}: {error}"))?;
        let asked = Asked {
            host: host.clone(),
            what,
            until: within.map(|within| now + within),
        };
        self.asked.insert(id, asked);
        Ok(())
    }

    /// Asks what an image's tag means now; an error, if the question was not sent.
    pub(super) fn ask_image(
        &mut self,
        draft: u64,
        host: &HostId,
        image: &str,
        deeds: &Deeds,
    ) -> Result<(), String> {
        let question = v1::Question {
            what: Some(question::What::ResolveImage(v1::ResolveImage {
                image: image.to_owned(),
            })),
        };
        let what = What::Image {
            draft,
            image: image.to_owned(),
        };
        let ask = request::What::Question(question.encode_to_vec());
        self.ask(host, what, Some(RESOLVE_WITHIN), ask, deeds.now)
    }

    pub(super) fn ask_revision(
        &mut self,
        host: &HostId,
        service: &ServiceId,
        number: u64,
        deeds: &Deeds,
    ) {
        let already = self.asked.values().any(|asked| {
            matches!(&asked.what, What::Revision { service: of, number: which } if of == service && *which == number)
        });
        if already {
            return;
        }
        let question = v1::Question {
            what: Some(question::What::TellRevision(v1::TellRevision {
                service: service.to_string(),
                number,
            })),
        };
        let what = What::Revision {
            service: service.clone(),
            number,
        };
        let ask = request::What::Question(question.encode_to_vec());
        if let Err(error) = self.ask(host, what, Some(TELL_WITHIN), ask, deeds.now) {
            tracing::warn!(%host, %service, number, error, "a revision could not be asked for");
        }
    }

    /// Asks every host that runs the service for lines of its log.
    pub(super) fn logs(
        &mut self,
        query: &v1::LogsQuery,
        deeds: &Deeds,
    ) -> Result<mpsc::Receiver<v1::LogLine>, Refusal> {
        let service = self.one_service(&query.service)?;
        let mut hosts: Vec<HostId> = self
            .fleet
            .with(&service)
            .filter(|(_, host, desk)| {
                host.is_there() && (desk.record.current > 0 || desk.said.is_some())
            })
            .map(|(id, _, _)| id.clone())
            .collect();
        if !query.host.is_empty() {
            let wanted: HostId = parse(&query.host)?;
            hosts.retain(|host| *host == wanted);
        }
        if hosts.is_empty() {
            return Err(Refusal::Refused(format!(
                "no connected host has anything of {service}"
            )));
        }
        let (sender, lines) = mpsc::channel(LOG_LINES);
        for host in hosts {
            let ask = request::What::Logs(v1::LogsRequest {
                app: service.app.to_string(),
                service: service.service.to_string(),
                follow: query.follow,
                tail: query.tail,
                since_unix_seconds: query.since_unix_seconds,
                revision: query.revision,
            });
            self.ask(&host, What::Logs(sender.clone()), None, ask, deeds.now)
                .map_err(Refusal::Refused)?;
        }
        Ok(lines)
    }

    pub(super) fn answered(&mut self, host: &HostId, said: v1::Answer, deeds: &mut Deeds) {
        let id = said.request_id;
        let ours = self.asked.get(&id).is_some_and(|asked| asked.host == *host);
        let Some(piece) = said.piece.filter(|_| ours) else {
            return; // cancelled meanwhile, or never asked
        };
        match piece {
            answer::Piece::Chunk(chunk) => self.log_chunk(id, &chunk),
            answer::Piece::Done(done) => {
                if let Some(asked) = self.asked.remove(&id) {
                    self.told(asked, &done.result, deeds);
                }
            }
            answer::Piece::Failed(why) => {
                if let Some(asked) = self.asked.remove(&id) {
                    self.failed(asked, &why);
                }
            }
        }
    }

    fn log_chunk(&mut self, id: u64, chunk: &[u8]) {
        let Some(asked) = self.asked.get(&id) else {
            return;
        };
        let What::Logs(sender) = &asked.what else {
            return;
        };
        let Ok(chunk) = v1::LogChunk::decode(chunk) else {
            return;
        };
        for mut line in chunk.lines {
            line.host = asked.host.to_string();
            match sender.try_send(line) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    // A reader that is slower than the log: the loop waits for nobody.
                    let last = v1::LogLine {
                        host: asked.host.to_string(),
                        text: "… lines were left out here: they came faster than they were read"
                            .to_owned(),
                        stderr: true,
                        ..v1::LogLine::default()
                    };
                    drop(sender.try_send(last));
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.cancel(id);
                    return;
                }
            }
        }
    }

    fn cancel(&mut self, id: u64) {
        if let Some(asked) = self.asked.remove(&id) {
            let cancel = to_agent::What::Cancel(v1::Cancel { request_id: id });
            let _ = self.roster.send(&asked.host, cancel); // away: it has forgotten the question
        }
    }

    fn told(&mut self, asked: Asked, result: &[u8], deeds: &mut Deeds) {
        let host = asked.host.clone();
        match &asked.what {
            What::Image { draft, image } => match v1::Resolved::decode(result) {
                Ok(resolved) if resolved.reference.contains("sha256:") => {
                    if let Some(draft) = self.drafts.get_mut(draft) {
                        draft.resolved.insert(image.clone(), resolved.reference);
                        draft.pending.remove(image);
                    }
                }
                Ok(_) | Err(_) => {
                    let why = format!("{host} gave no digest and no id for {image}");
                    self.failed(asked, &why);
                }
            },
            What::Revision { service, number } => {
                let told = v1::Revision::decode(result).ok();
                let told = told.filter(|revision| revision.number == *number);
                if let Some(revision) = told
                    && let Ok(spec) = spec_of(&revision)
                    && super::deploy::id_of(&spec) == *service
                {
                    self.adopt(service, revision, spec, deeds);
                }
            }
            What::Logs(_) => {}
        }
    }

    /// A revision that a host holds and we had forgotten.
    fn adopt(
        &mut self,
        service: &ServiceId,
        revision: v1::Revision,
        spec: cutover_core::spec::ServiceSpec,
        deeds: &mut Deeds,
    ) {
        let number = revision.number;
        self.services.keep(deeds, service, revision, spec);
        deeds.event(v1::EventRecord {
            kind: "store".to_owned(),
            service: service.to_string(),
            text: format!("{service}@{number} was learned from a host"),
            ..v1::EventRecord::default()
        });
        let nothing = self
            .services
            .get(service)
            .is_some_and(|known| known.record.current == 0 && !known.record.removed);
        if nothing {
            let unsure = self
                .services
                .get(service)
                .map(|known| known.record.unsure.clone());
            self.now_current(service, number, deeds);
            if let Some(known) = self.services.services.get_mut(service) {
                known.record.unsure = unsure.unwrap_or_default();
            }
            self.services.save(deeds, service);
        }
    }

    fn failed(&mut self, asked: Asked, why: &str) {
        match asked.what {
            What::Image { draft, image } => {
                if let Some(draft) = self.drafts.get_mut(&draft) {
                    let why = if why.contains(&image) {
                        format!("{}: {why}", asked.host)
                    } else {
                        format!("{}: {image}: {why}", asked.host)
                    };
                    draft.failed.get_or_insert(why);
                }
            }
            What::Revision { service, number } => {
                tracing::warn!(host = %asked.host, %service, number, why, "a host did not tell a revision");
            }
            What::Logs(sender) => {
                let line = v1::LogLine {
                    host: asked.host.to_string(),
                    text: why.to_owned(),
                    stderr: true,
                    ..v1::LogLine::default()
                };
                drop(sender.try_send(line)); // full or gone: the end says it, too
            }
        }
    }

    /// The host left: what it was asked will not be answered.
    pub(super) fn unanswered(&mut self, host: &HostId, _deeds: &mut Deeds) {
        self.end_asked(
            |asked| asked.host == *host,
            "the host left before it answered",
        );
    }

    pub(super) fn expire_questions(&mut self, deeds: &mut Deeds) {
        let now = deeds.now;
        self.end_asked(
            |asked| asked.until.is_some_and(|until| now >= until),
            "the host did not answer in time",
        );
        let unread: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| matches!(&asked.what, What::Logs(sender) if sender.is_closed()))
            .map(|(id, _)| *id)
            .collect();
        for id in unread {
            self.cancel(id);
        }
    }

    fn end_asked(&mut self, which: impl Fn(&Asked) -> bool, why: &str) {
        let ended: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| which(asked))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(asked) = self.asked.remove(&id) {
                self.failed(asked, why);
            }
        }
    }
}
