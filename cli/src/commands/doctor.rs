//! `cutover doctor`: what is wrong, from this machine to the hosts, and what mends it.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use cutover_proto::v1::{DoctorRequest, Finding};

use super::Cx;
use crate::client::{Asking, Client};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json;
use crate::render::words::length;

/// A certificate that ends sooner is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// `cutover doctor`
pub(super) async fn doctor(cx: &Cx<'_>) -> Result<Exit, Failure> {
    let context = Context::resolve(cx.environment, cx.shared.context.as_deref())?;
    let mut findings = of_context(&context);
    let asked = match Client::connect(&context).await {
        Ok(mut client) => {
            let asked = client.ask(
                Asking::Look,
                "asking the coordinator",
                DoctorRequest {},
                async |api, q| api.doctor(q).await,
            );
            asked.await
        }
        Err(failure) => Err(failure),
    };
    let failed = match asked {
        Ok(answer) => {
            findings.extend(answer.findings);
            None
        }
        Err(failure) => {
            findings.push(finding("error", failure.chain(), &failure.next));
            Some(failure.kind.exit())
        }
    };
    let values: Vec<_> = findings.iter().map(json::host::finding).collect();
    cx.output.show(&values, || words(&findings));
    let sick = findings.iter().any(|finding| finding.level == "error");
    Ok(match failed {
        Some(exit) => exit,
        None if sick => Exit::NeedsPerson,
        None => Exit::Done,
    })
}

fn finding(level: &str, what: String, mend: &str) -> Finding {
    Finding {
        level: level.to_owned(),
        host: "here".to_owned(),
        what,
        mend: mend.to_owned(),
    }
}

fn of_context(context: &Context) -> Vec<Finding> {
    let mut findings = vec![finding(
        "ok",
        format!(
            "context {}: {} as {}",
            context.name,
            context.address,
            context.who()
        ),
        "",
    )];
    let now = SystemTime::now();
    if let Some(life) = context.life() {
        findings.push(if now < life.from {
            finding(
                "error",
                "the certificate begins in the future: the clock here is wrong".to_owned(),
                "timedatectl set-ntp true",
            )
        } else {
            ends("the certificate", life.until, now, &context.renewal())
        });
    }
    // How long the coordinator's CA holds it says itself; this is about what is believed here.
    if let Some(until) = context.ca_until() {
        let mend = format!(
            "`sudo cutover-coordinator ca status` says whether a new CA took over; {}",
            context.renewal()
        );
        let found = ends("the CA of the context", until, now, &mend);
        findings.extend((found.level != "ok").then_some(found));
    }
    if let Some(path) = &context.key_file
        && let Ok(metadata) = std::fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        let path = path.display();
        findings.push(finding(
            "warn",
            format!("others may read the key {path}"),
            &format!("chmod 600 {path}"),
        ));
    }
    findings
}

fn ends(what: &str, until: SystemTime, now: SystemTime, mend: &str) -> Finding {
    match until.duration_since(now) {
        Ok(left) if left > SOON => finding("ok", format!("{what} holds for {}", length(left)), ""),
        Ok(left) => finding("warn", format!("{what} ends in {}", length(left)), mend),
        Err(_) => finding(
            "error",
            format!("{what} has expired, or the clock here is wrong"),
            mend,
        ),
    }
}

fn words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let place = if finding.host.is_empty() {
            "coordinator"
        } else {
            &finding.host
        };
        text.push_str(&format!("{:5}  {place}: {}\n", finding.level, finding.what));
        if !finding.mend.is_empty() {
            text.push_str(&format!("       mend: {}\n", finding.mend));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_told_by_its_days_with_the_command_that_makes_a_new_one() {
        let now = SystemTime::now();
        let days = |days: u64| now + Duration::from_secs(days * 24 * 3600);
        let of = |until| ends("the certificate", until, now, "mend it");
        let told = |found: &Finding| (found.level.clone(), found.mend.clone());
        let is = |level: &str, mend: &str| (level.to_owned(), mend.to_owned());
        assert_eq!(told(&of(days(60))), is("ok", ""));
        assert_eq!(told(&of(days(3))), is("warn", "mend it"));
        assert_eq!(
            told(&of(now - Duration::from_secs(1))),
            is("error", "mend it")
        );
    }
}
