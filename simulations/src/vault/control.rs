//! A control plane of the repository: its log as events, the fold of it, and what follows from a decision.

use super::{HOUR, Mail, To, Vault};
use crate::bug::Bug;
use crate::choices::Draw;
use crate::faults::Fault;
use crate::layout::{self, HQ};
use farshore_core::decider::{Context, Decider, Decision, Input, step};
use farshore_core::repository::{Repository, State};
use farshore_schemas::ids::{Address, Kind, Lineage, Seq};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::repository::{Command, Event, RepositorySpec, TRASH_HOLD};
use farshore_schemas::messages::{Message, Refusal, Refused, session};
use farshore_schemas::units::{Millis, Timestamp};

/// See the module.
pub(super) struct Control {
    pub(super) up: bool,
    /// How far its clock has been set ahead, in ms.
    pub(super) clock_ahead: i64,
    /// When it is woken next. Wakes that were asked for before that and not needed any more mean nothing.
    alarm: Option<i64>,
    pub(super) lineage: Lineage,
    /// Lineages before it was put back.
    pub(super) formerly: Vec<Lineage>,
    pub(super) state: State,
    /// Every frame's events, by its number.
    log: Vec<(u64, Vec<Event>)>,
    frames: u64,
}

pub(super) fn me() -> Address {
    layout::address(HQ, Kind::Repository, "vault")
}

/// The mover, and so the agent, of a control plane.
fn keeper(control: usize) -> &'static str {
    ["mover-v", "mover-w"][control.min(1)]
}

impl Control {
    pub(super) fn new(lineage: Lineage) -> Self {
        Control {
            up: true,
            clock_ahead: 0,
            alarm: None,
            lineage,
            formerly: Vec::new(),
            state: State::default(),
            log: Vec::new(),
            frames: 0,
        }
    }

    /// A control plane that was made of the first part of this one's log.
    fn copied(&self, upto: usize, lineage: Lineage) -> Control {
        let mut copy = Control::new(lineage);
        copy.formerly = self.formerly.iter().copied().chain([self.lineage]).collect();
        copy.log = self.log[..upto].to_vec();
        copy.frames = copy.log.last().map_or(0, |(frame, _)| *frame);
        for event in copy.log.iter().flat_map(|(_, events)| events) {
            Repository::evolve(&mut copy.state, event);
        }
        copy
    }

    /// Every event, in order.
    pub(super) fn log(&self) -> impl Iterator<Item = &Event> {
        self.log.iter().flat_map(|(_, events)| events)
    }

    /// What it has not ended, in words.
    pub(super) fn unrest(&self) -> String {
        let State::Defined(known) = &self.state else { return "nothing is defined".to_owned() };
        let (accesses, orders) = (known.accesses.len(), known.orders.open.len());
        let (forgotten, trash) = (known.forgotten.len(), known.trash.len());
        format!("{accesses} accesses, {orders} orders, {forgotten} points forgotten, {trash} trashes, up: {}", self.up)
    }

    /// Nothing is under way, forgotten or in the trash.
    pub(super) fn rests(&self) -> bool {
        match &self.state {
            State::Undefined { .. } => false,
            State::Defined(known) => {
                let idle = known.accesses.is_empty() && known.orders.open.is_empty();
                self.up && idle && known.forgotten.is_empty() && known.trash.is_empty()
            }
        }
    }
}

impl Vault {
    /// The operator defines the repository.
    pub(super) fn define(&mut self, control: usize) {
        let holds = [Millis(0), Millis::from_mins(10), Millis(5 * HOUR), TRASH_HOLD];
        let hold = holds[usize::try_from(self.choices.below(Draw::Knob, 4)).expect("few")];
        let periods = [None, None, Some(Millis(3 * HOUR)), Some(Millis(72 * HOUR))];
        let immutable = periods[usize::try_from(self.choices.below(Draw::Knob, 4)).expect("few")];
        let spec = RepositorySpec {
            mover: layout::name(keeper(control)),
            path: "/vault".to_owned(),
            passphrase_file: None,
            trash_hold: hold,
            immutable,
        };
        self.control_hears(control, &layout::address(HQ, Kind::Api, "operator"), Command::Define(spec));
    }

