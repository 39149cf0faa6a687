//! What all entity actors of a site share, on one arbiter: the sequencer, the log, who is where, and what waits for the disk.

use crate::entity_actor::{Deliver, EntityActor};
use crate::handle::{Answer, Counters, FrameNotice, NoAnswer};
use crate::log_port::{EventLog, LogFailure, NewFrame};
use crate::ports::{Clock, Rebuild, SEQUENCER_KEY, ViewBatch, ViewSink, entity_key};
use actix::Addr;
use farshore_bus::Bus;
use farshore_kernel::draft::Draft;
use farshore_kernel::entity::{Entity, Surroundings, new_entity};
use farshore_kernel::sequencer::{Sequencer, Stamped, is_actor};
use farshore_kernel::site::surroundings;
use farshore_schemas::codec;
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::frame::Verdict;
use farshore_schemas::ids::{Address, Digest, EntityId, Seq, SiteName};
use farshore_schemas::subjects;
use farshore_schemas::units::{Hlc, Timestamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// Alarms kept for `Status`.
const ALARMS_KEPT: usize = 50;
/// Messages of one actor that wait because its mailbox is full; what comes on top is left to the outbox to try again.
const BACKLOG_MAX: usize = 10_000;

pub(crate) type SharedRef = Rc<RefCell<Shared>>;
/// An actor's state, owned by its actix actor and readable here for views and hashes.
pub(crate) type EntityRef = Rc<RefCell<Box<dyn Entity>>>;
/// Where a command's answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, NoAnswer>>;

/// One entity's place in the runtime.
pub(crate) struct Slot {
    pub(crate) entity: EntityRef,
    pub(crate) addr: Addr<EntityActor>,
}

/// Tells the arbiter what became of an append: exactly once, also when the log drops it without a word.
struct Report {
    seq: Seq,
    reports: Option<mpsc::UnboundedSender<(Seq, Result<(), LogFailure>)>>,
}

impl Report {
    fn tell(mut self, outcome: Result<(), LogFailure>) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Result<(), LogFailure>) {
        if let Some(reports) = self.reports.take() {
            let _ended = reports.send((self.seq, outcome));
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.send(Err(LogFailure::Stopped));
    }
}

/// What waits until a frame is durable.
pub(crate) enum Waiting {
    Answer(Reply, Answer),
    Ack { channel: Channel, receiver: Address, number: u64 },
    Notice(FrameNotice),
}

pub(crate) struct Shared {
    pub(crate) sequencer: Sequencer,
    pub(crate) slots: BTreeMap<EntityId, Slot>,
    pub(crate) log: Box<dyn EventLog>,
    pub(crate) view: Box<dyn ViewSink>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rebuild: Rebuild,
    pub(crate) durable: Seq,
    pub(crate) durable_reports: mpsc::UnboundedSender<(Seq, Result<(), LogFailure>)>,
    pub(crate) waiting: VecDeque<(Seq, Waiting)>,
    pub(crate) dirty: BTreeSet<EntityId>,
    /// A batch taken from memory that waits until its frame is durable.
    pub(crate) view_batch: Option<ViewBatch>,
    pub(crate) backlog: BTreeMap<EntityId, VecDeque<Envelope>>,
    pub(crate) peers: BTreeSet<SiteName>,
    /// Actors that lost a message of this site to a full backlog: it stands in the outbox and is handed over again.
    pub(crate) hand_over_again: BTreeSet<EntityId>,
    /// Sites whose clock is too far ahead to be merged.
    pub(crate) ahead: BTreeSet<SiteName>,
    /// Which agents of this site are there.
    pub(crate) presence: crate::presence::Presence,
    /// Why nothing is decided, answered or sent any more.
    pub(crate) halted: Option<String>,
    /// A shutdown has begun: nothing more is decided, what was decided is still made durable and released.
    pub(crate) stopping: bool,
    /// Actors that are being folded anew.
    pub(crate) rebuilding: usize,
    /// Told when `durable`, `halted` or `rebuilding` has changed.
    pub(crate) changed: Rc<Notify>,
    pub(crate) alarms: VecDeque<String>,
    pub(crate) counters: Counters,
    pub(crate) frames: broadcast::Sender<FrameNotice>,
    pub(crate) progress: broadcast::Sender<Wire>,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn around(&self) -> Surroundings {
        surroundings(&self.sequencer, self.now())
    }

    pub(crate) fn alarm(&mut self, text: String) {
        tracing::error!(site = %self.sequencer.site(), "{text}");
        if self.alarms.len() == ALARMS_KEPT {
            self.alarms.pop_front();
        }
        self.alarms.push_back(text);
    }

    /// Stops deciding for good: nothing more is appended, released or sent.
    pub(crate) fn halt(&mut self, why: String) {
        if self.halted.is_none() {
            self.alarm(format!("FS-CONTROL-HALTED: this site stopped deciding: {why}"));
            for (_, waiting) in std::mem::take(&mut self.waiting) {
                if let Waiting::Answer(reply, _) = waiting {
                    let stopped = format!("{why}; whether the command was recorded shows after a start");
                    let _gone = reply.send(Err(NoAnswer::Stopped(stopped)));
                }
            }
            self.halted = Some(why);
            self.changed.notify_waiters();
        }
    }

    /// Why nothing may be decided now, if that is so.
    pub(crate) fn refuses(&self) -> Option<String> {
        let stopping = || self.stopping.then(|| "it is being shut down".to_owned());
        self.halted.clone().or_else(stopping)
    }

    /// Waits until a frame is durable and no actor is being folded anew.
    ///
    /// # Errors
    /// Why the site halted.
    pub(crate) async fn settled(this: &SharedRef, seq: Seq, rebuilding: usize) -> Result<(), String> {
        let changed = this.borrow().changed.clone();
        loop {
            let next = changed.notified();
            {
                let shared = this.borrow();
                if let Some(why) = &shared.halted {
                    return Err(why.clone());
                }
                if shared.durable >= seq && shared.rebuilding <= rebuilding {
                    return Ok(());
                }
            }
            next.await;
        }
    }

    /// Queues what a frame releases. Frames come in order, so the queue is in order.
    pub(crate) fn wait_for(&mut self, seq: Seq, waiting: Waiting) {
        assert!(
            self.waiting.back().is_none_or(|(last, _)| *last <= seq),
            "what waits is queued in the order of frames"
        );
        self.waiting.push_back((seq, waiting));
    }

    /// Gives a frame to the log.
    pub(crate) fn write(&self, stamped_seq: Seq, bytes: Vec<u8>, hash: Digest) {
        let report = Report { seq: stamped_seq, reports: Some(self.durable_reports.clone()) };
        self.log.append(NewFrame { seq: stamped_seq, bytes, hash }, Box::new(move |outcome| report.tell(outcome)));
    }

    /// Appends a frame that is applied already, and hands its messages to actors of this site at once: their frames come
    /// after this one in the log, so they cannot outlive it.
    pub(crate) fn append(this: &SharedRef, stamped: Stamped, draft: &Draft, reply: Option<Reply>) {
        let local = {
            let mut shared = this.borrow_mut();
            shared.counters.decisions += 1;
            shared.dirty.insert(draft.actor.clone());
            shared.queue_waiting(stamped.seq, draft, reply);
            shared.look_at_clock(draft);
            shared.write(stamped.seq, stamped.bytes, stamped.hash);
            let site = shared.sequencer.site().clone();
            let is_local = |to: &Address| to.site == site && is_actor(to.entity.kind);
            let here = stamped.sends.iter().filter(|(to, _)| is_local(to));
            here.map(|(to, entry)| shared.sequencer.envelope(to, entry)).collect::<Vec<_>>()
        };
        local.into_iter().for_each(|envelope| Shared::route(this, envelope));
    }

    /// A sender's clock that is too far ahead was not merged: an operator has to know, once.
    fn look_at_clock(&mut self, draft: &Draft) {
        let (Some(heard), Some((channel, _))) = (draft.heard, &draft.mark) else { return };
        if heard.wall <= draft.at.after(Hlc::MAX_AHEAD) {
            self.ahead.remove(&channel.site);
        } else if self.ahead.insert(channel.site.clone()) {
            let by = heard.wall.since(draft.at).0 / 1000;
            self.alarm(format!(
                "FS-RUNTIME-CLOCK: the clock of {} is {by} s ahead of this one and is not followed: set one of them right",
                channel.site
            ));
        }
    }

    fn queue_waiting(&mut self, seq: Seq, draft: &Draft, reply: Option<Reply>) {
        if let Verdict::Rejected(refusal) = &draft.verdict {
            self.counters.rejections += 1;
            tracing::debug!(seq = seq.0, actor = %draft.actor, code = refusal.code, "rejected: {}", refusal.message);
        }
        if let Some(reply) = reply {
            self.wait_for(seq, Waiting::Answer(reply, answer_of(seq, &draft.verdict)));
        }
        if let Some((channel, mark)) = &draft.mark
            && *channel != self.sequencer.channel()
        {
            let receiver = Address { site: self.sequencer.site().clone(), entity: draft.actor.clone() };
            self.wait_for(seq, Waiting::Ack { channel: channel.clone(), receiver, number: mark.number });
        }
        self.wait_for(seq, Waiting::Notice(FrameNotice { seq, actor: draft.actor.clone() }));
    }

    /// Acks a number again once everything decided so far is durable: the frame that took it may still be on its way.
    pub(crate) fn ack_again(&mut self, envelope: &Envelope, number: u64) {
        if envelope.channel == self.sequencer.channel() || envelope.channel.sender == Sender::Api {
            return;
        }
        let ack = Waiting::Ack { channel: envelope.channel.clone(), receiver: envelope.to.clone(), number };
        let tail = self.sequencer.tail().0;
        self.wait_for(tail, ack);
    }

    /// Hands a message to the actor that it is for, made if need be. A full mailbox puts it behind.
    pub(crate) fn route(this: &SharedRef, envelope: Envelope) {
        let id = envelope.to.entity.clone();
        let Some(addr) = Shared::addr(this, &id) else {
            return;
        };
        let mut shared = this.borrow_mut();
        let behind = shared.backlog.get(&id).is_some_and(|queue| !queue.is_empty());
        let refused = if behind { Some(envelope) } else { try_send(&addr, envelope) };
        if let Some(envelope) = refused {
            let ours = envelope.channel == shared.sequencer.channel();
            let queue = shared.backlog.entry(id.clone()).or_default();
            if queue.len() < BACKLOG_MAX {
                queue.push_back(envelope);
            } else if ours {
                // Other senders ask again by themselves.
                shared.hand_over_again.insert(id);
            }
        }
    }

    /// Hands over what had to wait for room.
    pub(crate) fn drain_backlog(this: &SharedRef) {
        let ids: Vec<EntityId> = this.borrow().backlog.keys().cloned().collect();
        for id in ids {
            let Some(addr) = Shared::addr(this, &id) else { continue };
            let mut shared = this.borrow_mut();
            let Some(queue) = shared.backlog.get_mut(&id) else { continue };
            while let Some(envelope) = queue.pop_front() {
                if let Some(envelope) = try_send(&addr, envelope) {
                    queue.push_front(envelope);
                    break;
                }
            }
            if queue.is_empty() {
                shared.backlog.remove(&id);
            }
        }
        let lost: Vec<EntityId> = {
            let shared = this.borrow();
            shared.hand_over_again.iter().filter(|id| !shared.backlog.contains_key(id)).cloned().collect()
        };
        lost.iter().for_each(|id| Shared::hand_over(this, id));
    }

    /// Hands over what the outbox has for an actor of this site; what it has taken or will take from its mailbox it knows.
    fn hand_over(this: &SharedRef, id: &EntityId) {
        let envelopes: Vec<Envelope> = {
            let mut shared = this.borrow_mut();
            shared.hand_over_again.remove(id);
            let to = Address { site: shared.sequencer.site().clone(), entity: id.clone() };
            let waiting = shared.sequencer.outbox.waiting_for(&to);
            waiting.map(|entry| shared.sequencer.envelope(&to, entry)).collect()
        };
        envelopes.into_iter().for_each(|envelope| Shared::route(this, envelope));
    }

    /// The actor's address, made if need be; none for parties without a decider.
    pub(crate) fn addr(this: &SharedRef, id: &EntityId) -> Option<Addr<EntityActor>> {
        if let Some(slot) = this.borrow().slots.get(id) {
            return Some(slot.addr.clone());
        }
        let entity = new_entity(id)?;
        Some(Shared::place(this, id, entity))
    }

    /// Gives an entity its actix actor.
    pub(crate) fn place(this: &SharedRef, id: &EntityId, entity: Box<dyn Entity>) -> Addr<EntityActor> {
        let entity: EntityRef = Rc::new(RefCell::new(entity));
        let addr = EntityActor::spawn(id.clone(), this.clone(), entity.clone());
        this.borrow_mut().slots.insert(id.clone(), Slot { entity, addr: addr.clone() });
        addr
    }

    /// Takes what changed out of memory, as of the last frame decided. Nothing while an earlier batch still waits.
    pub(crate) fn take_view_batch(&mut self) {
        if self.view_batch.is_some() || self.dirty.is_empty() {
            return;
        }
        let (seq, hash) = self.sequencer.tail();
        let mut changes: Vec<(String, Vec<u8>)> = Vec::with_capacity(self.dirty.len() + 1);
        for id in std::mem::take(&mut self.dirty) {
            if let Some(slot) = self.slots.get(&id) {
                changes.push((entity_key(&id), codec::encode(&slot.entity.borrow().memory())));
            }
        }
        changes.push((SEQUENCER_KEY.to_owned(), codec::encode(&self.sequencer.memory())));
        self.view_batch = Some(ViewBatch { seq, hash, changes });
    }

    /// Puts a message of the protocol on the bus. What fails is counted there and tried again by the outbox.
    pub(crate) fn publish(&mut self, subject: &str, wire: &Wire) {
        self.counters.published += 1;
        if let Err(error) = farshore_bus::send_wire(&*self.bus, subject, wire) {
            tracing::debug!(subject, %error, "not published");
        }
    }

    /// Puts due messages on the bus.
    pub(crate) fn publish_due(&mut self) {
        let now = self.now();
        for envelope in self.sequencer.due(now, self.durable) {
            let subject = subjects::inbox(&envelope.to);
            self.publish(&subject, &Wire::Deliver(Box::new(envelope)));
        }
    }

    /// Hash of all memories, in order.
    pub(crate) fn state_hash(&self) -> Digest {
        farshore_kernel::site::state_hash(
            self.slots.values().map(|slot| slot.entity.borrow().memory()).filter(|m| m.actor_seq > 0),
        )
    }
}

/// Sends to a mailbox; gives the envelope back when there is no room.
fn try_send(addr: &Addr<EntityActor>, envelope: Envelope) -> Option<Envelope> {
    match addr.try_send(Deliver { envelope: Box::new(envelope), reply: None, tries: 0 }) {
        Ok(()) => None,
        Err(actix::dev::SendError::Full(deliver) | actix::dev::SendError::Closed(deliver)) => Some(*deliver.envelope),
    }
}

fn answer_of(seq: Seq, verdict: &Verdict) -> Answer {
    let no = |code: &str, message: &str| Answer::Rejected {
        seq,
        refusal: farshore_schemas::messages::Refusal {
            code: code.to_owned(),
            message: message.to_owned(),
            advice: "see the frame with `farshore log show`".to_owned(),
        },
    };
    match verdict {
        Verdict::Accepted => Answer::Accepted { seq },
        Verdict::Rejected(refusal) => Answer::Rejected { seq, refusal: refusal.clone() },
        Verdict::Expired => no("FS-KERNEL-EXPIRED", "the command came after its time"),
        Verdict::Superseded => no("FS-KERNEL-SUPERSEDED", "a later command stands for it"),
        Verdict::Unsupported => no("FS-KERNEL-UNSUPPORTED", "this kind of actor knows no such command"),
        Verdict::Poisoned => no("FS-KERNEL-POISONED", "deciding on the command failed twice inside the program"),
    }
}
