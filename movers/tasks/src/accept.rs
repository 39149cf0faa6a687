//! What becomes of a message from control that is the next one on its channel. The channel moves on whatever it says:
//! what cannot be obeyed is answered or counted, never left standing.

use crate::admission::{self, Standing};
use crate::record::{Fact, Refusal, RepositoryPlace};
use crate::state::State;
use crate::table::{Action, Batch, TaskTable, task_ended};
use farshore_schemas::envelope::{Envelope, Mark};
use farshore_schemas::ids::{Address, Digest, Kind, Lineage, Name, TaskId, VmRef};
use farshore_schemas::messages::agent::{Command, Failure, Order, Outcome};
use farshore_schemas::messages::host::{self, Driver};
use farshore_schemas::messages::{Epoch, Message};
use farshore_schemas::units::Timestamp;
use std::collections::BTreeMap;

/// Messages that control has under way to one receiver at most (the kernel's outbox).
const WINDOW: usize = 64;

impl TaskTable {
    /// Before the welcome of this incarnation nothing else is obeyed, and nothing is acked, so that control says it again.
    /// But control has no more than [`WINDOW`] messages under way: when so many in a row have come without the welcome
    /// among them, it stands behind them, and they are passed over to let it through. Nothing is lost by that: once it
    /// has welcomed an incarnation, control says again what is open.
    pub(crate) fn unwelcome(&mut self, envelope: &Envelope, now: Timestamp) -> Vec<Action> {
        let (lineage, number) = (envelope.channel.lineage, envelope.number);
        let refused = Action::Refuse(Refusal::BeforeWelcome { number });
        if self.early.0 != Some(lineage) {
            self.early = (Some(lineage), BTreeMap::new());
        }
        let early = &mut self.early.1;
        early.insert(number, envelope.digest());
        while early.len() > 2 * WINDOW {
            early.pop_first();
        }
        let Some((number, digest)) = full_window(early) else { return vec![refused] };
        self.early = (None, BTreeMap::new());
        let mut batch = Batch::new(&mut self.state, now);
        if batch.state.control != Some(lineage) {
            batch.add(Fact::ControlIs { lineage });
        }
        batch.add(Fact::Heard { lineage, mark: Mark { number, digest } });
        let facts = batch.facts;
        let ack = self.ack(&envelope.channel);
        self.commit(facts, vec![refused, ack], now)
    }

    /// Takes the next message. Everything that follows from it is one record.
    pub(crate) fn accept(&mut self, envelope: &Envelope, now: Timestamp) -> Vec<Action> {
        let lineage = envelope.channel.lineage;
        let before = self.state.control;
        let mut batch = Batch::new(&mut self.state, now);
        if before != Some(lineage) {
            batch.add(Fact::ControlIs { lineage });
        }
        batch.add(Fact::Heard { lineage, mark: Mark { number: envelope.number, digest: envelope.digest() } });
        let effects = obey(&mut batch, envelope);
        let facts = batch.facts;
        let mut rest = vec![self.ack(&envelope.channel)];
        rest.extend(effects);
        let mut actions = self.commit(facts, rest, now);
        // Control was put back to an earlier state: it may have lost what we said since, and has to be told anew.
        if before.is_some_and(|before| before != lineage) {
            actions.push(Action::Renew);
        }
        actions
    }
}

/// The last of [`WINDOW`] numbers in a row, if there are so many.
fn full_window(early: &BTreeMap<u64, Digest>) -> Option<(u64, Digest)> {
    let (mut run, mut before) = (0, None);
    for (number, digest) in early {
        run = if before == number.checked_sub(1) { run + 1 } else { 1 };
        before = Some(*number);
        if run == WINDOW {
            return Some((*number, *digest));
        }
    }
    None
}

