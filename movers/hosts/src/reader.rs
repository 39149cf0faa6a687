//! Reading a disk as it was when a snapshot began, while its guest goes on writing. A read takes the image's bytes first
//! and then lays over them every block that the snapshot's file holds by then: a guest puts a block there before it
//! overwrites it, so whatever the read saw of an overwrite is covered.
//!
//! What nobody keeps is detected, not prevented: an image that something else than its guest wrote to. `finish` compares
//! the image with what the snapshot's file says it should be by now.

use crate::cow::{Record, Tail};
use crate::error::{HostError, Result};
use crate::image::{self, Access, ImageFacts};
use crate::run::RunFolder;
use farshore_schemas::ids::DiskName;
use farshore_schemas::units::{ByteCount, Timestamp};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// A disk as it was at one moment.
#[derive(Debug)]
pub struct SnapshotReader {
    path: PathBuf,
    file: File,
    /// Where data was when the reader was opened: what was a hole then was one at the beginning, too.
    extents: Vec<Range<u64>>,
    /// What the image was when the snapshot began, or when it was opened without one.
    begun: ImageFacts,
    overlay: Option<Overlay>,
}

#[derive(Debug)]
struct Overlay {
    tail: Tail,
    run: RunFolder,
    /// The disk's place in the snapshot.
    disk: u32,
    /// Old blocks: offset on the disk, to place in the snapshot's file and length.
    blocks: BTreeMap<u64, (u64, u32)>,
    holder: Holder,
    /// Counts the changes of holder, so that a look at the image can be told to fall between two of them.
    changes: u64,
    /// What broke the chain from the beginning on, if anything did.
    broken: Option<String>,
}

/// Who had the disk last, as far as the snapshot's file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Nobody; it must still be exactly this.
    Nobody(ImageFacts),
    /// A guest, that began with this.
    Guest(ImageFacts),
    /// A guest that did not end in good order; it was this when that was noticed.
    Dead(ImageFacts),
}

impl SnapshotReader {
    pub(crate) fn at_rest(path: PathBuf) -> Result<SnapshotReader> {
        let file = image::open(&path, Access::Read)?;
        let begun = ImageFacts::of(&file, &path)?;
        let extents = image::data_ranges(&file, &path)?;
        Ok(SnapshotReader { path, file, extents, begun, overlay: None })
    }

    pub(crate) fn frozen(path: PathBuf, disk: &DiskName, tail: Tail, run: RunFolder) -> Result<SnapshotReader> {
        let place = tail.begin.disks.iter().position(|frozen| &frozen.name == disk);
        let Some(place) = place else { return Err(HostError::DiskMissing { path }) };
        let begun = tail.begin.disks[place].facts;
        let file = image::open(&path, Access::Read)?;
        let now = ImageFacts::of(&file, &path)?;
        if !begun.same_file(&now) {
            let what = begun.difference(&now).unwrap_or_default();
            return Err(HostError::DiskChanged { path, what });
        }
        let extents = image::data_ranges(&file, &path)?;
        let overlay = Overlay {
            tail,
            run,
            disk: place as u32,
            blocks: BTreeMap::new(),
            holder: Holder::Nobody(begun),
            changes: 0,
            broken: None,
        };
        let mut reader = SnapshotReader { path, file, extents, begun, overlay: Some(overlay) };
        reader.catch_up()?;
        Ok(reader)
    }

    /// The disk's size.
    pub fn size(&self) -> ByteCount {
        ByteCount(self.begun.size)
    }

    /// When the snapshot began; none without one.
    pub fn taken(&self) -> Option<Timestamp> {
        self.overlay.as_ref().map(|overlay| overlay.tail.begin.taken)
    }

    /// The ranges that may hold data, in order, without overlap; everything else reads as zeros and need not be read.
    pub fn extents(&self) -> &[Range<u64>] {
        &self.extents
    }

    /// The image itself, for a look at which of its blocks take space. What it holds may be newer than what is read here.
    pub fn image(&self) -> &File {
        &self.file
    }

