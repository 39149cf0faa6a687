//! A site's control as the runtime will run it: it decides ahead of its disk, hands messages between its own actors over
//! at once, and lets nothing leave (acks included) before the frame behind it is durable.

use crate::bug::Bug;
use crate::bus::{end_of, end_of_channel};
use crate::choices::{Choices, Draw};
use crate::disk::Disk;
use crate::faults::Fault;
use crate::sim::{End, Event, Sim};
use farshore_kernel::draft::Draft;
use farshore_kernel::sequencer::{AckVerdict, Stamped};
use farshore_kernel::site::{Site, Step};
use farshore_schemas::codec;
use farshore_schemas::envelope::{Envelope, Wire};
use farshore_schemas::ids::{Address, Digest, EntityId, Lineage, Seq, SiteName};
use farshore_schemas::units::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// A control: what outlives its process, and the process.
pub(crate) struct Control {
    pub(crate) site: SiteName,
    /// The lineage that the log began with.
    pub(crate) first_lineage: Lineage,
    pub(crate) disk: Disk,
    /// Grows with every crash.
    pub(crate) life: u64,
    pub(crate) live: Option<Live>,
    /// The process's last snapshot of its memory: what a view is to the runtime.
    pub(crate) view: Option<View>,
    /// The fold of the log from its first frame on, kept as far as the log is durable: what the checkers compare with.
    pub(crate) shadow: Option<(Site, usize)>,
    /// How many frames a copy of its log must have at least.
    pub(crate) needed: usize,
    /// Whether it comes back on an older copy of its log.
    pub(crate) back_on_copy: bool,
}

/// A snapshot, with the frame that it stands at.
pub(crate) struct View {
    pub(crate) sequencer: farshore_kernel::sequencer::SequencerMemory,
    pub(crate) memories: Vec<farshore_kernel::entity::Memory>,
}

/// A running control.
pub(crate) struct Live {
    pub(crate) kernel: Site,
    /// What may leave once the log is durable up to a seq.
    held: VecDeque<(Seq, End, Wire)>,
    /// What actors of the site have said to each other, per receiver.
    inboxes: BTreeMap<Address, VecDeque<Envelope>>,
    serving: bool,
    syncing: bool,
    wakes: BTreeMap<EntityId, Timestamp>,
    resend_at: Option<Timestamp>,
}

impl Control {
    pub(crate) fn new(site: &SiteName, choices: &mut Choices) -> Self {
        Control {
            site: site.clone(),
            first_lineage: Lineage(choices.bytes()),
            disk: Disk::default(),
            life: 0,
            live: None,
            view: None,
            shadow: None,
            needed: 0,
            back_on_copy: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.live.is_some()
    }

    /// The hash of a frame of its log.
    pub(crate) fn frame_hash(&self, seq: Seq) -> Option<Digest> {
        let at = usize::try_from(seq.0).ok()?.checked_sub(1)?;
        self.disk.entries().get(at).map(|bytes| Digest(*blake3::hash(bytes).as_bytes()))
    }
}

impl Live {
    pub(crate) fn new(kernel: Site) -> Self {
        Live {
            kernel,
            held: VecDeque::new(),
            inboxes: BTreeMap::new(),
            serving: false,
            syncing: false,
            wakes: BTreeMap::new(),
            resend_at: None,
        }
    }

    /// Whether nothing is under way inside the process.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.inboxes.is_empty() && !self.syncing
    }

    /// Forgets what is being handed over: it is handed over anew.
    pub(crate) fn empty_inboxes(&mut self) {
        self.inboxes.clear();
    }

    pub(crate) fn hand_over(&mut self, envelope: Envelope) {
        self.inboxes.entry(envelope.to.clone()).or_default().push_back(envelope);
    }
}

impl Sim {
    /// Bytes come in from the bus.
    pub(crate) fn control_hears(&mut self, site: usize, bytes: &[u8]) {
        if !self.controls[site].is_up() {
            return;
        }
        let Ok(wire) = codec::decode::<Wire>(bytes) else {
            self.checks.violate("P1", "a message of our own cannot be decoded".to_owned());
            return;
        };
        match wire {
            Wire::Deliver(envelope) => self.deliver(site, *envelope),
            Wire::Ack { channel, receiver, number } => {
                let now = self.now();
                let Some(live) = &mut self.controls[site].live else { return };
                let verdict = live.kernel.sequencer.hear_ack(&channel, &receiver, number, now);
                if verdict == AckVerdict::AheadOfUs {
                    self.checks.violate(
                        "P1",
                        format!("{receiver} has heard up to {number} from {}, which never said so much", channel.site),
                    );
                }
                self.release(site);
            }
            Wire::Probe { channel, receiver } => {
                let Some(live) = &self.controls[site].live else { return };
                let mark = live.kernel.entity(&receiver.entity).and_then(|entity| entity.mark(&channel));
                let number = mark.map_or(0, |mark| mark.number);
                let seq = live.kernel.sequencer.tail().0;
                self.hold_ack(site, seq, Wire::Ack { channel, receiver, number });
                self.release(site);
            }
            Wire::Fork { channel, receiver, number } => self.hear_fork(site, &channel, &receiver, number),
            Wire::Progress { .. } => {}
        }
    }

