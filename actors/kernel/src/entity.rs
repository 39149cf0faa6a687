//! One actor. `decide` is by shared reference and changes nothing; `apply` folds a draft that the driver has given a place.
//! A panic in either is caught by the driver, which rebuilds the actor from the log (`Entity::load` and folding).

use crate::answer::answer;
use crate::draft::{Draft, Receipt};
use farshore_core::decider::{Context, Decider, Decision, Input as CoreInput};
use farshore_core::{broker, host, job, mover, plan, replica, repository, session, site};
use farshore_schemas::codec::{self, CodecError};
use farshore_schemas::envelope::{Channel, Envelope, Lost, Mark, Sender};
use farshore_schemas::frame::{EventsSection, Input, Verdict};
use farshore_schemas::ids::{Address, Digest, EntityId, Kind, Lineage, Seq, SiteName};
use farshore_schemas::messages::{Message, Refusal};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is refused for its size is recorded with its body up to this size, so that the refusal fits a frame. The mark keeps
/// the digest of the whole.
const MAX_KEPT: usize = 128 * 1024;
/// A state hash stands in every frame of an actor whose count is a multiple of this.
pub const STATE_HASH_EVERY: u64 = 64;

/// What a decision reads of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The site.
    pub site: SiteName,
    /// Its log's lineage.
    pub lineage: Lineage,
    /// The seq that the next frame gets.
    pub frame: Seq,
    /// The time of the decision.
    pub now: Timestamp,
}

/// An actor's whole memory, canonical: equal memories have equal bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Which actor.
    pub actor: EntityId,
    /// Its count of frames.
    pub actor_seq: u64,
    /// How far each channel to it has come, ordered by channel.
    pub marks: Vec<(Channel, Mark)>,
    /// What was lost of channels with logs that were put back, ordered by channel; from the first such number to the last.
    pub lost: Vec<(Channel, Lost)>,
    /// Its state, encoded.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
}

impl Memory {
    /// BLAKE3 over the canonical encoding.
    pub fn hash(&self) -> Digest {
        Digest(*blake3::hash(&codec::encode(self)).as_bytes())
    }
}

/// An actor of any kind.
pub trait Entity {
    /// Who it is.
    fn id(&self) -> &EntityId;
    /// Decides on a message; changes nothing.
    fn decide(&self, envelope: &Envelope, around: &Surroundings) -> Receipt;
    /// Decides on a wake; changes nothing.
    fn wake(&self, around: &Surroundings) -> Receipt;
    /// Says what it owes after a restart; changes nothing.
    fn resume(&self, around: &Surroundings) -> Receipt;
    /// A draft that moves the channel past a message whose decision panicked.
    fn poison(&self, envelope: &Envelope, panic: &str, around: &Surroundings) -> Receipt;
    /// A draft that says no for a reason of the kernel's.
    fn refuse(&self, envelope: &Envelope, refusal: Refusal, around: &Surroundings) -> Receipt;
    /// Folds a draft that has a place now.
    ///
    /// # Errors
    /// [`CodecError`] when the events do not decode: they were encoded a moment ago, so this is a defect.
    fn apply(&mut self, draft: &Draft) -> Result<(), CodecError>;
    /// Folds a frame read from the log.
    ///
    /// # Errors
    /// [`CodecError`] when its events do not decode.
    fn fold(&mut self, section: &EventsSection) -> Result<(), CodecError>;
    /// Its count of frames.
    fn actor_seq(&self) -> u64 {
        self.memory().actor_seq
    }
    /// When it wants to be woken.
    fn next_wake(&self) -> Option<Timestamp>;
    /// Everything it knows.
    fn memory(&self) -> Memory;
    /// How far a channel has come here.
    fn mark(&self, channel: &Channel) -> Option<Mark>;
    /// Takes on a memory.
    ///
    /// # Errors
    /// [`CodecError`] when the state does not decode.
    fn load(&mut self, memory: &Memory) -> Result<(), CodecError>;
}

/// A new actor of a kind, in its default state. None for parties that have no decider.
pub fn new_entity(id: &EntityId) -> Option<Box<dyn Entity>> {
    fn cell<D: Decider>(id: &EntityId) -> Option<Box<dyn Entity>> {
        Some(entity_with_rules::<D>(id))
    }
    match id.kind {
        Kind::Site => cell::<site::Site>(id),
        Kind::Host => cell::<host::Host>(id),
        Kind::Mover => cell::<mover::Mover>(id),
        Kind::Repository => cell::<repository::Repository>(id),
        Kind::Broker => cell::<broker::Broker>(id),
        Kind::Job => cell::<job::JobActor>(id),
        Kind::Session => cell::<session::SessionActor>(id),
        Kind::Replica => cell::<replica::ReplicaActor>(id),
        Kind::Plan => cell::<plan::PlanActor>(id),
        Kind::Agent | Kind::Api => None,
    }
}

/// A new actor with rules of the caller's choice: how tests put rules that are wrong in the place of right ones.
pub fn entity_with_rules<D: Decider>(id: &EntityId) -> Box<dyn Entity> {
    Box::new(Cell::<D> {
        id: id.clone(),
        actor_seq: 0,
        marks: BTreeMap::new(),
        lost: BTreeMap::new(),
        state: D::State::default(),
    })
}

