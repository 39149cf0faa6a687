//! The rules of an agent's task table. Each entry point takes one thing that happened and returns what must be done, in
//! order.

use crate::admission;
use crate::outbox::Pacing;
use crate::record::{Fact, Record, Refusal, RepositoryPlace};
use crate::state::{RebuildError, State};
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::ids::{Address, Digest, Kind, Lineage, Name, SiteName, TaskId, VmRef};
use farshore_schemas::messages::agent::{Command, Endpoint, Order, Outcome};
use farshore_schemas::messages::host::Driver;
use farshore_schemas::messages::{Epoch, Message, host, mover, replica, repository, session};
use farshore_schemas::units::Timestamp;
use std::collections::BTreeMap;

/// Which agent this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its site.
    pub site: SiteName,
    /// Its name, which is also its mover's.
    pub name: Name,
}

/// What an agent says of itself in its hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its data channel.
    pub endpoint: Endpoint,
    /// Its program version.
    pub version: String,
    /// Its cores.
    pub cores: u32,
}

/// What the shell must do. Actions are done in order, and nothing after a `Persist` before it is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Append this record and make it durable. If that fails, stop: nothing of this table is true any more, and a new
    /// one is rebuilt from the records that are there.
    Persist(Record),
    /// Put this on the bus, for the sending end of the channel that it names.
    Ack(Wire),
    /// Put this on the bus, for its receiver. It stands in the outbox until it is acked.
    Send(Envelope),
    /// From now on this is the highest epoch: whatever touches what the VM runs on checks against it at the last moment.
    Fence {
        /// The VM's origin.
        origin: VmRef,
        /// The epoch.
        epoch: Epoch,
    },
    /// Serve this host.
    ServeHost {
        /// The host.
        host: Name,
        /// How it is driven.
        driver: Driver,
    },
    /// Serve this repository.
    ServeRepository {
        /// The repository.
        repository: Name,
        /// Where it is, and whose. Formerly are those lineages, too, that this agent's control spoke under before.
        place: RepositoryPlace,
    },
    /// Begin this task, or go on with it. Its end comes back by [`TaskTable::ended`].
    Start(Order),
    /// Stop this task at its next safe point. Its end comes back by [`TaskTable::ended`].
    Stop(TaskId),
    /// Count and log this.
    Refuse(Refusal),
    /// Mint a lineage and call [`TaskTable::renew`] with it: control, or this agent, was put back to an earlier state.
    Renew,
}

/// An agent's memory and rules.
#[derive(Debug, Clone)]
pub struct TaskTable {
    pub(crate) state: State,
    pacing: Pacing,
    about: Option<About>,
    /// What came before the welcome, by number, under one lineage.
    pub(crate) early: (Option<Lineage>, BTreeMap<u64, Digest>),
}

/// One input's worth of facts, folded as they are found.
pub(crate) struct Batch<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) now: Timestamp,
    pub(crate) facts: Vec<Fact>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(state: &'a mut State, now: Timestamp) -> Self {
        Batch { state, now, facts: Vec::new() }
    }

    pub(crate) fn add(&mut self, fact: Fact) {
        self.state.evolve(&fact, self.now);
        self.facts.push(fact);
    }

    pub(crate) fn queue(&mut self, to: &Address, body: Message, ends: Option<TaskId>) {
        let envelope = Box::new(self.state.compose(to, body, self.now));
        self.add(Fact::Queued { envelope, ends });
    }

    /// Answers a task that ends with these outcomes; the last one ends it.
    fn answer(&mut self, to: &Address, task: &TaskId, outcomes: &[Outcome]) {
        let last = outcomes.len().saturating_sub(1);
        for (at, outcome) in outcomes.iter().enumerate() {
            if let Some(body) = task_ended(to.entity.kind, task, outcome) {
                self.queue(to, body, (at == last).then(|| task.clone()));
            }
        }
    }

    pub(crate) fn end(&mut self, from: &Address, task: &TaskId, outcomes: Vec<Outcome>) {
        self.add(Fact::Ended { task: task.clone(), from: from.clone(), outcomes: outcomes.clone() });
        self.answer(from, task, &outcomes);
    }
}

