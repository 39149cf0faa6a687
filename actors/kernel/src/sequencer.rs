//! What all actors of a site share: the next seq, the chain, the clock, the numbers on channels and the outbox. A draft
//! gets its place here. The driver must be the only one that appends to the site's log.

use crate::draft::Draft;
use crate::outbox::{Entry, Outbox, is_local};
use farshore_core::CORE_VERSION;
use farshore_schemas::codec::{self, CodecError};
use farshore_schemas::envelope::{Channel, Envelope, Sender};
use farshore_schemas::frame::{self, EventsSection, Input, InputSection, Place, Sections, SendsSection, Sent};
use farshore_schemas::ids::{Address, Digest, EntityId, Kind, Lineage, Seq, SiteName};
use farshore_schemas::units::{Hlc, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Confirmations that one frame records; the others wait for the next, so that they never fill a frame.
const MAX_ACKED: usize = 256;
/// The largest body of a send: with addresses, ids, principal and trace it still fits a message on the bus.
const MAX_BODY: usize = codec::MAX_MESSAGE - 8 * 1024;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequencer {
    site: SiteName,
    tag: [u8; 16],
    lineage: Lineage,
    last: Seq,
    chain: Digest,
    hlc: Hlc,
    /// Last number given per receiver.
    numbers: BTreeMap<Address, u64>,
    /// Confirmations heard that no frame has recorded yet.
    heard: BTreeMap<Address, u64>,
    /// What waits for confirmation.
    pub outbox: Outbox,
}

/// The sequencer's memory, for the view and for baselines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequencerMemory {
    /// The log's lineage.
    pub lineage: Lineage,
    /// Last frame.
    pub last: Seq,
    /// Its hash.
    pub chain: Digest,
    /// The clock.
    pub hlc: Hlc,
    /// Last number given per receiver.
    pub numbers: Vec<(Address, u64)>,
    /// What waits.
    pub outbox: Vec<(Address, Entry)>,
}

/// A draft with its place: ready for the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// Its seq.
    pub seq: Seq,
    /// All bytes of the frame.
    pub bytes: Vec<u8>,
    /// The frame's hash.
    pub hash: Digest,
    /// What it sends, with numbers: those for actors of this site may be handed over at once, in order (their frames come
    /// after this one in the log); all others only when this frame is durable.
    pub sends: Vec<(Address, Entry)>,
}

/// What an ack says about us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckVerdict {
    /// Something is confirmed that was not.
    Advanced,
    /// Known already.
    Known,
    /// For another lineage or sender.
    NotOurs,
    /// The receiver has heard more from this lineage than was ever sent: this log was rolled back behind what it had said.
    /// Stop deciding and renew the lineage.
    AheadOfUs,
}

impl Sequencer {
    /// For an empty log.
    pub fn new(site: &SiteName, lineage: Lineage) -> Self {
        Sequencer {
            site: site.clone(),
            tag: frame::site_tag(site),
            lineage,
            last: Seq(0),
            chain: frame::genesis_hash(lineage),
            hlc: Hlc::default(),
            numbers: BTreeMap::new(),
            heard: BTreeMap::new(),
            outbox: Outbox::default(),
        }
    }

    /// The site.
    pub fn site(&self) -> &SiteName {
        &self.site
    }

    /// First bytes of the hash of its name, as frames have it.
    pub(crate) fn tag(&self) -> [u8; 16] {
        self.tag
    }

    /// The log's lineage.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// The last frame and its hash.
    pub fn tail(&self) -> (Seq, Digest) {
        (self.last, self.chain)
    }

    /// This site's channel.
    pub fn channel(&self) -> Channel {
        Channel { site: self.site.clone(), sender: Sender::Control, lineage: self.lineage }
    }

