//! Backup, restore, replication and failback, and who is let in.

use crate::support::*;
use farshore_agent::Agent;
use farshore_bus::LocalBus;
use farshore_schemas::ids::{Digest, TaskId};
use farshore_schemas::messages::agent::{
    DigestStore, DiskFacts, DiskPoint, DiskSink, Endpoint, Moved, Outcome, PruneStep, TaskSpec,
};
use farshore_schemas::units::{ByteCount, Millis};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const DISK: u64 = 8 * 1024 * 1024 + 512;

/// hq has a host and a repository, dr a host; three agents.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) hq: Arc<Control>,
    pub(crate) dr: Arc<Control>,
    pub(crate) source: Agent,
    repository: Option<Agent>,
    endpoint: Endpoint,
    pub(crate) target: Agent,
    pub(crate) image: PathBuf,
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(None).await
    }

    /// Its repository is encrypted by what this passphrase file holds.
    pub(crate) async fn encrypted(passphrase: &str) -> World {
        World::with(Some(passphrase)).await
    }

    async fn with(passphrase: Option<&str>) -> World {
        let folder = tempfile::tempdir().unwrap();
        passphrase.into_iter().for_each(|text| std::fs::write(folder.path().join("hq-repo.pass"), text).unwrap());
        let at = |part: &str| folder.path().join(part);
        for part in ["hq-host", "dr-host"] {
            std::fs::create_dir(at(part)).unwrap();
        }
        let bus = LocalBus::new();
        let (hq, dr) = (Control::start("hq", &bus).await, Control::start("dr", &bus).await);
        let source = agent(&hq, "source", &at("hq")).await;
        let repository = agent(&hq, "keeper", &at("hq")).await;
        let target = agent(&dr, "target", &at("dr")).await;
        let image = make_vm(&at("hq-host"), "web");
        hq.serve_host("source", "lab", &at("hq-host"));
        hq.serve_repository("keeper", "main", &at("hq-repo"));
        dr.serve_host("target", "lab2", &at("dr-host"));
        World {
            folder,
            hq,
            dr,
            source,
            endpoint: repository.endpoint().clone(),
            repository: Some(repository),
            target,
            image,
        }
    }

    /// The repository's agent.
    pub(crate) fn repository(&self) -> &Agent {
        self.repository.as_ref().expect("the test has not stopped it")
    }

    pub(crate) async fn stop_keeper(&mut self) {
        self.endpoint = self.repository().endpoint().clone();
        self.repository.take().expect("the test has not stopped it").stop().await.unwrap();
    }

    pub(crate) async fn start_keeper(&mut self) {
        let data = self.at("hq");
        self.repository = Some(agent(&self.hq, "keeper", &data).await);
        assert_eq!(*self.repository().endpoint(), self.endpoint);
    }

    pub(crate) fn at(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    /// Lets the source and the target into the repository.
    pub(crate) async fn access(&self) -> TaskId {
        let peers = vec![self.source.fingerprint(), self.target.fingerprint()];
        let task = self.hq.order("keeper", TaskSpec::OpenAccess { repository: name("main"), peers });
        assert_eq!(self.hq.outcome(&task).await, Outcome::Done);
        task
    }

    pub(crate) async fn backup(
        &self,
        access: &TaskId,
        snapshot: &str,
        parent: Option<&str>,
    ) -> (DiskPoint, Moved, Option<String>) {
        let (host, machine, frozen) = (name("lab"), vm("web"), name(snapshot));
        let begin = TaskSpec::SnapshotBegin { host: host.clone(), vm: machine.clone(), snapshot: frozen.clone() };
        let begun = self.hq.done("source", begin).await;
        assert!(matches!(begun, Outcome::Snapshot { .. }), "{begun:?}");
        let stored = self.hq.done("source", self.backup_spec(access, snapshot, parent)).await;
        assert_eq!(
            self.hq.done("source", TaskSpec::SnapshotEnd { host, vm: machine, snapshot: frozen }).await,
            Outcome::Done
        );
        let Outcome::DiskStored { disk, moved, full_because } = stored else { panic!("{stored:?}") };
        self.commit(snapshot, disk.clone()).await;
        (disk, moved, full_because)
    }

    pub(crate) fn backup_spec(&self, access: &TaskId, snapshot: &str, parent: Option<&str>) -> TaskSpec {
        TaskSpec::BackupDisk {
            source: disk_of("lab", "web"),
            snapshot: name(snapshot),
            target: self.endpoint.clone(),
            repository: name("main"),
            access: access.clone(),
            point: point(snapshot),
            parent: parent.map(point),
        }
    }

    pub(crate) async fn commit(&self, called: &str, disk: DiskPoint) {
        let commit = TaskSpec::CommitPoint {
            repository: name("main"),
            point: point(called),
            vm: origin(),
            taken: now(),
            disks: vec![disk],
            immutable: None,
        };
        let committed = self.hq.done("keeper", commit).await;
        assert!(matches!(committed, Outcome::PointDurable { .. }), "{committed:?}");
    }

    pub(crate) async fn restore(&self, access: &TaskId, from: &str, to: &str) -> Outcome {
        let disks = vec![DiskFacts { name: disk("system.raw"), size: ByteCount(DISK) }];
        let create = TaskSpec::CreateVm { host: name("lab2"), vm: vm(to), disks, origin: origin() };
        assert_eq!(self.dr.done("target", create).await, Outcome::Done);
        let restore = TaskSpec::RestoreDisk {
            source: self.repository().endpoint().clone(),
            repository: name("main"),
            access: access.clone(),
            point: point(from),
            disk: disk("system.raw"),
            target: disk_of("lab2", to),
        };
        self.dr.done("target", restore).await
    }

    /// Sends hq's disk into the replica at dr and seals the point.
    pub(crate) async fn replicate(&self, access: &TaskId, base: Option<&str>, making: &str) -> (Moved, Option<String>) {
        let sink = DiskSink::ReplicaStore {
            host: name("lab2"),
            replica: name("web"),
            point: point(making),
            disk: DiskFacts { name: disk("system.raw"), size: ByteCount(DISK) },
        };
        let receive = self.dr.order("target", TaskSpec::ReceiveDisk { peer: self.source.fingerprint(), sink });
        let digests = DigestStore {
            agent: self.repository().endpoint().clone(),
            repository: name("main"),
            access: access.clone(),
            replica: name("web"),
            base: base.map(point),
            point: point(making),
        };
        let send = TaskSpec::SendDisk {
            source: disk_of("lab", "web"),
            snapshot: None,
            peer: self.target.endpoint().clone(),
            receive: receive.clone(),
            digests: Some(digests),
        };
        let sent = self.hq.done("source", send).await;
        let Outcome::DiskSent { disk, moved, full_because } = sent else { panic!("{sent:?}") };
        let received = self.dr.outcome(&receive).await;
        let Outcome::DiskReceived { disk: there, .. } = received else { panic!("{received:?}") };
        assert_eq!(disk.checksum, there.checksum);
        let seal = TaskSpec::SealReplicaPoint {
            host: name("lab2"),
            replica: name("web"),
            point: point(making),
            taken: now(),
            disks: vec![disk],
            forget: Vec::new(),
        };
        let sealed = self.dr.done("target", seal).await;
        assert!(matches!(sealed, Outcome::PointDurable { .. }), "{sealed:?}");
        (moved, full_because)
    }

    pub(crate) async fn working(&self, from: &str, called: &str) -> PathBuf {
        let make = TaskSpec::MakeWorking {
            host: name("lab2"),
            replica: name("web"),
            point: point(from),
            vm: vm(called),
            origin: origin(),
        };
        let made = self.dr.done("target", make).await;
        assert!(matches!(made, Outcome::Snapshot { .. }), "{made:?}");
        self.at("dr-host").join(called).join("system.raw")
    }
}

