//! Drives the task table: one thread that takes what comes, makes durable what must be, and then does what follows, in
//! that order. Everything else in the agent talks to it by messages.

use crate::error::AgentError;
use crate::listener::{Listener, sweep};
use crate::pool::Pool;
use crate::record_log::RecordLog;
use crate::runners::{self, Lane};
use crate::shared::{Phase, Receiving, ServedRepository, Shared};
use crate::stop::{Stop, Told};
use crate::task::{Task, TaskError, failure};
use farshore_schemas::envelope::{Channel, Wire};
use farshore_schemas::ids::{Lineage, TaskId};
use farshore_schemas::messages::agent::{Order, Outcome, TaskSpec};
use farshore_schemas::subjects;
use farshore_schemas::units::Timestamp;
use farshore_tasks::{Action, Record, TaskTable};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Inputs that become durable together.
const TOGETHER: usize = 64;
/// How often it is looked for receiving tasks whose sender never came.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often it is kept how long trash has lain in repositories: what a restart can cost of that.
const COUNT_TRASH_EVERY: Duration = Duration::from_secs(600);

/// What comes to the engine.
pub(crate) enum Input {
    /// From the bus. How many of these wait is counted, and bounded where they are put in.
    Wire(Box<Wire>),
    /// From a runner, with whom to tell once it is durable.
    Ended(TaskId, Vec<Outcome>, Sender<()>),
    /// Stop, and leave everything as it is.
    Close,
}

/// Now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A fresh lineage.
pub(crate) fn mint() -> Lineage {
    Lineage(rand::random())
}

pub(crate) struct Engine {
    pub(crate) table: TaskTable,
    pub(crate) log: RecordLog,
    pub(crate) shared: Arc<Shared>,
    pub(crate) slots: Pool,
    pub(crate) quick: Pool,
    pub(crate) listener: Listener,
    pub(crate) inputs: Receiver<Input>,
    /// Wires that wait in `inputs`.
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) running: BTreeMap<TaskId, Arc<Stop>>,
    /// Whom to tell that the ends taken since the last append are durable.
    pub(crate) unkept: Vec<Sender<()>>,
    pub(crate) log_folder: PathBuf,
}

impl Engine {
    /// Runs until it is told to close, or the record log fails. Everything is stopped and joined when it returns.
    pub(crate) fn run(mut self, first: Vec<Action>) -> Result<(), AgentError> {
        let ended = self.perform(first).and_then(|()| self.drive());
        for stop in self.running.values() {
            stop.tell(Told::Closing);
        }
        for receiving in self.shared.tables().receiving.values() {
            receiving.stop.tell(Told::Closing);
        }
        self.listener.close();
        self.slots.close();
        self.quick.close();
        if let Err(error) = &ended {
            tracing::error!(folder = %self.log_folder.display(), %error, "the agent stopped");
        }
        ended
    }

