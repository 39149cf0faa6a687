//! What a monitor sees: metrics, health, and spans of decisions sent by OTLP.

use crate::bad_input::{BACKUP, make_vm, wait_for_vm};
use crate::site::Site;
use crate::support::until;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// Takes spans as a collector does. Returns its address and what comes in.
fn collector() -> (String, Receiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (found, spans) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let found = found.clone();
            std::thread::spawn(move || {
                while let Some(request) = read_request(&socket) {
                    for span in request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans)
                    {
                        let _nobody_listens = found.send(span);
                    }
                    let body = ExportTraceServiceResponse::default().encode_to_vec();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let _gone = (&socket).write_all(&[head.as_bytes(), &body].concat());
                }
            });
        }
    });
    (format!("http://{address}"), spans)
}

fn read_request(socket: &TcpStream) -> Option<ExportTraceServiceRequest> {
    let mut reader = BufReader::new(socket);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    if first.is_empty() {
        return None;
    }
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(ExportTraceServiceRequest::decode(body.as_slice()).expect("the body is an OTLP request"))
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Attribute| match value {
        Attribute::StringValue(text) => text.clone(),
        Attribute::IntValue(number) => number.to_string(),
        Attribute::BoolValue(_)
        | Attribute::DoubleValue(_)
        | Attribute::ArrayValue(_)
        | Attribute::KvlistValue(_)
        | Attribute::BytesValue(_)
        | Attribute::StringValueStrindex(_) => format!("{value:?}"),
    };
    let pairs =
        span.attributes.iter().filter_map(|pair| Some((pair.key.clone(), text(pair.value.as_ref()?.value.as_ref()?))));
    pairs.collect()
}

#[test]
fn spans_of_decisions_reach_a_collector_with_the_ids_of_their_frames() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    let (endpoint, spans) = collector();
    let site =
        Site::up_with(&data, &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]);
    wait_for_vm(&site, "web");
    site.apply(BACKUP);
    site.farshore(&["job", "run", "nightly"]).good();
    let decided = until("the span of the job's decision", || {
        spans.try_iter().map(|span| (span.name.clone(), attributes(&span))).find(|(name, of)| {
            name == "decide" && of.get("actor").is_some_and(|actor| actor == "job/nightly") && of.contains_key("seq")
        })
    });
    let seq = decided.1["seq"].clone();
    let frame = site.farshore(&["log", "show", &seq, "-o", "json"]).good().json();
    assert_eq!(frame["input"]["actor"]["kind"], "job", "{:?}", decided.1);
    assert_eq!(decided.1["site"], "main");
    assert!(!decided.1["cause"].is_empty(), "{:?}", decided.1);
    site.stop();
}

#[test]
fn metrics_and_health_tell_a_monitor_what_it_must_know() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    let site = Site::up(&data, &[]);
    assert_eq!(site.text("/healthz"), "ok\n");
    assert_eq!(site.text("/readyz"), "ready\n");
    wait_for_vm(&site, "web");
    site.apply(BACKUP);
    let wanted = |line: &str| {
        line.starts_with("farshore_last_success_timestamp_seconds{") && line.contains("vm=\"main/local/web\"")
    };
    assert!(!site.text("/metrics").lines().any(|line| line.contains("farshore_last_success") && line.contains("web")));
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    site.farshore(&["job", "run", "nightly"]).good();
    let text = site.text("/metrics");
    let line = text.lines().find(|line| wanted(line)).unwrap_or_else(|| panic!("no success of the VM in {text}"));
    let at: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(at >= before as f64 && line.contains("job=\"nightly\"") && line.contains("site=\"main\""), "{line}");
    let halted = text.lines().find(|line| line.starts_with("farshore_halted{site=\"main\"")).unwrap();
    assert!(halted.ends_with("} 0"), "{halted}");
    let token = &site.token;
    assert!(
        !text.contains(token.as_str()) && !site.said().contains(token.as_str()),
        "no secret in metrics or messages"
    );
    site.stop();
}