/// How a kind of actor is told that a task has ended; none for those that order none.
pub(crate) fn task_ended(kind: Kind, task: &TaskId, outcome: &Outcome) -> Option<Message> {
    let (task, outcome) = (task.clone(), outcome.clone());
    match kind {
        Kind::Host => Some(Message::Host(host::Command::TaskEnded { task, outcome })),
        Kind::Mover => Some(Message::Mover(mover::Command::TaskEnded { task, outcome })),
        Kind::Repository => Some(Message::Repository(repository::Command::TaskEnded { task, outcome })),
        Kind::Session => Some(Message::Session(session::Command::TaskEnded { task, outcome })),
        Kind::Replica => Some(Message::Replica(replica::Command::TaskEnded { task, outcome })),
        Kind::Site | Kind::Broker | Kind::Job | Kind::Plan | Kind::Agent | Kind::Api => None,
    }
}

impl TaskTable {
    /// An agent without memory: `incarnation` is minted by the shell. The returned actions are the first record.
    pub fn begin(identity: Identity, incarnation: Lineage, now: Timestamp) -> (TaskTable, Vec<Action>) {
        let Identity { site, name } = identity;
        let state = State::new(site.clone(), name.clone(), incarnation);
        let record = Record { at: now, facts: vec![Fact::Incarnation { site, name, incarnation }] };
        (
            TaskTable { state, pacing: Pacing::default(), about: None, early: (None, BTreeMap::new()) },
            vec![Action::Persist(record)],
        )
    }

    /// The table that these records, from the first on, add up to.
    ///
    /// # Errors
    /// [`RebuildError`] when they have no head or are another agent's.
    pub fn rebuild<'a>(
        identity: &Identity,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<TaskTable, RebuildError> {
        let state = State::fold(records)?;
        if state.site != identity.site || state.name != identity.name {
            return Err(RebuildError::AnotherAgent { site: state.site, name: state.name });
        }
        Ok(TaskTable { state, pacing: Pacing::default(), about: None, early: (None, BTreeMap::new()) })
    }

    /// The process has started (for the first time or again): serves what was served, says hello, says again what
    /// was not acked, and goes on with the tasks that have not ended.
    pub fn restart(&mut self, about: About, now: Timestamp) -> Vec<Action> {
        self.about = Some(about);
        self.pacing = Pacing::default();
        let mut served = Vec::new();
        for (origin, epoch) in &self.state.epochs {
            served.push(Action::Fence { origin: origin.clone(), epoch: epoch.clone() });
        }
        for (host, driver) in &self.state.hosts {
            served.push(Action::ServeHost { host: host.clone(), driver: driver.clone() });
        }
        served.extend(crate::accept::served_repositories(&self.state));
        let mut open: Vec<_> = self.state.open.values().cloned().collect();
        open.sort_by_key(|task| task.turn);
        let mut batch = Batch::new(&mut self.state, now);
        say_hello(&mut batch, self.about.as_ref());
        for task in open {
            let id = &task.order.task;
            if task.cancelled {
                batch.end(&task.from, id, vec![Outcome::Cancelled]);
            } else if let Some(failure) =
                admission::overdue(&task.order, now).or_else(|| admission::fenced_off(batch.state, &task.order))
            {
                batch.end(&task.from, id, vec![Outcome::Failed(failure)]);
            } else {
                served.push(Action::Start(task.order));
            }
        }
        let facts = batch.facts;
        self.commit(facts, served, now)
    }

    /// The agent goes on under a new incarnation, as [`Action::Renew`] asked.
    pub fn renew(&mut self, incarnation: Lineage, now: Timestamp) -> Vec<Action> {
        self.pacing = Pacing::default();
        let (site, name) = (self.state.site.clone(), self.state.name.clone());
        let mut batch = Batch::new(&mut self.state, now);
        batch.add(Fact::Incarnation { site, name, incarnation });
        say_hello(&mut batch, self.about.as_ref());
        let facts = batch.facts;
        self.commit(facts, Vec::new(), now)
    }

