//! The few ways in which the stores change files, in one place, so that tests can stop, fill or break the disk before any
//! of them, and so that a failed sync is never passed over.

mod confined;

use crate::direct::Direct;
use crate::{Error, Result, Store, allocation, sparse};
use confined::Within;
use farshore_format::Allocation;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// No file that is read as a whole is longer, in bytes, but for maps of digests: formats stop at 64 MiB, or below, before they are sealed.
const LONGEST: u64 = 128 << 20;

/// A change to the disk that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Bytes are written to a file, or a hole is made in it.
    Write(&'a Path),
    /// A file's size is set.
    Resize(&'a Path),
    /// A file, or the folder of a file system as a whole, is made durable.
    Sync(&'a Path),
    /// A file or folder gets another name.
    Rename(&'a Path, &'a Path),
    /// A file or folder is deleted.
    Remove(&'a Path),
    /// A folder is made.
    MakeFolder(&'a Path),
}

/// Asked before every change: an error takes its place. For tests of crashes and full disks.
pub trait Faults: Send + Sync {
    /// Lets the change happen, or says what error it gives instead.
    ///
    /// # Errors
    /// Whatever the change is to fail with.
    fn before(&self, op: Op<'_>) -> std::io::Result<()>;
}

/// The disk as one store sees it.
#[derive(Clone)]
pub(crate) struct Io {
    store: Store,
    faults: Option<Arc<dyn Faults>>,
    /// The first sync that failed, if any: nothing is done after it.
    stopped: Arc<Mutex<Option<(PathBuf, String)>>>,
    within: Option<Within>,
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Io {
    pub(crate) fn new(store: Store, faults: Option<Arc<dyn Faults>>) -> Io {
        Io { store, faults, stopped: Arc::default(), within: None }
    }

    /// Refuses when a sync has failed since the store was opened.
    pub(crate) fn usable(&self) -> Result<()> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        match stopped.as_ref() {
            Some((path, why)) => Err(Error::Sync { store: self.store, path: path.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self, action: &'static str, path: &Path, source: std::io::Error) -> Error {
        let path = path.to_owned();
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Error::Full { store: self.store, path };
        }
        // The system has a number for what it refuses; one without is of cap-std, which met a link that leads out.
        let leads_out = source.kind() == ErrorKind::PermissionDenied && source.raw_os_error().is_none();
        let source = match leads_out && self.within.is_some() {
            true => std::io::Error::new(
                source.kind(),
                "on its path lies a link that leads out of the folder: delete the link",
            ),
            false => source,
        };
        Error::Io { store: self.store, action, path, source }
    }

    pub(crate) fn damage(&self, path: &Path, why: impl ToString) -> Error {
        Error::Damage { store: self.store, path: path.to_owned(), why: why.to_string() }
    }

    fn change<T>(
        &self,
        action: &'static str,
        op: Op<'_>,
        path: &Path,
        change: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T> {
        self.usable()?;
        let asked = self.faults.as_ref().map_or(Ok(()), |faults| faults.before(op));
        asked.and_then(|()| change()).map_err(|source| self.failed(action, path, source))
    }

    /// A sync that fails is never tried again: the kernel may have dropped the pages and told so only once.
    fn sync_with(&self, op: Op<'_>, path: &Path, sync: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
        self.usable()?;
        let asked = self.faults.as_ref().map_or(Ok(()), |faults| faults.before(op));
        asked.and_then(|()| sync()).map_err(|source| {
            let why = source.to_string();
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            stopped.get_or_insert_with(|| (path.to_owned(), why.clone()));
            Error::Sync { store: self.store, path: path.to_owned(), why }
        })
    }

    pub(crate) fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
        self.change("write", Op::Write(path), path, || file.write_all_at(bytes, offset))
    }

    /// As [`Io::write_at`], past the page cache where that can be.
    pub(crate) fn write_direct(
        &self,
        (file, direct): (&File, &Direct),
        path: &Path,
        bytes: &[u8],
        offset: u64,
    ) -> Result<()> {
        self.change("write", Op::Write(path), path, || direct.write(file, bytes, offset))
    }

    /// Makes `[offset, offset + length)` a hole; zeros are written where the file system knows no holes.
    pub(crate) fn punch(&self, file: &File, path: &Path, offset: u64, length: u64) -> Result<()> {
        self.change("make a hole in", Op::Write(path), path, || sparse::punch(file, offset, length))
    }

    /// Makes an image take space where `wanted` says, and be holes elsewhere, as far as its content lets it.
    pub(crate) fn conform(&self, file: &File, path: &Path, wanted: &Allocation) -> Result<()> {
        self.change("set space aside in", Op::Write(path), path, || allocation::conform(file, wanted))
    }

    pub(crate) fn resize(&self, file: &File, path: &Path, size: u64) -> Result<()> {
        self.change("resize", Op::Resize(path), path, || file.set_len(size))
    }

    /// Makes a new file, empty; one that is there loses its content.
    pub(crate) fn make_file(&self, path: &Path) -> Result<File> {
        self.change("create", Op::Write(path), path, || self.open_to_change(path, (true, true)))
    }

    pub(crate) fn open_rw(&self, path: &Path) -> Result<File> {
        self.usable()?;
        self.open_to_change(path, (false, false)).map_err(|error| self.failed("open", path, error))
    }

    pub(crate) fn open_ro(&self, path: &Path) -> Result<File> {
        File::open(path).map_err(|error| self.failed("open", path, error))
    }

    /// Opens a file to read; none when there is no such file.
    ///
    /// # Errors
    /// What the disk says; damage when what is there is no file.
    pub(crate) fn open_there(&self, path: &Path) -> Result<Option<File>> {
        let failed = |error| self.failed("open", path, error);
        let file = match open_at_once(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => match path.is_symlink() {
                true => return Err(self.damage(path, "a link that leads nowhere lies in its place")),
                false => return Ok(None),
            },
            Err(error) => return Err(no_file(&error).map_or_else(|| failed(error), |what| self.damage(path, what))),
        };
        match file.metadata().map_err(failed)?.is_file() {
            true => Ok(Some(file)),
            false => Err(self.damage(path, "something that is no file lies in its place")),
        }
    }

    /// The content of a file that is small by its format; none when there is no such file.
    ///
    /// # Errors
    /// What the disk says; damage when what is there is no file, or longer than any that is written.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        self.read_up_to(path, LONGEST)
    }

    /// [`Io::read`] of a file that may be as long as `longest` bytes: whoever can write to a folder can make one that fits no memory.
    pub(crate) fn read_up_to(&self, path: &Path, longest: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_there(path)? else { return Ok(None) };
        let failed = |error| self.failed("read", path, error);
        let too_long = || self.damage(path, format!("it is longer than {longest} bytes, which none is"));
        if file.metadata().map_err(failed)?.len() > longest {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        // It may have grown since.
        file.take(longest.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > longest { Err(too_long()) } else { Ok(Some(bytes)) }
    }

    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<()> {
        self.sync_with(Op::Sync(path), path, || Ok(rustix::fs::fdatasync(file)?))
    }

    /// Makes the names inside a folder durable.
    pub(crate) fn sync_folder(&self, path: &Path) -> Result<()> {
        self.sync_with(Op::Sync(path), path, || File::open(path)?.sync_all())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.change("rename", Op::Rename(from, to), from, || self.move_to(from, to))
    }

    /// Deletes a file; one that is gone is as good. A folder that somebody put in its place is set aside.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<()> {
        self.change("delete", Op::Remove(path), path, || match self.delete(path) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => self.set_aside(path),
            other => gone(other),
        })
    }

    /// Deletes a file that nobody counts on: one that stays takes space and nothing else.
    pub(crate) fn discard(&self, path: &Path) {
        if let Err(error) = self.delete(path) {
            tracing::debug!(path = %path.display(), %error, "a file that nobody needs stays");
        }
    }

    /// Deletes a folder with all in it; one that is gone is as good.
    pub(crate) fn remove_folder(&self, path: &Path) -> Result<()> {
        self.change("delete", Op::Remove(path), path, || {
            gone(match self.place(path) {
                Some((dir, path)) => dir.remove_dir_all(path),
                None => std::fs::remove_dir_all(path),
            })
        })
    }

    pub(crate) fn make_folder(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.change("create", Op::MakeFolder(path), path, || match self.place(path) {
            Some((dir, path)) => dir.create_dir_all(path),
            None => std::fs::create_dir_all(path),
        })
    }

    /// [`Io::make_folder`] of one that a store has; a file that somebody put in its place is set aside.
    ///
    /// # Errors
    /// What the disk says; damage when a link that leads nowhere lies there.
    pub(crate) fn make_own_folder(&self, path: &Path) -> Result<()> {
        // A link stays: what it leads to may only be away.
        if path.is_symlink() && !path.exists() {
            return Err(self.damage(path, "a link that leads nowhere lies in its place: delete the link"));
        }
        if path.symlink_metadata().is_ok_and(|there| !there.is_dir() && !there.is_symlink()) {
            self.change("set aside", Op::Remove(path), path, || self.set_aside(path))?;
        }
        self.make_folder(path)
    }

    /// Puts a file into place whole and durable, its name included.
    pub(crate) fn place_durable(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let folder = path.parent().expect("every file of a store lies in a folder");
        let name = path.file_name().expect("every file of a store has a name").to_string_lossy();
        let temporary = folder.join(format!(".{name}.new"));
        self.clear(&temporary)?;
        let written = self.make_file(&temporary).and_then(|file| {
            self.write_at(&file, &temporary, bytes, 0)?;
            self.sync(&file, &temporary)
        });
        if let Err(error) = written.and_then(|()| self.clear(path)).and_then(|()| self.rename(&temporary, path)) {
            self.discard(&temporary);
            return Err(error);
        }
        self.sync_folder(folder)
    }

    /// The names in a folder, sorted, those of temporary files left out; none when there is no such folder.
    ///
    /// # Errors
    /// What the disk says; damage when what is there is no folder.
    pub(crate) fn names(&self, path: &Path) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotADirectory || no_file(&error).is_some() => {
                return Err(self.damage(path, "something that is no folder lies in its place"));
            }
            Err(error) => return Err(self.failed("list", path, error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.failed("list", path, error))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        Ok(names)
    }

    /// Takes the folder's exclusive lock, held as long as the file lives.
    pub(crate) fn lock(&self, folder: &Path) -> Result<File> {
        let path = folder.join("lock");
        let file = self.open_to_change(&path, (true, false)).map_err(|error| self.failed("open", &path, error))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { store: self.store, path: folder.to_owned() }),
            Err(error) => Err(self.failed("lock", &path, error.into())),
        }
    }
}

/// Opens what may be a pipe that somebody has put there, without waiting for who writes to it.
///
/// # Errors
/// What the disk says.
pub(crate) fn open_at_once(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(at_once()).open(path)
}

fn at_once() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().cast_signed()
}

/// What lies where a file should and cannot be opened as one, if an error says that.
fn no_file(error: &std::io::Error) -> Option<&'static str> {
    match rustix::io::Errno::from_io_error(error)? {
        rustix::io::Errno::LOOP => Some("links that lead round lie in its place"),
        // A socket, or a device that nothing is behind.
        rustix::io::Errno::NXIO | rustix::io::Errno::NODEV => Some("something that is no file lies in its place"),
        _ => None,
    }
}

fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
