//! Listing VMs.

use super::tests::*;
use super::{DISCOVERY_EVERY, ListingFailed, RETRY_AFTER};
use crate::testing::*;
use farshore_schemas::messages::agent::Outcome;
use farshore_schemas::messages::host::{Command, Event, HostSpec};
use farshore_schemas::messages::{Message, session};
use farshore_schemas::units::{Millis, Timestamp};

#[test]
fn vms_are_listed_every_four_hours_unless_the_definition_says_otherwise() {
    let given = listed();
    let ordinal = next(&given);
    assert_eq!(state(&given).discovery_due, Some(given.context.now.after(DISCOVERY_EVERY)));
    let given = wake_when_due(given);
    assert_eq!(next(&given), ordinal + 1);
    // One that is still under way stands for the next, and time goes on.
    let given = wake_when_due(given);
    assert_eq!(next(&given), ordinal + 1);
    let hourly = HostSpec { discovery_every: Millis::from_mins(60), ..spec("/vms") };
    let given = given.when_from(OPS, Command::Define(hourly));
    let given = wake_when_due(given);
    assert_eq!(state(&given).discovery_due, Some(given.context.now.after(Millis::from_mins(60))));
}

#[test]
fn a_listing_that_fails_is_tried_again_soon() {
    let given = served().when_from(AGENT, ended(0, failed()));
    assert_eq!(state(&given).discovery_due, Some(given.context.now.after(RETRY_AFTER)));
}

#[test]
fn why_a_listing_failed_is_kept_until_one_is_complete_or_the_host_is_another_folder() {
    let failed = listed().later(Millis(7)).when_from(OPS, Command::Discover).when_from(AGENT, ended(1, failed()));
    let why = ListingFailed { failure: failure(), at: failed.context.now };
    assert_eq!(state(&failed).listing_failed, Some(why.clone()));
    assert_eq!(state(&failed).listed, Some(Timestamp(1_000_000)), "what was known stays known");
    assert_eq!(state(&failed).inventory.len(), 2);
    let same = failed.clone().when_from(OPS, Command::Define(spec("/vms")));
    assert_eq!(state(&same).listing_failed, Some(why));
    let other = failed.clone().when_from(OPS, Command::Define(spec("/other")));
    assert_eq!(state(&other).listing_failed, None);
    let found = inventory(&[facts("web", true), facts("db", false)], true);
    let mended = failed.later(Millis(7)).when_from(OPS, Command::Discover).when_from(AGENT, ended(2, found));
    assert_eq!(state(&mended).listing_failed, None);
    assert_eq!(state(&mended).listed, Some(mended.context.now));
}

#[test]
fn the_revision_grows_only_when_something_changed() {
    let again = listed().when_from(OPS, Command::Discover);
    let now = again.context.now;
    let same = again.clone().from(AGENT).when(ended(1, inventory(&[facts("web", true), facts("db", false)], true)));
    assert_eq!(same.decision().events[1], Event::InventoryConfirmed { revision: 1, at: now });
    let less = again.from(AGENT).when(ended(1, inventory(&[facts("web", true), facts("new", false)], true)));
    let (changed, gone) = (vec![facts("new", false)], vec![vm("db")]);
    let changed = Event::InventoryChanged { revision: 2, changed, gone, at: now };
    assert_eq!(less.decision().events[1], changed);
    let names: Vec<String> = state(&less.accepted()).inventory.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["new", "web"]);
}

#[test]
fn a_host_without_vms_counts_as_listed() {
    let empty = served().when_from(AGENT, ended(0, inventory(&[], true)));
    let told = session::Command::VmsListed { mover: name("m1"), vms: Vec::new() };
    empty.from(S1).when(Command::ListVms { vms: Vec::new() }).sent(&[(S1, Message::Session(told))]);
}

#[test]
fn a_paged_listing_counts_only_after_its_last_page() {
    let given = listed().when_from(OPS, Command::Discover);
    let first = given.when_from(AGENT, ended(1, inventory(&[facts("a", false)], false)));
    assert_eq!(state(&first).inventory.len(), 2, "nothing came and nothing went yet");
    let last = first.clone().when_from(AGENT, ended(1, inventory(&[facts("web", true)], true)));
    let names: Vec<String> = state(&last).inventory.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "web"]);
    // One that breaks off changes nothing, and its pages are not mixed with the next listing's.
    let broken = first.when_from(AGENT, ended(1, failed())).when_from(OPS, Command::Discover);
    let next_one = broken.when_from(AGENT, ended(2, inventory(&[facts("web", true), facts("db", false)], true)));
    assert_eq!((state(&next_one).inventory.len(), state(&next_one).revision), (2, 1));
}

#[test]
fn a_listing_is_not_believed_about_what_was_heard_since_it_was_ordered() {
    let given = listed().when_from(OPS, Command::Discover).when_from(OPS, start("db"));
    let on = given.when_from(AGENT, ended(2, Outcome::Done));
    let stale = [facts("web", true), facts("db", false)];
    let known = on.clone().from(AGENT).when(ended(1, inventory(&stale, true)));
    let at = on.context.now;
    assert_eq!(known.decision().events[1..], [Event::InventoryConfirmed { revision: 1, at }], "it runs");
    let known = known.accepted();
    assert!(state(&known).inventory[&vm("db")].running && state(&known).overtaken.is_empty());
    // Nor about it in a page before the last.
    let paged = on.clone().when_from(AGENT, ended(1, inventory(&[facts("db", false)], false)));
    let paged = paged.when_from(AGENT, ended(1, inventory(&[facts("web", true), facts("new", false)], true)));
    assert!(state(&paged).inventory[&vm("db")].running && state(&paged).inventory.len() == 3);
    // One that it does not show may be younger: what the next one shows counts.
    let unseen = on.when_from(AGENT, ended(1, inventory(&[facts("web", true)], true)));
    assert_eq!((state(&unseen).inventory.len(), next(&unseen)), (2, 4));
    let gone = unseen.when_from(AGENT, ended(3, inventory(&[facts("web", true)], true)));
    assert_eq!((state(&gone).inventory.len(), next(&gone)), (1, 4));
}
