//! The repository's story, small enough that a hundred thousand seeds take minutes: writers that come and go, a retention that
//! keeps little, so that prunes meet sessions, restores in flight, an agent that crashes, forgets, stalls for hours or has
//! its clock set, a control that crashes, a log put back from an old copy, and two control planes on one folder.
//!
//! The rules are the production ones: the repository actor decides, and the simulated folder does what the agent's repository
//! does. What carries messages is simple here: each channel keeps its order and says again what did not arrive, which is what the kernel
//! promises. The demo's scenario runs the kernel itself.

mod agent;
mod check;
mod control;
mod reader;
mod writer;

use crate::bug::Chosen;
use crate::checkers::{Checkers, Violation};
use crate::choices::{Choice, Choices, Draw};
use crate::faults::{Fault, Faults};
use crate::layout::{self, BEGIN};
use crate::report::Totals;
use crate::schedule::Schedule;
use crate::trace::Trace;
use crate::world::World;
use crate::world::repository::RepositoryWorld;
use agent::Agent;
use check::Truth;
use control::Control;
use farshore_schemas::ids::{Address, Digest, Lineage, TaskId};
use farshore_schemas::messages::agent::{Command as ToAgent, Outcome};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::Command;
use farshore_schemas::messages::session;
use reader::Reader;
use std::collections::{BTreeMap, VecDeque};
use writer::Writer;

/// Writers.
const WRITERS: usize = 4;
/// Runs that each writer makes at least.
const RUNS: u64 = 4;
/// A story that takes more steps than this does not come to its end.
const MOST_STEPS: u64 = 60_000;
pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// How often chance looks for something to break.
const CHAOS_EVERY: u64 = 10 * MINUTE;

/// What can happen.
#[derive(Debug)]
enum Event {
    /// The next message of a channel arrives, if its end is up.
    Arrive(Channel),
    /// A control wants to be woken.
    Wake(usize),
    /// A control starts.
    ControlStarts(usize),
    /// An agent starts, unless it crashed since.
    AgentStarts { agent: usize, life: u64 },
    /// A task of an agent comes to its end.
    Task { agent: usize, life: u64, task: TaskId },
    /// A writer goes on.
    Write { writer: usize, turn: u64 },
    /// A restore goes on.
    Read { turn: u64 },
    /// Chance looks round.
    Chaos,
    /// Operators look round.
    Operators,
}

/// Who a channel leads to, and who sends on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Channel {
    from: Address,
    to: To,
}

/// An end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Control(usize),
    Agent(usize),
    Writer(usize),
    Reader,
}

/// A message.
#[derive(Debug, Clone)]
enum Mail {
    Ask(Box<Command>),
    Order(Lineage, Box<ToAgent>),
    Tell(Box<session::Command>),
}

/// A run.
pub(crate) struct Vault {
    schedule: Schedule<Event>,
    choices: Choices,
    faults: Faults,
    bug: Chosen,
    trace: Trace,
    checks: Checkers,
    truth: Truth,
    world: World,
    controls: Vec<Control>,
    agents: Vec<Agent>,
    writers: Vec<Writer>,
    reader: Reader,
    mail: BTreeMap<Channel, VecDeque<Mail>>,
    /// Which control plane the folder's owner speaks for now.
    owner: usize,
    keep: Keep,
    healed: bool,
    steps: u64,
    decisions: u64,
    sent: u64,
    sweeps: u64,
}

/// What came of a run.
pub(crate) struct Ended {
    pub(crate) choices: Vec<Choice>,
    pub(crate) trace: Digest,
    pub(crate) violations: Vec<Violation>,
    pub(crate) totals: Totals,
    pub(crate) words: Vec<String>,
}

/// The faults that this story knows.
const KINDS: [Fault; 11] = [
    Fault::Delay,
    Fault::ControlCrash,
    Fault::AgentCrash,
    Fault::MemoryLoss,
    Fault::OldCopy,
    Fault::TaskFailure,
    Fault::SlowTask,
    Fault::Stall,
    Fault::ClockJump,
    Fault::TwoControls,
    Fault::Operator,
];