    fn hear_fork(
        &mut self,
        site: usize,
        channel: &farshore_schemas::envelope::Channel,
        receiver: &Address,
        number: u64,
    ) {
        let Some(live) = &self.controls[site].live else { return };
        if live.kernel.sequencer.channel() == *channel {
            self.checks.violate("P1", format!("{receiver} says that message {number} came with two contents"));
        }
    }

    fn hold_ack(&mut self, site: usize, seq: Seq, wire: Wire) {
        let Wire::Ack { channel, .. } = &wire else { return };
        let Some(to) = end_of_channel(channel) else { return };
        if let Some(live) = &mut self.controls[site].live {
            live.held.push_back((seq, to, wire));
        }
    }

    /// Shows a message to its actor.
    pub(crate) fn deliver(&mut self, site: usize, envelope: Envelope) {
        let now = self.now();
        let step = self.show(site, &envelope, now);
        let ack = |number| Wire::Ack { channel: envelope.channel.clone(), receiver: envelope.to.clone(), number };
        let local = end_of_channel(&envelope.channel) == Some(End::Control(site));
        match step {
            Step::Append { stamped, draft } => {
                let seq = stamped.seq;
                self.append(site, stamped, &draft);
                if !local {
                    self.hold_ack(site, seq, ack(envelope.number));
                }
            }
            Step::Ack { number } if !local => {
                let tail = self.controls[site].live.as_ref().map(|live| live.kernel.sequencer.tail().0);
                self.hold_ack(site, tail.unwrap_or_default(), ack(number));
            }
            Step::Ack { number } => {
                self.checks.violate("P1", format!("{} was handed {} after {number}", envelope.to, envelope.number));
            }
            Step::Fork { number } => {
                self.checks.violate("P1", format!("{} took message {number} twice, with two contents", envelope.to));
            }
            Step::Idle | Step::NoActor => {}
        }
        self.release(site);
    }

    fn show(&mut self, site: usize, envelope: &Envelope, now: Timestamp) -> Step {
        let bug = self.bug;
        let Some(live) = &mut self.controls[site].live else { return Step::Idle };
        if bug.is(Bug::HashMapOrder) {
            return crate::defects::deliver_in_hash_order(&mut live.kernel, envelope, now);
        }
        let step = live.kernel.deliver(&crate::defects::as_heard(bug, envelope), now);
        if bug.is(Bug::WatermarkNotKept)
            && let Step::Ack { number } = &step
            && envelope.number <= *number
        {
            return live.kernel.deliver(&Envelope { number: *number + 1, ..envelope.clone() }, now);
        }
        step
    }

    /// A frame with its place goes to the disk; what it says to actors of the same site is handed over.
    pub(crate) fn append(&mut self, site: usize, stamped: Stamped, draft: &Draft) {
        self.decisions += 1;
        self.trace.hash(&stamped.hash.0);
        let now = self.schedule.now();
        self.trace.say(now, || crate::words::of_decision(&stamped, draft));
        self.checks.frame_made(site, &stamped, draft);
        let control = &mut self.controls[site];
        control.disk.append(&stamped.bytes);
        control.note_needed(draft.actor.kind);
        let Some(live) = &mut control.live else { return };
        for (to, entry) in &stamped.sends {
            if to.site == control.site && farshore_kernel::sequencer::is_actor(to.entity.kind) {
                let envelope = live.kernel.sequencer.envelope(to, entry);
                live.hand_over(envelope);
            }
        }
        let kernel = &self.controls[site].live.as_ref().expect("it has just appended").kernel;
        self.checks.decided(site, draft, kernel, &self.world);
        self.plan_wake(site, &draft.actor);
        self.plan_serving(site);
        self.plan_sync(site);
    }

    fn plan_sync(&mut self, site: usize) {
        let control = &mut self.controls[site];
        let (life, upto) = (control.life, control.disk.written());
        let Some(live) = &mut control.live else { return };
        if live.syncing || control.disk.synced() == upto {
            return;
        }
        live.syncing = true;
        let slow = self.faults.strikes(Fault::SlowDisk, Draw::Disk, &mut self.choices);
        let wait = if slow { self.choices.between(Draw::Disk, 20, 5_000) } else { 1 };
        self.schedule.after(wait, Event::LogSynced { site, life, upto });
    }

    pub(crate) fn plan_serving(&mut self, site: usize) {
        let control = &mut self.controls[site];
        let life = control.life;
        if let Some(live) = control.live.as_mut().filter(|live| !live.serving && !live.inboxes.is_empty()) {
            live.serving = true;
            self.schedule.after(0, Event::Serve { site, life });
        }
    }

