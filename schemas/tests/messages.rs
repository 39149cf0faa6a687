//! Everything that actors and agents say is kept in `golden/<kind>-v<schema>.txt`: a sample of every variant of every
//! command (inputs and sends are commands) and event. How the samples are found and the files written: `samples/`.

mod samples;

use farshore_schemas::envelope::Wire;
use farshore_schemas::frame::{EventsSection, InputSection, SCHEMA, SendsSection};
use farshore_schemas::ids::Kind;
use farshore_schemas::messages::{Message, agent, broker, host, job, mover, plan, replica, repository, session, site};
use samples::golden::Golden;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What is inside other things, but has lines of its own in another file: only its first variant is shown there.
const OPAQUE: &[&str] = &["Message", "TaskSpec", "Outcome", "Kind"];

fn golden(name: &str) -> Golden {
    assert_eq!(SCHEMA, 1, "a new schema has files of its own; those of schema 1 are then read through the upcasters");
    Golden::open(env!("CARGO_MANIFEST_DIR"), name)
}

fn hold<C, E>(name: &str)
where
    C: Serialize + DeserializeOwned + PartialEq + Debug,
    E: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut golden = golden(name);
    golden.hold::<C>("command", OPAQUE);
    golden.hold::<E>("event", OPAQUE);
    golden.finish();
}

fn hold_agent() {
    let mut golden = golden("agent-v1.txt");
    golden.hold::<agent::Command>("command", &["Kind"]);
    golden.hold::<agent::Outcome>("outcome", &["Kind"]);
    golden.finish();
}

/// What a party of a kind says and hears; the match leaves out no kind.
fn hold_kind(kind: Kind) {
    match kind {
        Kind::Site => hold::<site::Command, site::Event>("site-v1.txt"),
        Kind::Host => hold::<host::Command, host::Event>("host-v1.txt"),
        Kind::Mover => hold::<mover::Command, mover::Event>("mover-v1.txt"),
        Kind::Repository => hold::<repository::Command, repository::Event>("repository-v1.txt"),
        Kind::Broker => hold::<broker::Command, broker::Event>("broker-v1.txt"),
        Kind::Job => hold::<job::Command, job::Event>("job-v1.txt"),
        Kind::Session => hold::<session::Command, session::Event>("session-v1.txt"),
        Kind::Replica => hold::<replica::Command, replica::Event>("replica-v1.txt"),
        Kind::Plan => hold::<plan::Command, plan::Event>("plan-v1.txt"),
        // An agent hears orders and says how they ended; it decides nothing, so it has no events.
        Kind::Agent => hold_agent(),
        // The operator's door hears refusals and says commands: those of the actors.
        Kind::Api => {}
    }
}

#[test]
fn what_actors_say_is_read_and_written_as_ever() {
    Kind::ENTITIES.into_iter().for_each(hold_kind);
}

#[test]
fn what_agents_say_is_read_and_written_as_ever() {
    hold_kind(Kind::Agent);
}

#[test]
fn what_carries_messages_is_read_and_written_as_ever() {
    let mut golden = golden("carriers-v1.txt");
    golden.hold::<Wire>("wire", &["Message"]);
    golden.hold::<InputSection>("input", OPAQUE);
    golden.hold::<EventsSection>("events", OPAQUE);
    golden.hold::<SendsSection>("sends", OPAQUE);
    golden.finish();
}

#[test]
fn samples_have_every_kind_of_message_and_every_shape_inside() {
    let kinds = samples::samples::<Message>(&[]);
    for kind in Kind::ENTITIES.into_iter().chain([Kind::Agent]) {
        assert!(kinds.values().any(|message| message.kind() == Some(kind)), "{kind}");
    }
    assert!(kinds.values().any(|message| message.kind().is_none()));
    let events = samples::samples::<host::Event>(OPAQUE);
    let has = |test: &dyn Fn(&host::Event) -> bool| events.values().any(test);
    assert!(has(&|event| matches!(event, host::Event::Removed)));
    assert!(has(&|event| matches!(event, host::Event::Ordered { work: host::Work::Create { .. }, .. })));
    assert!(has(&|event| matches!(
        event,
        host::Event::Ordered { work: host::Work::Stop { asker: host::StopAsker::StopGuest(_), .. }, .. }
    )));
    assert!(has(&|event| matches!(event, host::Event::OrderEnded { failure: None, .. })));
    assert!(has(&|event| matches!(event, host::Event::OrderEnded { failure: Some(_), .. })));
}
