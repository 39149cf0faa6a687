//! Which folder a host or a repository may have. Two hosts over one folder would each list, start and delete the other's VMs; a
//! host over a repository, or over the site's own data, would take it for VMs; and so it is when one folder lies within the
//! other. The deciders see one thing each, so it is looked at here, where definitions come in and everything of the site is
//! known. Folders are compared as this machine sees them: links are followed where they lead to something.

use farshore_core::{host, mover, repository};
use farshore_kernel::entity::Memory;
use farshore_schemas::codec;
use farshore_schemas::ids::{EntityId, Kind, Name};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::host::Driver;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Why a host or repository cannot have its folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Another host or repository has it, or one within it, or one around it.
    #[error("{what} cannot have the folder {}: {other} of the same machine has {}, and neither may lie within the other", folder.display(), its.display())]
    ByOther {
        /// Who wants it.
        what: EntityId,
        /// The folder.
        folder: PathBuf,
        /// Who is there.
        other: EntityId,
        /// Its folder.
        its: PathBuf,
    },
    /// The site keeps its own data there, or within it.
    #[error("{what} cannot have the folder {}: the site keeps its own data in {}, and neither may lie within the other", folder.display(), data.display())]
    BySite {
        /// Who wants it.
        what: EntityId,
        /// The folder.
        folder: PathBuf,
        /// The site's data folder.
        data: PathBuf,
    },
    /// Nobody can say where it is: it depends on where a process was started.
    #[error("{what} cannot have the folder {}: the path does not begin with /", folder.display())]
    Relative {
        /// Who wants it.
        what: EntityId,
        /// As it was written.
        folder: PathBuf,
    },
}

impl Taken {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match (self.what().kind == Kind::Repository, self) {
            (false, Taken::ByOther { .. }) => "FS-HOST-FOLDER-TAKEN",
            (false, Taken::BySite { .. }) => "FS-HOST-FOLDER-OURS",
            (false, Taken::Relative { .. }) => "FS-HOST-FOLDER-RELATIVE",
            (true, Taken::ByOther { .. }) => "FS-REPOSITORY-FOLDER-TAKEN",
            (true, Taken::BySite { .. }) => "FS-REPOSITORY-FOLDER-OURS",
            (true, Taken::Relative { .. }) => "FS-REPOSITORY-FOLDER-RELATIVE",
        }
    }

    /// What to do.
    pub fn advice(&self) -> &'static str {
        match self {
            Taken::ByOther { .. } => "give it a folder of its own, or delete the other first; nothing was applied",
            Taken::BySite { .. } if self.what().kind == Kind::Repository => {
                "give it a folder outside and beside the data folder, or `repository` in it; nothing was applied"
            }
            Taken::BySite { .. } => {
                "give it a folder outside and beside the data folder, or one below `hosts` in it; nothing was applied"
            }
            Taken::Relative { .. } => "write the whole path; nothing was applied",
        }
    }

    fn what(&self) -> &EntityId {
        match self {
            Taken::ByOther { what, .. } | Taken::BySite { what, .. } | Taken::Relative { what, .. } => what,
        }
    }
}

/// Who has which folders.
#[derive(Debug, Clone, Default)]
pub struct Held {
    folders: BTreeMap<EntityId, (Name, PathBuf)>,
    /// The machine of each mover whose agent was seen, as it advertises it.
    machines: BTreeMap<Name, String>,
}

impl Held {
    /// By the hosts and repositories that a site has, with its movers.
    pub fn of(memories: &[Memory]) -> Held {
        let mut held = Held::default();
        for memory in memories {
            let id = &memory.actor;
            match id.kind {
                Kind::Host => {
                    if let Ok(host::State::Defined(host)) = codec::decode_checked(&memory.state) {
                        let Driver::Folder { path } = &host.spec.driver;
                        held.take(id, &host.spec.mover, real(Path::new(path)));
                    }
                }
                Kind::Repository => {
                    if let Ok(repository::State::Defined(repository)) = codec::decode_checked(&memory.state) {
                        held.take(id, &repository.spec.mover, real(Path::new(&repository.spec.path)));
                    }
                }
                Kind::Mover => {
                    if let Ok(mover::State::Defined(mover)) = codec::decode_checked(&memory.state)
                        && let Some(agent) = &mover.agent
                        && let Some((machine, _port)) = agent.endpoint.address.rsplit_once(':')
                    {
                        held.machines.insert(id.name.clone(), machine.to_owned());
                    }
                }
                Kind::Site
                | Kind::Broker
                | Kind::Job
                | Kind::Session
                | Kind::Replica
                | Kind::Plan
                | Kind::Agent
                | Kind::Api => {}
            }
        }
        held
    }

    fn take(&mut self, id: &EntityId, mover: &Name, folder: PathBuf) {
        self.folders.insert(id.clone(), (mover.clone(), folder));
    }

    /// Whether two movers' paths are of one machine. Of movers that advertise different addresses, or are not known yet, they
    /// are taken to be of two.
    fn one_machine(&self, a: &Name, b: &Name) -> bool {
        a == b || self.machines.get(a).is_some_and(|machine| self.machines.get(b) == Some(machine))
    }
}

/// The mover and folder that a definition names.
fn wants(message: &Message) -> Option<(&Name, &Path)> {
    match message {
        Message::Host(farshore_schemas::messages::host::Command::Define(spec)) => {
            let Driver::Folder { path } = &spec.driver;
            Some((&spec.mover, Path::new(path)))
        }
        Message::Repository(farshore_schemas::messages::repository::Command::Define(spec)) => {
            Some((&spec.mover, Path::new(&spec.path)))
        }
        Message::Host(_)
        | Message::Repository(_)
        | Message::Site(_)
        | Message::Mover(_)
        | Message::Broker(_)
        | Message::Job(_)
        | Message::Session(_)
        | Message::Replica(_)
        | Message::Plan(_)
        | Message::Agent(_)
        | Message::Refused(_) => None,
    }
}

/// Whether a message is about a folder at all.
pub(crate) fn concerns(message: &Message) -> bool {
    wants(message).is_some()
}

/// Looks at every definition of a host or repository, in order: each is as if it was applied when the next is looked at.
///
/// # Errors
/// The first that cannot be.
pub fn check<'a>(
    wanted: impl IntoIterator<Item = (&'a EntityId, &'a Message)>,
    mut held: Held,
    data: &Path,
) -> Result<(), Taken> {
    let data = real(data);
    for (id, message) in wanted {
        let Some((mover, path)) = wants(message) else { continue };
        let what = id.clone();
        if !path.is_absolute() {
            return Err(Taken::Relative { what, folder: path.to_owned() });
        }
        let folder = real(path);
        if nested(&folder, &data) && !left_to(id.kind, &folder, &data) {
            return Err(Taken::BySite { what, folder, data });
        }
        held.folders.remove(id);
        let in_the_way =
            held.folders.iter().find(|(_, (its, has))| held.one_machine(its, mover) && nested(has, &folder));
        if let Some((other, (_, its))) = in_the_way {
            return Err(Taken::ByOther { what, folder, other: other.clone(), its: its.clone() });
        }
        held.take(id, mover, folder);
    }
    Ok(())
}

/// Whether one of them is the other, or lies within it.
fn nested(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// What the site leaves to hosts and repositories in its data folder.
fn left_to(kind: Kind, folder: &Path, data: &Path) -> bool {
    if kind == Kind::Repository {
        return folder.starts_with(data.join("repository"));
    }
    let hosts = data.join("hosts");
    folder.starts_with(&hosts) && folder != hosts
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
