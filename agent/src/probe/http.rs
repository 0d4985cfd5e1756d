//! One HTTP/1.1 GET on a connection of its own: no pool, no redirects, no TLS.

use std::net::SocketAddr;

use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Answer, connect};

/// The head of an answer: longer ones are refused. Hyper begins with 8 KiB and grows to this.
const MAX_HEAD: usize = 64 * 1024;

/// `GET path` at `target`: 200 to 399 is healthy.
pub(super) async fn probe(target: SocketAddr, path: &str) -> Answer {
    let stream = match connect(target).await {
        Ok(stream) => stream,
        Err(evidence) => return Answer::no(evidence),
    };
    let asked = get(stream, path, &target.to_string(), async |answer| {
        answer.status()
    })
    .await;
    match asked {
        Ok(status) => Answer {
            healthy: is_healthy(status),
            evidence: format!("GET {path}: {status}"),
        },
        Err(why) => Answer::no(format!("GET {path}: {why}")),
    }
}

pub(super) fn is_healthy(status: StatusCode) -> bool {
    (200..400).contains(&status.as_u16())
}

/// Sends one GET and gives its answer to `read`, on a connection that ends with it.
pub(super) async fn get<T>(
    stream: TcpStream,
    path: &str,
    host: &str,
    read: impl AsyncFnOnce(http::Response<Incoming>) -> T,
) -> Result<T, String> {
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "cutover-probe")
        // A compressed body would hide what a smoke check looks for.
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("not asked, {error}"))?;
    let handshake = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| said(&error))?;
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| said(&error))?;
        Ok(read(answer).await)
    };
    // The connection works only while it is polled; it is not needed beyond the answer.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        done = &mut exchange => done,
        ended = connection => match ended {
            // What was read before the end may still be waiting for the exchange.
            Ok(()) => exchange.await,
            Err(error) => Err(said(&error)),
        },
    }
}

fn said(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        "closed without an answer".to_owned()
    } else if error.is_parse() || error.is_parse_too_large() {
        format!("no HTTP answer ({error})")
    } else {
        let source = std::error::Error::source(error);
        source.map_or_else(|| error.to_string(), ToString::to_string)
    }
}
