//! Restore points as files: a folder for each point and in it a raw image for each disk, read only. Nothing is restored
//! before it is read. What is damaged or missing is an input/output error for whoever reads it, never other bytes.

mod cache;
mod files;
mod tree;

use cache::Cache;
use farshore_format::repository::PointManifest;
use farshore_repository::Repository;
use files::Files;
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use std::io::Result;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tree::Tree;

/// Regions of 4 MiB that are kept for being read again.
const REGIONS: usize = 16;

/// How a repository is mounted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that answer.
    pub threads: NonZeroUsize,
    /// Whether every user of the machine may read it; without, the user who mounted it alone.
    pub everybody: bool,
}

/// What readers were refused because it could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// How often.
    pub reads: u64,
    /// Which file of which point, and why, the first time.
    pub first: Option<String>,
}

/// What is counted while it is mounted.
pub(crate) type Refusals = Arc<Mutex<Refused>>;

/// A repository that is mounted; dropped, it is unmounted.
#[derive(Debug)]
pub struct Mounted {
    session: BackgroundSession,
    refused: Refusals,
}

/// Mounts points of a repository on a folder, and answers until it is unmounted. Points that are made later are not seen.
///
/// # Errors
/// What the system says: that the folder is missing, that something is mounted there, or that FUSE is not to be had.
pub fn mount(repository: &Arc<Repository>, points: &[PointManifest], at: &Path, options: Options) -> Result<Mounted> {
    let refused = Refusals::default();
    let files = Files::new(repository.clone(), Tree::new(points), (Cache::new(REGIONS), refused.clone()));
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
        MountOption::DefaultPermissions,
        MountOption::FSName(format!("farshore:{}", repository.name())),
        MountOption::Subtype("farshore".to_owned()),
    ];
    config.acl = if options.everybody { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.get());
    let session = fuser::spawn_mount(files, at, &config)?;
    Ok(Mounted { session, refused })
}

impl Mounted {
    /// Whether somebody has unmounted it.
    pub fn ended(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts it, unless somebody has, and answers what was refused.
    ///
    /// # Errors
    /// What the system says: above all that files in it are open.
    pub fn unmount(self) -> Result<Refused> {
        let ended = if self.ended() { self.session.join() } else { self.session.umount_and_join() };
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ended.map(|()| refused)
    }
}
