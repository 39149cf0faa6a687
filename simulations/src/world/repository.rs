//! A simulated repository: chunks that are durable or not, manifests, a trash, accesses, and the digests of replicas.

use super::content::{BLOCK_BYTES, Content, Stamp};
use super::{Place, World, failed};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId, TaskId, VmRef};
use farshore_schemas::messages::agent::{DiskPoint, Outcome};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A folder's content.
#[derive(Debug, Clone, Default)]
pub(crate) struct RepositoryWorld {
    /// Chunks, and whether each is durable.
    pub(crate) chunks: BTreeMap<Stamp, bool>,
    /// Chunk lists of disks that were stored, by point.
    pub(crate) lists: BTreeMap<(PointId, DiskName), Content>,
    /// Points.
    pub(crate) manifests: BTreeMap<PointId, Manifest>,
    /// Points that were dropped.
    pub(crate) trash: BTreeMap<PointId, Manifest>,
    /// Chunks that the last prune found unnamed.
    pub(crate) marked: BTreeSet<Stamp>,
    /// The log position of the last prune.
    pub(crate) position: u64,
    /// Who may come in.
    pub(crate) accesses: BTreeMap<TaskId, Vec<Digest>>,
    /// Digests of replicas' points.
    pub(crate) digests: BTreeMap<(Name, PointId, DiskName), Content>,
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Whose.
    pub(crate) vm: VmRef,
    /// When the VM was frozen.
    pub(crate) taken: Timestamp,
    /// Its disks' chunks.
    pub(crate) disks: BTreeMap<DiskName, Content>,
}

fn no_repository() -> Vec<Outcome> {
    failed("FS-REPOSITORY-NO-FOLDER", "no such repository".into(), false)
}

impl RepositoryWorld {
    /// Whether a mover may come in.
    pub(crate) fn lets_in(&self, access: &TaskId, peer: Digest) -> bool {
        self.accesses.get(access).is_some_and(|peers| peers.contains(&peer))
    }

    /// Puts chunks there; those that are new are not durable yet. Says how many are new.
    pub(crate) fn put(&mut self, content: &Content) -> u64 {
        let mut new = 0;
        for stamp in content.0 {
            self.chunks.entry(stamp).or_insert_with(|| {
                new += 1;
                false
            });
        }
        new
    }

    /// Makes chunks and their list durable. False when some are gone (a power cut in between).
    pub(crate) fn sync(&mut self, point: &PointId, disk: &DiskName, content: &Content) -> bool {
        if content.0.iter().any(|stamp| !self.chunks.contains_key(stamp)) {
            return false;
        }
        content.0.iter().for_each(|stamp| {
            self.chunks.insert(*stamp, true);
        });
        self.lists.insert((point.clone(), disk.clone()), *content);
        true
    }

    /// The power is gone.
    pub(crate) fn power_cut(&mut self) {
        self.chunks.retain(|_, durable| *durable);
    }

    /// What is wrong with a point, if anything is.
    pub(crate) fn damage(&self, point: &PointId) -> Option<String> {
        let Some(manifest) = self.manifests.get(point) else { return Some(format!("point {point} has no manifest")) };
        let lost = |stamp: &&Stamp| self.chunks.get(stamp) != Some(&true);
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
            let durable = list.0.iter().all(|stamp| folder.chunks.get(stamp) == Some(&true));
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
        folder.manifests.insert(point.clone(), Manifest { vm: vm.clone(), taken, disks: content });
        folder.trash.remove(point);
        vec![Outcome::PointDurable { stored, disks: proofs }]
    }

    /// Drops points, then chunks that nothing names and that the prune before marked.
    pub(crate) fn prune(&mut self, at: &Place, points: &[PointId], position: u64) -> Vec<Outcome> {
        let Some(folder) = self.repositories.get_mut(at) else { return no_repository() };
        if position < folder.position {
            let why = format!("the order knows the log up to {position}, the folder up to {}", folder.position);
            return failed("FS-REPOSITORY-BEHIND", why, false);
        }
        folder.position = position;
        for point in points {
            if let Some(manifest) = folder.manifests.remove(point) {
                folder.trash.insert(point.clone(), manifest);
            }
            folder.lists.retain(|(of, _), _| of != point);
        }
        let named: BTreeSet<Stamp> =
            folder.manifests.values().flat_map(|m| m.disks.values()).flat_map(|disk| disk.0).collect();
        let unnamed: BTreeSet<Stamp> = folder.chunks.keys().filter(|stamp| !named.contains(stamp)).copied().collect();
        let freed = unnamed.intersection(&folder.marked).count() as u64;
        folder.chunks.retain(|stamp, _| !(unnamed.contains(stamp) && folder.marked.contains(stamp)));
        folder.marked = unnamed.into_iter().filter(|stamp| folder.chunks.contains_key(stamp)).collect();
        vec![Outcome::Pruned { points: points.to_vec(), freed: ByteCount(freed * BLOCK_BYTES) }]
    }

    /// Reads every chunk of a point.
    pub(crate) fn verify_point(&self, at: &Place, point: &PointId) -> Vec<Outcome> {
        let Some(folder) = self.repositories.get(at) else { return no_repository() };
        let damage: Vec<String> = folder.damage(point).into_iter().collect();
        let chunks = folder.manifests.get(point).map_or(0, |m| m.disks.len() * super::content::BLOCKS) as u64;
        vec![Outcome::Verified { chunks, damaged: damage.len() as u64, damage }]
    }
}
