mod chaos;
mod rules;

use crate::{About, Action, Fact, Identity, Record, TaskTable};
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::ids::{Address, Digest, Kind, Lineage, MessageId, Name, Seq, SiteName, TaskId, VmName, VmRef};
use farshore_schemas::messages::agent::{Command, Endpoint, Order, Outcome, TaskSpec};
use farshore_schemas::messages::host::Driver;
use farshore_schemas::messages::{Epoch, Message};
use farshore_schemas::units::{Hlc, Timestamp};

pub(super) const NOW: Timestamp = Timestamp(1_000_000);
pub(super) const INCARNATION: Lineage = Lineage([1; 16]);
pub(super) const CONTROL: Lineage = Lineage([2; 16]);

pub(super) fn site(text: &str) -> SiteName {
    SiteName::parse(text).unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn identity() -> Identity {
    Identity { site: site("hq"), name: name("a") }
}

pub(super) fn me() -> Address {
    Address::new(&site("hq"), Kind::Agent, &name("a"))
}

pub(super) fn owner() -> Address {
    Address::new(&site("hq"), Kind::Host, &name("lab"))
}

pub(super) fn origin() -> VmRef {
    VmRef { site: site("hq"), host: name("lab"), vm: VmName::parse("web").unwrap() }
}

pub(super) fn epoch(counter: u64, at: &str) -> Epoch {
    Epoch { counter, site: site(at), frame: Seq(1) }
}

pub(super) fn task(ordinal: u64) -> TaskId {
    TaskId { owner: owner(), lineage: CONTROL, ordinal }
}

pub(super) fn about() -> About {
    let (site, agent) = (site("hq"), name("a"));
    let endpoint = Endpoint { site, agent, address: "127.0.0.1:1".into(), fingerprint: Digest::default() };
    About { endpoint, version: "0".into(), cores: 2 }
}

pub(super) fn power_on(ordinal: u64, fence: Option<(u64, &str)>) -> Command {
    let spec = TaskSpec::PowerOn { host: name("lab"), vm: VmName::parse("web").unwrap() };
    let fence = fence.map(|(counter, at)| (origin(), epoch(counter, at)));
    Command::Run(Box::new(Order { task: task(ordinal), fence, expires: None, spec }))
}

pub(super) fn welcome() -> Command {
    Command::Welcome { incarnation: INCARNATION }
}

pub(super) fn serve() -> Command {
    Command::ServeHost { host: name("lab"), driver: Driver::Folder { path: "/vms".into() }, epochs: Vec::new() }
}

pub(super) fn said(lineage: Lineage, number: u64, command: Command) -> Envelope {
    Envelope {
        from: owner(),
        channel: Channel { site: site("hq"), sender: Sender::Control, lineage },
        to: me(),
        number,
        floor: 1,
        id: MessageId { site: site("hq"), lineage, seq: Seq(number), index: 0 },
        sent: Hlc::default(),
        expires: None,
        supersede: None,
        principal: "test".into(),
        trace: None,
        body: Some(Message::Agent(command)),
    }
}

/// A table with all records that it ever asked to persist.
pub(super) struct Agent {
    pub(super) table: TaskTable,
    pub(super) records: Vec<Record>,
    next: u64,
}

impl Agent {
    pub(super) fn new() -> Agent {
        let (table, actions) = TaskTable::begin(identity(), INCARNATION, NOW);
        let mut agent = Agent { table, records: Vec::new(), next: 0 };
        agent.keep(actions);
        let actions = agent.table.restart(about(), NOW);
        agent.keep(actions);
        agent
    }

    /// One that control has welcomed and told of its host.
    pub(super) fn serving() -> Agent {
        let mut agent = Agent::new();
        agent.hear(welcome());
        agent.hear(serve());
        agent
    }

    fn keep(&mut self, actions: Vec<Action>) -> Vec<Action> {
        self.records.extend(persisted(&actions));
        actions.into_iter().filter(|action| !matches!(action, Action::Persist(_))).collect()
    }

    /// Control's next message; what follows, records left out.
    pub(super) fn hear(&mut self, command: Command) -> Vec<Action> {
        self.next += 1;
        self.take(said(CONTROL, self.next, command))
    }

    pub(super) fn take(&mut self, envelope: Envelope) -> Vec<Action> {
        self.wire(Wire::Deliver(Box::new(envelope)))
    }

    pub(super) fn wire(&mut self, wire: Wire) -> Vec<Action> {
        let actions = self.table.receive(wire, NOW);
        self.keep(actions)
    }

    pub(super) fn end(&mut self, ordinal: u64, outcome: Outcome) -> Vec<Action> {
        let actions = self.table.ended(&task(ordinal), vec![outcome], NOW);
        self.keep(actions)
    }

    /// Acks everything that was said to `to`.
    pub(super) fn ack_all(&mut self, to: &Address) {
        let channel = self.table.state.channel();
        let number = self.table.state.outboxes[to].last;
        self.wire(Wire::Ack { channel, receiver: to.clone(), number });
    }

    pub(super) fn restart(&mut self) -> Vec<Action> {
        self.table = TaskTable::rebuild(&identity(), &self.records).unwrap();
        let actions = self.table.restart(about(), NOW);
        self.keep(actions)
    }
}

pub(super) fn persisted(actions: &[Action]) -> Vec<Record> {
    let record = |action: &Action| if let Action::Persist(record) = action { Some(record.clone()) } else { None };
    actions.iter().filter_map(record).collect()
}

/// The codes and kinds of what is said to owners.
pub(super) fn outcomes(actions: &[Action]) -> Vec<String> {
    use farshore_schemas::messages::host;
    let said = |action: &Action| {
        let Action::Send(envelope) = action else { return None };
        let Some(Message::Host(host::Command::TaskEnded { outcome, .. })) = &envelope.body else { return None };
        let failed = if let Outcome::Failed(failure) = outcome { Some(failure.code.clone()) } else { None };
        Some(failed.unwrap_or_else(|| format!("{outcome:?}")))
    };
    actions.iter().filter_map(said).collect()
}

pub(super) fn starts(actions: &[Action]) -> Vec<u64> {
    let started = |action: &Action| if let Action::Start(order) = action { Some(order.task.ordinal) } else { None };
    actions.iter().filter_map(started).collect()
}

pub(super) fn acks(actions: &[Action]) -> Vec<u64> {
    let acked = |action: &Action| if let Action::Ack(Wire::Ack { number, .. }) = action { Some(*number) } else { None };
    actions.iter().filter_map(acked).collect()
}

pub(super) fn is_fork(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Ack(Wire::Fork { .. })))
}

pub(super) fn ended_in(record: &Record) -> Vec<TaskId> {
    let ended = |fact: &Fact| if let Fact::Ended { task, .. } = fact { Some(task.clone()) } else { None };
    record.facts.iter().filter_map(ended).collect()
}
