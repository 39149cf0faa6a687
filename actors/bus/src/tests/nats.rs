//! What only NATS can do wrong.

use super::{next, room, soon};
use crate::testing::NatsServer;
use crate::{Bus, BusError, NatsBus, NatsOptions, Service};
use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use farshore_schemas::codec::MAX_MESSAGE;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

fn options(url: &str) -> NatsOptions {
    NatsOptions { patience: Duration::from_millis(500), ..NatsOptions::new(url, "test") }
}

#[tokio::test]
async fn nobody_at_the_port_is_unreachable_and_the_password_stays_secret() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let failed = NatsBus::connect(&options(&format!("nats://joe:s3cret@127.0.0.1:{port}"))).await.unwrap_err();
    assert!(matches!(failed, BusError::Unreachable { .. }), "{failed}");
    let text = failed.to_string();
    assert!(text.starts_with("FS-BUS-UNREACHABLE"), "{text}");
    assert!(text.contains(&format!("nats://127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_port_that_stays_silent_is_unreachable() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let failed = soon(NatsBus::connect(&options(&format!("nats://127.0.0.1:{port}")))).await.unwrap_err();
    assert!(matches!(failed, BusError::Unreachable { .. }), "{failed}");
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_reached() {
    let mut server = NatsServer::start().unwrap();
    let url = server.url();
    server.stop();
    let patient = NatsOptions { patience: Duration::from_secs(60), ..NatsOptions::new(&url, "test") };
    let connecting = tokio::spawn(async move { NatsBus::connect(&patient).await.map(|_| ()) });
    tokio::task::yield_now().await;
    server.start_again().unwrap();
    assert_eq!(soon(connecting).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_wrong_token_is_denied_at_once() {
    let server = NatsServer::start_with(&["--auth", "right"]).unwrap();
    let failed = NatsBus::connect(&NatsOptions::new(&server.url(), "test")).await.unwrap_err();
    assert!(matches!(failed, BusError::Denied { .. }), "{failed}");
    let url = server.url().replace("nats://", "nats://right@");
    let bus = NatsBus::connect(&NatsOptions::new(&url, "test")).await.unwrap();
    bus.flush().await.unwrap();
}

#[tokio::test]
async fn a_login_in_the_url_is_used() {
    let server = NatsServer::start_with(&["--user", "joe", "--pass", "s3cret"]).unwrap();
    let wrong = server.url().replace("nats://", "nats://joe:guess@");
    let failed = NatsBus::connect(&NatsOptions::new(&wrong, "test")).await.unwrap_err();
    assert!(matches!(failed, BusError::Denied { .. }), "{failed}");
    let right = server.url().replace("nats://", "nats://joe:s3cret@");
    NatsBus::connect(&NatsOptions::new(&right, "test")).await.unwrap().flush().await.unwrap();
}

#[tokio::test]
async fn unusable_options_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.creds");
    std::fs::write(&broken, "not credentials").unwrap();
    for credentials in [folder.path().join("missing.creds"), broken] {
        let options = NatsOptions { credentials: Some(credentials.clone()), ..options("nats://127.0.0.1:1") };
        let failed = NatsBus::connect(&options).await.unwrap_err();
        assert!(matches!(failed, BusError::Options { .. }), "{failed}");
        assert!(failed.to_string().contains(&credentials.display().to_string()), "{failed}");
    }
    for url in ["", "nats://joe:s3cret@[half", "carrier-pigeon://x"] {
        let failed = NatsBus::connect(&options(url)).await.unwrap_err();
        assert!(matches!(failed, BusError::Options { .. }), "{url}: {failed}");
        assert!(!failed.to_string().contains("s3cret"), "{failed}");
    }
}

#[tokio::test]
async fn a_server_with_a_smaller_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.conf");
    std::fs::write(&file, "max_payload: 65536\n").unwrap();
    let server = NatsServer::start_with(&["-c", file.to_str().unwrap()]).unwrap();
    let failed = NatsBus::connect(&options(&server.url())).await.unwrap_err();
    assert!(matches!(failed, BusError::ServerLimit { max_payload: 65536, .. }), "{failed}");
}

#[tokio::test]
async fn a_lost_server_is_seen_refused_and_found_again() {
    let mut server = NatsServer::start().unwrap();
    let bus = NatsBus::connect(&NatsOptions::new(&server.url(), "test")).await.unwrap();
    let mut inbox = bus.subscribe("fs1.hq.host.a", room(4)).await.unwrap();
    let mut link = bus.connected();
    server.stop();
    soon(link.wait_for(|link| !link.up)).await.unwrap();
    let refused = bus.publish("fs1.hq.host.a", Bytes::from_static(b"lost"));
    assert!(matches!(refused, Err(BusError::Down { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().starts_with("FS-BUS-DOWN"));
    server.start_again().unwrap();
    soon(link.wait_for(|link| link.up && link.connects == 2)).await.unwrap();
    bus.publish("fs1.hq.host.a", Bytes::from_static(b"found")).unwrap();
    assert_eq!(next(&mut inbox).await.payload, Bytes::from_static(b"found"));
}

#[tokio::test]
async fn a_foreign_message_larger_than_ours_is_dropped_and_counted() {
    let server = NatsServer::start().unwrap();
    let bus = NatsBus::connect(&NatsOptions::new(&server.url(), "test")).await.unwrap();
    let mut inbox = bus.subscribe("fs1.hq.host.a", room(4)).await.unwrap();
    let stranger = async_nats::connect(server.url()).await.unwrap();
    stranger.publish("fs1.hq.host.a", Bytes::from(vec![0; MAX_MESSAGE + 1])).await.unwrap();
    stranger.publish("fs1.hq.host.a", Bytes::from_static(b"small")).await.unwrap();
    assert_eq!(next(&mut inbox).await.payload, Bytes::from_static(b"small"));
    assert_eq!(bus.counters().snapshot().oversized, 1);
}

/// One thread only, so nothing leaves the queue while this test does not wait.
#[tokio::test(flavor = "current_thread")]
async fn the_outgoing_queue_refuses_when_full_and_recovers() {
    let server = NatsServer::start().unwrap();
    let bus = NatsBus::connect(&NatsOptions::new(&server.url(), "test")).await.unwrap();
    let payload = Bytes::from(vec![0; MAX_MESSAGE]);
    let taken = (0..1000).take_while(|_| bus.publish("fs1.hq.host.a", payload.clone()).is_ok()).count();
    assert_eq!(taken, crate::nats::OUT_BYTES / MAX_MESSAGE);
    let refused = bus.publish("fs1.hq.host.a", payload.clone());
    assert!(matches!(refused, Err(BusError::Full { .. })), "{refused:?}");
    bus.flush().await.unwrap();
    assert_eq!(bus.publish("fs1.hq.host.a", payload), Ok(()));
    let small = (0..10_000).take_while(|_| bus.publish("fs1.hq.host.a", Bytes::new()).is_ok()).count();
    assert!(small < 4096, "{small} messages were taken without end");
}

#[tokio::test]
async fn an_announced_service_answers_where_nats_lists_services() {
    let server = NatsServer::start().unwrap();
    let bus = NatsBus::connect(&NatsOptions::new(&server.url(), "test")).await.unwrap();
    let metadata = BTreeMap::from([("site".to_owned(), "hq".to_owned())]);
    let service = Service { name: "farshore-agent".into(), version: "0.1.0".into(), metadata };
    let listed = bus.announce(&service).await.unwrap();
    let asking = async_nats::connect(server.url()).await.unwrap();
    let answer = soon(asking.request("$SRV.PING.farshore-agent", Bytes::new())).await.unwrap();
    let ping: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(ping["name"], "farshore-agent");
    assert_eq!(ping["version"], "0.1.0");
    assert_eq!(ping["metadata"]["site"], "hq");
    drop(listed);
    // The server needs a moment to hear of it.
    soon(async {
        loop {
            let request = async_nats::Request::new().timeout(Some(Duration::from_millis(200)));
            match asking.send_request("$SRV.PING.farshore-agent", request).await {
                Err(error) if error.kind() == RequestErrorKind::NoResponders => break,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let bad = Service { name: "two words".into(), ..service };
    let refused = bus.announce(&bad).await.unwrap_err();
    assert!(matches!(refused, BusError::Announce { .. }), "{refused}");
}
