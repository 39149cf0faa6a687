//! A simulated repository: chunks that are durable or not, manifests, a trash, accesses, and the digests of replicas.

use super::content::{BLOCK_BYTES, Content, Stamp};
use super::{Place, World, failed};
use farshore_schemas::ids::{Digest, DiskName, Lineage, Name, PointId, TaskId, VmRef};
use farshore_schemas::messages::agent::{DiskPoint, Failure, Outcome, PruneStep};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How often an agent keeps what its trash has served.
const COUNTED_EVERY: u64 = 600_000;

/// A folder's content.
#[derive(Debug, Clone, Default)]
pub(crate) struct RepositoryWorld {
    /// Chunks in packs that no mark has named, and whether each is durable.
    pub(crate) chunks: BTreeMap<Stamp, bool>,
    /// Durable chunks in packs that a mark has named: they count for points, not for whoever stores.
    pub(crate) going: BTreeSet<Stamp>,
    /// Chunk lists of disks that were stored, by point.
    pub(crate) lists: BTreeMap<(PointId, DiskName), Content>,
    /// Points.
    pub(crate) manifests: BTreeMap<PointId, Manifest>,
    /// Until when points must stay, by the one true clock.
    until: BTreeMap<PointId, Timestamp>,
    /// Points that sweeps were told to drop.
    pub(crate) dropped: BTreeSet<PointId>,
    /// The mark that named what is going.
    pub(crate) mark: Option<u64>,
    /// What sweeps have taken away, by their marks.
    pub(crate) trash: BTreeMap<u64, TrashWorld>,
    /// The lineage of the log that it belongs to, in the story that has several.
    pub(crate) owner: Option<Lineage>,
    /// What former owners' sweeps have taken away.
    former: Vec<TrashWorld>,
    /// The bug: whoever stores counts on what is going.
    pub(crate) counts_going: bool,
    /// The bug: manifests that hold nothing.
    pub(crate) not_held: BTreeSet<PointId>,
    /// The highest log position that a step of a prune came with.
    pub(crate) position: u64,
    /// Who may come in.
    pub(crate) accesses: BTreeMap<TaskId, Vec<Digest>>,
    /// Digests of replicas' points.
    pub(crate) digests: BTreeMap<(Name, PointId, DiskName), Content>,
}

/// A prune's trash.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrashWorld {
    /// Chunks in it.
    pub(crate) chunks: BTreeSet<Stamp>,
    /// How long it is held, and how much of that is known as served, in ms.
    pub(crate) hold: u64,
    pub(crate) served: u64,
    /// Until when it is counted, by the agent that counts; none since that restarted.
    counted: Option<Uptime>,
    /// When it was filled, by the one true clock.
    since: i64,
}

/// The monotonic time of an agent, which says nothing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uptime {
    pub(crate) agent: usize,
    pub(crate) ms: u64,
}

/// A step of a prune as an agent carries it out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepNow {
    /// The log position that names the prune, and the one of the order.
    pub(crate) mark: u64,
    pub(crate) position: u64,
    /// The agent's monotonic time.
    pub(crate) uptime: Uptime,
    /// The one true clock.
    pub(crate) now: i64,
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Whose.
    pub(crate) vm: VmRef,
    /// When the VM was frozen.
    pub(crate) taken: Timestamp,
    /// Its disks' chunks.
    disks: BTreeMap<DiskName, Content>,
    /// Their checksums: a manifest never changes, and is looked at after every step.
    checksums: BTreeMap<DiskName, Digest>,
}

impl Manifest {
    fn new(vm: VmRef, taken: Timestamp, disks: BTreeMap<DiskName, Content>) -> Self {
        let checksums = disks.iter().map(|(name, content)| (name.clone(), content.checksum())).collect();
        Manifest { vm, taken, disks, checksums }
    }

    pub(crate) fn disks(&self) -> &BTreeMap<DiskName, Content> {
        &self.disks
    }

    pub(crate) fn checksums(&self) -> &BTreeMap<DiskName, Digest> {
        &self.checksums
    }
}

fn no_repository() -> Vec<Outcome> {
    failed("FS-REPOSITORY-NO-FOLDER", "no such repository".into(), false)
}

