use super::{Agent, Defined, Rejection, State};
use crate::decider::{Context, Decision, Input, Send};
use crate::refusal::{as_failure, failure_of};
use farshore_schemas::ids::{Address, Kind, Name, TaskId};
use farshore_schemas::messages::agent::{self, Endpoint, Order, Outcome, TaskSpec};
use farshore_schemas::messages::mover::{Command, Event, MoverSpec};
use farshore_schemas::messages::{Message, Refused, broker, host, replica, repository, session};

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
    match input {
        Input::Command(command) => command_to(state, command, context),
        Input::Refused(refused) => match state {
            State::Undefined { .. } => Err(unexpected(refused)),
            State::Defined(mover) => refused_by(mover, refused, context),
        },
        Input::Wake => Err(Rejection::NotDue),
    }
}

fn command_to(state: &State, command: &Command, context: &Context) -> Result<Decision<Event>, Rejection> {
    match command {
        Command::Define(spec) => define(state, spec, context),
        Command::Remove => remove(defined(state, context)?, context),
        Command::Hello { incarnation, endpoint, version, cores } => {
            let agent = Agent {
                incarnation: *incarnation,
                endpoint: endpoint.clone(),
                version: version.clone(),
                cores: *cores,
                under: Some(context.lineage),
                seen: context.now,
            };
            match state {
                State::Undefined { .. } => early_hello(agent, context),
                State::Defined(mover) => hello(mover, agent, context),
            }
        }
        Command::Register => register(defined(state, context)?, context),
        Command::Unregister => unregister(defined(state, context)?, context),
        Command::Assign { task, fence, spec } => {
            let order = Order { task: task.clone(), fence: fence.clone(), expires: None, spec: spec.as_ref().clone() };
            assign(defined(state, context)?, order, context)
        }
        Command::Cancel { task } => cancel(defined(state, context)?, task, context),
        Command::TaskEnded { task, outcome } => task_ended(defined(state, context)?, task, outcome, context),
        Command::Describe { broker, request: _ } => describe(defined(state, context)?, broker, context),
    }
}

fn defined<'a>(state: &'a State, context: &Context) -> Result<&'a Defined, Rejection> {
    match state {
        State::Undefined { .. } => Err(Rejection::Unknown { mover: me(context).clone() }),
        State::Defined(mover) => Ok(mover),
    }
}

fn me(context: &Context) -> &Name {
    &context.me.entity.name
}

/// The agent of this mover has its name.
fn my_agent(context: &Context) -> Address {
    context.here(Kind::Agent, me(context))
}

/// There is one broker per site, of this name.
fn my_broker(context: &Context) -> Address {
    let name = Name::parse("broker").expect("a legal name");
    context.here(Kind::Broker, &name)
}

fn from_my_agent(context: &Context) -> Result<(), Rejection> {
    if context.from == my_agent(context) { Ok(()) } else { Err(Rejection::NotMyAgent { from: context.from.clone() }) }
}

fn mover_is(to: Address, spec: Option<&MoverSpec>, endpoint: Option<Endpoint>, context: &Context) -> Send {
    let mover = me(context).clone();
    Send::new(to, Message::Broker(broker::Command::MoverIs { mover, spec: spec.cloned(), endpoint }))
}

fn endpoint_of(agent: Option<&Agent>) -> Option<Endpoint> {
    agent.map(|agent| agent.endpoint.clone())
}

fn define(state: &State, spec: &MoverSpec, context: &Context) -> Result<Decision<Event>, Rejection> {
    if spec.roles.is_empty() || spec.slots == 0 {
        return Err(Rejection::Useless { mover: me(context).clone() });
    }
    let agent = match state {
        State::Undefined { agent } => agent.as_ref(),
        State::Defined(mover) => mover.agent.as_ref(),
    };
    let told = mover_is(my_broker(context), Some(spec), endpoint_of(agent), context);
    Ok(Decision::event(Event::Defined { spec: spec.clone() }).and_send(told))
}

fn remove(mover: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    if !mover.tasks.is_empty() || !mover.registered.is_empty() {
        return Err(Rejection::InUse {
            mover: me(context).clone(),
            tasks: mover.tasks.len(),
            named_by: mover.registered.iter().cloned().collect(),
        });
    }
    Ok(Decision::event(Event::Removed).and_send(mover_is(my_broker(context), None, None, context)))
}

pub(super) fn welcome(agent: &Agent, context: &Context) -> Send {
    Send::new(my_agent(context), Message::Agent(agent::Command::Welcome { incarnation: agent.incarnation }))
}

