//! P6: a point that is announced has all its chunks durable and restores to what the disks held when they were frozen.
//! P9: a session that says success has made what it says.

use super::Checkers;
use crate::layout;
use crate::world::World;
use crate::world::content::Disks;
use farshore_core::{naming, replica, repository, session};
use farshore_kernel::draft::Draft;
use farshore_kernel::site::Site;
use farshore_schemas::codec;
use farshore_schemas::ids::{EntityId, Kind, PointId};
use farshore_schemas::messages::SessionResult;
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::messages::job::Work;
use farshore_schemas::messages::replica::Step;
use serde::de::DeserializeOwned;

/// An actor's state, as its memory has it.
pub(crate) fn state_of<S: DeserializeOwned>(kernel: &Site, id: &EntityId) -> Option<S> {
    codec::decode_checked(&kernel.entity(id)?.memory().state).ok()
}

impl Checkers {
    /// An actor has decided and its state is folded.
    pub(crate) fn decided(&mut self, site: usize, draft: &Draft, kernel: &Site, world: &World) {
        self.note_rights(site, draft, kernel);
        let nothing_happened = draft.events.len() <= 1;
        if nothing_happened {
            return;
        }
        if draft.actor.kind == Kind::Repository {
            self.points_of_repository(site, &draft.actor, kernel, world);
        }
        if draft.actor.kind == Kind::Replica {
            self.points_of_replica(site, &draft.actor, kernel, world);
        }
        if draft.actor.kind == Kind::Session {
            self.session_result(site, &draft.actor, (kernel, world));
        }
    }

    /// Every point of every repository and replica.
    pub(crate) fn all_points(&mut self, site: usize, kernel: &Site, world: &World) {
        let actors: Vec<EntityId> = kernel.entities().map(|entity| entity.id().clone()).collect();
        for actor in &actors {
            if actor.kind == Kind::Repository {
                self.points_of_repository(site, actor, kernel, world);
            }
            if actor.kind == Kind::Replica {
                self.points_of_replica(site, actor, kernel, world);
            }
        }
    }

    fn points_of_repository(&mut self, site: usize, actor: &EntityId, kernel: &Site, world: &World) {
        let place = (layout::site(site), actor.name.clone());
        let Some(repository::State::Defined(state)) = state_of::<repository::State>(kernel, actor) else { return };
        let Some(folder) = world.repositories.get(&place) else { return };
        for (point, known) in &state.points {
            if let Some(damage) = folder.damage(point) {
                self.violate("P6", format!("{actor} announces {damage}"));
                continue;
            }
            let Some(manifest) = folder.manifests.get(point) else { continue };
            if !world.held(&known.facts.vm, known.facts.taken, manifest.disks()) {
                self.violate("P6", format!("{actor}: point {point} is not what {} held", known.facts.vm));
            }
            self.proven(actor, point.0.as_str(), (&known.facts.disks, manifest.disks()));
        }
    }

    pub(super) fn proven(&mut self, actor: &EntityId, point: &str, (proofs, held): (&[DiskPoint], &Disks)) {
        let same =
            |proof: &DiskPoint| held.get(&proof.name).is_some_and(|content| content.checksum() == proof.checksum);
        if proofs.len() != held.len() || !proofs.iter().all(same) {
            self.violate("P6", format!("{actor}: the proof of point {point} is of something else"));
        }
    }
}

impl Checkers {
    fn points_of_replica(&mut self, site: usize, actor: &EntityId, kernel: &Site, world: &World) {
        let Some(replica::State::Known(known)) = state_of::<replica::State>(kernel, actor) else { return };
        let place = (layout::site(site), known.protection.host.clone());
        let store = world.hosts.get(&place).and_then(|host| host.stores.get(&actor.name));
        let going = merged_now(&known.phase);
        for point in known.points.iter().filter(|point| !going.contains(&point.point)) {
            let sealed = store.and_then(|store| store.points.iter().find(|(id, _, _)| *id == point.point));
            let Some((_, taken, disks)) = sealed else {
                self.violate("P6", format!("{actor} announces point {}, which its store lacks", point.point));
                continue;
            };
            if !world.held(&known.protection.origin, *taken, disks) {
                self.violate("P6", format!("{actor}: point {} is not what the VM held", point.point));
            }
            self.proven(actor, point.point.0.as_str(), (&point.disks, disks));
        }
    }

    fn session_result(&mut self, site: usize, actor: &EntityId, (kernel, world): (&Site, &World)) {
        let Some(session::State::Begun(run)) = state_of::<session::State>(kernel, actor) else { return };
        if !self.proven_sessions.insert((site, actor.clone())) {
            return;
        }
        let session::Phase::Stopped { result: SessionResult::Success, .. } = run.phase else {
            self.proven_sessions.remove(&(site, actor.clone()));
            return;
        };
        if run.vms.is_empty() {
            self.violate("P9", format!("{actor} is a success without a VM"));
        }
        for vm in run.vms.values() {
            let there = match &run.spec.work {
                Work::Backup { repository, .. } => world
                    .repositories
                    .get(&(layout::site(site), repository.clone()))
                    .is_some_and(|folder| folder.damage(&vm.point).is_none() || folder.dropped.contains(&vm.point)),
                Work::Replication { target_host, .. } => {
                    let host = world.hosts.get(&(layout::site(site), target_host.clone()));
                    let store = host.and_then(|host| host.stores.get(&naming::replica_name(&run.job, &vm.vm)));
                    store.is_some_and(|store| store.points.iter().any(|(id, _, _)| *id == vm.point))
                }
                Work::Restore { repository, host, vm: made, .. } => {
                    let place = (layout::site(site), repository.clone());
                    let manifest = world.repositories.get(&place).and_then(|folder| folder.manifests.get(&vm.point));
                    let host = world.hosts.get(&(layout::site(site), host.clone()));
                    let made = host.and_then(|host| host.vms.get(made));
                    manifest.zip(made).is_some_and(|(point, made)| *point.disks() == made.disks)
                }
            };
            if !there {
                self.violate("P9", format!("{actor} is a success, and point {} of {} is not there", vm.point, vm.vm));
            }
        }
    }
}

/// Points that the store may have merged away already.
fn merged_now(phase: &replica::Phase) -> Vec<PointId> {
    match phase {
        replica::Phase::Processing(processing) => match &processing.making {
            replica::Making::Sealing { forget, .. } => forget.clone(),
            replica::Making::Receiving | replica::Making::RollingBack { .. } | replica::Making::RollbackWait { .. } => {
                Vec::new()
            }
        },
        replica::Phase::Working(work) => match &work.wait {
            Some((Step::Absorb { forget, .. }, _)) => forget.clone(),
            Some((Step::DropStore { .. }, _)) => Vec::new(),
            Some(_) | None => Vec::new(),
        },
        replica::Phase::Rest { .. } => Vec::new(),
    }
}
