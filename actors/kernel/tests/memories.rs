//! What a view and a baseline hold: the state of every kind of actor in every shape, its memory around it, and the
//! sequencer's. Kept in `golden/memories-v<schema>.txt`; how the samples are found and written: `schemas/tests/samples/`.

#[path = "../../../schemas/tests/samples/mod.rs"]
mod samples;

use farshore_core::decider::Decider;
use farshore_core::{broker, host, job, mover, plan, replica, repository, session, site};
use farshore_kernel::entity::Memory;
use farshore_kernel::sequencer::SequencerMemory;
use farshore_schemas::frame::SCHEMA;
use farshore_schemas::ids::Kind;
use samples::golden::Golden;

/// What has lines of its own in the files of messages: only its first variant is shown here.
const OPAQUE: &[&str] =
    &["Message", "TaskSpec", "Outcome", "Kind", "Rest", "Transition", "SessionResult", "Schedule", "Choice"];

fn hold<D: Decider>(golden: &mut Golden) {
    golden.hold::<D::State>(D::KIND.as_str(), OPAQUE);
}

#[test]
fn what_a_baseline_holds_is_read_and_written_as_ever() {
    assert_eq!(SCHEMA, 1, "a new schema has a file of its own");
    let mut golden = Golden::open(env!("CARGO_MANIFEST_DIR"), "memories-v1.txt");
    for kind in Kind::ENTITIES {
        match kind {
            Kind::Site => hold::<site::Site>(&mut golden),
            Kind::Host => hold::<host::Host>(&mut golden),
            Kind::Mover => hold::<mover::Mover>(&mut golden),
            Kind::Repository => hold::<repository::Repository>(&mut golden),
            Kind::Broker => hold::<broker::Broker>(&mut golden),
            Kind::Job => hold::<job::JobActor>(&mut golden),
            Kind::Session => hold::<session::SessionActor>(&mut golden),
            Kind::Replica => hold::<replica::ReplicaActor>(&mut golden),
            Kind::Plan => hold::<plan::PlanActor>(&mut golden),
            Kind::Agent | Kind::Api => {}
        }
    }
    golden.hold::<Memory>("memory", OPAQUE);
    golden.hold::<SequencerMemory>("sequencer", OPAQUE);
    golden.finish();
}