pub(super) fn resume(state: &State, agent: &Agent, context: &Context) -> Decision<Event> {
    let decision = Decision::none().and_send(welcome(agent, context));
    if agent.under.is_none_or(|under| under == context.lineage) {
        return decision;
    }
    let told = match state {
        State::Undefined { .. } => None,
        State::Defined(mover) => Some(mover_is(my_broker(context), Some(&mover.spec), None, context)),
    };
    let events = vec![Event::AgentAwaited];
    Decision { events, sends: decision.sends.into_iter().chain(told).collect() }
}

/// An agent may come before its mover is defined, and says hello only when it connects: it is welcomed and remembered.
fn early_hello(agent: Agent, context: &Context) -> Result<Decision<Event>, Rejection> {
    from_my_agent(context)?;
    let welcome = welcome(&agent, context);
    let Agent { incarnation, endpoint, version, cores, under, seen: at } = agent;
    Ok(Decision::event(Event::AgentSeen { incarnation, endpoint, version, cores, under, at }).and_send(welcome))
}

fn hello(mover: &Defined, agent: Agent, context: &Context) -> Result<Decision<Event>, Rejection> {
    from_my_agent(context)?;
    let new = mover.agent.as_ref().is_none_or(|known| known.incarnation != agent.incarnation);
    let to_agent = |command| Send::new(my_agent(context), Message::Agent(command));
    let mut sends = vec![
        welcome(&agent, context),
        mover_is(my_broker(context), Some(&mover.spec), Some(agent.endpoint.clone()), context),
    ];
    sends.extend(mover.registered.iter().filter_map(|who| agent_ready(who, &agent)));
    // The same incarnation has its table, and the channel has what is on its way: nothing is repeated.
    for task in mover.tasks.values().filter(|_| new) {
        sends.push(to_agent(agent::Command::Run(Box::new(task.order.clone()))));
        if task.cancelling {
            sends.push(to_agent(agent::Command::Cancel { task: task.order.task.clone() }));
        }
    }
    let Agent { incarnation, endpoint, version, cores, under, seen: at } = agent;
    Ok(Decision { events: vec![Event::AgentSeen { incarnation, endpoint, version, cores, under, at }], sends })
}

/// Tells a host or repository that the agent is there; none for other kinds, which cannot be registered.
fn agent_ready(who: &Address, agent: &Agent) -> Option<Send> {
    let (incarnation, endpoint) = (agent.incarnation, agent.endpoint.clone());
    let body = match who.entity.kind {
        Kind::Host => Message::Host(host::Command::AgentReady { incarnation, endpoint }),
        Kind::Repository => Message::Repository(repository::Command::AgentReady { incarnation, endpoint }),
        Kind::Site
        | Kind::Mover
        | Kind::Broker
        | Kind::Job
        | Kind::Session
        | Kind::Replica
        | Kind::Plan
        | Kind::Agent
        | Kind::Api => return None,
    };
    Some(Send::new(who.clone(), body))
}

fn register(mover: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    let who = context.from.clone();
    if who.site != context.me.site || !matches!(who.entity.kind, Kind::Host | Kind::Repository) {
        return Err(Rejection::RegistrantKind { from: who });
    }
    let told = mover.agent.as_ref().and_then(|agent| agent_ready(&who, agent));
    Ok(Decision { events: vec![Event::Registered { who }], sends: told.into_iter().collect() })
}

fn unregister(mover: &Defined, context: &Context) -> Result<Decision<Event>, Rejection> {
    let who = context.from.clone();
    if !mover.registered.contains(&who) {
        return Err(Rejection::NotRegistered { from: who });
    }
    Ok(Decision::event(Event::Unregistered { who }))
}

fn assign(mover: &Defined, order: Order, context: &Context) -> Result<Decision<Event>, Rejection> {
    let (task, from) = (order.task.clone(), context.from.clone());
    if !matches!(from.entity.kind, Kind::Session | Kind::Replica) {
        return Err(Rejection::OwnerKind { from });
    }
    if task.owner != from {
        return Err(Rejection::ForeignTask { task, from });
    }
    if !is_mover_task(&order.spec) {
        return Err(Rejection::WrongTask { task });
    }
    if mover.tasks.contains_key(&task) {
        return Err(Rejection::TaskOpen { task });
    }
    // Until its first hello the agent has not been told what it must enforce: the hello sends what is open.
    let run = mover.agent.as_ref().map(|_| agent::Command::Run(Box::new(order.clone())));
    let sends = run.map(|run| Send::new(my_agent(context), Message::Agent(run))).into_iter().collect();
    Ok(Decision { events: vec![Event::Assigned { order: Box::new(order) }], sends })
}

