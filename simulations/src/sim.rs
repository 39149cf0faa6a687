//! One run: everything that exists in it, and what can happen next. One thread, virtual time; all chance comes from
//! [`Choices`]. The two processes are driven in `control.rs` and `agent.rs`, the bus is in `bus.rs`.

use crate::agent::Agent;
use crate::bug::Chosen;
use crate::checkers::Checkers;
use crate::choices::{Choices, Draw};
use crate::control::Control;
use crate::faults::{Fault, Faults};
use crate::layout::{self, AGENTS, BEGIN};
use crate::schedule::Schedule;
use crate::story::Story;
use crate::trace::Trace;
use crate::world::{Place, World};
use farshore_schemas::ids::{Address, EntityId, Name, SiteName, TaskId, VmName};
use farshore_schemas::messages::Message;
use farshore_schemas::units::Timestamp;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A process that messages go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The control of a site, by index.
    Control(usize),
    /// An agent, by index.
    Agent(usize),
}

/// What can happen. `life` tells processes from what they were before their last crash: what was meant for an earlier
/// life is gone.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes come out of the bus.
    Arrive { to: End, bytes: Rc<[u8]> },
    /// A control's sync returns.
    LogSynced { site: usize, life: u64, upto: usize },
    /// A control serves what its actors have said to each other.
    Serve { site: usize, life: u64 },
    /// An actor wants to be woken.
    Wake { site: usize, life: u64, actor: EntityId },
    /// A control looks for what is to be sent again.
    Resend { site: usize, life: u64 },
    /// A control starts.
    ControlStarts { site: usize, life: u64 },
    /// An agent's sync returns.
    RecordSynced { agent: usize, life: u64 },
    /// An agent looks for what is to be said again.
    Tick { agent: usize, life: u64 },
    /// A task goes on.
    Task { agent: usize, life: u64, task: TaskId },
    /// An agent starts.
    AgentStarts { agent: usize, life: u64 },
    /// A guest writes.
    Guest { place: Place, vm: VmName, run: u64 },
    /// Chance looks for processes to crash and links to cut.
    Chaos,
    /// The link between the sites comes back, unless it was cut again since.
    LinkBack { cut: u64 },
    /// The operators look at how far things are.
    Operators,
}

/// How often chance looks for processes to crash.
const CHAOS_EVERY: u64 = 10_000;

/// A run.
pub(crate) struct Sim {
    pub(crate) schedule: Schedule<Event>,
    pub(crate) choices: Choices,
    pub(crate) faults: Faults,
    pub(crate) bug: Chosen,
    pub(crate) trace: Trace,
    pub(crate) world: World,
    pub(crate) controls: Vec<Control>,
    pub(crate) agents: Vec<Agent>,
    /// Whether the sites reach each other, and how often the link was cut.
    pub(crate) link_up: bool,
    pub(crate) cuts: u64,
    pub(crate) checks: Checkers,
    pub(crate) story: Option<Story>,
    pub(crate) vms: usize,
    pub(crate) steps: u64,
    pub(crate) decisions: u64,
    pub(crate) sent: u64,
    /// Grows whenever something may have brought operators closer to a goal.
    pub(crate) activity: u64,
    /// What operators have defined, and keep outside the logs.
    pub(crate) definitions: Vec<(&'static str, Address, Message)>,
    /// Sites whose log was put back: operators apply the definitions there again.
    pub(crate) to_define: BTreeSet<usize>,
    /// Goals that operators gave up under faults.
    pub(crate) given_up: Vec<String>,
}

impl Sim {
    /// An installation that is switched on for the first time.
    pub(crate) fn new(seed: u64, mut choices: Choices, bug: Chosen, keep_words: bool) -> Self {
        let faults = Faults::draw(&mut choices);
        let vms = usize::try_from(choices.between(Draw::Knob, 1, 3)).expect("few");
        let controls = (0..2).map(|at| Control::new(&layout::site(at), &mut choices)).collect();
        let agents = (0..AGENTS.len()).map(Agent::new).collect();
        let mut sim = Sim {
            schedule: Schedule::new(seed, BEGIN),
            choices,
            faults,
            bug,
            trace: Trace::new(keep_words),
            world: layout::furnish(vms),
            controls,
            agents,
            link_up: true,
            cuts: 0,
            checks: Checkers::default(),
            story: None,
            vms,
            steps: 0,
            decisions: 0,
            sent: 0,
            activity: 0,
            definitions: Vec::new(),
            to_define: BTreeSet::new(),
            given_up: Vec::new(),
        };
        for n in 0..vms {
            let task = TaskId { ordinal: n as u64, ..no_task() };
            sim.world.power_on(&layout::host_a(), &layout::vm(n), None, &task);
        }
        sim.guests_began();
        (0..2).for_each(|site| sim.schedule.after(1, Event::ControlStarts { site, life: 0 }));
        (0..AGENTS.len()).for_each(|agent| sim.schedule.after(2, Event::AgentStarts { agent, life: 0 }));
        sim.schedule.after(50, Event::Operators);
        sim.schedule.after(CHAOS_EVERY, Event::Chaos);
        sim
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.schedule.now())
    }