impl RepositoryWorld {
    /// A point that was just made must stay until then. A date that it has is not made earlier.
    pub(crate) fn keep_until(
        &mut self,
        point: &PointId,
        until: Option<Timestamp>,
        mut outcomes: Vec<Outcome>,
    ) -> Vec<Outcome> {
        if let [Outcome::PointDurable { immutable, .. }] = &mut outcomes[..] {
            if let Some(until) = until {
                self.until.entry(point.clone()).or_insert(until);
            }
            *immutable = self.until.get(point).copied();
        }
        outcomes
    }

    /// Points that must stay now.
    pub(crate) fn immutable(&self, now: i64) -> BTreeSet<PointId> {
        let stays = |(point, until): (&PointId, &Timestamp)| until.0 > now && self.manifests.contains_key(point);
        self.until.iter().filter(|one| stays(*one)).map(|(point, _)| point.clone()).collect()
    }

    /// Whether a mover may come in.
    pub(crate) fn lets_in(&self, access: &TaskId, peer: Digest) -> bool {
        self.accesses.get(access).is_some_and(|peers| peers.contains(&peer))
    }

    /// Puts chunks there; those that are new are not durable yet. Says how many are new.
    pub(crate) fn put(&mut self, content: &Content) -> u64 {
        let mut new = 0;
        let counts = |stamp: &Stamp| self.counts_going && self.going.contains(stamp);
        let wanted: Vec<Stamp> = content.0.into_iter().filter(|stamp| !counts(stamp)).collect();
        for stamp in wanted {
            self.chunks.entry(stamp).or_insert_with(|| {
                new += 1;
                false
            });
        }
        new
    }

    /// Makes chunks and their list durable. False when some are gone (a power cut in between).
    pub(crate) fn sync(&mut self, point: &PointId, disk: &DiskName, content: &Content) -> bool {
        if content.0.iter().any(|stamp| !self.chunks.contains_key(stamp) && !self.going.contains(stamp)) {
            return false;
        }
        for stamp in content.0 {
            if let Some(durable) = self.chunks.get_mut(&stamp) {
                *durable = true;
            }
        }
        self.lists.insert((point.clone(), disk.clone()), *content);
        true
    }

    /// The power is gone. Of the time that the trash has lain there the agent had kept what it keeps from time to time.
    pub(crate) fn power_cut(&mut self, uptime: Uptime) {
        self.chunks.retain(|_, durable| *durable);
        let kept = Uptime { ms: uptime.ms - uptime.ms % COUNTED_EVERY, ..uptime };
        let counts = |trash: &&mut TrashWorld| trash.counted.is_some_and(|counted| counted.agent == uptime.agent);
        for trash in self.trash.values_mut().filter(counts) {
            trash.count(kept);
            trash.counted = None;
        }
    }

    /// Whether a chunk is there and stays there over a power cut.
    pub(crate) fn is_durable(&self, stamp: &Stamp) -> bool {
        self.chunks.get(stamp) == Some(&true) || self.going.contains(stamp)
    }

    /// What is wrong with a point, if anything is.
    pub(crate) fn damage(&self, point: &PointId) -> Option<String> {
        let Some(manifest) = self.manifests.get(point) else { return Some(format!("point {point} has no manifest")) };
        let lost = |stamp: &&Stamp| !self.is_durable(stamp);
        let lost: Vec<&Stamp> = manifest.disks.values().flat_map(|disk| disk.0.iter()).filter(lost).collect();
        lost.first().map(|stamp| format!("point {point} lacks {} durable chunks, the first {stamp:?}", lost.len()))
    }
}

impl World {
    /// Lets movers in.
    pub(crate) fn open_access(&mut self, at: &Place, access: &TaskId, peers: &[Digest]) -> Vec<Outcome> {
        let Some(folder) = self.repositories.get_mut(at) else { return no_repository() };
        folder.accesses.insert(access.clone(), peers.to_vec());
        vec![Outcome::Done]
    }

