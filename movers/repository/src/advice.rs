//! The stable code of each error, what to do about it, and whether the same may succeed later.

use crate::error::{Error, Store};
use farshore_schemas::messages::agent::Failure;

impl Error {
    /// Of what is met before a store is open, and of the disks that it reads and writes.
    fn opening_parts(&self) -> (Store, &'static str, &'static str, bool) {
        let (code, advice) = if matches!(self, Error::Key { .. }) {
            ("KEY", "give the passphrase of one of its key slots; without one its content cannot be read by anybody")
        } else if matches!(self, Error::NotHere { .. }) {
            ("NOT-HERE", "look at the path, or make one with farshore repo init")
        } else if matches!(self, Error::Older { .. }) {
            ("OLD-FORMAT", "move the folder away: the repository is made anew, and full backups fill it")
        } else if matches!(self, Error::Passphrase { .. }) {
            (
                "PASSPHRASE",
                "put the passphrase into that file, on one line, readable by this user; one of several lines is given by FARSHORE_PASSPHRASE",
            )
        } else if matches!(self, Error::NoSlot { .. }) {
            ("NO-SLOT", "choose one that farshore repo key list shows")
        } else if matches!(self, Error::LastSlot { .. }) {
            ("LAST-SLOT", "add another slot with farshore repo key add, and give its passphrase here")
        } else if matches!(self, Error::NoKey { .. }) {
            ("NO-KEY", "a repository is encrypted when it is made, or never: make another with a passphrase")
        } else if matches!(self, Error::Already { .. }) {
            ("ALREADY", "use it as it is, or make the new one in an empty folder; farshore repo stats tells what it is")
        } else if matches!(self, Error::NotADisk { .. }) {
            ("NOT-A-DISK", "name an image file or a block device")
        } else if matches!(self, Error::Domain { .. }) {
            ("DOMAIN", "name a copy of its folder, or a repository that was made with --domain-from it")
        } else if matches!(self, Error::NotADevice { .. }) {
            ("NOT-A-DEVICE", "name a block device, or restore to a file with --to")
        } else if matches!(self, Error::SmallDevice { .. }) {
            ("SMALL-DEVICE", "name a device at least as large as the disk")
        } else {
            return (Store::Repository, "DISK", "look at the disk and its rights, then try again", true);
        };
        (Store::Repository, code, advice, false)
    }

    /// Of the copy of the site's log.
    fn log_parts(&self) -> (Store, &'static str, &'static str, bool) {
        let (code, advice, transient) = if matches!(self, Error::LogBehind { .. }) {
            let advice = "the log was put back from a copy: stop the site and start it with --renew-lineage, or recover the newer log \
                          with farshore site recover";
            ("LOG-BEHIND", advice, false)
        } else if matches!(self, Error::LogFork { .. }) {
            let advice =
                "two logs bear one lineage: find out which one is the site's, and start that with --renew-lineage";
            ("LOG-FORK", advice, false)
        } else if matches!(self, Error::LogArchived { .. }) {
            (
                "LOG-ARCHIVED",
                "put the archived segments back into the log's folder until this repository has the log",
                true,
            )
        } else if matches!(self, Error::LogFrame { .. }) {
            ("LOG-FRAME", "bring control and agent to the same version; verify the site's log", true)
        } else {
            ("LOG-INCOMPLETE", "choose another lineage, or another repository of this site", false)
        };
        (Store::Repository, code, advice, transient)
    }

    /// Of the steps of a prune.
    fn prune_parts(&self) -> (Store, &'static str, &'static str, bool) {
        let (code, advice, transient) = if matches!(self, Error::NoMark { .. }) {
            ("NO-MARK", "nothing was taken; the owner marks anew by itself", true)
        } else if matches!(self, Error::Held { .. }) {
            ("HELD", "wait: the owner asks again by itself; until then what was pruned can be read", true)
        } else if matches!(self, Error::Immutable { .. }) {
            ("IMMUTABLE", "wait for that date: until then nobody drops it, nor a pack that it names", false)
        } else {
            let advice = "the owner's log is older than the folder: recover the newest log, or adopt the folder";
            ("POSITION", advice, false)
        };
        (Store::Repository, code, advice, transient)
    }

    /// Of what is stored.
    fn record_parts(&self) -> (Store, &'static str, &'static str, bool) {
        let (code, advice, transient) = if matches!(self, Error::BadRecord { .. }) {
            ("BAD-CHUNK", "send it again; if it stays, check the memory of the source mover", true)
        } else if matches!(self, Error::NoChunk { .. }) {
            ("NO-CHUNK", "verify the point; the next backup stores the chunk again", false)
        } else {
            ("INCOMPLETE", "run the backup again: it sends what is missing", true)
        };
        (Store::Repository, code, advice, transient)
    }

