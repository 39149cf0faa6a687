//! What a plan decides.

use super::{PlanActor, Rejection, Run, State};
use crate::decider::{Context, Decision, Input};
use crate::turn::Turn;
use farshore_schemas::ids::{Kind, Name};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::messages::plan::{Action, Command, Event, PlanSpec, Step};
use farshore_schemas::messages::replica::{self, PointChoice};
use farshore_schemas::messages::{Message, Override, Refused, SessionResult};
use std::collections::BTreeSet;

type Decided = Result<Decision<Event>, Rejection>;

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Decided {
    let me = Me { state, context, plan: &context.me.entity.name };
    match input {
        Input::Command(Command::Define(spec)) => me.define(spec),
        Input::Command(Command::Remove) => me.remove(),
        Input::Command(Command::Run { action, point, forced }) => me.run(*action, point, forced.as_ref()),
        Input::Command(Command::StepEnded { replica, action, failure }) => {
            me.step_ended(replica, *action, failure.clone())
        }
        Input::Refused(refused) => me.refused(refused),
        Input::Wake => me.wake(),
    }
}

struct Me<'a> {
    state: &'a State,
    context: &'a Context,
    plan: &'a Name,
}

impl<'a> Me<'a> {
    fn turn(&self) -> Turn<'a, PlanActor> {
        Turn::new(self.state, self.context)
    }

    fn running(&self, run: &Run) -> Rejection {
        Rejection::Running { plan: self.plan.clone(), left: run.left.len() + run.under_way.len() }
    }

    fn define(&self, spec: &PlanSpec) -> Decided {
        validate(self.plan, spec)?;
        match self.state {
            State::New | State::Idle { .. } => Ok(Decision::event(Event::Defined { spec: spec.clone() })),
            State::Running { run, .. } => Err(self.running(run)),
        }
    }

    fn remove(&self) -> Decided {
        match self.state {
            State::New => Err(Rejection::Unknown { plan: self.plan.clone() }),
            State::Idle { .. } => Ok(Decision::event(Event::Removed)),
            State::Running { run, .. } => Err(self.running(run)),
        }
    }

    fn run(&self, action: Action, point: &PointChoice, forced: Option<&Override>) -> Decided {
        let spec = match self.state {
            State::New => return Err(Rejection::Unknown { plan: self.plan.clone() }),
            State::Idle { spec, .. } => spec,
            State::Running { run, .. } => return Err(self.running(run)),
        };
        self.check_override(action, forced)?;
        let mut turn = self.turn();
        turn.log(Event::RunStarted {
            action,
            point: point.clone(),
            forced: forced.cloned(),
            principal: self.context.principal.clone(),
            order: order(spec, action),
            at: self.context.now,
        });
        start_next(&mut turn);
        Ok(turn.done())
    }

    fn check_override(&self, action: Action, forced: Option<&Override>) -> Result<(), Rejection> {
        let Some(forced) = forced else { return Ok(()) };
        match action {
            Action::Failover => {}
            Action::Undo | Action::Failback | Action::Switch | Action::Commit => {
                return Err(Rejection::OverrideMisplaced { plan: self.plan.clone() });
            }
        }
        if forced.by.trim().is_empty() || forced.reason.trim().is_empty() {
            return Err(Rejection::BareOverride { plan: self.plan.clone() });
        }
        Ok(())
    }

    fn step_ended(&self, replica: &Name, action: Action, failure: Option<Failure>) -> Decided {
        let stale = || Rejection::Stale {
            plan: self.plan.clone(),
            what: format!("the end of {action:?} of replica {replica}"),
            from: self.context.from.clone(),
        };
        match self.state {
            State::New | State::Idle { .. } => Err(stale()),
            State::Running { run, .. } => {
                let asked = run.action == action && run.under_way.contains(replica);
                if !asked || self.context.from != self.context.here(Kind::Replica, replica) {
                    return Err(stale());
                }
                let mut turn = self.turn();
                end_step(&mut turn, replica, failure);
                Ok(turn.done())
            }
        }
    }

    /// A replica that refuses has answered.
    fn refused(&self, refused: &Refused) -> Decided {
        let replica = &refused.by.entity.name;
        let asked = match self.state {
            State::New | State::Idle { .. } => false,
            State::Running { run, .. } => {
                refused.by.entity.kind == Kind::Replica
                    && run.under_way.contains(replica)
                    && refused.message == command(run)
            }
        };
        if !asked {
            return Err(Rejection::Stale {
                plan: self.plan.clone(),
                what: format!("a refusal ({})", refused.refusal.code),
                from: self.context.from.clone(),
            });
        }
        let failure = Failure {
            code: refused.refusal.code.clone(),
            message: refused.refusal.message.clone(),
            advice: refused.refusal.advice.clone(),
            transient: true,
        };
        let mut turn = self.turn();
        end_step(&mut turn, replica, Some(failure));
        Ok(turn.done())
    }

    /// A wake before its time, or of a plan that needs none, yields nothing.
    fn wake(&self) -> Decided {
        let mut turn = self.turn();
        start_next(&mut turn);
        Ok(turn.done())
    }
}

