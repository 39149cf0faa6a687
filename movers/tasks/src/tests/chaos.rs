//! A lossy bus, and a crash between any two actions: nothing that has ended is started again, no older epoch is obeyed, and
//! every outcome arrives exactly once.

use super::*;
use farshore_schemas::messages::host;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

struct World {
    agent: TaskTable,
    /// What is durable.
    records: Vec<Record>,
    running: BTreeSet<TaskId>,
    ended: BTreeSet<TaskId>,
    highest: u64,
    to_agent: Vec<Wire>,
    to_control: Vec<Wire>,
    /// Control: what it says, how far it is acked, its marks, the outcomes it took.
    script: Vec<Envelope>,
    acked: u64,
    marks: BTreeMap<Address, u64>,
    outcomes: Vec<TaskId>,
    now: Timestamp,
}

impl World {
    fn new(orders: &[(u64, u64)]) -> World {
        let mut script = vec![said(CONTROL, 1, welcome()), said(CONTROL, 2, serve())];
        for (number, (ordinal, counter)) in (3..).zip(orders) {
            script.push(said(CONTROL, number, power_on(*ordinal, Some((*counter, "hq")))));
        }
        let (agent, first) = TaskTable::begin(identity(), INCARNATION, NOW);
        let mut world = World {
            agent,
            records: Vec::new(),
            running: BTreeSet::new(),
            ended: BTreeSet::new(),
            highest: 0,
            to_agent: Vec::new(),
            to_control: Vec::new(),
            script,
            acked: 0,
            marks: BTreeMap::new(),
            outcomes: Vec::new(),
            now: NOW,
        };
        world.act(first, usize::MAX);
        let hello = world.agent.restart(about(), NOW);
        world.act(hello, usize::MAX);
        world
    }

    /// Does the first `survive` actions; a crash takes the rest.
    fn act(&mut self, actions: Vec<Action>, survive: usize) {
        let crashes = survive < actions.len();
        for action in actions.into_iter().take(survive) {
            match action {
                Action::Persist(record) => {
                    for task in ended_in(&record) {
                        assert!(self.ended.insert(task), "a task ended twice");
                    }
                    for fact in &record.facts {
                        if let Fact::Raised { epoch, .. } = fact {
                            assert!(epoch.counter > self.highest, "the epoch fell");
                            self.highest = epoch.counter;
                        }
                    }
                    self.records.push(record);
                }
                Action::Ack(wire) => self.to_control.push(wire),
                Action::Send(envelope) => self.to_control.push(Wire::Deliver(Box::new(envelope))),
                Action::Start(order) => {
                    assert!(!self.ended.contains(&order.task), "an ended task was started");
                    let (_, epoch) = order.fence.unwrap();
                    assert_eq!(epoch.counter, self.highest, "an overtaken order was started");
                    self.running.insert(order.task);
                }
                Action::Stop(_) | Action::Fence { .. } | Action::ServeHost { .. } => {}
                Action::ServeRepository { .. } | Action::Refuse(_) => {}
                Action::Renew => panic!("nobody was put back"),
            }
        }
        if crashes {
            self.crash();
        }
    }

    fn crash(&mut self) {
        self.running.clear();
        self.agent = TaskTable::rebuild(&identity(), &self.records).unwrap();
        let actions = self.agent.restart(about(), self.now);
        self.act(actions, usize::MAX);
    }

    fn control_takes(&mut self, wire: Wire) {
        match wire {
            Wire::Deliver(envelope) => {
                let mark = self.marks.entry(envelope.to.clone()).or_default();
                if envelope.number == *mark + 1 {
                    *mark += 1;
                    if let Some(Message::Host(host::Command::TaskEnded { task, .. })) = &envelope.body {
                        self.outcomes.push(task.clone());
                    }
                }
                let ack = Wire::Ack { channel: envelope.channel, receiver: envelope.to, number: *mark };
                self.to_agent.push(ack);
            }
            Wire::Ack { number, .. } => self.acked = self.acked.max(number),
            Wire::Probe { .. } | Wire::Fork { .. } | Wire::Progress { .. } => panic!("{wire:?}"),
        }
    }

