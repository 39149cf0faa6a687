//! What would go: the packs that a prune's mark has found to hold nothing, or little, that a point names. Written down
//! durable, and nothing is moved. From then on what lies in them does not count as stored, so that whoever opens a session
//! later stores it again, in another pack, and never counts on what the sweep will take. That holds over a restart, which
//! loses what open sessions were told.

use super::Repository;
use super::damaged::damage_of;
use crate::{Error, Result};
use farshore_format::repository::{FileId, Place};
use farshore_schemas::ids::{Digest, PointId};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// What a mark has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Going {
    /// The log position of the mark.
    pub(super) mark: u64,
    /// Packs that would go.
    pub(super) packs: HashSet<FileId>,
}

/// Longest list that is read, in bytes: of some 15 million packs.
const LONGEST: u64 = 1 << 30;

/// The file `going`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mark: u64,
    points: Vec<PointId>,
    packs: Vec<Digest>,
}

impl Repository {
    fn going_path(&self) -> PathBuf {
        self.root.join("going")
    }

    /// Takes up what an earlier opening has marked. A list that cannot be read marks nothing: the sweep finds no mark then,
    /// and is ordered anew with another.
    pub(super) fn load_going(&self) -> Result<()> {
        let path = self.going_path();
        let list = match self.io.read_up_to(&path, LONGEST) {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) => serde_json::from_slice::<File>(&bytes).map_err(|error| error.to_string()),
            Err(Error::Damage { why, .. }) => Err(why),
            Err(error) => return Err(error),
        };
        match list {
            Ok(File { mark, points: _, packs }) => {
                let packs = packs.into_iter().map(|pack| FileId(pack.0)).collect();
                self.index_mut().going = Some(Going { mark, packs });
            }
            Err(why) => tracing::error!(path = %path.display(), why, "the list of what would go cannot be read"),
        }
        Ok(())
    }

    /// Writes down which packs would go when these points go, durable. Moves and deletes nothing. `mark` is the log position
    /// that names the prune, `position` how far the owner's log had come. A later mark takes the place of an earlier one.
    ///
    /// # Errors
    /// [`Error::Immutable`], [`Error::Position`] for a position lower than one seen, [`Error::Damage`] or [`Error::NoChunk`] when a point in the folder
    /// cannot be read in full, or what the disk says.
    pub fn mark_points(&self, points: &[PointId], (mark, position): (u64, u64)) -> Result<()> {
        self.io.usable()?;
        self.in_order(position)?;
        if self.index().going.as_ref().is_some_and(|going| going.mark == mark) {
            return Ok(());
        }
        // What is stored or named from here on is found by the sweep, so that commits need not wait for this long walk.
        let packs = self.sparse_packs(points)?;
        let _alone = self.decide_alone();
        self.still_owned()?;
        let mut names: Vec<Digest> = packs.iter().map(|pack| Digest(pack.0)).collect();
        names.sort_unstable();
        let file = File { mark, points: points.to_vec(), packs: names };
        let json = serde_json::to_vec(&file).expect("it has only texts and a number");
        self.with_room(|_| {
            self.note_position(position)?;
            self.io.place_durable(&self.going_path(), &json)
        })?;
        self.index_mut().going = Some(Going { mark, packs });
        Ok(())
    }

    /// The packs that were marked under this position.
    ///
    /// # Errors
    /// [`Error::NoMark`].
    pub(super) fn going_at(&self, mark: u64) -> Result<HashSet<FileId>> {
        let index = self.index();
        let going = index.going.as_ref().filter(|going| going.mark == mark);
        going.map(|going| going.packs.clone()).ok_or(Error::NoMark { mark })
    }

    /// The mark is done with: what it named and is there still counts again.
    pub(super) fn forget_going(&self) -> Result<()> {
        self.io.remove_file(&self.going_path())?;
        self.io.sync_folder(&self.root)?;
        self.index_mut().going = None;
        Ok(())
    }

    /// Whether a place counts as stored for whoever wants to name it from now on.
    pub(super) fn lasts(&self, place: &Place) -> bool {
        let index = self.index();
        !index.is_damaged(place) && !index.is_going(place)
    }

    /// Refuses what comes from a log that has decided less than the folder has seen.
    pub(super) fn in_order(&self, position: u64) -> Result<()> {
        match self.position()? {
            Some(seen) if position < seen => Err(Error::Position { asked: position, seen }),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn note_position(&self, position: u64) -> Result<()> {
        self.in_order(position)?;
        if self.position()? != Some(position) {
            self.io.place_durable(&self.root.join("position"), format!("{position}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Forgets a position that cannot be read: nobody can say any more which log is behind the folder.
    pub(super) fn mend_position(&self) -> Result<()> {
        match self.position() {
            Err(error) if damage_of(&error).is_some() => self.io.remove_file(&self.root.join("position")),
            read => read.map(drop),
        }
    }

    /// The highest log position that a step of a prune has come with.
    ///
    /// # Errors
    /// [`Error::Damage`].
    pub fn position(&self) -> Result<Option<u64>> {
        let path = self.root.join("position");
        let Some(bytes) = self.io.read(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let position = text.trim().parse();
        position.map(Some).map_err(|_| self.io.damage(&path, "it is not a log position"))
    }
}
