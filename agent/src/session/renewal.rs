//! Renewing the host's certificate in time, beside the session.
//!
//! Kept true: the live session is not touched; the next connection shows the
//! new certificate. What is on disk is new before what is in memory is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_proto::tls::{ClientTls, Serial, chance};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use super::LinkEvent;
use crate::enroll::{EnrollError, Membership, renew};

/// A machine that sleeps stops our timers, not its wall clock: look again at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// After a failure, this long, then twice as long, …
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// … up to this.
const RETRY_MOST: Duration = Duration::from_secs(900);

pub(super) struct Renewal {
    pub(super) membership: Membership,
    pub(super) machine_id: String,
    pub(super) tls: Arc<ClientTls>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    /// Told the serial number of a new certificate.
    pub(super) renewed: watch::Sender<Vec<u8>>,
    /// Tells that the coordinator would like it renewed now.
    pub(super) wanted: Arc<Notify>,
}

impl Renewal {
    /// Renews for ever.
    pub(super) async fn run(mut self) -> Result<(), EnrollError> {
        loop {
            let due = self.membership.life()?.renewal(chance()?);
            self.wait(due).await;
            let mut retry = RETRY_FIRST;
            while let Err(error) = self.once().await {
                warn!(host = %self.membership.host(), error = chain(&error), "renewing the certificate failed");
                tokio::time::sleep(retry.mul_f64(0.5 + 0.5 * chance()?)).await;
                retry = (retry * 2).min(RETRY_MOST);
            }
        }
    }

    async fn once(&mut self) -> Result<(), EnrollError> {
        let renewed = renew(&self.membership, &self.machine_id).await?;
        let credentials = renewed.credentials()?;
        let serial = Serial::of_certificate(credentials.certificate())?;
        self.tls.replace(&credentials, &renewed.trust()?)?;
        self.membership = renewed;
        info!(host = %self.membership.host(), "renewed the certificate");
        self.renewed.send_replace(serial.as_bytes().to_vec());
        let _ = self.events.send(LinkEvent::Renewed).await; // fails when the loop is gone
        Ok(())
    }

    async fn wait(&self, due: SystemTime) {
        while let Ok(left) = due.duration_since(SystemTime::now()) {
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
                () = self.wanted.notified() => return,
            }
            if left.is_zero() {
                return;
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
