//! All of a site's actors and their sequencer, single-threaded: what replay folds into and the simulator drives. The
//! runtime keeps the same parts, spread over actix actors on one arbiter.

use crate::draft::{Draft, Receipt};
use crate::entity::{Entity, Memory, STATE_HASH_EVERY, Surroundings, new_entity};
use crate::sequencer::{Sequencer, Stamped};
use farshore_schemas::codec::CodecError;
use farshore_schemas::envelope::Envelope;
use farshore_schemas::frame::{FrameError, RawFrame, genesis_hash};
use farshore_schemas::ids::{Digest, EntityId, Kind, Lineage, Name, Seq, SiteName};
use farshore_schemas::messages::Refusal;
use farshore_schemas::units::Timestamp;
use std::collections::BTreeMap;

/// See the module.
pub struct Site {
    /// What the actors share.
    pub sequencer: Sequencer,
    entities: BTreeMap<EntityId, Box<dyn Entity>>,
}

/// Why a frame cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A section cannot be read.
    #[error("frame {seq}: {error}")]
    Frame {
        /// Which frame.
        seq: Seq,
        /// Why.
        error: FrameError,
    },
    /// Its events cannot be read by the actor that made them.
    #[error("frame {seq}: the events of {actor} cannot be read: {error}")]
    Events {
        /// Which frame.
        seq: Seq,
        /// Whose.
        actor: EntityId,
        /// Why.
        error: CodecError,
    },
    /// It does not follow the one before.
    #[error("frame {found} comes after frame {last}: {why}")]
    Order {
        /// The frame.
        found: Seq,
        /// The last one folded.
        last: Seq,
        /// What does not fit.
        why: &'static str,
    },
    /// It is about an actor of a kind that has none.
    #[error("frame {seq} is by {actor}, which is no actor")]
    NoActor {
        /// Which frame.
        seq: Seq,
        /// Whose.
        actor: EntityId,
    },
    /// The state after it is not the one that the frame recorded.
    #[error(
        "after frame {seq} the state of {actor} has hash {found}, the frame says {recorded}: this program folds otherwise than the one that wrote it"
    )]
    StateHash {
        /// Which frame.
        seq: Seq,
        /// Whose.
        actor: EntityId,
        /// As folded.
        found: Digest,
        /// As recorded.
        recorded: Digest,
    },
}

/// What is folded besides the actors' states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The states only: reads the second section alone.
    States,
    /// The outbox too: what a process needs that goes on from here.
    Outbox,
}

impl Site {
    /// A site with an empty log.
    pub fn new(site: &SiteName, lineage: Lineage) -> Self {
        Site { sequencer: Sequencer::new(site, lineage), entities: BTreeMap::new() }
    }

    /// A site from memories (a view or a baseline).
    ///
    /// # Errors
    /// [`CodecError`] when a state does not decode: rebuild from the log.
    pub fn from_memories(sequencer: Sequencer, memories: impl IntoIterator<Item = Memory>) -> Result<Self, CodecError> {
        let mut site = Site { sequencer, entities: BTreeMap::new() };
        for memory in memories {
            if let Some(entity) = site.entity_mut(&memory.actor) {
                entity.load(&memory)?;
            }
        }
        Ok(site)
    }

    /// The name of the one site actor.
    pub fn site_actor() -> EntityId {
        EntityId { kind: Kind::Site, name: Name::parse("site").expect("a legal name") }
    }

    /// An actor, if it ever took anything.
    pub fn entity(&self, id: &EntityId) -> Option<&dyn Entity> {
        self.entities.get(id).map(AsRef::as_ref).filter(|entity| entity.actor_seq() > 0)
    }

    /// An actor, made if need be; none for parties without a decider.
    pub fn entity_mut(&mut self, id: &EntityId) -> Option<&mut (dyn Entity + 'static)> {
        if !self.entities.contains_key(id) {
            self.entities.insert(id.clone(), new_entity(id)?);
        }
        self.entities.get_mut(id).map(|entity| &mut **entity)
    }

    /// Puts an actor of another make in the place of the one with its name: a driver's tests need some that fail.
    pub fn place(&mut self, entity: Box<dyn Entity>) {
        self.entities.insert(entity.id().clone(), entity);
    }

    /// All actors that ever took anything, in order. One that was only asked for (a message that came too early) is none: no
    /// frame tells of it, so a fold does not know it.
    pub fn entities(&self) -> impl Iterator<Item = &dyn Entity> {
        self.entities.values().map(AsRef::as_ref).filter(|entity| entity.actor_seq() > 0)
    }

    /// Gives the actors away, to be spread over a runtime.
    pub fn into_parts(self) -> (Sequencer, BTreeMap<EntityId, Box<dyn Entity>>) {
        (self.sequencer, self.entities)
    }

    /// What a decision at `now` reads of the site.
    pub fn around(&self, now: Timestamp) -> Surroundings {
        surroundings(&self.sequencer, now)
    }

    /// Shows a message to the actor that it is for, and if something comes of it gives it a place and applies it.
    pub fn deliver(&mut self, envelope: &Envelope, now: Timestamp) -> Step {
        let around = self.around(now);
        let Some(entity) = self.entity_mut(&envelope.to.entity) else {
            return Step::NoActor;
        };
        let receipt = entity.decide(envelope, &around);
        self.take(receipt, Some(envelope), now)
    }

    /// Wakes an actor.
    pub fn wake(&mut self, id: &EntityId, now: Timestamp) -> Step {
        let around = self.around(now);
        let receipt = self.entity_mut(id).map_or(Receipt::Idle, |entity| entity.wake(&around));
        self.take(receipt, None, now)
    }

