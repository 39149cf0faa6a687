//! Two sites, joined by a socket: what replicas cost, and that a failback sends only what differs.

use crate::bad_input::make_vm;
use crate::from_images::{allocated, as_sparse_as};
use crate::site::Site;
use crate::support::{sha256, text, until};
use farshore_bus::{LocalBus, SocketHub};
use farshore_core::naming::replica_name;
use farshore_schemas::ids::{Name, SiteName, VmName, VmRef};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
const BLOCK: usize = 4096;

/// Two sites and the bus between them.
pub(crate) struct Pair {
    pub(crate) hq: Site,
    pub(crate) dr: Site,
    _hub: SocketHub,
    _runtime: tokio::runtime::Runtime,
}

pub(crate) fn pair(folder: &Path) -> Pair {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bus = folder.join("bus");
    let hub = {
        let _inside = runtime.enter();
        SocketHub::serve(LocalBus::new(), &bus).unwrap()
    };
    let up = |site: &str| {
        let agent = format!("{site}-mover");
        Site::up(&folder.join(site), &["--bare", "--site", site, "--agent", &agent, "--join", text(&bus)])
    };
    let (hq, dr) = (up("hq"), up("dr"));
    let head = |kind: &str, name: &str| format!("apiVersion: farshore/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n");
    hq.apply(
        &[
            head("Site", "hq") + "spec: {peers: [dr]}\n",
            head("Mover", "hq-mover") + "spec: {roles: [source, target, repository], slots: 4}\n",
            head("Repository", "hq-repo")
                + &format!("spec: {{mover: hq-mover, path: {}}}\n", text(&folder.join("hq/repository"))),
            head("Host", "hq-host")
                + &format!("spec: {{mover: hq-mover, folder: {}}}\n", text(&folder.join("hq/hosts/local"))),
        ]
        .join("---\n"),
    );
    fs::create_dir_all(folder.join("dr/hosts/local")).unwrap();
    dr.apply(&[
        head("Site", "dr") + "spec: {peers: [hq]}\n",
        head("Mover", "dr-mover") + "spec: {roles: [source, target], slots: 4}\n",
        head("Host", "dr-host") + &format!("spec: {{mover: dr-mover, folder: {}}}\n", text(&folder.join("dr/hosts/local"))),
        head("Job", "offsite") + "spec: {replication: {sourceSite: hq, sourceHost: hq-host, digests: hq-repo, targetHost: dr-host}, keep: 7}\n",
    ]
    .join("---\n"));
    for (site, host) in [(&hq, "hq-host"), (&dr, "dr-host")] {
        until("the first listing", || (site.state("host", host)["Defined"]["revision"].as_u64()? > 0).then_some(()));
    }
    Pair { hq, dr, _hub: hub, _runtime: runtime }
}

/// Noise that does not compress; other noise for another seed.
fn noise(seed: u64, bytes: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for eight in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        eight.copy_from_slice(&state.to_le_bytes()[..eight.len()]);
    }
}

/// A VM of one disk: noise, or, if it is to be sparse, noise in every fourth MiB, 3 MiB of written zeros, 3 MiB that were
/// set aside and never written, and holes.
fn raw_vm(folder: &Path, name: &str, mib: u64, sparse: bool) -> PathBuf {
    let path = folder.join(name).join("disk.raw");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(&path).unwrap();
    file.set_len(mib * MIB).unwrap();
    let mut chunk = vec![0; 1 << 20];
    for at in (0..mib).filter(|at| !sparse || at % 4 == 1) {
        noise(at + 1, &mut chunk);
        file.write_all_at(&chunk, at * MIB).unwrap();
    }
    if sparse {
        file.write_all_at(&vec![0; 3 << 20], 10 * MIB).unwrap();
        set_aside(&file, 18 * MIB, 3 * MIB);
    }
    path
}

/// Gives every hole of a part of a disk space, as `mkfs.ext4` does for a journal.
fn set_aside(file: &File, offset: u64, length: u64) {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length).unwrap();
}

/// Changes 1 % of a disk: single blocks, scattered over all of it.
fn change_one_percent(disk: &Path, round: u64) {
    let file = File::options().write(true).open(disk).unwrap();
    let blocks = file.metadata().unwrap().len() / BLOCK as u64;
    let mut block = vec![0; BLOCK];
    for number in 0..blocks / 100 {
        noise(round * 100_000 + number, &mut block);
        let at = (number * 97 + round * 31) % blocks;
        file.write_all_at(&block, at * BLOCK as u64).unwrap();
    }
    file.sync_all().unwrap();
}

pub(crate) fn replica_of(vm: &str) -> String {
    let vm = VmName::parse(vm).unwrap();
    let origin = VmRef { site: SiteName::parse("hq").unwrap(), host: Name::parse("hq-host").unwrap(), vm };
    replica_name(&Name::parse("offsite").unwrap(), &origin).to_string()
}

/// Bytes that all files below a folder take.
fn allocated_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { allocated_below(&path) } else { allocated(&path) }).sum()
}

fn differing_bytes(a: &[u8], b: &[u8]) -> u64 {
    assert_eq!(a.len(), b.len());
    a.chunks(BLOCK).zip(b.chunks(BLOCK)).filter(|(a, b)| a != b).map(|(a, _)| a.len() as u64).sum()
}

