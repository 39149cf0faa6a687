//! How long is waited for what, in one place. A deadline is computed when a wait begins and stands in the event that
//! begins it, so that a changed limit never changes what an old log folds to.

use farshore_schemas::ids::VmName;
use farshore_schemas::messages::agent::{DiskFacts, Failure};
use farshore_schemas::units::{Millis, Timestamp};

/// For an answer of another actor that needs no data moved. The field resumes for 30 minutes (field.md 1.3).
pub const ANSWER: Millis = Millis::from_mins(30);
/// For a guest to stop or start: the field grants 15 minutes to a guest's shutdown (field.md 1.5); the rest is for the way.
pub const POWER: Millis = Millis::from_mins(20);
/// An order to stop or start a guest at another site is not acted on after this: before [`POWER`] ends, so that it does
/// not come into effect behind the back of whoever gave it up.
pub const POWER_ORDER: Millis = Millis::from_mins(15);
/// An agent does not start a guest later than this after its host was granted the right: with [`POWER_ORDER`] for the grant's
/// way it is over before [`POWER`] ends, so that a host that was lost in between does not start it when it returns.
pub const START: Millis = Millis::from_mins(4);
/// A replica's word that a VM may run is not acted on later than this: what it says may be over by then. Longer than clocks may
/// differ (5 minutes).
pub const WORD: Millis = Millis::from_mins(10);
/// Until a host asks again who may run a VM, doubled each time up to [`QUESTION_MOST`]. A question that cannot be delivered waits
/// in the outbox, so this is for answers that came too late, or refusals whose cause is gone.
pub const QUESTION: Millis = Millis::from_mins(5);
/// The longest between two such questions.
pub const QUESTION_MOST: Millis = Millis::from_mins(60);
/// For a slot: other sessions may hold all of them for hours.
pub const SLOT: Millis = Millis::from_mins(12 * 60);
/// For cancelled tasks to end.
pub const CANCEL: Millis = Millis::from_mins(2);
/// For work of our own site's agent inside a replica's store.
pub const STORE: Millis = Millis::from_mins(24 * 60);
/// Between two tries to roll a replica's store back.
pub const ROLLBACK_AGAIN: Millis = Millis::from_mins(1);
/// For a session to give a point up, when a failover asks for it.
pub const REVOKE: Millis = Millis::from_mins(10);
/// The longest that anything may move: the field's cap of 21 days (field.md 1.2).
pub const MOVE_MOST: Millis = Millis::from_mins(21 * 24 * 60);

/// When disks that begin to move now are given up: 30 minutes and a second per MiB, at most [`MOVE_MOST`].
#[must_use]
pub fn move_until(now: Timestamp, disks: &[DiskFacts]) -> Timestamp {
    let mib = disks.iter().map(|disk| disk.size.0 >> 20).fold(0u64, u64::saturating_add);
    let span = ANSWER.0.saturating_add(mib.saturating_mul(1_000)).min(MOVE_MOST.0);
    now.after(Millis(span))
}

/// The failure of a wait that has come to its end.
pub(crate) fn timeout(code: &str, what: &str, vm: &VmName) -> Failure {
    Failure {
        code: code.to_owned(),
        message: format!("VM {vm}: {what} did not come in time"),
        advice: "see whether the other party and the link to it are up, then try again".to_owned(),
        transient: true,
    }
}
