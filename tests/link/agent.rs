//! An agent's session, without the agent.

use cutover_agent::enroll::Membership;
use cutover_agent::session::{LinkEvent, Reason, Settings, run};
use cutover_proto::v1::{FromAgent, Hello};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::LONG;

/// An agent's session as the agent runs it.
pub struct Agent {
    pub events: mpsc::Receiver<LinkEvent>,
    pub outgoing: mpsc::Sender<FromAgent>,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl Agent {
    pub fn start(membership: Membership) -> Self {
        let (sender, events) = mpsc::channel(64);
        let (outgoing, said) = mpsc::channel(64);
        let (_, answers) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let machine_id = format!("machine-of-{}", membership.host());
        let settings = Settings {
            membership,
            machine_id,
            events: sender,
            outgoing: said,
            answers,
            stop: stop.clone(),
        };
        let hello = || Hello {
            boot_id: "boot".to_owned(),
            ..Hello::default()
        };
        let task = tokio::spawn(async move { run(settings, hello).await.unwrap() });
        Self {
            events,
            outgoing,
            stop,
            task,
        }
    }

    pub async fn event(&mut self) -> LinkEvent {
        tokio::time::timeout(LONG * 2, self.events.recv())
            .await
            .expect("an event in time")
            .expect("an event")
    }

    pub async fn disconnected(&mut self) -> Reason {
        match self.event().await {
            LinkEvent::Disconnected(reason) => reason,
            other @ (LinkEvent::Connected(_) | LinkEvent::Said(_) | LinkEvent::Renewed) => {
                panic!("not Disconnected: {other:?}")
            }
        }
    }

    pub async fn connected(&mut self) {
        assert!(matches!(self.event().await, LinkEvent::Connected(_)));
    }

    /// Until it has a session again, whatever is heard before.
    pub async fn back(&mut self) {
        while !matches!(self.event().await, LinkEvent::Connected(_)) {}
    }
}
