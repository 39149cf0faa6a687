//! The scenarios by name, and what operators do out of the blue.

use crate::choices::Draw;
use crate::demo;
use crate::layout::{self, DR, HQ};
use crate::sim::Sim;
use crate::story::Goal;
use farshore_core::naming::replica_name;
use farshore_schemas::ids::{Address, Kind};
use farshore_schemas::messages::replica::PointChoice;
use farshore_schemas::messages::{Message, Override, host, job, plan, replica, repository};

/// The names of all scenarios.
pub const SCENARIOS: [&str; 2] = ["demo", REPOSITORY];
/// The scenario with a world of its own.
pub(crate) const REPOSITORY: &str = "repository";

/// The goals of a scenario.
pub(crate) fn goals(scenario: &str, sim: &mut Sim) -> Option<Vec<Goal>> {
    match scenario {
        "demo" => Some(demo::goals(sim)),
        _ => None,
    }
}

/// The replica of the n-th VM.
pub(crate) fn replica_address(n: usize) -> Address {
    Address::new(&layout::site(DR), Kind::Replica, &replica_name(&layout::name("mirror"), &layout::production(n)))
}

pub(crate) fn by_override() -> Override {
    Override { by: "operator".to_owned(), reason: "the site is lost".to_owned() }
}

/// Something that no story told the operator to do.
pub(crate) fn whim(sim: &mut Sim) -> (Address, Message) {
    let at = layout::address;
    let forced = (sim.choices.below(Draw::Operator, 4) == 0).then(by_override);
    let n = usize::try_from(sim.choices.below(Draw::Operator, sim.vms as u64)).expect("few");
    let vm = layout::vm(n);
    match sim.choices.below(Draw::Operator, 16) {
        0 => (at(HQ, Kind::Job, "nightly"), Message::Job(job::Command::Run)),
        1 => (at(DR, Kind::Job, "mirror"), Message::Job(job::Command::Run)),
        2 => (at(DR, Kind::Job, "mirror"), Message::Job(job::Command::Stop)),
        3 => (at(HQ, Kind::Job, "nightly"), Message::Job(job::Command::Stop)),
        4 | 5 => (replica_address(n), Message::Replica(failover(forced))),
        6 => (replica_address(n), Message::Replica(replica::Command::UndoFailover)),
        7 => (replica_address(n), Message::Replica(replica::Command::Failback)),
        8 => (replica_address(n), Message::Replica(replica::Command::UndoFailback)),
        9 => (replica_address(n), Message::Replica(replica::Command::Switch)),
        10 => (replica_address(n), Message::Replica(replica::Command::CommitFailback)),
        11 => (at(HQ, Kind::Host, "host-a"), Message::Host(host::Command::PowerOn { vm, forced: None })),
        12 => (at(HQ, Kind::Host, "host-a"), Message::Host(host::Command::PowerOff { vm })),
        13 => (at(HQ, Kind::Host, "host-a"), Message::Host(host::Command::Discover)),
        14 => {
            let actions = [plan::Action::Failover, plan::Action::Undo, plan::Action::Failback, plan::Action::Switch];
            let action = actions[usize::try_from(sim.choices.below(Draw::Operator, 4)).expect("few")];
            let run = plan::Command::Run { action, point: PointChoice::Newest, forced };
            (at(DR, Kind::Plan, "evacuate"), Message::Plan(run))
        }
        _ => {
            let vault = at(HQ, Kind::Repository, "vault");
            let point =
                demo::some_point(sim).unwrap_or_else(|| farshore_schemas::ids::PointId(layout::name("no-such-point")));
            (vault, Message::Repository(repository::Command::Verify { point }))
        }
    }
}

fn failover(forced: Option<Override>) -> replica::Command {
    replica::Command::Failover { point: PointChoice::Newest, forced }
}
