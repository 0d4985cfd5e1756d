//! `cutover ps` and `history`.

use cutover_proto::v1::ServiceSelector;

use super::Cx;
use crate::args::{History, Ps};
use crate::client::Asking;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, tables};

/// `cutover ps`
pub(super) async fn ps(cx: &Cx<'_>, args: &Ps) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let service = cx
        .maybe_service(args.service.as_deref(), &mut client)
        .await?;
    let request = ServiceSelector {
        service,
        host: args.host.clone().unwrap_or_default(),
    };
    let mut answer = client
        .ask(
            Asking::Look,
            "listing containers",
            request,
            async |api, q| api.containers(q).await,
        )
        .await?;
    if let (Some(app), None) = (&cx.shared.project, &args.service) {
        let of_app = format!("{app}/");
        answer
            .hosts
            .retain(|host| host.service.starts_with(&of_app));
    }
    cx.output.show(&json::look::containers(&answer), || {
        tables::containers(&answer)
    });
    Ok(Exit::Done)
}

/// `cutover history`
pub(super) async fn history(cx: &Cx<'_>, args: &History) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let service = cx.service(&args.service, &mut client).await?;
    let doing = format!("listing the revisions of {service}");
    let request = ServiceSelector {
        service,
        host: String::new(),
    };
    let mut answer = client
        .ask(Asking::Look, &doing, request, async |api, q| {
            api.history(q).await
        })
        .await?;
    answer
        .revisions
        .sort_by_key(|made| std::cmp::Reverse(made.number));
    cx.output.show(&json::look::revisions(&answer), || {
        tables::history(&answer, cx.output.zone())
    });
    Ok(Exit::Done)
}
