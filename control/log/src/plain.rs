//! Reads a plain segment group by group, fast. Whenever something is not as it should be, `scan` reads the file again and
//! says what it means.

use crate::error::LogError;
use crate::group::{GROUP_HEADER_LEN, GroupHeader};
use crate::header::{Form, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::read::ChunkPlace;
use crate::scan::scan;
use farshore_schemas::ids::Seq;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

const BUFFER: usize = 1 << 20;

/// A plain segment, open for reading.
pub(crate) struct PlainSource {
    file: BufReader<File>,
    path: PathBuf,
    pub(crate) header: SegmentHeader,
    offset: u64,
}

impl PlainSource {
    pub(crate) fn open(path: &Path, first: Seq) -> Result<PlainSource, LogError> {
        let file = File::open(path).map_err(LogError::io("open", path))?;
        let mut file = BufReader::with_capacity(BUFFER, file);
        let mut raw = [0; SEGMENT_HEADER_LEN];
        let got = read_up_to(&mut file, &mut raw).map_err(LogError::io("read", path))?;
        let header = SegmentHeader::decode(&raw[..got], path, first)?;
        if header.form != Form::Plain {
            scan(path, first, &raw, &mut |_, _, _| {})?;
        }
        Ok(PlainSource { file, path: path.to_owned(), header, offset: SEGMENT_HEADER_LEN as u64 })
    }

    /// Puts the frames of the next group into `chunk`; none at the end.
    pub(crate) fn fill(&mut self, chunk: &mut Vec<u8>) -> Result<Option<ChunkPlace>, LogError> {
        let mut raw = [0; GROUP_HEADER_LEN];
        let got = read_up_to(&mut self.file, &mut raw).map_err(LogError::io("read", &self.path))?;
        let group = match GroupHeader::decode(&raw, self.offset) {
            Ok(group) if got == GROUP_HEADER_LEN => group,
            Ok(_) | Err(_) => return self.judge(chunk),
        };
        let padded = usize::try_from(group.end() - self.offset).expect("checked against MAX_GROUP") - GROUP_HEADER_LEN;
        chunk.resize(padded, 0);
        let got = read_up_to(&mut self.file, chunk).map_err(LogError::io("read", &self.path))?;
        if got < padded {
            return self.judge(chunk);
        }
        chunk.truncate(group.len as usize);
        let place = ChunkPlace { file: self.path.clone(), offset: self.offset + GROUP_HEADER_LEN as u64, block: None };
        self.offset = group.end();
        Ok(Some(place))
    }

    /// The end, or damage, or a last group that is cut short: then what can be read of it.
    fn judge(&mut self, chunk: &mut Vec<u8>) -> Result<Option<ChunkPlace>, LogError> {
        // The file that is open, not the path: it may have been sealed and removed meanwhile.
        let mut bytes = Vec::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut bytes));
        read.map_err(LogError::io("read", &self.path))?;
        let scan = scan(&self.path, self.header.first, &bytes, &mut |_, _, _| {})?;
        chunk.clear();
        let frames_at = self.offset + GROUP_HEADER_LEN as u64;
        let Some(torn) = scan.torn.filter(|torn| torn.group.is_some() && torn.kept_end > frames_at) else {
            return Ok(None);
        };
        let range = usize::try_from(frames_at).and_then(|from| Ok(from..usize::try_from(torn.kept_end)?));
        let kept = range.ok().and_then(|range| bytes.get(range)).unwrap_or_default();
        chunk.extend_from_slice(kept);
        self.offset = torn.kept_end;
        Ok(Some(ChunkPlace { file: self.path.clone(), offset: frames_at, block: None }))
    }
}

/// Fills `out` as far as the file goes.
fn read_up_to(file: &mut impl Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < out.len() {
        match file.read(&mut out[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
