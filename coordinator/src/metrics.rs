//! What the coordinator counts, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use cutover_core::rollout::Outcome;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters; clones share them.
#[derive(Clone)]
pub struct Metrics {
    /// Orders sent to hosts.
    pub orders: Counter,
    /// Reports heard.
    pub reports: Counter,
    /// Batches made durable.
    pub writes: Counter,
    rollouts: Family<Ended, Counter>,
    enrolled: Gauge,
    connected: Gauge,
    open: Gauge<u64, AtomicU64>,
    beat: Arc<AtomicI64>,
    registry: Arc<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (orders, reports, writes) =
            (Counter::default(), Counter::default(), Counter::default());
        let rollouts = Family::<Ended, Counter>::default();
        let (enrolled, connected) = (Gauge::default(), Gauge::default());
        let open = Gauge::<u64, AtomicU64>::default();
        let mut registry = Registry::with_prefix("cutover_coordinator");
        registry.register("orders", "Orders sent to hosts", orders.clone());
        registry.register("reports", "Reports heard from hosts", reports.clone());
        registry.register("store_writes", "Batches made durable", writes.clone());
        registry.register("rollouts", "Rollouts that ended", rollouts.clone());
        registry.register("hosts_enrolled", "Enrolled hosts", enrolled.clone());
        registry.register("hosts_connected", "Hosts with a session", connected.clone());
        registry.register("rollouts_open", "Rollouts queued or open", open.clone());
        Self {
            orders,
            reports,
            writes,
            rollouts,
            enrolled,
            connected,
            open,
            beat: Arc::default(),
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    pub(crate) fn ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Committed => "committed",
            Outcome::RolledBack => "rolled_back",
            Outcome::Aborted => "aborted",
            Outcome::Mixed => "mixed",
        };
        self.rollouts.get_or_create(&Ended { outcome }).inc();
    }

    pub(crate) fn hosts(&self, enrolled: usize, connected: usize) {
        self.enrolled
            .set(i64::try_from(enrolled).unwrap_or(i64::MAX));
        self.connected
            .set(i64::try_from(connected).unwrap_or(i64::MAX));
    }

    pub(crate) fn open(&self, count: usize) {
        self.open.set(count as u64);
    }

    /// The loop turned.
    pub(crate) fn beat(&self, unix_millis: i64) {
        self.beat.store(unix_millis, Ordering::Relaxed);
    }

    /// When the loop turned last; 0: not yet.
    #[must_use]
    pub fn last_beat(&self) -> i64 {
        self.beat.load(Ordering::Relaxed)
    }

    /// As Prometheus reads them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = encode(&mut text, &self.registry); // writing into a string does not fail
        text
    }
}
