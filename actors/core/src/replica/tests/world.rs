//! The parties around a replica: they answer what it sends.

use crate::decider::{Input, Send};
use crate::replica::{Known, Phase, ReplicaActor, State};
use crate::testing::{Given, address, digest, disk, endpoint, given, name, point, vm_ref};
use farshore_schemas::ids::{Address, PointId, VmName};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint, DiskSink, Failure, Moved, Outcome, TaskSpec};
use farshore_schemas::messages::replica::{Command, Event, PointChoice, Rest};
use farshore_schemas::messages::{Message, Override, Refusal, Refused, broker, host, mover, session};
use farshore_schemas::units::{ByteCount, Timestamp};

pub(super) const ME: &str = "dr:replica/r1";
pub(super) const SESSION: &str = "dr:session/s1";
pub(super) const PLAN: &str = "dr:plan/all";
pub(super) const SOURCE: &str = "hq:host/esx";
pub(super) const HERE: &str = "dr:host/drx";
pub(super) const OPS: &str = "dr:api/operator";

pub(super) fn facts() -> Vec<DiskFacts> {
    ["a.img", "b.img"].iter().map(|it| DiskFacts { name: disk(it), size: ByteCount(1 << 20) }).collect()
}

pub(super) fn proofs() -> Vec<DiskPoint> {
    facts().into_iter().map(|it| proof(&it)).collect()
}

fn proof(disk: &DiskFacts) -> DiskPoint {
    DiskPoint { name: disk.name.clone(), size: disk.size, checksum: digest(5), manifest: digest(0) }
}

pub(super) fn failure(code: &str) -> Failure {
    Failure { code: code.into(), message: "it broke".into(), advice: "mend it".into(), transient: true }
}

pub(super) fn open(id: &str) -> Command {
    Command::OpenPoint {
        origin: vm_ref("hq/esx/web"),
        host: name("drx"),
        mover: name("dr-m"),
        source_host: address(SOURCE),
        digests: address("hq:repository/digests"),
        point: point(id),
        disks: facts(),
    }
}

pub(super) fn seal(id: &str, taken: i64, keep: u32) -> Command {
    Command::SealPoint { point: point(id), taken: Timestamp(taken), disks: proofs(), keep }
}

pub(super) fn newest() -> Command {
    Command::Failover { point: PointChoice::Newest, forced: None }
}

pub(super) fn forced() -> Command {
    let forced = Some(Override { by: "ann".into(), reason: "hq burns".into() });
    Command::Failover { point: PointChoice::Newest, forced }
}

/// How a party answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Well,
    Badly,
    Refuse,
}

/// The answer of the party that a send went to: none for what is not answered.
pub(super) fn answer(send: &Send, how: How) -> Option<(Address, Input<Command>)> {
    let failed = (how == How::Badly).then(|| failure("FS-TEST-BROKEN"));
    let command = match &send.body {
        _ if how == How::Refuse => return refusal(send),
        Message::Host(body) => by_host(&send.to, body, failed)?,
        Message::Broker(broker::Command::RequestSlot { .. }) if failed.is_some() => return refusal(send),
        Message::Broker(broker::Command::RequestSlot { slot, .. }) => Command::SlotGranted {
            slot: slot.clone(),
            mover: name(&format!("{}-m", send.to.site)),
            endpoint: endpoint(&format!("{}/{}-m", send.to.site, send.to.site)),
            reasons: vec!["the only one".into()],
        },
        Message::Mover(mover::Command::Assign { task, spec, .. }) => {
            let outcome = failed.map_or_else(|| outcome(spec), Outcome::Failed);
            Command::TaskEnded { task: task.clone(), outcome }
        }
        Message::Mover(mover::Command::Cancel { task }) => {
            Command::TaskEnded { task: task.clone(), outcome: Outcome::Cancelled }
        }
        _ => return None,
    };
    Some((send.to.clone(), Input::Command(command)))
}

fn by_host(to: &Address, body: &host::Command, failure: Option<Failure>) -> Option<Command> {
    let mover = name(&format!("{}-m", to.site));
    let host = to.clone();
    Some(match body {
        host::Command::Release { epoch, .. } => Command::Released { epoch: epoch.clone(), failure },
        host::Command::StopGuest { epoch, .. } => Command::PoweredOff { host, mover, epoch: epoch.clone(), failure },
        host::Command::Grant { epoch, power_on: true, .. } => {
            Command::PoweredOn { host, epoch: epoch.clone(), failure }
        }
        host::Command::CreateVm { vm, .. } => match failure {
            Some(failure) => Command::HostFailed { vm: vm.clone(), failure },
            None => Command::VmCreated { vm: vm.clone() },
        },
        host::Command::PrepareRead { vm } => match failure {
            Some(failure) => Command::HostFailed { vm: vm.clone(), failure },
            None => prepared(vm),
        },
        _ => return None,
    })
}

fn prepared(vm: &VmName) -> Command {
    Command::ReadPrepared { vm: vm.clone(), snapshot: name("snap"), disks: facts(), taken: Timestamp(9) }
}

fn refusal(send: &Send) -> Option<(Address, Input<Command>)> {
    let refusal = Refusal { code: "FS-TEST-NO".into(), message: "no".into(), advice: "ask later".into() };
    let message = send.body.clone();
    Some((send.to.clone(), Input::Refused(Refused { by: send.to.clone(), message, refusal })))
}