fn obey(batch: &mut Batch<'_>, envelope: &Envelope) -> Vec<Action> {
    let (from, number) = (envelope.from.clone(), envelope.number);
    let late = envelope.expires.is_some_and(|expires| batch.now > expires);
    match &envelope.body {
        None => Vec::new(),
        Some(Message::Agent(Command::Run(order))) if late => {
            let expires = order.expires.min(envelope.expires).or(envelope.expires);
            run(batch, envelope, Order { expires, ..Order::clone(order) })
        }
        // What tells of rights, or ends work, is obeyed however late it comes.
        Some(Message::Agent(command)) => obey_command(batch, envelope, command),
        Some(Message::Refused(refused)) => {
            let code = refused.refusal.code.clone();
            vec![Action::Refuse(Refusal::AnswerRefused { by: refused.by.clone(), code })]
        }
        Some(
            Message::Site(_)
            | Message::Host(_)
            | Message::Mover(_)
            | Message::Repository(_)
            | Message::Broker(_)
            | Message::Job(_)
            | Message::Session(_)
            | Message::Replica(_)
            | Message::Plan(_),
        ) => vec![Action::Refuse(Refusal::Meaningless { from, number })],
    }
}

fn obey_command(batch: &mut Batch<'_>, envelope: &Envelope, command: &Command) -> Vec<Action> {
    match command {
        Command::Welcome { incarnation } => {
            if *incarnation == batch.state.incarnation && !batch.state.welcomed {
                batch.add(Fact::Welcomed);
            }
            Vec::new()
        }
        Command::ServeHost { host, driver, epochs } => serve_host(batch, (host.clone(), driver.clone()), epochs),
        Command::ServeRepository { repository, path, passphrase_file, lineage, formerly, adopted } => {
            let (path, passphrase_file, formerly) = (path.clone(), passphrase_file.clone(), formerly.clone());
            let place = RepositoryPlace { path, passphrase_file, lineage: *lineage, formerly, adopted: *adopted };
            batch.add(Fact::Repository { repository: repository.clone(), place: place.clone() });
            vec![serve_repository(batch.state, repository, &place)]
        }
        Command::Run(order) => run(batch, envelope, Order::clone(order)),
        Command::Cancel { task } => cancel(batch, &envelope.from, task),
    }
}

fn serve_host(batch: &mut Batch<'_>, (host, driver): (Name, Driver), epochs: &[(VmRef, Epoch)]) -> Vec<Action> {
    let mut effects = Vec::new();
    for (origin, epoch) in epochs {
        match admission::standing(batch.state, origin, epoch) {
            Standing::Higher => effects.extend(raise(batch, origin, epoch)),
            Standing::Held | Standing::Stale => {}
            Standing::Conflict => {
                let one = batch.state.epochs[origin].site.clone();
                let (origin, counter, other) = (origin.clone(), epoch.counter, epoch.site.clone());
                effects.push(Action::Refuse(Refusal::EpochConflict { origin, counter, one, other }));
            }
        }
    }
    tell_epochs(batch, &host, epochs);
    batch.add(Fact::Host { host: host.clone(), driver: driver.clone() });
    effects.push(Action::ServeHost { host, driver });
    effects
}

/// Control was put back to before it knew these epochs: it is told them before it can order anything under older ones.
fn tell_epochs(batch: &mut Batch<'_>, host: &Name, told: &[(VmRef, Epoch)]) {
    let told: BTreeMap<&VmRef, u64> = told.iter().map(|(origin, epoch)| (origin, epoch.counter)).collect();
    let newer = |(origin, epoch): &(&VmRef, &Epoch)| told.get(origin).is_none_or(|counter| *counter < epoch.counter);
    let known: Vec<(VmRef, Epoch)> = batch
        .state
        .epochs
        .iter()
        .filter(newer)
        .filter(|(_, epoch)| epoch.counter > 0)
        .map(|(origin, epoch)| (origin.clone(), epoch.clone()))
        .collect();
    let to = Address::new(&batch.state.site, Kind::Host, host);
    for epochs in known.chunks(host::EPOCHS_AT_ONCE) {
        batch.queue(&to, Message::Host(host::Command::AgentEpochs { epochs: epochs.to_vec() }), None);
    }
}

/// What this agent serves of repositories.
pub(crate) fn served_repositories(state: &State) -> impl Iterator<Item = Action> + '_ {
    state.repositories.iter().map(|(repository, place)| serve_repository(state, repository, place))
}

