//! The index: where a record lies, by its id. Made of segments that are written once, sorted by id and merged from time to
//! time; each is pages of 4 KiB that prove themselves, a table of packs, and a filter that answers most questions about
//! what is not there from memory. All of it can be rebuilt from the packs' directories.

use super::keys::FileId;
use crate::chunk::ChunkId;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Entries in a page.
pub const ENTRIES_PER_PAGE: usize = (PAGE - 16) / ENTRY;
const ENTRY: usize = 52;
const MAGIC: &[u8; 8] = b"FSINDEX1";

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack in the segment's table.
    pub pack: u32,
    /// The record's number in the pack.
    pub number: u32,
    /// Where it begins in the pack.
    pub offset: u32,
    /// Bytes that it takes there.
    pub stored: u32,
    /// Bytes of its plain content, in the lower 24 bits; its kind in the upper 8.
    pub plain: u32,
}

/// Why bytes are not an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The header is not one.
    #[error("it does not begin as an index segment, or its head is damaged")]
    Header,
    /// A page does not prove itself, or its entries are not in order.
    #[error("page {page} is damaged")]
    Page {
        /// Which.
        page: u64,
    },
    /// The table or the filter is damaged.
    #[error("its table or filter is damaged")]
    Table,
}

/// What the header's page is numbered, so that it passes for no page of entries.
const HEADER_PAGE: u64 = u64::MAX;

/// With the page's number, so that pages that changed places do not pass.
fn check(bytes: &[u8], number: u64) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(bytes);
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

/// How a segment begins: a page of its own. Then come the pages of entries, then the table of packs and the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHeader {
    /// Entries in it.
    pub entries: u64,
    /// Packs in its table.
    pub packs: u32,
    /// Lines of its filter.
    pub lines: u64,
    /// BLAKE3 over table and filter.
    pub tail: [u8; 32],
}

impl IndexHeader {
    /// Pages of entries.
    pub fn pages(&self) -> u64 {
        self.entries.div_ceil(ENTRIES_PER_PAGE as u64)
    }

    /// Bytes of the whole segment; none when the header claims more than there can be.
    pub fn length(&self) -> Option<u64> {
        let pages = self.pages().checked_add(1)?.checked_mul(PAGE as u64)?;
        let tail = u64::from(self.packs).checked_mul(32)?.checked_add(self.lines.checked_mul(64)?)?;
        pages.checked_add(tail)
    }

    /// The header as its page: magic, entries (u64), packs (u32), four zeros, lines (u64), hash of the tail, zeros, check.
    pub fn encode(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(MAGIC);
        page[8..16].copy_from_slice(&self.entries.to_le_bytes());
        page[16..20].copy_from_slice(&self.packs.to_le_bytes());
        page[24..32].copy_from_slice(&self.lines.to_le_bytes());
        page[32..64].copy_from_slice(&self.tail);
        seal_page(&mut page, HEADER_PAGE);
        page
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`IndexError::Header`].
    pub fn decode(page: &[u8; PAGE]) -> Result<IndexHeader, IndexError> {
        if !page.starts_with(MAGIC) || !proven(page, HEADER_PAGE) {
            return Err(IndexError::Header);
        }
        let eight = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&page[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut tail = [0; 32];
        tail.copy_from_slice(&page[32..64]);
        let packs = u32::from_le_bytes([page[16], page[17], page[18], page[19]]);
        let header = IndexHeader { entries: eight(8), packs, lines: eight(24), tail };
        if header.length().is_none() || header.lines == 0 {
            return Err(IndexError::Header);
        }
        Ok(header)
    }
}

fn seal_page(page: &mut [u8; PAGE], number: u64) {
    let check = check(&page[..PAGE - 16], number);
    page[PAGE - 16..].copy_from_slice(&check);
}

fn proven(page: &[u8; PAGE], number: u64) -> bool {
    check(&page[..PAGE - 16], number) == page[PAGE - 16..]
}

/// The page at `number`: at most [`ENTRIES_PER_PAGE`] entries in order of their ids; what it lacks stays zero.
///
/// # Panics
/// When there are more.
pub fn encode_page(number: u64, entries: &[(ChunkId, Place)]) -> [u8; PAGE] {
    assert!(entries.len() <= ENTRIES_PER_PAGE, "the caller cuts entries into pages");
    let mut page = [0; PAGE];
    for ((id, place), into) in entries.iter().zip(page.chunks_exact_mut(ENTRY)) {
        into[..32].copy_from_slice(&id.0);
        let numbers = [place.pack, place.number, place.offset, place.stored, place.plain];
        for (number, into) in numbers.iter().zip(into[32..].chunks_exact_mut(4)) {
            into.copy_from_slice(&number.to_le_bytes());
        }
    }
    seal_page(&mut page, number);
    page
}

/// Reads the page at `number`, which holds `count` entries.
///
/// # Errors
/// [`IndexError::Page`].
pub fn decode_page(page: &[u8; PAGE], (number, count): (u64, usize)) -> Result<Vec<(ChunkId, Place)>, IndexError> {
    let bad = IndexError::Page { page: number };
    if !proven(page, number) || count > ENTRIES_PER_PAGE {
        return Err(bad);
    }
    let read = |entry: &[u8]| {
        let mut id = ChunkId::ZERO;
        id.0.copy_from_slice(&entry[..32]);
        let four = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        (id, Place { pack: four(32), number: four(36), offset: four(40), stored: four(44), plain: four(48) })
    };
    let entries: Vec<_> = page.chunks_exact(ENTRY).take(count).map(read).collect();
    if entries.windows(2).any(|pair| pair[0].0 >= pair[1].0) { Err(bad) } else { Ok(entries) }
}

/// The page where an id most likely lies: ids are spread evenly.
pub fn page_guess(id: &ChunkId, pages: u64) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&id.0[..8]);
    ((u128::from(u64::from_be_bytes(head)) * u128::from(pages)) >> 64) as u64
}

