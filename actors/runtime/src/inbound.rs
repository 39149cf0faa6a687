//! What comes in over the bus: messages for this site's actors, acks for what it sent, probes and progress. Who may speak is
//! checked here; what is said is the actors' business.

use crate::presence;
use crate::shared::{EntityRef, Shared, SharedRef};
use farshore_bus::{Bus, BusError, Subscription};
use farshore_kernel::sequencer::{AckVerdict, is_actor};
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::ids::{Address, Kind};
use farshore_schemas::subjects;
use std::num::NonZeroUsize;

/// Bus messages that wait for this site's arbiter, per subscription.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Subscribes to everything that concerns the site.
pub(crate) async fn subscribe(
    bus: &dyn Bus,
    site: &farshore_schemas::ids::SiteName,
) -> Result<Vec<Subscription>, BusError> {
    let mut subscriptions = Vec::new();
    for kind in Kind::ENTITIES {
        subscriptions.push(bus.subscribe(&subjects::inboxes(site, kind), CAPACITY).await?);
    }
    subscriptions.push(bus.subscribe(&subjects::acks(site, &Sender::Control), CAPACITY).await?);
    subscriptions.push(bus.subscribe(&subjects::progress(site), CAPACITY).await?);
    Ok(subscriptions)
}

/// Takes messages of one subscription until it ends.
pub(crate) async fn listen(shared: SharedRef, mut subscription: Subscription) {
    while let Some((subject, wire)) = subscription.next_wire().await {
        match wire {
            Ok(wire) => hear(&shared, wire),
            Err(error) => {
                let mut shared = shared.borrow_mut();
                shared.counters.refused += 1;
                tracing::warn!(subject, %error, "a bus message could not be read");
            }
        }
    }
}

fn hear(this: &SharedRef, wire: Wire) {
    if this.borrow().refuses().is_some() {
        return;
    }
    match wire {
        Wire::Deliver(envelope) => {
            // Not in the head of the match: the borrow would last as long as its arms, which borrow again.
            let may = may_speak(&this.borrow(), &envelope);
            match may {
                Ok(()) => {
                    presence::spoke(&mut this.borrow_mut(), &envelope.channel);
                    Shared::route(this, *envelope);
                }
                Err(why) => refuse_sender(&mut this.borrow_mut(), &envelope, why),
            }
        }
        Wire::Ack { channel, receiver, number } => hear_ack(&mut this.borrow_mut(), &channel, &receiver, number),
        Wire::Probe { channel, receiver } => answer_probe(&mut this.borrow_mut(), &channel, &receiver),
        Wire::Fork { channel, receiver, number } => {
            let mut shared = this.borrow_mut();
            if channel == shared.sequencer.channel() {
                shared.halt(format!("{receiver} has another message under number {number} of this lineage: the log was restored from a copy; start with a renewed lineage"));
            }
        }
        progress @ Wire::Progress { .. } => drop(this.borrow().progress.send(progress)),
    }
}

/// Only this site's agents and the control of peers may speak here, each in its own name.
fn may_speak(shared: &Shared, envelope: &Envelope) -> Result<(), &'static str> {
    let ours = shared.sequencer.site();
    let (channel, from) = (&envelope.channel, &envelope.from);
    if envelope.to.site != *ours || !is_actor(envelope.to.entity.kind) {
        return Err("it is not for an actor of this site");
    }
    if channel.site != from.site || envelope.number == 0 {
        return Err("its sender is not who its channel says");
    }
    match &channel.sender {
        Sender::Agent(name)
            if channel.site != *ours || from.entity.kind != Kind::Agent || from.entity.name != *name =>
        {
            Err("it is not from an agent of this site")
        }
        Sender::Control if !is_actor(from.entity.kind) => Err("it is not from an actor"),
        Sender::Control if !shared.peers.contains(&channel.site) => Err("its site is no peer of this one"),
        Sender::Control if channel.site == *ours => {
            Err("actors of one site hand messages over by themselves: another control runs under this site's name")
        }
        Sender::Api => Err("commands come in by a call, not over the bus"),
        Sender::Agent(_) | Sender::Control => Ok(()),
    }
}

fn refuse_sender(shared: &mut Shared, envelope: &Envelope, why: &str) {
    shared.counters.refused += 1;
    tracing::warn!(from = %envelope.from, to = %envelope.to, "FS-RUNTIME-SENDER: a message was refused: {why}");
}

fn hear_ack(shared: &mut Shared, channel: &Channel, receiver: &Address, number: u64) {
    if *channel == shared.sequencer.channel() {
        presence::acked(shared, receiver);
    }
    let now = shared.now();
    match shared.sequencer.hear_ack(channel, receiver, number, now) {
        AckVerdict::Advanced | AckVerdict::Known => shared.publish_due(),
        AckVerdict::NotOurs => {}
        AckVerdict::AheadOfUs => shared.halt(format!(
            "{receiver} has heard message {number} of this lineage, which this log never sent: it was restored from a copy; start with a renewed lineage"
        )),
    }
}

/// How far an actor of ours has heard a channel. Only what is durable may be told.
fn answer_probe(shared: &mut Shared, channel: &Channel, receiver: &Address) {
    let number = match shared.slots.get(&receiver.entity) {
        Some(slot) => slot.entity.borrow().mark(channel).map_or(0, |mark| mark.number),
        None => 0,
    };
    let tail = shared.sequencer.tail().0;
    let ack = crate::shared::Waiting::Ack { channel: channel.clone(), receiver: receiver.clone(), number };
    shared.wait_for(tail, ack);
    crate::release::release(shared);
}

/// Tells the sending end that its channel forked.
pub(crate) fn say_fork(this: &SharedRef, envelope: &Envelope, number: u64) {
    let wire = Wire::Fork { channel: envelope.channel.clone(), receiver: envelope.to.clone(), number };
    let subject = subjects::acks(&envelope.channel.site, &envelope.channel.sender);
    this.borrow_mut().publish(&subject, &wire);
}

/// Reads the peers out of the site actor's state.
pub(crate) fn learn_peers(this: &SharedRef, site_actor: &EntityRef) {
    let state = farshore_schemas::codec::decode_checked(&site_actor.borrow().memory().state);
    this.borrow_mut().peers = match state {
        Ok(farshore_core::site::State::Defined { spec, .. }) => spec.peers.into_iter().collect(),
        Ok(farshore_core::site::State::Undefined) | Err(_) => std::collections::BTreeSet::new(),
    };
}
