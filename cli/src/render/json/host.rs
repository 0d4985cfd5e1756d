//! Hosts, tokens, contexts and findings, as scripts see them.

use std::collections::BTreeMap;

use cutover_proto::v1::{Finding, HostView};
use jiff::Timestamp;
use serde::Serialize;

use super::{moment, said};

#[derive(Serialize)]
pub(crate) struct Host {
    host: String,
    state: String,
    why: Option<String>,
    cordoned: bool,
    labels: BTreeMap<String, String>,
    facts: BTreeMap<String, String>,
    agent_version: Option<String>,
    services: Vec<String>,
    last_seen: Option<Timestamp>,
    enrolled: Option<Timestamp>,
    clock_skew_seconds: f64,
}

pub(crate) fn host(view: &HostView) -> Host {
    let sorted = |pairs: &std::collections::HashMap<String, String>| {
        pairs
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    Host {
        host: view.host.clone(),
        state: view.state.clone(),
        why: said(&view.why),
        cordoned: view.cordoned,
        labels: sorted(&view.labels),
        facts: sorted(&view.facts),
        agent_version: said(&view.agent_version),
        services: view.services.clone(),
        last_seen: moment(view.last_seen_unix_millis),
        enrolled: moment(view.enrolled_unix_millis),
        clock_skew_seconds: view.clock_skew_millis as f64 / 1000.0,
    }
}

/// `cutover host token`
#[derive(Serialize)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) uses: u32,
    pub(crate) enrolment_address: String,
    pub(crate) enroll: String,
}

pub(crate) fn expires(unix_millis: i64) -> Option<Timestamp> {
    moment(unix_millis)
}

/// A context, without what it shows and believes.
#[derive(Serialize)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) current: bool,
    /// Who its certificate says we are; not looked at in a list.
    pub(crate) who: Option<String>,
    pub(crate) certificate_until: Option<Timestamp>,
}

/// One finding of `cutover doctor`.
#[derive(Serialize)]
pub(crate) struct FindingJson {
    level: String,
    host: Option<String>,
    what: String,
    mend: Option<String>,
}

pub(crate) fn finding(finding: &Finding) -> FindingJson {
    FindingJson {
        level: finding.level.clone(),
        host: said(&finding.host),
        what: finding.what.clone(),
        mend: said(&finding.mend),
    }
}
