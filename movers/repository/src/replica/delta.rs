//! Reverse deltas in files: written record by record, read in bounded memory.

use crate::Result;
use crate::io::Io;
use farshore_format::{
    BLOCK, DeltaContent, DeltaError, DeltaHeader, DeltaRecord, DeltaTotals, HEADER_LEN, MAX_RUN, blocks_in,
    check_trailer, decode_header, decode_record, encode_header, encode_record, encode_trailer, is_zero,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Read ahead this much; more than the longest record.
const WINDOW: usize = 1024 * 1024;

/// A set of blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockSet(Vec<u64>);

impl BlockSet {
    pub(super) fn insert(&mut self, block: u64) {
        let word = (block / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (block % 64);
    }

    pub(super) fn insert_run(&mut self, record: &DeltaRecord) {
        (record.start..record.start + u64::from(record.blocks)).for_each(|block| self.insert(block));
    }

    pub(super) fn contains(&self, block: u64) -> bool {
        self.0.get((block / 64) as usize).is_some_and(|word| word & (1 << (block % 64)) != 0)
    }
}

/// How a delta was found to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With a trailer that proves it.
    Whole,
    /// Without: a journal that was being written, good up to this many bytes.
    Open {
        /// Bytes up to and with the last whole record.
        good: u64,
        /// Why not further.
        why: DeltaError,
    },
}

/// Reads a delta record by record.
pub(super) struct DeltaReader {
    io: Io,
    path: PathBuf,
    file: File,
    window: Vec<u8>,
    used: usize,
    offset: u64,
    pub(super) header: DeltaHeader,
    pub(super) totals: DeltaTotals,
    /// Bytes up to the last whole record, and how it ended once it has.
    end: Option<End>,
}

impl DeltaReader {
    /// Opens a delta; none when the file is missing or too short for a header, that is, nothing was overwritten yet.
    pub(super) fn open(io: &Io, path: &Path) -> Result<Option<DeltaReader>> {
        if !path.exists() {
            return Ok(None);
        }
        let file = io.open_ro(path)?;
        let mut reader = DeltaReader {
            io: io.clone(),
            path: path.to_owned(),
            file,
            window: Vec::new(),
            used: 0,
            offset: 0,
            header: DeltaHeader { from_size: 0, to_size: 0 },
            totals: DeltaTotals::default(),
            end: None,
        };
        reader.fill()?;
        match decode_header(&reader.window) {
            Ok(header) => reader.header = header,
            Err(DeltaError::Torn) => return Ok(None),
            Err(
                error @ (DeltaError::Magic { .. }
                | DeltaError::Check { .. }
                | DeltaError::Record { .. }
                | DeltaError::Totals),
            ) => {
                return Err(io.damage(path, error));
            }
        }
        reader.advance(HEADER_LEN);
        Ok(Some(reader))
    }

    /// Opens a delta of a sealed point, which must be there.
    pub(super) fn open_sealed(io: &Io, path: &Path) -> Result<DeltaReader> {
        DeltaReader::open(io, path)?.ok_or_else(|| io.damage(path, "it is missing or cut short"))
    }

    fn advance(&mut self, count: usize) {
        self.used += count;
        self.offset += count as u64;
    }

    fn fill(&mut self) -> Result<()> {
        self.window.drain(..self.used);
        self.used = 0;
        let wanted = WINDOW.saturating_sub(self.window.len()) as u64;
        let read = (&mut self.file).take(wanted).read_to_end(&mut self.window);
        read.map(drop).map_err(|error| self.io.failed("read", &self.path, error))
    }

    /// The next record; none at the end, which [`DeltaReader::end`] then tells.
    pub(super) fn next(&mut self) -> Result<Option<DeltaRecord>> {
        if self.end.is_some() {
            return Ok(None);
        }
        if self.window.len() - self.used < WINDOW / 2 {
            self.fill()?;
        }
        let rest = &self.window[self.used..];
        if check_trailer(rest, &self.totals).is_ok() {
            self.end = Some(End::Whole);
            return Ok(None);
        }
        match decode_record(rest, &self.header, &mut self.totals) {
            Ok((record, length)) => {
                self.advance(length);
                Ok(Some(record))
            }
            Err(why) => {
                self.end = Some(End::Open { good: self.offset, why });
                Ok(None)
            }
        }
    }

    /// How it ended; [`End::Open`] at the current place when it has not been read to its end.
    pub(super) fn end(&self) -> End {
        self.end.clone().unwrap_or(End::Open { good: self.offset, why: DeltaError::Torn })
    }

    /// Demands that it ended whole.
    pub(super) fn whole(&self) -> Result<()> {
        match self.end() {
            End::Whole => Ok(()),
            End::Open { good, why } => Err(self.io.damage(&self.path, format!("at byte {good}: {why}"))),
        }
    }
}

/// Appends records to a delta.
#[derive(Debug)]
pub(super) struct DeltaFile {
    io: Io,
    path: PathBuf,
    file: File,
    end: u64,
    totals: DeltaTotals,
}

impl DeltaFile {
    /// Makes a delta with this header, not yet durable.
    pub(super) fn create(io: &Io, path: &Path, header: &DeltaHeader) -> Result<DeltaFile> {
        let file = io.make_file(path)?;
        let bytes = encode_header(header);
        io.write_at(&file, path, &bytes, 0)?;
        let (io, path) = (io.clone(), path.to_owned());
        Ok(DeltaFile { io, path, file, end: bytes.len() as u64, totals: DeltaTotals::default() })
    }

    /// Goes on with a journal: what is behind its last whole record (a torn record or a trailer) is cut off. Also answers
    /// its header and the blocks whose before-images it holds.
    pub(super) fn resume(io: &Io, path: &Path) -> Result<(DeltaFile, DeltaHeader, BlockSet)> {
        let mut reader = DeltaReader::open_sealed(io, path)?;
        let mut covered = BlockSet::default();
        while let Some(record) = reader.next()? {
            covered.insert_run(&record);
        }
        let file = io.open_rw(path)?;
        io.resize(&file, path, reader.offset)?;
        let delta =
            DeltaFile { io: io.clone(), path: path.to_owned(), file, end: reader.offset, totals: reader.totals };
        Ok((delta, reader.header, covered))
    }

    pub(super) fn append(&mut self, record: &DeltaRecord) -> Result<()> {
        // Counted only once it is written, so that a record that did not fit can be tried again.
        let mut totals = self.totals.clone();
        let bytes = encode_record(record, &mut totals);
        self.io.write_at(&self.file, &self.path, &bytes, self.end)?;
        self.totals = totals;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Appends before-images by block, consecutive ones together.
    pub(super) fn append_images(&mut self, images: &BTreeMap<u64, Vec<u8>>) -> Result<()> {
        for record in runs(images) {
            self.append(&record)?;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.io.sync(&self.file, &self.path)
    }

    /// Ends it with its trailer, durable. Answers its length in bytes.
    pub(super) fn complete(self) -> Result<u64> {
        let trailer = encode_trailer(&self.totals);
        self.io.write_at(&self.file, &self.path, &trailer, self.end)?;
        self.sync()?;
        Ok(self.end + trailer.len() as u64)
    }
}

/// Cuts images into records: runs of consecutive blocks, zeros apart from data, each image padded to a whole block.
fn runs(images: &BTreeMap<u64, Vec<u8>>) -> Vec<DeltaRecord> {
    let mut records: Vec<DeltaRecord> = Vec::new();
    for (&block, image) in images {
        let zero = is_zero(image);
        if let Some(last) = records.last_mut()
            && last.start + u64::from(last.blocks) == block
            && last.blocks < MAX_RUN
        {
            match &mut last.content {
                DeltaContent::Zeros if zero => {
                    last.blocks += 1;
                    continue;
                }
                DeltaContent::Data(data) if !zero => {
                    last.blocks += 1;
                    data.extend_from_slice(image);
                    data.resize(last.blocks as usize * BLOCK, 0);
                    continue;
                }
                DeltaContent::Zeros | DeltaContent::Data(_) => {}
            }
        }
        let content = if zero {
            DeltaContent::Zeros
        } else {
            let mut data = image.clone();
            data.resize(BLOCK, 0);
            DeltaContent::Data(data)
        };
        records.push(DeltaRecord { start: block, blocks: 1, content });
    }
    records
}

/// Gives a disk back the size of the older state and the content that a delta's records hold. Beyond the disk's end
/// nothing is written.
pub(super) fn apply(io: &Io, reader: &mut DeltaReader, file: &File, path: &Path) -> Result<()> {
    let size = reader.header.to_size;
    let now = file.metadata().map_err(|error| io.failed("look at", path, error))?.len();
    if now != size {
        io.resize(file, path, size)?;
    }
    while let Some(record) = reader.next()? {
        write_record(io, &record, size, (file, path))?;
    }
    Ok(())
}

fn write_record(io: &Io, record: &DeltaRecord, size: u64, (file, path): (&File, &Path)) -> Result<()> {
    let offset = record.start * BLOCK as u64;
    if record.start >= blocks_in(size) {
        return Ok(());
    }
    let length = (u64::from(record.blocks) * BLOCK as u64).min(size - offset);
    match &record.content {
        DeltaContent::Data(data) => io.write_at(file, path, &data[..length as usize], offset),
        DeltaContent::Zeros => io.punch(file, path, offset, length),
    }
}
