//! What the engine, the task runners and the data channel's listener of one agent share: what is served, the highest
//! epochs, who may come in, and which stores are open. Nothing here is remembered over a restart; the task table is.

use crate::metrics::Metrics;
use crate::stop::{Stop, Told};
use crate::task::{TaskError, TaskResult, failure, image_failure};
use crate::tls::Secrets;
use farshore_bus::Bus;
use farshore_hosts::{FolderHost, OWN_PREFIX};
use farshore_repository::ReplicaStore;
use farshore_repository::{Monotonic, Owner, Repository, Unlock};
use farshore_schemas::ids::{Digest, Name, SiteName, TaskId, VmName, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::agent::{Failure, Order, Outcome};
use farshore_schemas::messages::host::Driver;
use farshore_tasks::RepositoryPlace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A receiving task that waits for its sender, has one, or is done.
pub(crate) struct Receiving {
    pub(crate) order: Order,
    pub(crate) peer: Digest,
    pub(crate) stop: Arc<Stop>,
    pub(crate) phase: Phase,
}

/// Where a receiving task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No sender since then.
    Waiting(Instant),
    /// One connection at a time.
    Busy,
    /// It has ended well; a sender that missed the answer may come and ask.
    Done { at: Instant, checksum: Digest, written: u64 },
}

/// Tells when the end of a task is durable.
pub(crate) struct Kept(pub(crate) Receiver<()>);

impl Kept {
    /// Waits until it is, or until the agent closes; whether it is. A task whose end is not kept has not ended.
    pub(crate) fn wait(&self, stop: &Stop) -> bool {
        loop {
            match self.0.recv_timeout(Duration::from_millis(100)) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                // The engine joins whoever waits here, so it cannot be waited for once it closes.
                Err(RecvTimeoutError::Timeout) if stop.told() == Some(Told::Closing) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Work that was begun under a repository's former lineage holds its folder until it is cancelled or done, which is soon.
const LEAVING: Duration = Duration::from_secs(15);
/// How often it is looked whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A repository that this agent was told to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedRepository(pub(crate) RepositoryPlace);

impl ServedRepository {
    /// Opens the folder. One that bears an earlier lineage of its owner is taken over: it is the same owner, whose log was
    /// put back; so is one that an operator took from somebody else. Points that the log does not know stay: every manifest in
    /// the folder is a hold.
    fn open(&self, site: &SiteName, name: &Name) -> farshore_repository::Result<Repository> {
        let RepositoryPlace { path, passphrase_file, lineage, formerly, adopted } = self.0.clone();
        let unlock =
            passphrase_file.map_or_else(|| Ok(Unlock::default()), |file| Unlock::from_file(Path::new(&file)))?;
        let owner = Owner { site: site.clone(), repository: name.clone(), lineage, formerly, adopted };
        Repository::open_for_owner(Path::new(&path), &owner, &unlock)
    }
}

/// What changes.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) hosts: BTreeMap<Name, Driver>,
    pub(crate) repositories: BTreeMap<Name, ServedRepository>,
    pub(crate) epochs: BTreeMap<VmRef, Epoch>,
    /// Open accesses: the repository and who may come.
    pub(crate) accesses: BTreeMap<TaskId, (Name, Vec<Digest>)>,
    pub(crate) receiving: BTreeMap<TaskId, Receiving>,
    pub(crate) power: BTreeMap<(Name, VmName), Arc<Mutex<()>>>,
}

pub(crate) struct Shared {
    pub(crate) site: SiteName,
    pub(crate) guest_program: PathBuf,
    pub(crate) secrets: Secrets,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) bus: Arc<dyn Bus>,
    /// Tells the engine that a task has ended; whoever must know that this is kept waits for it.
    pub(crate) ended: Box<dyn Fn(TaskId, Vec<Outcome>) -> Kept + Send + Sync>,
    pub(crate) tables: Mutex<Tables>,
    pub(crate) open_repositories: Mutex<BTreeMap<Name, Arc<Repository>>>,
    pub(crate) open_replicas: Mutex<BTreeMap<PathBuf, Arc<ReplicaStore>>>,
    /// When this process began: the zero of its monotonic time.
    pub(crate) began: Instant,
}

impl Shared {
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Monotonic time since this process began: it goes on whatever the machine's clock does, and not while the machine sleeps.
    pub(crate) fn uptime(&self) -> Monotonic {
        self.began.elapsed()
    }

    /// Counts how long trash has lain in the repositories that are served here, and keeps it.
    pub(crate) fn count_trash(&self) {
        let names: Vec<Name> = self.tables().repositories.keys().cloned().collect();
        for name in names {
            let counted = match self.repository(&name) {
                Ok(repository) => repository.count_trash(self.uptime()).map_err(TaskError::from),
                Err(error) => Err(error),
            };
            if let Err(error) = counted {
                // What is not counted only lies there longer.
                tracing::debug!(repository = %name, ?error, "the time that its trash has lain there was not counted");
            }
        }
    }