/// A split block Bloom filter of about 12 bits for each id, which lets one absent id in some 250 through. A line is 64
/// bytes, so that a question touches one line of the processor's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    lines: Vec<[u64; 8]>,
}

/// Ids that one line is made for.
const IDS_PER_LINE: u64 = 42;

impl Filter {
    /// An empty filter for this many ids.
    pub fn sized(ids: u64) -> Filter {
        let lines = usize::try_from(ids.div_ceil(IDS_PER_LINE).max(1)).expect("a filter's lines fit in memory");
        Filter { lines: vec![[0; 8]; lines] }
    }

    /// Its lines.
    pub fn lines(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Which line, and one bit in each of its eight words: an id is a hash already, so its bytes are taken as they are.
    fn bits(&self, id: &ChunkId) -> (usize, [u64; 8]) {
        let mut head = [0; 8];
        head.copy_from_slice(&id.0[8..16]);
        let line = ((u128::from(u64::from_le_bytes(head)) * self.lines.len() as u128) >> 64) as usize;
        let mut masks = [0; 8];
        masks.iter_mut().zip(&id.0[16..24]).for_each(|(mask, byte)| *mask = 1 << (byte & 63));
        (line, masks)
    }

    /// Notes an id.
    pub fn add(&mut self, id: &ChunkId) {
        let (line, masks) = self.bits(id);
        self.lines[line].iter_mut().zip(masks).for_each(|(word, mask)| *word |= mask);
    }

    /// Whether an id may have been noted; false is certain.
    pub fn may_have(&self, id: &ChunkId) -> bool {
        let (line, masks) = self.bits(id);
        self.lines[line].iter().zip(masks).all(|(word, mask)| word & mask != 0)
    }

    /// The segment's tail: the table of packs, then the filter's words.
    pub fn encode_tail(&self, packs: &[FileId]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(packs.len() * 32 + self.lines.len() * 64);
        packs.iter().for_each(|pack| bytes.extend_from_slice(&pack.0));
        self.lines.iter().flatten().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    }

    /// Reads a segment's tail.
    ///
    /// # Errors
    /// [`IndexError::Table`].
    pub fn decode_tail(bytes: &[u8], header: &IndexHeader) -> Result<(Vec<FileId>, Filter), IndexError> {
        if *blake3::hash(bytes).as_bytes() != header.tail {
            return Err(IndexError::Table);
        }
        let (table, words) = bytes.split_at_checked(header.packs as usize * 32).ok_or(IndexError::Table)?;
        let packs = table.as_chunks::<32>().0.iter().copied().map(FileId).collect();
        let (lines, rest) = words.as_chunks::<64>();
        if !rest.is_empty() || lines.len() as u64 != header.lines {
            return Err(IndexError::Table);
        }
        let line = |bytes: &[u8; 64]| {
            let mut line = [0; 8];
            line.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
            line
        };
        Ok((packs, Filter { lines: lines.iter().map(line).collect() }))
    }
}
