//! The parties around a session: they answer what it sends.

use crate::decider::{Decider, Input, Send};
use crate::session::{Run, SessionActor, State};
use crate::testing::{Given, address, digest, disk, endpoint, given, name, point, vm, vm_ref};
use farshore_schemas::ids::{Address, VmName};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint, DiskSink, Failure, Moved, Outcome, TaskSpec};
use farshore_schemas::messages::host::VmFacts;
use farshore_schemas::messages::job::{JobSpec, Retry, Schedule, Work};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::{Purpose, RestorePoint};
use farshore_schemas::messages::session::{Command, Event};
use farshore_schemas::messages::{
    Message, Refusal, Refused, SessionResult, broker, host, job, mover, replica, repository,
};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};
use std::collections::BTreeMap;

pub(super) const ME: &str = "dr:session/nightly-1";
pub(super) const JOB: &str = "dr:job/nightly";

pub(super) fn backup(vms: &[&str]) -> Work {
    Work::Backup { host: name("drx"), vms: vms.iter().map(|it| vm(it)).collect(), repository: name("repo") }
}

pub(super) fn replication(vms: &[&str]) -> Work {
    Work::Replication {
        source_site: crate::testing::site("hq"),
        source_host: name("esx"),
        vms: vms.iter().map(|it| vm(it)).collect(),
        digests: name("digests"),
        target_host: name("drx"),
    }
}

pub(super) fn restore() -> Work {
    Work::Restore {
        repository: name("repo"),
        point: point("old"),
        origin: vm_ref("dr/drx/web"),
        host: name("drx"),
        vm: vm("web-restored"),
    }
}

pub(super) fn begin(work: Work, attempts: Option<u32>) -> Command {
    let retry = Retry { attempts: 3, wait: Millis::from_mins(10) };
    let spec = JobSpec { work, schedule: Schedule::Manual, retry, keep: Keep::newest(7) };
    let retry = attempts.map(|attempts| Retry { attempts, ..retry });
    Command::Begin { job: name("nightly"), spec: Box::new(spec), retry }
}

pub(super) fn disks() -> Vec<DiskFacts> {
    ["a.img", "b.img"].iter().map(|it| DiskFacts { name: disk(it), size: ByteCount(1 << 20) }).collect()
}

fn proof(name: &farshore_schemas::ids::DiskName) -> DiskPoint {
    DiskPoint { name: name.clone(), size: ByteCount(1 << 20), checksum: digest(5), manifest: digest(6) }
}

fn failure() -> Failure {
    Failure { code: "FS-TEST-BROKEN".into(), message: "it broke".into(), advice: "mend it".into(), transient: true }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Well,
    Badly,
    Refuse,
}

/// VMs that the hosts have.
pub(super) const THERE: [&str; 3] = ["web", "db", "mail"];

fn listed(asked: &[VmName]) -> Vec<VmFacts> {
    let all = THERE.iter().map(|it| vm(it)).filter(|it| asked.is_empty() || asked.contains(it));
    all.map(|vm| VmFacts { vm, disks: disks(), running: true, origin: None }).collect()
}

/// The answer of the party that a send went to: none for what is not answered.
pub(super) fn answer(send: &Send, how: How) -> Option<(Address, Input<Command>)> {
    let failed = (how == How::Badly).then(failure);
    let (to, mover) = (&send.to, name(&format!("{}-m", send.to.site)));
    let endpoint = endpoint(&format!("{}/{}-m", to.site, to.site));
    let command = match &send.body {
        _ if how == How::Refuse => return refusal(send),
        Message::Host(host::Command::ListVms { .. }) if failed.is_some() => return refusal(send),
        Message::Host(host::Command::ListVms { vms }) => Command::VmsListed { mover, vms: listed(vms) },
        Message::Host(host::Command::PrepareRead { vm }) => match failed {
            Some(failure) => Command::HostFailed { vm: vm.clone(), failure },
            None => {
                let (vm, snapshot, disks) = (vm.clone(), name("snap"), disks());
                Command::ReadPrepared { vm, snapshot, disks, taken: Timestamp(500) }
            }
        },
        Message::Host(host::Command::CreateVm { vm, .. }) => match failed {
            Some(failure) => Command::HostFailed { vm: vm.clone(), failure },
            None => Command::VmCreated { vm: vm.clone() },
        },
        Message::Broker(broker::Command::RequestSlot { .. }) if failed.is_some() => return refusal(send),
        Message::Broker(broker::Command::RequestSlot { slot, .. }) => {
            Command::SlotGranted { slot: slot.clone(), mover, endpoint, reasons: vec!["the only one".into()] }
        }
        Message::Repository(repository::Command::OpenAccess { purpose, vms, .. }) => match failed {
            Some(failure) => Command::RepositoryFailed { vm: None, failure },
            None => {
                let access = given::<SessionActor>("hq:repository/digests", []).context.task(1);
                Command::AccessOpened { mover, endpoint, access, points: points(*purpose, vms) }
            }
        },
        Message::Repository(repository::Command::CommitPoint { point, vm, .. }) => match failed {
            Some(failure) => Command::RepositoryFailed { vm: Some(vm.clone()), failure },
            None => Command::PointCommitted { point: point.clone(), stored: ByteCount(40) },
        },
        Message::Replica(replica::Command::OpenPoint { .. }) if failed.is_some() => return refusal(send),
        Message::Replica(replica::Command::OpenPoint { .. }) => {
            Command::PointOpened { replica: to.clone(), base: Some(point("base")) }
        }
        Message::Replica(replica::Command::SealPoint { .. }) => {
            Command::PointSealed { replica: to.clone(), sealed: failed.map_or(Ok(ByteCount(30)), Err) }
        }
        Message::Mover(mover::Command::Assign { task, spec, .. }) => {
            let outcome = failed.map_or_else(|| outcome(spec), Outcome::Failed);
            Command::TaskEnded { task: task.clone(), outcome }
        }
        Message::Mover(mover::Command::Cancel { task }) => {
            Command::TaskEnded { task: task.clone(), outcome: Outcome::Cancelled }
        }
        _ => return None,
    };
    Some((to.clone(), Input::Command(command)))
}

