//! The agent as a whole: opens what it owns, joins the bus, starts its threads, and ends them.

use crate::config::AgentConfig;
use crate::engine::{Engine, Input, mint, now};
use crate::error::AgentError;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::received;
use crate::record_log::{Opened, RecordLog};
use crate::shared::{Kept, Receiving, Shared, Tables};
use crate::tls::Secrets;
use farshore_bus::{Bus, Subscription};
use farshore_schemas::envelope::Sender;
use farshore_schemas::ids::{Address, Digest, Kind, TaskId};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::subjects;
use farshore_tasks::{About, Action, Identity, TaskTable};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Messages from the bus that wait for the engine at most; more are dropped, and their channels say them again.
const INBOX: usize = 4096;
/// Threads for tasks that are done soon.
const QUICK: usize = 8;

/// A running agent. Dropping it without [`Agent::stop`] tells it to stop and does not wait.
#[derive(Debug)]
pub struct Agent {
    endpoint: Endpoint,
    listening: SocketAddr,
    metrics: Arc<Metrics>,
    inputs: mpsc::Sender<Input>,
    engine: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Result<(), AgentError>>,
    forwarders: Vec<tokio::task::JoinHandle<()>>,
}

impl Agent {
    /// Starts an agent: recovers its memory, listens, says hello and goes on with what has not ended.
    ///
    /// # Errors
    /// [`AgentError`]; nothing of it runs then.
    pub async fn start(config: AgentConfig, bus: Arc<dyn Bus>) -> Result<Agent, AgentError> {
        let me = Address::new(&config.site, Kind::Agent, &config.name);
        let capacity = NonZeroUsize::new(INBOX).expect("it is not zero");
        let home = config.data.join("agents").join(config.name.as_str());
        let lock = lock(&home)?;
        let listener = listen(config.listen, &home)?;
        let listening = listener.local_addr().map_err(|source| listen_error(config.listen, source))?;
        let inbox = bus.subscribe(&subjects::inbox(&me), capacity).await?;
        let acks = subjects::acks(&config.site, &Sender::Agent(config.name.clone()));
        let acks = bus.subscribe(&acks, capacity).await?;
        let (inputs, outlet) = mpsc::channel();
        let parts = Parts { config, bus, listener, listening, lock };
        let begun = parts.begin(&home, (inputs.clone(), outlet))?;
        let Begun { thread, waiting, ended, endpoint, metrics } = begun;
        let forwarders = [inbox, acks]
            .into_iter()
            .map(|subscription| tokio::spawn(forward(subscription, inputs.clone(), waiting.clone())))
            .collect();
        Ok(Agent { endpoint, listening, metrics, inputs, engine: Some(thread), ended, forwarders })
    }

    /// Its data channel, as its hello tells it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// BLAKE3 of its certificate.
    pub fn fingerprint(&self) -> Digest {
        self.endpoint.fingerprint
    }

