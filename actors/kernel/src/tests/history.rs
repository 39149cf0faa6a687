//! Two sites over a bus that drops, doubles and reorders: every message is taken once and in order, and the frames alone
//! give back what the live sites know.

use super::*;
use crate::entity::Memory;
use crate::sequencer::Sequencer;
use farshore_schemas::envelope::Wire;
use farshore_schemas::frame::{EventsSection, Input};
use farshore_schemas::units::Millis;
use proptest::prelude::*;
use std::collections::BTreeMap;

struct World {
    sites: [Live; 2],
    /// On its way to the site with this index.
    bus: Vec<(usize, Wire)>,
    /// Ids in the order that they were sent, by channel and receiver.
    sent: BTreeMap<(Channel, Address), Vec<MessageId>>,
}

impl World {
    fn new() -> World {
        World { sites: [Live::with_mover("hq", 1), Live::with_mover("dr", 2)], bus: Vec::new(), sent: BTreeMap::new() }
    }

    fn index(site: &SiteName) -> usize {
        usize::from(site.as_str() == "dr")
    }

    fn ask(&mut self, at: usize, slot: u8) {
        let (from, to) = [("dr:session/s", "hq:broker/broker"), ("hq:session/s", "dr:broker/broker")][at];
        self.sites[at].api(&format!("{from}{}", slot % 2), to, request(&format!("slot-{slot}")));
    }

    fn publish(&mut self, at: usize) {
        for envelope in self.sites[at].due() {
            let to = World::index(&envelope.to.site);
            if to == at {
                let wire = Wire::Ack {
                    channel: envelope.channel.clone(),
                    receiver: envelope.to.clone(),
                    number: envelope.number,
                };
                self.bus.push((at, wire));
            } else {
                self.bus.push((to, Wire::Deliver(Box::new(envelope))));
            }
        }
    }

    fn arrive(&mut self, (to, wire): (usize, Wire)) {
        let live = &mut self.sites[to];
        match wire {
            Wire::Deliver(envelope) => {
                let number = match live.deliver(&envelope) {
                    Step::Append { .. } => envelope.number,
                    Step::Ack { number } => number,
                    Step::Fork { .. } | Step::Idle | Step::NoActor => panic!("no site here forks"),
                };
                let wire = Wire::Ack { channel: envelope.channel.clone(), receiver: envelope.to.clone(), number };
                self.bus.push((World::index(&envelope.channel.site), wire));
            }
            Wire::Ack { channel, receiver, number } => {
                live.site.sequencer.hear_ack(&channel, &receiver, number, live.now);
            }
            Wire::Probe { .. } | Wire::Fork { .. } | Wire::Progress { .. } => panic!("not used here"),
        }
    }

    fn act(&mut self, action: u8, pick: u8) {
        let at = usize::from(pick) % self.bus.len().max(1);
        match action {
            0 | 1 => self.ask(usize::from(action), pick),
            2 | 3 if !self.bus.is_empty() => {
                let wire = self.bus.remove(at);
                self.arrive(wire);
            }
            4 if !self.bus.is_empty() => drop(self.bus.remove(at)),
            5 if !self.bus.is_empty() => self.bus.push(self.bus[at].clone()),
            _ => {
                for index in 0..2 {
                    self.sites[index].now = self.sites[index].now.after(Millis(u64::from(pick) * 20));
                    self.publish(index);
                }
            }
        }
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.act(6, 255);
            while let Some(first) = (!self.bus.is_empty()).then(|| self.bus.remove(0)) {
                self.arrive(first);
            }
            if self.sites.iter().all(|live| live.site.sequencer.outbox.waiting().next().is_none()) {
                return;
            }
        }
        panic!("the sites did not come to rest");
    }

    /// Reads out of the frames what was sent, and checks that it was taken once and in order.
    fn check_taken(&mut self) {
        for live in &self.sites {
            for (bytes, _) in &live.frames {
                let raw = RawFrame::decode(bytes).unwrap().0;
                let channel = Channel { site: live.name.clone(), sender: Sender::Control, lineage: raw.header.lineage };
                for (index, sent) in (0u16..).zip(raw.sends_section().unwrap().sends) {
                    let ids = self.sent.entry((channel.clone(), sent.to)).or_default();
                    ids.push(MessageId {
                        site: live.name.clone(),
                        lineage: raw.header.lineage,
                        seq: raw.header.seq,
                        index,
                    });
                    assert_eq!(ids.len() as u64, sent.number);
                }
            }
        }
        let mut taken: BTreeMap<(Channel, Address), Vec<MessageId>> = BTreeMap::new();
        for live in &self.sites {
            for (bytes, _) in &live.frames {
                let input = RawFrame::decode(bytes).unwrap().0.input_section().unwrap();
                if let Input::Message(envelope) = input.input
                    && envelope.channel.sender == Sender::Control
                {
                    taken.entry((envelope.channel, envelope.to)).or_default().push(envelope.id);
                }
            }
        }
        self.sent.retain(|(_, to), _| crate::sequencer::is_actor(to.entity.kind));
        assert_eq!(taken, self.sent);
    }
}

