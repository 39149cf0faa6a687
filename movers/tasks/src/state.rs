//! What the records add up to. `evolve` folds facts and decides nothing, so that a log of any age folds the same.

use crate::record::{Fact, Record, RepositoryPlace};
use farshore_schemas::envelope::{Channel, Envelope, Mark, Sender};
use farshore_schemas::ids::{Address, Digest, Kind, Lineage, MessageId, Name, Seq, SiteName, TaskId, VmRef};
use farshore_schemas::messages::agent::{Order, Outcome, TaskSpec};
use farshore_schemas::messages::host::Driver;
use farshore_schemas::messages::{Epoch, Message, mover};
use farshore_schemas::units::{Hlc, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why records do not add up to a task table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// There is no record at all.
    #[error("the record log is empty")]
    Empty,
    /// The first fact is neither an incarnation nor a snapshot.
    #[error("the record log does not begin with an incarnation or a snapshot: its head is missing")]
    NoHead,
    /// Written by another agent.
    #[error("the record log belongs to agent {name} of site {site}")]
    AnotherAgent {
        /// Whose site.
        site: SiteName,
        /// Whose name.
        name: Name,
    },
}

/// A task that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenTask {
    /// Who is answered.
    pub from: Address,
    /// The order.
    pub order: Order,
    /// Whether it was told to stop.
    pub cancelled: bool,
    /// The how-manieth task this agent accepted: they start again in this order.
    pub turn: u64,
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedTask {
    /// Who is answered.
    pub from: Address,
    /// When it ended.
    pub at: Timestamp,
    /// Its answers, until a snapshot forgets them.
    pub outcomes: Option<Vec<Outcome>>,
    /// The lineage that control had when it acked the last answer.
    pub acked: Option<Lineage>,
}

/// A message that its receiver has not acked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    pub(crate) envelope: Envelope,
    pub(crate) ends: Option<TaskId>,
}

/// The sending end towards one receiver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    /// Everything up to here is acked.
    pub(crate) acked: u64,
    /// The last number given.
    pub(crate) last: u64,
    /// What is between, by number.
    pub(crate) waiting: BTreeMap<u64, Outgoing>,
}

/// Everything that an agent remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(crate) site: SiteName,
    pub(crate) name: Name,
    pub(crate) incarnation: Lineage,
    /// Whether control has answered the hello of an incarnation that remembers: until then it is not known where control's channel stands.
    pub(crate) welcomed: bool,
    /// The lineage that control speaks under, once it has spoken.
    pub(crate) control: Option<Lineage>,
    /// Those it spoke under before.
    pub(crate) replaced: BTreeSet<Lineage>,
    /// How far control's channel has come, in its present lineage.
    pub(crate) heard: Option<Mark>,
    pub(crate) hosts: BTreeMap<Name, Driver>,
    /// Repositories to serve.
    pub(crate) repositories: BTreeMap<Name, RepositoryPlace>,
    pub(crate) epochs: BTreeMap<VmRef, Epoch>,
    pub(crate) open: BTreeMap<TaskId, OpenTask>,
    pub(crate) ended: BTreeMap<TaskId, EndedTask>,
    /// Accesses that are open: the repository, and the certificates of who may come.
    pub(crate) accesses: BTreeMap<TaskId, (Name, Vec<Digest>)>,
    pub(crate) outboxes: BTreeMap<Address, Outbox>,
    /// Messages sent under this incarnation.
    pub(crate) sent: u64,
    /// Tasks accepted ever.
    pub(crate) turns: u64,
    pub(crate) clock: Hlc,
}

impl State {
    pub(crate) fn new(site: SiteName, name: Name, incarnation: Lineage) -> State {
        State {
            site,
            name,
            incarnation,
            welcomed: false,
            control: None,
            replaced: BTreeSet::new(),
            heard: None,
            hosts: BTreeMap::new(),
            repositories: BTreeMap::new(),
            epochs: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            accesses: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            sent: 0,
            turns: 0,
            clock: Hlc::default(),
        }
    }

    /// Folds records from the first on.
    pub(crate) fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<State, RebuildError> {
        let mut state: Option<State> = None;
        for record in records {
            for fact in &record.facts {
                match (&mut state, fact) {
                    (None, Fact::Incarnation { site, name, incarnation }) => {
                        state = Some(State::new(site.clone(), name.clone(), *incarnation));
                    }
                    (None, Fact::Snapshot(all)) => state = Some(State::clone(all)),
                    (None, _) => return Err(RebuildError::NoHead),
                    (Some(state), fact) => state.evolve(fact, record.at),
                }
            }
        }
        state.ok_or(RebuildError::Empty)
    }

    pub(crate) fn me(&self) -> Address {
        Address::new(&self.site, Kind::Agent, &self.name)
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel { site: self.site.clone(), sender: Sender::Agent(self.name.clone()), lineage: self.incarnation }
    }

    /// The lineages that control spoke under before its present one.
    pub(crate) fn formerly(&self) -> Vec<Lineage> {
        self.replaced.iter().copied().collect()
    }

    pub(crate) fn heard_number(&self) -> u64 {
        self.heard.map_or(0, |mark| mark.number)
    }