    pub(super) fn control_starts(&mut self, control: usize) {
        if self.controls[control].up || (self.healed && control != self.owner) {
            return;
        }
        let log = self.controls[control].log.len() as u64;
        // A log that has hardly begun was copied by nobody.
        if self.faults.strikes(Fault::OldCopy, Draw::Crash, &mut self.choices) && control == self.owner && log >= 2 {
            let upto = self.choices.between(Draw::Crash, log.saturating_sub(60).max(2), log);
            let lineage = Lineage(self.choices.bytes());
            let copy = self.controls[control].copied(usize::try_from(upto).expect("few"), lineage);
            self.controls[control] = copy;
            self.log_was_put_back(control);
            // The copy may be from before the operator last said where the folder is.
            self.controls[control].up = true;
            self.define(control);
        }
        self.controls[control].up = true;
        self.agent_is_there(control);
        self.wake_soon(control);
    }

    /// Somebody starts a copy of the control plane beside it, on another machine, with an agent that reaches the same folder.
    pub(super) fn second_control(&mut self) {
        let log = self.controls[0].log.len() as u64;
        let upto = self.choices.between(Draw::Crash, log.saturating_sub(40).max(2), log);
        let lineage = Lineage(self.choices.bytes());
        let copy = self.controls[0].copied(usize::try_from(upto).expect("few"), lineage);
        self.controls.push(copy);
        let fresh = Lineage(self.choices.bytes());
        // Its memory was copied with the log: it knows what its control was.
        let copy = self.agents[0].copied(fresh);
        self.agents.push(copy);
        self.owner = 1;
        self.define(1);
        self.log_was_put_back(1);
        self.schedule.after(1, super::Event::AgentStarts { agent: 1, life: 0 });
    }

    /// The agent of a control plane is there: its mover says so.
    pub(super) fn agent_is_there(&mut self, control: usize) {
        let (agent, lineage) = (&mut self.agents[control], self.controls[control].lineage);
        if agent.control.is_some_and(|before| before != lineage) {
            // What it was told under another lineage is not what this control knows: it begins anew.
            agent.incarnation = Lineage(self.choices.bytes());
            agent.tasks.clear();
        }
        let mover = layout::address(HQ, Kind::Mover, keeper(control));
        let endpoint = Endpoint { agent: layout::name(keeper(control)), ..layout::endpoint(1) };
        let command = Command::AgentReady { incarnation: self.agents[control].incarnation, endpoint };
        self.post(&mover, To::Control(control), Mail::Ask(Box::new(command)));
    }

    pub(super) fn control_hears(&mut self, control: usize, from: &Address, command: Command) {
        let asked = command.clone();
        if let Err(refusal) = self.decide(control, (from, Input::Command(command))) {
            self.refused(from, &asked, refusal);
        }
    }

    /// The party that asked hears of it, as a session hears of a failure.
    fn refused(&mut self, from: &Address, command: &Command, refusal: Refusal) {
        match command {
            Command::OpenAccess { .. } | Command::CommitPoint { .. } => self.session_was_refused(from, &refusal),
            Command::Define(_)
            | Command::Remove
            | Command::AgentReady { .. }
            | Command::CloseAccess
            | Command::Verify { .. }
            | Command::LogServed { .. }
            | Command::OwnedBefore { .. }
            | Command::Adopt { .. }
            | Command::Hold { .. }
            | Command::Release { .. }
            | Command::TaskEnded { .. }
            | Command::BreakAccess { .. } => {}
        }
    }

    /// What time it is by the clock of a control.
    fn clock(&self, control: usize) -> Timestamp {
        Timestamp(self.schedule.now().saturating_add(self.controls[control].clock_ahead))
    }

    /// Somebody sets the clock of a control: what it waits for may be due now.
    pub(super) fn set_clock(&mut self, control: usize, ahead: i64) {
        self.controls[control].clock_ahead = ahead;
        self.wake_soon(control);
    }

    pub(super) fn wake(&mut self, control: usize) {
        let now = self.now();
        if self.controls[control].alarm.take_if(|alarm| *alarm <= now).is_none() || !self.controls[control].up {
            return;
        }
        match Repository::next_wake(&self.controls[control].state) {
            // A wake that is refused would be refused again.
            Some(due) if due <= self.clock(control) => drop(self.decide(control, (&me(), Input::Wake))),
            // The clock was set back since it was asked for.
            Some(_) => self.wake_when_due(control),
            None => {}
        }
    }

