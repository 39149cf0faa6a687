//! Which agents of this site are there: heard of lately. For operators' eyes only: it is volatile, nothing is decided upon it,
//! and nothing of it is in the log. An agent that has nothing to say is asked how far it has heard this site, and its answer
//! counts, so that one that idles is told apart from one that has gone.

use crate::handle::AgentHeard;
use crate::shared::Shared;
use farshore_schemas::envelope::{Channel, Sender, Wire};
use farshore_schemas::ids::{Address, Kind, Name};
use farshore_schemas::subjects;
use farshore_schemas::units::{Millis, Timestamp};
use std::collections::BTreeMap;

/// How often agents are asked.
const ASK_EVERY: Millis = Millis::from_secs(5);
/// An agent that was not heard for so long is not there: three questions without an answer.
pub(crate) const GONE_AFTER: Millis = Millis::from_secs(15);

/// See the module.
#[derive(Default)]
pub(crate) struct Presence {
    heard: BTreeMap<Name, Timestamp>,
    asked: Option<Timestamp>,
}

impl Presence {
    /// An agent was heard.
    pub(crate) fn hear(&mut self, agent: &Name, now: Timestamp) {
        self.heard.insert(agent.clone(), now);
    }

    /// Whether it is time to ask; asked once says no until the next time. A clock that was set back does not stop it.
    fn due(&mut self, now: Timestamp) -> bool {
        let due = self.asked.is_none_or(|last| now < last || now >= last.after(ASK_EVERY));
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// All agents heard since the start. One heard in what is the future now, since the clock was set back, counts once it is
    /// heard again.
    pub(crate) fn agents(&self, now: Timestamp) -> Vec<AgentHeard> {
        let there = |heard: Timestamp| heard <= now && now.since(heard) < GONE_AFTER;
        let all = self.heard.iter();
        all.map(|(agent, heard)| AgentHeard { agent: agent.clone(), heard: *heard, there: there(*heard) }).collect()
    }
}

/// Who spoke on a channel, if it was an agent of this site that a mover stands for.
pub(crate) fn spoke(shared: &mut Shared, channel: &Channel) {
    if let Sender::Agent(agent) = &channel.sender
        && channel.site == *shared.sequencer.site()
    {
        heard(shared, &agent.clone());
    }
}

/// Who acked, if it was an agent of this site that a mover stands for.
pub(crate) fn acked(shared: &mut Shared, receiver: &Address) {
    if receiver.entity.kind == Kind::Agent && receiver.site == *shared.sequencer.site() {
        heard(shared, &receiver.entity.name);
    }
}

/// Only agents with a mover count: what is kept is bounded by what operators define.
fn heard(shared: &mut Shared, agent: &Name) {
    if shared.slots.keys().any(|id| id.kind == Kind::Mover && id.name == *agent) {
        let now = shared.now();
        shared.presence.hear(agent, now);
    }
}

/// Asks the agents of all movers, when it is time.
pub(crate) fn ask(shared: &mut Shared) {
    let now = shared.now();
    if shared.refuses().is_some() || !shared.presence.due(now) {
        return;
    }
    let (site, channel) = (shared.sequencer.site().clone(), shared.sequencer.channel());
    let movers: Vec<Name> = shared.slots.keys().filter(|id| id.kind == Kind::Mover).map(|id| id.name.clone()).collect();
    for name in movers {
        let receiver = Address::new(&site, Kind::Agent, &name);
        let subject = subjects::inbox(&receiver);
        shared.publish(&subject, &Wire::Probe { channel: channel.clone(), receiver });
    }
}