    /// What must stay in the repositories that are served here bears the file system's attribute, where it has one.
    pub(crate) fn keep_immutable(&self) {
        let names: Vec<Name> = self.tables().repositories.keys().cloned().collect();
        for name in names {
            let kept =
                self.repository(&name).and_then(|repository| repository.keep_immutable().map_err(TaskError::from));
            if let Err(error) = kept {
                tracing::warn!(repository = %name, ?error, "what must stay there is kept by this agent alone for now");
            }
        }
    }

    /// A host that is served here.
    pub(crate) fn host(&self, host: &Name) -> TaskResult<FolderHost> {
        let Some(Driver::Folder { path }) = self.tables().hosts.get(host).cloned() else {
            return Err(TaskError::Failed(failure(
                "FS-AGENT-NOT-WELCOME",
                format!("host {host} is not served by this agent"),
                "order it again after the host's control has sent ServeHost",
                true,
            )));
        };
        Ok(FolderHost::open(Path::new(&path))?)
    }

    /// A repository that is served here, opened on first use and then held.
    pub(crate) fn repository(&self, name: &Name) -> TaskResult<Arc<Repository>> {
        let began = Instant::now();
        loop {
            match self.open_repository(name) {
                Err(TaskError::Failed(failure)) if failure.code == "FS-REPO-LOCKED" && began.elapsed() < LEAVING => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                other => return other,
            }
        }
    }

    fn open_repository(&self, name: &Name) -> TaskResult<Arc<Repository>> {
        let Some(served) = self.tables().repositories.get(name).cloned() else {
            return Err(TaskError::Failed(failure(
                "FS-AGENT-NO-REPOSITORY",
                format!("repository {name} is not served by this agent"),
                "order it again after the repository's control has sent ServeRepository",
                true,
            )));
        };
        let mut open = self.open_repositories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repository) = open.get(name) {
            return Ok(repository.clone());
        }
        let repository = Arc::new(served.open(&self.site, name)?);
        open.insert(name.clone(), repository.clone());
        Ok(repository)
    }

    /// A repository's folder or owner changed: it is opened anew on its next use.
    pub(crate) fn forget_repository(&self, name: &Name) {
        self.open_repositories.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Where a replica's store lies: in the host's folder, so that working disks can be reflinks, under a name that no
    /// listing takes for a VM.
    pub(crate) fn replica_path(host: &FolderHost, replica: &Name) -> PathBuf {
        host.path().join(format!("{OWN_PREFIX}replicas")).join(replica.as_str())
    }

    /// A replica's store, opened on first use and then held.
    pub(crate) fn replica(&self, host: &Name, replica: &Name) -> TaskResult<Arc<ReplicaStore>> {
        let path = Shared::replica_path(&self.host(host)?, replica);
        let mut open = self.open_replicas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&path) {
            return Ok(store.clone());
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| image_failure("making", &parent.display().to_string(), &error))?;
        }
        let store = Arc::new(ReplicaStore::open(&path)?);
        open.insert(path, store.clone());
        Ok(store)
    }

    /// Whoever changes the power of a VM, or makes or drops it, does so alone.
    pub(crate) fn power_lock(&self, host: &Name, vm: &VmName) -> Arc<Mutex<()>> {
        self.tables().power.entry((host.clone(), vm.clone())).or_default().clone()
    }

    /// Checks the order's epoch against the highest seen, at the last moment before an effect.
    pub(crate) fn check_fence(&self, order: &Order) -> Result<(), Failure> {
        let Some((origin, epoch)) = &order.fence else { return Ok(()) };
        let tables = self.tables();
        let Some(highest) = tables.epochs.get(origin) else { return Ok(()) };
        if epoch.counter < highest.counter || (epoch.counter == highest.counter && epoch.site != highest.site) {
            return Err(failure(
                "FS-AGENT-STALE-EPOCH",
                format!(
                    "{origin}: the order acts under epoch {} of {}, but epoch {} of {} is known here",
                    epoch.counter, epoch.site, highest.counter, highest.site
                ),
                "the right to run this VM has passed on: ask the replica that protects it who holds it",
                false,
            ));
        }
        Ok(())
    }

    /// Whether any open order names this certificate. Nothing of a peer that none names is read.
    pub(crate) fn expects(&self, peer: &Digest) -> bool {
        let tables = self.tables();
        tables.receiving.values().any(|receiving| receiving.peer == *peer)
            || tables.accesses.values().any(|(_, peers)| peers.contains(peer))
    }
}