    /// Where its data channel listens.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Waits until it has stopped by itself, which it does only when it cannot go on.
    ///
    /// # Errors
    /// Why it stopped.
    pub async fn failed(&mut self) -> Result<(), AgentError> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(stopped("it panicked")))
    }

    /// Stops it: tasks stop at their next safe point and go on at the next start, guests go on running. Returns once
    /// every thread has ended and the data folder is free.
    ///
    /// # Errors
    /// Why it had stopped before, if it had.
    pub async fn stop(mut self) -> Result<(), AgentError> {
        // If it has stopped already, nobody takes this.
        let _ = self.inputs.send(Input::Close);
        let ended = self.failed().await;
        if let Some(engine) = self.engine.take() {
            let _ = tokio::task::spawn_blocking(move || engine.join()).await;
        }
        ended
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.inputs.send(Input::Close);
        self.forwarders.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Runs an agent until `shutdown` is ready. Guests go on running.
///
/// # Errors
/// [`AgentError`] when it cannot start or cannot go on.
pub async fn run(
    config: AgentConfig,
    bus: Arc<dyn Bus>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AgentError> {
    let mut agent = Agent::start(config, bus).await?;
    tokio::select! {
        ended = agent.failed() => ended,
        () = shutdown => agent.stop().await,
    }
}

fn stopped(why: &str) -> AgentError {
    AgentError::Stopped { what: "the agent's engine", why: why.to_owned() }
}

fn listen_error(address: SocketAddr, source: std::io::Error) -> AgentError {
    if source.kind() == std::io::ErrorKind::AddrInUse {
        AgentError::PortInUse { address }
    } else {
        AgentError::Listen { address, source }
    }
}

/// Listens. Where any port will do, the one used last is taken if it is still free: orders under way, here and at other
/// agents, name it, and could not be resumed under another one after a restart.
fn listen(address: SocketAddr, home: &Path) -> Result<TcpListener, AgentError> {
    let bind = |address| TcpListener::bind(address).map_err(|source| listen_error(address, source));
    if address.port() != 0 {
        return bind(address);
    }
    let memo = home.join("port");
    let last = std::fs::read_to_string(&memo).ok().and_then(|text| text.trim().parse::<u16>().ok());
    if let Some(listener) = last.and_then(|port| bind(SocketAddr::new(address.ip(), port)).ok()) {
        return Ok(listener);
    }
    let listener = bind(address)?;
    let port = listener.local_addr().map_err(|source| listen_error(address, source))?.port();
    // Only a hint: without it orders that name the old port fail in their time and are tried anew.
    let _ = std::fs::write(&memo, port.to_string());
    Ok(listener)
}

/// One process at a time uses the agent's folder.
fn lock(home: &Path) -> Result<File, AgentError> {
    let path = home.join("lock");
    let wrong = |source| AgentError::Folder { path: home.to_owned(), source };
    std::fs::create_dir_all(home).map_err(wrong)?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(AgentError::Locked { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(wrong(source)),
    }
}

/// What a start needs.
struct Parts {
    config: AgentConfig,
    bus: Arc<dyn Bus>,
    listener: TcpListener,
    listening: SocketAddr,
    lock: File,
}

/// What a start leaves running.
struct Begun {
    thread: JoinHandle<()>,
    waiting: Arc<AtomicUsize>,
    ended: oneshot::Receiver<Result<(), AgentError>>,
    endpoint: Endpoint,
    metrics: Arc<Metrics>,
}

type Inputs = (mpsc::Sender<Input>, mpsc::Receiver<Input>);

impl Parts {
    fn begin(self, home: &Path, inputs: Inputs) -> Result<Begun, AgentError> {
        let Parts { config, bus, listener, listening, lock } = self;
        let secrets = Secrets::open(&config.data.join("secrets"), config.name.as_str())?;
        let endpoint = Endpoint {
            site: config.site.clone(),
            agent: config.name.clone(),
            address: advertised(&config.advertise, listening),
            fingerprint: secrets.fingerprint(),
        };
        let log_folder = home.join("log");
        let Recovered { mut table, log, mut actions, receiving } = recover(&config, &log_folder)?;
        let metrics: Arc<Metrics> = Arc::default();
        let (sender, outlet) = inputs;
        let server = secrets.server()?;
        let shared = Arc::new(Shared {
            site: config.site,
            guest_program: config.guest_program,
            secrets,
            metrics: metrics.clone(),
            bus,
            ended: Box::new(move |task, outcomes| {
                // When the engine is gone the task has not ended: it goes on at the next start.
                let (keeper, kept) = mpsc::channel();
                let _ = sender.send(Input::Ended(task, outcomes, keeper));
                Kept(kept)
            }),
            tables: Mutex::new(Tables { receiving, ..Tables::default() }),
            open_repositories: Mutex::default(),
            open_replicas: Mutex::default(),
            began: std::time::Instant::now(),
        });
        let threads = |source| AgentError::Folder { path: home.to_owned(), source };
        let slots = Pool::new("task", config.slots).map_err(threads)?;
        let quick = Pool::new("quick", QUICK).map_err(threads)?;
        let listener = Listener::start(&shared, server, listener).map_err(|source| listen_error(listening, source))?;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let about = About {
            endpoint: endpoint.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
        };
        actions.extend(table.restart(about, now()));
        let waiting: Arc<AtomicUsize> = Arc::default();
        let running = BTreeMap::new();
        let engine = Engine {
            table,
            log,
            shared,
            slots,
            quick,
            listener,
            inputs: outlet,
            waiting: waiting.clone(),
            running,
            unkept: Vec::new(),
            log_folder,
        };
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("agent-engine".into())
            .spawn(move || {
                let end = engine.run(actions);
                drop(lock);
                // Nobody may be waiting any more.
                let _ = tell.send(end);
            })
            .map_err(threads)?;
        Ok(Begun { thread, waiting, ended, endpoint, metrics })
    }
}

/// What an agent remembers.
struct Recovered {
    table: TaskTable,
    log: RecordLog,
    actions: Vec<Action>,
    /// Receiving tasks that have ended, for senders that do not know yet.
    receiving: BTreeMap<TaskId, Receiving>,
}

/// The memory of this agent, or the beginning of one.
fn recover(config: &AgentConfig, folder: &Path) -> Result<Recovered, AgentError> {
    let Opened { log, records, torn } = RecordLog::open(folder)?;
    if let Some(place) = torn {
        tracing::warn!(tail = %place.display(), "the agent's record log was cut by a crash; its tail was set aside");
    }
    let identity = Identity { site: config.site.clone(), name: config.name.clone() };
    if records.is_empty() {
        let (table, actions) = TaskTable::begin(identity, mint(), now());
        return Ok(Recovered { table, log, actions, receiving: BTreeMap::new() });
    }
    let table = TaskTable::rebuild(&identity, &records)
        .map_err(|source| AgentError::Memory { path: folder.to_owned(), source })?;
    Ok(Recovered { table, log, actions: Vec::new(), receiving: received::done(&records) })
}

/// The advertised address, with the port that was taken where none was named.
pub(crate) fn advertised(advertise: &str, listening: SocketAddr) -> String {
    match advertise.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", listening.port()),
        None => advertise.to_owned(),
    }
}

/// Hands what comes from the bus to the engine, within bounds.
async fn forward(mut subscription: Subscription, inputs: mpsc::Sender<Input>, waiting: Arc<AtomicUsize>) {
    while let Some((subject, wire)) = subscription.next_wire().await {
        let wire = match wire {
            Ok(wire) => wire,
            Err(error) => {
                tracing::warn!(%subject, %error, "a message from the bus was dropped");
                continue;
            }
        };
        if waiting.fetch_add(1, Ordering::SeqCst) >= INBOX {
            waiting.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        if inputs.send(Input::Wire(Box::new(wire))).is_err() {
            return;
        }
    }
}
