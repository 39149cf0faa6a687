//! Reading a qcow2 image.

use crate::gate::Gate;
use crate::{Backing, ImageError, QCOW2};
use farshore_repository::{RawSource, Source};
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, Mapping, Storage, StorageOpenOptions};
use std::io::{Error, Result};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// No hypervisor makes a larger disk; a header that says more would keep us busy for ever.
const LARGEST: u64 = 64 << 40;

/// A disk in a qcow2 image, compressed clusters and backing files included. Nobody may write to it meanwhile.
#[derive(Debug)]
pub struct Qcow2Source {
    access: FormatAccess<File>,
    size: u64,
    extents: Vec<Range<u64>>,
    backing: Vec<PathBuf>,
}

/// Calls imago, which is somebody else's code on what may be anybody's file: should it come to a panic there, that is one
/// image that cannot be read.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(Error::other("it makes no sense")))
}

impl Qcow2Source {
    pub(crate) fn open(path: &Path, backing: Backing) -> std::result::Result<Qcow2Source, ImageError> {
        // First as what it is on disk, so that no folder, pipe or tape is opened for an image.
        let raw = RawSource::open(path)?;
        let gate = Gate::new(backing);
        let opened = guarded(|| {
            let storage = File::open(StorageOpenOptions::new().filename(path))?;
            let access = FormatAccess::new(Qcow2::<File>::builder(storage).open(gate.clone())?);
            let extents = extents(&access)?;
            Ok((access, extents))
        });
        let asked = std::mem::take(&mut *gate.asked());
        if let Some(denied) = asked.denied {
            return Err(ImageError::Backing { path: path.to_owned(), backing: denied });
        }
        let unsound = |error: Error| ImageError::Unsound { path: path.to_owned(), why: error.to_string() };
        let (access, extents) = opened.map_err(unsound)?;
        maps_all(&raw).map_err(unsound)?;
        for behind in &asked.opened {
            maps_all(&RawSource::open(behind)?).map_err(unsound)?;
        }
        let size = access.size();
        Ok(Qcow2Source { access, size, extents, backing: asked.opened })
    }

    pub(crate) fn backing_files(&self) -> &[PathBuf] {
        &self.backing
    }
}

/// Whether the tables of an image are as large as its disk: what they do not speak of would read as zeros. Says nothing of what is no
/// qcow2 image (docs/interop/qcow2.rst of QEMU: the header's fields, and where an entry of level 1 leads).
fn maps_all(file: &RawSource) -> Result<()> {
    let mut header = [0; 80];
    if file.size() < header.len() as u64 {
        return Ok(());
    }
    file.read_at(0, &mut header)?;
    if !header.starts_with(QCOW2) {
        return Ok(());
    }
    let four = |at: usize| header[at..at + 4].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (version, cluster_bits, size, entries) = (four(4), four(20), four(24) << 32 | four(28), four(36));
    // Entries of level 2 have 8 bytes; 16 with the feature of sub-clusters.
    let entry_bits = if version >= 3 && header[79] & 0x10 != 0 { 4 } else { 3 };
    let mapped_by_one = 1u64.checked_shl((2 * cluster_bits.min(64)).saturating_sub(entry_bits) as u32).unwrap_or(0);
    if entries.saturating_mul(mapped_by_one) < size {
        return Err(Error::other(format!(
            "it says that its disk has {size} bytes, and its table of {entries} entries does not lead to all of them"
        )));
    }
    Ok(())
}

/// What holds data, in this image or one behind it.
fn extents(access: &FormatAccess<File>) -> Result<Vec<Range<u64>>> {
    let (mut at, size) = (0, access.size());
    if size > LARGEST {
        return Err(Error::other(format!(
            "it says that its disk has {size} bytes, and no disk has more than {LARGEST}"
        )));
    }
    let mut extents: Vec<Range<u64>> = Vec::new();
    while at < size {
        let (mapping, length) = access.get_mapping(at, size - at)?;
        let end = at + length.min(size - at);
        if end == at {
            return Err(Error::other(format!("it does not say what is at byte {at}")));
        }
        // What lies behind the end of a file would read as zeros: such an image was cut short.
        if let Mapping::Raw { storage, offset, .. } = &mapping {
            let (needed, there) = (offset.saturating_add(end - at), storage.size()?);
            if needed > there {
                return Err(Error::other(format!(
                    "it was cut short: it has {there} bytes, and names some up to {needed}"
                )));
            }
        }
        let holds = !matches!(mapping, Mapping::Zero { .. });
        match extents.last_mut() {
            Some(last) if holds && last.end == at => last.end = end,
            Some(_) | None if holds => extents.push(at..end),
            Some(_) | None => {}
        }
        at = end;
    }
    Ok(extents)
}

impl Source for Qcow2Source {
    fn size(&self) -> u64 {
        self.size
    }

    fn extents(&self) -> &[Range<u64>] {
        &self.extents
    }

    fn allocated(&self) -> &[Range<u64>] {
        &self.extents
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        // What is behind the end would read as zeros.
        if into.len() as u64 > self.size.saturating_sub(offset) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        guarded(|| self.access.read(into, offset))
    }
}
