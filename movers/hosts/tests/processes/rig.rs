//! A host folder with VMs, gone at the end together with their guests.

use farshore_hosts::{DemoVm, FolderHost, PowerOn, SnapshotReader, VmStatus};
use farshore_schemas::ids::{DiskName, Name, Seq, VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::units::ByteCount;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// First argument of this program when it plays an agent.
pub(crate) const AGENT: &str = "agent-that-dies";
pub(crate) const SIZE: u64 = 8 * 1024 * 1024;

pub(crate) struct Rig {
    pub(crate) host: FolderHost,
    pub(crate) vm: VmName,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A host with one VM of one disk.
    pub(crate) fn new() -> Rig {
        Rig::with_disks(1)
    }

    pub(crate) fn with_disks(disks: u8) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let host = FolderHost::open(folder.path()).unwrap();
        let vm = VmName::parse("web").unwrap();
        host.demo_vm(&DemoVm { vm: &vm, seed: 7, size: ByteCount(SIZE), disks }).unwrap();
        Rig { host, vm, _folder: folder }
    }

    pub(crate) fn on(&self, counter: u64) -> farshore_hosts::Result<()> {
        let epoch = epoch(counter);
        let program = program();
        self.host.power_on(&self.vm, &PowerOn { origin: &origin(), epoch: &epoch, program: &program })
    }

    pub(crate) fn running(&self) -> bool {
        self.host.status(&self.vm).unwrap().is_running()
    }

    pub(crate) fn pid(&self) -> i32 {
        match self.host.status(&self.vm).unwrap() {
            VmStatus::Running(record) => record.process.pid,
            VmStatus::Off => panic!("the VM is off"),
        }
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.host.path().join("web/system.raw")
    }

    pub(crate) fn run_file(&self, name: &str) -> PathBuf {
        self.host.path().join("web/run").join(name)
    }

    /// Waits until the guest has stamped `more` times from now on.
    pub(crate) fn wait_for_stamps(&self, more: u64) {
        let count = || self.host.guest_status(&self.vm).unwrap().count;
        let aim = count() + more;
        until("the guest stamps", || count() >= aim);
    }

    pub(crate) fn reader(&self, snapshot: &str) -> farshore_hosts::Result<SnapshotReader> {
        self.host.open_for_reading(&self.vm, &disk("system.raw"), Some(&name(snapshot)))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.host.pull_the_plug(&self.vm);
    }
}

/// Waits for something that must come true.
pub(crate) fn until(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !come() {
        assert!(Instant::now() < deadline, "in 30 s it did not come true that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn disk(text: &str) -> DiskName {
    DiskName::parse(text).unwrap()
}

pub(crate) fn origin() -> VmRef {
    VmRef { site: "hq".parse().unwrap(), host: name("lab"), vm: VmName::parse("web").unwrap() }
}

pub(crate) fn epoch(counter: u64) -> Epoch {
    Epoch { counter, site: "hq".parse().unwrap(), frame: Seq(5) }
}

/// The whole disk as the reader gives it, read in uneven pieces, holes left out.
pub(crate) fn read_all(reader: &mut SnapshotReader) -> Vec<u8> {
    let mut bytes = vec![0u8; reader.size().0 as usize];
    for range in reader.extents().to_vec() {
        let mut at = range.start;
        while at < range.end {
            let next = (at + 70_001).min(range.end);
            reader.read_at(at, &mut bytes[at as usize..next as usize]).unwrap();
            at = next;
        }
    }
    bytes
}
