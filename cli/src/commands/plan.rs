//! `cutover plan`: what a deploy would do; what was understood of the files.

use cutover_proto::v1::IfBusy;

use super::Cx;
use crate::args::Plan;
use crate::client::Asking;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::release;
use crate::render::{json, plan as words};

/// `cutover plan`
pub(super) async fn plan(cx: &Cx<'_>, args: &Plan) -> Result<Exit, Failure> {
    let loaded = release::load(&args.release, cx.shared, cx.environment)?;
    for note in &loaded.notes {
        cx.output.say(&note.to_string());
    }
    if args.normalized {
        let normalized = cutover_compose::normalized(&loaded.release);
        let value = json::deploy::Normalized {
            app: loaded.release.app.to_string(),
            normalized: normalized.clone(),
            notes: json::problems(&loaded.notes),
        };
        cx.output.show(&value, || normalized);
        return Ok(Exit::Done);
    }
    let request = release::request(&loaded, &args.release, IfBusy::Refuse, "")?;
    let mut client = cx.connect().await?;
    let doing = format!("planning {}", request.app);
    let plan = client
        .ask(Asking::Study, &doing, request, async |api, q| {
            api.plan(q).await
        })
        .await?;
    for warning in &plan.warnings {
        cx.output.warn(warning);
    }
    cx.output
        .show(&json::deploy::plan(&plan, &loaded.notes), || {
            words::plan(&plan)
        });
    let refused = plan
        .services
        .iter()
        .any(|service| !service.refused.is_empty());
    let changes = plan.services.iter().any(|service| !service.already_there);
    Ok(if refused {
        Exit::Refused
    } else if changes && args.exit_code {
        Exit::Changes
    } else {
        Exit::Done
    })
}
