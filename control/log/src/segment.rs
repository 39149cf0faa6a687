//! Writes groups into segment files. Space is filled with zeros ahead of the groups, so that a group's fdatasync has no
//! file size and no block map to commit with it: that is what makes a small append cheap.

use crate::append::Sink;
use crate::chain::Chain;
use crate::disk::{Disk, SegmentFile};
use crate::folder::segment_path;
use crate::group::{GROUP_HEADER_LEN, GroupHeader, PADDING};
use crate::header::{Form, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::hint::Hint;
use crate::seal::Sealer;
use farshore_runtime::log_port::{LogFailure, NewFrame};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// How segments are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// A segment is closed before a group that would make it longer than this.
    pub segment_bytes: u64,
    /// The most zeros that are written ahead at a time.
    pub ahead_bytes: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { segment_bytes: 64 << 20, ahead_bytes: 4 << 20 }
    }
}

/// The least that is written ahead in a new segment, so that a small log stays small.
const FIRST_AHEAD: u64 = 64 << 10;

/// The segment that is being appended to.
pub(crate) struct OpenSegment {
    pub(crate) file: Box<dyn SegmentFile>,
    pub(crate) path: PathBuf,
    pub(crate) lineage: Lineage,
    pub(crate) first: Seq,
    /// Where the next group goes.
    pub(crate) at: u64,
    /// Up to where the file holds zeros, durably.
    pub(crate) filled: u64,
}

/// Where segments are made.
pub(crate) struct SegmentMaker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) log: PathBuf,
    pub(crate) site: SiteName,
    pub(crate) layout: Layout,
}

impl SegmentMaker {
    /// Makes a segment durable, header and first zeros, under a name that is not yet its own, then gives it its name: so a
    /// segment file always has a whole header.
    pub(crate) fn create(&self, header: &SegmentHeader) -> io::Result<OpenSegment> {
        let path = segment_path(&self.log, header.first, Form::Plain);
        let beside = path.with_extension("new");
        let mut file = self.disk.create(&beside)?;
        let ahead = FIRST_AHEAD.min(self.layout.ahead_bytes);
        let mut start = vec![0; SEGMENT_HEADER_LEN + usize::try_from(ahead).map_err(io::Error::other)?];
        start[..SEGMENT_HEADER_LEN].copy_from_slice(&header.encode());
        file.write_at(&start, 0)?;
        file.sync()?;
        self.disk.rename(&beside, &path)?;
        Ok(OpenSegment {
            file,
            path,
            lineage: header.lineage,
            first: header.first,
            at: SEGMENT_HEADER_LEN as u64,
            filled: start.len() as u64,
        })
    }
}

/// The sink of a log on disk.
pub(crate) struct SegmentSink {
    pub(crate) maker: SegmentMaker,
    pub(crate) open: OpenSegment,
    pub(crate) sealer: Sealer,
    pub(crate) hint: Hint,
    pub(crate) buffer: Vec<u8>,
}

impl SegmentSink {
    fn write(&mut self, group: &[NewFrame], before: &Chain, after: &Chain) -> io::Result<()> {
        let bytes: u64 = group.iter().map(|frame| frame.bytes.len() as u64).sum();
        let header = |offset| {
            let len = u32::try_from(bytes).map_err(io::Error::other)?;
            let frames = u32::try_from(group.len()).map_err(io::Error::other)?;
            Ok::<_, io::Error>(GroupHeader { len, frames, first: before.next, offset })
        };
        let is_full = header(self.open.at)?.end() > self.maker.layout.segment_bytes && self.open.first != before.next;
        if is_full || after.lineage != self.open.lineage {
            self.rotate(before, after.lineage)?;
        }
        let header = header(self.open.at)?;
        self.fill_ahead(header.end())?;
        self.buffer.clear();
        self.buffer.extend_from_slice(&header.encode());
        group.iter().for_each(|frame| self.buffer.extend_from_slice(&frame.bytes));
        let padded = usize::try_from(header.end() - header.offset).map_err(io::Error::other)?;
        debug_assert!(padded > GROUP_HEADER_LEN);
        self.buffer.resize(padded, PADDING);
        self.open.file.write_at(&self.buffer, header.offset)?;
        self.open.file.sync()?;
        self.open.at = header.end();
        Ok(())
    }

    /// Writes zeros after the place where the next group goes, when that is not done yet. Each time as much as there is
    /// already, up to the layout's limit. The sync is the group's, or one before it: either way a lost zero is only a
    /// shorter file.
    fn fill_ahead(&mut self, end: u64) -> io::Result<()> {
        if end <= self.open.filled {
            return Ok(());
        }
        let layout = self.maker.layout;
        let ahead = self.open.filled.clamp(FIRST_AHEAD.min(layout.ahead_bytes), layout.ahead_bytes);
        let room = layout.segment_bytes.saturating_sub(end);
        let until = end + ahead.min(room);
        let zeros = vec![0; usize::try_from(until - self.open.filled).map_err(io::Error::other)?];
        self.open.file.write_at(&zeros, self.open.filled)?;
        self.open.filled = until;
        Ok(())
    }

    /// Begins the next segment and hands the full one to the sealer.
    fn rotate(&mut self, before: &Chain, lineage: Lineage) -> io::Result<()> {
        let header = SegmentHeader {
            form: Form::Plain,
            begins_lineage: lineage != self.open.lineage,
            site: self.maker.site.clone(),
            lineage,
            first: before.next,
            previous: if before.next == Seq(1) { Digest::default() } else { before.previous },
        };
        let replaces_empty = self.open.first == before.next;
        let full = std::mem::replace(&mut self.open, self.maker.create(&header)?);
        if !replaces_empty {
            self.sealer.seal(full.path, full.first);
        }
        Ok(())
    }
}

impl Sink for SegmentSink {
    fn commit(&mut self, group: &[NewFrame], before: &Chain, after: &Chain) -> Result<(), LogFailure> {
        self.write(group, before, after)
            .map_err(|error| LogFailure::Io(format!("{}: {error}", self.open.path.display())))?;
        let (seq, hash): (Seq, Digest) = after.tail();
        self.hint.note(seq, hash);
        Ok(())
    }

    fn close(&mut self) {
        self.hint.sync();
        self.sealer.close();
    }
}