/// Plays the story of a seed to its end.
pub(crate) fn play(seed: u64, mut choices: Choices, (bug, words): (Chosen, bool)) -> Ended {
    let faults = Faults::draw_of(&KINDS, &mut choices);
    let keep = keep(choices.between(Draw::Knob, 1, 4));
    let mut world = World::default();
    world.repositories.insert(layout::vault(), RepositoryWorld::default());
    let mut vault = Vault {
        schedule: Schedule::new(seed, BEGIN),
        faults,
        bug,
        trace: Trace::new(words),
        checks: Checkers::default(),
        truth: Truth::default(),
        world,
        controls: vec![Control::new(Lineage(choices.bytes()))],
        agents: vec![Agent::new(Lineage(choices.bytes()))],
        writers: (0..WRITERS).map(|n| Writer::new(n, &mut choices)).collect(),
        reader: Reader::default(),
        mail: BTreeMap::new(),
        owner: 0,
        keep,
        healed: false,
        steps: 0,
        decisions: 0,
        sent: 0,
        sweeps: 0,
        choices,
    };
    vault.begin();
    while !vault.is_over() {
        vault.step();
    }
    vault.look_back();
    vault.ended()
}

/// What retention keeps: little, so that prunes meet sessions, by count or by dates.
fn keep(which: u64) -> Keep {
    let zone = "Europe/Vienna".to_owned();
    match which {
        1 => Keep::newest(1),
        2 => Keep::newest(2),
        3 => Keep { days: Some(1), weekly: Some(1), zone, ..Keep::newest(1) },
        _ => Keep { points: None, weekly: Some(1), monthly: Some(2), zone, ..Keep::newest(1) },
    }
}

impl Vault {
    fn begin(&mut self) {
        self.define(0);
        self.schedule.after(1, Event::AgentStarts { agent: 0, life: 0 });
        for writer in 0..WRITERS {
            let wait = self.choices.between(Draw::Task, 1, 2 * HOUR);
            self.schedule.after(wait, Event::Write { writer, turn: 0 });
        }
        self.schedule.after(3 * HOUR, Event::Read { turn: 0 });
        self.schedule.after(CHAOS_EVERY, Event::Chaos);
        self.schedule.after(HOUR, Event::Operators);
    }

    fn ended(mut self) -> Ended {
        let totals = Totals {
            steps: self.steps,
            decisions: self.decisions,
            messages: self.sent,
            simulated_ms: u64::try_from(self.schedule.now() - BEGIN).unwrap_or(0),
            faults: self.faults.injected.clone(),
            goals_given_up: 0,
        };
        Ended {
            trace: self.trace.finish(self.choices.recorded()),
            violations: std::mem::take(&mut self.checks.violations),
            choices: self.choices.recorded().to_vec(),
            totals,
            words: self.trace.take_lines(),
        }
    }

    fn now(&self) -> i64 {
        self.schedule.now()
    }

    fn folder(&mut self) -> &mut RepositoryWorld {
        self.world.repositories.get_mut(&layout::vault()).expect("it was furnished")
    }

    fn step(&mut self) {
        let Some(event) = self.schedule.pop() else { return };
        self.steps += 1;
        let now = self.now();
        self.checks.at(self.steps, now);
        let changes = matches!(event, Event::Task { .. } | Event::Chaos);
        match event {
            Event::Arrive(channel) => self.arrive(channel),
            Event::Wake(control) => self.wake(control),
            Event::ControlStarts(control) => self.control_starts(control),
            Event::AgentStarts { agent, life } => self.agent_starts(agent, life),
            Event::Task { agent, life, task } => self.task_ends(agent, life, &task),
            Event::Write { writer, turn } => self.write(writer, turn),
            Event::Read { turn } => self.read(turn),
            Event::Chaos => self.chaos(),
            Event::Operators => self.operators(),
        }
        for wrong in std::mem::take(&mut self.world.wrongs) {
            self.checks.violate("P6", wrong);
        }
        if changes {
            self.folder_is_whole();
        }
    }

    /// Puts a message into its channel. Channels keep their order; a message that is late makes those behind it late.
    fn post(&mut self, from: &Address, to: To, mail: Mail) {
        self.sent += 1;
        let late = self.faults.strikes(Fault::Delay, Draw::Bus, &mut self.choices);
        let wait = self.choices.between(Draw::Bus, 1, if late { 30 * MINUTE } else { 50 });
        let channel = Channel { from: from.clone(), to };
        self.mail.entry(channel.clone()).or_default().push_back(mail);
        self.schedule.after(wait, Event::Arrive(channel));
    }