fn points(purpose: Purpose, vms: &[farshore_schemas::ids::VmRef]) -> Vec<RestorePoint> {
    let old = |vm: &farshore_schemas::ids::VmRef, id: &str, taken: i64| RestorePoint {
        point: point(id),
        vm: vm.clone(),
        taken: Timestamp(taken),
        usable: Timestamp(taken),
        job: name("nightly"),
        disks: disks().iter().map(|disk| proof(&disk.name)).collect(),
        stored: ByteCount(1),
    };
    match purpose {
        Purpose::Read => vms.iter().map(|vm| old(vm, "old", 1)).collect(),
        Purpose::Write => vms.iter().flat_map(|vm| [old(vm, "newer", 2), old(vm, "old", 1)]).collect(),
    }
}

fn refusal(send: &Send) -> Option<(Address, Input<Command>)> {
    let refusal = Refusal { code: "FS-TEST-NO".into(), message: "no".into(), advice: "ask later".into() };
    let message = send.body.clone();
    Some((send.to.clone(), Input::Refused(Refused { by: send.to.clone(), message, refusal })))
}

fn outcome(spec: &TaskSpec) -> Outcome {
    let moved = Moved { read: ByteCount(9), changed: ByteCount(8), sent: ByteCount(7), written: ByteCount(6) };
    match spec {
        TaskSpec::BackupDisk { source, .. } => {
            Outcome::DiskStored { disk: proof(&source.disk), moved, full_because: None }
        }
        TaskSpec::RestoreDisk { disk, .. } => Outcome::DiskRestored { disk: proof(disk), moved },
        TaskSpec::SendDisk { source, .. } => Outcome::DiskSent { disk: proof(&source.disk), moved, full_because: None },
        TaskSpec::ReceiveDisk { sink: DiskSink::ReplicaStore { disk, .. }, .. } => {
            Outcome::DiskReceived { disk: proof(&disk.name), moved }
        }
        _ => Outcome::Done,
    }
}

/// Inputs one by one; what was sent is kept in order, once as a queue and once for ever.
pub(super) struct World {
    pub(super) given: Given<SessionActor>,
    pub(super) sent: Vec<Send>,
    pub(super) all: Vec<Send>,
    pub(super) events: Vec<Event>,
}

impl World {
    pub(super) fn new() -> World {
        World { given: given::<SessionActor>(ME, []), sent: Vec::new(), all: Vec::new(), events: Vec::new() }
    }

    pub(super) fn begun(work: Work, attempts: Option<u32>) -> World {
        World::new().input(JOB, Input::Command(begin(work, attempts)))
    }

    pub(super) fn input(mut self, from: &str, input: Input<Command>) -> World {
        let then = self.given.from(from).when_input(input);
        let decision = then.decision().clone();
        self.sent.extend(decision.sends.clone());
        self.all.extend(decision.sends);
        self.events.extend(decision.events);
        self.given = then.accepted();
        self
    }

    pub(super) fn refused(mut self, from: &str, command: Command, code: &str) -> World {
        self.given = self.given.from(from).when(command).rejected(code);
        self
    }

