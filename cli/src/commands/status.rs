//! `cutover status`: what runs where; with `--watch`, again whenever it changes.

use std::time::Duration;

use cutover_proto::v1::{StatusRequest, StatusResponse};

use super::Cx;
use crate::args::Status;
use crate::client::{Asking, Client};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, tables};

/// Between two looks of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);

/// `cutover status`
pub(super) async fn status(cx: &Cx<'_>, args: &Status) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let mut shown = look(cx, &mut client).await?;
    if args.watch {
        cx.output.clear();
    }
    show(cx, &shown);
    while args.watch && !cx.output.is_gone() {
        tokio::time::sleep(PAUSE).await; // Ctrl-C ends it, as the shell expects
        match look(cx, &mut client).await {
            Ok(status) if status == shown => {}
            Ok(status) => {
                cx.output.clear();
                show(cx, &status);
                shown = status;
            }
            Err(failure) => {
                cx.output.say(&failure.chain());
                // When this fails, the next look says so.
                let _ = client.reconnect().await;
            }
        }
    }
    Ok(Exit::Done)
}

async fn look(cx: &Cx<'_>, client: &mut Client) -> Result<StatusResponse, Failure> {
    let app = cx.shared.project.as_ref().map(ToString::to_string);
    let request = StatusRequest {
        app: app.unwrap_or_default(),
    };
    client
        .ask(
            Asking::Look,
            "asking for the status",
            request,
            async |api, q| api.status(q).await,
        )
        .await
}

fn show(cx: &Cx<'_>, status: &StatusResponse) {
    cx.output
        .show(&json::look::status(status), || tables::status(status));
}