    /// Fills `into` with the bytes from `offset` on. Both must lie within the disk.
    ///
    /// # Errors
    /// `FS-HOST-DISK-CHANGED` when the image became shorter; `FS-HOST-SNAPSHOT-LOST` when the snapshot ended meanwhile.
    pub fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof && offset < self.begun.size {
                let what = "it became shorter".to_owned();
                return HostError::DiskChanged { path: self.path.clone(), what };
            }
            HostError::io("reading", &self.path)(error)
        })?;
        self.catch_up()?;
        match &self.overlay {
            Some(overlay) => overlay.lay_over(offset, into),
            None => Ok(()),
        }
    }

    /// Says whether everything that was read is true.
    ///
    /// # Errors
    /// `FS-HOST-DISK-CHANGED`: something other than a guest wrote to the image; `FS-HOST-SNAPSHOT-LOST`.
    pub fn finish(mut self) -> Result<()> {
        self.catch_up()?;
        let now = loop {
            let changes = self.changes();
            // By name, so that another file in its place is noticed, too. Looked at before the snapshot's file is read again:
            // whatever a guest wrote up to this look, its old blocks are there.
            let now = ImageFacts::of(&image::open(&self.path, Access::Read)?, &self.path)?;
            self.catch_up()?;
            if self.changes() == changes {
                break now;
            }
        };
        let changed = |what: String| HostError::DiskChanged { path: self.path.clone(), what };
        let Some(overlay) = &self.overlay else {
            return self.begun.difference(&now).map_or(Ok(()), |what| Err(changed(what)));
        };
        if let Some(what) = &overlay.broken {
            return Err(changed(what.clone()));
        }
        let difference = match overlay.holder {
            Holder::Nobody(facts) | Holder::Dead(facts) => facts.difference(&now),
            // A guest that has not overwritten anything has not touched the file.
            Holder::Guest(facts) if overlay.blocks.is_empty() => facts.difference(&now),
            Holder::Guest(facts) if !facts.same_file(&now) => facts.difference(&now),
            Holder::Guest(_) => None,
        };
        difference.map_or(Ok(()), |what| Err(changed(what)))
    }

    fn changes(&self) -> u64 {
        self.overlay.as_ref().map_or(0, |overlay| overlay.changes)
    }

    fn catch_up(&mut self) -> Result<()> {
        let Some(overlay) = &mut self.overlay else { return Ok(()) };
        overlay.catch_up()?;
        if let Holder::Guest(facts) = overlay.holder
            && !overlay.run.guest_runs()?
        {
            let changes = overlay.changes;
            let now = ImageFacts::of(&self.file, &self.path)?;
            // It may have signed off just before it let go, and another may have come: each says so before it writes.
            overlay.catch_up()?;
            if overlay.changes == changes {
                let untouched = overlay.blocks.is_empty();
                overlay.hold(Holder::Dead(if untouched { facts } else { now }));
            }
        }
        Ok(())
    }
}

impl Overlay {
    /// Takes in what was appended to the snapshot's file since.
    fn catch_up(&mut self) -> Result<()> {
        while let Some(record) = self.tail.next()? {
            match record {
                Record::Begin(_) => return Err(self.tail.damaged("it has a second header")),
                Record::Block { disk, offset, at, length } if disk == self.disk => {
                    self.blocks.entry(offset).or_insert((at, length));
                }
                Record::Block { .. } => {}
                Record::GuestStarted(facts) => {
                    let facts = self.own(&facts)?;
                    if let Holder::Nobody(before) | Holder::Dead(before) = self.holder {
                        self.note(before.difference(&facts));
                    }
                    self.hold(Holder::Guest(facts));
                }
                Record::GuestEnded(facts) => {
                    let facts = self.own(&facts)?;
                    self.hold(Holder::Nobody(facts));
                }
            }
        }
        self.still_named()
    }

    fn hold(&mut self, holder: Holder) {
        self.holder = holder;
        self.changes += 1;
    }

    fn own(&self, facts: &[ImageFacts]) -> Result<ImageFacts> {
        facts.get(self.disk as usize).copied().ok_or_else(|| self.tail.damaged("a record lacks a disk"))
    }

    fn note(&mut self, difference: Option<String>) {
        self.broken = self.broken.take().or(difference);
    }

    /// A snapshot that ended, or was given up, loses its name before the next block is overwritten.
    fn still_named(&self) -> Result<()> {
        let own = self.tail.file().metadata().map_err(HostError::io("looking at", self.tail.path()))?;
        let named = std::fs::symlink_metadata(self.tail.path());
        if named.is_ok_and(|named| named.ino() == own.ino() && named.dev() == own.dev()) {
            return Ok(());
        }
        Err(self.tail.damaged("it was ended or given up while it was read"))
    }

    fn lay_over(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let end = offset + into.len() as u64;
        let first = offset / crate::stamps::STAMP_BLOCK * crate::stamps::STAMP_BLOCK;
        for (&start, &(at, length)) in self.blocks.range(first..end) {
            let from = start.max(offset);
            let to = (start + u64::from(length)).min(end);
            if from < to {
                let part = (from - offset) as usize..(to - offset) as usize;
                self.tail.read(&mut into[part], at + (from - start))?;
            }
        }
        Ok(())
    }
}