/// Power, snapshots and the repository's own work belong to the host and repository actors, whose guards must not be
/// gone round.
fn is_mover_task(spec: &TaskSpec) -> bool {
    match spec {
        TaskSpec::BackupDisk { .. }
        | TaskSpec::RestoreDisk { .. }
        | TaskSpec::SendDisk { .. }
        | TaskSpec::ReceiveDisk { .. }
        | TaskSpec::SealReplicaPoint { .. }
        | TaskSpec::RollBackReplica { .. }
        | TaskSpec::MakeWorking { .. }
        | TaskSpec::DropWorking { .. }
        | TaskSpec::AbsorbWorking { .. }
        | TaskSpec::DropReplica { .. } => true,
        TaskSpec::Discover { .. }
        | TaskSpec::SnapshotBegin { .. }
        | TaskSpec::SnapshotEnd { .. }
        | TaskSpec::PowerOn { .. }
        | TaskSpec::PowerOff { .. }
        | TaskSpec::CreateVm { .. }
        | TaskSpec::GuestWrite { .. }
        | TaskSpec::OpenAccess { .. }
        | TaskSpec::CloseAccess { .. }
        | TaskSpec::CommitPoint { .. }
        | TaskSpec::PrunePoints { .. }
        | TaskSpec::KeepLog { .. }
        | TaskSpec::VerifyPoint { .. } => false,
    }
}

fn cancel(mover: &Defined, task: &TaskId, context: &Context) -> Result<Decision<Event>, Rejection> {
    let Some(open) = mover.tasks.get(task) else {
        return Err(Rejection::TaskUnknown { task: task.clone() });
    };
    if context.from != task.owner {
        return Err(Rejection::ForeignTask { task: task.clone(), from: context.from.clone() });
    }
    if open.cancelling {
        return Err(Rejection::Cancelling { task: task.clone() });
    }
    match &mover.agent {
        None => Ok(end(task, &Outcome::Cancelled)), // It was never sent.
        Some(_) => {
            let command = agent::Command::Cancel { task: task.clone() };
            let told = Send::new(my_agent(context), Message::Agent(command));
            Ok(Decision::event(Event::CancelAsked { task: task.clone() }).and_send(told))
        }
    }
}

fn task_ended(
    mover: &Defined,
    task: &TaskId,
    outcome: &Outcome,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    from_my_agent(context)?;
    if !mover.tasks.contains_key(task) {
        return Err(Rejection::TaskUnknown { task: task.clone() });
    }
    Ok(end(task, outcome))
}

/// The end of a task: the owner is told. `assign` lets only sessions and replicas own tasks.
fn end(task: &TaskId, outcome: &Outcome) -> Decision<Event> {
    let ended = Event::TaskEnded { task: task.clone(), failure: failure_of(outcome) };
    let (owner, task, outcome) = (task.owner.clone(), task.clone(), outcome.clone());
    let body = if owner.entity.kind == Kind::Replica {
        Message::Replica(replica::Command::TaskEnded { task, outcome })
    } else {
        Message::Session(session::Command::TaskEnded { task, outcome })
    };
    Decision::event(ended).and_send(Send::new(owner, body))
}

fn describe(mover: &Defined, broker: &Address, context: &Context) -> Result<Decision<Event>, Rejection> {
    if context.from != *broker || broker.entity.kind != Kind::Broker {
        return Err(Rejection::NotTheBroker { from: context.from.clone() });
    }
    let told = mover_is(broker.clone(), Some(&mover.spec), endpoint_of(mover.agent.as_ref()), context);
    Ok(Decision::none().and_send(told))
}

fn refused_by(mover: &Defined, refused: &Refused, context: &Context) -> Result<Decision<Event>, Rejection> {
    let (by, code) = (&refused.by, &refused.refusal.code);
    if let Message::Agent(agent::Command::Run(order)) = &refused.message {
        let open = *by == my_agent(context) && mover.tasks.contains_key(&order.task);
        let outcome = Outcome::Failed(as_failure(&refused.refusal));
        return if open { Ok(end(&order.task, &outcome)) } else { Err(unexpected(refused)) };
    }
    if let Message::Session(session::Command::TaskEnded { task, .. })
    | Message::Replica(replica::Command::TaskEnded { task, .. }) = &refused.message
    {
        return Ok(Decision::event(Event::OutcomeUnwanted { task: task.clone(), code: code.clone() }));
    }
    if mover.registered.contains(by) && names_me_no_more(code) {
        return Ok(Decision::event(Event::Unregistered { who: by.clone() }));
    }
    Err(unexpected(refused))
}

/// What a host or repository answers to `AgentReady` once it is gone, or has another mover.
fn names_me_no_more(code: &str) -> bool {
    ["FS-HOST-UNKNOWN", "FS-HOST-NOT-MY-MOVER", "FS-REPOSITORY-UNKNOWN", "FS-REPOSITORY-NOT-MY-MOVER"].contains(&code)
}

fn unexpected(refused: &Refused) -> Rejection {
    Rejection::RefusalUnexpected { by: refused.by.clone(), code: refused.refusal.code.clone() }
}
