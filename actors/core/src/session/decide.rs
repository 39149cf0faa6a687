//! What a session decides: which input is dealt with where. Outer match on the input, inner on the state.

use super::{Phase, Rejection, Run, SessionActor, State, answers, finish, start, tasks};
use crate::decider::{Context, Decision, Input};
use crate::turn::Turn;
use farshore_schemas::messages::session::{Command, Event};

pub(super) type Decided = Result<Decision<Event>, Rejection>;
pub(super) type SessionTurn<'a> = Turn<'a, SessionActor>;

impl SessionTurn<'_> {
    /// The run.
    pub(super) fn run(&self) -> &Run {
        match &self.state {
            State::Begun(run) => run,
            State::New => {
                unreachable!("every path here has checked that the session has begun, and nothing takes that back")
            }
        }
    }
}

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Decided {
    let me = Me { state, context };
    match input {
        Input::Command(Command::Begin { job, spec, retry }) => match state {
            State::New => Ok(start::begin(Turn::new(state, context), job, spec, *retry)),
            State::Begun(_) => Err(Rejection::Begun { session: me.name() }),
        },
        Input::Command(Command::Stop) => me.stop(),
        Input::Command(Command::VmsListed { mover, vms }) => {
            start::vms_listed(me.starting("a host's list")?, mover, vms)
        }
        Input::Command(Command::SlotGranted { slot, mover, endpoint, reasons }) => {
            answers::slot_granted(me.working("a slot")?, slot, (mover, endpoint), reasons)
        }
        Input::Command(Command::AccessOpened { mover, endpoint, access, points }) => {
            answers::access_opened(me.working("an access")?, (mover, endpoint), access, points)
        }
        Input::Command(Command::ReadPrepared { vm, snapshot, disks, taken }) => {
            answers::read_prepared(me.working("a snapshot")?, vm, (snapshot, *taken), disks)
        }
        Input::Command(Command::HostFailed { vm, failure }) => {
            answers::host_failed(me.working("a host's failure")?, vm, failure)
        }
        Input::Command(Command::VmCreated { vm }) => answers::vm_created(me.working("a new VM")?, vm),
        Input::Command(Command::PointCommitted { point, stored }) => {
            answers::point_committed(me.working("a committed point")?, point, *stored)
        }
        Input::Command(Command::RepositoryFailed { vm, failure }) => {
            answers::repository_failed(me.working("a repository's failure")?, vm.as_ref(), failure)
        }
        Input::Command(Command::PointOpened { replica, base }) => {
            answers::point_opened(me.working("an opened point")?, replica, base.as_ref())
        }
        Input::Command(Command::PointSealed { replica, sealed }) => {
            answers::point_sealed(me.working("a sealed point")?, replica, sealed)
        }
        Input::Command(Command::TaskEnded { task, outcome }) => {
            tasks::ended(me.working("the end of a task")?, task, outcome)
        }
        Input::Refused(refused) => answers::refused(me.alive("a refusal")?, refused),
        Input::Wake => me.wake(),
    }
}

struct Me<'a> {
    state: &'a State,
    context: &'a Context,
}

impl<'a> Me<'a> {
    fn name(&self) -> farshore_schemas::ids::Name {
        self.context.me.entity.name.clone()
    }

    fn turn(&self) -> SessionTurn<'a> {
        Turn::new(self.state, self.context)
    }

    fn stale(&self, what: &'static str) -> Rejection {
        Rejection::Stale { session: self.name(), what, from: self.context.from.clone() }
    }

    /// The session has begun and not ended.
    fn alive(&self, what: &'static str) -> Result<SessionTurn<'a>, Rejection> {
        let run = match self.state {
            State::New => return Err(Rejection::Unknown { session: self.name() }),
            State::Begun(run) => run,
        };
        match &run.phase {
            Phase::Stopped { .. } => {
                Err(Rejection::Ended { session: self.name(), what, from: self.context.from.clone() })
            }
            Phase::Starting { .. } | Phase::Working | Phase::RetryWait { .. } | Phase::Stopping => Ok(self.turn()),
        }
    }

    /// The session waits for hosts.
    fn starting(&self, what: &'static str) -> Result<SessionTurn<'a>, Rejection> {
        let turn = self.alive(what)?;
        match &turn.run().phase {
            Phase::Starting { .. } => Ok(turn),
            Phase::Working | Phase::RetryWait { .. } | Phase::Stopping | Phase::Stopped { .. } => Err(self.stale(what)),
        }
    }

    /// The session works on VMs, or winds them down.
    fn working(&self, what: &'static str) -> Result<SessionTurn<'a>, Rejection> {
        let turn = self.alive(what)?;
        match &turn.run().phase {
            Phase::Working | Phase::Stopping => Ok(turn),
            Phase::Starting { .. } | Phase::RetryWait { .. } | Phase::Stopped { .. } => Err(self.stale(what)),
        }
    }

    fn stop(&self) -> Decided {
        let turn = self.alive("a stop")?;
        match &turn.run().phase {
            Phase::Stopping | Phase::Stopped { .. } => Err(Rejection::Stopping { session: self.name() }),
            Phase::Starting { .. } | Phase::Working | Phase::RetryWait { .. } => Ok(finish::stop(turn)),
        }
    }

    /// A wake before its time, or of a session that needs none, yields nothing.
    fn wake(&self) -> Decided {
        let run = match self.state {
            State::New => return Ok(Decision::none()),
            State::Begun(run) => run,
        };
        let due = |until: farshore_schemas::units::Timestamp| until <= self.context.now;
        match &run.phase {
            Phase::Starting { until } if due(*until) => Ok(start::not_listed(self.turn())),
            Phase::RetryWait { until } if due(*until) => Ok(start::retry(self.turn())),
            Phase::Working | Phase::Stopping => Ok(finish::expire(self.turn())),
            Phase::Starting { .. } | Phase::RetryWait { .. } | Phase::Stopped { .. } => Ok(Decision::none()),
        }
    }
}
