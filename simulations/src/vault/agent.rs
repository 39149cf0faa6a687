//! The agent of a control plane: it remembers what it was told and what came of it, does each task once, and may crash, forget, stall
//! or have its clock set.

use super::{HOUR, MINUTE, Mail, SECOND, To, Vault};
use crate::bug::Bug;
use crate::choices::Draw;
use crate::faults::Fault;
use crate::layout::{self, BEGIN, HQ};
use crate::world::failed;
use crate::world::repository::{StepNow, Uptime};
use farshore_schemas::ids::{Address, Kind, Lineage, PointId, TaskId};
use farshore_schemas::messages::agent::{Command, Order, Outcome, PruneStep, TaskSpec};
use farshore_schemas::messages::repository;
use farshore_schemas::units::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    up: bool,
    life: u64,
    began: i64,
    /// How far its clock has been set ahead, in ms.
    pub(super) clock_ahead: u64,
    /// It does nothing until then.
    pub(super) stalled: i64,
    pub(super) incarnation: Lineage,
    /// The lineage of its control, and those that it had before.
    pub(super) control: Option<Lineage>,
    pub(super) formerly: Vec<Lineage>,
    pub(super) tasks: BTreeMap<TaskId, Doing>,
}

/// A task that the agent was told of.
#[derive(Debug, Clone)]
pub(super) enum Doing {
    Open(Box<Order>),
    Ended(Box<Outcome>),
}

impl Agent {
    pub(super) fn new(incarnation: Lineage) -> Self {
        Agent {
            up: false,
            life: 0,
            began: BEGIN,
            clock_ahead: 0,
            stalled: 0,
            incarnation,
            control: None,
            formerly: Vec::new(),
            tasks: BTreeMap::new(),
        }
    }

    /// One that was copied with what it remembers, and does not run yet.
    pub(super) fn copied(&self, incarnation: Lineage) -> Agent {
        let (control, formerly) = (self.control, self.formerly.clone());
        Agent { control, formerly, ..Agent::new(incarnation) }
    }

    pub(super) fn is_awake(&self, now: i64) -> bool {
        self.up && self.stalled <= now
    }
}

fn address(agent: usize) -> Address {
    layout::address(HQ, Kind::Agent, ["mover-v", "mover-w"][agent.min(1)])
}

impl Vault {
    pub(super) fn agent_starts(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life != life || self.agents[agent].up {
            return;
        }
        let forgets = self.faults.strikes(Fault::MemoryLoss, Draw::Crash, &mut self.choices);
        let (now, fresh) = (self.schedule.now(), Lineage(self.choices.bytes()));
        let process = &mut self.agents[agent];
        (process.up, process.began) = (true, now);
        if forgets {
            process.incarnation = fresh;
            process.tasks.clear();
        }
        let open = |(task, doing): (&TaskId, &Doing)| matches!(doing, Doing::Open(_)).then(|| task.clone());
        let open: Vec<TaskId> = process.tasks.iter().filter_map(open).collect();
        open.into_iter().for_each(|task| self.begin_task(agent, task));
        self.agent_is_there(agent);
    }

    pub(super) fn agent_crashes(&mut self, agent: usize) {
        if !self.agents[agent].up {
            return;
        }
        let uptime = self.uptime(agent);
        let process = &mut self.agents[agent];
        process.up = false;
        process.life += 1;
        let life = process.life;
        self.folder().power_cut(uptime);
        let now = self.now();
        self.trace.say(now, || format!("agent {agent} crashes"));
        let wait = self.choices.between(Draw::Crash, SECOND, 3 * HOUR);
        self.schedule.after(wait, super::Event::AgentStarts { agent, life });
    }

    fn uptime(&self, agent: usize) -> Uptime {
        let process = &self.agents[agent];
        let wall = self.bug.is(Bug::HoldByWallClock);
        let (since, ahead) = if wall { (BEGIN, process.clock_ahead) } else { (process.began, 0) };
        let passed = u64::try_from(self.schedule.now() - since).unwrap_or(0);
        Uptime { agent, ms: passed.saturating_add(ahead) }
    }

    pub(super) fn agent_hears(&mut self, agent: usize, lineage: Lineage, command: Command) {
        let process = &mut self.agents[agent];
        match command {
            Command::ServeRepository { .. } => {
                if let Some(before) = process.control.replace(lineage).filter(|before| *before != lineage) {
                    process.formerly.push(before);
                }
            }
            Command::Run(order) if process.control == Some(lineage) => match process.tasks.get(&order.task) {
                None => {
                    let task = order.task.clone();
                    process.tasks.insert(task.clone(), Doing::Open(order));
                    self.begin_task(agent, task);
                }
                Some(Doing::Open(_)) => {}
                Some(Doing::Ended(outcome)) => {
                    let outcome = (**outcome).clone();
                    self.tell_end(agent, order.task, outcome);
                }
            },
            // Of a log that is no more.
            Command::Run(_) => {}
            Command::Welcome { .. } | Command::ServeHost { .. } | Command::Cancel { .. } => {}
        }
    }

    fn begin_task(&mut self, agent: usize, task: TaskId) {
        let slow = self.faults.strikes(Fault::SlowTask, Draw::Task, &mut self.choices);
        let wait = self.choices.between(Draw::Task, 5, if slow { 2 * HOUR } else { 2 * SECOND });
        let life = self.agents[agent].life;
        self.schedule.after(wait, super::Event::Task { agent, life, task });
    }

