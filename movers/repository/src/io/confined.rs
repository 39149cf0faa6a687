//! Changes stay below the folder of a store, however links lie in it (decision 0018), and what lies in the place of a file and
//! is none does not stop them.

use super::{Io, at_once, no_file, open_at_once};
use crate::Result;
use cap_std::fs::{Dir, OpenOptionsExt as _};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder that changes are confined to, however links lie in it: whoever can write to it may put one there that leads to
/// files of others, which only who runs this may change.
#[derive(Debug, Clone)]
pub(super) struct Within {
    folder: PathBuf,
    dir: Arc<Dir>,
}

impl Io {
    /// Confines all changes of what lies in this folder to it: one through a link that leads out of it fails.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn confined(self, folder: &Path) -> Result<Io> {
        let dir = Dir::open_ambient_dir(folder, cap_std::ambient_authority());
        let dir = Arc::new(dir.map_err(|error| self.failed("open", folder, error))?);
        Ok(Io { within: Some(Within { folder: folder.to_owned(), dir }), ..self })
    }

    /// The folder that a change is confined to, and the path in it.
    pub(super) fn place<'a>(&'a self, path: &'a Path) -> Option<(&'a Dir, &'a Path)> {
        let within = self.within.as_ref()?;
        path.strip_prefix(&within.folder).ok().map(|path| (&*within.dir, path))
    }

    /// Opens a file to change it, without asking whether it may fail: for what nobody counts on.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open_to_change(&self, path: &Path, (create, truncate): (bool, bool)) -> std::io::Result<File> {
        match self.place(path) {
            Some((dir, path)) => {
                let mut how = cap_std::fs::OpenOptions::new();
                how.read(true).write(true).create(create).truncate(truncate);
                dir.open_with(path, &how).map(cap_std::fs::File::into_std)
            }
            None => OpenOptions::new().read(true).write(true).create(create).truncate(truncate).open(path),
        }
    }

    /// Opens a file whose attributes are changed; none when there is no such file, or what is there is none.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open_to_mark(&self, path: &Path) -> std::io::Result<Option<File>> {
        if path.is_symlink() {
            return Ok(None);
        }
        let opened = match self.place(path) {
            Some((dir, path)) => {
                let mut how = cap_std::fs::OpenOptions::new();
                how.read(true).custom_flags(at_once());
                dir.open_with(path, &how).map(cap_std::fs::File::into_std)
            }
            None => open_at_once(path),
        };
        match opened {
            Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound || no_file(&error).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn move_to(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        match (self.place(from), self.place(to)) {
            (Some((dir, from)), Some((_, to))) => dir.rename(from, dir, to),
            (Some(_) | None, Some(_) | None) => std::fs::rename(from, to),
        }
    }

    pub(super) fn delete(&self, path: &Path) -> std::io::Result<()> {
        match self.place(path) {
            Some((dir, path)) => dir.remove_file(path),
            None => std::fs::remove_file(path),
        }
    }

    /// Gives a folder that lies in the place of a file, or the other way round, a name that is none of ours: what is in it may be dear to whoever put it there.
    pub(super) fn set_aside(&self, path: &Path) -> std::io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = (0u32..).map(|number| path.with_file_name(format!(".{name}.aside-{number}")));
        let aside = aside.into_iter().find(|aside| aside.symlink_metadata().is_err()).expect("a number is free");
        tracing::warn!(path = %path.display(), aside = %aside.display(), "what lies in the place of something of ours is set aside");
        self.move_to(path, &aside)
    }

    /// Makes room for a file at a path: what lies there and is none would stop it, or swallow what is written.
    pub(super) fn clear(&self, path: &Path) -> Result<()> {
        match path.symlink_metadata() {
            Ok(there) if !there.is_file() => self.remove_file(path),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