    /// The next message to `to`, as it will be once [`Fact::Queued`] is folded.
    pub(crate) fn compose(&self, to: &Address, body: Message, now: Timestamp) -> Envelope {
        Envelope {
            from: self.me(),
            channel: self.channel(),
            to: to.clone(),
            number: self.outboxes.get(to).map_or(0, |outbox| outbox.last) + 1,
            floor: 1,
            id: self.message_id(self.sent + 1),
            sent: self.clock.tick(now),
            expires: None,
            supersede: None,
            principal: self.me().to_string(),
            trace: None,
            body: Some(body),
        }
    }

    fn message_id(&self, count: u64) -> MessageId {
        MessageId { site: self.site.clone(), lineage: self.incarnation, seq: Seq(count), index: 0 }
    }

    pub(crate) fn evolve(&mut self, fact: &Fact, at: Timestamp) {
        match fact {
            Fact::Incarnation { incarnation, .. } => self.renumber(*incarnation),
            Fact::ControlIs { lineage } => {
                self.replaced.extend(self.control.replace(*lineage).filter(|old| old != lineage));
                self.heard = None;
            }
            Fact::Heard { mark, .. } => self.heard = Some(*mark),
            Fact::Welcomed => self.welcomed = true,
            Fact::Host { host, driver } => {
                self.hosts.insert(host.clone(), driver.clone());
            }
            Fact::Repository { repository, place } => {
                self.repositories.insert(repository.clone(), place.clone());
            }
            Fact::Raised { origin, epoch } => {
                self.epochs.insert(origin.clone(), epoch.clone());
            }
            Fact::Accepted { from, order } => {
                self.turns += 1;
                if let TaskSpec::CloseAccess { access, .. } = &order.spec {
                    self.close_access(access);
                }
                let open =
                    OpenTask { from: from.clone(), order: Order::clone(order), cancelled: false, turn: self.turns };
                self.open.insert(order.task.clone(), open);
            }
            Fact::Cancelled { task } => {
                if let Some(open) = self.open.get_mut(task) {
                    open.cancelled = true;
                }
            }
            Fact::Ended { task, from, outcomes } => {
                let ended = EndedTask { from: from.clone(), at, outcomes: Some(outcomes.clone()), acked: None };
                if let Some(open) = self.open.remove(task) {
                    self.open_access(open, outcomes);
                }
                self.ended.insert(task.clone(), ended);
            }
            Fact::Queued { envelope, ends } => {
                self.sent += 1;
                self.clock = self.clock.max(envelope.sent);
                let outbox = self.outboxes.entry(envelope.to.clone()).or_default();
                outbox.last = envelope.number;
                let outgoing = Outgoing { envelope: Envelope::clone(envelope), ends: ends.clone() };
                outbox.waiting.insert(envelope.number, outgoing);
            }
            Fact::Acked { to, number } => self.take_ack(to, *number),
            Fact::Snapshot(all) => *self = State::clone(all),
        }
    }

    /// An access is open once its task has ended well, and stays so over restarts.
    fn open_access(&mut self, opened: OpenTask, outcomes: &[Outcome]) {
        if let TaskSpec::OpenAccess { repository, peers } = opened.order.spec
            && outcomes == [Outcome::Done]
            && !opened.cancelled
        {
            self.accesses.insert(opened.order.task, (repository, peers));
        }
    }

    fn close_access(&mut self, access: &TaskId) {
        self.accesses.remove(access);
        if let Some(opening) = self.open.get_mut(access) {
            opening.cancelled = true;
        }
    }

    fn take_ack(&mut self, to: &Address, number: u64) {
        let Some(outbox) = self.outboxes.get_mut(to) else { return };
        outbox.acked = outbox.acked.max(number);
        let rest = outbox.waiting.split_off(&(number + 1));
        for outgoing in std::mem::replace(&mut outbox.waiting, rest).into_values() {
            let Some(ended) = outgoing.ends.and_then(|task| self.ended.get_mut(&task)) else { continue };
            ended.acked = Some(self.control.unwrap_or_default());
        }
    }

    /// A new incarnation: what no one has acked is said again under it, in the order in which it was said first. Hellos
    /// of the old one are left out, since they would announce it. Where control's channel stands is still known.
    fn renumber(&mut self, incarnation: Lineage) {
        self.incarnation = incarnation;
        self.sent = 0;
        let mut unacked: Vec<Outgoing> =
            std::mem::take(&mut self.outboxes).into_values().flat_map(|outbox| outbox.waiting.into_values()).collect();
        unacked.retain(|outgoing| !is_hello(&outgoing.envelope));
        unacked.sort_by_key(|outgoing| outgoing.envelope.id.seq);
        let channel = self.channel();
        for Outgoing { mut envelope, ends } in unacked {
            self.sent += 1;
            envelope.channel = channel.clone();
            envelope.id = self.message_id(self.sent);
            let outbox = self.outboxes.entry(envelope.to.clone()).or_default();
            outbox.last += 1;
            envelope.number = outbox.last;
            outbox.waiting.insert(envelope.number, Outgoing { envelope, ends });
        }
    }
}

fn is_hello(envelope: &Envelope) -> bool {
    matches!(&envelope.body, Some(Message::Mover(mover::Command::Hello { .. })))
}
