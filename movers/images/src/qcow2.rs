//! Reading a qcow2 image.

use crate::gate::Gate;
use crate::{Backing, ImageError, header};
use farshore_repository::{RawSource, Source};
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, Mapping, Storage, StorageOpenOptions};
use std::io::{Error, Result};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Extents that are kept apart at most, some 16 MiB of them: of a disk in more pieces the smallest gaps count as data, which
/// reads as the zeros that it is.
const APART: usize = 1 << 20;

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
        header::check(path, &RawSource::open(path)?)?;
        let gate = Gate::new(backing);
        let opened = guarded(|| {
            let storage = File::open(StorageOpenOptions::new().filename(path))?;
            let access = FormatAccess::new(Qcow2::<File>::builder(storage).open(gate.clone())?);
            let extents = extents(&access)?;
            Ok((access, extents))
        });
        let asked = std::mem::take(&mut *gate.asked());
        if let Some(refused) = asked.refused {
            return Err(refused);
        }
        if let Some(denied) = asked.denied {
            return Err(ImageError::Backing { path: path.to_owned(), backing: denied });
        }
        let unsound = |error: Error| ImageError::Unsound { path: path.to_owned(), why: error.to_string() };
        let (access, extents) = opened.map_err(unsound)?;
        let size = access.size();
        Ok(Qcow2Source { access, size, extents, backing: asked.opened })
    }

    pub(crate) fn backing_files(&self) -> &[PathBuf] {
        &self.backing
    }
}

/// What holds data, in this image or one behind it.
fn extents(access: &FormatAccess<File>) -> Result<Vec<Range<u64>>> {
    let (mut at, size) = (0, access.size());
    let mut extents = Extents::default();
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
        if !matches!(mapping, Mapping::Zero { .. }) {
            extents.push(at..end, APART);
        }
        at = end;
    }
    Ok(extents.list)
}

/// Extents in order, a bounded number of them.
#[derive(Debug, Default)]
struct Extents {
    list: Vec<Range<u64>>,
    /// Gaps up to this long count as data.
    gap: u64,
}

impl Extents {
    /// Adds one that lies behind all that are there, of which `apart` are kept apart.
    fn push(&mut self, extent: Range<u64>, apart: usize) {
        self.join_or_push(extent);
        while self.list.len() > apart {
            self.gap = (2 * self.gap).max(512);
            for extent in std::mem::take(&mut self.list) {
                self.join_or_push(extent);
            }
        }
    }

    fn join_or_push(&mut self, extent: Range<u64>) {
        match self.list.last_mut() {
            Some(last) if extent.start - last.end <= self.gap => last.end = extent.end,
            Some(_) | None => self.list.push(extent),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_pieces_the_smallest_gaps_count_as_data_and_no_data_is_left_out() {
        let pieces: Vec<Range<u64>> = (0..1000u64).map(|n| n * 65536 + n % 7 * 512..n * 65536 + 32768).collect();
        let mut extents = Extents::default();
        for (number, piece) in pieces.iter().enumerate() {
            extents.push(piece.clone(), 100);
            assert!(extents.list.len() <= 100 && extents.list.len() > number / 1000);
        }
        let within =
            |piece: &&Range<u64>| extents.list.iter().any(|all| all.start <= piece.start && piece.end <= all.end);
        assert_eq!(pieces.iter().filter(within).count(), pieces.len());
        assert!(extents.list.is_sorted_by(|one, next| one.end < next.start));
        let mut few = Extents::default();
        pieces[..100].iter().for_each(|piece| few.push(piece.clone(), 100));
        assert_eq!(few.list, pieces[..100]);
    }
}
