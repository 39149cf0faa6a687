//! Definition, the agent's coming, wakes, and the way to what accesses and points do.

use super::{AccessStatus, Defined, Rejection, State, access, holds, log, points, prune, retention};
use crate::decider::{Context, Decision, Input, Send};
use crate::orders::{Draft, Open};
use crate::refusal::{as_failure, failure_of};
use farshore_schemas::ids::{Address, Digest, Kind, Lineage, Name, TaskId, VmRef};
use farshore_schemas::messages::agent::{self, Endpoint, Failure, Order, Outcome, TaskSpec};
use farshore_schemas::messages::repository::{Command, Event, RepositorySpec, Wanted, Work};
use farshore_schemas::messages::{Message, Refused, mover, session};
use farshore_schemas::units::Timestamp;

pub(super) type RepositoryDraft<'a> = Draft<'a, Event, Work>;

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
    match input {
        Input::Command(command) => command_to(state, command, context),
        Input::Refused(refused) => match state {
            State::Undefined { .. } => Err(unexpected(refused)),
            State::Defined(repository) => refused_by(repository, refused, context),
        },
        Input::Wake => match state {
            State::Undefined { .. } => Err(Rejection::NotDue),
            State::Defined(repository) => wake(repository, context),
        },
    }
}

fn command_to(state: &State, command: &Command, context: &Context) -> Result<Decision<Event>, Rejection> {
    match command {
        Command::Define(spec) => define(state, spec, context),
        Command::Remove => remove(defined(state, context)?, context),
        Command::AgentReady { incarnation, endpoint } => {
            agent_ready(defined(state, context)?, (*incarnation, endpoint), context)
        }
        Command::OpenAccess { purpose, peers, vms, point } => {
            let asked = Event::AccessAsked {
                holder: context.from.clone(),
                purpose: *purpose,
                peers: peers.clone(),
                vms: vms.clone(),
                point: point.clone(),
            };
            access::open(defined(state, context)?, asked, context)
        }
        Command::CloseAccess => match state {
            State::Undefined { .. } => Ok(Decision::none()), // Never refused.
            State::Defined(repository) => Ok(access::close(repository, context)),
        },
        Command::CommitPoint { point, vm, job, taken, keep, disks } => {
            let wanted = Wanted {
                point: point.clone(),
                vm: vm.clone(),
                job: job.clone(),
                taken: *taken,
                keep: keep.clone(),
                disks: disks.clone(),
            };
            points::commit(defined(state, context)?, wanted, context)
        }
        Command::Verify { point } => points::verify(defined(state, context)?, point, context),
        Command::Hold { point, until, reason } => {
            holds::hold(defined(state, context)?, point, (*until, reason), context)
        }
        Command::Release { point } => holds::release(defined(state, context)?, point, context),
        Command::TaskEnded { task, outcome } => task_ended(defined(state, context)?, task, outcome, context),
        Command::LogServed { source } => log::served(defined(state, context)?, source, context),
        Command::OwnedBefore { lineage } => log::owned_before(defined(state, context)?, *lineage, context),
        Command::Adopt { owner, why } => log::adopt(defined(state, context)?, (*owner, why), context),
        Command::BreakAccess { holder } => access::broken(defined(state, context)?, holder, context),
    }
}

fn defined<'a>(state: &'a State, context: &Context) -> Result<&'a Defined, Rejection> {
    match state {
        State::Undefined { .. } => Err(Rejection::Unknown { repository: me(context).clone() }),
        State::Defined(repository) => Ok(repository),
    }
}

pub(super) fn me(context: &Context) -> &Name {
    &context.me.entity.name
}

pub(super) fn draft<'a>(repository: &Defined, context: &'a Context) -> RepositoryDraft<'a> {
    let agent = context.here(Kind::Agent, &repository.spec.mover);
    Draft::new(context, (agent, &repository.link), repository.orders.next, |order, work| Event::Ordered { order, work })
}

fn to_mover(mover: &Name, command: mover::Command, context: &Context) -> Send {
    Send::new(context.here(Kind::Mover, mover), Message::Mover(command))
}

fn define(state: &State, spec: &RepositorySpec, context: &Context) -> Result<Decision<Event>, Rejection> {
    let register = to_mover(&spec.mover, mover::Command::Register, context);
    let event = Event::Defined { spec: spec.clone() };
    match state {
        State::Undefined { .. } => Ok(Decision::event(event).and_send(register)),
        State::Defined(repository) => {
            let place = |spec: &RepositorySpec| (spec.path.clone(), spec.passphrase_file.clone());
            let moved = place(&repository.spec) != place(spec);
            if moved && !(repository.orders.open.is_empty() && repository.accesses.is_empty()) {
                return Err(in_use(repository, context));
            }
            let mut sends = Vec::new();
            if repository.spec.mover != spec.mover {
                sends.push(to_mover(&repository.spec.mover, mover::Command::Unregister, context));
            }
            // Registering again makes the mover say whether the agent is there, and the agent is told the folder anew.
            sends.push(register);
            Ok(Decision { events: vec![event], sends })
        }
    }
}

fn in_use(repository: &Defined, context: &Context) -> Rejection {
    Rejection::InUse {
        repository: me(context).clone(),
        points: repository.points.len() + repository.forgotten.len(),
        accesses: repository.accesses.len(),
        orders: repository.orders.open.len(),
    }
}

fn remove(repository: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    let empty = repository.points.is_empty() && repository.forgotten.is_empty();
    if !empty || !repository.accesses.is_empty() || !repository.orders.open.is_empty() {
        return Err(in_use(repository, context));
    }
    let unregister = to_mover(&repository.spec.mover, mover::Command::Unregister, context);
    Ok(Decision::event(Event::Removed).and_send(unregister))
}