    /// Of what is met while a replica's point is made.
    fn replica_parts(&self) -> (Store, &'static str, &'static str, bool) {
        let (code, advice, transient) = if matches!(self, Error::Unfinished { .. }) {
            ("UNFINISHED", "roll the unfinished point back first", true)
        } else if matches!(self, Error::Proof { .. }) {
            ("PROOF", "roll the point back and send it with a full compare", true)
        } else if matches!(self, Error::PointSealed { .. }) {
            ("POINT-SEALED", "seal it again for its answer, or begin another point", false)
        } else if matches!(self, Error::NotBegun { .. }) {
            ("NOT-BEGUN", "begin the point first", true)
        } else if matches!(self, Error::DiskBusy { .. }) {
            ("DISK-BUSY", "wait until the other transfer of this disk has ended", true)
        } else {
            ("BAD-BLOCK", "the sender has another size for this disk: begin the point again", false)
        };
        (Store::Replica, code, advice, transient)
    }

    fn parts(&self) -> (Store, &'static str, &'static str, bool) {
        use Store::Repository;
        match self {
            Error::Io { store, .. } => (*store, "IO", "look at the disk and the folder's rights, then try again", true),
            Error::Full { store, .. } => (
                *store,
                "FULL",
                "free space on that disk or lower retention; existing points are intact; then run it again",
                true,
            ),
            Error::Sync { store, .. } => (
                *store,
                "SYNC",
                "check the disk (kernel log, SMART), then restart the agent, which opens the store again",
                false,
            ),
            Error::Locked { store, .. } => (*store, "LOCKED", "stop the other agent that uses this folder", true),
            Error::Newer { store, .. } => {
                (*store, "NEWER", "use a farshore at least as new as the one that wrote it", false)
            }
            Error::Owner { .. } => {
                let advice = "use an empty folder; if that owner is gone for good, take this one over with farshore repo adopt NAME \
                              --from LINEAGE/EPOCH --reason WHY";
                (Repository, "OWNER", advice, false)
            }
            Error::Key { .. }
            | Error::NotHere { .. }
            | Error::Older { .. }
            | Error::Passphrase { .. }
            | Error::NoSlot { .. }
            | Error::LastSlot { .. }
            | Error::NoKey { .. }
            | Error::Already { .. }
            | Error::NotADisk { .. }
            | Error::Domain { .. }
            | Error::NotADevice { .. }
            | Error::SmallDevice { .. }
            | Error::Disk { .. } => self.opening_parts(),
            Error::Position { .. } | Error::NoMark { .. } | Error::Held { .. } | Error::Immutable { .. } => {
                self.prune_parts()
            }
            Error::Foreign { store, .. } => (*store, "FOREIGN", "use an empty folder", false),
            Error::BadRecord { .. } | Error::NoChunk { .. } | Error::Incomplete { .. } => self.record_parts(),
            Error::PointDiffers { store, .. } => (*store, "POINT-DIFFERS", "give the new point another name", false),
            Error::NoPoint { store, .. } => (*store, "NO-POINT", "choose a point that is listed", false),
            Error::NoDisk { .. } => (Repository, "NO-DISK", "choose a disk that the point lists", false),
            Error::Damage { store, .. } => (
                *store,
                "DAMAGE",
                "do not prune; verify every point, restore the file from a copy or make a new full",
                false,
            ),
            Error::LogBehind { .. }
            | Error::LogFork { .. }
            | Error::LogArchived { .. }
            | Error::LogFrame { .. }
            | Error::LogIncomplete { .. } => self.log_parts(),
            Error::Unfinished { .. }
            | Error::PointSealed { .. }
            | Error::NotBegun { .. }
            | Error::DiskBusy { .. }
            | Error::BadBlock { .. }
            | Error::Proof { .. } => self.replica_parts(),
        }
    }

    /// The stable code.
    pub fn code(&self) -> String {
        let (store, code, _, _) = self.parts();
        match store {
            Store::Repository => format!("FS-REPO-{code}"),
            Store::Replica => format!("FS-STORE-{code}"),
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.parts().2
    }

    /// Whether the same may succeed later without anyone mending anything but the world around it.
    pub fn transient(&self) -> bool {
        self.parts().3
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            code: error.code(),
            message: error.to_string(),
            advice: error.advice().to_owned(),
            transient: error.transient(),
        }
    }
}