/// Folds all frames one by one beside what `at_each` expects, going on from memories after `cut` frames.
fn refold(live: &Live, start: Lineage, cut: usize) {
    let mut folded = Site::new(&live.name, start);
    for (at, (bytes, hash)) in live.frames.iter().enumerate() {
        if at == cut {
            let memories: Vec<Memory> = folded.entities().map(|entity| entity.memory()).collect();
            let sequencer = Sequencer::load(&live.name, &folded.sequencer.memory());
            folded = Site::from_memories(sequencer, memories).unwrap();
        }
        folded.fold(&RawFrame::decode(bytes).unwrap().0, *hash, Depth::Outbox).unwrap();
    }
    assert_eq!(folded.state_hash(), live.site.state_hash());
    assert_eq!(folded.sequencer.memory(), live.site.sequencer.memory());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_message_is_taken_once_and_in_order(
        actions in proptest::collection::vec((0u8..8, any::<u8>()), 0..150),
        cut in 0usize..60,
    ) {
        let mut world = World::new();
        for (action, pick) in actions {
            world.act(action, pick);
            // At every prefix: what the live sites know is what their frames say.
            for (live, byte) in world.sites.iter().zip([1, 2]) {
                refold(live, lineage(byte), cut);
            }
        }
        world.settle();
        for (live, byte) in world.sites.iter().zip([1, 2]) {
            live.folds_and_redecides(lineage(byte));
            refold(live, lineage(byte), cut);
        }
        world.check_taken();
    }
}

#[test]
fn folding_the_states_alone_gives_the_same_state_hash() {
    let mut hq = Live::with_mover("hq", 1);
    (1..=80).for_each(|number| drop(hq.deliver(&ask(number))));
    let mut folded = Site::new(&hq.name, lineage(1));
    for (bytes, hash) in &hq.frames {
        folded.fold(&RawFrame::decode(bytes).unwrap().0, *hash, Depth::States).unwrap();
    }
    assert_eq!(folded.state_hash(), hq.site.state_hash());
}

/// Stands for an `evolve` whose line was changed: one event is folded otherwise.
#[test]
fn an_event_folded_otherwise_changes_the_hash() {
    let mut hq = Live::with_mover("hq", 1);
    hq.deliver(&ask(1));
    let broker = address("hq:broker/broker").entity;
    let mut honest = crate::entity::new_entity(&broker).unwrap();
    let mut changed = crate::entity::new_entity(&broker).unwrap();
    for (bytes, _) in &hq.frames {
        let section = RawFrame::decode(bytes).unwrap().0.events_section().unwrap();
        if section.actor == broker {
            honest.fold(&section).unwrap();
            let events: Vec<broker::Event> = farshore_schemas::codec::decode_checked(&section.events).unwrap();
            let kept: Vec<_> =
                events.into_iter().filter(|event| !matches!(event, broker::Event::SlotGranted { .. })).collect();
            let events = farshore_schemas::codec::encode(&kept);
            changed.fold(&EventsSection { events, ..section }).unwrap();
        }
    }
    assert_eq!(honest.memory(), hq.site.entity(&broker).unwrap().memory());
    assert_ne!(honest.memory().hash(), changed.memory().hash());
}

#[test]
fn frames_out_of_order_or_of_another_site_are_not_folded() {
    let hq = Live::with_mover("hq", 1);
    let raw = |at: usize| RawFrame::decode(&hq.frames[at].0).unwrap().0;
    let mut folded = Site::new(&hq.name, lineage(1));
    assert!(folded.fold(&raw(1), hq.frames[1].1, Depth::States).is_err());
    let mut other = Site::new(&site_name("dr"), lineage(1));
    assert!(other.fold(&raw(0), hq.frames[0].1, Depth::States).is_err());
    folded.fold(&raw(0), hq.frames[0].1, Depth::States).unwrap();
    assert!(folded.fold(&raw(0), hq.frames[0].1, Depth::States).is_err());
}
