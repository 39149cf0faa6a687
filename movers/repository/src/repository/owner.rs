//! Whose a repository's folder is. The owner is a repository of a site's log under one lineage; only its own agent writes to
//! the folder. A lineage that the site had before its log was put back is followed by the new one; from any other owner the
//! folder is taken only by an operator's decision, which names it. Who lost the folder by one is shut out, with all that goes
//! on from its log, until another decision. Each change of owner raises the folder's epoch.

use super::damaged::damage_of;
use super::home::{Create, HEADER, Unlock};
use super::{Repository, random_id};
use crate::io::Faults;
use crate::{Error, Result};
use farshore_schemas::ids::{Lineage, Name, SiteName};
use farshore_schemas::messages::agent::FolderOwner;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

const OWNER: &str = "owner.json";
const MAX_OWNER: usize = 64 * 1024;

/// An owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The site in whose log the repository stands.
    pub site: SiteName,
    /// The repository's name there.
    pub repository: Name,
    /// The log's lineage.
    pub lineage: Lineage,
    /// Lineages that the log had before it was put back.
    pub formerly: Vec<Lineage>,
    /// The owner from whom an operator decided to take the folder, if one did.
    pub adopted: Option<FolderOwner>,
}

/// Whose a folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerFile {
    /// The site; `offline` when the folder was taken from its site.
    pub site: SiteName,
    /// The repository's name in the site's log.
    pub repository: Name,
    /// The log's lineage.
    pub lineage: Lineage,
    /// Grows with each change of owner.
    pub epoch: u64,
    /// Lineages of those from whom operators took the folder, the latest last: none of them, nor a log that had one, follows by
    /// itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shut_out: Vec<Lineage>,
}

/// Lineages that are remembered as shut out.
const SHUT_OUT: usize = 64;

/// The site of a folder that was taken from its site: no agent opens it.
const NO_SITE: &str = "offline";

impl OwnerFile {
    /// Whether the folder was taken from its site.
    pub fn offline(&self) -> bool {
        self.site.as_str() == NO_SITE
    }

    /// What a decision to take the folder over names it by.
    pub fn named(&self) -> FolderOwner {
        FolderOwner { lineage: self.lineage, epoch: self.epoch }
    }

    /// Who is shut out once an operator took the folder from it, but for those whom `owner` was itself.
    fn shut_out_for(&self, owner: &Owner) -> Vec<Lineage> {
        let mut shut_out = self.shut_out.clone();
        shut_out.push(self.lineage);
        shut_out.retain(|lineage| *lineage != owner.lineage && !owner.formerly.contains(lineage));
        shut_out.drain(..shut_out.len().saturating_sub(SHUT_OUT));
        shut_out
    }
}

/// What a folder's owner is to whoever opens it.
enum Standing {
    /// There is none.
    Nobody,
    Same,
    /// An earlier self.
    Before(OwnerFile),
    /// Somebody from whom it was taken.
    Adopted(OwnerFile),
    Other(OwnerFile),
}

fn standing(found: Option<OwnerFile>, owner: &Owner) -> Standing {
    let Some(found) = found else { return Standing::Nobody };
    // By its epoch, too: a decision counts once, and not against a later one.
    if owner.adopted == Some(found.named()) {
        return Standing::Adopted(found);
    }
    if (&found.site, &found.repository) != (&owner.site, &owner.repository) {
        return Standing::Other(found);
    }
    if found.lineage == owner.lineage {
        return Standing::Same;
    }
    if follows(&found, owner) { Standing::Before(found) } else { Standing::Other(found) }
}

/// Whether a log went on from the one that owns the folder, and has not lost it to that one by an operator's decision.
fn follows(found: &OwnerFile, owner: &Owner) -> bool {
    let shut_out = |lineage: &Lineage| found.shut_out.contains(lineage);
    let lost = shut_out(&owner.lineage) || owner.formerly.iter().any(shut_out);
    owner.formerly.contains(&found.lineage) && !lost
}

impl Repository {
    /// Opens the repository in `path` for its owner; makes one where nothing is, in a dedup domain of its own.
    ///
    /// # Errors
    /// [`Error::Owner`], [`Error::Foreign`], or as [`Repository::open`].
    pub fn open_for_owner(path: &Path, owner: &Owner, unlock: &Unlock) -> Result<Repository> {
        Self::open_for_owner_with(path, owner, (unlock, None))
    }

