//! `/healthz`, `/readyz` and `/metrics`, for the machine itself alone.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use cutover_daemon::clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// A loop that has not turned for so long is not ready: it turns each second.
const BEAT_WITHIN_MILLIS: i64 = 10_000;

/// Serves until it is stopped.
///
/// # Errors
/// What the network says.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(metrics);
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
