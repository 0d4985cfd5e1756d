//! `cutover deploy`, `rollback` and `rm`: changes that are seen through.

use cutover_proto::v1::{self, RemoveRequest, RollbackRequest};

use super::see::{Asked, decided, through};
use super::{Cx, see};
use crate::args::{Deploy, IfBusy, Remove, Rollback};
use crate::client::request_id;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::{names, release};

/// `cutover deploy`
pub(super) async fn deploy(cx: &Cx<'_>, args: &Deploy) -> Result<Exit, Failure> {
    let loaded = release::load(&args.release, cx.shared, cx.environment)?;
    for note in &loaded.notes {
        cx.output.say(&note.to_string());
    }
    let if_busy = match args.if_busy {
        IfBusy::Refuse => v1::IfBusy::Refuse,
        IfBusy::Wait => v1::IfBusy::Wait,
        IfBusy::Supersede => v1::IfBusy::Supersede,
    };
    let request = release::request(&loaded, &args.release, if_busy, &args.reason)?;
    let mut client = cx.connect().await?;
    let mut interrupts = Interrupts::listen()?;
    let doing = format!("deploying {}", request.app);
    let asked = client.ask_until_known(&doing, request, async |api, q| api.deploy(q).await);
    let decided = decided(cx, &mut interrupts, asked).await?;
    through(
        cx,
        &mut client,
        &mut interrupts,
        decided,
        &args.wait,
        Asked::Forward,
    )
    .await
}

/// `cutover rollback`
pub(super) async fn rollback(cx: &Cx<'_>, args: &Rollback) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let service = cx.service(&args.service, &mut client).await?;
    let mut interrupts = Interrupts::listen()?;
    let doing = format!("rolling back {service}");
    let request = RollbackRequest {
        request_id: request_id()?,
        service,
        to_revision: args.to.unwrap_or(0),
        reason: args.reason.clone(),
    };
    let asked = client.ask_until_known(&doing, request, async |api, q| api.rollback(q).await);
    let decided = decided(cx, &mut interrupts, asked).await?;
    through(
        cx,
        &mut client,
        &mut interrupts,
        decided,
        &args.wait,
        Asked::Back,
    )
    .await
}

/// `cutover rm`
pub(super) async fn remove(cx: &Cx<'_>, args: &Remove) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    let mut what = Vec::new();
    if args.all {
        what.push(names::app(cx.shared, cx.environment)?.to_string());
    }
    for typed in &args.services {
        what.push(cx.service(typed, &mut client).await?);
    }
    let mut interrupts = Interrupts::listen()?;
    let doing = format!("removing {}", what.join(", "));
    let request = RemoveRequest {
        request_id: request_id()?,
        what,
        reason: args.reason.clone(),
    };
    let asked = client.ask_until_known(&doing, request, async |api, q| api.remove(q).await);
    let decided = see::decided(cx, &mut interrupts, asked).await?;
    through(
        cx,
        &mut client,
        &mut interrupts,
        decided,
        &args.wait,
        Asked::Forward,
    )
    .await
}