    /// [`Repository::open_for_owner`] with faults, for tests of crashes and full disks.
    ///
    /// # Errors
    /// As [`Repository::open_for_owner`].
    pub fn open_for_owner_with(
        path: &Path,
        owner: &Owner,
        (unlock, faults): (&Unlock, Option<Arc<dyn Faults>>),
    ) -> Result<Repository> {
        if !path.join(HEADER).exists() {
            let make = Create {
                name: owner.repository.clone(),
                domain: owner.repository.clone(),
                domain_secret: None,
                passphrase: unlock.passphrase.clone(),
                padding: false,
            };
            drop(Repository::create(path, &make)?);
        }
        let repository = Self::open_to_write(path, unlock, faults)?;
        repository.settle_owner(owner)?;
        Ok(repository)
    }

    /// Takes the folder from whoever owns it: its agent is refused from then on. Answers whose it is now.
    ///
    /// # Errors
    /// What the disk says.
    pub fn take_ownership(&self) -> Result<FolderOwner> {
        let (site, repository) = (SiteName::parse(NO_SITE).expect("it is a site's name"), self.name.clone());
        let mut lineage = Lineage([0; 16]);
        lineage.0.copy_from_slice(&random_id().0[..16]);
        let nobody = Owner { site, repository, lineage, formerly: Vec::new(), adopted: None };
        let before = match self.owner() {
            // Nobody can be told from whom: the new lineage is followed by nobody, so all are shut out.
            Err(error) if damage_of(&error).is_some() => {
                tracing::warn!(%error, "whose the folder was cannot be read");
                None
            }
            before => before?,
        };
        self.mend_position()?;
        let (epoch, shut_out) = before.map_or((0, Vec::new()), |before| (before.epoch, before.shut_out_for(&nobody)));
        let Owner { site, repository, lineage, .. } = nobody;
        let owner = OwnerFile { site, repository, lineage, epoch: epoch.saturating_add(1), shut_out };
        self.write_owner(&owner)?;
        Ok(owner.named())
    }

    /// That nobody has taken the folder since it was opened, where the lock does not keep others out.
    pub(super) fn still_owned(&self) -> Result<()> {
        let Some(owner) = self.owned.get() else { return Ok(()) };
        match self.owner()? {
            Some(found) if found.named() == owner.1 => Ok(()),
            Some(found) => Err(self.owned_by(&owner.0, found)),
            None => Err(self.io.damage(&self.root.join(OWNER), "it is missing")),
        }
    }

    fn owned_by(&self, owner: &Owner, found: OwnerFile) -> Error {
        Error::Owner {
            path: self.root.clone(),
            name: owner.repository.clone(),
            lineage: owner.lineage,
            found: Box::new(found),
        }
    }

    fn write_owner(&self, owner: &OwnerFile) -> Result<()> {
        let json = serde_json::to_vec_pretty(owner).expect("an owner has only texts and a number");
        self.io.place_durable(&self.root.join(OWNER), &json)
    }

    /// Who owns the folder; nobody when it was made without a site and none has opened it.
    ///
    /// # Errors
    /// [`Error::Damage`].
    pub fn owner(&self) -> Result<Option<OwnerFile>> {
        let path = self.root.join(OWNER);
        let Some(bytes) = self.io.read(&path)? else { return Ok(None) };
        if bytes.len() > MAX_OWNER {
            return Err(self.io.damage(&path, format!("it has {} bytes", bytes.len())));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.io.damage(&path, error))
    }

    fn settle_owner(&self, owner: &Owner) -> Result<()> {
        let found = self.owner()?;
        let (epoch, shut_out) = match standing(found, owner) {
            Standing::Same => return self.owns(owner),
            Standing::Nobody => (0, Vec::new()),
            Standing::Before(found) => {
                tracing::warn!(path = %self.root.display(), now = %owner.lineage, "the owner's log was put back: its folder is taken over under the new lineage");
                (found.epoch, found.shut_out)
            }
            Standing::Adopted(found) => {
                tracing::warn!(path = %self.root.display(), now = %owner.lineage, from = %found.lineage, "an operator took the folder over");
                (found.epoch, found.shut_out_for(owner))
            }
            Standing::Other(found) => return Err(self.owned_by(owner, found)),
        };
        // The positions of prunes count in the log that owns the folder.
        self.set_trash_apart()?;
        self.io.remove_file(&self.root.join("position"))?;
        self.io.remove_file(&self.root.join("going"))?;
        self.index_mut().going = None;
        let (site, repository, lineage) = (owner.site.clone(), owner.repository.clone(), owner.lineage);
        self.write_owner(&OwnerFile { site, repository, lineage, epoch: epoch.saturating_add(1), shut_out })?;
        self.owns(owner)
    }

    /// Remembers under which epoch it was opened.
    fn owns(&self, owner: &Owner) -> Result<()> {
        let epoch = self.owner()?.map_or(0, |found| found.epoch);
        let named = FolderOwner { lineage: owner.lineage, epoch };
        let _set_once = self.owned.set((owner.clone(), named));
        Ok(())
    }
}
