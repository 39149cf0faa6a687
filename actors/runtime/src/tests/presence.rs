//! Which agents are there.

use super::*;
use crate::handle::AgentHeard;

/// Of the agent `m1`.
fn seen(status: &Status) -> Option<AgentHeard> {
    status.agents.iter().find(|agent| agent.agent.as_str() == "m1").cloned()
}

fn ack(number: u64) -> Wire {
    let channel = Channel { site: hq(), sender: Sender::Control, lineage: LINEAGE };
    Wire::Ack { channel, receiver: "hq:agent/m1".parse().unwrap(), number }
}

#[tokio::test]
async fn an_agent_is_there_while_it_speaks_or_answers_and_gone_when_it_does_neither() {
    let rig = Rig::new().await;
    rig.accepted("mover/m1", define()).await;
    assert_eq!(seen(&rig.handle.status().await.unwrap()), None, "it was never heard");
    let rig = rig.with_mover().await;
    assert!(seen(&rig.until(|status| seen(status).is_some()).await).unwrap().there, "its hello counts");
    rig.clock.forward(14_999);
    assert!(seen(&rig.handle.status().await.unwrap()).unwrap().there);
    rig.clock.forward(1);
    let gone = seen(&rig.handle.status().await.unwrap()).unwrap();
    assert_eq!((gone.heard, gone.there), (Timestamp(1_000_000), false), "and when it was last heard is known");
    send_wire(&rig.bus, &subjects::acks(&hq(), &Sender::Control), &ack(0)).unwrap();
    let back = rig.until(|status| seen(status).unwrap().there).await;
    assert_eq!(seen(&back).unwrap().heard, Timestamp(1_015_000), "an answer counts");
    rig.clock.forward(-60_000);
    assert!(!seen(&rig.handle.status().await.unwrap()).unwrap().there, "a clock set back makes nobody be there");
}

#[tokio::test]
async fn agents_of_movers_are_asked_again_and_again_and_others_do_not_count() {
    let rig = Rig::new().await.with_mover().await;
    let mut inbox = rig.hear("fs1.hq.agent.m1").await;
    for _ in 0..3 {
        rig.clock.forward(5_000);
        while !matches!(next(&mut inbox).await, Wire::Probe { .. }) {}
    }
    let other = Wire::Ack { channel: ask(1).channel, receiver: "hq:agent/m2".parse().unwrap(), number: 0 };
    let (Wire::Ack { channel, .. }, number) = (ack(0), 0) else { panic!("an ack") };
    let stranger = Wire::Ack { channel, receiver: "hq:agent/m3".parse().unwrap(), number };
    for wire in [other, stranger, ack(0)] {
        send_wire(&rig.bus, &subjects::acks(&hq(), &Sender::Control), &wire).unwrap();
    }
    let status = rig.until(|status| seen(status).is_some_and(|m1| m1.heard == Timestamp(1_015_000))).await;
    assert_eq!(status.agents.len(), 1, "{:?}", status.agents);
}