    fn arrive(&mut self, channel: Channel) {
        let up = match channel.to {
            To::Control(control) => self.controls[control].up,
            To::Agent(agent) => self.agents[agent].is_awake(self.now()),
            To::Writer(_) | To::Reader => true,
        };
        let lost = matches!(channel.to, To::Control(control) if self.healed && control != self.owner);
        if lost || !self.mail.contains_key(&channel) {
            self.mail.remove(&channel);
            return;
        }
        if !up {
            // It is said again until it is heard.
            let wait = self.choices.between(Draw::Bus, SECOND, MINUTE);
            self.schedule.after(wait, Event::Arrive(channel));
            return;
        }
        let Some(mail) = self.mail.get_mut(&channel).and_then(VecDeque::pop_front) else { return };
        let now = self.now();
        self.trace.step(now, "mail", self.sent);
        match (mail, channel.to) {
            (Mail::Ask(command), To::Control(control)) => self.control_hears(control, &channel.from, *command),
            (Mail::Order(lineage, order), To::Agent(agent)) => self.agent_hears(agent, lineage, *order),
            (Mail::Tell(told), To::Writer(writer)) => self.writer_hears(writer, &channel.from, *told),
            (Mail::Tell(told), To::Reader) => self.reader_hears(*told),
            (Mail::Ask(_) | Mail::Order(..) | Mail::Tell(_), _) => {}
        }
    }

    fn chaos(&mut self) {
        if self.healed {
            return;
        }
        self.schedule.after(CHAOS_EVERY, Event::Chaos);
        for control in 0..self.controls.len() {
            if self.controls[control].up && self.strikes(Fault::ControlCrash) {
                self.controls[control].up = false;
                let wait = self.choices.between(Draw::Crash, SECOND, HOUR);
                self.schedule.after(wait, Event::ControlStarts(control));
            }
        }
        for control in 0..self.controls.len() {
            if self.controls[control].up && self.strikes(Fault::Operator) {
                self.break_an_access(control);
            }
        }
        for control in 0..self.controls.len() {
            if self.strikes(Fault::ClockJump) {
                let ahead = self.choices.between(Draw::Crash, 0, 100 * HOUR);
                self.set_clock(control, i64::try_from(ahead).unwrap_or(0));
            }
        }
        for agent in 0..self.agents.len() {
            if self.strikes(Fault::AgentCrash) {
                self.agent_crashes(agent);
            }
            if self.strikes(Fault::Stall) {
                let span = self.choices.between(Draw::Crash, MINUTE, 8 * HOUR);
                self.agents[agent].stalled = self.schedule.now().saturating_add_unsigned(span);
            }
            if self.strikes(Fault::ClockJump) {
                self.agents[agent].clock_ahead += self.choices.between(Draw::Crash, MINUTE, 100 * HOUR);
            }
        }
        // The copy knows whose the folder is, or it would rightly be refused for good.
        let lineage = Some(self.controls[0].lineage);
        let settled = self.folder().owner == lineage && self.agents[0].control == lineage;
        if settled && self.controls.len() == 1 && self.sweeps > 0 && self.strikes(Fault::TwoControls) {
            self.second_control();
        }
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.strikes(fault, Draw::Crash, &mut self.choices)
    }

    /// Operators mend everything once the writers have done their work, and end what nobody else can.
    fn operators(&mut self) {
        self.schedule.after(HOUR, Event::Operators);
        let done = self.writers.iter().all(|writer| writer.runs >= RUNS) && self.sweeps >= 2;
        if !self.healed && (done || self.steps > MOST_STEPS / 2) {
            self.healed = true;
            self.faults.heal();
            self.agents.iter_mut().for_each(|agent| agent.stalled = 0);
            // The control plane that has lost the folder would ask for its accesses' end for ever.
            let lost = (0..self.controls.len()).filter(|control| *control != self.owner);
            lost.collect::<Vec<_>>().into_iter().for_each(|control| self.controls[control].up = false);
        }
        for control in 0..self.controls.len() {
            self.break_dead_accesses(control);
        }
    }

    fn outcome_of(failure: &[Outcome]) -> Outcome {
        failure.first().cloned().unwrap_or(Outcome::Done)
    }

    /// Everything that was begun is over, and what was taken away is deleted.
    fn is_over(&mut self) -> bool {
        let writing = self.writers.iter().filter(|writer| !writer.is_idle()).count();
        let reading = !self.reader.is_idle();
        if self.steps > MOST_STEPS {
            let rest = self.controls[self.owner].unrest();
            let why = format!("{writing} writers at work, a restore in flight: {reading}, {rest}");
            self.checks.violate("liveness", format!("the story has not ended after {MOST_STEPS} steps: {why}"));
            return true;
        }
        let idle = writing == 0 && !reading;
        self.checks.enough() || (self.healed && idle && self.controls[self.owner].rests())
    }
}
