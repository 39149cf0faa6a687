//! P5: no two copies of a VM run unless an override that is in force is in the log. A failover's override is in force until its
//! replica gives the right to run back to the source; meanwhile the source starts its guest only with leave that was given
//! before the override, or by an override of its own.

use super::{Checkers, state_of};
use crate::layout::{self, DR, HQ};
use crate::world::Start;
use farshore_core::host;
use farshore_kernel::draft::Draft;
use farshore_kernel::site::Site;
use farshore_schemas::codec;
use farshore_schemas::frame::Input;
use farshore_schemas::ids::{Kind, Seq, TaskId, VmRef};
use farshore_schemas::messages::agent::TaskSpec;
use farshore_schemas::messages::host::{Command, Event as HostEvent};
use farshore_schemas::messages::{Message, replica};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RunningChecker {
    /// By VM: from which frames of its replica's site on an override is in force, or no longer.
    overrides: BTreeMap<VmRef, BTreeMap<u64, bool>>,
    /// VMs that an operator started at the source by an override, until a replica decides about them again.
    forced_at_source: BTreeSet<VmRef>,
    /// Frames in which a replica said that the source may run its VM.
    leave_given: BTreeSet<u64>,
    /// Starts at the source that were ordered on a replica's word, or that no replica had to be asked about.
    by_leave: BTreeSet<TaskId>,
    /// Which task started which guest.
    started: BTreeMap<TaskId, u64>,
    /// Tasks whose guest may have been lost with its site, or whose agent lost its memory.
    excused: BTreeSet<TaskId>,
}

impl RunningChecker {
    fn in_force(&self, origin: &VmRef) -> bool {
        self.overrides.get(origin).and_then(|marks| marks.values().next_back()).is_some_and(|in_force| *in_force)
    }
}

impl Checkers {
    /// A decision about who may run what.
    pub(super) fn note_rights(&mut self, site: usize, draft: &Draft, kernel: &Site) {
        match draft.actor.kind {
            Kind::Replica => self.note_replica(draft, kernel),
            Kind::Host if site == HQ => self.note_source(draft, kernel),
            Kind::Host
            | Kind::Site
            | Kind::Mover
            | Kind::Repository
            | Kind::Broker
            | Kind::Job
            | Kind::Session
            | Kind::Plan
            | Kind::Agent
            | Kind::Api => {}
        }
    }

    /// A replica overrides, gives the right back, or says that the source may run its VM.
    fn note_replica(&mut self, draft: &Draft, kernel: &Site) {
        let Ok(events) = codec::decode_checked::<Vec<replica::Event>>(&draft.events) else { return };
        let Seq(seq) = kernel.sequencer.tail().0;
        let says_yes = |body: &Message| matches!(body, Message::Host(Command::EpochIs { yours: true, .. }));
        if draft.sends.iter().any(|send| says_yes(&send.body)) {
            self.running.leave_given.insert(seq);
        }
        let Some(in_force) = events.iter().filter_map(override_in_force).next_back() else { return };
        if let Some(farshore_core::replica::State::Known(known)) = state_of(kernel, &draft.actor) {
            self.running.overrides.entry(known.protection.origin).or_default().insert(seq, in_force);
        }
    }

    /// The source's host orders a start, or takes a right by override.
    fn note_source(&mut self, draft: &Draft, kernel: &Site) {
        let Ok(events) = codec::decode_checked::<Vec<HostEvent>>(&draft.events) else { return };
        for event in &events {
            if let HostEvent::RightForced { origin, .. } = event {
                self.running.forced_at_source.insert(origin.clone());
            }
            if let HostEvent::RightGranted { origin, .. } | HostEvent::RightGivenUp { origin, .. } = event {
                self.running.forced_at_source.remove(origin);
            }
            if let HostEvent::Ordered { order, .. } = event
                && let TaskSpec::PowerOn { vm, .. } = &order.spec
                && self.with_leave(draft, || match state_of::<host::State>(kernel, &draft.actor) {
                    Some(host::State::Defined(host)) => host.protected.contains_key(vm),
                    Some(host::State::Undefined { .. }) | None => false,
                })
            {
                self.running.by_leave.insert(order.task.clone());
            }
        }
    }

    /// Whether a start is ordered on the word of a replica, or of an operator about a VM that the host knows of no replica of.
    fn with_leave(&self, draft: &Draft, protected: impl FnOnce() -> bool) -> bool {
        let Input::Message(envelope) = &draft.input else { return false };
        match &envelope.body {
            Some(Message::Host(Command::EpochIs { .. })) => {
                envelope.id.site == layout::site(DR) && self.running.leave_given.contains(&envelope.id.seq.0)
            }
            Some(Message::Host(Command::Grant { .. } | Command::Unprotect { .. })) => true,
            Some(Message::Host(Command::PowerOn { forced: None, .. })) => !protected(),
            Some(_) | None => false,
        }
    }

    /// What was decided after `tail` is not in the log any more.
    pub(super) fn forget_rights(&mut self, site: usize, tail: Seq) {
        if site == DR {
            self.running.overrides.values_mut().for_each(|marks| marks.retain(|seq, _| *seq <= tail.0));
            self.running.leave_given.retain(|seq| *seq <= tail.0);
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
        let overridden = running.in_force(&start.origin);
        let forced = running.forced_at_source.contains(&start.origin);
        let at_source = start.place.site == start.origin.site;
        let leave = running.by_leave.contains(&start.task);
        if twice && start.task.owner.entity.kind != Kind::Api {
            self.violate("P4", format!("task {} started the guest of {} twice", start.task, start.place));
        }
        if !start.beside.is_empty() && !overridden && !forced {
            let others: Vec<String> = start.beside.iter().map(VmRef::to_string).collect();
            self.violate("P5", format!("{} runs beside {} without an override", start.place, others.join(", ")));
        }
        if at_source && overridden && !forced && !leave {
            self.violate("P5", format!("{} was started again after an override had moved it", start.place));
        }
    }
}

/// Whether an event of a replica puts an override in force, or ends one.
fn override_in_force(event: &replica::Event) -> Option<bool> {
    use replica::{Event, Side};
    let begins = matches!(event, Event::OverrideGiven { .. })
        || matches!(event, Event::FailoverStarted { request, .. } if request.forced.is_some());
    let ends = matches!(event, Event::Granted { side: Side::Source, .. } | Event::RightKept { side: Side::Source });
    (begins || ends).then_some(begins)
}
