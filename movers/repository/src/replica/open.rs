//! Opening and deleting a store: its lock, its format, its points, and ending a seal that a crash interrupted.

use super::{Begun, Chain, Open, ReplicaStore, Sealed};
use crate::io::{Faults, Io};
use crate::{Error, Result, Store};
use farshore_format::ReplicaPoint;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

const FORMAT: u32 = 0;
const HEADER: &str = "format.json";
pub(super) const MANIFEST: &str = "manifest";

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
}

impl ReplicaStore {
    /// Opens the store in `path`; makes one when the folder is missing or empty. A point that was being made stays
    /// unfinished until it is gone on with or rolled back.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Newer`], [`Error::Foreign`], [`Error::Damage`], or what the disk says.
    pub fn open(path: &Path) -> Result<ReplicaStore> {
        Self::open_with(path, None)
    }

    /// [`ReplicaStore::open`] with faults, for tests of crashes and full disks.
    ///
    /// # Errors
    /// As [`ReplicaStore::open`].
    pub fn open_with_faults(path: &Path, faults: Arc<dyn Faults>) -> Result<ReplicaStore> {
        Self::open_with(path, Some(faults))
    }

    fn open_with(path: &Path, faults: Option<Arc<dyn Faults>>) -> Result<ReplicaStore> {
        let io = Io::new(Store::Replica, faults);
        io.make_folder(path)?;
        let header = path.join(HEADER);
        if !header.exists() && io.names(path)?.iter().any(|name| name != "lock") {
            return Err(Error::Foreign { store: Store::Replica, path: path.to_owned() });
        }
        let lock = io.lock(path)?;
        check_format(&io, path)?;
        for folder in ["newest", "points"] {
            io.make_folder(&path.join(folder))?;
        }
        let store = ReplicaStore {
            io,
            root: path.to_owned(),
            _lock: lock,
            chain: RwLock::new(Chain::default()),
            busy: Mutex::new(BTreeSet::new()),
        };
        store.load()?;
        Ok(store)
    }

    fn load(&self) -> Result<()> {
        self.clear_forgotten()?;
        let mut chain = self.write_chain();
        chain.points = self.load_points()?;
        chain.open = self.load_begun()?.map(|begun| Open { begun, finished: BTreeMap::new() });
        let sealed = chain.open.as_ref().and_then(|open| chain.sealed(&open.begun.point)).is_some();
        if sealed {
            self.complete_seal(&mut chain)?;
        }
        Ok(())
    }

    /// Points that were being deleted have a leading dot.
    fn clear_forgotten(&self) -> Result<()> {
        let folder = self.root.join("points");
        let entries = std::fs::read_dir(&folder).map_err(|error| self.io.failed("list", &folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.io.failed("list", &folder, error))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                self.io.remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }

    fn load_points(&self) -> Result<Vec<Sealed>> {
        let folder = self.root.join("points");
        let mut points: Vec<Sealed> = Vec::new();
        for name in self.io.names(&folder)? {
            let path = folder.join(&name).join(MANIFEST);
            // A folder without a manifest is of a point that was never sealed; rolling it back deletes the folder.
            let Some(bytes) = self.io.read(&path)? else { continue };
            let point = ReplicaPoint::decode(&bytes).map_err(|error| self.io.damage(&path, error))?;
            let number = name.split_once('-').and_then(|(number, _)| number.parse().ok());
            let number = number.ok_or_else(|| self.io.damage(&path, "its folder has no number"))?;
            if self.point_folder(number, &point.point) != folder.join(&name) {
                return Err(self.io.damage(&path, format!("it is point {}", point.point)));
            }
            points.push(Sealed { number, point });
        }
        points.sort_by_key(|sealed| sealed.number);
        Ok(points)
    }

    fn load_begun(&self) -> Result<Option<Begun>> {
        let path = self.open_folder().join("begin");
        let Some(bytes) = self.io.read(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.io.damage(&path, error))
    }

    /// Deletes the store in `path`, which must not be open; one that is gone is as good.
    ///
    /// # Errors
    /// [`Error::Locked`], or what the disk says.
    pub fn drop_store(path: &Path) -> Result<()> {
        let io = Io::new(Store::Replica, None);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dropped = path.with_file_name(format!(".dropped-{name}"));
        if path.exists() {
            let _lock = io.lock(path)?;
            // Another name first: a store that is half deleted must not be opened again.
            io.remove_folder(&dropped)?;
            io.rename(path, &dropped)?;
            io.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        }
        io.remove_folder(&dropped)
    }
}

fn check_format(io: &Io, path: &Path) -> Result<()> {
    let file = path.join(HEADER);
    let Some(bytes) = io.read(&file)? else {
        let json = serde_json::to_vec(&Header { format: FORMAT }).expect("a header is one number");
        return io.place_durable(&file, &json);
    };
    let header: Header = serde_json::from_slice(&bytes).map_err(|error| io.damage(&file, error))?;
    if header.format > FORMAT {
        let (path, found) = (path.to_owned(), header.format);
        return Err(Error::Newer { store: Store::Replica, path, found, known: FORMAT });
    }
    Ok(())
}
