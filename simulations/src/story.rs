//! Operators with something to do: goals, one after another. A goal names a command that is given until it is accepted and
//! durable, a state that is waited for, or both: then the command is given again from time to time until the state is
//! there. Beside the story operators do other things at random times.

use crate::bug::Bug;
use crate::checkers::state_of;
use crate::choices::Draw;
use crate::faults::Fault;
use crate::layout::{self, BEGIN};
use crate::sim::{Event, Sim};
use farshore_kernel::site::Step;
use farshore_schemas::envelope::{Channel, Envelope, Sender};
use farshore_schemas::frame::Verdict;
use farshore_schemas::ids::{Address, Kind, Lineage, MessageId, Seq};
use farshore_schemas::messages::Message;
use farshore_schemas::units::{Hlc, Timestamp};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;

/// How often operators look.
const LOOK_EVERY: u64 = 2_000;
/// How long they wait before they give a command again.
const AGAIN_AFTER: i64 = 40_000;

/// Commands that operators give, as things are.
type Push = Box<dyn Fn(&Sim) -> Vec<(Address, Message)>>;
/// Whether a state is there; the time is that of the goal's beginning.
type Done = Box<dyn Fn(&Sim, Timestamp) -> bool>;
/// Something that happens to the world.
type Act = Box<dyn FnOnce(&mut Sim)>;

/// What shall be reached.
pub(crate) struct Goal {
    /// In words.
    pub(crate) what: String,
    /// The command, given again until the state is there.
    pub(crate) push: Option<Push>,
    /// The state, if there is one; without one the command has to be accepted and durable.
    pub(crate) done: Option<Done>,
    /// Something that happens to the world.
    pub(crate) act: Option<Act>,
    /// Given up after so many minutes.
    pub(crate) minutes: i64,
    /// Whether time alone brings it closer.
    pub(crate) timed: bool,
}

impl Goal {
    /// Something that happens to the world.
    pub(crate) fn act(what: &str, act: impl FnOnce(&mut Sim) + 'static) -> Goal {
        Goal { what: what.to_owned(), push: None, done: None, act: Some(Box::new(act)), minutes: 1, timed: true }
    }

    /// A command that has to be accepted.
    pub(crate) fn tell(what: &str, to: Address, message: Message) -> Goal {
        let push = move |_: &Sim| vec![(to.clone(), message.clone())];
        Goal { what: what.to_owned(), push: Some(Box::new(push)), done: None, act: None, minutes: 30, timed: true }
    }

    /// A state.
    pub(crate) fn reach(what: &str, done: impl Fn(&Sim, Timestamp) -> bool + 'static) -> Goal {
        Goal { what: what.to_owned(), push: None, done: Some(Box::new(done)), act: None, minutes: 60, timed: false }
    }

    /// With commands, given until the state is there.
    pub(crate) fn by(self, push: impl Fn(&Sim) -> Vec<(Address, Message)> + 'static) -> Goal {
        Goal { push: Some(Box::new(push)), ..self }
    }

    /// Time passes.
    pub(crate) fn pass(what: &str, seconds: i64) -> Goal {
        let passed = move |sim: &Sim, since: Timestamp| sim.now().0 - since.0 >= seconds * 1_000;
        Goal { timed: true, ..Goal::reach(what, passed) }
    }
}

/// The goals of a run.
pub(crate) struct Story {
    goals: VecDeque<Goal>,
    current: Option<Current>,
    /// Whether operators also do other things.
    pub(crate) restless: bool,
    /// Goals that were given up.
    pub(crate) given_up: Vec<String>,
    calls: u64,
}

struct Current {
    goal: Goal,
    since: Timestamp,
    again: i64,
    /// How much had happened when the state was last looked at.
    looked: u64,
    /// Commands without a state to wait for: accepted in these frames of these sites and lives.
    accepted: Vec<(usize, u64, Seq)>,
}

/// How a command was taken.
pub(crate) enum Taken {
    /// In this frame.
    Accepted(Seq),
    /// Not.
    No,
}

impl Story {
    pub(crate) fn new(goals: impl IntoIterator<Item = Goal>, restless: bool) -> Self {
        Story { goals: goals.into_iter().collect(), current: None, restless, given_up: Vec::new(), calls: 0 }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.goals.is_empty() && self.current.is_none()
    }
}

impl Sim {
    /// An actor's state.
    pub(crate) fn state<S: DeserializeOwned>(&self, of: &Address) -> Option<S> {
        let site = layout::site_index(&of.site)?;
        state_of(&self.controls[site].live.as_ref()?.kernel, &of.entity)
    }

