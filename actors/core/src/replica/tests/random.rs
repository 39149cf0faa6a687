//! Anything in any order: hosts that stop and start guests, answers that are lost or come twice, refusals, time-outs.
//! The hosts keep to what they are told and to the epochs that they have seen; whatever happens, two guests never run at
//! once unless an override is in the log.

use super::world::*;
use crate::decider::{Decider, Input, Send, step};
use crate::replica::{ReplicaActor, State};
use crate::testing::{Given, given, point};
use farshore_schemas::ids::Address;
use farshore_schemas::messages::replica::{Command, Event, Side};
use farshore_schemas::messages::{Message, host, session};
use farshore_schemas::units::Millis;
use proptest::prelude::*;
use std::collections::VecDeque;

/// The world as it is.
struct Real {
    given: Given<ReplicaActor>,
    history: Vec<Event>,
    queue: VecDeque<Send>,
    last: Option<(Address, Input<Command>)>,
    /// Whether the guest of each side runs, and the highest counter that its host has seen.
    source: (bool, u64),
    here: (bool, u64),
    counter: u64,
    overridden: bool,
    points: u32,
}

impl Real {
    fn new() -> Real {
        Real {
            given: given::<ReplicaActor>(ME, []),
            history: Vec::new(),
            queue: VecDeque::new(),
            last: None,
            source: (true, 0),
            here: (false, 0),
            counter: 0,
            overridden: false,
            points: 0,
        }
    }

    fn input(&mut self, from: &Address, input: Input<Command>) {
        self.given.context.from = from.clone();
        self.given.context.now = self.given.context.now.after(Millis(1));
        self.given.context.frame = self.given.context.frame.next();
        let Ok(decision) = step::<ReplicaActor>(&mut self.given.state, &input, &self.given.context) else { return };
        decision.events.iter().for_each(|event| self.look(event));
        self.history.extend(decision.events);
        self.queue.extend(decision.sends);
    }

    /// Epochs strictly grow; who may run is granted only when the other side is known not to.
    fn look(&mut self, event: &Event) {
        match event {
            Event::FailoverStarted { epoch, request, .. } => {
                assert!(epoch.counter > self.counter);
                self.counter = epoch.counter;
                self.overridden |= request.forced.is_some();
            }
            Event::EpochTaken { epoch } => {
                assert!(epoch.counter > self.counter);
                self.counter = epoch.counter;
            }
            Event::OverrideGiven { .. } => self.overridden = true,
            Event::Granted { side, epoch, .. } => {
                assert_eq!(epoch.counter, self.counter);
                let other = if *side == Side::Source { self.here.0 } else { self.source.0 };
                assert!(!other || self.overridden, "{side:?} is granted while the other side runs");
            }
            Event::GuestOff { side: Side::Source, .. } => self.overridden = false,
            _ => {}
        }
    }

    /// The oldest send is acted on; its answer comes back, or is lost.
    fn deliver(&mut self, how: How, lost: bool) {
        let Some(send) = self.queue.pop_front() else { return };
        if send.expires.is_some_and(|until| until < self.given.context.now) {
            return;
        }
        let how = if self.obey(&send, how) { how } else { How::Refuse };
        assert!(!(self.source.0 && self.here.0) || self.overridden, "two guests run");
        if let Message::Session(session::Command::PointSealed { sealed: Err(_), .. }) = &send.body {
            let abandon = Command::AbandonPoint { point: point(&format!("p{}", self.points)) };
            return self.input(&send.to, Input::Command(abandon));
        }
        if let Some((from, input)) = answer(&send, how).filter(|_| !lost) {
            self.last = Some((from.clone(), input.clone()));
            self.input(&from, input);
        }
    }

    /// A host does what it is told; an epoch lower than it has seen it refuses.
    fn obey(&mut self, send: &Send, how: How) -> bool {
        let side = if send.to.site.as_str() == "hq" { &mut self.source } else { &mut self.here };
        let Message::Host(command) = &send.body else { return true };
        let (epoch, runs) = match command {
            host::Command::Release { epoch, .. } | host::Command::StopGuest { epoch, .. } => (epoch, Some(false)),
            host::Command::Grant { epoch, power_on, .. } => (epoch, power_on.then_some(true)),
            _ => return true,
        };
        if epoch.counter < side.1 || how == How::Refuse {
            return false;
        }
        side.1 = epoch.counter;
        if let (Some(runs), How::Well) = (runs, how) {
            side.0 = runs;
        }
        true
    }