/// The one implementation, for each decider.
pub(crate) struct Cell<D: Decider> {
    pub(crate) id: EntityId,
    pub(crate) actor_seq: u64,
    pub(crate) marks: BTreeMap<Channel, Mark>,
    pub(crate) lost: BTreeMap<Channel, Lost>,
    pub(crate) state: D::State,
}

impl<D: Decider> Cell<D> {
    fn context(&self, from: &Address, principal: &str, around: &Surroundings) -> Context {
        Context {
            me: Address { site: around.site.clone(), entity: self.id.clone() },
            lineage: around.lineage,
            from: from.clone(),
            principal: principal.to_owned(),
            now: around.now,
            frame: around.frame,
        }
    }

    /// A context for what comes from the actor itself.
    fn own_context(&self, around: &Surroundings) -> Context {
        let me = Address { site: around.site.clone(), entity: self.id.clone() };
        self.context(&me, &me.to_string(), around)
    }

    fn draft(&self, input: Input, around: &Surroundings) -> Draft {
        Draft {
            actor: self.id.clone(),
            actor_seq: self.actor_seq + 1,
            at: around.now,
            heard: None,
            input,
            verdict: Verdict::Accepted,
            mark: None,
            lost: None,
            events: no_events(),
            sends: Vec::new(),
            principal: Address { site: around.site.clone(), entity: self.id.clone() }.to_string(),
            trace: None,
        }
    }

    /// Where the message stands on its channel: its new mark when it is the next one, or the first that its sender still has
    /// although this receiver stands further back: then this site's log was put back, and what is between is lost.
    fn place(&self, envelope: &Envelope) -> Result<Option<(Channel, Mark)>, Receipt> {
        if envelope.channel.sender == Sender::Api {
            return Ok(None);
        }
        let last = self.marks.get(&envelope.channel).copied();
        let number = last.map_or(0, |mark| mark.number);
        let digest = envelope.digest();
        let next = envelope.number == number + 1;
        let first_left = envelope.number > number && envelope.number == envelope.floor;
        if next || first_left {
            return Ok(Some((envelope.channel.clone(), Mark { number: envelope.number, digest })));
        }
        if envelope.number > number {
            return Err(Receipt::Gap { number });
        }
        // A superseded body differs from what was accepted and is no fork.
        let forked = envelope.number == number
            && envelope.body.is_some()
            && last.is_some_and(|mark| mark.digest != digest && mark.digest != superseded_digest(envelope));
        Err(if forked { Receipt::Fork { number } } else { Receipt::Seen { number } })
    }

    /// The draft for a message that is next on its channel, nothing decided yet.
    fn draft_for(&self, envelope: &Envelope, mark: Option<(Channel, Mark)>, around: &Surroundings) -> Draft {
        let lost = mark
            .as_ref()
            .and_then(|(channel, mark)| jump(self.marks.get(channel).map_or(0, |before| before.number), mark.number));
        Draft {
            heard: Some(envelope.sent),
            mark,
            lost,
            principal: envelope.principal.clone(),
            trace: envelope.trace.clone(),
            ..self.draft(Input::Message(Box::new(envelope.clone())), around)
        }
    }

    fn decide_next(&self, envelope: &Envelope, around: &Surroundings) -> Result<Decision<D::Event>, Verdict> {
        let Some(message) = &envelope.body else {
            return Err(Verdict::Superseded);
        };
        if envelope.expires.is_some_and(|expires| expires < around.now) {
            return Err(Verdict::Expired);
        }
        let input = match (message, D::command(message)) {
            (Message::Refused(refused), _) => CoreInput::Refused((**refused).clone()),
            (_, Some(command)) => CoreInput::Command(command.clone()),
            (_, None) => return Err(Verdict::Unsupported),
        };
        let context = self.context(&envelope.from, &envelope.principal, around);
        D::decide(&self.state, &input, &context).map_err(|rejection| Verdict::Rejected(rejection.into()))
    }

    fn fold_events(&mut self, events: &[u8]) -> Result<(), CodecError> {
        if events.len() == 1 && events == no_events() {
            return Ok(());
        }
        let events: Vec<D::Event> = codec::decode_checked(events)?;
        events.iter().for_each(|event| D::evolve(&mut self.state, event));
        Ok(())
    }

    /// Moves a channel on. A mark that jumps over numbers tells of messages that were lost with a log that was put back.
    fn move_on(&mut self, channel: &Channel, mark: Mark) {
        let before = self.marks.insert(channel.clone(), mark).map_or(0, |mark| mark.number);
        if let Some(lost) = jump(before, mark.number) {
            let known = self.lost.entry(channel.clone()).or_insert(lost);
            known.last = lost.last;
        }
    }

    fn own_receipt(&self, input: Input, decision: Decision<D::Event>, around: &Surroundings) -> Receipt {
        if decision.is_empty() {
            return Receipt::Idle;
        }
        let mut draft = self.draft(input, around);
        draft.events = codec::encode(&decision.events);
        draft.sends = decision.sends;
        Receipt::Decided(Box::new(draft))
    }
}