    /// Gives a command by the operator's door.
    pub(crate) fn call(&mut self, to: &Address, message: Message, number: u64) -> Taken {
        let operator = Address::new(&to.site, Kind::Api, &layout::name("operator"));
        let taken = self.call_as(operator, to, message, number);
        if self.bug.is(Bug::StartedWithoutAsking) {
            for (replica, answer) in crate::defects::own_answers(self, to) {
                self.call_as(replica, to, answer, number);
            }
        }
        taken
    }

    fn call_as(&mut self, from: Address, to: &Address, message: Message, number: u64) -> Taken {
        let Some(site) = layout::site_index(&to.site) else { return Taken::No };
        let now = self.now();
        let lineage = Lineage([0xfe; 16]);
        let envelope = Envelope {
            from,
            channel: Channel { site: to.site.clone(), sender: Sender::Api, lineage },
            to: to.clone(),
            number: 0,
            floor: 1,
            id: MessageId { site: to.site.clone(), lineage, seq: Seq(number), index: 0 },
            sent: Hlc { wall: now, count: 0 },
            expires: None,
            supersede: None,
            principal: "operator".to_owned(),
            trace: None,
            body: Some(message),
        };
        let Some(live) = &mut self.controls[site].live else { return Taken::No };
        let step = live.kernel.deliver(&envelope, now);
        let Step::Append { stamped, draft } = step else { return Taken::No };
        let (seq, accepted) = (stamped.seq, draft.verdict == Verdict::Accepted);
        self.append(site, stamped, &draft);
        self.release(site);
        self.activity += 1;
        if accepted { Taken::Accepted(seq) } else { Taken::No }
    }

    /// Operators look at how far things are, and do what is next.
    pub(crate) fn operators(&mut self) {
        self.schedule.after(LOOK_EVERY, Event::Operators);
        let Some(mut story) = self.story.take() else { return };
        if self.choices.below(Draw::Crash, 150) == 0 {
            self.take_views();
        }
        self.define_again(&mut story);
        if story.restless && self.faults.strikes(Fault::Operator, Draw::Operator, &mut self.choices) {
            story.calls += 1;
            let (to, message) = crate::scenario::whim(self);
            self.call(&to, message, story.calls);
        }
        self.pursue(&mut story);
        self.story = Some(story);
    }

    /// Definitions are kept outside the logs: a site whose log was put back is told them again, those that the story has
    /// come to. A definition that is there already changes nothing.
    fn define_again(&mut self, story: &mut Story) {
        for site in std::mem::take(&mut self.to_define) {
            let here = |to: &Address| layout::site_index(&to.site) == Some(site);
            let of_site: Vec<_> = self.definitions.iter().filter(|(_, to, _)| here(to)).cloned().collect();
            let mut whole = true;
            for (_, to, message) in of_site {
                story.calls += 1;
                whole &= matches!(self.call(&to, message, story.calls), Taken::Accepted(_));
            }
            if !whole {
                self.to_define.insert(site);
            }
        }
    }

    fn pursue(&mut self, story: &mut Story) {
        let now = self.now();
        let mut current = match story.current.take() {
            Some(current) => current,
            None => {
                let Some(goal) = story.goals.pop_front() else { return };
                self.trace.say(now.0, || format!("operators: {}", goal.what));
                Current { goal, since: now, again: now.0, looked: 0, accepted: Vec::new() }
            }
        };
        if let Some(act) = current.goal.act.take() {
            act(self);
            return;
        }
        let looked = std::mem::replace(&mut current.looked, self.activity);
        if (current.goal.timed || looked != self.activity) && self.reached(&current) {
            return;
        }
        if now.0 - current.since.0 > current.goal.minutes * 60_000 {
            let minute = (now.0 - BEGIN) / 60_000;
            story.given_up.push(format!("{} (in minute {minute})", current.goal.what));
            return;
        }
        if now.0 >= current.again
            && let Some(push) = &current.goal.push
        {
            current.again = now.0 + AGAIN_AFTER;
            current.accepted.clear();
            for (to, message) in push(self) {
                story.calls += 1;
                let site = layout::site_index(&to.site).expect("operators know the sites");
                match self.call(&to, message, story.calls) {
                    Taken::Accepted(seq) => current.accepted.push((site, self.controls[site].life, seq)),
                    Taken::No if current.goal.done.is_none() => current.again = now.0 + 3_000,
                    Taken::No => {}
                }
            }
        }
        story.current = Some(current);
    }

    fn reached(&self, current: &Current) -> bool {
        match &current.goal.done {
            Some(done) => done(self, current.since),
            None => {
                let durable = |(site, life, seq): &(usize, u64, Seq)| {
                    self.controls[*site].life == *life && self.controls[*site].disk.synced() as u64 >= seq.0
                };
                !current.accepted.is_empty() && current.accepted.iter().all(durable)
            }
        }
    }
}