    fn act(&mut self, pick: u8) {
        let command = match pick {
            0 => newest(),
            1 => forced(),
            2 => Command::UndoFailover,
            3 => Command::Failback,
            4 => Command::Switch,
            5 => Command::CommitFailback,
            6 => Command::UndoFailback,
            7 => {
                self.points += 1;
                return self
                    .input(&crate::testing::address(SESSION), Input::Command(open(&format!("p{}", self.points))));
            }
            8 => {
                let seal = seal(&format!("p{}", self.points), i64::from(self.points), 2);
                return self.input(&crate::testing::address(SESSION), Input::Command(seal));
            }
            9 => return self.wake(),
            10 => {
                let Some((from, input)) = self.last.clone() else { return };
                return self.input(&from, input);
            }
            11 => return self.deliver(How::Badly, false),
            12 => return self.deliver(How::Refuse, false),
            13 => return self.deliver(How::Well, true),
            _ => return self.deliver(How::Well, false),
        };
        self.input(&crate::testing::address(OPS), Input::Command(command));
    }

    fn wake(&mut self) {
        let Some(at) = ReplicaActor::next_wake(&self.given.state) else { return };
        self.given.context.now = self.given.context.now.max(at);
        let before = self.history.len();
        self.input(&crate::testing::address(ME), Input::Wake);
        assert!(self.history.len() > before, "a wake that is due yields an event");
        let next = ReplicaActor::next_wake(&self.given.state);
        assert!(next.is_none_or(|next| next > self.given.context.now), "and moves on");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn never_two_guests_without_an_override(picks in prop::collection::vec(0u8..40, 1..250)) {
        let mut real = Real::new();
        real.input(&crate::testing::address(SESSION), Input::Command(open("p0")));
        real.input(&crate::testing::address(SESSION), Input::Command(seal("p0", 0, 7)));
        picks.into_iter().for_each(|pick| real.act(pick));
        let mut folded = State::default();
        real.history.iter().for_each(|event| ReplicaActor::evolve(&mut folded, event));
        prop_assert_eq!(&folded, &real.given.state);
        let json = serde_json::to_string(&folded).unwrap();
        prop_assert_eq!(&serde_json::from_str::<State>(&json).unwrap(), &folded, "the state can be shown as JSON");
    }
}

/// The random worlds are worth something only if they go everywhere: the same acts from a fixed stream of numbers reach
/// every place of the way there and back, by every way that leads there.
#[test]
fn random_worlds_reach_every_place() {
    let mut ended = std::collections::BTreeSet::new();
    let mut number = 7u64;
    for _ in 0..3000 {
        let mut real = Real::new();
        real.input(&crate::testing::address(SESSION), Input::Command(open("p0")));
        real.input(&crate::testing::address(SESSION), Input::Command(seal("p0", 0, 7)));
        for _ in 0..150 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            real.act(u8::try_from((number >> 33) % 40).unwrap());
        }
        ended.extend(real.history.iter().filter_map(|event| match event {
            Event::Ended { transition, rest, failure, .. } => Some((*transition, *rest, failure.is_none())),
            _ => None,
        }));
    }
    use farshore_schemas::messages::replica::{Rest, Transition};
    for want in [
        (Transition::Failover, Rest::Failover, true),
        (Transition::Failover, Rest::FailedFailover, false),
        (Transition::Undo, Rest::Ready, true),
        (Transition::Undo, Rest::Failover, false),
        (Transition::Failback, Rest::ReadyToSwitch, true),
        (Transition::Failback, Rest::Failover, false),
        (Transition::Switch, Rest::Failback, true),
        (Transition::Switch, Rest::ReadyToSwitch, false),
        (Transition::Commit, Rest::Ready, true),
        (Transition::Commit, Rest::Failback, false),
        (Transition::UndoFailback, Rest::Failover, true),
        (Transition::UndoFailback, Rest::Failback, false),
        (Transition::UndoFailback, Rest::ReadyToSwitch, false),
    ] {
        assert!(ended.contains(&want), "never {want:?}, only {ended:?}");
    }
}