/// Bytes that a replica's transfers have sent since a frame of its site's log.
fn sent_since(dr: &Site, replica: &str, seq: u64) -> u64 {
    let (actor, from) = (format!("replica/{replica}"), (seq + 1).to_string());
    let listed =
        dr.farshore(&["log", "ls", "--actor", &actor, "--from", &from, "--limit", "9999", "-o", "json"]).good();
    let mut sent = 0;
    for line in listed.json().as_array().unwrap() {
        if line["events"].to_string().contains("TaskDone") {
            let shown = dr.farshore(&["log", "show", &line["seq"].to_string(), "-o", "json"]).good().json();
            let events = shown["decided"]["events"].as_array().unwrap().clone();
            sent += events.iter().filter_map(|event| event["TaskDone"]["moved"]["sent"].as_u64()).sum::<u64>();
        }
    }
    sent
}

#[test]
fn replica_points_are_small_and_a_failback_sends_only_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let vms = folder.path().join("hq/hosts/local");
    let bulk = raw_vm(&vms, "bulk", 48, false);
    let sparse = raw_vm(&vms, "sparse", 40, true);
    make_vm(&folder.path().join("hq"), "guest", 3);
    let guest = File::options().write(true).open(vms.join("guest/system.raw")).unwrap();
    set_aside(&guest, 0, guest.metadata().unwrap().len() / 2);
    let both = pair(folder.path());
    let stores = folder.path().join("dr/hosts/local/.farshore-replicas");
    both.dr.farshore(&["job", "run", "offsite"]).good();
    for round in 1..=5 {
        change_one_percent(&bulk, round);
        both.dr.farshore(&["job", "run", "offsite"]).good();
    }
    let known = both.dr.state("replica", &replica_of("bulk"));
    assert!(known["Known"]["points"].as_array().is_some_and(|points| points.len() == 6), "{known}");
    let (taken, size) = (allocated_below(&stores.join(replica_of("bulk"))), fs::metadata(&bulk).unwrap().len());
    println!("six points, five of them after a change of 1 %, take {:.3} of the disk", taken as f64 / size as f64);
    assert!(taken * 10 <= size * 12, "five points after changes of 1 % take {taken} bytes of a disk of {size}");
    failed_over_disks_are_the_source(&both, &[("bulk", &bulk), ("sparse", &sparse)]);
    let (changed, sent) = failback_sends_the_difference(&both, &folder.path().join("dr/hosts/local"), &vms);
    println!("failback: {changed} bytes of blocks differ, {sent} bytes sent");
    both.dr.stop();
    both.hq.stop();
}

/// Planned: the source is there and releases its VMs.
fn failed_over_disks_are_the_source(both: &Pair, vms: &[(&str, &Path)]) {
    for (vm, original) in vms {
        let replica = replica_of(vm);
        both.dr.farshore(&["failover", "--replica", &replica]).good();
        let working = both.dr.folder.join("hosts/local").join(&replica).join("disk.raw");
        assert_eq!(sha256(&working), sha256(original), "{vm} runs at dr as it was at hq");
        as_sparse_as(&working, original);
        both.dr.farshore(&["failover", "--undo", "--replica", &replica]).good();
        assert!(!working.exists(), "undo leaves nothing of {vm} at dr");
    }
}

/// Returns how many bytes of blocks differed, and how many were sent.
fn failback_sends_the_difference(both: &Pair, dr_host: &Path, hq_host: &Path) -> (u64, u64) {
    let replica = replica_of("guest");
    let production = hq_host.join("guest/system.raw");
    let held = fs::read(&production).unwrap();
    both.dr.farshore(&["failover", "--replica", &replica]).good();
    both.dr.command("host", "dr-host", &json!({"Host": {"GuestWrite": {"vm": replica, "seed": 77}}}));
    until("the guest's write", || {
        both.dr.state("host", "dr-host")["Defined"]["orders"]["open"]
            .as_object()
            .is_some_and(|open| open.is_empty())
            .then_some(())
    });
    let working = dr_host.join(&replica).join("system.raw");
    assert_ne!(fs::read(&working).unwrap(), held, "the guest wrote at dr");
    let had = allocated(&production);
    let status = both.dr.farshore(&["status", "-o", "json"]).good().json();
    let before = status["last"].as_u64().unwrap();
    both.dr.farshore(&["failback", "start", "--replica", &replica]).good();
    both.dr.farshore(&["failback", "switch", "--replica", &replica]).good();
    let changed = differing_bytes(&held, &fs::read(&production).unwrap());
    let sent = sent_since(&both.dr, &replica, before);
    as_sparse_as(&production, &working);
    assert!(allocated(&production) * 20 >= had * 19, "production takes {} of {had}", allocated(&production));
    assert!(changed > 0 && sent > 0, "{changed} bytes changed, {sent} sent");
    assert!(sent <= changed * 11 / 10 + MIB, "{sent} bytes sent for {changed} that differ");
    both.dr.farshore(&["failback", "commit", "--replica", &replica]).good();
    (changed, sent)
}
