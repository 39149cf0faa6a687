//! Definition, the agent's coming, wakes, and the way to what inventory, reads, rights and power do.

use super::{Defined, Rejection, State, inventory, power, question, reads, rights};
use crate::decider::{Context, Decision, Input, Send};
use crate::orders::{Draft, Open};
use crate::refusal::{as_failure, failure_of};
use farshore_schemas::ids::{Address, Kind, Lineage, Name, TaskId, VmName};
use farshore_schemas::messages::agent::{self, Endpoint, Outcome};
use farshore_schemas::messages::host::{Command, Event, HostSpec, Work};
use farshore_schemas::messages::{Message, Refused, mover, replica, session};

pub(super) type HostDraft<'a> = Draft<'a, Event, Work>;

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
    match input {
        Input::Command(command) => command_to(state, command, context),
        Input::Refused(refused) => match state {
            State::Undefined { .. } => Err(unexpected(refused)),
            State::Defined(host) => refused_by(host, refused, context),
        },
        Input::Wake => match state {
            State::Undefined { .. } => Err(Rejection::NotDue),
            State::Defined(host) => wake(host, context),
        },
    }
}

fn command_to(state: &State, command: &Command, context: &Context) -> Result<Decision<Event>, Rejection> {
    match command {
        Command::Define(spec) => define(state, spec, context),
        Command::Remove => remove(defined(state, context)?, context),
        Command::Discover => inventory::discover(defined(state, context)?, context),
        Command::AgentReady { incarnation, endpoint } => {
            agent_ready(defined(state, context)?, (*incarnation, endpoint), context)
        }
        Command::ListVms { vms } => inventory::list(defined(state, context)?, vms, context),
        Command::PrepareRead { vm } => reads::prepare(defined(state, context)?, vm, context),
        Command::EndRead { vm } => match state {
            State::Undefined { .. } => Ok(Decision::none()), // Never refused.
            State::Defined(host) => Ok(reads::end(host, (vm, &context.from), context)),
        },
        Command::CreateVm { vm, disks, origin } => {
            let work = Work::Create {
                vm: vm.clone(),
                disks: disks.clone(),
                origin: origin.clone(),
                asker: context.from.clone(),
            };
            power::create(defined(state, context)?, (vm, work), context)
        }
        Command::Protect { vm, replica } => rights::protect(defined(state, context)?, vm, replica, context),
        Command::Unprotect { vm } => rights::unprotect(defined(state, context)?, vm, context),
        Command::Release { vm, epoch } => {
            let host = defined(state, context)?;
            rights::release(host, (vm, epoch), command, context)
        }
        Command::Grant { vm, origin, epoch, power_on } => {
            let grant = rights::Grant { vm, origin, epoch, power_on: *power_on };
            rights::grant(defined(state, context)?, &grant, command, context)
        }
        Command::StopGuest { vm, origin, epoch } => {
            rights::stop_guest(defined(state, context)?, (vm, origin, epoch), command, context)
        }
        Command::EpochIs { vm, epoch, yours } => {
            question::epoch_is(defined(state, context)?, (vm, epoch, *yours), command, context)
        }
        Command::PowerOn { vm, forced } => power::on(defined(state, context)?, vm, forced.as_ref(), context),
        Command::PowerOff { vm } => power::off(defined(state, context)?, vm, context),
        Command::GuestWrite { vm, seed } => power::write(defined(state, context)?, vm, *seed, context),
        Command::TaskEnded { task, outcome } => task_ended(defined(state, context)?, task, outcome, context),
        Command::AgentEpochs { epochs } => rights::recall(defined(state, context)?, epochs, context),
        Command::Observed { vm, running, at } => {
            let seen = Event::GuestObserved { vm: vm.clone(), running: *running, at: *at, right: false };
            power::observed(defined(state, context)?, (vm, *running), seen, context)
        }
    }
}

fn defined<'a>(state: &'a State, context: &Context) -> Result<&'a Defined, Rejection> {
    match state {
        State::Undefined { .. } => Err(Rejection::Unknown { host: me(context).clone() }),
        State::Defined(host) => Ok(host),
    }
}

pub(super) fn me(context: &Context) -> &Name {
    &context.me.entity.name
}

pub(super) fn draft<'a>(host: &Defined, context: &'a Context) -> HostDraft<'a> {
    let agent = context.here(Kind::Agent, &host.spec.mover);
    Draft::new(context, (agent, &host.link), host.orders.next, |order, work| Event::Ordered { order, work })
}