/// What is lost when a mark goes from one number to another.
pub fn jump(before: u64, now: u64) -> Option<Lost> {
    (now > before + 1).then(|| Lost { first: before + 1, last: now - 1 })
}

/// The encoding of no events.
fn no_events() -> Vec<u8> {
    vec![0x90]
}

fn superseded_digest(envelope: &Envelope) -> Digest {
    Envelope { body: None, ..envelope.clone() }.digest()
}

impl<D: Decider> Entity for Cell<D> {
    fn id(&self) -> &EntityId {
        &self.id
    }

    fn decide(&self, envelope: &Envelope, around: &Surroundings) -> Receipt {
        let mark = match self.place(envelope) {
            Ok(mark) => mark,
            Err(receipt) => return receipt,
        };
        let mut draft = self.draft_for(envelope, mark, around);
        match self.decide_next(envelope, around) {
            Ok(decision) => {
                draft.events = codec::encode(&decision.events);
                draft.sends = decision.sends;
            }
            Err(verdict) => {
                let me = Address { site: around.site.clone(), entity: self.id.clone() };
                draft.sends.extend(answer(envelope, &verdict, me));
                draft.verdict = verdict;
            }
        }
        Receipt::Decided(Box::new(draft))
    }

    fn wake(&self, around: &Surroundings) -> Receipt {
        if self.next_wake().is_none_or(|at| at > around.now) {
            return Receipt::Idle;
        }
        match D::decide(&self.state, &CoreInput::Wake, &self.own_context(around)) {
            Ok(decision) => self.own_receipt(Input::Wake, decision, around),
            Err(_) => Receipt::Idle,
        }
    }

    fn resume(&self, around: &Surroundings) -> Receipt {
        let decision = D::resume(&self.state, &self.own_context(around));
        self.own_receipt(Input::Restarted, decision, around)
    }

    fn poison(&self, envelope: &Envelope, panic: &str, around: &Surroundings) -> Receipt {
        let mark = match self.place(envelope) {
            Ok(mark) => mark,
            Err(receipt) => return receipt,
        };
        let mut draft = self.draft_for(envelope, mark, around);
        let panic = panic.chars().take(500).collect();
        draft.input = Input::Poisoned { envelope: Box::new(envelope.clone()), panic };
        draft.verdict = Verdict::Poisoned;
        let me = Address { site: around.site.clone(), entity: self.id.clone() };
        draft.sends.extend(answer(envelope, &draft.verdict, me));
        Receipt::Decided(Box::new(draft))
    }

    fn refuse(&self, envelope: &Envelope, refusal: Refusal, around: &Surroundings) -> Receipt {
        let mark = match self.place(envelope) {
            Ok(mark) => mark,
            Err(receipt) => return receipt,
        };
        let mut draft = self.draft_for(envelope, mark, around);
        if let Input::Message(recorded) = &mut draft.input
            && codec::encode(&recorded.body).len() > MAX_KEPT
        {
            recorded.body = None;
        }
        draft.verdict = Verdict::Rejected(refusal);
        let me = Address { site: around.site.clone(), entity: self.id.clone() };
        draft.sends.extend(answer(envelope, &draft.verdict, me));
        Receipt::Decided(Box::new(draft))
    }

    fn apply(&mut self, draft: &Draft) -> Result<(), CodecError> {
        assert_eq!(draft.actor, self.id, "a draft is applied to the actor that made it");
        assert_eq!(draft.actor_seq, self.actor_seq + 1, "drafts of one actor are applied in order");
        self.fold_events(&draft.events)?;
        self.actor_seq = draft.actor_seq;
        if let Some((channel, mark)) = &draft.mark {
            self.move_on(channel, *mark);
        }
        Ok(())
    }

    fn fold(&mut self, section: &EventsSection) -> Result<(), CodecError> {
        self.fold_events(&section.events)?;
        self.actor_seq = section.actor_seq;
        if let Some((channel, mark)) = &section.mark {
            self.move_on(channel, *mark);
        }
        Ok(())
    }

    fn actor_seq(&self) -> u64 {
        self.actor_seq
    }

    fn next_wake(&self) -> Option<Timestamp> {
        D::next_wake(&self.state)
    }

    fn memory(&self) -> Memory {
        Memory {
            actor: self.id.clone(),
            actor_seq: self.actor_seq,
            marks: self.marks.iter().map(|(channel, mark)| (channel.clone(), *mark)).collect(),
            lost: self.lost.iter().map(|(channel, lost)| (channel.clone(), *lost)).collect(),
            state: codec::encode(&self.state),
        }
    }

    fn mark(&self, channel: &Channel) -> Option<Mark> {
        self.marks.get(channel).copied()
    }

    fn load(&mut self, memory: &Memory) -> Result<(), CodecError> {
        self.state = codec::decode_checked(&memory.state)?;
        self.actor_seq = memory.actor_seq;
        self.marks = memory.marks.iter().cloned().collect();
        self.lost = memory.lost.iter().cloned().collect();
        Ok(())
    }
}
