//! Sealed segments: blocks of whole frames compressed with zstd, an index, a trailer with the hash of the file. Written
//! once, beside the final name, and never changed. An export is the same format.

use crate::chain::frame_hash;
use crate::error::{LogError, Problem, ProblemKind, SeqRange};
use crate::header::{Form, SEGMENT_HEADER_LEN, SegmentHeader, array};
use farshore_schemas::frame::MAX_FRAME;
use farshore_schemas::ids::{Digest, Seq};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 120;
/// Bytes of one entry of the index.
pub const INDEX_ENTRY_LEN: usize = 32;
/// First bytes of the trailer.
pub const TRAILER_MAGIC: [u8; 8] = *b"FSSEALED";
/// A block is closed when its frames reach this many bytes.
pub const BLOCK_TARGET: usize = 256 * 1024;
const LEVEL: i32 = 3;

/// One block, as the index describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    /// Compressed bytes.
    pub(crate) len: u32,
    /// Bytes of the frames.
    pub(crate) raw_len: u32,
    pub(crate) first: Seq,
    pub(crate) frames: u32,
    /// Of the compressed bytes.
    pub(crate) crc: u32,
}

impl Block {
    fn encode(&self) -> [u8; INDEX_ENTRY_LEN] {
        let mut raw = [0; INDEX_ENTRY_LEN];
        raw[..8].copy_from_slice(&self.offset.to_le_bytes());
        raw[8..12].copy_from_slice(&self.len.to_le_bytes());
        raw[12..16].copy_from_slice(&self.raw_len.to_le_bytes());
        raw[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        raw[24..28].copy_from_slice(&self.frames.to_le_bytes());
        raw[28..].copy_from_slice(&self.crc.to_le_bytes());
        raw
    }

    fn decode(raw: &[u8; INDEX_ENTRY_LEN]) -> Block {
        Block {
            offset: u64::from_le_bytes(array(&raw[..8])),
            len: u32::from_le_bytes(array(&raw[8..12])),
            raw_len: u32::from_le_bytes(array(&raw[12..16])),
            first: Seq(u64::from_le_bytes(array(&raw[16..24]))),
            frames: u32::from_le_bytes(array(&raw[24..28])),
            crc: u32::from_le_bytes(array(&raw[28..])),
        }
    }

    pub(crate) fn range(&self) -> SeqRange {
        SeqRange { first: self.first, last: Seq(self.first.0.saturating_add(u64::from(self.frames)).saturating_sub(1)) }
    }
}

/// What the end of a sealed segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) blocks: u32,
    pub(crate) index_at: u64,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    /// Hash of the last frame.
    pub(crate) last_hash: Digest,
    /// Bytes of all frames.
    pub(crate) raw_bytes: u64,
    /// BLAKE3 of everything before the trailer.
    pub(crate) file_hash: Digest,
    pub(crate) index_crc: u32,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut raw = [0; TRAILER_LEN];
        raw[..8].copy_from_slice(&TRAILER_MAGIC);
        raw[8..12].copy_from_slice(&1u32.to_le_bytes());
        raw[12..16].copy_from_slice(&self.blocks.to_le_bytes());
        raw[16..24].copy_from_slice(&self.index_at.to_le_bytes());
        raw[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        raw[32..40].copy_from_slice(&self.last.0.to_le_bytes());
        raw[40..72].copy_from_slice(&self.last_hash.0);
        raw[72..80].copy_from_slice(&self.raw_bytes.to_le_bytes());
        raw[80..112].copy_from_slice(&self.file_hash.0);
        raw[112..116].copy_from_slice(&self.index_crc.to_le_bytes());
        let crc = crc32c::crc32c(&raw[..116]);
        raw[116..].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    fn decode(raw: &[u8; TRAILER_LEN]) -> Result<Trailer, &'static str> {
        if raw[..8] != TRAILER_MAGIC {
            return Err("its first eight bytes are not FSSEALED");
        }
        if crc32c::crc32c(&raw[..116]).to_le_bytes() != raw[116..] {
            return Err("its crc32c does not match");
        }
        if u32::from_le_bytes(array(&raw[8..12])) != 1 {
            return Err("its version is not known");
        }
        Ok(Trailer {
            blocks: u32::from_le_bytes(array(&raw[12..16])),
            index_at: u64::from_le_bytes(array(&raw[16..24])),
            first: Seq(u64::from_le_bytes(array(&raw[24..32]))),
            last: Seq(u64::from_le_bytes(array(&raw[32..40]))),
            last_hash: Digest(array(&raw[40..72])),
            raw_bytes: u64::from_le_bytes(array(&raw[72..80])),
            file_hash: Digest(array(&raw[80..112])),
            index_crc: u32::from_le_bytes(array(&raw[112..116])),
        })
    }
}

