//! What the loop says, in the order in which it is to be heard: what it reports, and behind that answers of any length.

use cutover_proto::v1::FromAgent;
use tokio::sync::mpsc;

/// The two queues that the loop fills.
pub(super) struct Words {
    pub(super) reports: mpsc::Receiver<FromAgent>,
    pub(super) answers: mpsc::Receiver<FromAgent>,
}

impl Words {
    /// The next word; nothing is lost when this is not waited for to its end. `None`: the loop is gone.
    pub(super) async fn next(&mut self) -> Option<FromAgent> {
        tokio::select! {
            biased;
            report = self.reports.recv() => report,
            Some(answer) = self.answers.recv() => Some(answer),
        }
    }

    /// The next word, if one is there already.
    pub(super) fn at_hand(&mut self) -> Option<FromAgent> {
        let report = self.reports.try_recv();
        report.or_else(|_| self.answers.try_recv()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_proto::v1::{Answer, Report, from_agent};

    fn answer() -> FromAgent {
        FromAgent {
            what: Some(from_agent::What::Answer(Answer::default())),
        }
    }

    fn report() -> FromAgent {
        FromAgent {
            what: Some(from_agent::What::Report(Report::default())),
        }
    }

    #[tokio::test]
    async fn a_report_does_not_wait_behind_answers() {
        let (say, reports) = mpsc::channel(1);
        let (tell, answers) = mpsc::channel(2);
        let mut words = Words { reports, answers };
        for _ in 0..2 {
            tell.try_send(answer()).expect("room");
        }
        say.try_send(report())
            .expect("answers take none of its room");
        assert_eq!(words.next().await, Some(report()));
        say.try_send(report()).expect("room");
        assert_eq!(words.at_hand(), Some(report()));
        assert_eq!(words.next().await, Some(answer()));
        assert_eq!(words.at_hand(), Some(answer()));
        assert_eq!(words.at_hand(), None);
        // Nobody answers any more; the loop is there still.
        drop(tell);
        say.try_send(report()).expect("room");
        assert_eq!(words.next().await, Some(report()));
        drop(say);
        assert_eq!(words.next().await, None);
    }
}
