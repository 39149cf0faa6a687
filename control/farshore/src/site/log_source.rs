//! Serves the log of a site that runs to the agents that keep copies of it in repositories, and tells the repositories where.
//! Only durable frames are given, and only to an agent whose order to fetch them is open.

use crate::failure::Failure;
use crate::site::data::DataFolder;
use crate::site::recovered::Recovered;
use farshore_agent::{LogFacts, LogSource, LogSourceConfig, NextFrames, ServedLog};
use farshore_core::repository::{Defined, State};
use farshore_kernel::entity::Memory;
use farshore_log::{Frames, LogReader, ReadLog, listed_keys};
use farshore_runtime::handle::{Answer, ControlHandle};
use farshore_schemas::codec;
use farshore_schemas::ids::{Digest, EntityId, Kind, Lineage, Seq, SiteName, TaskId};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::agent::{self, Endpoint};
use farshore_schemas::messages::repository::{Command, Work};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// On whose behalf repositories are told.
const PRINCIPAL: &str = "farshore control";
/// How often it is looked for repositories that have not been told, when no frame shows one.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Serving {
    _source: LogSource,
    telling: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

/// Begins to serve. Repositories that are defined know of it when this returns, before any agent is served.
pub(crate) async fn start(
    handle: &ControlHandle,
    (folder, site): (&DataFolder, &SiteName),
    (listen, advertise): (SocketAddr, Option<&str>),
) -> Result<Serving, Failure> {
    let served = Served { control: handle.clone(), dir: folder.path.clone(), runtime: Handle::current() };
    let config = LogSourceConfig {
        site: site.clone(),
        secrets: &folder.path.join("secrets"),
        listen,
        advertise: advertise.map_or_else(|| format!("{}:0", listen.ip()), ToOwned::to_owned),
    };
    let source = LogSource::start(&config, Arc::new(served));
    let source =
        source.map_err(|error| Failure::coded(&error.to_string(), "give another address with --log-listen"))?;
    let said = Said { source: source.endpoint().clone(), owned: Recovered::of(folder)?.and_then(|from| from.owned) };
    said.to_all_or_warn(handle).await;
    let telling = tokio::spawn(tell(handle.clone(), said));
    Ok(Serving { _source: source, telling })
}

/// Tells every repository that does not know it where the log is served, now and whenever one comes to be.
async fn tell(control: ControlHandle, said: Said) {
    let mut frames = control.frames();
    loop {
        said.to_all_or_warn(&control).await;
        loop {
            match tokio::time::timeout(LOOK_EVERY, frames.recv()).await {
                Ok(Ok(notice)) if notice.actor.kind == Kind::Repository => break,
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(_))) | Err(_) => break,
                Ok(Err(RecvError::Closed)) => return,
            }
        }
    }
}

/// What repositories are told.
struct Said {
    source: Endpoint,
    /// The lineage that the folder bore from which the site was recovered.
    owned: Option<Lineage>,
}

impl Said {
    async fn to_all_or_warn(&self, control: &ControlHandle) {
        if let Err(why) = self.to_all(control).await {
            tracing::warn!(why, "the repositories were not told where the log is served");
        }
    }

    async fn to_all(&self, control: &ControlHandle) -> Result<(), String> {
        let lineage = control.status().await.map_err(|why| why.to_string())?.lineage;
        for memory in control.memories(Some(Kind::Repository)).await.map_err(|why| why.to_string())? {
            let Some(repository) = defined(&memory) else { continue };
            let log = &repository.log;
            // First: the agent needs it before it opens the folder.
            let owned = self.owned.filter(|owned| *owned != lineage && !log.lineages.contains(owned));
            let owned = owned.map(|lineage| Command::OwnedBefore { lineage });
            let knows = log.source.as_ref() == Some(&self.source) && log.lineages.last() == Some(&lineage);
            let served = (!knows).then(|| Command::LogServed { source: self.source.clone() });
            for command in owned.into_iter().chain(served) {
                let said = Message::Repository(command);
                let answer = control.command(&memory.actor, said, PRINCIPAL, None).await;
                if let Answer::Rejected { refusal, .. } = answer.map_err(|why| why.to_string())? {
                    tracing::warn!(repository = %memory.actor, code = refusal.code, "a repository does not take the log");
                }
            }
        }
        Ok(())
    }
}

