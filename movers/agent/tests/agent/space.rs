//! What takes space at the source takes it in every disk that is made from it, and its holes are holes there.

use crate::data::{DISK, World, allocated, bytes};
use crate::support::*;
use farshore_format::Allocation;
use farshore_repository::{allocation, sparse};
use farshore_schemas::messages::agent::{DiskSink, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

fn open(image: &Path) -> File {
    File::options().read(true).write(true).open(image).unwrap()
}

#[track_caller]
fn takes_as_much(copy: &Path, original: &Path) {
    for image in [copy, original] {
        open(image).sync_all().unwrap();
    }
    let (copied, had) = (allocated(copy), allocated(original));
    assert!(copied.abs_diff(had) * 20 <= had, "{} takes {copied} bytes, its original {had}", copy.display());
    assert!(bytes(copy) == bytes(original), "{} differs", copy.display());
}

/// Zeros that were written in 3 to 4 MiB, and space set aside in 4 to 5 MiB.
fn with_zeros(image: &Path) {
    let file = open(image);
    file.write_all_at(&vec![0; MIB as usize], 3 * MIB).unwrap();
    allocation::allocate(&file, &Allocation::of_ranges(std::iter::once(4 * MIB..5 * MIB))).unwrap();
    file.sync_all().unwrap();
}

/// Zeros become a hole, and so does data.
fn punch(image: &Path) {
    let file = open(image);
    sparse::punch(&file, 3 * MIB, MIB / 2).unwrap();
    sparse::punch(&file, 0, MIB).unwrap();
    file.sync_all().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_disks_take_what_the_source_took_at_their_point() {
    let world = World::new().await;
    let access = world.access().await;
    with_zeros(&world.image);
    let first = world.at("first");
    sparse::copy(&open(&world.image), &first).unwrap();
    takes_as_much(&first, &world.image);
    world.backup(&access, "p1", None).await;
    punch(&world.image);
    world.backup(&access, "p2", Some("p1")).await;
    // The same bytes, and less space: a point of its own.
    sparse::punch(&open(&world.image), 4 * MIB, MIB).unwrap();
    world.backup(&access, "p3", Some("p2")).await;
    for (from, vm) in [("p1", "one"), ("p2", "two"), ("p3", "three")] {
        let restored = world.restore(&access, from, vm).await;
        assert!(matches!(restored, Outcome::DiskRestored { .. }), "{restored:?}");
    }
    let disk = |vm: &str| world.at("dr-host").join(vm).join("system.raw");
    takes_as_much(&disk("one"), &first);
    takes_as_much(&disk("three"), &world.image);
    assert!(bytes(&disk("two")) == bytes(&world.image));
    let freed = allocated(&disk("two")) - allocated(&disk("three"));
    assert!(freed.abs_diff(MIB) <= 64 * 1024, "{freed} bytes were freed between the points");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_working_disks_and_disks_that_come_home_take_what_the_source_took() {
    let world = World::new().await;
    let access = world.access().await;
    with_zeros(&world.image);
    let first = world.at("first");
    sparse::copy(&open(&world.image), &first).unwrap();
    world.replicate(&access, None, "r1").await;
    punch(&world.image);
    world.replicate(&access, Some("r1"), "r2").await;
    takes_as_much(&world.working("r1", "web-old").await, &first);
    let working = world.working("r2", "web").await;
    takes_as_much(&working, &world.image);

    // The guest at dr writes, zeros too, into a hole and over data; then its disk goes home.
    change(&working, &[700, 1300], 9000);
    let guest = open(&working);
    guest.write_all_at(&vec![0; MIB as usize / 2], MIB / 4).unwrap();
    guest.write_all_at(&vec![0; 8192], 1536 * 4096).unwrap();
    guest.sync_all().unwrap();
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
    assert!(matches!(sent, Outcome::DiskSent { .. }), "{sent:?}");
    let received = world.hq.outcome(&receive).await;
    assert!(matches!(received, Outcome::DiskReceived { .. }), "{received:?}");
    takes_as_much(&world.image, &working);
}
