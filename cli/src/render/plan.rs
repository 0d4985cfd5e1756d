//! What a deploy would do, for people.

use cutover_proto::v1::{PlanResponse, ServicePlanView};

use crate::render::words::{hosts, list, revision};

/// Hosts of this many waves are named; of more only how many.
const MOST_WAVES: usize = 10;

/// The whole plan.
pub(crate) fn plan(plan: &PlanResponse) -> String {
    let mut text = String::new();
    let (stays, changes): (Vec<_>, Vec<_>) = plan.services.iter().partition(|s| s.already_there);
    for service in &changes {
        text.push_str(&one(service));
        text.push('\n');
    }
    for service in &stays {
        text.push_str(&format!(
            "{}@{}: stays as it is\n",
            service.service, service.to_revision
        ));
        for note in &service.notes {
            text.push_str(&format!("  note: {note}\n"));
        }
    }
    let refused = changes.iter().filter(|s| !s.refused.is_empty()).count();
    let summary = match (changes.len(), refused) {
        (0, _) => "nothing would change".to_owned(),
        (changes, 0) => format!("{changes} would change, {} stay", stays.len()),
        (changes, refused) => format!(
            "{changes} would change, {} stay; {refused} would be REFUSED",
            stays.len()
        ),
    };
    text + &summary
}

fn one(service: &ServicePlanView) -> String {
    let how = if service.removed {
        "is removed".to_owned()
    } else {
        service.strategy.clone()
    };
    let over = hosts(service.waves.iter().map(|wave| wave.hosts.len()).sum());
    let mut text = format!(
        "{} {} → {}: {how}, {over}\n",
        service.service,
        revision(service.from_revision),
        if service.removed {
            "-".to_owned()
        } else {
            revision(service.to_revision)
        },
    );
    if !service.refused.is_empty() {
        text.push_str(&format!("  REFUSED: {}\n", service.refused));
    }
    for change in &service.changes {
        text.push_str(&format!("  ~ {change}\n"));
    }
    for (number, wave) in service.waves.iter().take(MOST_WAVES).enumerate() {
        let names = list(wave.hosts.iter().map(String::as_str));
        text.push_str(&format!("  wave {}: {names}\n", number + 1));
    }
    if service.waves.len() > MOST_WAVES {
        text.push_str(&format!(
            "  and {} more waves\n",
            service.waves.len() - MOST_WAVES
        ));
    }
    if !service.skipped.is_empty() {
        let away = list(service.skipped.iter().map(String::as_str));
        text.push_str(&format!("  skipped, as they are away: {away}\n"));
    }
    for note in &service.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text
}
