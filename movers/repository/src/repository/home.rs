//! Making and opening a repository: which format, whose keys, what lies in its folder.

use super::clocks::Clocks;
use super::damaged::damage_of;
use super::index::Index;
use super::packs::pack_path;
use super::{Pinned, Repository, Sealing, packs, random_id, syncer::Syncer};
use crate::io::{Faults, Io};
use crate::{Error, Result, Store};
use farshore_format::repository::{
    Cutter, Domain, FOOTER_LEN, FileId, KeySlot, PACK_HEADER_LEN, PackFooter, PackHeader, RepositoryKey, Suite,
    decode_directory,
};
use farshore_schemas::ids::Name;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

const FORMAT: u32 = 1;
pub(super) const HEADER: &str = "format.json";
const MAX_HEADER: usize = 64 * 1024;
/// A key slot has some hundred bytes.
const MAX_SLOT: u64 = 64 * 1024;
const FOLDERS: [&str; 6] = ["packs", "points", "index", "keys", "trash", "digests"];

/// What a repository is made as.
#[derive(Debug, Clone)]
pub struct Create {
    /// Its name.
    pub name: Name,
    /// Repositories of one domain name and cut chunks alike.
    pub domain: Name,
    /// The domain's secret, when the domain exists already; random otherwise.
    pub domain_secret: Option<[u8; 32]>,
    /// What opens it; without one it is not encrypted.
    pub passphrase: Option<Vec<u8>>,
    /// Whether records are padded, so that their lengths tell less of what they hold; at most an eighth more is stored.
    pub padding: bool,
}

/// What is given to open a repository.
#[derive(Debug, Clone, Default)]
pub struct Unlock {
    /// The passphrase of one of its key slots.
    pub passphrase: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: u32,
    name: Name,
    pub(super) domain: Name,
    pub(super) encrypted: bool,
    /// The domain's secret in hex, when it is not kept in key slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_secret: Option<String>,
    /// Whether records that are stored from now on are padded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    padding: bool,
}

/// The one field that every format has.
#[derive(Deserialize)]
struct AnyHeader {
    format: u32,
}

/// Whether the folder is taken for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Write,
    Read,
}

