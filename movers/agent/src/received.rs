//! Receiving tasks that ended well in an earlier life of the agent. Their senders may not have heard of it, if either end
//! was killed between the proof and its record: they come again, and are told what was proven.

use crate::engine::now;
use crate::listener::PATIENCE;
use crate::shared::{Phase, Receiving};
use crate::stop::Stop;
use farshore_schemas::ids::TaskId;
use farshore_schemas::messages::agent::{Order, Outcome, TaskSpec};
use farshore_tasks::{Fact, Record};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Those that the records tell of and that ended no longer ago than a sender tries. What a rewrite of the records has
/// folded away is not among them: its senders fail in their time, and the VM is tried anew.
pub(crate) fn done(records: &[Record]) -> BTreeMap<TaskId, Receiving> {
    let now = now();
    let mut orders: BTreeMap<&TaskId, &Order> = BTreeMap::new();
    let mut done = BTreeMap::new();
    for (record, fact) in records.iter().flat_map(|record| record.facts.iter().map(move |fact| (record, fact))) {
        if let Fact::Accepted { order, .. } = fact {
            orders.insert(&order.task, order);
        }
        if let Fact::Ended { task, outcomes, .. } = fact
            && let Some(Outcome::DiskReceived { disk, moved }) = outcomes.last()
            && let Some(order) = orders.get(task)
            && let TaskSpec::ReceiveDisk { peer, .. } = &order.spec
            && u128::from(now.since(record.at).0) < PATIENCE.as_millis()
        {
            let phase = Phase::Done { at: Instant::now(), checksum: disk.checksum, written: moved.written.0 };
            let receiving = Receiving { order: (*order).clone(), peer: *peer, stop: Arc::new(Stop::default()), phase };
            done.insert(task.clone(), receiving);
        }
    }
    done
}
