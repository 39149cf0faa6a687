//! Logs and traces of the process: tracing to standard error (plain on a terminal, JSON elsewhere), and OTLP over HTTP when
//! `OTEL_EXPORTER_OTLP_ENDPOINT` (or the one for traces) is set. The blocking client is used on purpose: with the async one
//! the batch thread has no reactor and drops every span in silence.

use crate::failure::Failure;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Keeps the exporter; dropping it sends what is left.
pub(crate) struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// Sets tracing up for the process. `level` is what is said without `RUST_LOG`.
pub(crate) fn start(level: &str, service: &str) -> Result<Telemetry, Failure> {
    let filter = || EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let terminal = std::io::stderr().is_terminal();
    let text = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let text = if terminal { text.boxed() } else { text.json().boxed() };
    let provider = exporter(service)?;
    // The exporter sees every decision, whatever is said on standard error.
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("farshore"))
            .with_filter(EnvFilter::new("warn,farshore=debug,farshore_runtime=debug,farshore_agent=debug"))
    });
    let set = tracing_subscriber::registry().with(text.with_filter(filter())).with(spans).try_init();
    set.map_err(|error| Failure::defect(&error))?;
    Ok(Telemetry { provider })
}

fn exporter(service: &str) -> Result<Option<SdkTracerProvider>, Failure> {
    let wanted = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if !wanted || disabled {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build().map_err(|error| {
        Failure::new(
            "FS-OTLP",
            format!("the OTLP exporter cannot be made: {error}"),
            "check the OTEL_* variables, or unset them",
        )
    })?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name(service.to_owned()).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}
