//! How a control dies and comes back: what the power cut left, folding, what is owed, and a log put back from a copy.

use crate::bug::Bug;
use crate::bus::end_of;
use crate::choices::Draw;
use crate::control::{Control, Live, View};
use crate::faults::Fault;
use crate::sim::{Event, Sim};
use farshore_kernel::sequencer::{Sequencer, is_actor};
use farshore_kernel::site::{Depth, FoldError, Site, Step};
use farshore_schemas::envelope::Wire;
use farshore_schemas::frame::RawFrame;
use farshore_schemas::ids::{Address, Digest, EntityId, Kind, Lineage, Seq};
use std::rc::Rc;

/// Whether a copy that is put back must have what this actor decided: nobody can be asked yet for points and replicas that a
/// log has forgotten, for all that a host knows, nor who still holds the slots of a session that was forgotten. What jobs,
/// plans, movers and the site itself decided may be lost, whoever was told of it.
fn must_be_kept(kind: Kind) -> bool {
    match kind {
        Kind::Host | Kind::Repository | Kind::Replica | Kind::Session | Kind::Broker => true,
        Kind::Site | Kind::Mover | Kind::Job | Kind::Plan | Kind::Agent | Kind::Api => false,
    }
}

/// Folds frames into a site.
pub(crate) fn fold(site: &mut Site, frames: &[Rc<[u8]>]) -> Result<(), String> {
    for bytes in frames {
        let (frame, _) = RawFrame::decode(bytes).map_err(|error| error.to_string())?;
        let hash = Digest(*blake3::hash(bytes).as_bytes());
        site.fold(&frame, hash, Depth::Outbox).map_err(|error: FoldError| error.to_string())?;
    }
    Ok(())
}

impl Control {
    /// A frame of such an actor was written.
    pub(crate) fn note_needed(&mut self, kind: Kind) {
        if must_be_kept(kind) {
            self.needed = self.disk.written();
        }
    }

    /// A site folded from the first frame on.
    pub(crate) fn fold_from_genesis(&self, frames: usize) -> Result<Site, String> {
        let mut site = Site::new(&self.site, self.first_lineage);
        fold(&mut site, &self.disk.entries()[..frames])?;
        Ok(site)
    }

    /// The fold from genesis as far as the log is durable, and the number of frames in it.
    pub(crate) fn catch_up(&mut self) -> Result<&Site, String> {
        let upto = self.disk.synced();
        let (mut site, at) = self.shadow.take().unwrap_or_else(|| (Site::new(&self.site, self.first_lineage), 0));
        fold(&mut site, &self.disk.entries()[at..upto])?;
        let (site, _) = self.shadow.insert((site, upto));
        Ok(site)
    }

    /// A second site with the memory of the fold from genesis, as far as the log is durable.
    pub(crate) fn second_fold(&mut self) -> Result<Site, String> {
        let own = self.site.clone();
        let shadow = self.catch_up()?;
        let sequencer = Sequencer::load(&own, &shadow.sequencer.memory());
        let memories = shadow.entities().map(|entity| entity.memory());
        Site::from_memories(sequencer, memories).map_err(|error| error.to_string())
    }

    fn fold_from_view(&self) -> Option<Result<Site, String>> {
        let view = self.view.as_ref()?;
        let at = usize::try_from(view.sequencer.last.0).ok()?;
        // A view that knows more than the log does is not of this log.
        if at > self.disk.written() || (at > 0 && self.frame_hash(Seq(at as u64)) != Some(view.sequencer.chain)) {
            return None;
        }
        let sequencer = Sequencer::load(&self.site, &view.sequencer);
        let site = Site::from_memories(sequencer, view.memories.iter().cloned());
        Some(site.map_err(|error| error.to_string()).and_then(|mut site| {
            fold(&mut site, &self.disk.entries()[at..])?;
            Ok(site)
        }))
    }
}

impl Sim {
    /// A control loses power. It comes back after a while, or when someone says so.
    pub(crate) fn crash_control(&mut self, site: usize, back_after: Option<u64>) {
        let now = self.schedule.now();
        let torn = self.faults.strikes(Fault::TornFrame, Draw::Disk, &mut self.choices);
        let control = &mut self.controls[site];
        let Some(live) = control.live.take() else { return };
        self.trace.say(now, || format!("control {} crashes", control.site));
        self.checks.compare_fold(control, &live.kernel);
        control.life += 1;
        control.disk.power_cut(torn, &mut self.choices);
        if let Some(wait) = back_after {
            self.schedule.after(wait, Event::ControlStarts { site, life: control.life });
        }
        let control = &mut self.controls[site];
        control.back_on_copy = self.faults.considers(Fault::OldCopy, Draw::Crash, &mut self.choices);
    }

