//! Requests that change something, asked again: each is done once, and answered the same.
//!
//! Keeps true (P4): an answer is kept with what it answers to, in one write.

use cutover_proto::v1;
use prost::Message;

use super::Helm;
use super::deeds::Deeds;
use super::services::unreadable;
use super::wake::Refusal;
use crate::store::{Key, Table};

/// Answers that are kept for retries; the oldest go.
const ANSWERS_KEPT: usize = 2000;

impl Helm {
    /// What was answered to this request id before, or is about to be.
    pub(super) fn earlier_answer(
        &self,
        request_id: &str,
        deeds: &Deeds,
    ) -> Result<Option<v1::DeployResponse>, Refusal> {
        if request_id.is_empty() {
            return Ok(None);
        }
        if let Some(answer) = deeds.answers.get(request_id) {
            return Ok(Some(answer.clone()));
        }
        let kept: Option<v1::RequestRecord> = self
            .store
            .read(Table::Requests, &Key::of(request_id))
            .map_err(|error| unreadable(&error))?;
        kept.map(|kept| v1::DeployResponse::decode(kept.response.as_slice()))
            .transpose()
            .map_err(|error| Refusal::Store(error.to_string()))
    }

    pub(super) fn keep_answer(
        &mut self,
        request_id: &str,
        response: &v1::DeployResponse,
        deeds: &mut Deeds,
    ) {
        if request_id.is_empty() {
            return;
        }
        let record = v1::RequestRecord {
            release: response.release.clone(),
            response: response.encode_to_vec(),
            unix_millis: deeds.unix_millis,
        };
        deeds.put(Table::Requests, Key::of(request_id), &record);
        deeds
            .answers
            .insert(request_id.to_owned(), response.clone());
        self.answered.push_back(request_id.to_owned());
        while self.answered.len() > ANSWERS_KEPT {
            if let Some(oldest) = self.answered.pop_front() {
                deeds.change(|batch| batch.remove(Table::Requests, Key::of(&oldest)));
            }
        }
    }
}
