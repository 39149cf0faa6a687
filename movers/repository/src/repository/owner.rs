//! Whose a repository's folder is. The owner is a repository of a site's log under one lineage; only its own agent writes to
//! the folder. A lineage that the site had before its log was put back is followed by the new one. Each change of owner raises
//! the folder's epoch.

use super::home::{Create, HEADER, Unlock};
use super::{Repository, random_id};
use crate::io::Faults;
use crate::{Error, Result};
use farshore_schemas::ids::{Lineage, Name, SiteName};
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
}

/// The site of a folder that was taken from its site: no agent opens it.
const NO_SITE: &str = "offline";

impl OwnerFile {
    /// Whether the folder was taken from its site.
    pub fn offline(&self) -> bool {
        self.site.as_str() == NO_SITE
    }
}

/// What a folder's owner is to whoever opens it.
enum Standing {
    Same,
    /// None, or an earlier self.
    Before(u64),
    Other(OwnerFile),
}

fn standing(found: Option<OwnerFile>, owner: &Owner) -> Standing {
    let Some(found) = found else { return Standing::Before(0) };
    if (&found.site, &found.repository) != (&owner.site, &owner.repository) {
        return Standing::Other(found);
    }
    if found.lineage == owner.lineage {
        return Standing::Same;
    }
    if owner.formerly.contains(&found.lineage) { Standing::Before(found.epoch) } else { Standing::Other(found) }
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
            };
            drop(Repository::create(path, &make)?);
        }
        let repository = Self::open_to_write(path, unlock, faults)?;
        repository.settle_owner(owner)?;
        Ok(repository)
    }

    /// Takes the folder from whoever owns it: its agent is refused from then on.
    ///
    /// # Errors
    /// [`Error::Damage`], or what the disk says.
    pub fn take_ownership(&self) -> Result<()> {
        let epoch = self.owner()?.map_or(0, |owner| owner.epoch) + 1;
        let site = SiteName::parse(NO_SITE).expect("it is a site's name");
        let mut lineage = Lineage([0; 16]);
        lineage.0.copy_from_slice(&random_id().0[..16]);
        self.write_owner(&OwnerFile { site, repository: self.name.clone(), lineage, epoch })
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
        let epoch = match standing(self.owner()?, owner) {
            Standing::Same => return Ok(()),
            Standing::Before(epoch) => epoch + 1,
            Standing::Other(found) => {
                return Err(Error::Owner {
                    path: self.root.clone(),
                    name: owner.repository.clone(),
                    lineage: owner.lineage,
                    found_name: found.repository,
                    found: found.lineage,
                });
            }
        };
        if epoch > 1 {
            tracing::warn!(path = %self.root.display(), now = %owner.lineage, "the owner's log was put back: its folder is taken over under the new lineage");
        }
        // The positions of prunes count in the log that owns the folder.
        self.set_trash_apart()?;
        self.io.remove_file(&self.root.join("position"))?;
        self.io.remove_file(&self.root.join("going"))?;
        self.index_mut().going = None;
        let (site, repository, lineage) = (owner.site.clone(), owner.repository.clone(), owner.lineage);
        self.write_owner(&OwnerFile { site, repository, lineage, epoch })
    }
}
