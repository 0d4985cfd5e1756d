//! A smoke check: one request that a candidate must answer as the user said,
//! straight at the replica or through nginx.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cutover_core::spec::SmokeCheck;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::http::{get, is_healthy};
use super::{Answer, Sample, Short, connect, shortened};

/// How much of a body is searched for the wanted text.
const MAX_BODY: usize = 1024 * 1024;

/// Asks `check` once at `target` (a replica's port, or nginx's), as `host` if there is one.
pub async fn smoke(
    check: &SmokeCheck,
    target: SocketAddr,
    host: Option<&str>,
    timeout: Duration,
) -> Sample {
    let began = Instant::now();
    let answer = match tokio::time::timeout(timeout, ask(check, target, host)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Answer::no(format!(
            "GET {}: no answer within {}",
            check.path,
            Short(timeout)
        )),
    };
    answer.after(began.elapsed())
}

async fn ask(check: &SmokeCheck, target: SocketAddr, host: Option<&str>) -> Answer {
    let stream = match connect(target).await {
        Ok(stream) => stream,
        Err(evidence) => return Answer::no(evidence),
    };
    let address = target.to_string();
    let contains = check.contains.as_deref();
    let asked = get(
        stream,
        &check.path,
        host.unwrap_or(&address),
        async |answer| judge(check, contains, answer).await,
    );
    match asked.await {
        Ok((healthy, evidence)) => Answer {
            healthy,
            evidence: format!("GET {}: {evidence}", check.path),
        },
        Err(why) => Answer::no(format!("GET {}: {why}", check.path)),
    }
}

async fn judge(
    check: &SmokeCheck,
    contains: Option<&str>,
    answer: Response<Incoming>,
) -> (bool, String) {
    let status = answer.status();
    if !check
        .status
        .map_or_else(|| is_healthy(status), |wanted| status.as_u16() == wanted)
    {
        return (
            false,
            check.status.map_or_else(
                || status.to_string(),
                |wanted| format!("{status}, not {wanted}"),
            ),
        );
    }
    let Some(wanted) = contains else {
        return (true, status.to_string());
    };
    match search(answer.into_body(), wanted.as_bytes()).await {
        Searched::Found => (
            true,
            format!("{status}, contains {:?}", shortened(wanted, 40)),
        ),
        Searched::Not => (false, missing(status, wanted, "")),
        Searched::TooLong => (false, missing(status, wanted, " in its first MiB")),
        Searched::Broken(why) => (false, format!("{status}, but its body ended early: {why}")),
    }
}

fn missing(status: StatusCode, wanted: &str, where_: &str) -> String {
    format!(
        "{status}, but does not contain {:?}{where_}",
        shortened(wanted, 40)
    )
}

enum Searched {
    Found,
    Not,
    TooLong,
    Broken(String),
}

/// Reads a body piece by piece, keeping no more than what a match could span.
async fn search(mut body: Incoming, wanted: &[u8]) -> Searched {
    if wanted.is_empty() {
        return Searched::Found;
    }
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Searched::Broken(error.to_string()),
        };
        let Some(data) = frame.data_ref() else {
            continue;
        };
        seen += data.len();
        kept.extend_from_slice(data);
        if kept.windows(wanted.len()).any(|window| window == wanted) {
            return Searched::Found;
        }
        if seen > MAX_BODY {
            return Searched::TooLong;
        }
        let overlap = kept.len().min(wanted.len() - 1);
        kept.drain(..kept.len() - overlap);
    }
    Searched::Not
}
