//! P5: no two copies of a VM run without an override in the log, and after an override the source that returns stays down.

use super::{Checkers, state_of};
use crate::world::Start;
use farshore_kernel::draft::Draft;
use farshore_kernel::site::Site;
use farshore_schemas::codec;
use farshore_schemas::ids::{EntityId, TaskId, VmRef};
use farshore_schemas::messages::{Message, host, replica};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RunningChecker {
    /// VMs that were failed over by an override, until their right to run has come back.
    overridden: BTreeSet<VmRef>,
    /// VMs that an operator started at the source by an override.
    forced_at_source: BTreeSet<VmRef>,
    /// VMs that an operator started by hand since the last override: a host that cannot know of the override obeys.
    by_hand: BTreeSet<VmRef>,
    /// Which task started which guest.
    started: BTreeMap<TaskId, u64>,
    /// Tasks whose guest may have been lost with its site, or whose agent lost its memory.
    excused: BTreeSet<TaskId>,
}

impl Checkers {
    /// A decision that grants or overrides the right to run.
    pub(super) fn note_rights(&mut self, site: usize, actor: &EntityId, message: &Message) {
        match message {
            Message::Host(host::Command::Grant { origin, .. }) if site == crate::layout::HQ => {
                self.running.overridden.remove(origin);
                self.running.forced_at_source.remove(origin);
            }
            Message::Host(host::Command::PowerOn { vm, forced: Some(_) }) => {
                let place = VmRef { site: crate::layout::site(site), host: actor.name.clone(), vm: vm.clone() };
                self.running.forced_at_source.insert(place);
            }
            Message::Host(host::Command::PowerOn { vm, forced: None }) => {
                let place = VmRef { site: crate::layout::site(site), host: actor.name.clone(), vm: vm.clone() };
                self.running.by_hand.insert(place);
            }
            Message::Host(_)
            | Message::Replica(_)
            | Message::Site(_)
            | Message::Mover(_)
            | Message::Repository(_)
            | Message::Broker(_)
            | Message::Job(_)
            | Message::Session(_)
            | Message::Plan(_)
            | Message::Agent(_)
            | Message::Refused(_) => {}
        }
    }

    /// A replica has recorded an override.
    pub(super) fn note_overrides(&mut self, draft: &Draft, kernel: &Site) {
        let Ok(events) = codec::decode_checked::<Vec<replica::Event>>(&draft.events) else { return };
        let overrides = events.iter().any(|event| {
            matches!(event, replica::Event::OverrideGiven { .. })
                || matches!(event, replica::Event::FailoverStarted { request, .. } if request.forced.is_some())
        });
        let state = overrides.then(|| state_of::<farshore_core::replica::State>(kernel, &draft.actor)).flatten();
        if let Some(farshore_core::replica::State::Known(known)) = state {
            self.running.by_hand.remove(&known.protection.origin);
            self.running.overridden.insert(known.protection.origin);
        }
    }

    /// Guests died with their site, or agents lost their memory: what was done may have to be done once more.
    pub(crate) fn excuse_starts(&mut self) {
        self.running.excused.extend(self.running.started.keys().cloned());
    }

    /// A guest was started.
    pub(crate) fn guest_began(&mut self, start: &Start) {
        let running = &mut self.running;
        let again = running.started.insert(start.task.clone(), start.run).is_some();
        let twice = again && !running.excused.remove(&start.task);
        let overridden = running.overridden.contains(&start.origin);
        let forced = running.forced_at_source.contains(&start.origin);
        let by_hand = running.by_hand.contains(&start.place);
        let at_source = start.place.site == start.origin.site;
        if twice && start.task.owner.entity.kind != farshore_schemas::ids::Kind::Api {
            self.violate("P4", format!("task {} started the guest of {} twice", start.task, start.place));
        }
        if !start.beside.is_empty() && !(overridden && (!at_source || by_hand)) && !forced {
            let others: Vec<String> = start.beside.iter().map(VmRef::to_string).collect();
            self.violate("P5", format!("{} runs beside {} without an override", start.place, others.join(", ")));
        }
        if at_source && overridden && !forced && !by_hand {
            self.violate("P5", format!("{} was started again after an override had moved it", start.place));
        }
    }
}
