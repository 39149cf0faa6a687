//! `/metrics`: what a monitor must see. The must-have is `farshore_last_success_timestamp_seconds` per VM, so that a job
//! that silently never runs alerts too (ecosystem.md section 5).

use farshore_core::job;
use farshore_kernel::entity::Memory;
use farshore_runtime::handle::Status;
use farshore_schemas::codec;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Gauge, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

/// The instruments.
pub struct Metrics {
    registry: Registry,
    _provider: SdkMeterProvider,
    last_success: Gauge<u64>,
    frames: Gauge<u64>,
    durable: Gauge<u64>,
    waiting: Gauge<u64>,
    counters: Gauge<u64>,
    halted: Gauge<u64>,
}

/// Why metrics cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("FS-API-METRICS: metrics cannot be set up: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// Sets the instruments up.
    ///
    /// # Errors
    /// [`MetricsError`] when the exporter cannot be made.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("farshore");
        let gauge = |name: &'static str, what: &'static str| meter.u64_gauge(name).with_description(what).build();
        Ok(Metrics {
            last_success: gauge(
                "farshore_last_success_timestamp_seconds",
                "When a VM's newest usable restore point was finished",
            ),
            frames: gauge("farshore_log_last_seq", "Last frame decided"),
            durable: gauge("farshore_log_durable_seq", "Last frame that is durable"),
            waiting: gauge("farshore_outbox_messages", "Messages that wait for confirmation"),
            counters: gauge("farshore_runtime_events", "Counts of the runtime since its start, by kind"),
            halted: gauge("farshore_halted", "1 when the site stopped deciding"),
            registry,
            _provider: provider,
        })
    }

    /// Takes a reading and gives it as Prometheus text.
    ///
    /// # Errors
    /// [`MetricsError`] when it cannot be written.
    pub fn render(&self, status: &Status, jobs: &[Memory]) -> Result<String, MetricsError> {
        let site = KeyValue::new("site", status.site.to_string());
        self.frames.record(status.last.0, std::slice::from_ref(&site));
        self.durable.record(status.durable.0, std::slice::from_ref(&site));
        self.waiting.record(status.waiting.iter().map(|(_, count)| *count as u64).sum(), std::slice::from_ref(&site));
        self.halted.record(u64::from(status.halted.is_some()), std::slice::from_ref(&site));
        let counters = status.counters;
        for (kind, count) in [
            ("decisions", counters.decisions),
            ("rejections", counters.rejections),
            ("repeats", counters.repeats),
            ("gaps", counters.gaps),
            ("panics", counters.panics),
            ("refused", counters.refused),
            ("published", counters.published),
        ] {
            self.counters.record(count, &[site.clone(), KeyValue::new("kind", kind)]);
        }
        for memory in jobs {
            let Ok(job::State::Defined(job)) = codec::decode_checked::<job::State>(&memory.state) else { continue };
            for (vm, at) in &job.last_success {
                let seconds = u64::try_from(at.0 / 1_000).unwrap_or(0);
                let labels = [
                    site.clone(),
                    KeyValue::new("job", memory.actor.name.to_string()),
                    KeyValue::new("vm", vm.to_string()),
                ];
                self.last_success.record(seconds, &labels);
            }
        }
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.map_err(|error| MetricsError(error.to_string()))?;
        String::from_utf8(text).map_err(|error| MetricsError(error.to_string()))
    }
}