    /// Encodes a draft's sections with the numbers that it would get, changing nothing: so that what is too large for a
    /// frame is known before anything is applied.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`].
    pub fn prepare(&self, draft: &Draft) -> Result<Prepared, CodecError> {
        let hlc = match draft.heard {
            Some(remote) => self.hlc.merge(remote, draft.at).0,
            None => self.hlc.tick(draft.at),
        };
        let mut numbers: BTreeMap<&Address, u64> = BTreeMap::new();
        let sent = |send: &farshore_core::decider::Send, number| Sent {
            to: send.to.clone(),
            number,
            expires: send.expires,
            supersede: send.supersede.clone(),
            body: send.body.clone(),
        };
        let mut sends = Vec::with_capacity(draft.sends.len());
        for send in &draft.sends {
            let number = numbers.entry(&send.to).or_insert_with(|| self.numbers.get(&send.to).copied().unwrap_or(0));
            *number += 1;
            sends.push(sent(send, *number));
        }
        let input = InputSection {
            actor: draft.actor.clone(),
            actor_seq: draft.actor_seq,
            owner_epoch: 0,
            core: CORE_VERSION,
            at: draft.at,
            hlc,
            input: draft.input.clone(),
        };
        let events = EventsSection {
            actor: draft.actor.clone(),
            actor_seq: draft.actor_seq,
            hlc,
            verdict: draft.verdict.clone(),
            mark: draft.mark.clone(),
            acked: self.heard.iter().take(MAX_ACKED).map(|(to, number)| (to.clone(), *number)).collect(),
            events: draft.events.clone(),
        };
        let sends = SendsSection { sends, principal: draft.principal.clone(), trace: draft.trace.clone() };
        let sections = Sections::encode(&input, &events, &sends)?;
        if sections.sends_len() > MAX_BODY {
            sends.sends.iter().try_for_each(fits_the_bus)?;
        }
        Ok(Prepared { sections, events, sends })
    }

    /// Gives a prepared draft its place. `state_hash` is the actor's, after applying the draft, where one is due.
    pub fn stamp(&mut self, prepared: Prepared, state_hash: Option<Digest>) -> Stamped {
        let seq = self.last.next();
        let place = Place { seq, lineage: self.lineage, site: self.tag, state_hash, previous: self.chain };
        let (bytes, hash) = prepared.sections.seal(&place);
        for (receiver, _) in &prepared.events.acked {
            self.heard.remove(receiver);
        }
        self.advance(seq, hash, &prepared.events);
        let sends = self.take_sends(seq, &prepared.events.actor, prepared.sends);
        Stamped { seq, bytes, hash, sends }
    }

    /// Folds a frame read from the log. `sends` is its third section, when the outbox is wanted.
    pub fn fold(&mut self, header: &frame::Header, hash: Digest, events: &EventsSection, sends: Option<SendsSection>) {
        if header.lineage != self.lineage {
            self.begin_lineage(header.lineage);
        }
        self.advance(header.seq, hash, events);
        if let Some(sends) = sends {
            self.take_sends(header.seq, &events.actor, sends);
        }
    }

    /// From the next frame on the log has another lineage: it was restored from a copy, or cut. What waits is numbered anew.
    /// The driver appends a frame with [`Input::LineageRenewed`] before anything else.
    pub fn begin_lineage(&mut self, lineage: Lineage) {
        self.lineage = lineage;
        if self.last == Seq(0) {
            // The first frame of a log names its own lineage, whatever was meant to come before.
            self.chain = frame::genesis_hash(lineage);
        }
        self.heard.clear();
        self.numbers = self.outbox.renumber();
    }

    /// A draft that records the lineage this sequencer has begun.
    pub fn renewal(
        &self,
        site_actor: &EntityId,
        actor_seq: u64,
        previous: Lineage,
        reason: &str,
        now: Timestamp,
    ) -> Draft {
        Draft {
            actor: site_actor.clone(),
            actor_seq: actor_seq + 1,
            at: now,
            heard: None,
            input: Input::LineageRenewed { previous, reason: reason.to_owned() },
            verdict: frame::Verdict::Accepted,
            mark: None,
            lost: None,
            events: vec![0x90],
            sends: Vec::new(),
            principal: self.site.to_string(),
            trace: None,
        }
    }

