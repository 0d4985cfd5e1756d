//! What is written to one agent: what waits for it, then why the session ends, then the end.

use std::pin::Pin;
use std::task::{Context, Poll};

use cutover_proto::v1::ToAgent;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::Farewell;

/// The stream of one session; drained before it ends, so that an end loses nothing that was sent.
pub struct Outgoing(Stage);

enum Stage {
    Open {
        queue: mpsc::Receiver<Box<ToAgent>>,
        farewell: oneshot::Receiver<Farewell>,
    },
    Draining {
        queue: mpsc::Receiver<Box<ToAgent>>,
        farewell: Farewell,
    },
    Refused(Farewell),
    Ended,
}

impl Outgoing {
    pub(super) fn new(
        queue: mpsc::Receiver<Box<ToAgent>>,
        farewell: oneshot::Receiver<Farewell>,
    ) -> Self {
        Self(Stage::Open { queue, farewell })
    }

    /// Of a session that is not opened.
    pub(super) fn refused(farewell: Farewell) -> Self {
        Self(Stage::Refused(farewell))
    }
}

impl Stream for Outgoing {
    type Item = Result<ToAgent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.0, Stage::Ended) {
                Stage::Open {
                    mut queue,
                    mut farewell,
                } => match Pin::new(&mut farewell).poll(cx) {
                    // Whatever was sent was sent before the farewell: it is in the queue by now.
                    Poll::Ready(Ok(farewell)) => self.0 = Stage::Draining { queue, farewell },
                    Poll::Ready(Err(_)) => {} // nobody is left to say anything
                    Poll::Pending => {
                        let message = match queue.poll_recv(cx) {
                            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(*message))),
                            Poll::Ready(None) | Poll::Pending => Poll::Pending, // the farewell wakes us
                        };
                        self.0 = Stage::Open { queue, farewell };
                        return message;
                    }
                },
                Stage::Draining {
                    mut queue,
                    farewell,
                } => match queue.try_recv() {
                    Ok(message) => {
                        self.0 = Stage::Draining { queue, farewell };
                        return Poll::Ready(Some(Ok(*message)));
                    }
                    Err(_) => self.0 = Stage::Refused(farewell),
                },
                Stage::Refused(farewell) => return Poll::Ready(Some(Ok(farewell.message()))),
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cutover_proto::v1::{Order, RefusedReason, to_agent};
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_was_sent_before_the_end_comes_before_the_reason_for_it() {
        let (queue, waiting) = mpsc::channel(4);
        let (farewell, last) = oneshot::channel();
        let order = |number| {
            to_agent::What::Order(Order {
                order: vec![number],
            })
        };
        for number in 0..3 {
            let message = ToAgent {
                what: Some(order(number)),
            };
            queue.try_send(Box::new(message)).expect("there is room");
        }
        farewell
            .send(Farewell::shutting_down())
            .expect("somebody listens");
        let said: Vec<_> = Outgoing::new(waiting, last)
            .filter_map(|said| async { said.ok().and_then(|said| said.what) })
            .collect()
            .await;
        assert_eq!(said[..3], [order(0), order(1), order(2)]);
        let Some(to_agent::What::Refused(refused)) = said.get(3) else {
            panic!("{said:?}")
        };
        assert_eq!(
            (refused.reason(), said.len()),
            (RefusedReason::ShuttingDown, 4)
        );
    }
}