pub(super) fn from_my_agent(host: &Defined, context: &Context) -> Result<(), Rejection> {
    if context.from == context.here(Kind::Agent, &host.spec.mover) {
        Ok(())
    } else {
        Err(Rejection::NotMyAgent { from: context.from.clone() })
    }
}

/// A VM that was listed, or granted before a listing showed it.
pub(super) fn known<'a>(host: &Defined, vm: &'a VmName) -> Result<&'a VmName, Rejection> {
    if host.knows(vm) { Ok(vm) } else { Err(Rejection::VmUnknown { vm: vm.clone() }) }
}

fn to_mover(mover: &Name, command: mover::Command, context: &Context) -> Send {
    Send::new(context.here(Kind::Mover, mover), Message::Mover(command))
}

fn define(state: &State, spec: &HostSpec, context: &Context) -> Result<Decision<Event>, Rejection> {
    let register = to_mover(&spec.mover, mover::Command::Register, context);
    let event = Event::Defined { spec: spec.clone() };
    match state {
        State::Undefined { .. } => Ok(Decision::event(event).and_send(register)),
        State::Defined(host) => {
            let driven_otherwise = host.spec.driver != spec.driver;
            if driven_otherwise && !(host.orders.open.is_empty() && host.reads.is_empty()) {
                return Err(in_use(host, context));
            }
            let mut sends = Vec::new();
            if host.spec.mover != spec.mover {
                sends.push(to_mover(&host.spec.mover, mover::Command::Unregister, context));
            }
            // Registering again makes the mover say whether the agent is there, and the agent is told the driver anew.
            sends.push(register);
            Ok(Decision { events: vec![event], sends })
        }
    }
}

/// VMs that run under a right that was granted to this host.
fn running_by_grant(host: &Defined) -> usize {
    let runs = |vm: &VmName| host.inventory.get(vm).is_some_and(|facts| facts.running);
    let granted = host.rights.values().filter(|right| right.epoch.counter > 0);
    granted
        .filter(|right| match &right.holder {
            super::Holder::Here { vm } => runs(vm),
            super::Holder::Elsewhere => false,
        })
        .count()
}

fn in_use(host: &Defined, context: &Context) -> Rejection {
    Rejection::InUse {
        host: me(context).clone(),
        orders: host.orders.open.len(),
        reads: host.reads.len(),
        protected: host.protected.len(),
        running: running_by_grant(host),
    }
}

fn remove(host: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    let busy = !host.orders.open.is_empty() || !host.reads.is_empty();
    if busy || !host.protected.is_empty() || running_by_grant(host) > 0 {
        return Err(in_use(host, context));
    }
    let unregister = to_mover(&host.spec.mover, mover::Command::Unregister, context);
    Ok(Decision::event(Event::Removed).and_send(unregister))
}

fn agent_ready(
    host: &Defined,
    (incarnation, endpoint): (Lineage, &Endpoint),
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    if context.from != context.here(Kind::Mover, &host.spec.mover) {
        return Err(Rejection::NotMyMover { from: context.from.clone() });
    }
    let new = host.link.is_new(incarnation);
    let mut draft = draft(host, context).agent_known();
    draft.event(Event::AgentSeen { incarnation, endpoint: endpoint.clone() });
    // Epochs come before any order: the agent refuses to power anything on until it has been told.
    draft.tell(agent::Command::ServeHost {
        host: me(context).clone(),
        driver: host.spec.driver.clone(),
        epochs: host.rights.iter().map(|(origin, right)| (origin.clone(), right.epoch.clone())).collect(),
    });
    for open in host.orders.open.values().filter(|_| new) {
        draft.tell(agent::Command::Run(Box::new(open.order.clone())));
    }
    draft.event(Event::ReturnBegan);
    if !inventory::listing(host) {
        inventory::order(host, &mut draft, context);
    }
    Ok(draft.done())
}

fn task_ended(
    host: &Defined,
    task: &TaskId,
    outcome: &Outcome,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    from_my_agent(host, context)?;
    match host.orders.find(task) {
        None => Err(Rejection::TaskUnknown { task: task.clone() }),
        Some(open) => Ok(ended(host, open, outcome, context)),
    }
}

