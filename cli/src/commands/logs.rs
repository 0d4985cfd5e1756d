//! `cutover logs`: what the containers of a service wrote.

use cutover_proto::v1::LogsQuery;

use super::Cx;
use crate::args::{Logs, Since};
use crate::client::Asking;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, now, tables};

/// `cutover logs`
pub(super) async fn logs(cx: &Cx<'_>, args: &Logs) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let service = cx.service(&args.service, &mut client).await?;
    let doing = format!("reading the logs of {service}");
    let since = match args.since {
        None => 0,
        Some(Since::At(moment)) => moment.as_second(),
        Some(Since::Ago(length)) => {
            let back = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
            now().as_second().saturating_sub(back).max(1)
        }
    };
    let request = LogsQuery {
        service,
        host: args.host.clone().unwrap_or_default(),
        follow: args.follow,
        tail: args.tail,
        since_unix_seconds: since,
        revision: args.revision.unwrap_or(0),
    };
    let asked = client.ask(Asking::Look, &doing, request, async |api, q| {
        api.logs(q).await
    });
    let mut stream = asked.await?;
    loop {
        match stream.message().await {
            Ok(Some(line)) => cx
                .output
                .show(&json::look::log(&line), || tables::log(&line)),
            Ok(None) => return Ok(Exit::Done),
            Err(status) => return Err(client.refused(Asking::Look, &doing, status)),
        }
        if cx.output.is_gone() {
            return Ok(Exit::Done);
        }
    }
}
