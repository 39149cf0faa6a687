//! Tasks that move bytes between agents: they need both ends up and the link between them, and go on in steps.

use crate::bug::Bug;
use crate::choices::Draw;
use crate::effects::{Next, PATIENCE, Phase, Running};
use crate::layout;
use crate::sim::Sim;
use crate::world::content::{BLOCK_BYTES, BLOCKS, Content};
use crate::world::{Place, failed};
use farshore_schemas::ids::{Digest, DiskName};
use farshore_schemas::messages::agent::{DigestStore, DiskSink, Endpoint, Moved, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;

/// What a disk's transfer amounts to.
fn moved(changed: u64) -> Moved {
    let bytes = ByteCount(changed * BLOCK_BYTES);
    Moved { read: ByteCount(BLOCKS as u64 * BLOCK_BYTES), changed: bytes, sent: bytes, written: bytes }
}

fn no_peer(peer: &Endpoint) -> Vec<Outcome> {
    failed("FS-AGENT-PEER", format!("the data channel of {} does not answer", peer.agent), true)
}

impl Sim {
    /// Remembers how far a task is, and lets it wait.
    fn wait(&mut self, agent: usize, running: Running, or: Vec<Outcome>) -> Next {
        if running.waited >= PATIENCE {
            return Next::End(or);
        }
        let running = Running { waited: running.waited + 1, ..running };
        self.keep(agent, running);
        Next::In(self.choices.between(Draw::Task, 900, 1_100))
    }

    fn keep(&mut self, agent: usize, running: Running) {
        if let Some(live) = &mut self.agents[agent].live {
            live.running.insert(running.order.task.clone(), running);
        }
    }

    fn fingerprint(agent: usize) -> Digest {
        layout::endpoint(agent).fingerprint
    }

    /// Reads a snapshot and puts the chunks that the repository lacks there; then makes them durable.
    pub(crate) fn backup_disk(&mut self, agent: usize, running: Running) -> Next {
        let spec = running.order.spec.clone();
        let TaskSpec::BackupDisk { source, snapshot, target, repository, access, point, .. } = &spec else {
            return Next::End(Vec::new());
        };
        let Some(_) = self.reaches(agent, target) else { return self.wait(agent, running, no_peer(target)) };
        let at = self.here(agent, &source.host);
        let vault: Place = (target.site.clone(), repository.clone());
        let announced_early = self.bug.is(Bug::PointAnnouncedBeforeChunks);
        let content = match self.world.read_disk(&at, (&source.vm, &source.disk), Some(snapshot)) {
            Ok(content) => content,
            Err(outcomes) => return Next::End(outcomes),
        };
        let Some(folder) = self.world.repositories.get_mut(&vault) else {
            return Next::End(failed("FS-REPOSITORY-NO-FOLDER", "no such repository".to_owned(), false));
        };
        if !folder.lets_in(access, Self::fingerprint(agent)) {
            return Next::End(failed("FS-REPOSITORY-ACCESS", format!("access {access} is not open"), true));
        }
        let new = folder.put(&content);
        match running.phase {
            Phase::Written(before) if before == content => {
                if announced_early {
                    folder.lists.insert((point.clone(), source.disk.clone()), content);
                } else if !folder.sync(point, &source.disk, &content) {
                    return Next::End(failed("FS-REPOSITORY-CHUNKS", "chunks are gone".to_owned(), true));
                }
                let disk = content.proof(&source.disk, content.manifest());
                Next::End(vec![Outcome::DiskStored { disk, moved: moved(new), full_because: None }])
            }
            Phase::Begun | Phase::Written(_) | Phase::Waiting | Phase::Received(_) => {
                self.keep(agent, Running { phase: Phase::Written(content), ..running });
                Next::In(self.choices.between(Draw::Task, 5, 600))
            }
        }
    }

    /// Fetches a disk of a point into an image.
    pub(crate) fn restore_disk(&mut self, agent: usize, running: &Running) -> Next {
        let spec = running.order.spec.clone();
        let TaskSpec::RestoreDisk { source, repository, access, point, disk, target } = &spec else {
            return Next::End(Vec::new());
        };
        if self.reaches(agent, source).is_none() {
            return self.wait(agent, running.clone(), no_peer(source));
        }
        let at = self.here(agent, &target.host);
        let vault: Place = (source.site.clone(), repository.clone());
        let content = self.world.repositories.get(&vault).and_then(|folder| {
            if !folder.lets_in(access, Self::fingerprint(agent)) || folder.damage(point).is_some() {
                return None;
            }
            folder.manifests.get(point)?.disks().get(disk).copied()
        });
        let Some(content) = content else {
            return Next::End(failed("FS-REPOSITORY-READ", format!("disk {disk} of {point} cannot be read"), true));
        };
        match self.world.write_disk(&at, (&target.vm, &target.disk), content).first() {
            Some(Outcome::Done) => {
                let disk = content.proof(&target.disk, Digest::default());
                Next::End(vec![Outcome::DiskRestored { disk, moved: moved(BLOCKS as u64) }])
            }
            Some(_) | None => Next::End(failed("FS-HOST-NO-DISK", format!("{} cannot be written", target.disk), false)),
        }
    }

    /// Sends the blocks that differ from the digests, or from what the receiver holds.
    pub(crate) fn send_disk(&mut self, agent: usize, running: Running) -> Next {
        let spec = running.order.spec.clone();
        let TaskSpec::SendDisk { source, snapshot, peer, receive, digests } = &spec else {
            return Next::End(Vec::new());
        };
        let Some(other) = self.reaches(agent, peer) else { return self.wait(agent, running, no_peer(peer)) };
        let receiver = self.agents[other].live.as_ref().and_then(|live| live.running.get(receive)).cloned();
        let Some(receiver) = receiver.filter(|receiver| receiver.phase == Phase::Waiting) else {
            return self.wait(agent, running, no_peer(peer));
        };
        let TaskSpec::ReceiveDisk { peer: expected, sink } = &receiver.order.spec else {
            return Next::End(no_peer(peer));
        };
        if *expected != Self::fingerprint(agent) {
            return Next::End(failed("FS-AGENT-PEER", "the receiver expects another sender".to_owned(), false));
        }
        let at = self.here(agent, &source.host);
        let content = match self.world.read_disk(&at, (&source.vm, &source.disk), snapshot.as_ref()) {
            Ok(content) => content,
            Err(outcomes) => return Next::End(outcomes),
        };
        let known = match digests {
            Some(digests) => match self.known_blocks(agent, digests, &source.disk) {
                Ok(known) => known,
                Err(outcomes) => return Next::End(outcomes),
            },
            None => None,
        };
        let held = self.held_by(other, sink);
        let base = known.unwrap_or(held);
        let (mut result, mut changed) = (held, 0);
        for (block, stamp) in content.0.iter().enumerate() {
            if base.0[block] != *stamp {
                result.0[block] = *stamp;
                changed += 1;
            }
        }
        if let Some(digests) = digests {
            self.keep_digests(digests, &source.disk, content);
        }
        self.keep(other, Running { phase: Phase::Received(result), ..receiver });
        let full_because = (digests.as_ref().is_some_and(|digests| digests.base.is_some()) && known.is_none())
            .then(|| "the repository has no digests of the base".to_owned());
        let disk = content.proof(&source.disk, Digest::default());
        Next::End(vec![Outcome::DiskSent { disk, moved: moved(changed), full_because }])
    }

    /// What the digests say that the receiver holds.
    fn known_blocks(
        &self,
        agent: usize,
        digests: &DigestStore,
        disk: &DiskName,
    ) -> Result<Option<Content>, Vec<Outcome>> {
        let vault: Place = (digests.agent.site.clone(), digests.repository.clone());
        let folder = self.world.repositories.get(&vault);
        let (Some(_), Some(folder)) = (self.reaches(agent, &digests.agent), folder) else {
            return Err(no_peer(&digests.agent));
        };
        if !folder.lets_in(&digests.access, Self::fingerprint(agent)) {
            return Err(failed("FS-REPOSITORY-ACCESS", format!("access {} is not open", digests.access), true));
        }
        let Some(base) = &digests.base else { return Ok(None) };
        Ok(folder.digests.get(&(digests.replica.clone(), base.clone(), disk.clone())).copied())
    }

    fn keep_digests(&mut self, digests: &DigestStore, disk: &DiskName, content: Content) {
        let vault: Place = (digests.agent.site.clone(), digests.repository.clone());
        if let Some(folder) = self.world.repositories.get_mut(&vault) {
            folder.digests.insert((digests.replica.clone(), digests.point.clone(), disk.clone()), content);
        }
    }

    /// What a receiver's disk holds before anything comes.
    fn held_by(&self, agent: usize, sink: &DiskSink) -> Content {
        match sink {
            DiskSink::ReplicaStore { host, replica, disk, .. } => {
                let store = self.world.hosts.get(&self.here(agent, host)).and_then(|host| host.stores.get(replica));
                store.map(|store| store.newest(&disk.name)).unwrap_or_default()
            }
            DiskSink::VmDisk(disk, _) => {
                let host = self.world.hosts.get(&self.here(agent, &disk.host));
                let vm = host.and_then(|host| host.vms.get(&disk.vm));
                vm.and_then(|vm| vm.disks.get(&disk.disk)).copied().unwrap_or_default()
            }
        }
    }

    /// Waits for a sender, then makes what came durable.
    pub(crate) fn receive_disk(&mut self, agent: usize, running: Running) -> Next {
        let Phase::Received(content) = running.phase else {
            let gone = failed("FS-AGENT-NO-SENDER", "no sender has come".to_owned(), true);
            return self.wait(agent, running, gone);
        };
        let TaskSpec::ReceiveDisk { sink, .. } = &running.order.spec else { return Next::End(Vec::new()) };
        let name = match sink {
            DiskSink::ReplicaStore { host, replica, point, disk } => {
                let at = self.here(agent, host);
                self.world.store_receives(&at, replica, (point, &disk.name), content);
                disk.name.clone()
            }
            DiskSink::VmDisk(disk, _) => {
                let at = self.here(agent, &disk.host);
                let outcomes = self.world.write_disk(&at, (&disk.vm, &disk.disk), content);
                if outcomes != [Outcome::Done] {
                    return Next::End(outcomes);
                }
                disk.disk.clone()
            }
        };
        let disk = content.proof(&name, Digest::default());
        Next::End(vec![Outcome::DiskReceived { disk, moved: moved(BLOCKS as u64) }])
    }
}
