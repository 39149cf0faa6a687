//! What a replica decides: which input is dealt with where. Outer match on the input, inner on where it stands.

use super::{
    Known, Phase, Processing, Rejection, ReplicaActor, State, Work, answers, failback, failover, finish, points, tasks,
};
use crate::decider::{Context, Decision, Input};
use crate::limits;
use crate::turn::Turn;
use farshore_schemas::ids::{Address, Kind, Name, VmName};
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{Command, Event, FailoverRequest, PointChoice, Rest, Side, Step, Transition};
use farshore_schemas::messages::{Message, Override, host};

pub(super) type Decided = Result<Decision<Event>, Rejection>;
pub(super) type ReplicaTurn<'a> = Turn<'a, ReplicaActor>;

impl ReplicaTurn<'_> {
    /// The replica.
    pub(super) fn known(&self) -> &Known {
        match &self.state {
            State::Known(known) => known,
            State::New => {
                unreachable!("every path here has checked that the replica exists, and nothing takes that back")
            }
        }
    }

    /// The transition under way.
    pub(super) fn work(&self) -> Option<&Work> {
        match &self.known().phase {
            Phase::Working(work) => Some(work),
            Phase::Rest { .. } | Phase::Processing(_) => None,
        }
    }
}

/// Where a replica stands, for matching.
pub(super) enum At<'a> {
    New,
    Rest(Rest),
    Processing(&'a Processing),
    Working(&'a Work),
}

pub(super) fn at(state: &State) -> At<'_> {
    match state {
        State::New => At::New,
        State::Known(known) => match &known.phase {
            Phase::Rest { rest, .. } => At::Rest(*rest),
            Phase::Processing(processing) => At::Processing(processing),
            Phase::Working(work) => At::Working(work),
        },
    }
}

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Decided {
    let me = Me { state, context };
    match input {
        Input::Command(command) => me.command(command),
        Input::Refused(refused) => answers::refused(&me, refused),
        Input::Wake => me.wake(),
    }
}

/// The state and the circumstances of one decision.
pub(super) struct Me<'a> {
    pub(super) state: &'a State,
    pub(super) context: &'a Context,
}

impl<'a> Me<'a> {
    pub(super) fn name(&self) -> Name {
        self.context.me.entity.name.clone()
    }

