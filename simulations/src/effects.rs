//! What tasks do to the world, and how long they take. A task that needs nothing else ends in one go; one that moves
//! bytes goes on in steps, and a crash in between leaves what was done so far.

use crate::bug::Bug;
use crate::choices::Draw;
use crate::faults::Fault;
use crate::layout;
use crate::sim::{Event, Sim};
use crate::world::content::Content;
use crate::world::repository::{StepNow, Uptime};
use crate::world::{Place, failed};
use farshore_schemas::ids::{Digest, Name, TaskId, VmRef};
use farshore_schemas::messages::agent::{Endpoint, MissingFrames, Order, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;

/// How often a sender looks for its peer, and a receiver for its sender.
pub(crate) const PATIENCE: u32 = 45;

/// A task under way.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) order: Order,
    pub(crate) phase: Phase,
    /// How often it has waited for the other end.
    pub(crate) waited: u32,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// At its beginning.
    Begun,
    /// Its chunks are written, not yet durable.
    Written(Content),
    /// A receiver that waits for its sender.
    Waiting,
    /// A receiver that has got everything: what it holds now.
    Received(Content),
}

impl Running {
    pub(crate) fn new(order: Order) -> Self {
        let phase = if matches!(order.spec, TaskSpec::ReceiveDisk { .. }) { Phase::Waiting } else { Phase::Begun };
        Running { order, phase, waited: 0 }
    }
}

/// What comes of a step.
pub(crate) enum Next {
    /// The task has ended.
    End(Vec<Outcome>),
    /// It goes on after so many milliseconds.
    In(u64),
}

impl Sim {
    /// A task takes its next step.
    pub(crate) fn task_goes_on(&mut self, agent: usize, life: u64, task: &TaskId) {
        if self.agents[agent].life != life {
            return;
        }
        let Some(running) = self.agents[agent].live.as_ref().and_then(|live| live.running.get(task)).cloned() else {
            return;
        };
        let next = if running.phase == Phase::Begun
            && running.waited == 0
            && self.faults.strikes(Fault::TaskFailure, Draw::Task, &mut self.choices)
        {
            let transient = self.choices.below(Draw::Task, 8) > 0;
            Next::End(failed("FS-AGENT-IO", "the simulated machine failed".to_owned(), transient))
        } else {
            self.run_step(agent, running)
        };
        match next {
            Next::End(outcomes) => self.task_ended(agent, task, outcomes),
            Next::In(wait) => self.schedule.after(wait, Event::Task { agent, life, task: task.clone() }),
        }
        self.guests_began();
    }

    fn run_step(&mut self, agent: usize, running: Running) -> Next {
        if let Some(failure) = self.fenced_off(agent, &running.order) {
            return Next::End(failure);
        }
        self.checks.takes_effect(agent, &running.order);
        match &running.order.spec {
            TaskSpec::BackupDisk { .. } => self.backup_disk(agent, running),
            TaskSpec::RestoreDisk { .. } => self.restore_disk(agent, &running),
            TaskSpec::SendDisk { .. } => self.send_disk(agent, running),
            TaskSpec::ReceiveDisk { .. } => self.receive_disk(agent, running),
            TaskSpec::OpenAccess { .. }
            | TaskSpec::CloseAccess { .. }
            | TaskSpec::CommitPoint { .. }
            | TaskSpec::PrunePoints { .. }
            | TaskSpec::KeepLog { .. }
            | TaskSpec::VerifyPoint { .. } => Next::End(self.at_repository(agent, &running.order)),
            TaskSpec::Discover { .. }
            | TaskSpec::SnapshotBegin { .. }
            | TaskSpec::SnapshotEnd { .. }
            | TaskSpec::PowerOn { .. }
            | TaskSpec::PowerOff { .. }
            | TaskSpec::CreateVm { .. }
            | TaskSpec::GuestWrite { .. } => Next::End(self.at_host(agent, &running.order)),
            TaskSpec::SealReplicaPoint { .. }
            | TaskSpec::RollBackReplica { .. }
            | TaskSpec::MakeWorking { .. }
            | TaskSpec::DropWorking { .. }
            | TaskSpec::AbsorbWorking { .. }
            | TaskSpec::DropReplica { .. } => Next::End(self.at_store(agent, &running.order)),
        }
    }

    /// The last moment's check of an order's epoch.
    fn fenced_off(&self, agent: usize, order: &Order) -> Option<Vec<Outcome>> {
        let live = self.agents[agent].live.as_ref()?;
        let (origin, counter) = match (&order.fence, &order.spec) {
            (Some((origin, epoch)), _) => (origin.clone(), epoch.counter),
            (None, TaskSpec::PowerOn { host, vm }) => {
                (VmRef { site: layout::site(self.agents[agent].site()), host: host.clone(), vm: vm.clone() }, 0)
            }
            (None, _) => return None,
        };
        let highest = live.fences.get(&origin)?;
        let stale = counter < highest.counter && !self.bug.is(Bug::EpochCheckSkipped);
        let why = format!("{origin}: epoch {counter} was overtaken by {}", highest.counter);
        stale.then(|| failed("FS-AGENT-STALE-EPOCH", why, false))
    }

    /// A host or a repository of the agent's site.
    pub(crate) fn here(&self, agent: usize, name: &Name) -> Place {
        (layout::site(self.agents[agent].site()), name.clone())
    }

    /// Whether one agent reaches another one's data channel.
    pub(crate) fn reaches(&self, agent: usize, peer: &Endpoint) -> Option<usize> {
        let other = layout::agent_of(peer)?;
        let crosses = self.agents[agent].site() != self.agents[other].site();
        (self.agents[other].is_up() && (self.link_up || !crosses)).then_some(other)
    }