    /// One step, as two random numbers say.
    fn step(&mut self, what: u8, pick: u8) {
        // Where the agent crashes within this step, if it does.
        let survive = if what >= 200 { usize::from(what % 4) } else { usize::MAX };
        match what % 8 {
            0 | 1 => {
                let unacked = &self.script[self.acked as usize..];
                let window = &unacked[..unacked.len().min(4)];
                if let Some(envelope) = window.get(usize::from(pick) % window.len().max(1)) {
                    self.to_agent.push(Wire::Deliver(Box::new(envelope.clone())));
                }
            }
            2 | 3 if !self.to_agent.is_empty() => {
                // Kept as often as taken: doubled, and out of order.
                let at = usize::from(pick) % self.to_agent.len();
                let wire =
                    if pick.is_multiple_of(3) { self.to_agent[at].clone() } else { self.to_agent.swap_remove(at) };
                let actions = self.agent.receive(wire, self.now);
                self.act(actions, survive);
            }
            4 | 5 if !self.to_control.is_empty() => {
                let at = usize::from(pick) % self.to_control.len();
                let wire =
                    if pick.is_multiple_of(3) { self.to_control[at].clone() } else { self.to_control.swap_remove(at) };
                // A third is lost.
                if pick % 7 > 1 {
                    self.control_takes(wire);
                }
            }
            6 => {
                let running: Vec<TaskId> = self.running.iter().cloned().collect();
                if let Some(task) = running.get(usize::from(pick) % running.len().max(1)) {
                    self.running.remove(task);
                    let actions = self.agent.ended(task, vec![Outcome::Done], self.now);
                    self.act(actions, survive);
                }
            }
            _ => {
                self.now = Timestamp(self.now.0 + i64::from(pick) * 4);
                let actions = self.agent.tick(self.now);
                self.act(actions, survive);
            }
        }
    }

    /// The bus is well again: everything comes to its end.
    fn settle(&mut self) {
        for _ in 0..200 {
            for envelope in self.script.clone().into_iter().skip(self.acked as usize) {
                let actions = self.agent.receive(Wire::Deliver(Box::new(envelope)), self.now);
                self.act(actions, usize::MAX);
            }
            for task in std::mem::take(&mut self.running) {
                let actions = self.agent.ended(&task, vec![Outcome::Done], self.now);
                self.act(actions, usize::MAX);
            }
            self.now = Timestamp(self.now.0 + 6_000);
            let actions = self.agent.tick(self.now);
            self.act(actions, usize::MAX);
            for wire in std::mem::take(&mut self.to_control) {
                self.control_takes(wire);
            }
            for wire in std::mem::take(&mut self.to_agent) {
                let actions = self.agent.receive(wire, self.now);
                self.act(actions, usize::MAX);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_the_bus_does_and_whenever_the_agent_crashes(
        counters in proptest::collection::vec(1u64..5, 1..12),
        steps in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..300),
    ) {
        let orders: Vec<(u64, u64)> = (1..).zip(counters).collect();
        let mut world = World::new(&orders);
        for (what, pick) in steps {
            world.step(what, pick);
        }
        world.settle();
        let told: BTreeSet<TaskId> = world.outcomes.iter().cloned().collect();
        prop_assert_eq!(told.len(), world.outcomes.len(), "an outcome came twice");
        prop_assert_eq!(told, orders.iter().map(|(ordinal, _)| task(*ordinal)).collect());
        prop_assert_eq!(world.agent.unacked(), 0);
        let rebuilt = TaskTable::rebuild(&identity(), &world.records).unwrap();
        prop_assert_eq!(rebuilt.state(), world.agent.state());
    }
}
