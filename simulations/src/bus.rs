//! The simulated bus: bytes that may be lost, doubled, late and out of order. What crosses between the sites needs the link.

use crate::choices::Draw;
use crate::faults::Fault;
use crate::layout;
use crate::sim::{End, Event, Sim, end_of_agent};
use farshore_schemas::codec;
use farshore_schemas::envelope::{Channel, Sender, Wire};
use farshore_schemas::ids::{Address, Kind};
use std::rc::Rc;

/// The process that a party lives in.
pub(crate) fn end_of(party: &Address) -> Option<End> {
    match party.entity.kind {
        Kind::Agent => end_of_agent(&party.site, &party.entity.name),
        Kind::Site
        | Kind::Host
        | Kind::Mover
        | Kind::Repository
        | Kind::Broker
        | Kind::Job
        | Kind::Session
        | Kind::Replica
        | Kind::Plan
        | Kind::Api => layout::site_index(&party.site).map(End::Control),
    }
}

/// The process that speaks on a channel.
pub(crate) fn end_of_channel(channel: &Channel) -> Option<End> {
    match &channel.sender {
        Sender::Agent(name) => end_of_agent(&channel.site, name),
        Sender::Control | Sender::Api => layout::site_index(&channel.site).map(End::Control),
    }
}

impl Sim {
    /// Puts a message on the bus.
    pub(crate) fn put(&mut self, from_site: usize, to: End, wire: &Wire) {
        self.sent += 1;
        let to_site = match to {
            End::Control(site) => site,
            End::Agent(agent) => layout::AGENTS[agent].0,
        };
        let crosses = from_site != to_site;
        if crosses && !self.link_up {
            return;
        }
        if self.faults.strikes(Fault::Drop, Draw::Bus, &mut self.choices) {
            return;
        }
        let bytes: Rc<[u8]> = codec::encode(wire).into();
        if self.faults.strikes(Fault::Double, Draw::Bus, &mut self.choices) {
            let wait = self.latency(crosses);
            self.schedule.after(wait, Event::Arrive { to: to.clone(), bytes: bytes.clone() });
        }
        let wait = self.latency(crosses);
        self.schedule.after(wait, Event::Arrive { to, bytes });
    }

    fn latency(&mut self, crosses: bool) -> u64 {
        let base = if crosses { 8 } else { 0 };
        if self.faults.strikes(Fault::Delay, Draw::Bus, &mut self.choices) {
            return self.choices.between(Draw::Bus, 50, 120_000);
        }
        base + self.choices.between(Draw::Bus, 0, 4)
    }
}