    fn at_host(&mut self, agent: usize, order: &Order) -> Vec<Outcome> {
        let now = self.now();
        let place = |name: &Name| (layout::site(layout::AGENTS[agent].0), name.clone());
        match &order.spec {
            TaskSpec::Discover { host } => self.world.discover(&place(host)),
            TaskSpec::SnapshotBegin { host, vm, snapshot } => {
                self.world.snapshot_begin(&place(host), (vm, snapshot), now)
            }
            TaskSpec::SnapshotEnd { host, vm, snapshot } => self.world.snapshot_end(&place(host), vm, snapshot),
            TaskSpec::PowerOn { host, vm } => {
                let epoch = order.fence.as_ref().map(|(_, epoch)| epoch);
                self.world.power_on(&place(host), vm, epoch, &order.task)
            }
            TaskSpec::PowerOff { host, vm } => self.world.power_off(&place(host), vm),
            TaskSpec::CreateVm { host, vm, disks, origin } => {
                self.world.create_vm(&place(host), (vm, disks), origin, &order.task)
            }
            TaskSpec::GuestWrite { host, vm, seed } => self.world.drill(&place(host), vm, *seed),
            TaskSpec::BackupDisk { .. }
            | TaskSpec::OpenAccess { .. }
            | TaskSpec::CloseAccess { .. }
            | TaskSpec::CommitPoint { .. }
            | TaskSpec::PrunePoints { .. }
            | TaskSpec::KeepLog { .. }
            | TaskSpec::VerifyPoint { .. }
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

    fn at_repository(&mut self, agent: usize, order: &Order) -> Vec<Outcome> {
        let blind = self.bug.is(Bug::PointAnnouncedBeforeChunks);
        let place = |name: &Name| (layout::site(layout::AGENTS[agent].0), name.clone());
        match &order.spec {
            TaskSpec::OpenAccess { repository, peers } => {
                self.world.open_access(&place(repository), &order.task, peers)
            }
            TaskSpec::CloseAccess { repository, access } => self.world.close_access(&place(repository), access),
            TaskSpec::CommitPoint { repository, point, vm, taken, disks, immutable: _ } => {
                self.world.commit_point(&place(repository), (point, vm), (*taken, disks), blind)
            }
            TaskSpec::PrunePoints { repository, points, mark, position, step } => {
                let uptime = Uptime { agent, ms: self.uptime(agent) };
                let when = StepNow { mark: *mark, position: *position, uptime, now: self.now().0 };
                let outcomes = self.world.prune(&place(repository), points, (*step, when));
                for wrong in std::mem::take(&mut self.world.wrongs) {
                    self.checks.violate("P6", wrong);
                }
                outcomes
            }
            TaskSpec::KeepLog { least, .. } => {
                let (lineage, hash, missing) = (order.task.lineage, Digest::default(), MissingFrames::default());
                vec![Outcome::LogKept { lineage, seq: *least, hash, fetched: ByteCount(0), missing }]
            }
            TaskSpec::VerifyPoint { repository, point } => self.world.verify_point(&place(repository), point),
            TaskSpec::Discover { .. }
            | TaskSpec::SnapshotBegin { .. }
            | TaskSpec::SnapshotEnd { .. }
            | TaskSpec::PowerOn { .. }
            | TaskSpec::PowerOff { .. }
            | TaskSpec::CreateVm { .. }
            | TaskSpec::GuestWrite { .. }
            | TaskSpec::BackupDisk { .. }
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

    fn at_store(&mut self, agent: usize, order: &Order) -> Vec<Outcome> {
        let place = |name: &Name| (layout::site(layout::AGENTS[agent].0), name.clone());
        match &order.spec {
            TaskSpec::SealReplicaPoint { host, replica, point, taken, disks, forget } => {
                self.world.seal_point(&place(host), (replica, point), (*taken, disks), forget)
            }
            TaskSpec::RollBackReplica { host, replica } => self.world.roll_back(&place(host), replica),
            TaskSpec::MakeWorking { host, replica, point, vm, origin } => {
                self.world.make_working(&place(host), (replica, point), (vm, origin), &order.task)
            }
            TaskSpec::DropWorking { host, vm, .. } => self.world.drop_working(&place(host), vm),
            TaskSpec::AbsorbWorking { host, replica, vm, point, taken, forget } => {
                self.world.absorb_working(&place(host), (replica, vm), (point, *taken), forget)
            }
            TaskSpec::DropReplica { host, replica } => self.world.drop_replica(&place(host), replica),
            TaskSpec::Discover { .. }
            | TaskSpec::SnapshotBegin { .. }
            | TaskSpec::SnapshotEnd { .. }
            | TaskSpec::PowerOn { .. }
            | TaskSpec::PowerOff { .. }
            | TaskSpec::CreateVm { .. }
            | TaskSpec::GuestWrite { .. }
            | TaskSpec::BackupDisk { .. }
            | TaskSpec::OpenAccess { .. }
            | TaskSpec::CloseAccess { .. }
            | TaskSpec::CommitPoint { .. }
            | TaskSpec::PrunePoints { .. }
            | TaskSpec::KeepLog { .. }
            | TaskSpec::VerifyPoint { .. }
            | TaskSpec::RestoreDisk { .. }
            | TaskSpec::SendDisk { .. }
            | TaskSpec::ReceiveDisk { .. } => Vec::new(),
        }
    }
}