    /// Lets the next thing happen. False when nothing is left.
    pub(crate) fn step(&mut self) -> bool {
        let Some(event) = self.schedule.pop() else { return false };
        self.steps += 1;
        self.checks.at(self.steps, self.schedule.now());
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        let now = self.schedule.now();
        self.activity += u64::from(!matches!(event, Event::Operators | Event::Chaos | Event::Guest { .. }));
        match event {
            Event::Arrive { to, bytes } => {
                self.trace.step(now, "arrive", bytes.len() as u64);
                match to {
                    End::Control(site) => self.control_hears(site, &bytes),
                    End::Agent(agent) => self.agent_hears(agent, &bytes),
                }
            }
            Event::LogSynced { site, life, upto } => {
                self.trace.step(now, "log", upto as u64);
                self.log_synced(site, life, upto);
            }
            Event::Serve { site, life } => self.serve(site, life),
            Event::Wake { site, life, actor } => self.wake(site, life, &actor),
            Event::Resend { site, life } => self.resend(site, life),
            Event::ControlStarts { site, life } => {
                self.trace.step(now, "control", site as u64);
                self.control_starts(site, life);
            }
            Event::RecordSynced { agent, life } => self.record_synced(agent, life),
            Event::Tick { agent, life } => self.tick(agent, life),
            Event::Task { agent, life, task } => {
                self.trace.step(now, "task", task.ordinal);
                self.task_goes_on(agent, life, &task);
            }
            Event::AgentStarts { agent, life } => {
                self.trace.step(now, "agent", agent as u64);
                self.agent_starts(agent, life);
            }
            Event::Guest { place, vm, run } => self.guest_writes(place, vm, run),
            Event::Chaos => self.chaos(),
            Event::LinkBack { cut } => {
                if cut == self.cuts {
                    self.link_comes_back();
                }
            }
            Event::Operators => self.operators(),
        }
    }

    /// Looks at starts of guests that nobody has looked at yet.
    pub(crate) fn guests_began(&mut self) {
        for start in std::mem::take(&mut self.world.starts) {
            let now = self.schedule.now();
            self.trace.step(now, "guest", start.run);
            self.trace
                .say(now, || format!("guest of {} runs as {} beside {:?}", start.origin, start.place, start.beside));
            self.checks.guest_began(&start);
            let place = (start.place.site.clone(), start.place.host.clone());
            let wait = self.choices.between(Draw::Guest, 500, 20_000);
            self.schedule.after(wait, Event::Guest { place, vm: start.place.vm.clone(), run: start.run });
        }
    }

    fn guest_writes(&mut self, place: Place, vm: VmName, run: u64) {
        if self.world.guest_writes(&place, &vm, run, &mut self.choices) {
            let now = self.schedule.now();
            self.trace.step(now, "write", run);
            let wait = self.choices.between(Draw::Guest, 2_000, 40_000);
            self.schedule.after(wait, Event::Guest { place, vm, run });
        }
    }

    fn chaos(&mut self) {
        self.schedule.after(CHAOS_EVERY, Event::Chaos);
        for site in 0..self.controls.len() {
            if self.controls[site].is_up() && self.faults.strikes(Fault::ControlCrash, Draw::Crash, &mut self.choices) {
                let wait = self.choices.between(Draw::Crash, 100, 60_000);
                self.crash_control(site, Some(wait));
            }
        }
        for agent in 0..self.agents.len() {
            if self.agents[agent].is_up() && self.faults.strikes(Fault::AgentCrash, Draw::Crash, &mut self.choices) {
                let wait = self.choices.between(Draw::Crash, 100, 60_000);
                self.crash_agent(agent, Some(wait));
            }
        }
        if self.link_up && self.faults.strikes(Fault::LinkDown, Draw::Link, &mut self.choices) {
            let wait = self.choices.between(Draw::Link, 2_000, 240_000);
            self.cut_link(Some(wait));
        }
    }

    /// Cuts the link between the sites, for good or for a while.
    pub(crate) fn cut_link(&mut self, back_after: Option<u64>) {
        self.link_up = false;
        self.cuts += 1;
        let now = self.schedule.now();
        self.trace.say(now, || "the link between the sites is down".to_owned());
        if let Some(wait) = back_after {
            self.schedule.after(wait, Event::LinkBack { cut: self.cuts });
        }
    }

    /// The link is there again.
    pub(crate) fn link_comes_back(&mut self) {
        self.link_up = true;
        let now = self.schedule.now();
        self.trace.say(now, || "the link between the sites is up".to_owned());
    }

    /// Everything that is broken is mended, and nothing breaks any more.
    pub(crate) fn heal(&mut self) {
        self.faults.heal();
        self.cuts += 1;
        self.link_comes_back();
        for site in 0..self.controls.len() {
            let life = self.controls[site].life;
            if !self.controls[site].is_up() {
                self.schedule.after(1, Event::ControlStarts { site, life });
            }
        }
        for agent in 0..self.agents.len() {
            let life = self.agents[agent].life;
            if !self.agents[agent].is_up() {
                self.schedule.after(1, Event::AgentStarts { agent, life });
            }
        }
    }
}

/// A task id of nobody.
pub(crate) fn no_task() -> TaskId {
    TaskId {
        owner: layout::address(0, farshore_schemas::ids::Kind::Api, "nobody"),
        lineage: farshore_schemas::ids::Lineage::default(),
        ordinal: 0,
    }
}

/// The index of an agent's process.
pub(crate) fn end_of_agent(site: &SiteName, agent: &Name) -> Option<End> {
    layout::agent_index(site, agent).map(End::Agent)
}
