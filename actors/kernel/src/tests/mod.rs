//! Tests of the kernel, with real deciders: a mover says to its broker what it is, a broker grants slots to sessions of
//! either site, and sessions that do not exist refuse them.

mod channels;
mod history;
mod outbox;
mod verdicts;

use crate::site::{Depth, Site, Step};
use farshore_schemas::envelope::{Channel, Envelope, Sender};
use farshore_schemas::frame::{RawFrame, genesis_hash};
use farshore_schemas::ids::{Address, Digest, Lineage, MessageId, Seq, SiteName};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::broker::Priority;
use farshore_schemas::messages::mover::{MoverSpec, Role};
use farshore_schemas::messages::{Message, broker, mover};
use farshore_schemas::units::{Hlc, Timestamp};

/// A live site and every frame that it has appended.
pub(super) struct Live {
    pub(super) site: Site,
    pub(super) now: Timestamp,
    pub(super) frames: Vec<(Vec<u8>, Digest)>,
    name: SiteName,
}

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub(super) fn site_name(text: &str) -> SiteName {
    text.parse().unwrap()
}

pub(super) fn lineage(byte: u8) -> Lineage {
    Lineage([byte; 16])
}

impl Live {
    pub(super) fn new(name: &str, byte: u8) -> Live {
        let name = site_name(name);
        Live { site: Site::new(&name, lineage(byte)), now: Timestamp(1_000_000), frames: Vec::new(), name }
    }

    /// A site whose mover `m1` is known to its broker.
    pub(super) fn with_mover(name: &str, byte: u8) -> Live {
        let mut live = Live::new(name, byte);
        let (mover, agent) = (format!("{name}:mover/m1"), format!("{name}:agent/m1"));
        live.api("site/site", &mover, define(100));
        live.deliver(&agent_says(&agent, &mover, 1, hello(name)));
        live
    }

    /// A message without a number, from a party of any name.
    pub(super) fn api(&mut self, from: &str, to: &str, message: Message) -> Step {
        let from = if from.contains(':') { address(from) } else { address(&format!("{}:{from}", self.name)) };
        let envelope = Envelope {
            channel: Channel { site: self.name.clone(), sender: Sender::Api, lineage: lineage(0) },
            number: 0,
            ..envelope(from, address(to), (0, 0), message)
        };
        self.deliver(&envelope)
    }

    /// Delivers, keeps the frame, and hands over what it sends to actors of this site.
    pub(super) fn deliver(&mut self, envelope: &Envelope) -> Step {
        let step = self.site.deliver(envelope, self.now);
        self.keep(&step);
        step
    }

    pub(super) fn keep(&mut self, step: &Step) {
        let Step::Append { stamped, .. } = step else { return };
        self.frames.push((stamped.bytes.clone(), stamped.hash));
        for (to, entry) in &stamped.sends {
            if crate::outbox::is_local(to, &self.name) {
                let local = self.site.sequencer.envelope(to, entry);
                self.deliver(&local);
            }
        }
    }

    pub(super) fn tail(&self) -> Seq {
        self.site.sequencer.tail().0
    }

    /// What goes onto the bus now.
    pub(super) fn due(&mut self) -> Vec<Envelope> {
        let tail = self.tail();
        self.site.sequencer.due(self.now, tail)
    }

    /// Checks that folding every frame gives this site at each prefix, and that deciding again gives the same.
    pub(super) fn folds_and_redecides(&self, lineage_at_start: Lineage) {
        let (mut folded, mut again) =
            (Site::new(&self.name, lineage_at_start), Site::new(&self.name, lineage_at_start));
        for (bytes, hash) in &self.frames {
            let (raw, _) = RawFrame::decode(bytes).unwrap();
            folded.fold(&raw, *hash, Depth::Outbox).unwrap();
            assert_eq!(crate::redecide::redecide(&mut again, &raw, *hash).unwrap(), None);
        }
        assert_eq!(folded.state_hash(), self.site.state_hash());
        assert_eq!(folded.sequencer.memory(), self.site.sequencer.memory());
        assert_eq!(again.sequencer.memory(), self.site.sequencer.memory());
        assert_ne!(genesis_hash(lineage_at_start), folded.sequencer.tail().1);
    }
}

pub(super) fn define(slots: u32) -> Message {
    Message::Mover(mover::Command::Define(MoverSpec { roles: vec![Role::Source], slots }))
}

pub(super) fn hello(site: &str) -> Message {
    let endpoint = Endpoint {
        site: site_name(site),
        agent: "m1".parse().unwrap(),
        address: "127.0.0.1:7000".to_owned(),
        fingerprint: Digest([7; 32]),
    };
    Message::Mover(mover::Command::Hello { incarnation: lineage(9), endpoint, version: "1".to_owned(), cores: 2 })
}

pub(super) fn request(slot: &str) -> Message {
    Message::Broker(broker::Command::RequestSlot {
        slot: slot.parse().unwrap(),
        role: Role::Source,
        must: None,
        priority: Priority::Normal,
    })
}

pub(super) fn envelope(from: Address, to: Address, (lineage_byte, number): (u8, u64), body: Message) -> Envelope {
    let lineage = lineage(lineage_byte);
    Envelope {
        channel: Channel { site: from.site.clone(), sender: Sender::Control, lineage },
        id: MessageId { site: from.site.clone(), lineage, seq: Seq(number), index: 0 },
        number,
        floor: 1,
        sent: Hlc { wall: Timestamp(1_000_000), count: 0 },
        expires: None,
        supersede: None,
        principal: from.to_string(),
        trace: None,
        body: Some(body),
        from,
        to,
    }
}

pub(super) fn agent_says(from: &str, to: &str, number: u64, body: Message) -> Envelope {
    let mut envelope = envelope(address(from), address(to), (9, number), body);
    envelope.channel.sender = Sender::Agent(envelope.from.entity.name.clone());
    envelope
}

/// `dr` asks the broker of `hq` for a slot, as message `number`.
pub(super) fn ask(number: u64) -> Envelope {
    envelope(address("dr:session/s1"), address("hq:broker/broker"), (2, number), request(&format!("slot-{number}")))
}

/// The number that the kernel would ack.
pub(super) fn acked(step: &Step) -> Option<u64> {
    if let Step::Ack { number } = step { Some(*number) } else { None }
}

pub(super) fn verdict(step: &Step) -> &farshore_schemas::frame::Verdict {
    match step {
        Step::Append { draft, .. } => &draft.verdict,
        Step::Idle | Step::Ack { .. } | Step::Fork { .. } | Step::NoActor => panic!("no frame came of it: {step:?}"),
    }
}
