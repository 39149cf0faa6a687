//! Where a recovered site's data folder is made: beside the wanted one, whole, and then given its name. What fails leaves nothing.

use crate::failure::{Exit, Failure};
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock, statx};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder in which all is made, held by this process alone. Unless it gets its name it goes again, with the folders that were
/// made for it.
pub(super) struct Beside {
    path: PathBuf,
    wanted: PathBuf,
    /// Folders above it that were not there, the innermost first.
    made: Vec<PathBuf>,
    held: Option<File>,
    named: bool,
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::io(what, &path, &error)
}

fn refused(code: &str, text: String, advice: &str) -> Failure {
    Failure::new(code, text, advice).with(Exit::Refused)
}

fn not_empty(data: &Path) -> Failure {
    let advice = "name a folder that is not there: nothing that exists is overwritten";
    refused("FS-SITE-NOT-EMPTY", format!("{} is not empty", data.display()), advice)
}

/// Whether a file system is mounted there: its root cannot be put in place of another folder.
fn is_mount_point(path: &Path) -> bool {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether the wanted folder can be made: it must not be there, or be empty. Answers its whole path. Writes nothing.
pub(super) fn wanted(data: &Path) -> Result<PathBuf, Failure> {
    let advice = "name a folder that is not there yet, inside another";
    let unfit = |why: &str| refused("FS-SITE-FOLDER", format!("{} {why}", data.display()), advice);
    let real = match fs::symlink_metadata(data) {
        Ok(found) if found.is_symlink() => fs::canonicalize(data).map_err(|_| unfit("is a link that leads nowhere"))?,
        Ok(_) | Err(_) => std::path::absolute(data).map_err(io("find", data))?,
    };
    match fs::read_dir(&real).map(Iterator::count) {
        Ok(held) if held > 0 => return Err(not_empty(data)),
        Ok(_) if is_mount_point(&real) => {
            let text = format!(
                "{} is where a file system is mounted, which no other folder can take the place of",
                data.display()
            );
            let mut failure = refused("FS-SITE-MOUNT-POINT", text, "");
            failure.advice = format!("name a folder inside it, like {}", data.join("site").display());
            return Err(failure);
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(unfit("is not a folder, or lies in none"));
        }
        Err(error) => return Err(io("read", data)(error)),
    }
    if real.parent().is_none() || real.file_name().is_none() {
        return Err(unfit("cannot be made"));
    }
    Ok(real)
}

impl Beside {
    /// Makes it, empty.
    pub(super) fn make(wanted: PathBuf) -> Result<Beside, Failure> {
        let above = wanted.parent().unwrap_or(Path::new("/")).to_owned();
        let name = wanted.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = above.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        let path = above.join(format!(".{name}.recovering"));
        // From here on what was made goes again when anything fails.
        let mut beside = Beside { path, wanted, made, held: None, named: false };
        fs::create_dir_all(&above).map_err(io("make", &above))?;
        match fs::create_dir(&beside.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io("make", &beside.path)(error)),
            Ok(()) | Err(_) => {}
        }
        beside.hold()?;
        // What an earlier recovery left that was killed.
        for entry in fs::read_dir(&beside.path).map_err(io("read", &beside.path))? {
            let left = entry.map_err(io("read", &beside.path))?.path();
            let gone =
                if left.is_dir() && !left.is_symlink() { fs::remove_dir_all(&left) } else { fs::remove_file(&left) };
            gone.map_err(io("remove", &left))?;
        }
        Ok(beside)
    }

    /// Takes it for this process, or says that another recovery has it.
    fn hold(&mut self) -> Result<(), Failure> {
        let busy = || {
            let text = format!("another recovery into {} is under way, or has just ended", self.wanted.display());
            Failure::new("FS-SITE-BUSY", text, "wait for its end and look at what it made").with(Exit::Busy)
        };
        let folder = File::open(&self.path).map_err(|_| busy())?;
        flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|_| busy())?;
        // The other one may have given it its name, or removed it, just before.
        let place = |found: fs::Metadata| (found.dev(), found.ino());
        let held = folder.metadata().map(place).map_err(io("look at", &self.path))?;
        if fs::metadata(&self.path).ok().map(place) != Some(held) {
            return Err(busy());
        }
        self.held = Some(folder);
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, durable.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
        sync(&self.path).map_err(io("write", &self.path))?;
        match fs::rename(&self.path, &self.wanted) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => return Err(not_empty(&self.wanted)),
            named => named.map_err(io("give its name to", &self.wanted))?,
        }
        self.named = true;
        let above = self.wanted.parent().unwrap_or(Path::new("/"));
        let made = self.made.iter().filter_map(|folder| folder.parent());
        made.chain([above]).try_for_each(sync).map_err(io("write", above))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.named {
            return;
        }
        if self.held.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
        // One that somebody else has put something into stays.
        self.made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

#[cfg(test)]
mod tests {
    use super::{is_mount_point, wanted};
    use std::fs;

    #[test]
    fn a_mount_point_is_told_from_a_folder() {
        assert!(is_mount_point("/proc".as_ref()) && is_mount_point("/".as_ref()));
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_mount_point(folder.path()) && !is_mount_point(&folder.path().join("none")));
    }

    #[test]
    fn what_cannot_become_the_folder_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("empty")).unwrap();
        fs::create_dir(at("full")).unwrap();
        fs::write(at("full/file"), "x").unwrap();
        std::os::unix::fs::symlink("empty", at("link")).unwrap();
        std::os::unix::fs::symlink("none", at("dangling")).unwrap();
        assert_eq!(wanted(&at("link")).unwrap(), fs::canonicalize(at("empty")).unwrap());
        assert_eq!(wanted(&at("new/deep")).unwrap(), at("new/deep"));
        for (name, code) in [
            ("full", "FS-SITE-NOT-EMPTY"),
            ("dangling", "FS-SITE-FOLDER"),
            ("full/file", "FS-SITE-FOLDER"),
            ("full/file/in", "FS-SITE-FOLDER"),
            ("empty/..", "FS-SITE-NOT-EMPTY"),
            ("new/..", "FS-SITE-FOLDER"),
        ] {
            assert_eq!(wanted(&at(name)).unwrap_err().code, code, "{name}");
        }
        assert!(!at("new").exists());
    }
}
