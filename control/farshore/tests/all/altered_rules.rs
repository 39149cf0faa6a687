//! Actors whose rules are the real ones but for one line of one `evolve`, which leaves a field as it was. A log folded with such
//! rules gives another state hash: a program that folds otherwise than the one that wrote a log is found out.

use farshore_core::decider::{Context, Decider, Decision, Input};
use farshore_core::{broker, host, job, mover, plan, replica, session};
use farshore_kernel::entity::{Entity, entity_with_rules};
use farshore_kernel::site::Site as Actors;
use farshore_log::{LogReader, ReadLog};
use farshore_schemas::ids::{EntityId, Kind, Seq, SiteName};
use farshore_schemas::messages as said;
use farshore_schemas::messages::Message;
use farshore_schemas::units::Timestamp;
use std::marker::PhantomData;

/// A line of an actor's `evolve` that is left out.
trait LeftOut: 'static {
    /// The actor.
    type Real: Decider;

    /// The real `evolve` without that line.
    fn evolve(state: &mut <Self::Real as Decider>::State, event: &<Self::Real as Decider>::Event);
}

/// The real rules but for that line.
struct Altered<L>(PhantomData<L>);

impl<L: LeftOut> Decider for Altered<L> {
    const KIND: Kind = L::Real::KIND;
    type State = <L::Real as Decider>::State;
    type Command = <L::Real as Decider>::Command;
    type Event = <L::Real as Decider>::Event;
    type Rejection = <L::Real as Decider>::Rejection;

    fn command(message: &Message) -> Option<&Self::Command> {
        L::Real::command(message)
    }

    fn decide(
        state: &Self::State,
        input: &Input<Self::Command>,
        context: &Context,
    ) -> Result<Decision<Self::Event>, Self::Rejection> {
        L::Real::decide(state, input, context)
    }

    fn evolve(state: &mut Self::State, event: &Self::Event) {
        L::evolve(state, event);
    }

    fn next_wake(state: &Self::State) -> Option<Timestamp> {
        L::Real::next_wake(state)
    }
}

/// `left_out!(Name, actor, event, state => field)`: that event no longer changes that field.
macro_rules! left_out {
    ($name:ident, $real:ty, $event:pat, $state:pat => $field:expr) => {
        struct $name;

        impl LeftOut for $name {
            type Real = $real;

            #[allow(irrefutable_let_patterns, reason = "the broker has one shape only")]
            fn evolve(state: &mut <$real as Decider>::State, event: &<$real as Decider>::Event) {
                let before = if let $state = &mut *state { Some($field.clone()) } else { None };
                <$real>::evolve(state, event);
                if let ($event, Some(before), $state) = (event, before, state) {
                    $field = before;
                }
            }
        }
    };
}

left_out!(LastRun, job::JobActor, said::job::Event::RunEnded { .. }, job::State::Defined(job) => job.last);
left_out!(Moved, session::SessionActor, said::session::Event::TaskDone { .. }, session::State::Begun(run) => run.moved);
left_out!(Points, replica::ReplicaActor, said::replica::Event::PointAdded { .. }, replica::State::Known(known) => known.points);
left_out!(Revision, host::Host, said::host::Event::InventoryChanged { .. }, host::State::Defined(host) => host.revision);
left_out!(Registered, mover::Mover, said::mover::Event::Registered { .. }, mover::State::Defined(mover) => mover.registered);
left_out!(Arrivals, broker::Broker, said::broker::Event::SlotAsked { .. }, state => state.arrivals);
left_out!(StepsEnded, plan::PlanActor, said::plan::Event::StepEnded { .. }, plan::State::Running { run, .. } => run.ended);

/// Makes an actor with altered rules.
type Make = fn(&EntityId) -> Box<dyn Entity>;

const ALTERED: [(Kind, &str, Make); 7] = [
    (Kind::Job, "the last run", entity_with_rules::<Altered<LastRun>>),
    (Kind::Session, "what was moved", entity_with_rules::<Altered<Moved>>),
    (Kind::Replica, "the points", entity_with_rules::<Altered<Points>>),
    (Kind::Host, "the revision", entity_with_rules::<Altered<Revision>>),
    (Kind::Mover, "who is registered", entity_with_rules::<Altered<Registered>>),
    (Kind::Broker, "requests so far", entity_with_rules::<Altered<Arrivals>>),
    (Kind::Plan, "steps that ended", entity_with_rules::<Altered<StepsEnded>>),
];

/// The log folds to `right`, and to something else with each of the altered rules.
pub(crate) fn each_line_left_out_of_an_evolve_gives_another_state(reader: &LogReader, right: &str) {
    assert_eq!(folded(reader, None), right);
    for (kind, line, make) in ALTERED {
        assert_ne!(folded(reader, Some((kind, make))), right, "the {kind}'s evolve without {line} changes nothing");
    }
}

/// The state hash of a log, with the actors of one kind made otherwise.
fn folded(reader: &LogReader, altered: Option<(Kind, Make)>) -> String {
    let mut actors = Actors::new(&SiteName::parse("dr").unwrap(), reader.lineage());
    let mut frames = reader.frames_from(Seq(1)).unwrap();
    while let Some(stored) = frames.next().unwrap() {
        let section = stored.raw.events_section().unwrap();
        let is_new = actors.entity(&section.actor).is_none();
        if let Some((kind, make)) = altered
            && section.actor.kind == kind
            && is_new
        {
            actors.place(make(&section.actor));
        }
        actors.entity_mut(&section.actor).unwrap().fold(&section).unwrap();
    }
    actors.state_hash().to_string()
}