    /// Everything that was sent is answered as `choose` says, until nothing is.
    pub(super) fn settle(mut self, mut choose: impl FnMut(&Send) -> Option<How>) -> World {
        while !self.sent.is_empty() {
            let send = self.sent.remove(0);
            let Some((from, input)) = choose(&send).and_then(|how| answer(&send, how)) else { continue };
            let then = self.given.from(&from.to_string()).when_input(input);
            if let Ok(decision) = &then.decided {
                self.sent.extend(decision.sends.clone());
                self.all.extend(decision.sends.clone());
                self.events.extend(decision.events.clone());
                self.given = then.accepted();
            } else {
                // A cancelled task is answered twice here: by its own answer and by the cancel; what was dealt with is refused.
                let code = then.outcome();
                assert!(
                    ["FS-SESSION-NO-TASK", "FS-SESSION-STALE", "FS-SESSION-ENDED"].contains(&code.as_str()),
                    "{code}"
                );
                self.given = then.rejected(&code);
            }
        }
        self
    }

    pub(super) fn well(self) -> World {
        self.settle(|send| unreleased(send).then_some(How::Well))
    }

    pub(super) fn wake(mut self) -> World {
        let at = SessionActor::next_wake(&self.given.state).expect("it waits");
        self.given.context.now = at;
        let world = self.input(ME, Input::Wake);
        assert!(SessionActor::next_wake(&world.given.state).is_none_or(|next| next > at), "a wake moves on");
        world
    }

    pub(super) fn run(&self) -> &Run {
        match &self.given.state {
            State::Begun(run) => run,
            State::New => panic!("it has not begun"),
        }
    }

    /// The result, the job's part of it, and the code of what went wrong.
    pub(super) fn ended(&self) -> (SessionResult, Vec<String>, Option<String>) {
        released_everything(&self.all);
        let Some(Event::Ended { result, protected, failure, .. }) = self.events.last() else {
            panic!("it has not ended: {:?}", self.events.last())
        };
        let protected: Vec<String> = protected.iter().map(|vm| vm.to_string()).collect();
        (*result, protected, failure.as_ref().map(|failure| failure.code.clone()))
    }

    /// How a VM ended last.
    pub(super) fn vm(&self, name: &str) -> (SessionResult, Option<String>) {
        let end = self.run().vms.get(&vm(name)).and_then(|vm| vm.step.end()).expect("it has ended");
        (end.result, end.failure.as_ref().map(|failure| failure.code.clone()))
    }

    pub(super) fn specs(&self) -> Vec<&TaskSpec> {
        self.all
            .iter()
            .filter_map(|send| match &send.body {
                Message::Mover(mover::Command::Assign { spec, .. }) => Some(spec.as_ref()),
                _ => None,
            })
            .collect()
    }
}

/// Whether a send is answered. Releases are not (docs/flows.md).
pub(super) fn unreleased(send: &Send) -> bool {
    let release = matches!(
        &send.body,
        Message::Host(host::Command::EndRead { .. })
            | Message::Broker(broker::Command::ReleaseSlot { .. } | broker::Command::ReleaseAll { .. })
            | Message::Repository(repository::Command::CloseAccess)
            | Message::Replica(replica::Command::AbandonPoint { .. })
            | Message::Job(_)
    );
    !release
}

/// Whatever was asked for was let go exactly once, and the job was told once.
pub(super) fn released_everything(all: &[Send]) {
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    let mut brokers: BTreeMap<String, (bool, i64)> = BTreeMap::new();
    let mut told = 0;
    for send in all {
        let to = &send.to;
        let (key, change) = match &send.body {
            Message::Host(host::Command::PrepareRead { vm }) => (format!("read {to} {vm}"), 1),
            Message::Host(host::Command::EndRead { vm }) => (format!("read {to} {vm}"), -1),
            Message::Broker(broker::Command::RequestSlot { slot, .. }) => {
                brokers.entry(to.to_string()).or_default().0 = true;
                (format!("slot {to} {slot}"), 1)
            }
            Message::Broker(broker::Command::ReleaseSlot { slot }) => (format!("slot {to} {slot}"), -1),
            Message::Broker(broker::Command::ReleaseAll { holder }) => {
                assert_eq!(*holder, address(ME));
                brokers.entry(to.to_string()).or_default().1 += 1;
                continue;
            }
            Message::Repository(repository::Command::OpenAccess { .. }) => (format!("access {to}"), 1),
            Message::Repository(repository::Command::CloseAccess) => (format!("access {to}"), -1),
            Message::Job(job::Command::SessionEnded { .. }) => {
                told += 1;
                continue;
            }
            _ => continue,
        };
        let count = held.entry(key.clone()).or_default();
        *count += change;
        assert!((0..=1).contains(count), "{key} is held {count} times");
    }
    assert!(held.values().all(|count| *count == 0), "not let go: {held:?}");
    assert!(brokers.values().all(|(asked, all)| *asked && *all == 1), "{brokers:?}");
    assert_eq!(told, 1, "the job is told once");
}