    /// Something came from the bus.
    pub fn receive(&mut self, wire: Wire, now: Timestamp) -> Vec<Action> {
        match wire {
            Wire::Deliver(envelope) => self.delivered(*envelope, now),
            Wire::Probe { channel, receiver } => self.probed(&channel, &receiver),
            Wire::Ack { channel, receiver, number } => self.acked(&channel, &receiver, number, now),
            Wire::Fork { channel, number, .. } if channel == self.state.channel() => {
                vec![Action::Refuse(Refusal::WeForked { number }), Action::Renew]
            }
            Wire::Fork { .. } | Wire::Progress { .. } => Vec::new(),
        }
    }

    /// A task has ended: its outcome, or all pages of it in order. Nothing happens if it is not open.
    pub fn ended(&mut self, task: &TaskId, outcomes: Vec<Outcome>, now: Timestamp) -> Vec<Action> {
        let Some(open) = self.state.open.get(task) else { return Vec::new() };
        let from = open.from.clone();
        let mut batch = Batch::new(&mut self.state, now);
        batch.end(&from, task, outcomes);
        let facts = batch.facts;
        self.commit(facts, Vec::new(), now)
    }

    /// Time has passed: what is due to be said again.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Action> {
        self.pacing.repeats(&self.state, now).into_iter().map(Action::Send).collect()
    }

    /// When [`TaskTable::tick`] wants to be called, if at all.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.pacing.next_due(&self.state)
    }

    /// One record that stands for all before it: with it a new log may begin. It forgets ended tasks that were acked
    /// and are neither among the newest [`crate::REMEMBER_COUNT`] nor younger than [`crate::REMEMBER_FOR`], and the outcomes
    /// of acked tasks beyond the newest [`crate::REMEMBER_OUTCOMES`].
    pub fn snapshot(&mut self, now: Timestamp) -> Record {
        let mut acked: Vec<(Timestamp, TaskId)> = Vec::new();
        for (task, ended) in &self.state.ended {
            if ended.acked.is_some() {
                acked.push((ended.at, task.clone()));
            }
        }
        acked.sort_by(|one, other| other.cmp(one));
        for (place, (at, task)) in acked.iter().enumerate() {
            if place >= crate::REMEMBER_COUNT && now.since(*at) > crate::REMEMBER_FOR {
                self.state.ended.remove(task);
            } else if place >= crate::REMEMBER_OUTCOMES
                && let Some(ended) = self.state.ended.get_mut(task)
            {
                ended.outcomes = None;
            }
        }
        Record { at: now, facts: vec![Fact::Snapshot(Box::new(self.state.clone()))] }
    }

    /// The incarnation it speaks under.
    pub fn incarnation(&self) -> Lineage {
        self.state.incarnation
    }

    /// The highest epoch seen per VM, by origin.
    pub fn epochs(&self) -> &BTreeMap<VmRef, Epoch> {
        &self.state.epochs
    }

    /// Accesses to repositories that are open: the repository, and the certificates of who may come.
    pub fn accesses(&self) -> &BTreeMap<TaskId, (Name, Vec<Digest>)> {
        &self.state.accesses
    }

    /// Tasks that have not ended, with whether they were told to stop.
    pub fn open_tasks(&self) -> impl Iterator<Item = (&Order, bool)> {
        self.state.open.values().map(|task| (&task.order, task.cancelled))
    }

    /// How a task ended: none when it has not or is forgotten, an empty slice when only the id is remembered.
    pub fn outcomes(&self, task: &TaskId) -> Option<&[Outcome]> {
        self.state.ended.get(task).map(|ended| ended.outcomes.as_deref().unwrap_or_default())
    }

    /// Messages that no one has acked yet.
    pub fn unacked(&self) -> usize {
        self.state.outboxes.values().map(|outbox| outbox.waiting.len()).sum()
    }

    /// Everything it remembers, for checkers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Persists the facts, then does the rest, then says what is new in the outbox.
    pub(crate) fn commit(&mut self, facts: Vec<Fact>, rest: Vec<Action>, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        if !facts.is_empty() {
            actions.push(Action::Persist(Record { at: now, facts }));
        }
        actions.extend(rest);
        actions.extend(self.pacing.fresh(&self.state, now).into_iter().map(Action::Send));
        actions
    }

    pub(crate) fn ack(&self, channel: &Channel) -> Action {
        let number = if Some(channel.lineage) == self.state.control { self.state.heard_number() } else { 0 };
        Action::Ack(Wire::Ack { channel: channel.clone(), receiver: self.state.me(), number })
    }

    fn fork(&self, channel: &Channel, number: u64, why: Refusal) -> Vec<Action> {
        let wire = Wire::Fork { channel: channel.clone(), receiver: self.state.me(), number };
        vec![Action::Refuse(why), Action::Ack(wire)]
    }

    fn is_our_control(&self, channel: &Channel) -> bool {
        channel.site == self.state.site && channel.sender == Sender::Control
    }

    fn probed(&self, channel: &Channel, receiver: &Address) -> Vec<Action> {
        if *receiver != self.state.me() || !self.is_our_control(channel) {
            return Vec::new();
        }
        if self.state.replaced.contains(&channel.lineage) {
            return self.fork(channel, 0, Refusal::OldLineage { lineage: channel.lineage });
        }
        vec![self.ack(channel)]
    }

    fn acked(&mut self, channel: &Channel, receiver: &Address, number: u64, now: Timestamp) -> Vec<Action> {
        if *channel != self.state.channel() {
            return Vec::new();
        }
        let Some(outbox) = self.state.outboxes.get(receiver) else { return Vec::new() };
        // A receiver cannot have what was never sent: such an ack is garbage.
        if outbox.waiting.is_empty() || number > outbox.last {
            return Vec::new();
        }
        if number <= outbox.acked {
            let lost = self.pacing.stalled(receiver, number, outbox);
            return if lost { vec![Action::Renew] } else { Vec::new() };
        }
        let fact = Fact::Acked { to: receiver.clone(), number };
        self.state.evolve(&fact, now);
        self.pacing.progressed(receiver, now);
        self.commit(vec![fact], Vec::new(), now)
    }

    fn delivered(&mut self, envelope: Envelope, now: Timestamp) -> Vec<Action> {
        if envelope.to != self.state.me() {
            return vec![Action::Refuse(Refusal::NotForUs { to: envelope.to })];
        }
        if !self.is_our_control(&envelope.channel) || envelope.from.site != self.state.site {
            return vec![Action::Refuse(Refusal::NotOurControl { from: envelope.from })];
        }
        let lineage = envelope.channel.lineage;
        if self.state.replaced.contains(&lineage) {
            return self.fork(&envelope.channel, envelope.number, Refusal::OldLineage { lineage });
        }
        let heard = if self.state.control == Some(lineage) { self.state.heard } else { None };
        let at = heard.map_or(0, |mark| mark.number);
        if heard.is_some_and(|mark| mark.number == envelope.number && mark.digest != envelope.digest()) {
            return self.fork(&envelope.channel, envelope.number, Refusal::Forked { lineage, number: envelope.number });
        }
        if envelope.number <= at {
            return vec![self.ack(&envelope.channel)];
        }
        if !self.state.welcomed {
            // An agent without memory cannot know where control's channel stands: the welcome to this incarnation says.
            let welcome = Message::Agent(Command::Welcome { incarnation: self.state.incarnation });
            if envelope.body.as_ref() != Some(&welcome) {
                return self.unwelcome(&envelope, now);
            }
        } else if envelope.number != at + 1 {
            return vec![self.ack(&envelope.channel)];
        }
        self.accept(&envelope, now)
    }
}

fn say_hello(batch: &mut Batch<'_>, about: Option<&About>) {
    let Some(About { endpoint, version, cores }) = about.cloned() else { return };
    let incarnation = batch.state.incarnation;
    let hello = Message::Mover(mover::Command::Hello { incarnation, endpoint, version, cores });
    let mover = Address::new(&batch.state.site, Kind::Mover, &batch.state.name);
    // One that stands in the outbox may have been heard in the life before, with only its ack lost: said again it would be
    // a repeat, and control would never learn of this restart.
    batch.queue(&mover, hello, None);
}
