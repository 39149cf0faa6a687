//! Anything in any order: answers that are bad, late, lost or doubled, refusals, time-outs, stops. Whatever happens, the
//! session ends, and has let go of everything that it asked for exactly once.

use super::world::*;
use crate::decider::{Decider, Input, Send, step};
use crate::session::{SessionActor, State};
use crate::testing::{Given, address, given};
use farshore_schemas::ids::Address;
use farshore_schemas::messages::SessionResult;
use farshore_schemas::messages::session::{Command, Event};
use farshore_schemas::units::Millis;
use proptest::prelude::*;
use proptest::sample::Index;

struct Real {
    given: Given<SessionActor>,
    history: Vec<Event>,
    queue: Vec<Send>,
    all: Vec<Send>,
    last: Option<(Address, Input<Command>)>,
}

impl Real {
    fn input(&mut self, from: &Address, input: Input<Command>) -> bool {
        self.given.context.from = from.clone();
        self.given.context.now = self.given.context.now.after(Millis(1));
        let Ok(decision) = step::<SessionActor>(&mut self.given.state, &input, &self.given.context) else {
            return false;
        };
        let yielded = !decision.events.is_empty();
        self.history.extend(decision.events);
        self.queue.extend(decision.sends.iter().filter(|send| unreleased(send)).cloned());
        self.all.extend(decision.sends);
        yielded
    }

    fn deliver(&mut self, which: Index, how: How) {
        if self.queue.is_empty() {
            return;
        }
        let send = self.queue.remove(which.index(self.queue.len()));
        if let Some((from, input)) = answer(&send, how) {
            self.last = Some((from.clone(), input.clone()));
            self.input(&from, input);
        }
    }

    fn wake(&mut self) -> bool {
        let Some(at) = SessionActor::next_wake(&self.given.state) else { return false };
        self.given.context.now = self.given.context.now.max(at);
        assert!(self.input(&address(ME), Input::Wake), "a wake that is due yields an event");
        assert!(SessionActor::next_wake(&self.given.state).is_none_or(|next| next > self.given.context.now));
        true
    }

    fn act(&mut self, pick: u8, which: Index) {
        match pick {
            0 => drop(self.input(&address(JOB), Input::Command(Command::Stop))),
            1 => drop(self.wake()),
            2 | 3 => self.deliver(which, How::Badly),
            4 => self.deliver(which, How::Refuse),
            5 => {
                if let Some((from, input)) = self.last.clone() {
                    self.input(&from, input);
                }
            }
            6 if !self.queue.is_empty() => drop(self.queue.remove(which.index(self.queue.len()))),
            _ => self.deliver(which, How::Well),
        }
    }

    fn result(&self) -> SessionResult {
        match &self.given.state {
            State::Begun(run) => run.result(),
            State::New => SessionResult::None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn whatever_happens_it_ends_and_lets_go(
        kind in 0usize..3, attempts in prop::option::of(0u32..3), picks in prop::collection::vec((0u8..60, any::<Index>()), 0..150)
    ) {
        let work = [backup(&[]), replication(&["web", "db", "ghost"]), restore()][kind].clone();
        let mut real = Real { given: given::<SessionActor>(ME, []), history: vec![], queue: vec![], all: vec![], last: None };
        real.input(&address(JOB), Input::Command(begin(work, attempts)));
        picks.into_iter().for_each(|(pick, which)| real.act(pick, which));
        // From here on nobody answers.
        let mut wakes = 0;
        while real.result() == SessionResult::None {
            prop_assert!(real.wake(), "it waits for nothing and has not ended");
            wakes += 1;
            prop_assert!(wakes < 60);
        }
        released_everything(&real.all);
        prop_assert_eq!(SessionActor::next_wake(&real.given.state), None);
        let mut folded = State::default();
        real.history.iter().for_each(|event| SessionActor::evolve(&mut folded, event));
        prop_assert_eq!(&folded, &real.given.state);
        let json = serde_json::to_string(&folded).unwrap();
        prop_assert_eq!(&serde_json::from_str::<State>(&json).unwrap(), &folded, "the state can be shown as JSON");
    }
}