    /// Shuts an access.
    pub(crate) fn close_access(&mut self, at: &Place, access: &TaskId) -> Vec<Outcome> {
        if let Some(folder) = self.repositories.get_mut(at) {
            folder.accesses.remove(access);
        }
        vec![Outcome::Done]
    }

    /// Makes a point of what was stored for it. `blind` leaves out the check that its chunks are durable.
    pub(crate) fn commit_point(
        &mut self,
        at: &Place,
        (point, vm): (&PointId, &VmRef),
        (taken, disks): (Timestamp, &[DiskPoint]),
        blind: bool,
    ) -> Vec<Outcome> {
        let Some(folder) = self.repositories.get_mut(at) else { return no_repository() };
        let mut content = BTreeMap::new();
        for disk in disks {
            let Some(list) = folder.lists.get(&(point.clone(), disk.name.clone())) else {
                return failed("FS-REPOSITORY-NO-LIST", format!("disk {} of {point} was not stored", disk.name), true);
            };
            let durable = list.0.iter().all(|stamp| folder.is_durable(stamp));
            if !durable && !blind {
                return failed("FS-REPOSITORY-CHUNKS", format!("chunks of {point} are not durable"), true);
            }
            if list.manifest() != disk.manifest {
                return failed("FS-REPOSITORY-MANIFEST", format!("the chunk list of {point} is another one"), false);
            }
            content.insert(disk.name.clone(), *list);
        }
        if folder.manifests.get(point).is_some_and(|there| there.disks != content) {
            return failed("FS-REPO-POINT-DIFFERS", format!("point {point} is there with other content"), false);
        }
        let stored = ByteCount(content.len() as u64 * BLOCK_BYTES);
        let proofs = content.iter().map(|(name, disk)| disk.proof(name, disk.manifest())).collect();
        folder.manifests.insert(point.clone(), Manifest::new(vm.clone(), taken, content));
        vec![Outcome::PointDurable { stored, disks: proofs, immutable: None }]
    }

    /// One step of a prune.
    pub(crate) fn prune(&mut self, at: &Place, points: &[PointId], (step, when): (PruneStep, StepNow)) -> Vec<Outcome> {
        let Some(folder) = self.repositories.get_mut(at) else { return no_repository() };
        if when.position < folder.position {
            let why = format!("the order knows the log up to {}, the folder up to {}", when.position, folder.position);
            return failed("FS-REPO-POSITION", why, false);
        }
        folder.position = when.position;
        match step {
            PruneStep::Mark => folder.mark_points(points, when.mark),
            PruneStep::Sweep { hold } => folder.sweep(points, (hold.0, when)),
            PruneStep::Empty { hold } => {
                let outcome = folder.empty(hold.0, when);
                if let Err(early) = &outcome {
                    self.wrongs.push(format!("{}: {early}", at.1));
                }
                outcome.unwrap_or_default()
            }
        }
    }

    /// Reads every chunk of a point.
    pub(crate) fn verify_point(&self, at: &Place, point: &PointId) -> Vec<Outcome> {
        let Some(folder) = self.repositories.get(at) else { return no_repository() };
        let damage: Vec<String> = folder.damage(point).into_iter().collect();
        let chunks = folder.manifests.get(point).map_or(0, |m| m.disks.len() * super::content::BLOCKS) as u64;
        vec![Outcome::Verified { chunks, damaged: damage.len() as u64, damage }]
    }
}

impl RepositoryWorld {
    /// Chunks that points name but for those that go.
    fn named(&self, going: &[PointId]) -> BTreeSet<Stamp> {
        let stays = |point: &PointId| !going.contains(point) && !self.not_held.contains(point);
        let stay = self.manifests.iter().filter(|(point, _)| stays(point));
        stay.flat_map(|(_, manifest)| manifest.disks.values()).flat_map(|disk| disk.0).collect()
    }

    /// The folder passes to another log: its positions begin anew, and what was taken away under the former one is set apart.
    pub(crate) fn pass_to(&mut self, lineage: Lineage) {
        self.unmark();
        self.former.extend(std::mem::take(&mut self.trash).into_values());
        (self.owner, self.position) = (Some(lineage), 0);
    }