    /// A control starts, for the first time or again.
    pub(crate) fn control_starts(&mut self, site: usize, life: u64) {
        if self.controls[site].life != life || self.controls[site].is_up() {
            return;
        }
        let restored = self.recover(site);
        let again = self.choices.below(Draw::Crash, 8) == 0;
        let control = &mut self.controls[site];
        let folded = if again { control.fold_from_genesis(control.disk.written()) } else { control.second_fold() };
        let kernel = match folded {
            Ok(kernel) => kernel,
            Err(error) => {
                self.checks.violate("P2", format!("the log of {} cannot be folded: {error}", control.site));
                return;
            }
        };
        let kernel = self.maybe_from_view(site, kernel);
        self.checks.control_back(site, &kernel);
        let mut live = Live::new(kernel);
        let own = self.controls[site].site.clone();
        let local = live.kernel.sequencer.outbox.local(&own);
        for (to, entry) in &local {
            let envelope = live.kernel.sequencer.envelope(to, entry);
            live.hand_over(envelope);
        }
        self.controls[site].live = Some(live);
        if restored {
            self.renew(site);
        }
        self.resume_all(site);
        self.probe_all(site);
        self.plan_wakes(site);
        self.plan_serving(site);
        self.release(site);
    }

    /// Keeps the whole frames that are there, or puts a copy in their place. Says whether it did.
    fn recover(&mut self, site: usize) -> bool {
        let control = &mut self.controls[site];
        let whole = control.disk.entries().iter().take_while(|bytes| RawFrame::decode(bytes).is_ok()).count();
        let before = control.disk.synced();
        control.disk.recover(whole);
        control.needed = control.needed.min(whole);
        let oldest = control.needed.max(1);
        let restored = std::mem::take(&mut control.back_on_copy) && oldest < whole;
        let spare = if restored { self.choices.below(Draw::Crash, (whole - oldest) as u64) } else { 0 };
        let copy = oldest.saturating_add(usize::try_from(spare).expect("fewer than the frames"));
        let control = &mut self.controls[site];
        if restored {
            self.faults.count(Fault::OldCopy);
            control.view = None;
            control.shadow = None;
            control.disk.restore_copy(copy);
            self.to_define.insert(site);
        }
        let now = self.schedule.now();
        self.trace.say(now, || format!("site {site} starts with {whole} frames, restored {restored} {copy}"));
        for at in before..control.disk.written() {
            let seq = Seq(at as u64 + 1);
            self.checks.frame_durable(site, seq, &control.disk.entries()[at]);
        }
        self.checks.log_recovered(site, Seq(self.controls[site].disk.written() as u64), restored);
        restored
    }

    fn maybe_from_view(&mut self, site: usize, genesis: Site) -> Site {
        if !self.faults.strikes(Fault::FromView, Draw::Crash, &mut self.choices) {
            return genesis;
        }
        match self.controls[site].fold_from_view() {
            None => genesis,
            Some(Ok(view)) => {
                if view.state_hash() != genesis.state_hash() || view.sequencer.tail() != genesis.sequencer.tail() {
                    self.checks.violate("P2", "a snapshot and its tail fold to another state than genesis".to_owned());
                }
                view
            }
            Some(Err(error)) => {
                self.checks.violate("P2", format!("a snapshot cannot be gone on from: {error}"));
                genesis
            }
        }
    }

    fn renew(&mut self, site: usize) {
        if self.bug.is(Bug::LineageNotRenewed) {
            return;
        }
        let (now, lineage) = (self.now(), Lineage(self.choices.bytes()));
        let Some(live) = &mut self.controls[site].live else { return };
        if let Step::Append { stamped, draft } =
            live.kernel.renew_lineage(lineage, "the log was restored from a copy", now)
        {
            self.append(site, stamped, &draft);
        }
        // What waits between actors of the site has other numbers now.
        let own = self.controls[site].site.clone();
        if let Some(live) = &mut self.controls[site].live {
            live.empty_inboxes();
            for (to, entry) in live.kernel.sequencer.outbox.local(&own) {
                let envelope = live.kernel.sequencer.envelope(&to, &entry);
                live.hand_over(envelope);
            }
        }
    }

    fn resume_all(&mut self, site: usize) {
        let now = self.now();
        let Some(live) = &self.controls[site].live else { return };
        let actors: Vec<EntityId> = live.kernel.entities().map(|entity| entity.id().clone()).collect();
        for actor in actors {
            let Some(live) = &mut self.controls[site].live else { return };
            if let Step::Append { stamped, draft } = live.kernel.resume(&actor, now) {
                self.append(site, stamped, &draft);
            }
        }
    }

    fn probe_all(&mut self, site: usize) {
        let Some(live) = &self.controls[site].live else { return };
        let own = self.controls[site].site.clone();
        let channel = live.kernel.sequencer.channel();
        let far = |to: &&Address| to.site != own || !is_actor(to.entity.kind);
        let receivers: Vec<Address> =
            live.kernel.sequencer.outbox.waiting().map(|(to, _)| to).filter(far).cloned().collect();
        for receiver in receivers {
            if let Some(to) = end_of(&receiver) {
                self.put(site, to, &Wire::Probe { channel: channel.clone(), receiver });
            }
        }
    }

    /// Controls write their memory down, as the view does.
    pub(crate) fn take_views(&mut self) {
        for control in &mut self.controls {
            let Some(live) = &control.live else { continue };
            let sequencer = live.kernel.sequencer.memory();
            // The view is written behind the log: it never knows what is not durable.
            if sequencer.last.0 <= control.disk.synced() as u64 {
                let memories = live.kernel.entities().map(|entity| entity.memory()).collect();
                control.view = Some(View { sequencer, memories });
            }
        }
    }
}