/// Writes a sealed segment frame by frame.
pub(crate) struct SealedWriter {
    file: File,
    hasher: blake3::Hasher,
    at: u64,
    header: SegmentHeader,
    blocks: Vec<Block>,
    pending: Vec<u8>,
    pending_frames: u32,
    next: Seq,
    last_hash: Digest,
    raw_bytes: u64,
}

impl SealedWriter {
    /// Begins a file.
    pub(crate) fn create(path: &Path, header: &SegmentHeader) -> io::Result<SealedWriter> {
        let header = SegmentHeader { form: Form::Sealed, ..header.clone() };
        let mut writer = SealedWriter {
            file: File::create(path)?,
            hasher: blake3::Hasher::new(),
            at: 0,
            next: header.first,
            last_hash: header.chain_start(),
            header,
            blocks: Vec::new(),
            pending: Vec::with_capacity(BLOCK_TARGET + MAX_FRAME),
            pending_frames: 0,
            raw_bytes: 0,
        };
        let header = writer.header.encode();
        writer.put(&header)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Adds the next frame.
    pub(crate) fn push(&mut self, frame: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(frame);
        self.pending_frames += 1;
        self.raw_bytes += frame.len() as u64;
        self.last_hash = frame_hash(frame);
        if self.pending.len() >= BLOCK_TARGET { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let compressed = zstd::bulk::compress(&self.pending, LEVEL)?;
        let fits = |len: usize| u32::try_from(len).map_err(|_| io::Error::other("a block of more than 4 GiB"));
        self.blocks.push(Block {
            offset: self.at,
            len: fits(compressed.len())?,
            raw_len: fits(self.pending.len())?,
            first: self.next,
            frames: self.pending_frames,
            crc: crc32c::crc32c(&compressed),
        });
        self.next = Seq(self.next.0 + u64::from(self.pending_frames));
        self.pending_frames = 0;
        self.pending.clear();
        self.put(&compressed)
    }

    /// Writes index and trailer and makes the file durable.
    pub(crate) fn finish(mut self) -> io::Result<Trailer> {
        self.close_block()?;
        let index_at = self.at;
        let index: Vec<u8> = self.blocks.iter().flat_map(Block::encode).collect();
        self.put(&index)?;
        let trailer = Trailer {
            blocks: u32::try_from(self.blocks.len()).map_err(|_| io::Error::other("too many blocks"))?,
            index_at,
            first: self.header.first,
            last: Seq(self.next.0 - 1),
            last_hash: self.last_hash,
            raw_bytes: self.raw_bytes,
            file_hash: Digest(*self.hasher.finalize().as_bytes()),
            index_crc: crc32c::crc32c(&index),
        };
        self.file.write_all(&trailer.encode())?;
        self.file.sync_all()?;
        Ok(trailer)
    }
}

/// A sealed segment, open for reading: its header, trailer and index are right.
#[derive(Debug)]
pub(crate) struct SealedFile {
    file: File,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) trailer: Trailer,
    pub(crate) blocks: Vec<Block>,
}

impl SealedFile {
    /// Opens and checks header, trailer and index, not the blocks.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn open(path: &Path, first: Seq) -> Result<SealedFile, LogError> {
        let file = File::open(path).map_err(LogError::io("open", path))?;
        let read = |at: u64, len: usize| -> Result<Vec<u8>, LogError> {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at).map_err(LogError::io("read", path))?;
            Ok(bytes)
        };
        let size = file.metadata().map_err(LogError::io("read", path))?.len();
        let Some(trailer_at) = size.checked_sub(TRAILER_LEN as u64).filter(|at| *at >= SEGMENT_HEADER_LEN as u64)
        else {
            let kind = ProblemKind::Trailer("the file is too short to have one");
            return Err(Problem::at(path, size, first, kind).into());
        };
        let header = SegmentHeader::decode(&read(0, SEGMENT_HEADER_LEN)?, path, first)?;
        if header.form != Form::Sealed {
            let kind = ProblemKind::SegmentHeader("it is not a sealed segment");
            return Err(Problem::at(path, 10, first, kind).into());
        }
        let bad_trailer = |why| Problem::at(path, trailer_at, first, ProblemKind::Trailer(why));
        let trailer = Trailer::decode(&array(&read(trailer_at, TRAILER_LEN)?)).map_err(bad_trailer)?;
        let index_len = u64::from(trailer.blocks) * INDEX_ENTRY_LEN as u64;
        if trailer.first != first || trailer.last.0 + 1 < first.0 {
            return Err(bad_trailer("its seqs do not fit the header's").into());
        }
        if trailer.index_at.checked_add(index_len) != Some(trailer_at) {
            return Err(bad_trailer("it names a place for the index that is not before it").into());
        }
        let raw = read(trailer.index_at, usize::try_from(index_len).expect("smaller than the file"))?;
        let bad_index = |why| Problem {
            file: path.to_owned(),
            offset: trailer.index_at,
            seqs: SeqRange { first, last: trailer.last },
            kind: ProblemKind::Index(why),
        };
        if crc32c::crc32c(&raw) != trailer.index_crc {
            return Err(bad_index("its crc32c does not match").into());
        }
        let blocks: Vec<Block> = raw.as_chunks().0.iter().map(Block::decode).collect();
        check_index(&blocks, &trailer).map_err(bad_index)?;
        Ok(SealedFile { file, path: path.to_owned(), header, trailer, blocks })
    }

    /// Reads block `at` and unpacks its frames into `out`, in place of what is there.
    ///
    /// # Errors
    /// [`LogError`] with the block's seq range.
    pub(crate) fn read_block(&self, at: usize, out: &mut Vec<u8>) -> Result<Block, LogError> {
        let block = self.blocks[at];
        let damaged = |why| Problem {
            file: self.path.clone(),
            offset: block.offset,
            seqs: block.range(),
            kind: ProblemKind::Block(why),
        };
        let mut compressed = vec![0; block.len as usize];
        self.file.read_exact_at(&mut compressed, block.offset).map_err(LogError::io("read", &self.path))?;
        if crc32c::crc32c(&compressed) != block.crc {
            return Err(damaged("its crc32c does not match").into());
        }
        out.resize(block.raw_len as usize, 0);
        if zstd::bulk::decompress_to_buffer(&compressed, out).ok() != Some(out.len()) {
            return Err(damaged("it does not unpack to the length that the index names").into());
        }
        Ok(block)
    }

    /// Reads the whole file again and compares its hash. Gives its length.
    ///
    /// # Errors
    /// [`LogError`], naming the first damaged block if it is a block.
    pub(crate) fn check_file_hash(&self) -> Result<u64, LogError> {
        let bytes = fs::read(&self.path).map_err(LogError::io("read", &self.path))?;
        let before = &bytes[..bytes.len().saturating_sub(TRAILER_LEN)];
        if *blake3::hash(before).as_bytes() == self.trailer.file_hash.0 {
            return Ok(bytes.len() as u64);
        }
        let mut frames = Vec::new();
        for at in 0..self.blocks.len() {
            self.read_block(at, &mut frames)?;
        }
        let seqs = SeqRange { first: self.trailer.first, last: self.trailer.last };
        Err(Problem { file: self.path.clone(), offset: 0, seqs, kind: ProblemKind::FileHash }.into())
    }
}

/// Blocks follow one another without a gap, in the file and in seqs.
fn check_index(blocks: &[Block], trailer: &Trailer) -> Result<(), &'static str> {
    let (mut at, mut next) = (SEGMENT_HEADER_LEN as u64, trailer.first);
    for block in blocks {
        if block.offset != at || block.first != next {
            return Err("its blocks do not follow one another");
        }
        if block.raw_len as usize > BLOCK_TARGET + MAX_FRAME || block.frames == 0 {
            return Err("a block has a length that is never written");
        }
        at += u64::from(block.len);
        next = Seq(next.0.saturating_add(u64::from(block.frames)));
    }
    if at != trailer.index_at || next != trailer.last.next() {
        return Err("its blocks do not fill the file");
    }
    Ok(())
}