fn validate(plan: &Name, spec: &PlanSpec) -> Result<(), Rejection> {
    if spec.steps.is_empty() {
        return Err(Rejection::Empty { plan: plan.clone() });
    }
    if spec.concurrency == 0 {
        return Err(Rejection::NoConcurrency { plan: plan.clone() });
    }
    let mut seen = BTreeSet::new();
    match spec.steps.iter().find(|step| !seen.insert(&step.replica)) {
        Some(step) => Err(Rejection::Twice { plan: plan.clone(), replica: step.replica.clone() }),
        None => Ok(()),
    }
}

/// What is started first is undone last.
fn order(spec: &PlanSpec, action: Action) -> Vec<Step> {
    match action {
        Action::Failover | Action::Failback | Action::Switch | Action::Commit => spec.steps.clone(),
        Action::Undo => spec.steps.iter().rev().cloned().collect(),
    }
}

fn command(run: &Run) -> Message {
    Message::Replica(match run.action {
        Action::Failover => replica::Command::Failover { point: run.point.clone(), forced: run.forced.clone() },
        Action::Undo => replica::Command::UndoFailover,
        Action::Failback => replica::Command::Failback,
        Action::Switch => replica::Command::Switch,
        Action::Commit => replica::Command::CommitFailback,
    })
}

/// Tells replicas as long as the cap and the delay after the one before allow.
fn start_next(turn: &mut Turn<'_, PlanActor>) {
    loop {
        let (step, message) = match &turn.state {
            State::New | State::Idle { .. } => return,
            State::Running { spec, run } => {
                if !run.has_room(spec) || run.next > turn.now() {
                    return;
                }
                match run.left.first() {
                    Some(step) => (step.clone(), command(run)),
                    None => return,
                }
            }
        };
        let now = turn.now();
        turn.send(&turn.context.here(Kind::Replica, &step.replica), message);
        turn.log(Event::StepStarted { replica: step.replica, at: now, next: now.after(step.delay) });
    }
}

fn end_step(turn: &mut Turn<'_, PlanActor>, replica: &Name, failure: Option<Failure>) {
    turn.log(Event::StepEnded { replica: replica.clone(), failure, at: turn.now() });
    start_next(turn);
    let (action, failed, done) = match &turn.state {
        State::New | State::Idle { .. } => return,
        State::Running { run, .. } if run.left.is_empty() && run.under_way.is_empty() => {
            let failed = run.ended.values().filter(|failure| failure.is_some()).count();
            (run.action, failed, run.ended.len() - failed)
        }
        State::Running { .. } => return,
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let result = if failed == 0 { SessionResult::Success } else { SessionResult::Failed };
    turn.log(Event::RunEnded { action, result, done: count(done), failed: count(failed), at: turn.now() });
}