    /// Asks an actor what it owes after a restart.
    pub fn resume(&mut self, id: &EntityId, now: Timestamp) -> Step {
        let around = self.around(now);
        let receipt = self.entity_mut(id).map_or(Receipt::Idle, |entity| entity.resume(&around));
        self.take(receipt, None, now)
    }

    /// Begins a new lineage and records it.
    pub fn renew_lineage(&mut self, lineage: Lineage, reason: &str, now: Timestamp) -> Step {
        let previous = self.sequencer.lineage();
        self.sequencer.begin_lineage(lineage);
        let id = Site::site_actor();
        let actor_seq = self.entities.get(&id).map_or(0, |entity| entity.actor_seq());
        let draft = self.sequencer.renewal(&id, actor_seq, previous, reason, now);
        self.take(Receipt::Decided(Box::new(draft)), None, now)
    }

    fn take(&mut self, receipt: Receipt, envelope: Option<&Envelope>, now: Timestamp) -> Step {
        let mut draft = match receipt {
            Receipt::Decided(draft) => draft,
            Receipt::Idle => return Step::Idle,
            Receipt::Seen { number } | Receipt::Gap { number } => return Step::Ack { number },
            Receipt::Fork { number } => return Step::Fork { number },
        };
        let around = self.around(now);
        let Some(entity) = self
            .entities
            .entry(draft.actor.clone())
            .or_insert_with(|| new_entity(&draft.actor).expect("drafts come from actors"))
            .into()
        else {
            return Step::NoActor;
        };
        let entity: &mut Box<dyn Entity> = entity;
        let mut prepared = self.sequencer.prepare(&draft);
        if let (Err(error), Some(envelope)) = (&prepared, envelope)
            && let Receipt::Decided(smaller) = entity.refuse(envelope, too_large(error), &around)
        {
            draft = smaller;
            prepared = self.sequencer.prepare(&draft);
        }
        let Ok(prepared) = prepared else {
            return Step::Idle;
        };
        entity.apply(&draft).expect("events that were encoded a moment ago decode");
        let hash = draft.actor_seq.is_multiple_of(STATE_HASH_EVERY).then(|| entity.memory().hash());
        let stamped = self.sequencer.stamp(prepared, hash);
        Step::Append { stamped, draft }
    }

    /// Folds one frame. The chain is checked against `hash` of the frame before, as the caller's reader gives it.
    ///
    /// # Errors
    /// [`FoldError`]; the site is then not to be used.
    pub fn fold(&mut self, frame: &RawFrame<'_>, hash: Digest, depth: Depth) -> Result<(), FoldError> {
        let seq = frame.header.seq;
        let (last, chain) = self.sequencer.tail();
        let order = |why| FoldError::Order { found: seq, last, why };
        if seq != last.next() {
            return Err(order("its seq is not the next one"));
        }
        let expected = if last == Seq(0) { genesis_hash(frame.header.lineage) } else { chain };
        if frame.previous != expected {
            return Err(order("it names another frame as the one before"));
        }
        if frame.header.site != self.sequencer.tag() {
            return Err(order("it is of another site"));
        }
        let at = |error| FoldError::Frame { seq, error };
        let section = frame.events_section().map_err(at)?;
        let sends = match depth {
            Depth::States => None,
            Depth::Outbox => Some(frame.sends_section().map_err(at)?),
        };
        let actor = section.actor.clone();
        let entity = self.entity_mut(&actor).ok_or(FoldError::NoActor { seq, actor: actor.clone() })?;
        if section.actor_seq != entity.actor_seq() + 1 {
            return Err(order("its actor's count of frames is not the next one"));
        }
        entity.fold(&section).map_err(|error| FoldError::Events { seq, actor: actor.clone(), error })?;
        if let Some(recorded) = frame.state_hash {
            let found = entity.memory().hash();
            if found != recorded {
                return Err(FoldError::StateHash { seq, actor, found, recorded });
            }
        }
        self.sequencer.fold(&frame.header, hash, &section, sends);
        Ok(())
    }

    /// BLAKE3 over the canonical memory of every actor, in order (P2).
    pub fn state_hash(&self) -> Digest {
        state_hash(self.entities().map(|entity| entity.memory()))
    }
}

/// What a decision at `now` reads of a site.
pub fn surroundings(sequencer: &Sequencer, now: Timestamp) -> Surroundings {
    Surroundings { site: sequencer.site().clone(), lineage: sequencer.lineage(), frame: sequencer.tail().0.next(), now }
}

/// BLAKE3 over the hashes of memories in the order of their actors.
pub fn state_hash(memories: impl IntoIterator<Item = Memory>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut last: Option<EntityId> = None;
    for memory in memories {
        assert!(last.as_ref().is_none_or(|last| *last < memory.actor), "memories come in the order of their actors");
        hasher.update(&memory.hash().0);
        last = Some(memory.actor);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The refusal of a decision that does not fit a frame.
pub fn too_large(error: &CodecError) -> Refusal {
    Refusal {
        code: "FS-KERNEL-TOO-LARGE".into(),
        message: format!("the decision does not fit a frame of the log: {error}"),
        advice: "ask for less at once: fewer VMs per job or per request".into(),
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A frame: append it; when it is durable, ack the message and put due envelopes on the bus.
    Append {
        /// The frame, applied already.
        stamped: Stamped,
        /// What it was made from.
        draft: Box<Draft>,
    },
    /// Nothing.
    Idle,
    /// Ack this number of the message's channel, once everything appended so far is durable.
    Ack {
        /// The number.
        number: u64,
    },
    /// Alarm: the channel forked at this number.
    Fork {
        /// The number.
        number: u64,
    },
    /// There is no such actor.
    NoActor,
}
