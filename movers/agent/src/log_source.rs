//! The control's end of the channel over which a repository's agent fetches the site's log: bulk never goes over the bus (P7).
//! It is a data channel like those between agents: who connects proves a certificate, and nothing of a peer is read that no
//! open order names. The log itself is the caller's: this end knows frames as bytes.

use crate::error::AgentError;
use crate::link::{Link, LinkError};
use crate::metrics::Metrics;
use crate::proto::{Hello, LogAnswer, LogAsk, VERSION, Wants};
use crate::stop::{Stop, Told};
use crate::task::failure;
use crate::tls::Secrets;
use farshore_schemas::ids::{Digest, Lineage, Name, Seq, SiteName, TaskId};
use farshore_schemas::messages::agent::{Endpoint, Failure};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at once; each repository has one under way at most.
const MOST: usize = 32;
/// Bytes of frames in one message, but for one frame that is begun.
const BATCH: usize = 1024 * 1024;

/// What a log is, for whoever keeps a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFacts {
    /// Public halves of the keys with which the site signs its baselines.
    pub keys: Vec<Digest>,
    /// Each lineage with its first frame, the oldest first.
    pub lineages: Vec<(Lineage, Seq)>,
    /// The last frame that is durable: none after it is ever given.
    pub last: Seq,
}

/// Gives the next whole frames, one behind the other, at most about so many bytes; nothing at the end.
pub type NextFrames = Box<dyn FnMut(usize) -> Result<Vec<u8>, Failure>>;

/// The log of a site that runs, as it is served. Called on threads that may block.
pub trait ServedLog: Send + Sync {
    /// Whether any open order names a peer with this certificate.
    fn expects(&self, peer: &Digest) -> bool;

    /// Whether this task was ordered of the agent with this certificate, and is open.
    fn may(&self, task: &TaskId, peer: &Digest) -> bool;

    /// What is durable now.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn facts(&self) -> Result<LogFacts, Failure>;

    /// The frames from `from` to `last`.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn frames(&self, from: Seq, last: Seq) -> Result<NextFrames, Failure>;
}

/// Where and as whom it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSourceConfig<'a> {
    /// The site.
    pub site: SiteName,
    /// The folder of its secrets: the certificate is in `log-source.pem`, made with the first start.
    pub secrets: &'a Path,
    /// Where it listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// `host:port` under which agents reach it; port 0 stands for the one that it listens on.
    pub advertise: String,
}

/// The log of a site, served. Dropping it ends every connection.
pub struct LogSource {
    endpoint: Endpoint,
    address: SocketAddr,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

struct Door {
    config: Arc<ServerConfig>,
    log: Arc<dyn ServedLog>,
    site: SiteName,
    metrics: Arc<Metrics>,
    stop: Arc<Stop>,
    inside: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl LogSource {
    /// Begins to serve a log.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn start(config: &LogSourceConfig<'_>, log: Arc<dyn ServedLog>) -> Result<LogSource, AgentError> {
        let secrets = Secrets::open_as(config.secrets, "log-source")?;
        let failed = |source: std::io::Error| AgentError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let endpoint = Endpoint {
            site: config.site.clone(),
            agent: Name::parse("control").expect("it is a name"),
            address: crate::agent::advertised(&config.advertise, address),
            fingerprint: secrets.fingerprint(),
        };
        let stop = Arc::new(Stop::default());
        let door = Arc::new(Door {
            config: secrets.server()?,
            log,
            site: config.site.clone(),
            metrics: Arc::default(),
            stop: stop.clone(),
            inside: AtomicUsize::new(0),
            threads: Mutex::default(),
        });
        let listening = std::thread::Builder::new().name("log-listen".into()).spawn(move || listen(&door, &listener));
        let thread = Some(listening.map_err(failed)?);
        Ok(LogSource { endpoint, address, stop, thread })
    }

    /// What orders name it by.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for LogSource {
    fn drop(&mut self) {
        self.stop.tell(Told::Closing);
        // The thread waits in accept: this wakes it. If it cannot be reached it has ended already.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(door: &Arc<Door>, listener: &TcpListener) {
    while door.stop.told().is_none() {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a channel for the log could not be accepted");
                door.stop.wait(Duration::from_millis(100));
                continue;
            }
        };
        let mut threads = door.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        if door.inside.fetch_add(1, Ordering::SeqCst) >= MOST {
            door.inside.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let inside = door.clone();
        let spawned = std::thread::Builder::new().name("log-serve".into()).spawn(move || {
            let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(&inside, socket)));
            inside.inside.fetch_sub(1, Ordering::SeqCst);
            match served {
                Ok(Ok(()) | Err(LinkError::Closed | LinkError::Idle)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a channel for the log was closed"),
                Err(_) => tracing::error!("serving the log panicked; the channel was closed"),
            }
        });
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(_) => drop(door.inside.fetch_sub(1, Ordering::SeqCst)),
        }
    }
    for thread in std::mem::take(&mut *door.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
        let _ = thread.join();
    }
}

fn serve(door: &Door, socket: TcpStream) -> Result<(), LinkError> {
    let mut link = Link::accept(door.config.clone(), socket, &door.metrics, &door.stop)?;
    let peer = link.peer();
    if !door.log.expects(&peer) {
        tracing::info!(%peer, "a channel for the log was closed: no open order names its peer");
        return Ok(());
    }
    let hello: Hello = link.receive()?;
    link.greeted()?;
    if hello.version != VERSION {
        let message = format!("the other end speaks version {} of the data channel, this one {VERSION}", hello.version);
        let failed = failure("FS-AGENT-VERSION", message, "bring control and agent to the same version", false);
        return link.send(&LogAnswer::Failed(failed));
    }
    let may = match &hello.wants {
        Wants::Log { task } => door.log.may(task, &peer),
        Wants::Repository { .. } | Wants::Receiver { .. } => false,
    };
    if !may {
        let message = "no order for this is open";
        return link.send(&LogAnswer::Failed(failure("FS-AGENT-NOT-OPEN", message, "wait until there is one", true)));
    }
    let Err(stopped) = give(door, &mut link);
    match stopped {
        Stopped::Failed(failure) => link.send(&LogAnswer::Failed(failure)),
        Stopped::Link(error) => Err(error),
    }
}

enum Stopped {
    Failed(Failure),
    Link(LinkError),
}

impl From<LinkError> for Stopped {
    fn from(error: LinkError) -> Self {
        Stopped::Link(error)
    }
}

/// Says what the log is, and sends the frames that are asked for, until the other end has all that it wants.
fn give(door: &Door, link: &mut Link) -> Result<Infallible, Stopped> {
    let facts = door.log.facts().map_err(Stopped::Failed)?;
    let LogFacts { keys, lineages, last } = facts;
    link.send(&LogAnswer::Log { site: door.site.clone(), keys, lineages, last })?;
    loop {
        let LogAsk::Frames { first, last: wanted } = link.receive()?;
        let wanted = wanted.min(last);
        if first <= wanted {
            let mut next = door.log.frames(first, wanted).map_err(Stopped::Failed)?;
            loop {
                let bytes = next(BATCH).map_err(Stopped::Failed)?;
                if bytes.is_empty() {
                    break;
                }
                link.send(&LogAnswer::Frames { bytes })?;
            }
        }
        link.send(&LogAnswer::Frames { bytes: Vec::new() })?;
    }
}
