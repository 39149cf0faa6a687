//! Puts frames that came from elsewhere back into a log's folder, as sealed segments: each frame's place in the chain is checked.
//! For a folder that nothing else uses.

use crate::chain::{Chain, frame_hash};
use crate::disk::sync_dir;
use crate::error::{LogError, Problem, ProblemKind};
use crate::folder::{log_dir, segment_path};
use crate::header::{Form, SegmentHeader};
use crate::sealed::SealedWriter;
use farshore_schemas::frame::{RawFrame, genesis_hash};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of frames in a segment, before they are compressed.
const SEGMENT: u64 = 64 << 20;

/// See the module.
pub struct Import {
    dir: PathBuf,
    site: SiteName,
    open: Option<Open>,
    /// The last frame taken.
    tail: Option<(Lineage, Seq, Digest)>,
}

struct Open {
    writer: SealedWriter,
    beside: PathBuf,
    path: PathBuf,
    chain: Chain,
    bytes: u64,
}

impl Import {
    /// Begins a log of this site in `dir`, which holds none.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn begin(dir: &Path, site: &SiteName) -> Result<Import, LogError> {
        let log = log_dir(dir);
        fs::create_dir_all(&log).map_err(LogError::io("make", &log))?;
        Ok(Import { dir: dir.to_owned(), site: site.clone(), open: None, tail: None })
    }

    /// Takes the next frame; the first is frame 1.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when it is not the next one, [`LogError::Io`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let next = self.tail.map_or(Seq(1), |(_, seq, _)| seq.next());
        let path = segment_path(&log_dir(&self.dir), next, Form::Sealed);
        let wrong = |kind| LogError::from(Problem::at(&path, 0, next, kind));
        let (raw, length) = RawFrame::decode(bytes).map_err(|error| wrong(ProblemKind::Frame(error)))?;
        if length != bytes.len() {
            return Err(wrong(ProblemKind::Group("there are bytes after the frame")));
        }
        let lineage = raw.header.lineage;
        let goes_on = |open: &Open| open.chain.lineage == lineage && open.bytes < SEGMENT;
        if !self.open.as_ref().is_some_and(goes_on) {
            self.close()?;
            self.open = Some(self.segment(lineage, (next, path.clone()))?);
        }
        let open = self.open.as_mut().expect("one was just begun where none was");
        open.chain.check(&raw).map_err(wrong)?;
        let hash = frame_hash(bytes);
        open.chain.advance(hash);
        open.bytes += bytes.len() as u64;
        open.writer.push(bytes).map_err(LogError::io("write", &open.beside))?;
        self.tail = Some((lineage, next, hash));
        Ok(())
    }

    fn segment(&self, lineage: Lineage, (first, path): (Seq, PathBuf)) -> Result<Open, LogError> {
        let header = SegmentHeader {
            form: Form::Sealed,
            begins_lineage: self.tail.is_none_or(|(before, _, _)| before != lineage),
            site: self.site.clone(),
            lineage,
            first,
            previous: self.tail.map_or(Digest::default(), |(_, _, hash)| hash),
        };
        let beside = path.with_extension("tmp");
        let writer = SealedWriter::create(&beside, &header).map_err(LogError::io("write", &beside))?;
        Ok(Open { writer, beside, path, chain: Chain::of(&header), bytes: 0 })
    }

    fn close(&mut self) -> Result<(), LogError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let named = open.writer.finish().and_then(|_| fs::rename(&open.beside, &open.path));
        named.and_then(|()| sync_dir(&log_dir(&self.dir))).map_err(LogError::io("write", &open.path))
    }

    /// Makes it all durable and says which frame is the last: seq 0 when none was taken.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn finish(mut self) -> Result<(Lineage, Seq, Digest), LogError> {
        self.close()?;
        Ok(self.tail.unwrap_or_else(|| (Lineage::default(), Seq(0), genesis_hash(Lineage::default()))))
    }
}
