//! One segment of the index on disk: looked into page by page, with its filter in memory.

use crate::io::Io;
use crate::{Error, Result};
use farshore_format::repository::{
    ChunkId, ENTRIES_PER_PAGE, FileId, Filter, IndexHeader, PAGE, Place, decode_page, encode_page, page_guess,
};
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Pages kept of a segment: 8 MiB.
const KEPT: usize = 2048;

type Page = (u64, std::sync::Arc<Vec<(ChunkId, Place)>>);

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: File,
    pub(super) header: IndexHeader,
    pub(super) packs: Vec<FileId>,
    filter: Filter,
    pages: Mutex<Vec<Option<Page>>>,
}

impl Segment {
    pub(super) fn open(io: &Io, path: &Path) -> Result<Segment> {
        let bad = |why: &dyn std::fmt::Display| io.damage(path, why.to_string());
        let file = io.open_there(path)?.ok_or_else(|| bad(&"it is missing"))?;
        let length = file.metadata().map_err(|error| io.failed("look at", path, error))?.len();
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, 0).map_err(|error| bad(&error))?;
        let header = IndexHeader::decode(&page).map_err(|error| bad(&error))?;
        if header.length() != Some(length) {
            return Err(bad(&format!("it has {length} bytes, its header says {:?}", header.length())));
        }
        let from = (header.pages() + 1) * PAGE as u64;
        let mut tail = vec![0; (length - from) as usize];
        file.read_exact_at(&mut tail, from).map_err(|error| bad(&error))?;
        let (packs, filter) = Filter::decode_tail(&tail, &header).map_err(|error| bad(&error))?;
        let slots = (header.pages() as usize).min(KEPT);
        let pages = Mutex::new(vec![None; slots]);
        Ok(Segment { path: path.to_owned(), file, header, packs, filter, pages })
    }

    fn entries_of(&self, page: u64) -> usize {
        (self.header.entries - page * ENTRIES_PER_PAGE as u64).min(ENTRIES_PER_PAGE as u64) as usize
    }

    /// The entries of a page.
    pub(super) fn page(&self, io: &Io, page: u64) -> Result<std::sync::Arc<Vec<(ChunkId, Place)>>> {
        let slot = (page as usize) % KEPT;
        {
            let pages = self.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(Some((number, entries))) = pages.get(slot)
                && *number == page
            {
                return Ok(entries.clone());
            }
        }
        let mut bytes = [0; PAGE];
        self.file
            .read_exact_at(&mut bytes, (page + 1) * PAGE as u64)
            .map_err(|error| io.failed("read", &self.path, error))?;
        let entries = decode_page(&bytes, (page, self.entries_of(page)));
        let entries = std::sync::Arc::new(entries.map_err(|error| io.damage(&self.path, error))?);
        let mut pages = self.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(kept) = pages.get_mut(slot) {
            *kept = Some((page, entries.clone()));
        }
        Ok(entries)
    }

    /// Where a record lies, by this segment's own table of packs.
    pub(super) fn find(&self, io: &Io, id: &ChunkId) -> Result<Option<Place>> {
        let pages = self.header.pages();
        if pages == 0 || !self.filter.may_have(id) {
            return Ok(None);
        }
        let mut page = page_guess(id, pages).min(pages - 1);
        loop {
            let entries = self.page(io, page)?;
            let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { return Ok(None) };
            if id < first && page > 0 {
                // A neighbour's last entry may be below it, too: then it is nowhere.
                let before = self.page(io, page - 1)?;
                if before.last().is_some_and(|(last, _)| last < id) {
                    return Ok(None);
                }
                page -= 1;
            } else if id > last && page + 1 < pages {
                let after = self.page(io, page + 1)?;
                if after.first().is_some_and(|(first, _)| first > id) {
                    return Ok(None);
                }
                page += 1;
            } else {
                return Ok(entries.binary_search_by(|(at, _)| at.cmp(id)).ok().map(|at| entries[at].1));
            }
        }
    }
}

/// Writes a segment of `count` entries that come in order of their ids. It is derived, so it need not be durable: one that
/// a crash cut short does not prove itself.
pub(super) fn write(
    io: &Io,
    path: &Path,
    (packs, count): (&RefCell<Vec<FileId>>, u64),
    entries: &mut dyn Iterator<Item = Result<(ChunkId, Place)>>,
) -> Result<Segment> {
    let name = path.file_name().expect("a segment has a name").to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let written = fill(io, &temporary, (packs, count), entries).and_then(|()| io.rename(&temporary, path));
    if let Err(error) = written {
        // What is left of it would only take space from a disk that may be full; opening the repository deletes it too.
        io.discard(&temporary);
        return Err(error);
    }
    Segment::open(io, path)
}

fn fill(
    io: &Io,
    temporary: &Path,
    (packs, count): (&RefCell<Vec<FileId>>, u64),
    entries: &mut dyn Iterator<Item = Result<(ChunkId, Place)>>,
) -> Result<()> {
    let file = io.make_file(temporary)?;
    let mut filter = Filter::sized(count);
    let (mut written, mut pages) = (0u64, 0u64);
    let mut at = PAGE as u64;
    let mut buffer: Vec<u8> = Vec::with_capacity(256 * PAGE);
    let mut page: Vec<(ChunkId, Place)> = Vec::with_capacity(ENTRIES_PER_PAGE);
    loop {
        let entry = entries.next().transpose()?;
        let ended = entry.is_none();
        if let Some((id, place)) = entry {
            filter.add(&id);
            page.push((id, place));
            written += 1;
        }
        if page.len() == ENTRIES_PER_PAGE || (ended && !page.is_empty()) {
            buffer.extend_from_slice(&encode_page(pages, &page));
            page.clear();
            pages += 1;
        }
        if buffer.len() >= 256 * PAGE || ended {
            io.write_at(&file, temporary, &buffer, at)?;
            at += buffer.len() as u64;
            buffer.clear();
        }
        if ended {
            break;
        }
    }
    let packs = packs.borrow();
    let tail = filter.encode_tail(&packs);
    io.write_at(&file, temporary, &tail, at)?;
    let header = IndexHeader {
        entries: written,
        packs: packs.len() as u32,
        lines: filter.lines(),
        tail: *blake3::hash(&tail).as_bytes(),
    };
    io.write_at(&file, temporary, &header.encode(), 0)
}

impl Error {
    /// Whether a part of the index, which can be made anew, is what is wrong.
    pub(super) fn index_only(&self, folder: &Path) -> bool {
        matches!(self, Error::Damage { path, .. } if path.starts_with(folder))
    }
}
