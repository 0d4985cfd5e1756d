//! `cutover events`: what happened, and what happens.

use std::time::Duration;

use cutover_proto::v1::EventsRequest;

use super::Cx;
use crate::args::Events;
use crate::client::{Asking, Client};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::render::{json, tables};

/// After a lost connection, before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// How far back a new connection looks for what was missed.
const MISSED: u32 = 1000;

/// `cutover events`
pub(super) async fn events(cx: &Cx<'_>, args: &Events) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let service = cx
        .maybe_service(args.service.as_deref(), &mut client)
        .await?;
    let mut request = EventsRequest {
        follow: args.follow,
        tail: args.tail,
        service,
        host: args.host.clone().unwrap_or_default(),
        rollout: args.rollout.clone().unwrap_or_default(),
    };
    let mut last = 0;
    loop {
        match stream(cx, &mut client, &request, &mut last).await {
            Err(failure) if args.follow && last > 0 && failure.kind == Kind::Unreachable => {
                cx.output
                    .say("lost the connection to the coordinator, trying again");
                request.tail = MISSED;
                tokio::time::sleep(PAUSE).await;
                // When this fails, the next stream says so.
                let _ = client.reconnect().await;
            }
            ended => return ended.map(|()| Exit::Done),
        }
    }
}

/// Prints until the stream ends; `last` is the newest event that was printed.
async fn stream(
    cx: &Cx<'_>,
    client: &mut Client,
    request: &EventsRequest,
    last: &mut u64,
) -> Result<(), Failure> {
    let doing = "listening to events";
    let asked = client.ask(Asking::Look, doing, request.clone(), async |api, q| {
        api.events(q).await
    });
    let mut stream = asked.await?;
    loop {
        match stream.message().await {
            Ok(Some(event)) if event.number > *last || event.number == 0 => {
                *last = event.number;
                cx.output.show(&json::look::event(&event), || {
                    tables::event(&event, cx.output.zone())
                });
            }
            Ok(Some(_)) => {} // said before the connection was lost
            Ok(None) => return Ok(()),
            Err(status) => return Err(client.refused(Asking::Look, doing, status)),
        }
        if cx.output.is_gone() {
            return Ok(());
        }
    }
}
