//! `/healthz`, `/readyz`, `/metrics` and `/ca`, for the machine itself alone.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use cutover_daemon::clock;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::helm::{Question, Wake};
use crate::metrics::Metrics;

/// A loop that has not turned for so long is not ready: it turns each second.
const BEAT_WITHIN_MILLIS: i64 = 10_000;
/// The loop answers at once, or it waits for a full disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Serves until it is stopped.
///
/// # Errors
/// What the network says.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    wakes: mpsc::Sender<Wake>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(metrics)
        .merge(Router::new().route("/ca", get(ca)).with_state(wakes));
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Listens at `address`.
///
/// # Errors
/// When it is not ours, or taken.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn ready(State(metrics): State<Metrics>) -> (StatusCode, &'static str) {
    let since = clock::unix_millis().saturating_sub(metrics.last_beat());
    if metrics.last_beat() > 0 && since < BEAT_WITHIN_MILLIS {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n")
    }
}

async fn text(State(metrics): State<Metrics>) -> String {
    metrics.text()
}

/// Which CAs are given to hosts, and which they hold: [`crate::pki::holding::Holdings`] as JSON.
async fn ca(State(wakes): State<mpsc::Sender<Wake>>) -> (StatusCode, String) {
    let silent = || {
        let text = "the loop does not answer\n".to_owned();
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    let (reply, answer) = oneshot::channel();
    let asked = async {
        let question = Wake::Asked(Question::Holdings(reply));
        wakes.send(question).await.ok()?;
        answer.await.ok()?.ok()
    };
    let Ok(Some(holdings)) = tokio::time::timeout(ANSWER_WITHIN, asked).await else {
        return silent();
    };
    serde_json::to_string(&holdings).map_or_else(|_| silent(), |text| (StatusCode::OK, text))
}