    fn drive(&mut self) -> Result<(), AgentError> {
        let (mut swept, mut counted) = (Instant::now(), Instant::now());
        loop {
            let mut actions = Vec::new();
            match self.inputs.recv_timeout(self.patience()) {
                Ok(Input::Close) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(input) => self.take(input, &mut actions),
                Err(RecvTimeoutError::Timeout) => {}
            }
            for _ in 1..TOGETHER {
                match self.inputs.try_recv() {
                    Ok(Input::Close) => return Ok(()),
                    Ok(input) => self.take(input, &mut actions),
                    Err(_) => break,
                }
            }
            let due = self.table.tick(now());
            self.collect(due, &mut actions);
            self.perform(actions)?;
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                sweep(&self.shared, swept);
            }
            if counted.elapsed() >= COUNT_TRASH_EVERY {
                counted = Instant::now();
                let shared = self.shared.clone();
                self.quick.push(Box::new(move || {
                    shared.count_trash();
                    shared.keep_immutable();
                }));
            }
            if self.log.rewrite_due() {
                let snapshot = self.table.snapshot(now());
                self.log.rewrite(&snapshot)?;
            }
        }
    }

    /// How long nothing has to be done unless something comes.
    fn patience(&self) -> Duration {
        let until = |due: Timestamp| Duration::from_millis(due.since(now()).0);
        self.table.next_tick().map_or(SWEEP_EVERY, until).min(SWEEP_EVERY)
    }

    fn take(&mut self, input: Input, actions: &mut Vec<Action>) {
        let found = match input {
            Input::Wire(wire) => {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                self.table.receive(*wire, now())
            }
            Input::Ended(task, outcomes, keeper) => {
                self.running.remove(&task);
                self.unkept.push(keeper);
                self.shared.metrics.add_ended(1);
                self.table.ended(&task, outcomes, now())
            }
            Input::Close => Vec::new(),
        };
        self.collect(found, actions);
    }

    /// A renewal is asked for while later inputs may already stand behind it: it is answered at once.
    fn collect(&mut self, found: Vec<Action>, actions: &mut Vec<Action>) {
        for action in found {
            if action == Action::Renew {
                let incarnation = mint();
                tracing::warn!(%incarnation, "a new incarnation begins: control or this agent was put back to an earlier state");
                actions.extend(self.table.renew(incarnation, now()));
            } else {
                actions.push(action);
            }
        }
    }

    /// Makes every record durable, then does the rest in order.
    fn perform(&mut self, actions: Vec<Action>) -> Result<(), AgentError> {
        let mut records: Vec<Record> = Vec::new();
        let mut rest = Vec::new();
        for action in actions {
            if let Action::Persist(record) = action {
                records.push(record);
            } else {
                rest.push(action);
            }
        }
        self.log.append(&records)?;
        for keeper in self.unkept.drain(..) {
            // Most runners do not wait for it.
            let _ = keeper.send(());
        }
        if !records.is_empty() {
            self.shared.tables().accesses.clone_from(self.table.accesses());
        }
        rest.into_iter().for_each(|action| self.act(action));
        Ok(())
    }

    fn act(&mut self, action: Action) {
        match action {
            // Both are dealt with before.
            Action::Persist(_) | Action::Renew => {}
            Action::Ack(wire) => self.ack(&wire),
            Action::Send(envelope) => {
                let subject = subjects::inbox(&envelope.to);
                self.publish(&subject, &Wire::Deliver(Box::new(envelope)));
            }
            Action::Fence { origin, epoch } => {
                self.shared.tables().epochs.insert(origin, epoch);
            }
            Action::ServeHost { host, driver } => {
                self.shared.tables().hosts.insert(host, driver);
            }
            Action::ServeRepository { repository, place } => {
                let place = ServedRepository(place);
                let before = self.shared.tables().repositories.insert(repository.clone(), place.clone());
                if before.is_some_and(|before| before != place) {
                    self.shared.forget_repository(&repository);
                }
            }
            Action::Start(order) => self.start(order),
            Action::Stop(task) => self.stop(&task),
            Action::Refuse(refusal) => {
                self.shared.metrics.add_refused_messages(1);
                tracing::warn!("{refusal}");
            }
        }
    }

    fn ack(&self, wire: &Wire) {
        let channel: &Channel = match wire {
            Wire::Ack { channel, .. } | Wire::Fork { channel, .. } | Wire::Probe { channel, .. } => channel,
            Wire::Deliver(envelope) => &envelope.channel,
            Wire::Progress { .. } => return,
        };
        self.publish(&subjects::acks(&channel.site, &channel.sender), wire);
    }

    fn publish(&self, subject: &str, wire: &Wire) {
        if let Err(error) = farshore_bus::send_wire(self.shared.bus.as_ref(), subject, wire) {
            // It is said again: what stands in the outbox by its pace, an ack when control asks again.
            tracing::debug!(%error, "a message did not leave");
        }
    }

    fn start(&mut self, order: Order) {
        let stop = Arc::new(Stop::default());
        self.running.insert(order.task.clone(), stop.clone());
        self.shared.metrics.add_started(1);
        let lane = runners::lane(&order.spec);
        if let (Lane::Listener, TaskSpec::ReceiveDisk { peer, .. }) = (lane, &order.spec) {
            let (id, peer) = (order.task.clone(), *peer);
            let phase = Phase::Waiting(Instant::now());
            self.shared.tables().receiving.insert(id, Receiving { order, peer, stop, phase });
            return;
        }
        let task = Task::new(self.shared.clone(), order, stop);
        let pool = if lane == Lane::Slot { &self.slots } else { &self.quick };
        pool.push(Box::new(move || carry_out(&task)));
    }

    fn stop(&mut self, id: &TaskId) {
        if let Some(stop) = self.running.get(id) {
            stop.tell(Told::Cancelled);
        }
        // A receiving task without a sender has nobody else to end it.
        let mut tables = self.shared.tables();
        let idle = tables.receiving.get(id).is_some_and(|receiving| matches!(receiving.phase, Phase::Waiting(_)));
        if idle {
            tables.receiving.remove(id);
            drop(tables);
            (self.shared.ended)(id.clone(), vec![Outcome::Cancelled]);
        }
    }
}

/// Runs a task and tells its end. A panic is a defect of ours: it costs the task, not the agent.
fn carry_out(task: &Task) {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runners::run(task)));
    let end = ran.unwrap_or_else(|_| {
        let message = format!("task {} met a defect in the agent and was given up", task.order.task);
        Err(TaskError::Failed(failure("FS-AGENT-PANIC", message, "report this defect with the agent's log", false)))
    });
    if let Some(outcomes) = task.outcome(end) {
        (task.shared.ended)(task.order.task.clone(), outcomes);
    }
}
