//! Run against all.

use super::{InProcess, Rig, Socket, next, room, soon};
use crate::testing::NatsServer;
use crate::{BusError, LocalBus, Service, decode_wire, send_wire};
use bytes::Bytes;
use farshore_schemas::codec::{self, MAX_MESSAGE};
use farshore_schemas::envelope::{Channel, Sender, Wire};
use farshore_schemas::ids::{Address, Lineage};
use farshore_schemas::subjects;
use std::collections::BTreeMap;
use std::sync::Arc;

macro_rules! on_all {
    ($($name:ident,)+) => {
        mod in_process {
            $(#[tokio::test] async fn $name() { super::$name(&super::InProcess(super::LocalBus::new())).await; })+
        }
        mod socket {
            $(#[tokio::test] async fn $name() { super::$name(&super::Socket::start()).await; })+
        }
        mod nats {
            $(#[tokio::test] async fn $name() { super::$name(&super::NatsServer::start().unwrap()).await; })+
        }
    };
}

on_all! {
    messages_arrive_whole_and_in_order,
    every_listener_gets_a_copy,
    subscriptions_match_as_the_schemas_say,
    nobody_listening_is_no_error,
    a_full_queue_drops_counts_and_goes_on,
    the_largest_message_passes_and_one_byte_more_is_refused,
    malformed_subjects_are_refused,
    a_subscription_ends_when_it_is_dropped,
    every_kind_of_wire_message_comes_back_equal,
    what_is_no_message_is_counted_and_the_next_one_still_comes,
    publishing_needs_no_async_context,
    the_link_is_up_from_the_start,
    a_service_can_be_announced,
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn messages_arrive_whole_and_in_order(rig: &dyn Rig) {
    let (sender, receiver) = (rig.party().await, rig.party().await);
    let mut inbox = receiver.subscribe("fs1.hq.host.a", room(1000)).await.unwrap();
    for number in 0..1000 {
        sender.publish("fs1.hq.host.a", bytes(&format!("message {number}"))).unwrap();
    }
    for number in 0..1000 {
        let message = next(&mut inbox).await;
        assert_eq!(message.subject, "fs1.hq.host.a");
        assert_eq!(message.payload, bytes(&format!("message {number}")));
    }
    assert_eq!(sender.counters().snapshot().published, 1000);
    assert_eq!(receiver.counters().snapshot().delivered, 1000);
    assert_eq!(inbox.dropped(), 0);
}

async fn every_listener_gets_a_copy(rig: &dyn Rig) {
    let (one, other) = (rig.party().await, rig.party().await);
    let mut exact = one.subscribe("fs1.hq.host.a", room(4)).await.unwrap();
    let mut again = one.subscribe("fs1.hq.host.a", room(4)).await.unwrap();
    let mut wild = other.subscribe("fs1.hq.*.a", room(4)).await.unwrap();
    one.publish("fs1.hq.host.a", bytes("x")).unwrap();
    for inbox in [&mut exact, &mut again, &mut wild] {
        assert_eq!(next(inbox).await.payload, bytes("x"));
    }
}

async fn subscriptions_match_as_the_schemas_say(rig: &dyn Rig) {
    let bus = rig.party().await;
    let asked = ["fs1.hq.host.*", "fs1.hq.host.a", "fs1.>", "fs1.*.host.a", "*.hq.host.a.ack", "fs1.hq.>"];
    let said = ["fs1.hq.host.a", "fs1.hq.host.b", "fs1.dr.host.a", "fs1.hq.host.a.ack", "fs1.hq.progress", "fs1"];
    for subscription in asked {
        let mut inbox = bus.subscribe(subscription, room(16)).await.unwrap();
        for subject in said {
            bus.publish(subject, Bytes::new()).unwrap();
        }
        bus.flush().await.unwrap();
        let expected: Vec<_> = said.into_iter().filter(|subject| subjects::matches(subscription, subject)).collect();
        for subject in expected {
            assert_eq!(next(&mut inbox).await.subject, subject, "under {subscription}");
        }
        assert_eq!(inbox.try_next(), None, "under {subscription}");
    }
}

async fn nobody_listening_is_no_error(rig: &dyn Rig) {
    let bus = rig.party().await;
    assert_eq!(bus.publish("fs1.hq.host.nobody", bytes("x")), Ok(()));
    bus.flush().await.unwrap();
}

async fn a_full_queue_drops_counts_and_goes_on(rig: &dyn Rig) {
    let (sender, receiver) = (rig.party().await, rig.party().await);
    let mut small = receiver.subscribe("fs1.hq.host.a", room(2)).await.unwrap();
    let mut large = receiver.subscribe("fs1.hq.host.*", room(16)).await.unwrap();
    for number in 0..5 {
        let published = sender.publish("fs1.hq.host.a", bytes(&number.to_string()));
        assert!(matches!(published, Ok(()) | Err(BusError::Full { .. })), "{published:?}");
    }
    let mut dropped = small.watch_dropped();
    soon(dropped.wait_for(|dropped| *dropped == 3)).await.unwrap();
    for number in 0..5 {
        assert_eq!(next(&mut large).await.payload, bytes(&number.to_string()));
    }
    assert_eq!(next(&mut small).await.payload, bytes("0"));
    assert_eq!(next(&mut small).await.payload, bytes("1"));
    sender.publish("fs1.hq.host.a", bytes("later")).unwrap();
    assert_eq!(next(&mut small).await.payload, bytes("later"));
    assert_eq!((small.dropped(), large.dropped()), (3, 0));
    assert_eq!(receiver.counters().snapshot().dropped, 3);
}

async fn the_largest_message_passes_and_one_byte_more_is_refused(rig: &dyn Rig) {
    let bus = rig.party().await;
    let mut inbox = bus.subscribe("fs1.hq.host.a", room(4)).await.unwrap();
    let refused = bus.publish("fs1.hq.host.a", Bytes::from(vec![7; MAX_MESSAGE + 1]));
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().starts_with("FS-BUS-TOO-LARGE"));
    bus.publish("fs1.hq.host.a", Bytes::from(vec![8; MAX_MESSAGE])).unwrap();
    assert_eq!(next(&mut inbox).await.payload, Bytes::from(vec![8; MAX_MESSAGE]));
    let counts = bus.counters().snapshot();
    assert_eq!((counts.published, counts.refused), (1, 1));
}

async fn malformed_subjects_are_refused(rig: &dyn Rig) {
    let bus = rig.party().await;
    let long = "x".repeat(1025);
    for subject in ["", ".", "a..b", "a.", "a b", "a\r\nPUB x", "a.\u{7f}", "a.*", "a.>", long.as_str()] {
        let refused = bus.publish(subject, Bytes::new());
        assert!(matches!(refused, Err(BusError::Subject { .. })), "{subject:?}: {refused:?}");
    }
    for subscription in ["", "a..b", ">.a", "a*", "a.b>", "a b"] {
        let refused = bus.subscribe(subscription, room(1)).await.map(|_| ());
        assert!(matches!(refused, Err(BusError::Subject { .. })), "{subscription:?}: {refused:?}");
    }
}

async fn a_subscription_ends_when_it_is_dropped(rig: &dyn Rig) {
    let bus = rig.party().await;
    let gone = bus.subscribe("fs1.hq.host.*", room(1)).await.unwrap();
    drop(gone);
    let mut stays = bus.subscribe("fs1.hq.host.a", room(8)).await.unwrap();
    for _ in 0..4 {
        bus.publish("fs1.hq.host.a", bytes("x")).unwrap();
    }
    for _ in 0..4 {
        next(&mut stays).await;
    }
    let counts = bus.counters().snapshot();
    assert_eq!((counts.delivered, counts.dropped), (4, 0));
}

fn wires() -> Vec<Wire> {
    let channel = Channel { site: "hq".parse().unwrap(), sender: Sender::Control, lineage: Lineage([7; 16]) };
    let receiver: Address = "dr:replica/web".parse().unwrap();
    vec![
        Wire::Ack { channel: channel.clone(), receiver: receiver.clone(), number: u64::MAX },
        Wire::Probe { channel: channel.clone(), receiver: receiver.clone() },
        Wire::Fork { channel, receiver, number: 0 },
    ]
}

async fn every_kind_of_wire_message_comes_back_equal(rig: &dyn Rig) {
    let bus = rig.party().await;
    let mut inbox = bus.subscribe("fs1.hq.control.ack", room(8)).await.unwrap();
    for wire in wires() {
        send_wire(bus.as_ref(), "fs1.hq.control.ack", &wire).unwrap();
        let (subject, received) = soon(inbox.next_wire()).await.unwrap();
        assert_eq!((subject.as_str(), received), ("fs1.hq.control.ack", Ok(wire)));
    }
    assert_eq!(bus.counters().snapshot().undecodable, 0);
}

async fn what_is_no_message_is_counted_and_the_next_one_still_comes(rig: &dyn Rig) {
    let bus = rig.party().await;
    let mut inbox = bus.subscribe("fs1.hq.control.ack", room(16)).await.unwrap();
    let good = wires().remove(0);
    let mut trailing = codec::encode(&good);
    trailing.push(0xc0);
    let cut = codec::encode(&good)[..10].to_vec();
    let garbage = [
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x91; MAX_MESSAGE],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xc1; 64],
        trailing,
        cut,
    ];
    for payload in &garbage {
        bus.publish("fs1.hq.control.ack", Bytes::copy_from_slice(payload)).unwrap();
        let (_, received) = soon(inbox.next_wire()).await.unwrap();
        assert!(received.is_err(), "{:?}", &payload[..payload.len().min(20)]);
    }
    send_wire(bus.as_ref(), "fs1.hq.control.ack", &good).unwrap();
    assert_eq!(soon(inbox.next_wire()).await.unwrap().1, Ok(good));
    assert_eq!(bus.counters().snapshot().undecodable, garbage.len() as u64);
}

async fn publishing_needs_no_async_context(rig: &dyn Rig) {
    let bus = rig.party().await;
    let mut inbox = bus.subscribe("fs1.hq.host.a", room(1)).await.unwrap();
    let publisher = Arc::clone(&bus);
    std::thread::spawn(move || publisher.publish("fs1.hq.host.a", bytes("from a thread"))).join().unwrap().unwrap();
    assert_eq!(next(&mut inbox).await.payload, bytes("from a thread"));
}

async fn the_link_is_up_from_the_start(rig: &dyn Rig) {
    let link = *rig.party().await.connected().borrow();
    assert!(link.up);
    assert_eq!(link.connects, 1);
}

async fn a_service_can_be_announced(rig: &dyn Rig) {
    let bus = rig.party().await;
    let service = Service { name: "farshore-control".into(), version: "0.1.0".into(), metadata: BTreeMap::new() };
    drop(bus.announce(&service).await.unwrap());
}

proptest::proptest! {
    #[test]
    fn any_bytes_decode_to_a_message_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
        let _ = decode_wire(&bytes);
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0usize..200, value in proptest::prelude::any::<u8>()) {
        for wire in wires() {
            let mut bytes = codec::encode(&wire);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode_wire(&bytes);
        }
    }
}