    pub(super) fn task_ends(&mut self, agent: usize, life: u64, task: &TaskId) {
        let now = self.now();
        let process = &self.agents[agent];
        if process.life != life || !process.up {
            return;
        }
        if process.stalled > now {
            let (at, task) = (process.stalled, task.clone());
            self.schedule.at(at, super::Event::Task { agent, life, task });
            return;
        }
        let Some(Doing::Open(order)) = process.tasks.get(task).cloned() else { return };
        let fails = self.faults.strikes(Fault::TaskFailure, Draw::Task, &mut self.choices);
        let outcome = if fails {
            failed("FS-AGENT-IO", "the simulated machine failed".to_owned(), true)
        } else if self.owns_folder(agent) {
            self.do_task(agent, &order)
        } else {
            failed("FS-REPO-OWNER", "the folder has passed to another".to_owned(), false)
        };
        let outcome = Vault::outcome_of(&outcome);
        self.trace.say(now, || format!("agent {agent} ends {task}: {outcome:?}"));
        self.agents[agent].tasks.insert(task.clone(), Doing::Ended(Box::new(outcome.clone())));
        self.tell_end(agent, task.clone(), outcome);
    }

    fn tell_end(&mut self, agent: usize, task: TaskId, outcome: Outcome) {
        let ended = repository::Command::TaskEnded { task, outcome };
        self.post(&address(agent), To::Control(agent), Mail::Ask(Box::new(ended)));
    }

    /// Whether the folder is this agent's control's. It follows its owner to a new lineage, and nobody else.
    fn owns_folder(&mut self, agent: usize) -> bool {
        let Some(lineage) = self.agents[agent].control else { return false };
        let owner = self.folder().owner;
        match owner {
            Some(owner) if owner == lineage => true,
            Some(owner) if !self.agents[agent].formerly.contains(&owner) => self.bug.is(Bug::OwnerNotChecked),
            Some(_) | None => {
                self.folder().pass_to(lineage);
                self.folder_has_passed(lineage);
                true
            }
        }
    }

    fn do_task(&mut self, agent: usize, order: &Order) -> Vec<Outcome> {
        let vault = layout::vault();
        match &order.spec {
            TaskSpec::OpenAccess { peers, .. } => self.world.open_access(&vault, &order.task, peers),
            TaskSpec::CloseAccess { access, .. } => self.world.close_access(&vault, access),
            TaskSpec::CommitPoint { point, vm, taken, disks, immutable, .. } => {
                let blind = self.bug.is(Bug::CommitUnchecked);
                let until = immutable.map(|period| Timestamp(self.now()).after(period));
                let outcomes = self.world.commit_point(&vault, (point, vm), (*taken, disks), blind);
                self.folder().keep_until(point, until, outcomes)
            }
            TaskSpec::PrunePoints { points, mark, position, step, .. } => {
                let (uptime, now) = (self.uptime(agent), self.now());
                let when = StepNow { mark: *mark, position: *position, uptime, now };
                self.step_of_prune(agent, points, (*step, when))
            }
            TaskSpec::Discover { .. }
            | TaskSpec::SnapshotBegin { .. }
            | TaskSpec::SnapshotEnd { .. }
            | TaskSpec::PowerOn { .. }
            | TaskSpec::PowerOff { .. }
            | TaskSpec::CreateVm { .. }
            | TaskSpec::GuestWrite { .. }
            | TaskSpec::BackupDisk { .. }
            | TaskSpec::VerifyPoint { .. }
            | TaskSpec::KeepLog { .. }
            | TaskSpec::RestoreDisk { .. }
            | TaskSpec::SendDisk { .. }
            | TaskSpec::ReceiveDisk { .. }
            | TaskSpec::SealReplicaPoint { .. }
            | TaskSpec::RollBackReplica { .. }
            | TaskSpec::MakeWorking { .. }
            | TaskSpec::DropWorking { .. }
            | TaskSpec::AbsorbWorking { .. }
            | TaskSpec::DropReplica { .. } => Vec::new(),
        }
    }

    fn step_of_prune(&mut self, agent: usize, points: &[PointId], (step, when): (PruneStep, StepNow)) -> Vec<Outcome> {
        if self.bug.is(Bug::UnknownManifestNotHeld) {
            let known = self.known_points(agent);
            let folder = self.folder();
            folder.not_held = folder.manifests.keys().filter(|point| !known.contains(*point)).cloned().collect();
        }
        let stays = self.folder().immutable(when.now);
        let goes = |point: &&PointId| !stays.contains(*point) || self.bug.is(Bug::ImmutableDropped);
        let go: Vec<PointId> = points.iter().filter(goes).cloned().collect();
        if go.is_empty() && !points.is_empty() {
            return failed("FS-REPO-IMMUTABLE", format!("{} points must stay", points.len()), false);
        }
        let before = self.folder().trash_chunks(when.mark);
        let outcomes = self.world.prune(&layout::vault(), &go, (step, when));
        let taken: BTreeSet<_> = self.folder().trash_chunks(when.mark).difference(&before).copied().collect();
        self.nobody_counts_on(&taken);
        if let Some(gone) = stays.difference(&self.folder().immutable(when.now)).next() {
            self.checks.violate("P6", format!("the point {gone} was dropped, and must stay"));
        }
        outcomes
    }

    /// How long until somebody who found the agent away tries again.
    pub(super) fn patience(&mut self) -> u64 {
        self.choices.between(Draw::Task, SECOND, 10 * MINUTE)
    }
}
