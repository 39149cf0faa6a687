//! How long the answer to a host that asks who runs a VM may be acted on. To whom it is a yes is in `rules`.

use super::world::*;
use crate::testing::{address, vm};
use farshore_schemas::messages::replica::Command;

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
