//! Bringing the index in line with the packs that are in the folder. Where it has lost something it is made anew from their
//! directories, and nothing that was derived by it before is believed any more.

use super::Repository;
use super::strays::{pack_named, segment_named};
use crate::{Error, Result};
use farshore_format::repository::FileId;
use std::collections::BTreeSet;

impl Repository {
    /// Reads which packs there are and brings the index in line with them. With `lost`, what is not in the folder is gone;
    /// otherwise it may be on its way there.
    pub(super) fn reload_packs(&self, lost: bool) -> Result<()> {
        let ours = self.lock.is_some();
        let mut index = self.index_mut();
        let there = self.pack_ids()?;
        index.forget(&there, lost);
        let mut told = index.is_behind();
        let (uncovered, damaged) = index.load(&there, ours)?;
        if ours && !damaged.is_empty() {
            self.rely_on_nothing()?;
            index.fall_behind()?;
            damaged.iter().try_for_each(|segment| self.io.remove_file(segment))?;
            told = true;
        }
        for id in uncovered {
            match self.read_directory(&id) {
                Ok(entries) => {
                    // Nobody has said that a pack would be in no segment: one is gone.
                    if ours && !told && !index.all_in_segments(&entries)? {
                        self.rely_on_nothing()?;
                        told = true;
                    }
                    index.note_directory(id, &entries);
                    if ours {
                        // So that an index that is made anew does not take all the memory.
                        index.settle(false)?;
                    }
                }
                Err(error @ Error::Damage { .. }) => {
                    tracing::error!(pack = %id, %error, "a pack cannot be read: what it holds counts as missing");
                    index.lose_pack(&id);
                }
                Err(error) => return Err(error),
            }
        }
        if !ours {
            return Ok(());
        }
        index.settle(true)?;
        index.caught_up()
    }

    /// Makes the whole index anew from the packs' directories.
    ///
    /// # Errors
    /// What the disk says.
    pub fn rebuild_index(&self) -> Result<()> {
        if self.lock.is_some() {
            self.rely_on_nothing()?;
            self.index().fall_behind()?;
            let folder = self.root.join("index");
            for name in self.io.names(&folder)?.into_iter().filter(|name| segment_named(name).is_some()) {
                self.io.remove_file(&folder.join(name))?;
            }
            return self.reload_packs(false);
        }
        let mut index = self.index_mut();
        let there = self.pack_ids()?;
        index.forget(&there, true);
        for id in &there {
            match self.read_directory(id) {
                Ok(entries) => index.note_directory(*id, &entries),
                Err(_) => index.lose_pack(id),
            }
        }
        Ok(())
    }

    /// The packs in the folder.
    pub(super) fn pack_ids(&self) -> Result<BTreeSet<FileId>> {
        let mut ids = BTreeSet::new();
        let root = self.root.join("packs");
        for folder in self.io.names(&root)? {
            let within = root.join(&folder);
            if within.is_dir() {
                ids.extend(self.io.names(&within)?.iter().filter_map(|name| pack_named(&folder, name)));
            }
        }
        Ok(ids)
    }
}