fn agent_ready(
    repository: &Defined,
    (incarnation, endpoint): (Lineage, &Endpoint),
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    if context.from != context.here(Kind::Mover, &repository.spec.mover) {
        return Err(Rejection::NotMyMover { from: context.from.clone() });
    }
    let new = repository.link.is_new(incarnation);
    let mut draft = draft(repository, context).agent_known();
    draft.event(Event::AgentSeen { incarnation, endpoint: endpoint.clone() });
    draft.tell(log::serve(&repository.spec, &repository.log, context));
    if new {
        // Accesses that stand come before the work that uses them.
        access::reopen(repository, &mut draft, context);
        for open in repository.orders.open.values() {
            draft.tell(agent::Command::Run(Box::new(open.order.clone())));
        }
    }
    Ok(draft.done())
}

fn task_ended(
    repository: &Defined,
    task: &TaskId,
    outcome: &Outcome,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    if context.from != context.here(Kind::Agent, &repository.spec.mover) {
        return Err(Rejection::NotMyAgent { from: context.from.clone() });
    }
    match repository.orders.find(task) {
        None => Err(Rejection::TaskUnknown { task: task.clone() }),
        Some(open) => Ok(ended(repository, open, outcome, context)),
    }
}

/// How an order ended, in full or in failure. The order is closed in any case; what follows depends on its work.
fn ended(repository: &Defined, open: &Open<Work>, outcome: &Outcome, context: &Context) -> Decision<Event> {
    let ordinal = open.order.task.ordinal;
    let failure = failure_of(outcome);
    let mut draft = draft(repository, context);
    let close = |draft: &mut RepositoryDraft<'_>, failure: Option<Failure>| {
        draft.event(Event::OrderEnded { ordinal, failure });
    };
    match &open.work {
        Work::Open { holder } => {
            close(&mut draft, failure.clone());
            access::opened(repository, holder, failure, &mut draft, context);
        }
        Work::Close { holder } => {
            close(&mut draft, failure.clone());
            access::closed(repository, (holder, ordinal), failure, &mut draft, context);
        }
        Work::Commit { session, wanted } => {
            let made = points::made(wanted, outcome, failure);
            close(&mut draft, made.failure().cloned());
            points::committed(repository, (session, wanted, ordinal), made, &mut draft, context);
        }
        Work::Mark { points, mark } => {
            prune::marked(repository, (points, *mark, ordinal), outcome, &mut draft, context);
        }
        Work::KeepLog { least: _ } => {
            let kept = log::ended(outcome, failure, context.now);
            close(&mut draft, kept.as_ref().err().cloned());
            log::kept(repository, ordinal, kept, (&mut draft, context));
        }
        Work::Sweep { points, mark } => {
            prune::swept(repository, (points, *mark, ordinal), outcome, &mut draft, context);
        }
        Work::Empty { mark } => prune::emptied(repository, (*mark, ordinal), outcome, &mut draft, context),
        Work::Verify { point } => {
            let failure = points::verified(point, outcome, failure, &mut draft, context);
            close(&mut draft, failure);
        }
    }
    draft.done()
}

fn wake(repository: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= context.now);
    let mut draft = draft(repository, context);
    if due(repository.link.again) {
        draft.event(Event::RegisteredAgain);
        let mover = context.here(Kind::Mover, &repository.spec.mover);
        draft.send(mover, Message::Mover(mover::Command::Register));
    }
    for (holder, access) in &repository.accesses {
        if let AccessStatus::CloseFailed { access, again } = &access.status
            && *again <= context.now
        {
            access::order_close(holder, access, &mut draft, context);
        }
    }
    retention::wake(repository, &mut draft, context);
    log::wake(repository, &mut draft, context);
    let decision = draft.done();
    if decision.is_empty() { Err(Rejection::NotDue) } else { Ok(decision) }
}

fn refused_by(repository: &Defined, refused: &Refused, context: &Context) -> Result<Decision<Event>, Rejection> {
    let by = &refused.by;
    if let Message::Agent(agent::Command::Run(order)) = &refused.message
        && *by == context.here(Kind::Agent, &repository.spec.mover)
        && let Some(open) = repository.orders.find(&order.task)
    {
        return Ok(ended(repository, open, &Outcome::Failed(as_failure(&refused.refusal)), context));
    }
    if let Message::Mover(mover::Command::Register) = &refused.message
        && *by == context.here(Kind::Mover, &repository.spec.mover)
    {
        let again = repository.link.again_at(context.now);
        return Ok(Decision::event(Event::RegisterRefused { code: refused.refusal.code.clone(), again }));
    }
    // A session that does not want to hear of its access has ended: its hold must not stay for ever.
    if let Message::Session(session::Command::AccessOpened { .. } | session::Command::RepositoryFailed { vm: None, .. }) =
        &refused.message
        && access::standing(repository, by)
    {
        return Ok(access::close_for(repository, by, None, context));
    }
    Err(unexpected(refused))
}

fn unexpected(refused: &Refused) -> Rejection {
    Rejection::RefusalUnexpected { by: refused.by.clone(), code: refused.refusal.code.clone() }
}

/// Tells a session what could not be done.
pub(super) fn failed(draft: &mut RepositoryDraft<'_>, session: &Address, vm: Option<VmRef>, failure: Failure) {
    let body = Message::Session(session::Command::RepositoryFailed { vm, failure });
    draft.send(session.clone(), body);
}

/// An order of the agent, as it was given before.
pub(super) fn open_order(peers: &[Digest], access: &TaskId, context: &Context) -> Order {
    let spec = TaskSpec::OpenAccess { repository: me(context).clone(), peers: peers.to_vec() };
    Order { task: access.clone(), fence: None, expires: None, spec }
}
