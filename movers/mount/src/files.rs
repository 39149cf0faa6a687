//! Answers to the kernel.

use crate::Refusals;
use crate::cache::Cache;
use crate::tree::{Kind, Node, ROOT, Tree};
use farshore_repository::{DiskView, Error, Repository, Result};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyLseek, ReplyOpen, Request,
};
use std::ffi::OsStr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Nothing changes while it is mounted.
const FOR_LONG: Duration = Duration::from_secs(24 * 60 * 60);
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// Disks by inode, each opened when it is first read.
type Views = Vec<Mutex<Option<Arc<DiskView>>>>;

#[derive(Debug)]
pub(crate) struct Files {
    repository: Arc<Repository>,
    tree: Tree,
    views: Views,
    cache: Cache,
    refused: Refusals,
    owner: (u32, u32),
}

impl Files {
    pub(crate) fn new(repository: Arc<Repository>, tree: Tree, (cache, refused): (Cache, Refusals)) -> Files {
        let views = (0..tree.len()).map(|_| Mutex::default()).collect();
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Files { repository, tree, views, cache, refused, owner }
    }

    fn attributes(&self, inode: u64, node: &Node) -> FileAttr {
        let (kind, perm, size, nlink) = match &node.kind {
            Kind::Folder(within) => (FileType::Directory, 0o555, 0, 2 + within.len() as u32),
            Kind::Disk(disk) => (FileType::RegularFile, 0o444, disk.size.0, 1),
        };
        FileAttr {
            ino: INodeNo(inode),
            size,
            // None are known, and fewer than the size says make programs ask for holes.
            blocks: 0,
            atime: node.time,
            mtime: node.time,
            ctime: node.time,
            crtime: node.time,
            kind,
            perm,
            nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// A disk, opened.
    fn view(&self, inode: u64) -> Result<Option<Arc<DiskView>>> {
        let Some(Node { kind: Kind::Disk(disk), .. }) = self.tree.get(inode) else { return Ok(None) };
        let mut view = self.views[(inode - ROOT) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*view {
            return Ok(Some(open.clone()));
        }
        let open = Arc::new(DiskView::open(self.repository.clone(), (**disk).clone())?);
        Ok(Some(view.insert(open).clone()))
    }

    /// Bytes of a disk: fewer at its end, none behind it or of what is no disk.
    fn bytes(&self, inode: u64, (offset, length): (u64, u64)) -> Result<Vec<u8>> {
        let Some(view) = self.view(inode)? else { return Ok(Vec::new()) };
        let end = offset.saturating_add(length).min(view.size());
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (region, start) = DiskView::region_of(at);
            let content = self.cache.get((inode as usize, region), || view.region(region))?;
            let until = (end - start).min(content.len() as u64);
            bytes.extend_from_slice(&content[(at - start) as usize..until as usize]);
            at = start + until;
        }
        Ok(bytes)
    }

    /// The first byte from `offset` on that is data, or that is in a hole; the end is a hole. None if there is no such byte.
    fn seek(&self, inode: u64, (offset, data): (u64, bool)) -> Result<Option<u64>> {
        let Some(view) = self.view(inode)? else { return Ok(None) };
        let mut at = offset;
        while at < view.size() {
            let (region, start) = DiskView::region_of(at);
            let extents = view.extents(region)?;
            let end = (start + DiskView::REGION).min(view.size());
            if let Some(found) = first(&extents, (at..end, data)) {
                return Ok(Some(found));
            }
            at = end;
        }
        Ok((!data && offset < view.size()).then(|| view.size()))
    }

    /// Notes why something could not be read. What the reader is told says no more than that.
    fn refuse(&self, inode: u64, error: &Error) -> Errno {
        let what = format!("{}: {error}", self.tree.path(inode));
        tracing::error!(code = error.code(), "{what}");
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.reads += 1;
        refused.first.get_or_insert(what);
        Errno::EIO
    }
}

/// The first byte of `within` that is in one of these ranges, or in none.
fn first(ranges: &[Range<u64>], (within, inside): (Range<u64>, bool)) -> Option<u64> {
    let mut at = within.start;
    for range in ranges.iter().filter(|range| range.end > within.start) {
        if inside {
            return Some(range.start.max(at)).filter(|found| *found < within.end);
        }
        if at < range.start {
            break;
        }
        at = range.end;
    }
    (!inside && at < within.end).then_some(at)
}

impl Filesystem for Files {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.tree.find(parent.0, name);
        match found.and_then(|inode| Some((inode, self.tree.get(inode)?))) {
            Some((inode, node)) => reply.entry(&FOR_LONG, &self.attributes(inode, node), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.get(inode.0) {
            Some(node) => reply.attr(&FOR_LONG, &self.attributes(inode.0, node)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.bytes(inode.0, (offset, u64::from(size))) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(self.refuse(inode.0, &error)),
        }
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(node) = self.tree.get(inode.0) else { return reply.error(Errno::ENOENT) };
        let Kind::Folder(within) = &node.kind else { return reply.error(Errno::ENOTDIR) };
        let dots = [(inode.0, "."), (node.parent, "..")];
        let named = |inode: &u64| Some((*inode, self.tree.get(*inode)?.name.as_str()));
        let entries = dots.into_iter().chain(within.iter().filter_map(named));
        for (place, (inode, name)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let kind = match self.tree.get(inode).map(|node| &node.kind) {
                Some(Kind::Disk(_)) => FileType::RegularFile,
                Some(Kind::Folder(_)) | None => FileType::Directory,
            };
            if reply.add(INodeNo(inode), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn lseek(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        if ![SEEK_DATA, SEEK_HOLE].contains(&whence) {
            return reply.error(Errno::EINVAL);
        }
        match self.seek(inode.0, (offset, whence == SEEK_DATA)) {
            Ok(Some(found)) => reply.offset(found.cast_signed()),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(error) => reply.error(self.refuse(inode.0, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_holes_are_found_in_a_region() {
        let ranges = [10..20, 30..40];
        for (from, data, hole) in
            [(0, Some(10), Some(0)), (10, Some(10), Some(20)), (25, Some(30), Some(25)), (35, Some(35), None)]
        {
            assert_eq!(first(&ranges, (from..40, true)), data);
            assert_eq!(first(&ranges, (from..40, false)), hole);
        }
        assert_eq!(first(&[], (0..40, true)), None);
        assert_eq!(first(&[], (5..40, false)), Some(5));
    }
}