fn serve_repository(state: &State, repository: &Name, place: &RepositoryPlace) -> Action {
    let place = RepositoryPlace { formerly: formerly_of(state, &place.formerly), ..place.clone() };
    Action::ServeRepository { repository: repository.clone(), place }
}

/// Lineages that an owner had before: those that this agent's control spoke under, and those that the owner's log knows of. An
/// agent that is new, after both were lost, has heard none.
fn formerly_of(state: &State, told: &[Lineage]) -> Vec<Lineage> {
    let mut formerly = state.formerly();
    formerly.extend(told.iter().filter(|lineage| !state.formerly().contains(lineage)));
    formerly
}

/// Raises the highest epoch of a VM; what is under way under a lower one is stopped.
fn raise(batch: &mut Batch<'_>, origin: &VmRef, epoch: &Epoch) -> Vec<Action> {
    batch.add(Fact::Raised { origin: origin.clone(), epoch: epoch.clone() });
    let mut effects = vec![Action::Fence { origin: origin.clone(), epoch: epoch.clone() }];
    let overtaken =
        |order: &Order| order.fence.as_ref().is_some_and(|(vm, under)| vm == origin && under.counter < epoch.counter);
    let open = batch.state.open.values().filter(|task| overtaken(&task.order));
    effects.extend(open.map(|task| Action::Stop(task.order.task.clone())));
    effects
}

fn run(batch: &mut Batch<'_>, envelope: &Envelope, order: Order) -> Vec<Action> {
    let from = &envelope.from;
    if task_ended(from.entity.kind, &order.task, &Outcome::Done).is_none() {
        return vec![Action::Refuse(Refusal::Meaningless { from: from.clone(), number: envelope.number })];
    }
    if batch.state.open.contains_key(&order.task) {
        return Vec::new();
    }
    if batch.state.ended.contains_key(&order.task) {
        answer_again(batch, from, &order.task);
        return Vec::new();
    }
    let mut effects = Vec::new();
    // A higher epoch is a fact even if the order itself cannot be carried out.
    if let Some((origin, epoch)) = &order.fence
        && admission::standing(batch.state, origin, epoch) == Standing::Higher
    {
        effects = raise(batch, origin, epoch);
    }
    if let Some(failure) = admission::refused(batch.state, &order, batch.now) {
        batch.end(from, &order.task, vec![Outcome::Failed(failure)]);
        return effects;
    }
    batch.add(Fact::Accepted { from: from.clone(), order: Box::new(order.clone()) });
    effects.push(Action::Start(order));
    effects
}

/// An ended task is ordered again. As long as its answer stands in the outbox, or the control that asks has acked it,
/// nothing is said. A control that was put back to an earlier state has lost the answer, and gets it again.
fn answer_again(batch: &mut Batch<'_>, from: &Address, task: &TaskId) {
    let Some(ended) = batch.state.ended.get(task) else { return };
    if ended.acked.is_none() || ended.acked == batch.state.control {
        return;
    }
    let outcomes = ended.outcomes.clone().unwrap_or_else(|| vec![Outcome::Failed(forgotten(task))]);
    batch.end(from, task, outcomes);
}

fn forgotten(task: &TaskId) -> Failure {
    Failure {
        code: "FS-AGENT-OUTCOME-FORGOTTEN".to_owned(),
        message: format!("task {task} has ended here long ago, and how it ended is no longer remembered"),
        advice: "order the work again under a new task".to_owned(),
        transient: true,
    }
}

fn cancel(batch: &mut Batch<'_>, from: &Address, task: &TaskId) -> Vec<Action> {
    if let Some(open) = batch.state.open.get(task) {
        if open.cancelled {
            return Vec::new();
        }
        batch.add(Fact::Cancelled { task: task.clone() });
        return vec![Action::Stop(task.clone())];
    }
    // Never heard of (its order was said to an incarnation that is lost): it is cancelled from now on.
    if !batch.state.ended.contains_key(task) && task_ended(from.entity.kind, task, &Outcome::Cancelled).is_some() {
        batch.end(from, task, vec![Outcome::Cancelled]);
    }
    Vec::new()
}