pub(crate) fn bytes(image: &Path) -> Vec<u8> {
    std::fs::read(image).unwrap()
}

pub(crate) fn allocated(image: &Path) -> u64 {
    std::fs::metadata(image).unwrap().blocks() * 512
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_an_increment_are_restored_byte_for_byte_with_their_holes() {
    let world = World::new().await;
    let access = world.access().await;
    let old = bytes(&world.image);
    let (full, moved, _) = world.backup(&access, "p1", None).await;
    assert_eq!(full.checksum, farshore_format::checksum(&old));
    assert!(moved.read.0 < 3 * 1024 * 1024, "holes were read: {moved:?}");

    change(&world.image, &[3, 4], 70);
    let new = bytes(&world.image);
    let (_, moved, full_because) = world.backup(&access, "p2", Some("p1")).await;
    assert_eq!(full_because, None);
    assert!((8192..=256 * 1024).contains(&moved.changed.0), "the chunks around two blocks changed: {moved:?}");
    assert!(moved.sent.0 < 300 * 1024, "{moved:?}");

    let restored = world.restore(&access, "p1", "old").await;
    let Outcome::DiskRestored { disk, .. } = restored else { panic!("{restored:?}") };
    assert_eq!(disk.checksum, full.checksum);
    let image = world.at("dr-host").join("old/system.raw");
    assert!(bytes(&image) == old, "the restored disk differs");
    assert!(allocated(&image) <= allocated(&world.image) + 64 * 1024, "holes were filled");
    world.restore(&access, "p2", "new").await;
    assert!(bytes(&world.at("dr-host").join("new/system.raw")) == new, "the restored disk differs");

    let verified =
        world.hq.done("keeper", TaskSpec::VerifyPoint { repository: name("main"), point: point("p2") }).await;
    assert!(matches!(verified, Outcome::Verified { damaged: 0, .. }), "{verified:?}");
    let close = TaskSpec::CloseAccess { repository: name("main"), access: access.clone() };
    assert_eq!(world.hq.done("keeper", close).await, Outcome::Done);
    let (hour, none) = (Millis::from_mins(60), Millis(0));
    let step = |position, step| {
        let points = if matches!(step, PruneStep::Empty { .. }) { Vec::new() } else { vec![point("p1")] };
        world.hq.done("keeper", TaskSpec::PrunePoints { repository: name("main"), points, mark: 9, position, step })
    };
    assert_eq!(step(9, PruneStep::Mark).await, Outcome::Done);
    let behind = step(8, PruneStep::Sweep { hold: hour }).await;
    assert!(matches!(&behind, Outcome::Failed(failure) if failure.code == "FS-REPO-POSITION"), "{behind:?}");
    let swept = step(10, PruneStep::Sweep { hold: hour }).await;
    assert!(matches!(&swept, Outcome::Pruned { points, .. } if *points == [point("p1")]), "{swept:?}");
    let early = step(11, PruneStep::Empty { hold: none }).await;
    let Outcome::TooEarly { failure, left } = early else { panic!("{early:?}") };
    assert_eq!(failure.code, "FS-REPO-HELD");
    assert!(failure.transient && left.0 <= hour.0 && left.0 > hour.0 / 2, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_sends_what_changed_and_failback_brings_only_the_difference_home() {
    let world = World::new().await;
    let access = world.access().await;
    let first = bytes(&world.image);
    let (_, full_because) = world.replicate(&access, None, "r1").await;
    assert_eq!(full_because, None);

    change(&world.image, &[1, 2, 700, 1536], 500);
    let second = bytes(&world.image);
    let (moved, full_because) = world.replicate(&access, Some("r1"), "r2").await;
    assert_eq!(full_because, None, "the kept digests were not used");
    assert_eq!(moved.changed, ByteCount(4 * 4096));
    assert!(moved.sent.0 < 4 * 4096 + 64 * 1024, "{moved:?}");

    let old = world.working("r1", "web-old").await;
    assert!(bytes(&old) == first, "the first point differs");
    let working = world.working("r2", "web").await;
    assert!(bytes(&working) == second, "the second point differs");

    // The guest at dr writes; then its disk goes home.
    let written: Vec<u64> = (0..64).map(|at| at * 31).collect();
    change(&working, &written, 9000);
    let before = world.target.metrics().counts();
    let sink = DiskSink::VmDisk(disk_of("lab", "web"), ByteCount(DISK));
    let receive = world.hq.order("source", TaskSpec::ReceiveDisk { peer: world.target.fingerprint(), sink });
    let send = TaskSpec::SendDisk {
        source: disk_of("lab2", "web"),
        snapshot: None,
        peer: world.source.endpoint().clone(),
        receive: receive.clone(),
        digests: None,
    };
    let sent = world.dr.done("target", send).await;
    let Outcome::DiskSent { moved, .. } = sent else { panic!("{sent:?}") };
    let received = world.hq.outcome(&receive).await;
    assert!(matches!(received, Outcome::DiskReceived { .. }), "{received:?}");
    assert!(bytes(&world.image) == bytes(&working), "the disk that came home differs");
    assert_eq!(moved.changed, ByteCount(64 * 4096));
    let after = world.target.metrics().counts();
    let on_the_wire = after.bytes_sent - before.bytes_sent + after.bytes_received - before.bytes_received;
    assert!(on_the_wire <= 64 * 4096 * 11 / 10 + 1024 * 1024, "{on_the_wire} bytes for {} changed", 64 * 4096);

    let absorb = TaskSpec::AbsorbWorking {
        host: name("lab2"),
        replica: name("web"),
        vm: vm("web"),
        point: point("r3"),
        taken: now(),
        forget: vec![point("r1")],
    };
    let absorbed = world.dr.done("target", absorb).await;
    assert!(matches!(absorbed, Outcome::PointDurable { .. }), "{absorbed:?}");
    assert!(!working.exists(), "the working VM is gone");
    let drop_working = TaskSpec::DropWorking { host: name("lab2"), replica: name("web"), vm: vm("web-old") };
    assert_eq!(world.dr.done("target", drop_working).await, Outcome::Done);
    let again = world.working("r3", "web").await;
    assert!(bytes(&again) == bytes(&world.image), "the absorbed point differs");
    let listing = world.dr.done("target", TaskSpec::Discover { host: name("lab2") }).await;
    let Outcome::Inventory { vms, last: true } = listing else { panic!("{listing:?}") };
    assert_eq!(vms.iter().map(|facts| facts.vm.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!(vms[0].origin, Some(origin()));
    let dropped = world.dr.done("target", TaskSpec::DropReplica { host: name("lab2"), replica: name("web") }).await;
    assert_eq!(dropped, Outcome::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_of_a_state_that_the_receiver_does_not_hold_are_not_trusted() {
    let world = World::new().await;
    let access = world.access().await;
    world.replicate(&access, None, "r1").await;
    change(&world.image, &[5], 1);
    world.replicate(&access, Some("r1"), "r2").await;
    change(&world.image, &[6], 1);
    let (_, full_because) = world.replicate(&access, Some("r1"), "r3").await;
    assert!(full_because.is_some(), "r1's digests were taken for r2's disk");
    let image = world.working("r3", "web").await;
    assert!(bytes(&image) == bytes(&world.image), "the replica differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_whom_no_open_order_names() {
    use std::io::{Read, Write};
    let world = World::new().await;
    let access = {
        let peers = vec![world.target.fingerprint()];
        let task = world.hq.order("keeper", TaskSpec::OpenAccess { repository: name("main"), peers });
        assert_eq!(world.hq.outcome(&task).await, Outcome::Done);
        task
    };
    let mut garbage = std::net::TcpStream::connect(world.repository().listening()).unwrap();
    garbage.write_all(&noise(3, 100_000)).ok();
    let mut rest = Vec::new();
    // Closed with or without an alert: either way it ends.
    let _ = garbage.read_to_end(&mut rest);
    world
        .hq
        .until("the garbage is counted", |_| (world.repository().metrics().counts().garbage == 1).then_some(()))
        .await;

    let frozen = name("p1");
    let begin = TaskSpec::SnapshotBegin { host: name("lab"), vm: vm("web"), snapshot: frozen.clone() };
    world.hq.done("source", begin).await;
    let backup = |target: Endpoint| TaskSpec::BackupDisk {
        source: disk_of("lab", "web"),
        snapshot: frozen.clone(),
        target,
        repository: name("main"),
        access: access.clone(),
        point: point("p1"),
        parent: None,
    };
    let stranger = world.hq.order("source", backup(world.repository().endpoint().clone()));
    let counts = || world.repository().metrics().counts();
    world.hq.until("the stranger is refused", |_| (counts().refused_peers > 0).then_some(())).await;
    assert_eq!(counts().accepted, 0);
    world.hq.say(
        "source",
        farshore_schemas::ids::Kind::Mover,
        farshore_schemas::messages::agent::Command::Cancel { task: stranger.clone() },
    );
    assert_eq!(world.hq.outcome(&stranger).await, Outcome::Cancelled);

    let impostor = Endpoint { fingerprint: Digest([7; 32]), ..world.repository().endpoint().clone() };
    let refused = world.hq.done("source", backup(impostor)).await;
    let Outcome::Failed(failure) = refused else { panic!("{refused:?}") };
    assert_eq!(failure.code, "FS-AGENT-PEER");
}
