//! An agent's process: the production task table, and a shell that does what the table says in order, nothing after a
//! record before that record is durable. What tasks do is in `effects.rs`.

use crate::bug::Bug;
use crate::bus::{end_of, end_of_channel};
use crate::choices::Draw;
use crate::disk::Disk;
use crate::effects::Running;
use crate::faults::Fault;
use crate::layout::{self, AGENTS};
use crate::sim::{Event, Sim};
use crate::world::repository::Uptime;
use farshore_schemas::codec;
use farshore_schemas::envelope::Wire;
use farshore_schemas::ids::{Lineage, TaskId, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::agent::{Order, Outcome};
use farshore_tasks::{About, Action, Identity, Record, TaskTable};
use std::collections::{BTreeMap, VecDeque};

/// An agent: what outlives its process, and the process.
pub(crate) struct Agent {
    pub(crate) index: usize,
    pub(crate) disk: Disk,
    /// Grows with every crash.
    pub(crate) life: u64,
    pub(crate) live: Option<LiveAgent>,
}

/// A running agent.
pub(crate) struct LiveAgent {
    pub(crate) table: TaskTable,
    actions: VecDeque<Action>,
    syncing: bool,
    /// Tasks under way.
    pub(crate) running: BTreeMap<TaskId, Running>,
    /// The highest epochs, as the last moment's check knows them.
    pub(crate) fences: BTreeMap<VmRef, Epoch>,
    tick_at: Option<i64>,
    /// When this process began.
    began: i64,
}

impl Agent {
    pub(crate) fn new(index: usize) -> Self {
        Agent { index, disk: Disk::default(), life: 0, live: None }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.live.is_some()
    }

    /// The site that it belongs to, by index.
    pub(crate) fn site(&self) -> usize {
        AGENTS[self.index].0
    }

    fn identity(&self) -> Identity {
        Identity { site: layout::site(self.site()), name: layout::name(AGENTS[self.index].1) }
    }

    fn about(&self) -> About {
        About { endpoint: layout::endpoint(self.index), version: "0.1.0".to_owned(), cores: 4 }
    }
}

impl Sim {
    /// An agent starts, for the first time or again.
    pub(crate) fn agent_starts(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life != life || self.agents[agent].is_up() {
            return;
        }
        let now = self.now();
        if self.agents[agent].disk.written() > 0
            && self.faults.strikes(Fault::MemoryLoss, Draw::Crash, &mut self.choices)
        {
            self.agents[agent].disk.replace(Vec::new());
            self.checks.agent_forgets(agent);
        }
        let (mut table, mut actions) = match self.remembered(agent) {
            Some(table) => (table, Vec::new()),
            None => TaskTable::begin(self.agents[agent].identity(), Lineage(self.choices.bytes()), now),
        };
        if self.agents[agent].disk.written() > 0 && self.choices.below(Draw::Crash, 4) == 0 {
            let record = table.snapshot(now);
            self.agents[agent].disk.replace(vec![codec::encode(&record).into()]);
        }
        actions.extend(table.restart(self.agents[agent].about(), now));
        self.trace.say(now.0, || format!("agent {} starts", AGENTS[agent].1));
        self.agents[agent].live = Some(LiveAgent {
            table,
            actions: VecDeque::new(),
            syncing: false,
            running: BTreeMap::new(),
            fences: BTreeMap::new(),
            tick_at: None,
            began: now.0,
        });
        self.agent_does(agent, actions);
    }

    /// The table that the records on disk add up to.
    fn remembered(&mut self, agent: usize) -> Option<TaskTable> {
        let disk = &mut self.agents[agent].disk;
        let whole: Vec<Record> =
            disk.entries().iter().map_while(|bytes| codec::decode_limited(bytes, usize::MAX).ok()).collect();
        disk.recover(whole.len());
        if whole.is_empty() {
            return None;
        }
        match TaskTable::rebuild(&self.agents[agent].identity(), &whole) {
            Ok(table) => Some(table),
            Err(error) => {
                self.checks.violate("P2", format!("the records of agent {} do not add up: {error}", AGENTS[agent].1));
                None
            }
        }
    }

    /// An agent's monotonic time, in ms: it begins anew with every process.
    pub(crate) fn uptime(&self, agent: usize) -> u64 {
        let began = self.agents[agent].live.as_ref().map(|live| live.began);
        began.map_or(0, |began| u64::try_from(self.schedule.now() - began).unwrap_or(0))
    }

    /// An agent loses power; its guests go on.
    pub(crate) fn crash_agent(&mut self, agent: usize, back_after: Option<u64>) {
        let now = self.schedule.now();
        let torn = self.choices.below(Draw::Disk, 2) == 1;
        let uptime = self.uptime(agent);
        let process = &mut self.agents[agent];
        if process.live.take().is_none() {
            return;
        }
        self.trace.say(now, || format!("agent {} crashes", AGENTS[agent].1));
        process.life += 1;
        process.disk.power_cut(torn, &mut self.choices);
        if AGENTS[agent].1 == "mover-v"
            && let Some(folder) = self.world.repositories.get_mut(&layout::vault())
        {
            folder.power_cut(Uptime { agent, ms: uptime });
        }
        if let Some(wait) = back_after {
            self.schedule.after(wait, Event::AgentStarts { agent, life: process.life });
        }
    }

    /// Bytes come in from the bus.
    pub(crate) fn agent_hears(&mut self, agent: usize, bytes: &[u8]) {
        let now = self.now();
        let blind = self.bug.is(Bug::EpochCheckSkipped);
        let Some(live) = &mut self.agents[agent].live else { return };
        let Ok(mut wire) = codec::decode::<Wire>(bytes) else {
            self.checks.violate("P1", "a message of our own cannot be decoded".to_owned());
            return;
        };
        if blind {
            crate::defects::blind_to_epochs(&live.table, &mut wire);
        }
        let actions = live.table.receive(wire, now);
        self.agent_does(agent, actions);
    }

    /// A task has ended.
    pub(crate) fn task_ended(&mut self, agent: usize, task: &TaskId, outcomes: Vec<Outcome>) {
        let now = self.now();
        let Some(live) = &mut self.agents[agent].live else { return };
        live.running.remove(task);
        self.trace.say(now.0, || format!("task {task} ends: {outcomes:?}"));
        let actions = live.table.ended(task, outcomes, now);
        self.agent_does(agent, actions);
    }

    pub(crate) fn tick(&mut self, agent: usize, life: u64) {
        let now = self.now();
        let process = &mut self.agents[agent];
        if process.life != life {
            return;
        }
        let Some(live) = &mut process.live else { return };
        live.tick_at = None;
        let actions = live.table.tick(now);
        self.agent_does(agent, actions);
    }

    pub(crate) fn record_synced(&mut self, agent: usize, life: u64) {
        let process = &mut self.agents[agent];
        if process.life != life {
            return;
        }
        let written = process.disk.written();
        process.disk.sync_returned(written);
        if let Some(live) = &mut process.live {
            live.syncing = false;
        }
        self.agent_does(agent, Vec::new());
    }

    /// Does what the table says, in order, up to a record that is not durable yet.
    pub(crate) fn agent_does(&mut self, agent: usize, actions: Vec<Action>) {
        if let Some(live) = &mut self.agents[agent].live {
            live.actions.extend(actions);
        }
        loop {
            let Some(live) = &mut self.agents[agent].live else { return };
            if live.syncing {
                break;
            }
            let Some(action) = live.actions.pop_front() else { break };
            self.agent_act(agent, action);
        }
        self.plan_tick(agent);
    }

    fn agent_act(&mut self, agent: usize, action: Action) {
        let site = self.agents[agent].site();
        match action {
            Action::Persist(record) => self.agent_persists(agent, &record),
            Action::Ack(wire) => {
                let (Wire::Ack { channel, .. } | Wire::Fork { channel, .. } | Wire::Probe { channel, .. }) = &wire
                else {
                    return;
                };
                if let Some(to) = end_of_channel(channel) {
                    self.put(site, to, &wire);
                }
            }
            Action::Send(envelope) => {
                if let Some(to) = end_of(&envelope.to) {
                    self.put(site, to, &Wire::Deliver(Box::new(envelope)));
                }
            }
            Action::Fence { origin, epoch } => {
                self.checks.agent_told(agent, &origin, &epoch);
                if let Some(live) = &mut self.agents[agent].live {
                    live.fences.insert(origin, epoch);
                }
            }
            Action::ServeHost { .. } | Action::ServeRepository { .. } => {}
            Action::Start(order) => self.start_task(agent, order),
            Action::Stop(task) => {
                let running = self.agents[agent].live.as_ref().is_some_and(|live| live.running.contains_key(&task));
                if running {
                    self.task_ended(agent, &task, vec![Outcome::Cancelled]);
                }
            }
            Action::Refuse(refusal) => {
                let now = self.schedule.now();
                self.trace.say(now, || format!("agent {} does not obey: {refusal}", AGENTS[agent].1));
            }
            Action::Renew => {
                let (now, lineage) = (self.now(), Lineage(self.choices.bytes()));
                let Some(live) = &mut self.agents[agent].live else { return };
                let actions = live.table.renew(lineage, now);
                live.actions.extend(actions);
            }
        }
    }

    fn agent_persists(&mut self, agent: usize, record: &Record) {
        let slow = self.faults.strikes(Fault::SlowDisk, Draw::Disk, &mut self.choices);
        let wait = if slow { self.choices.between(Draw::Disk, 20, 3_000) } else { 1 };
        let process = &mut self.agents[agent];
        process.disk.append(&codec::encode(record));
        let life = process.life;
        if let Some(live) = &mut process.live {
            live.syncing = true;
        }
        self.schedule.after(wait, Event::RecordSynced { agent, life });
    }

    fn plan_tick(&mut self, agent: usize) {
        let process = &mut self.agents[agent];
        let life = process.life;
        let Some(live) = &mut process.live else { return };
        let Some(at) = live.table.next_tick() else { return };
        if live.tick_at.is_none_or(|planned| planned > at.0) {
            live.tick_at = Some(at.0);
            self.schedule.at(at.0, Event::Tick { agent, life });
        }
    }

    fn start_task(&mut self, agent: usize, order: Order) {
        let task = order.task.clone();
        let slow = self.faults.strikes(Fault::SlowTask, Draw::Task, &mut self.choices);
        let wait = self.choices.between(Draw::Task, 5, if slow { 90_000 } else { 300 });
        let process = &mut self.agents[agent];
        let life = process.life;
        if let Some(live) = &mut process.live {
            live.running.insert(task.clone(), Running::new(order));
        }
        self.schedule.after(wait, Event::Task { agent, life, task });
    }
}