    /// What a prune has put into the trash.
    pub(crate) fn trash_chunks(&self, mark: u64) -> BTreeSet<Stamp> {
        self.trash.get(&mark).map(|trash| trash.chunks.clone()).unwrap_or_default()
    }

    /// What would go counts no more for whoever stores. What an earlier mark named counts again.
    fn mark_points(&mut self, points: &[PointId], mark: u64) -> Vec<Outcome> {
        if self.mark != Some(mark) {
            self.unmark();
            let named = self.named(points);
            let goes = |(stamp, durable): (&Stamp, &bool)| (*durable && !named.contains(stamp)).then_some(*stamp);
            self.going = self.chunks.iter().filter_map(goes).collect();
            self.chunks.retain(|stamp, _| !self.going.contains(stamp));
            self.mark = Some(mark);
        }
        vec![Outcome::Done]
    }

    fn unmark(&mut self) {
        self.chunks.extend(std::mem::take(&mut self.going).into_iter().map(|stamp| (stamp, true)));
        self.mark = None;
    }

    /// Takes away the points, and of what was marked that which nothing names now.
    fn sweep(&mut self, points: &[PointId], (hold, when): (u64, StepNow)) -> Vec<Outcome> {
        if self.mark != Some(when.mark) {
            let done = self.trash.contains_key(&when.mark) && !points.iter().any(|p| self.manifests.contains_key(p));
            let why = format!("no mark at {}", when.mark);
            let pruned = vec![Outcome::Pruned { points: points.to_vec(), bytes: ByteCount(0) }];
            return if done { pruned } else { failed("FS-REPO-NO-MARK", why, true) };
        }
        let named = self.named(points);
        let taken: BTreeSet<Stamp> = self.going.difference(&named).copied().collect();
        self.going.retain(|stamp| named.contains(stamp));
        self.unmark();
        for point in points {
            self.manifests.remove(point);
            self.lists.retain(|(of, _), _| of != point);
            self.dropped.insert(point.clone());
        }
        let bytes = ByteCount(taken.len() as u64 * BLOCK_BYTES);
        let trash = self.trash.entry(when.mark).or_default();
        trash.chunks.extend(taken);
        trash.hold = trash.hold.max(hold);
        (trash.served, trash.counted, trash.since) = (0, Some(when.uptime), when.now);
        vec![Outcome::Pruned { points: points.to_vec(), bytes }]
    }

    /// Deletes what lies in the trash long enough by the agent's own count.
    ///
    /// # Errors
    /// What is wrong when it does not by the one true clock.
    fn empty(&mut self, hold: u64, when: StepNow) -> Result<Vec<Outcome>, String> {
        let emptied =
            |chunks: usize| vec![Outcome::Pruned { points: Vec::new(), bytes: ByteCount(chunks as u64 * BLOCK_BYTES) }];
        let Some(trash) = self.trash.get_mut(&when.mark) else { return Ok(emptied(0)) };
        trash.hold = trash.hold.max(hold);
        trash.count(when.uptime);
        let left = Millis(trash.hold.saturating_sub(trash.served));
        if left > Millis(0) {
            let (code, message) = ("FS-REPO-HELD".to_owned(), format!("held for {} ms more", left.0));
            let failure = Failure { code, message, advice: "wait".to_owned(), transient: true };
            return Ok(vec![Outcome::TooEarly { failure, left }]);
        }
        let lain = u64::try_from(when.now - trash.since).unwrap_or(0);
        if lain < trash.hold {
            return Err(format!("the trash of {} was emptied after {lain} ms of {}", when.mark, trash.hold));
        }
        let chunks = trash.chunks.len();
        self.trash.remove(&when.mark);
        Ok(emptied(chunks))
    }
}

impl TrashWorld {
    /// Counts what has passed since the same life of the same agent counted last.
    fn count(&mut self, uptime: Uptime) {
        let since =
            self.counted.filter(|counted| counted.agent == uptime.agent).map_or(uptime.ms, |counted| counted.ms);
        self.served += uptime.ms.saturating_sub(since);
        self.counted = Some(Uptime { ms: uptime.ms.max(since), ..uptime });
    }
}