    /// A receiver says how far it has heard us. What it confirms is not sent again, and off the outbox with the next frame,
    /// which records it.
    pub fn hear_ack(&mut self, channel: &Channel, receiver: &Address, number: u64, now: Timestamp) -> AckVerdict {
        if *channel != self.channel() || is_local(receiver, &self.site) {
            return AckVerdict::NotOurs;
        }
        let given = self.numbers.get(receiver).copied().unwrap_or(0);
        if number > given {
            return AckVerdict::AheadOfUs;
        }
        if self.outbox.hear(receiver, number, now) {
            self.heard.insert(receiver.clone(), number);
            return AckVerdict::Advanced;
        }
        if number < given {
            self.outbox.hurry(receiver, now);
        }
        AckVerdict::Known
    }

    /// Envelopes to be put on the bus now: of frames up to `durable`, never sent or due again.
    pub fn due(&mut self, now: Timestamp, durable: Seq) -> Vec<Envelope> {
        let (site, lineage) = (self.site.clone(), self.lineage);
        let due = self.outbox.due(now, durable, &site);
        due.iter().map(|(to, entry)| entry.envelope(to, (&site, lineage), self.outbox.floor(to))).collect()
    }

    /// The envelope of an entry of this sequencer's for an actor of this site. Both ends stand in one log: neither can lose
    /// what the other has.
    pub fn envelope(&self, to: &Address, entry: &Entry) -> Envelope {
        entry.envelope(to, (&self.site, self.lineage), 1)
    }

    /// Everything it knows.
    pub fn memory(&self) -> SequencerMemory {
        SequencerMemory {
            lineage: self.lineage,
            last: self.last,
            chain: self.chain,
            hlc: self.hlc,
            numbers: self.numbers.iter().map(|(to, number)| (to.clone(), *number)).collect(),
            outbox: self.outbox.entries(),
        }
    }

    /// From a memory.
    pub fn load(site: &SiteName, memory: &SequencerMemory) -> Self {
        let mut sequencer = Sequencer::new(site, memory.lineage);
        sequencer.last = memory.last;
        sequencer.chain = memory.chain;
        sequencer.hlc = memory.hlc;
        sequencer.numbers = memory.numbers.iter().cloned().collect();
        memory.outbox.iter().for_each(|(to, entry)| sequencer.outbox.push(to, entry.clone()));
        sequencer
    }

    fn advance(&mut self, seq: Seq, hash: Digest, events: &EventsSection) {
        assert_eq!(seq, self.last.next(), "frames have no gaps");
        self.last = seq;
        self.chain = hash;
        self.hlc = events.hlc;
        for (receiver, number) in &events.acked {
            self.outbox.confirm(receiver, *number);
        }
        // An actor of this site that takes a message of this site confirms it by its own frame.
        if let Some((channel, mark)) = &events.mark
            && *channel == self.channel()
        {
            let receiver = Address { site: self.site.clone(), entity: events.actor.clone() };
            self.outbox.confirm(&receiver, mark.number);
        }
    }

    fn take_sends(&mut self, seq: Seq, from: &EntityId, section: SendsSection) -> Vec<(Address, Entry)> {
        let mut taken = Vec::with_capacity(section.sends.len());
        for (index, sent) in (0u16..).zip(section.sends) {
            self.numbers.insert(sent.to.clone(), sent.number);
            let entry = Entry {
                number: sent.number,
                from: from.clone(),
                lineage: self.lineage,
                seq,
                index,
                sent: self.hlc,
                expires: sent.expires,
                supersede: sent.supersede,
                principal: section.principal.clone(),
                trace: section.trace.clone(),
                body: Some(sent.body),
            };
            self.outbox.push(&sent.to, entry.clone());
            taken.push((sent.to, entry));
        }
        taken
    }
}

/// A draft whose sections are encoded and fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    sections: Sections,
    events: EventsSection,
    sends: SendsSection,
}

/// A send that no bus takes would hold its channel up for ever.
fn fits_the_bus(sent: &Sent) -> Result<(), CodecError> {
    let len = codec::encode(&sent.body).len();
    if len > MAX_BODY { Err(CodecError::TooLarge { len, max: MAX_BODY }) } else { Ok(()) }
}

/// Whether a party is an actor (has a decider and a place in a log).
pub fn is_actor(kind: Kind) -> bool {
    Kind::ENTITIES.contains(&kind)
}
