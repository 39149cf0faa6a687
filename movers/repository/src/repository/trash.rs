//! The trash: what sweeps have moved lies there, each prune's in a folder of its own, and can still be read. It is deleted once
//! it has lain there for its hold, counted in monotonic time while the repository is open, and kept in the folder as time
//! served. A restart or a clock that jumps can only lengthen that. A hold may be lengthened, never shortened.

use super::Repository;
use crate::{Error, Result};
use farshore_schemas::units::{ByteCount, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

/// What a former log's prunes had put there is kept under this before its number.
const FORMER: &str = "former-";

/// Monotonic time since some moment in the life of this process.
pub type Monotonic = std::time::Duration;

/// The file `hold` in a prune's trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    hold_ms: u64,
    served_ms: u64,
}

impl Hold {
    fn left(self) -> Millis {
        Millis(self.hold_ms.saturating_sub(self.served_ms))
    }
}

impl Repository {
    pub(super) fn trash_path(&self, mark: u64) -> PathBuf {
        self.root.join("trash").join(format!("{mark:020}"))
    }

    fn counted(&self) -> MutexGuard<'_, BTreeMap<String, Monotonic>> {
        // A panic while it was held leaves at worst less time counted.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what lies in the trash by this name is a prune's folder.
    fn is_trash(&self, name: &str) -> bool {
        is_folder(&self.root.join("trash").join(name))
    }

    /// Makes the folders of a prune in the trash. Nothing but a folder may lie in their place.
    pub(super) fn make_trash_folders(&self, trash: &Path) -> Result<()> {
        self.clear_trash_place(trash)?;
        for folder in ["packs", "points"].map(|folder| trash.join(folder)) {
            self.clear_trash_place(&folder)?;
            self.io.make_folder(&folder)?;
        }
        self.io.sync_folder(&self.root.join("trash"))
    }

    /// Deletes what lies in the place of a folder in the trash and is none. Of a link it deletes the link.
    fn clear_trash_place(&self, path: &Path) -> Result<()> {
        if is_folder(path) || path.symlink_metadata().is_err() { Ok(()) } else { self.io.remove_file(path) }
    }

    /// Makes a prune's folder in the trash, which holds for so long from now on.
    pub(super) fn make_trash(&self, mark: u64, (hold, now): (Millis, Monotonic)) -> Result<PathBuf> {
        let trash = self.trash_path(mark);
        self.make_trash_folders(&trash)?;
        // What came before the crash of an earlier sweep begins anew: the hold counts from the last that was moved.
        self.write_hold(&trash, Hold { hold_ms: hold.0.max(self.read_hold(&trash, hold).hold_ms), served_ms: 0 })?;
        self.counted().insert(format!("{mark:020}"), now);
        Ok(trash)
    }

    /// Without a file that says it, nothing was served.
    fn read_hold(&self, trash: &Path, hold: Millis) -> Hold {
        let read = self.io.read(&trash.join("hold")).ok().flatten();
        let read = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        read.unwrap_or(Hold { hold_ms: hold.0, served_ms: 0 })
    }

    fn write_hold(&self, trash: &Path, hold: Hold) -> Result<()> {
        let json = serde_json::to_vec(&hold).expect("it has only numbers");
        self.io.place_durable(&trash.join("hold"), &json)
    }

    /// Counts the time since it was last counted as served, durable, and lengthens the hold to at least `least`.
    fn count(&self, name: &str, (least, now): (Millis, Monotonic)) -> Result<Hold> {
        let trash = self.root.join("trash").join(name);
        let before = self.read_hold(&trash, least);
        // The first look of this opening serves nothing: how long the folder was alone is not known.
        let since = *self.counted().entry(name.to_owned()).or_insert(now);
        let passed = u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(0);
        let served_ms = before.served_ms.saturating_add(passed);
        let hold = Hold { hold_ms: before.hold_ms.max(least.0), served_ms };
        if hold != before || !trash.join("hold").exists() {
            self.write_hold(&trash, hold)?;
        }
        // Less than a millisecond is not lost, since only whole ones were counted.
        self.counted().insert(name.to_owned(), since + Monotonic::from_millis(passed));
        Ok(hold)
    }