fn defined(memory: &Memory) -> Option<Box<Defined>> {
    match codec::decode_checked(&memory.state) {
        Ok(State::Defined(repository)) => Some(repository),
        Ok(State::Undefined { .. }) | Err(_) => None,
    }
}

/// The certificate of a repository's agent, when it has an order for the log.
fn ordered(repository: &Defined) -> Option<(&Digest, Vec<&TaskId>)> {
    let agent = repository.link.agent.as_ref()?;
    let open = repository.orders.open.values().filter(|open| matches!(open.work, Work::KeepLog { .. }));
    let tasks: Vec<&TaskId> = open.map(|open| &open.order.task).collect();
    (!tasks.is_empty()).then_some((&agent.endpoint.fingerprint, tasks))
}

/// The log of a site that runs.
struct Served {
    control: ControlHandle,
    dir: PathBuf,
    runtime: Handle,
}

impl Served {
    fn any(&self, id: Option<&EntityId>, found: impl Fn(&Digest, &[&TaskId]) -> bool) -> bool {
        let memories = match id {
            Some(id) => self.runtime.block_on(self.control.memory(id)).map(|memory| memory.into_iter().collect()),
            None => self.runtime.block_on(self.control.memories(Some(Kind::Repository))),
        };
        let repositories = memories.unwrap_or_default().into_iter().filter_map(|memory: Memory| defined(&memory));
        repositories.into_iter().any(|known| ordered(&known).is_some_and(|(peer, tasks)| found(peer, &tasks)))
    }

    fn reader(&self) -> Result<LogReader, agent::Failure> {
        LogReader::open(&self.dir).map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &farshore_log::LogError) -> agent::Failure {
    let Failure { code, message, advice, .. } = Failure::log(error);
    agent::Failure { code, message, advice, transient: true }
}

impl ServedLog for Served {
    fn expects(&self, peer: &Digest) -> bool {
        self.any(None, |known, _| known == peer)
    }

    fn may(&self, task: &TaskId, peer: &Digest) -> bool {
        self.any(Some(&task.owner.entity), |known, tasks| known == peer && tasks.contains(&task))
    }

    fn facts(&self) -> Result<LogFacts, agent::Failure> {
        let gone = |why: farshore_runtime::handle::NoAnswer| agent::Failure {
            code: "FS-CONTROL-STOPPED".to_owned(),
            message: why.to_string(),
            advice: "start the site's control".to_owned(),
            transient: true,
        };
        // Asked first: what is durable now is in the files that are read then.
        let last = self.runtime.block_on(self.control.status()).map_err(gone)?.durable;
        let reader = self.reader()?;
        let mut lineages = reader.lineages().map_err(|error| unreadable(&error))?;
        lineages.retain(|(_, first)| *first <= last);
        let keys = listed_keys(&self.dir).map_err(|error| unreadable(&error))?;
        Ok(LogFacts { keys: keys.into_iter().map(|key| Digest(key.0)).collect(), lineages, last })
    }

    fn frames(&self, from: Seq, last: Seq) -> Result<NextFrames, agent::Failure> {
        let mut frames = self.reader()?.frames_from(from).map_err(|error| unreadable(&error))?;
        let mut done = false;
        Ok(Box::new(move |room| if done { Ok(Vec::new()) } else { batch(&mut frames, (last, room), &mut done) }))
    }
}

/// The next whole frames up to `last`, until there are `room` bytes of them.
fn batch(frames: &mut Frames, (last, room): (Seq, usize), done: &mut bool) -> Result<Vec<u8>, agent::Failure> {
    let mut bytes = Vec::new();
    while bytes.len() < room {
        match frames.next().map_err(|error| unreadable(&error))? {
            Some(frame) if frame.seq() <= last => {
                bytes.extend_from_slice(frame.bytes);
                *done = frame.seq() == last;
            }
            Some(_) | None => *done = true,
        }
        if *done {
            break;
        }
    }
    Ok(bytes)
}
