//! Which folder a host may have. Two hosts over one folder would each list, start and delete the other's VMs, and a host
//! over the site's own data would take its log for a VM. The deciders see one host each, so it is looked at here, where an
//! operator's definitions come in and every host of the site is known.

use farshore_core::host::State;
use farshore_kernel::entity::Memory;
use farshore_schemas::codec;
use farshore_schemas::ids::{EntityId, Name};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::host::{Command, Driver};
use std::path::{Component, Path, PathBuf};

/// Why a host cannot have its folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Taken {
    /// Another host has it.
    #[error("host {host} cannot have the folder {}: host {other} of the same mover has it", folder.display())]
    ByHost {
        /// Who wants it.
        host: Name,
        /// The folder.
        folder: PathBuf,
        /// Who has it.
        other: Name,
    },
    /// The site keeps its own data there.
    #[error("host {host} cannot have the folder {}: the site keeps its own data there ({})", folder.display(), data.display())]
    BySite {
        /// Who wants it.
        host: Name,
        /// The folder.
        folder: PathBuf,
        /// The site's data folder.
        data: PathBuf,
    },
}

impl Taken {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Taken::ByHost { .. } => "FS-HOST-FOLDER-TAKEN",
            Taken::BySite { .. } => "FS-HOST-FOLDER-OURS",
        }
    }

    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Taken::ByHost { .. } => "give it a folder of its own, or remove the other host first; nothing was applied",
            Taken::BySite { .. } => {
                "give it a folder outside, or one below `hosts` in the data folder; nothing was applied"
            }
        }
    }
}

/// A host with its mover (paths of different movers are of different machines, as far as anybody here knows) and folder.
type Held = (Name, Name, PathBuf);

/// The hosts that a site has.
pub(crate) fn held(memories: &[Memory]) -> Vec<Held> {
    let of = |memory: &Memory| match codec::decode_checked::<State>(&memory.state) {
        Ok(State::Defined(host)) => {
            let Driver::Folder { path } = &host.spec.driver;
            Some((memory.actor.name.clone(), host.spec.mover.clone(), real(Path::new(path))))
        }
        Ok(State::Undefined { .. }) | Err(_) => None,
    };
    memories.iter().filter_map(of).collect()
}

/// Looks at every definition of a host, in order: each is as if it was applied when the next is looked at.
///
/// # Errors
/// The first that cannot be.
pub(crate) fn check<'a>(
    wanted: impl IntoIterator<Item = (&'a EntityId, &'a Message)>,
    mut held: Vec<Held>,
    data: &Path,
) -> Result<(), Taken> {
    let data = real(data);
    for (id, message) in wanted {
        let Message::Host(Command::Define(spec)) = message else { continue };
        let Driver::Folder { path } = &spec.driver;
        let (host, folder) = (id.name.clone(), real(Path::new(path)));
        let hosts = data.join("hosts");
        let for_hosts = folder.starts_with(&hosts) && folder != hosts;
        if folder.starts_with(&data) && !for_hosts {
            return Err(Taken::BySite { host, folder, data });
        }
        held.retain(|(name, ..)| *name != host);
        if let Some((other, ..)) = held.iter().find(|(_, mover, has)| *mover == spec.mover && *has == folder) {
            return Err(Taken::ByHost { host, folder, other: other.clone() });
        }
        held.push((host, spec.mover.clone(), folder));
    }
    Ok(())
}

/// The folder itself, whatever way it was written: links followed as far as it is there, `.` and `..` taken out of the rest.
fn real(path: &Path) -> PathBuf {
    let mut known = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                known.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => known.push(part),
        }
        if let Ok(real) = std::fs::canonicalize(&known) {
            known = real;
        }
    }
    known
}

#[cfg(test)]
#[path = "folders_tests.rs"]
mod tests;