/// What follows from the end of an order, by what it was for.
fn ended(host: &Defined, open: &Open<Work>, outcome: &Outcome, context: &Context) -> Decision<Event> {
    let ordinal = open.order.task.ordinal;
    let failure = failure_of(outcome);
    let mut draft = draft(host, context);
    match &open.work {
        Work::Discover => inventory::page(host, ordinal, outcome, &mut draft, context),
        Work::BeginRead { vm, reader } => {
            let begun = reads::Begun { ordinal, vm, reader };
            reads::begun(host, &begun, outcome, &mut draft, context);
        }
        Work::EndRead { vm, reader } => {
            draft.event(Event::OrderEnded { ordinal, failure: failure.clone() });
            reads::ended((vm, reader), failure, &mut draft, context);
        }
        Work::Create { .. } => {
            draft.event(Event::OrderEnded { ordinal, failure: failure.clone() });
            power::created(&open.work, failure, &mut draft, context);
        }
        Work::Start { vm, asker } => {
            draft.event(Event::OrderEnded { ordinal, failure: failure.clone() });
            let fence = power::fence_of(host, open, vm, context);
            power::started(host, (vm, asker.as_ref(), fence), failure, &mut draft, context);
        }
        Work::Stop { vm, asker } => {
            draft.event(Event::OrderEnded { ordinal, failure: failure.clone() });
            let (_, epoch) = power::fence_of(host, open, vm, context);
            power::stopped(host, (vm, asker, epoch), failure, &mut draft, context);
        }
        Work::Write { vm: _ } => draft.event(Event::OrderEnded { ordinal, failure }),
    }
    draft.done()
}

fn wake(host: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    let mut draft = draft(host, context);
    if host.link.again.is_some_and(|again| again <= context.now) {
        draft.event(Event::RegisteredAgain);
        let mover = context.here(Kind::Mover, &host.spec.mover);
        draft.send(mover, Message::Mover(mover::Command::Register));
    }
    reads::end_due(host, &mut draft, context);
    question::due(host, &mut draft, context);
    if host.discovery_due.is_some_and(|due| due <= context.now) {
        inventory::due(host, &mut draft, context);
    }
    let decision = draft.done();
    if decision.is_empty() { Err(Rejection::NotDue) } else { Ok(decision) }
}

fn refused_by(host: &Defined, refused: &Refused, context: &Context) -> Result<Decision<Event>, Rejection> {
    let (by, code) = (&refused.by, refused.refusal.code.clone());
    if let Message::Agent(agent::Command::Run(order)) = &refused.message
        && *by == context.here(Kind::Agent, &host.spec.mover)
        && let Some(open) = host.orders.find(&order.task)
    {
        return Ok(ended(host, open, &Outcome::Failed(as_failure(&refused.refusal)), context));
    }
    if let Message::Mover(mover::Command::Register) = &refused.message
        && *by == context.here(Kind::Mover, &host.spec.mover)
    {
        let again = host.link.again_at(context.now);
        return Ok(Decision::event(Event::RegisterRefused { code, again }));
    }
    // A reader that does not want its snapshot has ended: it must not stay for ever.
    if let Some(vm) = read_prepared(&refused.message)
        && reads::standing(host, (vm, by))
    {
        return Ok(reads::end(host, (vm, by), context));
    }
    if let Message::Replica(replica::Command::WhoRuns { vm, .. }) = &refused.message
        && question::awaited(host, vm, by)
    {
        return Ok(Decision::event(Event::QuestionRefused { vm: vm.clone(), replica: by.clone(), code }));
    }
    Err(unexpected(refused))
}

fn read_prepared(message: &Message) -> Option<&VmName> {
    if let Message::Session(session::Command::ReadPrepared { vm, .. })
    | Message::Replica(replica::Command::ReadPrepared { vm, .. }) = message
    {
        return Some(vm);
    }
    None
}

fn unexpected(refused: &Refused) -> Rejection {
    Rejection::RefusalUnexpected { by: refused.by.clone(), code: refused.refusal.code.clone() }
}

/// Tells a session or replica that what it asked of this host could not be done.
pub(super) fn host_failed(draft: &mut HostDraft<'_>, to: &Address, vm: &VmName, failure: agent::Failure) {
    let vm = vm.clone();
    let body = if to.entity.kind == Kind::Replica {
        Message::Replica(replica::Command::HostFailed { vm, failure })
    } else {
        Message::Session(session::Command::HostFailed { vm, failure })
    };
    draft.send(to.clone(), body);
}
