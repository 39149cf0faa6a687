//! Opening a repository: whose it is, which format, and that nobody else has it open.

use super::{Repository, State};
use crate::io::{Faults, Io};
use crate::{Error, Result, Store};
use farshore_schemas::ids::{Lineage, Name};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex};

const FORMAT: u32 = 0;
const HEADER: &str = "format.json";
const MAX_HEADER: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    name: Name,
    lineage: Lineage,
}

/// The one field that every format has.
#[derive(Deserialize)]
struct AnyHeader {
    format: u32,
}

/// What to do about a folder of another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    Required,
    Taken,
}

impl Repository {
    /// Opens the repository in `path` for its owner; makes one when the folder is missing or empty.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Owner`], [`Error::Locked`], [`Error::Foreign`], or what the disk says.
    pub fn open(path: &Path, name: &Name, lineage: Lineage) -> Result<Repository> {
        Self::open_with(path, Header { format: FORMAT, name: name.clone(), lineage }, Ownership::Required, None)
    }

    /// Opens the repository in `path` and makes this its owner, whoever owned it. The position of prunes starts anew,
    /// since it counts in the old owner's log.
    ///
    /// # Errors
    /// As [`Repository::open`], but for [`Error::Owner`].
    pub fn adopt(path: &Path, name: &Name, lineage: Lineage) -> Result<Repository> {
        Self::open_with(path, Header { format: FORMAT, name: name.clone(), lineage }, Ownership::Taken, None)
    }

    /// [`Repository::open`] with faults, for tests of crashes and full disks.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_with_faults(path: &Path, name: &Name, lineage: Lineage, faults: Arc<dyn Faults>) -> Result<Repository> {
        Self::open_with(path, Header { format: FORMAT, name: name.clone(), lineage }, Ownership::Required, Some(faults))
    }

    fn open_with(
        path: &Path,
        wanted: Header,
        ownership: Ownership,
        faults: Option<Arc<dyn Faults>>,
    ) -> Result<Repository> {
        let io = Io::new(Store::Repository, faults);
        io.make_folder(path)?;
        let header_file = path.join(HEADER);
        let found = io.read(&header_file)?;
        if found.is_none() && io.names(path)?.iter().any(|name| name != "lock") {
            return Err(Error::Foreign { store: Store::Repository, path: path.to_owned() });
        }
        let lock = io.lock(path)?;
        // Read again under the lock: another process may have made it meanwhile.
        match io.read(&header_file)? {
            None => {
                make_folders(&io, path)?;
                write_header(&io, path, &wanted)?;
            }
            Some(bytes) => {
                let found = read_header(&io, path, &bytes)?;
                settle_owner(&io, path, (&found, &wanted), ownership)?;
                make_folders(&io, path)?;
            }
        }
        let root_folder = io.open_ro(path)?;
        let repository = Repository {
            io,
            root: path.to_owned(),
            root_folder,
            _lock: lock,
            state: Mutex::new(State::default()),
            deciding: Mutex::new(()),
        };
        repository.clear_temporary()?;
        repository.load()?;
        Ok(repository)
    }

    /// What a crash left half-written was never counted.
    fn clear_temporary(&self) -> Result<()> {
        let temporary = self.root.join("tmp");
        for name in self.io.names(&temporary)? {
            self.io.remove_file(&temporary.join(name))?;
        }
        Ok(())
    }
}

fn settle_owner(io: &Io, path: &Path, (found, wanted): (&Header, &Header), ownership: Ownership) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    match ownership {
        Ownership::Required => Err(Error::Owner {
            path: path.to_owned(),
            name: wanted.name.clone(),
            lineage: wanted.lineage,
            found_name: found.name.clone(),
            found: found.lineage,
        }),
        Ownership::Taken => {
            io.remove_file(&path.join("position"))?;
            io.sync_folder(path)?;
            write_header(io, path, wanted)
        }
    }
}

fn make_folders(io: &Io, path: &Path) -> Result<()> {
    for folder in ["chunks", "disks", "points", "digests", "trash", "tmp"] {
        io.make_folder(&path.join(folder))?;
    }
    Ok(())
}

fn write_header(io: &Io, path: &Path, header: &Header) -> Result<()> {
    let json = serde_json::to_vec_pretty(header).expect("a header has only texts and a number");
    io.place_durable(&path.join(HEADER), &json)
}

fn read_header(io: &Io, path: &Path, bytes: &[u8]) -> Result<Header> {
    let damage = |why: String| io.damage(&path.join(HEADER), why);
    if bytes.len() > MAX_HEADER {
        return Err(damage(format!("it has {} bytes", bytes.len())));
    }
    let any: AnyHeader = serde_json::from_slice(bytes).map_err(|error| damage(error.to_string()))?;
    if any.format > FORMAT {
        return Err(Error::Newer { store: Store::Repository, path: path.to_owned(), found: any.format, known: FORMAT });
    }
    serde_json::from_slice(bytes).map_err(|error| damage(error.to_string()))
}
