//! What follows when frames are durable: answers, acks, notices, messages on the bus, the view.

use crate::log_port::LogFailure;
use crate::presence;
use crate::shared::{Shared, SharedRef, Waiting};
use farshore_schemas::envelope::{Channel, Wire};
use farshore_schemas::ids::{Address, Seq};
use farshore_schemas::subjects;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often waiting messages, the backlog and the view are looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(50);
/// How many reports of the log are taken at once.
const REPORTS: usize = 4096;

/// Takes the log's reports until it ends.
pub(crate) async fn follow_log(this: SharedRef, mut reports: mpsc::UnboundedReceiver<(Seq, Result<(), LogFailure>)>) {
    let mut group = Vec::with_capacity(REPORTS);
    while reports.recv_many(&mut group, REPORTS).await > 0 {
        let backlog = {
            let mut shared = this.borrow_mut();
            for (seq, outcome) in group.drain(..) {
                match outcome {
                    Ok(()) if shared.halted.is_none() => shared.durable = shared.durable.max(seq),
                    Ok(()) => {}
                    Err(failure) => shared.halt(failure.to_string()),
                }
            }
            shared.changed.notify_waiters();
            release(&mut shared);
            !shared.backlog.is_empty()
        };
        if backlog {
            Shared::drain_backlog(&this);
        }
    }
}

/// Releases everything that waited for frames that are durable now.
pub(crate) fn release(shared: &mut Shared) {
    if shared.halted.is_some() {
        return;
    }
    // Of several acks of one channel only the last says something new.
    let mut acks: BTreeMap<(Channel, Address), u64> = BTreeMap::new();
    while shared.waiting.front().is_some_and(|(seq, _)| *seq <= shared.durable) {
        match shared.waiting.pop_front() {
            Some((_, Waiting::Answer(reply, answer))) => drop(reply.send(Ok(answer))),
            Some((_, Waiting::Ack { channel, receiver, number })) => {
                let last = acks.entry((channel, receiver)).or_default();
                *last = number.max(*last);
            }
            Some((_, Waiting::Notice(notice))) => drop(shared.frames.send(notice)),
            None => break,
        }
    }
    for ((channel, receiver), number) in acks {
        let subject = subjects::acks(&channel.site, &channel.sender);
        shared.publish(&subject, &Wire::Ack { channel, receiver, number });
    }
    shared.publish_due();
    if shared.view_batch.as_ref().is_some_and(|batch| batch.seq <= shared.durable)
        && let Some(batch) = shared.view_batch.take()
    {
        shared.view.apply(batch);
    }
}

/// Looks after what has to be tried again, until the site ends.
pub(crate) async fn tick(this: SharedRef) {
    let mut interval = actix_rt::time::interval(TICK);
    loop {
        interval.tick().await;
        Shared::drain_backlog(&this);
        let mut shared = this.borrow_mut();
        shared.take_view_batch();
        release(&mut shared);
        presence::ask(&mut shared);
    }
}

/// Each time the bus is joined (again): what was under way may be lost, so everything is due at once and receivers are
/// asked how far they have heard us.
pub(crate) async fn follow_link(this: SharedRef) {
    let mut link = this.borrow().bus.connected();
    let mut connects = link.borrow().connects;
    while link.changed().await.is_ok() {
        let now = link.borrow_and_update().connects;
        if now > connects {
            connects = now;
            let mut shared = this.borrow_mut();
            let at = shared.now();
            shared.sequencer.outbox.hurry_all(at);
            probe(&mut shared);
            shared.publish_due();
        }
    }
}

/// Asks every receiver with waiting messages how far it has heard us.
pub(crate) fn probe(shared: &mut Shared) {
    let channel = shared.sequencer.channel();
    let site = shared.sequencer.site().clone();
    let is_remote = |to: &Address| to.site != site || !farshore_kernel::sequencer::is_actor(to.entity.kind);
    let receivers: Vec<Address> =
        shared.sequencer.outbox.waiting().map(|(to, _)| to.clone()).filter(is_remote).collect();
    for receiver in receivers {
        let subject = subjects::inbox(&receiver);
        shared.publish(&subject, &Wire::Probe { channel: channel.clone(), receiver });
    }
}