    /// Hands one message after another to actors of the site; which actor comes first is drawn.
    pub(crate) fn serve(&mut self, site: usize, life: u64) {
        if self.controls[site].life != life {
            return;
        }
        for _ in 0..8 {
            let Some(live) = &mut self.controls[site].live else { return };
            if live.inboxes.is_empty() {
                break;
            }
            let nth = usize::try_from(self.choices.below(Draw::Local, live.inboxes.len() as u64)).expect("few");
            let to = live.inboxes.keys().nth(nth).cloned().expect("below their count");
            let queue = live.inboxes.get_mut(&to).expect("a key of the map");
            let envelope = queue.pop_front().expect("empty queues are removed");
            if queue.is_empty() {
                live.inboxes.remove(&to);
            }
            self.deliver(site, envelope);
        }
        if let Some(live) = &mut self.controls[site].live {
            live.serving = false;
        }
        self.plan_serving(site);
    }

    /// The log is durable up to what was written when the sync began.
    pub(crate) fn log_synced(&mut self, site: usize, life: u64, upto: usize) {
        let control = &mut self.controls[site];
        if control.life != life {
            return;
        }
        let before = control.disk.synced();
        control.disk.sync_returned(upto);
        for at in before..upto {
            let seq = Seq(at as u64 + 1);
            self.checks.frame_durable(site, seq, &control.disk.entries()[at]);
        }
        if let Some(live) = &mut self.controls[site].live {
            live.syncing = false;
        }
        self.release(site);
        self.plan_sync(site);
    }

    /// Lets out what waits for frames that are durable now.
    pub(crate) fn release(&mut self, site: usize) {
        let now = self.now();
        let early = self.bug.is(Bug::AckBeforeSync);
        let control = &mut self.controls[site];
        let truly = Seq(control.disk.synced() as u64);
        let durable = if early { Seq(control.disk.written() as u64) } else { truly };
        let Some(live) = &mut control.live else { return };
        let mut out = Vec::new();
        while live.held.front().is_some_and(|(seq, _, _)| *seq <= durable) {
            out.extend(live.held.pop_front());
        }
        let due = live.kernel.sequencer.due(now, durable);
        for (seq, to, wire) in out {
            self.checks.leaves(site, (seq, truly), &wire);
            self.put(site, to, &wire);
        }
        for envelope in due {
            let wire = Wire::Deliver(Box::new(envelope));
            let Wire::Deliver(envelope) = &wire else { continue };
            self.checks.leaves(site, (envelope.id.seq, truly), &wire);
            if let Some(to) = end_of(&envelope.to) {
                self.put(site, to, &wire);
            }
        }
        self.plan_resend(site);
    }

    fn plan_resend(&mut self, site: usize) {
        let control = &mut self.controls[site];
        let life = control.life;
        let Some(live) = &mut control.live else { return };
        let Some(at) = live.kernel.sequencer.outbox.next_attempt() else { return };
        if live.resend_at.is_none_or(|planned| planned > at) {
            live.resend_at = Some(at);
            self.schedule.at(at.0, Event::Resend { site, life });
        }
    }

    pub(crate) fn resend(&mut self, site: usize, life: u64) {
        let control = &mut self.controls[site];
        if control.life != life {
            return;
        }
        if let Some(live) = &mut control.live {
            live.resend_at = None;
        }
        self.release(site);
    }

    fn plan_wake(&mut self, site: usize, actor: &EntityId) {
        let control = &mut self.controls[site];
        let life = control.life;
        let Some(live) = &mut control.live else { return };
        let Some(at) = live.kernel.entity(actor).and_then(|entity| entity.next_wake()) else {
            live.wakes.remove(actor);
            return;
        };
        if live.wakes.get(actor).is_none_or(|planned| *planned != at) {
            live.wakes.insert(actor.clone(), at);
            self.schedule.at(at.0, Event::Wake { site, life, actor: actor.clone() });
        }
    }

    pub(crate) fn plan_wakes(&mut self, site: usize) {
        let Some(live) = &self.controls[site].live else { return };
        let actors: Vec<EntityId> = live.kernel.entities().map(|entity| entity.id().clone()).collect();
        actors.iter().for_each(|actor| self.plan_wake(site, actor));
    }

    pub(crate) fn wake(&mut self, site: usize, life: u64, actor: &EntityId) {
        let now = self.now();
        let control = &mut self.controls[site];
        if control.life != life {
            return;
        }
        let Some(live) = &mut control.live else { return };
        // Planned for a time that the actor no longer asks for.
        if live.wakes.get(actor).is_none_or(|at| *at > now) {
            return;
        }
        live.wakes.remove(actor);
        match live.kernel.wake(actor, now) {
            Step::Append { stamped, draft } => self.append(site, stamped, &draft),
            Step::Idle | Step::Ack { .. } | Step::Fork { .. } | Step::NoActor => {
                let next = live.kernel.entity(actor).and_then(|entity| entity.next_wake());
                if next.is_some_and(|at| at <= now) {
                    self.checks
                        .violate("P3", format!("{actor} was woken, decided nothing, and wants to be woken again"));
                }
            }
        }
        self.release(site);
    }
}
