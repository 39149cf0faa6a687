//! What an image may have opened on its own account.

use crate::{Backing, ImageError, header};
use farshore_repository::RawSource;
use imago::file::File;
use imago::format::Format;
use imago::format::gate::ImplicitOpenGate;
use imago::{FormatAccess, FormatDriverBuilder, Storage, StorageOpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files behind files: more than anybody has, and fewer than would end the stack. A file that names itself ends here.
const DEEPEST: usize = 32;

/// What was asked for so far.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) opened: Vec<PathBuf>,
    pub(crate) denied: Option<PathBuf>,
    /// Why one that is read as a qcow2 image was not opened.
    pub(crate) refused: Option<ImageError>,
}

/// Asked for every file that an image names. Images that are opened through it share what it notes.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    backing: Backing,
    asked: Arc<Mutex<Asked>>,
}

impl Gate {
    pub(crate) fn new(backing: Backing) -> Gate {
        Gate { backing, asked: Arc::default() }
    }

    pub(crate) fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, path: PathBuf) -> io::Result<()> {
        let mut asked = self.asked();
        if self.backing == Backing::Denied {
            asked.denied = Some(path);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if asked.opened.len() >= DEEPEST {
            return Err(io::Error::other("it is read from too many files, or from itself"));
        }
        asked.opened.push(path);
        Ok(())
    }
}

impl ImplicitOpenGate<File> for Gate {
    fn open_format<F: FormatDriverBuilder<File>>(&mut self, builder: F) -> io::Result<FormatAccess<File>> {
        // The file that it lies in came through this gate just before.
        let behind = self.asked().opened.last().cloned().filter(|_| F::FORMAT == Format::Qcow2);
        if let Some(path) = behind {
            let checked = RawSource::open(&path).map_err(ImageError::from).and_then(|file| header::check(&path, &file));
            if let Err(refused) = checked {
                self.asked().refused.get_or_insert(refused);
                return Err(io::Error::other("what it is read from was refused"));
            }
        }
        Ok(FormatAccess::new(builder.open(self.clone())?))
    }

    fn open_storage(&mut self, builder: StorageOpenOptions) -> io::Result<File> {
        self.ask(builder.get_filename().unwrap_or(std::path::Path::new("?")).to_owned())?;
        File::open(builder.write(false))
    }
}