fn suite_of_this_machine() -> Suite {
    #[cfg(target_arch = "x86_64")]
    let fast = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let fast = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let fast = false;
    if fast { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
}

impl Repository {
    /// Makes a repository in a folder that is missing or empty, durable, and opens it.
    ///
    /// # Errors
    /// [`Error::Already`], [`Error::Foreign`], or what the disk says.
    pub fn create(path: &Path, make: &Create) -> Result<Repository> {
        let io = Io::new(Store::Repository, None);
        make_root(&io, path)?;
        let io = io.confined(path)?;
        if path.join(HEADER).exists() {
            return Err(Error::Already { path: path.to_owned() });
        }
        if !empty(&io, path)? {
            return Err(Error::Foreign { store: Store::Repository, path: path.to_owned() });
        }
        let lock = io.lock(path)?;
        let secret = make.domain_secret.unwrap_or_else(|| random_id().0);
        for folder in FOLDERS {
            io.make_folder(&path.join(folder))?;
        }
        if let Some(passphrase) = &make.passphrase {
            let key = RepositoryKey(random_id().0);
            let slot = KeySlot::make(passphrase, random_id().0, &key, &secret)
                .map_err(|why| Error::Key { path: path.to_owned(), why: why.to_string() })?;
            io.place_durable(&path.join("keys").join("0.json"), &slot.encode())?;
        }
        let header = Header {
            format: FORMAT,
            name: make.name.clone(),
            domain: make.domain.clone(),
            encrypted: make.passphrase.is_some(),
            domain_secret: make.passphrase.is_none().then(|| FileId(secret).to_string()),
            padding: make.padding,
        };
        // Last: a folder with a header is a whole repository.
        let json = serde_json::to_vec_pretty(&header).expect("a header has only texts and a number");
        io.place_durable(&path.join(HEADER), &json)?;
        drop(lock);
        Repository::open(path, &Unlock { passphrase: make.passphrase.clone() })
    }

    /// Opens a repository for writing: takes its lock.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Locked`], [`Error::Key`], [`Error::NotHere`], [`Error::Damage`], or what the disk says.
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Repository> {
        Self::open_for(path, unlock, (Use::Write, None))
    }

    /// Opens a repository to be read, without its lock: the trash keeps what a prune takes away meanwhile.
    ///
    /// # Errors
    /// As [`Repository::open`], but for [`Error::Locked`].
    pub fn open_to_read(path: &Path, unlock: &Unlock) -> Result<Repository> {
        Self::open_for(path, unlock, (Use::Read, None))
    }

    /// [`Repository::open`] with faults, for tests of crashes and full disks.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_with_faults(path: &Path, unlock: &Unlock, faults: Arc<dyn Faults>) -> Result<Repository> {
        Self::open_for(path, unlock, (Use::Write, Some(faults)))
    }

    pub(super) fn open_to_write(path: &Path, unlock: &Unlock, faults: Option<Arc<dyn Faults>>) -> Result<Repository> {
        Self::open_for(path, unlock, (Use::Write, faults))
    }

    fn open_for(path: &Path, unlock: &Unlock, (way, faults): (Use, Option<Arc<dyn Faults>>)) -> Result<Repository> {
        let io = Io::new(Store::Repository, faults);
        let header = read_header(&io, path)?;
        let io = io.confined(path)?;
        let lock = match way {
            Use::Write => Some(io.lock(path)?),
            Use::Read => None,
        };
        let (sealing, secret) = open_keys(&io, path, (&header, unlock))?;
        let domain = Domain::new(&secret);
        let index = Index::empty(io.clone(), path.join("index"));
        let repository = Repository {
            syncer: Syncer::new(io.clone(), path.to_owned()),
            root: path.to_owned(),
            name: header.name,
            domain_name: header.domain,
            cutter: Cutter::new(&domain),
            domain,
            sealing,
            padding: header.padding,
            lock,
            packs: Mutex::new(packs::Open::default()),
            index: RwLock::new(index),
            pinned: Mutex::new(Pinned::default()),
            deciding: Mutex::new(()),
            keeping: Mutex::default(),
            owned: OnceLock::new(),
            counted: Mutex::default(),
            clocks: Clocks::machine(),
            attributes: Mutex::default(),
            opening: random_id(),
            added: Mutex::default(),
            whole: Mutex::default(),
            followed: Mutex::default(),
            named: Mutex::default(),
            io,
        };
        if repository.lock.is_some() {
            // One that is gone is damage, if anything was in it, and no reason to go no further.
            FOLDERS.iter().try_for_each(|folder| repository.io.make_own_folder(&path.join(folder)))?;
            repository.clear_temporary()?;
            repository.keep_reserve();
        }
        repository.load_marks()?;
        if repository.lock.is_some() {
            repository.load_going()?;
        }
        repository.reload_packs(true)?;
        Ok(repository)
    }

    /// What a crash left half-written was never counted.
    fn clear_temporary(&self) -> Result<()> {
        let logs = self.log_folders()?.into_iter().map(|(_, folder)| folder);
        for folder in ["packs", "points", "index", "."].map(|folder| self.root.join(folder)).into_iter().chain(logs) {
            for entry in std::fs::read_dir(&folder).map_err(|error| self.io.failed("list", &folder, error))? {
                let path = entry.map_err(|error| self.io.failed("list", &folder, error))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with('.') && name.ends_with(".new") {
                    self.io.remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The directory of a pack, read and proven.
    pub(super) fn read_directory(&self, id: &FileId) -> Result<Vec<farshore_format::repository::DirectoryEntry>> {
        let path = pack_path(&self.root, id);
        let bad = |why: String| self.io.damage(&path, why);
        let file = self.open_pack_file(&path)?;
        let (header, footer, length) = self.pack_ends(&file, (id, &path))?;
        let mut tail = vec![0; footer.directory as usize + FOOTER_LEN];
        let at = length - tail.len() as u64;
        file.read_exact_at(&mut tail, at).map_err(|error| bad(error.to_string()))?;
        let key =
            self.sealing.key_of(header.suite, id).ok_or_else(|| bad("it is sealed, and there is no key".into()))?;
        decode_directory(&key, &footer, &mut tail).map_err(|error| bad(error.to_string()))
    }

    /// Header and footer of a pack, and its length.
    pub(super) fn pack_ends(
        &self,
        file: &File,
        (id, path): (&FileId, &PathBuf),
    ) -> Result<(PackHeader, PackFooter, u64)> {
        let bad = |why: String| self.io.damage(path, why);
        let length = file.metadata().map_err(|error| self.io.failed("look at", path, error))?.len();
        let header = self.pack_header(file, (id, path))?;
        let mut footer = [0; FOOTER_LEN];
        let footer_at = length.checked_sub((FOOTER_LEN + PACK_HEADER_LEN) as u64).map(|at| at + PACK_HEADER_LEN as u64);
        let footer_at = footer_at.ok_or_else(|| bad("it was cut short".to_owned()))?;
        file.read_exact_at(&mut footer, footer_at).map_err(|error| bad(error.to_string()))?;
        let footer = PackFooter::decode(&footer, length).map_err(|error| bad(error.to_string()))?;
        Ok((header, footer, length))
    }

    /// The header of a pack, which must be the one of this id.
    pub(super) fn pack_header(&self, file: &File, (id, path): (&FileId, &PathBuf)) -> Result<PackHeader> {
        let bad = |why: String| self.io.damage(path, why);
        let mut bytes = [0; PACK_HEADER_LEN];
        file.read_exact_at(&mut bytes, 0).map_err(|error| bad(error.to_string()))?;
        let header = PackHeader::decode(&bytes).map_err(|error| bad(error.to_string()))?;
        if header.id != *id {
            return Err(bad(format!("it is pack {}", header.id)));
        }
        if header.suite != self.sealing.suite && header.suite == Suite::None {
            // Or a pack that anybody can write would pass in a repository that only key holders can.
            return Err(bad("it is not sealed, as everything in this repository is".to_owned()));
        }
        Ok(header)
    }
}

/// Makes the repository's own folder, and its name durable, with those of the folders above that were missing.
fn make_root(io: &Io, path: &Path) -> Result<()> {
    let path = std::path::absolute(path).map_err(|error| io.failed("look for", path, error))?;
    let missing = path.ancestors().take_while(|folder| !folder.is_dir()).count();
    io.make_folder(&path)?;
    // Its own name in any case: who made it may have been killed before that was durable. Not every folder may be read.
    let parents =
        path.ancestors().skip(1).take(missing.max(1)).filter(|parent| missing > 0 || File::open(parent).is_ok());
    parents.into_iter().try_for_each(|parent| io.sync_folder(parent))
}

/// Whether nothing is there but what a crash left of the making of a repository.
fn empty(io: &Io, path: &Path) -> Result<bool> {
    let ours = |name: &String| name == "lock" || FOLDERS.contains(&name.as_str());
    if !io.names(path)?.iter().all(ours) {
        return Ok(false);
    }
    for folder in FOLDERS.iter().filter(|folder| **folder != "keys") {
        if !io.names(&path.join(folder))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn read_header(io: &Io, path: &Path) -> Result<Header> {
    let file = path.join(HEADER);
    let damage = |why: String| io.damage(&file, why);
    let Some(bytes) = io.read(&file)? else {
        return Err(Error::NotHere { path: path.to_owned() });
    };
    if bytes.len() > MAX_HEADER {
        return Err(damage(format!("it has {} bytes", bytes.len())));
    }
    let any: AnyHeader = serde_json::from_slice(&bytes).map_err(|error| damage(error.to_string()))?;
    if any.format < FORMAT {
        return Err(Error::Older { path: path.to_owned(), found: any.format });
    }
    if any.format > FORMAT {
        return Err(Error::Newer { store: Store::Repository, path: path.to_owned(), found: any.format, known: FORMAT });
    }
    serde_json::from_slice(&bytes).map_err(|error| damage(error.to_string()))
}

/// The repository's key and the domain's secret.
pub(super) fn open_keys(io: &Io, path: &Path, (header, unlock): (&Header, &Unlock)) -> Result<(Sealing, [u8; 32])> {
    let refused = |why: String| Error::Key { path: path.to_owned(), why };
    if !header.encrypted && unlock.passphrase.is_some() {
        // Or whoever can change the header could have the next backups written in the clear.
        return Err(refused("a passphrase was given, and its header says that it is not encrypted".to_owned()));
    }
    if !header.encrypted {
        let secret = header.domain_secret.as_deref().and_then(|hex| hex.parse::<farshore_schemas::ids::Digest>().ok());
        let secret = secret.ok_or_else(|| io.damage(&path.join(HEADER), "it has no domain secret"))?;
        return Ok((Sealing { suite: Suite::None, key: None }, secret.0));
    }
    let Some(passphrase) = &unlock.passphrase else {
        return Err(refused("it is encrypted and no passphrase was given".to_owned()));
    };
    let folder = path.join("keys");
    let (mut last, mut slots) = ("it has no key slot".to_owned(), Vec::new());
    for name in io.names(&folder)? {
        // A folder is none of ours; a file of another content is told like a slot that does not open.
        if folder.join(&name).is_dir() {
            continue;
        }
        // Nor does anything else that somebody has put there stand in the way of a slot that opens.
        let read = match io.read_up_to(&folder.join(&name), MAX_SLOT) {
            Ok(bytes) => KeySlot::decode(&bytes.unwrap_or_default()).map_err(|error| error.to_string()),
            Err(error) => Err(damage_of(&error).ok_or(error)?),
        };
        match read {
            Ok(slot) => slots.push((slot.work(), name, slot)),
            Err(why) => last = format!("key slot {name}: {why}"),
        }
    }
    slots.sort_by_key(|(work, ..)| *work);
    for (_, name, slot) in slots {
        match slot.open(passphrase) {
            Ok((key, secret)) => {
                return Ok((Sealing { suite: suite_of_this_machine(), key: Some(key) }, secret));
            }
            Err(error) => last = format!("key slot {name}: {error}"),
        }
    }
    Err(refused(last))
}