    /// Keeps how long what is in the trash has lain there, so that a restart costs little of it. Called from time to time.
    ///
    /// # Errors
    /// [`Error::Owner`] when the folder has passed to another, who counts for itself, or what the disk says.
    pub fn count_trash(&self, now: Monotonic) -> Result<()> {
        let _alone = self.decide_alone();
        self.still_owned()?;
        let root = self.root.join("trash");
        for name in self.io.names(&root)?.iter().filter(|name| root.join(name).join("hold").exists()) {
            self.count(name, (Millis(0), now))?;
        }
        Ok(())
    }

    /// Deletes what the prune of this mark has put into the trash, and what is left of prunes of former logs whose time has
    /// come. Answers the bytes deleted. Done twice it is harmless.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::Held`] while it has not lain there long enough, or what the disk says.
    pub fn empty_trash(&self, (mark, position): (u64, u64), (hold, now): (Millis, Monotonic)) -> Result<ByteCount> {
        self.io.usable()?;
        self.still_owned()?;
        let _alone = self.decide_alone();
        self.with_room(|_| self.empty_in((mark, position), (hold, now)))
    }

    fn empty_in(&self, (mark, position): (u64, u64), (hold, now): (Millis, Monotonic)) -> Result<ByteCount> {
        self.note_position(position)?;
        let mut freed = ByteCount(0);
        for name in self.io.names(&self.root.join("trash"))? {
            let former = name.starts_with(FORMER);
            if former && (!self.is_trash(&name) || self.count(&name, (hold, now))?.left() == Millis(0)) {
                freed = freed + self.delete_trash(&name)?;
            }
        }
        let name = format!("{mark:020}");
        if !self.trash_path(mark).exists() {
            return Ok(freed);
        }
        let left = if self.is_trash(&name) { self.count(&name, (hold, now))?.left() } else { Millis(0) };
        if left > Millis(0) {
            return Err(Error::Held { mark, left });
        }
        Ok(freed + self.delete_trash(&name)?)
    }

    /// Deletes a prune's folder. What it was held for goes last, so that a crash half-way goes on from there.
    pub(super) fn delete_trash(&self, name: &str) -> Result<ByteCount> {
        let root = self.root.join("trash").join(name);
        let mut freed = ByteCount(0);
        self.clear_trash_place(&root)?;
        for folder in ["packs", "points"].map(|folder| root.join(folder)) {
            self.clear_trash_place(&folder)?;
            for file in self.io.names(&folder)? {
                let path = folder.join(file);
                freed = freed + length(&path);
                // One that was given the attribute while it was moved has it still.
                self.unmark(&path)?;
                self.io.remove_file(&path)?;
            }
        }
        self.io.remove_folder(&root)?;
        self.counted().remove(name);
        Ok(freed)
    }

    /// The folder passes to a new log, whose positions count anew: what the former one's prunes have left is set apart.
    pub(super) fn set_trash_apart(&self) -> Result<()> {
        let root = self.root.join("trash");
        for name in self.io.names(&root)?.iter().filter(|name| !name.starts_with(FORMER)) {
            let apart = (0u32..).map(|n| root.join(format!("{FORMER}{name}-{n}"))).find(|path| !path.exists());
            if let Some(apart) = apart {
                self.io.rename(&root.join(name), &apart)?;
            }
        }
        self.io.sync_folder(&root)
    }
}

/// Whether a folder lies there, and not a link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|there| there.is_dir())
}

pub(super) fn length(path: &Path) -> ByteCount {
    ByteCount(std::fs::metadata(path).map_or(0, |file| file.len()))
}
