//! The VMs' disks: made small, hashed, and watched for stamps. A guest stamps a block every 20 ms under its epoch; the area
//! keeps the last few, so a thread reads all areas all the time and keeps each guest's span.

use super::Wrong;
use super::finding::Findings;
use farshore_hosts::{DemoVm, FolderHost, StampsArea, read_stamps};
use farshore_schemas::ids::{DiskName, VmName, VmRef};
use farshore_schemas::units::{ByteCount, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What the disks of a VM held: SHA-256 per disk, in hexadecimal.
pub(crate) type Hashes = BTreeMap<DiskName, String>;

/// Opens the folder of a host, made if need be.
pub(crate) fn open_host(path: &Path) -> Result<FolderHost, Wrong> {
    std::fs::create_dir_all(path)?;
    Ok(FolderHost::open(path)?)
}

/// Makes a VM with a file system of 16 MiB; every second one gets another disk.
pub(crate) fn make(host: &FolderHost, vm: &VmName, seed: u64) -> Result<(), Wrong> {
    let disks = 1 + u8::from(seed.is_multiple_of(2));
    Ok(host.demo_vm(&DemoVm { vm, seed, size: ByteCount(16 << 20), disks })?)
}

/// SHA-256 over every disk of a VM; the blocks of `without` read as zeros.
pub(crate) fn hashes(host: &FolderHost, vm: &VmName, without: Option<&StampsArea>) -> Result<Hashes, Wrong> {
    let mut hashes = Hashes::new();
    for disk in host.disks(vm)? {
        let area = without.filter(|area| area.disk == disk.name);
        let hash = hash(&host.disk_path(vm, &disk.name)?, area)?;
        hashes.insert(disk.name, hash);
    }
    Ok(hashes)
}

fn hash(path: &Path, without: Option<&StampsArea>) -> Result<String, Wrong> {
    let file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0u64;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        if let Some(area) = without {
            for (byte, place) in buffer[..read].iter_mut().zip(at..) {
                if (area.offset..area.offset + area.length).contains(&place) {
                    *byte = 0;
                }
            }
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
}

/// When one guest process wrote, as far as its stamps were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) since: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) epoch: u64,
    pub(crate) site: String,
}

/// Spans of all guests that were ever seen, per VM that they stand for.
#[derive(Default)]
pub(crate) struct Witness {
    spans: Mutex<BTreeMap<VmRef, BTreeMap<u64, Span>>>,
}

impl Witness {
    /// Reads the stamps of every VM of these hosts; `own` says for which VM one without an origin stands.
    pub(crate) fn look(&self, hosts: [&FolderHost; 2], own: &dyn Fn(&VmName) -> VmRef) {
        for host in hosts {
            // VMs and disks come and go while this looks: what is gone has been seen before.
            let Ok(listing) = host.list() else { continue };
            for facts in &listing.vms {
                let Ok(Some(area)) = host.stamps_area(&facts.vm) else { continue };
                let Ok(path) = host.disk_path(&facts.vm, &area.disk) else { continue };
                let Ok(stamps) = read_stamps(&path, &area) else { continue };
                let origin = facts.origin.clone().unwrap_or_else(|| own(&facts.vm));
                let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
                let guests = spans.entry(origin).or_default();
                for stamp in stamps {
                    let span = guests.entry(stamp.guest).or_insert_with(|| Span {
                        since: stamp.since,
                        last: stamp.time,
                        epoch: stamp.epoch,
                        site: stamp.site.to_string(),
                    });
                    span.last = span.last.max(stamp.time);
                }
            }
        }
    }

    /// How many guests were seen.
    pub(crate) fn guests(&self) -> usize {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).values().map(BTreeMap::len).sum()
    }

    /// Says of every two guests of one VM that wrote at the same time, and of every epoch that went back. No two may: an
    /// override is only ever given here after the other site's guest was unplugged.
    pub(crate) fn judge(&self, findings: &Findings) {
        for (origin, guests) in &*self.spans.lock().unwrap_or_else(PoisonError::into_inner) {
            for what in overlaps(guests.values().cloned().collect()) {
                findings.violation(&format!("{origin}: {what}"));
            }
        }
    }
}

fn overlaps(mut spans: Vec<Span>) -> Vec<String> {
    spans.sort_by_key(|span| (span.since, span.last));
    let mut wrong = Vec::new();
    let mut before: Option<Span> = None;
    for span in spans {
        if let Some(before) = &before {
            if span.since < before.last {
                wrong.push(format!("two guests wrote at once: {before:?} and {span:?}"));
            }
            if span.epoch == before.epoch && span.site != before.site {
                wrong.push(format!("two sites granted one epoch: {before:?} and {span:?}"));
            }
            if span.epoch < before.epoch {
                wrong.push(format!("a guest wrote under an epoch that was over: {span:?} after {before:?}"));
            }
        }
        if before.as_ref().is_none_or(|before| before.last <= span.last) {
            before = Some(span);
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(since: i64, last: i64, epoch: u64) -> Span {
        Span { since: Timestamp(since), last: Timestamp(last), epoch, site: "hq".to_owned() }
    }

    #[test]
    fn guests_one_after_the_other_are_well() {
        assert_eq!(overlaps(vec![span(20, 30, 1), span(0, 10, 0), span(30, 40, 1)]), Vec::<String>::new());
    }

    #[test]
    fn two_guests_at_once_are_found_however_far_apart_they_began() {
        assert_eq!(overlaps(vec![span(0, 100, 0), span(20, 30, 0), span(90, 120, 0)]).len(), 2);
    }

    #[test]
    fn an_epoch_that_goes_back_is_found() {
        assert_eq!(overlaps(vec![span(0, 10, 2), span(20, 30, 1)]).len(), 1);
    }
}