    fn wake_when_due(&mut self, control: usize) {
        if let Some(due) = Repository::next_wake(&self.controls[control].state) {
            self.wake_at(control, due.0.saturating_sub(self.controls[control].clock_ahead));
        }
    }

    fn wake_soon(&mut self, control: usize) {
        self.wake_at(control, self.now() + 1);
    }

    fn wake_at(&mut self, control: usize, at: i64) {
        let at = at.max(self.now());
        if self.controls[control].alarm.is_none_or(|alarm| at < alarm) {
            self.controls[control].alarm = Some(at);
            self.schedule.at(at, super::Event::Wake(control));
        }
    }

    /// Decides, appends and folds, then sends what follows.
    fn decide(&mut self, control: usize, (from, input): (&Address, Input<Command>)) -> Result<(), Refusal> {
        self.decisions += 1;
        let (now, at) = (self.clock(control), self.now());
        let plane = &mut self.controls[control];
        let context = Context {
            me: me(),
            lineage: plane.lineage,
            from: from.clone(),
            principal: "sim".to_owned(),
            now,
            frame: Seq(plane.frames + 1),
        };
        let decision: Decision<Event> = step::<Repository>(&mut plane.state, &input, &context)?;
        if decision.events.is_empty() && decision.sends.is_empty() {
            return Ok(());
        }
        plane.frames += 1;
        plane.log.push((plane.frames, decision.events.clone()));
        self.trace.step(at, "frame", plane.frames);
        let lineage = plane.lineage;
        if self.bug.is(Bug::SweepDoesNotWait)
            && let State::Defined(known) = &mut self.controls[control].state
            && let Some(marked) = &mut known.marked
        {
            marked.waits.clear();
        }
        self.trace.say(at, || format!("control {control} {from}: {:?}", decision.events));
        self.decided(control, &decision.events);
        for send in decision.sends {
            self.send(control, lineage, &send.to, send.body);
        }
        self.wake_when_due(control);
        Ok(())
    }

    fn send(&mut self, control: usize, lineage: Lineage, to: &Address, body: Message) {
        match body {
            Message::Agent(command) => self.post(&me(), To::Agent(control), Mail::Order(lineage, Box::new(command))),
            Message::Session(told) => match self.session_end(to) {
                Some(end) => self.post(&me(), end, Mail::Tell(Box::new(told))),
                None => self.nobody_hears(control, to, told),
            },
            // The mover of the story is there and says so by itself.
            Message::Site(_)
            | Message::Host(_)
            | Message::Mover(_)
            | Message::Repository(_)
            | Message::Broker(_)
            | Message::Job(_)
            | Message::Replica(_)
            | Message::Plan(_)
            | Message::Refused(_) => {}
        }
    }

    /// A session that has ended refuses what it is told.
    fn nobody_hears(&mut self, control: usize, by: &Address, told: session::Command) {
        let (code, text) = ("FS-SESSION-UNKNOWN".to_owned(), String::new());
        let refusal = Refusal { code, message: text.clone(), advice: text };
        let refused = Refused { by: by.clone(), message: Message::Session(told), refusal };
        drop(self.decide(control, (by, Input::Refused(refused))));
    }

    /// Accesses of sessions that are no more hold for ever: an operator ends them by name.
    pub(super) fn break_dead_accesses(&mut self, control: usize) {
        let State::Defined(known) = &self.controls[control].state else { return };
        let dead = |holder: &&Address| self.session_end(holder).is_none();
        let dead: Vec<Address> = known.accesses.keys().filter(dead).cloned().collect();
        for holder in dead {
            self.break_access(control, holder);
        }
    }

    /// An operator takes a session that lives for one that does not.
    pub(super) fn break_an_access(&mut self, control: usize) {
        let State::Defined(known) = &self.controls[control].state else { return };
        let holders: Vec<Address> = known.accesses.keys().cloned().collect();
        if !holders.is_empty() {
            let which = usize::try_from(self.choices.below(Draw::Operator, holders.len() as u64)).expect("few");
            self.break_access(control, holders[which].clone());
        }
    }

    fn break_access(&mut self, control: usize, holder: Address) {
        let operator = layout::address(HQ, Kind::Api, "operator");
        self.control_hears(control, &operator, Command::BreakAccess { holder });
    }
}
