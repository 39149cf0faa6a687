//! What comes in over the bus: repeats, strangers, floods, wakes, and what a start hands over again.

use super::*;
use farshore_kernel::site::Step;
use farshore_schemas::messages::job;
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::units::Millis;

#[tokio::test]
async fn a_repeat_is_acked_again_and_not_decided_twice() {
    let rig = Rig::new().await.with_mover().await;
    let mut acks = rig.acks().await;
    rig.say(&ask(1));
    assert_eq!(acked(&mut acks).await, 1);
    let decisions = rig.handle.status().await.unwrap().counters.decisions;
    rig.say(&ask(1));
    assert_eq!(acked(&mut acks).await, 1);
    rig.say(&ask(3));
    assert_eq!(acked(&mut acks).await, 1, "the second is missing");
    let counters = rig.handle.status().await.unwrap().counters;
    assert_eq!((counters.decisions, counters.repeats, counters.gaps), (decisions, 1, 1));
}

#[tokio::test]
async fn who_may_not_speak_is_refused_and_counted() {
    let rig = Rig::new().await.with_mover().await;
    let before = rig.handle.status().await.unwrap();
    let stranger = envelope("xx:session/s1", "hq:broker/broker", 1, request(1));
    let other_agent = Envelope { from: "hq:agent/other".parse().unwrap(), ..hello(2) };
    let own = envelope("hq:session/s1", "hq:broker/broker", 1, request(1));
    let api = Envelope { channel: Channel { sender: Sender::Api, ..ask(1).channel }, ..ask(1) };
    [&stranger, &other_agent, &own, &api].into_iter().for_each(|envelope| rig.say(envelope));
    rig.bus.publish("fs1.hq.broker.broker", bytes::Bytes::from_static(b"garbage")).unwrap();
    let after = rig.until(|status| status.counters.refused == before.counters.refused + 5).await;
    assert_eq!(after.last, before.last);
}

#[tokio::test]
async fn a_flood_is_taken_whole_and_in_order() {
    let rig = Rig::new().await.with_mover().await;
    let mut acks = rig.acks().await;
    (1..=3_000).for_each(|number| rig.say(&ask(number)));
    while acked(&mut acks).await < 3_000 {}
    assert_eq!(rig.handle.status().await.unwrap().counters.gaps, 0);
}

#[tokio::test]
async fn a_probe_is_answered_with_what_is_durable() {
    let rig = Rig::new().await.with_mover().await;
    let mut acks = rig.acks().await;
    let (channel, receiver) = (ask(1).channel, ask(1).to);
    let probe = Wire::Probe { channel, receiver };
    send_wire(&rig.bus, "fs1.hq.broker.broker", &probe).unwrap();
    assert_eq!(acked(&mut acks).await, 0);
    rig.log.hold();
    rig.say(&ask(1));
    rig.log.queued(1).await;
    send_wire(&rig.bus, "fs1.hq.broker.broker", &probe).unwrap();
    rig.until(|status| status.last > status.durable).await;
    assert!(acks.try_next().is_none());
    rig.log.release();
    assert_eq!(acked(&mut acks).await, 1);
}

#[tokio::test]
async fn an_actor_is_woken_when_it_asked_to_be() {
    let rig = Rig::new().await;
    // Ten milliseconds before the next hour.
    rig.clock.forward(3_600_000 - 10 - 1_000_000);
    let spec = job::JobSpec {
        work: job::Work::Backup { host: "h".parse().unwrap(), vms: Vec::new(), repository: "r".parse().unwrap() },
        schedule: job::Schedule::Periodic { every: Millis::from_mins(60), zone: "UTC".to_owned() },
        retry: job::Retry { attempts: 0, wait: Millis(0) },
        keep: Keep::newest(7),
    };
    let mut frames = rig.handle.frames();
    rig.accepted("job/hourly", Message::Job(job::Command::Define(spec))).await;
    assert_eq!(frames.recv().await.unwrap().seq, Seq(1));
    rig.clock.forward(20);
    let woken = frames.recv().await.unwrap();
    assert_eq!((woken.seq, woken.actor), (Seq(2), "job/hourly".parse().unwrap()));
}

#[tokio::test]
async fn a_start_hands_over_what_actors_of_the_site_had_not_taken() {
    let mut site = Site::new(&hq(), LINEAGE);
    let mut envelope = envelope("hq:api/local", "hq:mover/m1", 0, define());
    envelope.channel.sender = Sender::Api;
    let Step::Append { stamped, .. } = site.deliver(&envelope, Timestamp(1)) else { panic!("a frame") };
    assert_eq!(stamped.sends.len(), 1, "the broker is told");
    let log = TestLog::with(vec![NewFrame { seq: stamped.seq, bytes: stamped.bytes, hash: stamped.hash }]);
    let rig = Rig::with(log, Vec::new, || Box::new(NoView)).await;
    let status = rig.until(|status| status.durable >= Seq(2)).await;
    assert!(status.waiting.is_empty());
    assert!(rig.handle.memory(&"broker/broker".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_clock_too_far_ahead_is_an_alarm_once() {
    let rig = Rig::new().await.with_mover().await;
    let ahead = |number| Envelope { sent: Hlc { wall: Timestamp(2_000_000), count: 0 }, ..ask(number) };
    let mut acks = rig.acks().await;
    rig.say(&ahead(1));
    rig.say(&ahead(2));
    while acked(&mut acks).await < 2 {}
    let alarms = rig.handle.status().await.unwrap().alarms;
    assert_eq!(alarms.iter().filter(|alarm| alarm.starts_with("FS-RUNTIME-CLOCK")).count(), 1);
}

#[tokio::test]
async fn what_a_log_that_was_put_back_has_lost_is_an_alarm_and_the_channel_goes_on() {
    let rig = Rig::new().await.with_mover().await;
    let mut acks = rig.acks().await;
    rig.say(&Envelope { floor: 4, ..ask(5) });
    assert_eq!(acked(&mut acks).await, 0, "the fourth can still be had");
    rig.say(&Envelope { floor: 4, ..ask(4) });
    assert_eq!(acked(&mut acks).await, 4);
    let alarms = rig.handle.status().await.unwrap().alarms;
    let lost = alarms.iter().find(|alarm| alarm.starts_with("FS-RUNTIME-LOST")).unwrap();
    assert!(lost.contains("dr") && lost.contains("broker/broker") && lost.contains("1 to 3"), "{lost}");
}
