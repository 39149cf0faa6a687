//! How long the answer to a host that asks who runs a VM may be acted on. To whom it is a yes is in `rules`.

use super::world::*;
use crate::testing::{address, vm};
use farshore_schemas::messages::replica::Command;
use farshore_schemas::messages::{Message, host};

#[test]
fn a_yes_is_not_acted_on_for_ever_and_a_no_is() {
    let expiry = |world: World| {
        let ask = Command::WhoRuns { vm: vm("web"), host: address(SOURCE) };
        let world = world.forget_sent().tell(SOURCE, ask);
        let answer = world.sent.iter().find(|send| send.to == address(SOURCE)).unwrap();
        (answer.expires.is_some(), answer.expires == Some(world.given.context.now.after(crate::limits::WORD)))
    };
    assert_eq!(expiry(World::ready(&[("p1", 100)])), (true, true));
    assert_eq!(expiry(World::ready(&[("p1", 100)]).tell(OPS, newest()).settle()), (false, false));
}

/// The answer that a host gets when it asks, if it gets one.
fn answered(world: World, host: &str) -> (World, Option<bool>) {
    let world = world.forget_sent().tell(host, Command::WhoRuns { vm: vm("web"), host: address(host) });
    let yours = world.sent.iter().find_map(|send| match &send.body {
        Message::Host(host::Command::EpochIs { yours, .. }) if send.to == address(host) => Some(*yours),
        _ => None,
    });
    (world, yours)
}

#[test]
fn a_source_that_counts_as_lost_is_not_told_to_start() {
    // While a point is being made the failover waits: a yes would start a guest that nobody stops.
    let (world, before) = answered(World::ready(&[("p1", 100)]).tell(SESSION, open("p2")), SOURCE);
    assert_eq!(before, Some(true));
    let waits = world.tell(OPS, forced());
    let (_, during) = answered(waits, SOURCE);
    assert_eq!(during, None);
    // While its disks are being made as well; once the right has passed on it is a no.
    let begun = World::ready(&[("p1", 100)]).tell(OPS, forced());
    let (begun, making) = answered(begun, SOURCE);
    assert_ne!(making, Some(true));
    let (_, after) = answered(begun.settle(), SOURCE);
    assert_eq!(after, Some(false));
}