    pub(super) fn turn(&self) -> ReplicaTurn<'a> {
        Turn::new(self.state, self.context)
    }

    pub(super) fn unknown(&self) -> Rejection {
        Rejection::Unknown { replica: self.name() }
    }

    pub(super) fn stale(&self, what: &'static str) -> Rejection {
        Rejection::Stale { replica: self.name(), what, from: self.context.from.clone() }
    }

    pub(super) fn busy(&self, doing: impl Into<String>) -> Rejection {
        Rejection::Busy { replica: self.name(), doing: doing.into() }
    }

    pub(super) fn busy_with(&self, work: &Work) -> Rejection {
        self.busy(format!("{:?} is under way, begun in {:?}", work.transition, work.from))
    }

    pub(super) fn processing(&self, processing: &Processing) -> Rejection {
        self.busy(format!("session {} makes point {}", processing.session.entity.name, processing.point))
    }

    fn not_from(&self, rest: Rest, what: &'static str) -> Rejection {
        Rejection::NotFrom { replica: self.name(), rest, what }
    }

    /// The plan that asked, when one did.
    pub(super) fn asker(&self) -> Option<Address> {
        (self.context.from.entity.kind == Kind::Plan).then(|| self.context.from.clone())
    }

    fn command(&self, command: &Command) -> Decided {
        match command {
            Command::OpenPoint { origin, host, mover, source_host, digests, point, disks } => {
                let protection = farshore_schemas::messages::replica::Protection {
                    origin: origin.clone(),
                    host: host.clone(),
                    mover: mover.clone(),
                    source_host: source_host.clone(),
                    digests: digests.clone(),
                    disks: disks.clone(),
                };
                points::open(self, protection, point)
            }
            Command::SealPoint { point, taken, disks, keep } => points::seal(self, point, (*taken, *keep), disks),
            Command::AbandonPoint { point } => points::abandon(self, point),
            Command::Failover { point, forced } => self.failover(point, forced.as_ref()),
            Command::UndoFailover => self.undo(),
            Command::Failback => self.failback(),
            Command::Switch => self.switch(),
            Command::CommitFailback => self.commit(),
            Command::UndoFailback => self.undo_failback(),
            Command::MakePermanent => self.make_permanent(),
            Command::Remove => self.remove(),
            Command::Released { epoch, failure } => answers::released(self, epoch, failure.as_ref()),
            Command::PoweredOn { host, epoch, failure } => answers::powered_on(self, host, epoch, failure.as_ref()),
            Command::PoweredOff { host, mover, epoch, failure } => {
                answers::powered_off(self, (host, mover), epoch, failure.as_ref())
            }
            Command::WhoRuns { vm, host } => self.who_runs(vm, host),
            Command::SlotGranted { slot, mover, endpoint, reasons } => {
                answers::slot_granted(self, slot, (mover, endpoint), reasons)
            }
            Command::ReadPrepared { vm, snapshot, disks: _, taken } => {
                answers::read_prepared(self, vm, snapshot, *taken)
            }
            Command::HostFailed { vm, failure } => answers::host_failed(self, vm, failure),
            Command::VmCreated { vm } => answers::vm_created(self, vm),
            Command::TaskEnded { task, outcome } => tasks::ended(self, task, outcome),
        }
    }

    /// Done already: a plan is told so, an operator too.
    fn already(&self, rest: Rest, action: Option<Action>, what: &'static str) -> Decided {
        match (self.asker(), action) {
            (Some(plan), Some(action)) => {
                let mut turn = self.turn();
                let ended = plan::Command::StepEnded { replica: self.name(), action, failure: None };
                turn.send(&plan, Message::Plan(ended));
                Ok(turn.done())
            }
            (Some(_), None) | (None, _) => Err(Rejection::Already { replica: self.name(), rest, what }),
        }
    }

    fn failover(&self, choice: &PointChoice, forced: Option<&Override>) -> Decided {
        if forced.is_some_and(|forced| forced.by.trim().is_empty() || forced.reason.trim().is_empty()) {
            return Err(Rejection::BareOverride { replica: self.name() });
        }
        let request = FailoverRequest {
            choice: choice.clone(),
            forced: forced.cloned(),
            principal: self.context.principal.clone(),
            asker: self.asker(),
        };
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::Ready | Rest::FailedFailover) => failover::start(self, request),
            At::Rest(rest @ (Rest::Failback | Rest::ReadyToSwitch)) => match (forced, self.asker()) {
                (Some(forced), None) => failback::forced_return(self, forced),
                (Some(_), Some(_)) | (None, _) => self.already(rest, Some(Action::Failover), "a failover"),
            },
            At::Rest(rest @ (Rest::Failover | Rest::PermanentFailover)) => {
                self.already(rest, Some(Action::Failover), "a failover")
            }
            At::Processing(processing) => points::queue_failover(self, processing, request),
            At::Working(work) => failover::override_release(self, work, forced),
        }
    }

    fn undo(&self) -> Decided {
        let what = "the undoing of a failover";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::Failover | Rest::FailedFailover) => Ok(failover::undo(self.begin(Transition::Undo))),
            At::Rest(rest @ Rest::Ready) => self.already(rest, Some(Action::Undo), what),
            At::Rest(rest @ (Rest::ReadyToSwitch | Rest::Failback | Rest::PermanentFailover)) => {
                Err(self.not_from(rest, what))
            }
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => Err(self.busy_with(work)),
        }
    }

    fn failback(&self) -> Decided {
        let what = "a failback";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::Failover) => Ok(failback::start(self.begin(Transition::Failback))),
            At::Rest(rest @ (Rest::ReadyToSwitch | Rest::Failback)) => self.already(rest, Some(Action::Failback), what),
            At::Rest(rest @ (Rest::Ready | Rest::FailedFailover | Rest::PermanentFailover)) => {
                Err(self.not_from(rest, what))
            }
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => Err(self.busy_with(work)),
        }
    }

    fn switch(&self) -> Decided {
        let what = "a switch to production";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::ReadyToSwitch) => Ok(failback::switch(self.begin(Transition::Switch))),
            At::Rest(rest @ Rest::Failback) => self.already(rest, Some(Action::Switch), what),
            At::Rest(rest @ (Rest::Ready | Rest::Failover | Rest::FailedFailover | Rest::PermanentFailover)) => {
                Err(self.not_from(rest, what))
            }
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => Err(self.busy_with(work)),
        }
    }

    fn commit(&self) -> Decided {
        let what = "the commit of a failback";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::Failback) => Ok(failback::commit(self.begin(Transition::Commit))),
            At::Rest(rest @ Rest::Ready) => self.already(rest, Some(Action::Commit), what),
            At::Rest(
                rest @ (Rest::Failover | Rest::FailedFailover | Rest::ReadyToSwitch | Rest::PermanentFailover),
            ) => Err(self.not_from(rest, what)),
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => Err(self.busy_with(work)),
        }
    }

    fn undo_failback(&self) -> Decided {
        let what = "the undoing of a failback";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::ReadyToSwitch | Rest::Failback) => Ok(failback::undo(self.begin(Transition::UndoFailback))),
            At::Rest(rest @ Rest::Failover) => self.already(rest, None, what),
            At::Rest(rest @ (Rest::Ready | Rest::FailedFailover | Rest::PermanentFailover)) => {
                Err(self.not_from(rest, what))
            }
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => match (&work.transition, &work.wait) {
                (Transition::Failback, wait) if !matches!(wait, Some((Step::Cancel { .. }, _))) => {
                    Ok(failback::cancel(self.turn()))
                }
                (
                    Transition::Failback
                    | Transition::Failover
                    | Transition::Undo
                    | Transition::Switch
                    | Transition::Commit
                    | Transition::UndoFailback
                    | Transition::Permanent
                    | Transition::Remove,
                    _,
                ) => Err(self.busy_with(work)),
            },
        }
    }

    fn make_permanent(&self) -> Decided {
        let what = "a permanent failover";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::Failover) => Ok(finish::drop_store(self.begin(Transition::Permanent))),
            At::Rest(rest @ Rest::PermanentFailover) => self.already(rest, None, what),
            At::Rest(rest @ (Rest::Ready | Rest::FailedFailover | Rest::ReadyToSwitch | Rest::Failback)) => {
                Err(self.not_from(rest, what))
            }
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => Err(self.busy_with(work)),
        }
    }

    fn remove(&self) -> Decided {
        let what = "a removal";
        match at(self.state) {
            At::New | At::Rest(Rest::Removed) => Err(self.unknown()),
            At::Rest(Rest::Ready) => Ok(finish::drop_store(self.begin(Transition::Remove))),
            At::Rest(Rest::PermanentFailover) => Ok(finish::forget(self.begin(Transition::Remove))),
            At::Rest(rest @ (Rest::Failover | Rest::FailedFailover | Rest::ReadyToSwitch | Rest::Failback)) => {
                Err(self.not_from(rest, what))
            }
            At::Processing(processing) => Err(self.processing(processing)),
            At::Working(work) => Err(self.busy_with(work)),
        }
    }

    /// A transition begins.
    fn begin(&self, transition: Transition) -> ReplicaTurn<'a> {
        let mut turn = self.turn();
        turn.log(Event::Started {
            transition,
            asker: self.asker(),
            principal: self.context.principal.clone(),
            at: self.context.now,
        });
        turn
    }

    /// Answered wherever it stands. While the right changes hands it is nobody's; a replica that never existed knows
    /// nothing, and from that nothing may follow (P9).
    fn who_runs(&self, vm: &VmName, asks: &Address) -> Decided {
        let known = match self.state {
            State::New => return Err(self.unknown()),
            State::Known(known) => known,
        };
        let yours = known.right.holder.is_some_and(|side| known.host_of(side, &self.context.me) == *asks);
        if yours && known.right.holder == Some(Side::Source) && self.overrides() {
            // By name and reason the source counts as lost. A yes now would start a guest there that nobody is going to stop: it
            // asks again, and then the right has passed on or come back.
            return Ok(Decision::none());
        }
        let epoch = known.right.epoch.clone();
        let mut turn = self.turn();
        let answer = Message::Host(host::Command::EpochIs { vm: vm.clone(), epoch, yours });
        // A yes that was under way for long may be over: the host asks again. A no does no harm at any time.
        if yours {
            turn.send_within(asks, answer, limits::WORD)
        } else {
            turn.send(asks, answer)
        }
        Ok(turn.done())
    }

    /// Whether a failover by override waits or is under way.
    fn overrides(&self) -> bool {
        let request = match at(self.state) {
            At::New | At::Rest(_) => None,
            At::Processing(processing) => processing.queued.as_ref().map(|(request, _)| request),
            At::Working(work) => work.failover.as_ref().map(|(request, _)| request),
        };
        request.is_some_and(|request| request.forced.is_some())
    }

    /// A wake before its time, or of a replica that needs none, yields nothing.
    fn wake(&self) -> Decided {
        match at(self.state) {
            At::New | At::Rest(_) => Ok(Decision::none()),
            At::Processing(processing) => Ok(points::wake(self.turn(), processing)),
            At::Working(work) => match &work.wait {
                Some((step, until)) if *until <= self.context.now => Ok(finish::expire(self.turn(), step)),
                Some(_) | None => Ok(Decision::none()),
            },
        }
    }
}