/// What a task brings when all is well.
fn outcome(spec: &TaskSpec) -> Outcome {
    let moved = Moved::default();
    let of =
        |name: &farshore_schemas::ids::DiskName| proof(&DiskFacts { name: name.clone(), size: ByteCount(1 << 20) });
    match spec {
        TaskSpec::MakeWorking { .. } => Outcome::Snapshot { disks: facts(), taken: Timestamp(8) },
        TaskSpec::SealReplicaPoint { disks, .. } => {
            Outcome::PointDurable { stored: ByteCount(10), disks: disks.clone(), immutable: None }
        }
        TaskSpec::AbsorbWorking { .. } => {
            Outcome::PointDurable { stored: ByteCount(10), disks: proofs(), immutable: None }
        }
        TaskSpec::SendDisk { source, .. } => Outcome::DiskSent { disk: of(&source.disk), moved, full_because: None },
        TaskSpec::ReceiveDisk { sink: DiskSink::VmDisk(at, _), .. } => {
            Outcome::DiskReceived { disk: of(&at.disk), moved }
        }
        _ => Outcome::Done,
    }
}

/// Inputs one by one; what was sent is kept in order.
pub(super) struct World {
    pub(super) given: Given<ReplicaActor>,
    pub(super) sent: Vec<Send>,
    pub(super) events: Vec<Event>,
}

impl World {
    /// A replica that never existed.
    pub(super) fn new() -> World {
        World { given: given::<ReplicaActor>(ME, []), sent: Vec::new(), events: Vec::new() }
    }

    /// One that stands in Ready with these points (id and when taken).
    pub(super) fn ready(points: &[(&str, i64)]) -> World {
        points.iter().fold(World::new(), |world, (id, taken)| world.point(id, *taken))
    }

    pub(super) fn point(self, id: &str, taken: i64) -> World {
        self.tell(SESSION, open(id)).tell(SESSION, seal(id, taken, 7)).settle()
    }

    pub(super) fn input(mut self, from: &str, input: Input<Command>) -> World {
        let then = self.given.from(from).when_input(input);
        let decision = then.decision().clone();
        self.sent.extend(decision.sends);
        self.events.extend(decision.events);
        self.given = then.accepted();
        self
    }

    pub(super) fn tell(self, from: &str, command: Command) -> World {
        self.input(from, Input::Command(command))
    }

    pub(super) fn refused(mut self, from: &str, command: Command, code: &str) -> World {
        self.given = self.given.from(from).when(command).rejected(code);
        self
    }

    /// Everything that was sent is answered well, until nothing is.
    pub(super) fn settle(self) -> World {
        self.settle_but(usize::MAX, How::Well)
    }

    /// The same, but the n-th answer is given otherwise.
    pub(super) fn settle_but(mut self, nth: usize, how: How) -> World {
        let mut count = 0;
        while !self.sent.is_empty() {
            let send = self.sent.remove(0);
            let how = if count == nth { how } else { How::Well };
            if let Some((from, input)) = answer(&send, how) {
                count += 1;
                let from = from.to_string();
                let then = self.given.from(&from).when_input(input);
                if let Ok(decision) = &then.decided {
                    self.sent.extend(decision.sends.clone());
                    self.events.extend(decision.events.clone());
                    self.given = then.accepted();
                } else {
                    // Cancelled tasks are answered twice here: by their own answer and by the cancel.
                    let code = then.outcome();
                    assert!(code == "FS-REPLICA-NO-TASK" || code == "FS-REPLICA-STALE", "{code}");
                    self.given = then.rejected(&code);
                }
            }
        }
        self
    }

    pub(super) fn wake(mut self) -> World {
        let at = <ReplicaActor as crate::decider::Decider>::next_wake(&self.given.state).expect("it waits");
        self.given.context.now = at;
        self.given.context.frame = farshore_schemas::ids::Seq(self.given.context.frame.0 + 1);
        let world = self.input(ME, Input::Wake);
        let next = <ReplicaActor as crate::decider::Decider>::next_wake(&world.given.state);
        assert!(next.is_none_or(|next| next > at), "a wake moves on");
        world
    }

    pub(super) fn known(&self) -> &Known {
        match &self.given.state {
            State::Known(known) => known,
            State::New => panic!("it does not exist"),
        }
    }

    /// Where it rests, with the reason's code.
    pub(super) fn rests(&self) -> (Rest, Option<String>) {
        match &self.known().phase {
            Phase::Rest { rest, failure, .. } => (*rest, failure.as_ref().map(|failure| failure.code.clone())),
            other => panic!("under way: {other:?}"),
        }
    }

    pub(super) fn stands(self, rest: Rest) -> World {
        assert_eq!(self.rests(), (rest, None));
        self
    }

    pub(super) fn points(&self) -> Vec<PointId> {
        self.known().points.iter().map(|point| point.point.clone()).collect()
    }

    /// Bodies sent to a party since the last `settle`.
    pub(super) fn sent_to(&self, to: &str) -> Vec<&Message> {
        self.sent.iter().filter(|send| send.to == address(to)).map(|send| &send.body).collect()
    }

    /// What a session was told last.
    pub(super) fn forget_sent(mut self) -> World {
        self.sent.clear();
        self
    }
}

/// Whether a message tells a session that its point is sealed.
pub(super) fn sealed(message: &Message) -> Option<bool> {
    match message {
        Message::Session(session::Command::PointSealed { sealed, .. }) => Some(sealed.is_ok()),
        _ => None,
    }
}
