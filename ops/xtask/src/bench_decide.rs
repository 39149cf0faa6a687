//! Measures deciding end to end (bus, actor, event log on a real folder, view) and what can be done with the log
//! afterwards: folding its frames and deciding again on them. Gives JSON.

use farshore_bus::{Bus, BusError, LocalBus, Subscription, send_wire};
use farshore_kernel::entity::{Memory, new_entity};
use farshore_kernel::redecide::redecide;
use farshore_kernel::site::{Depth, FoldError, Site};
use farshore_log::{LogError, LogOptions, LogReader, ReadLog, SegmentLog, View};
use farshore_runtime::handle::{Answer, ControlHandle, FinalState, NoAnswer};
use farshore_runtime::ports::{Rebuild, ViewBatch, ViewSink, WallClock};
use farshore_runtime::{Opened, Options, start};
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::ids::{Address, Digest, EntityId, Kind, Lineage, MessageId, Name, Seq, SiteName};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::broker::{self, Priority};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::mover::{self, MoverSpec, Role};
use farshore_schemas::messages::site::{self, SiteSpec};
use farshore_schemas::messages::{Message, job};
use farshore_schemas::subjects;
use farshore_schemas::units::{Hlc, Millis, Timestamp};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is measured and how much of it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A folder on the disk that is measured; a temporary one is made in it and removed.
    pub(crate) folder: PathBuf,
    /// Commands by callers, all together.
    pub(crate) commands: u64,
    /// Callers at once, each with a job of its own.
    pub(crate) callers: u64,
    /// Messages from a peer.
    pub(crate) messages: u64,
}

impl Plan {
    /// What the figures in the README are from.
    pub(crate) fn full(folder: &Path) -> Plan {
        Plan { folder: folder.to_owned(), commands: 100_000, callers: 256, messages: 100_000 }
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The disk said no.
    #[error("FS-BENCH-IO: the measurement stopped: {0}")]
    Io(#[from] std::io::Error),
    /// The log said no.
    #[error("FS-BENCH-LOG: the measurement stopped: {0}")]
    Log(#[from] LogError),
    /// The bus said no.
    #[error("FS-BENCH-BUS: the measurement stopped: {0}")]
    Bus(#[from] BusError),
    /// A command got no answer.
    #[error("FS-BENCH-ANSWER: the measurement stopped: {0}")]
    Answer(#[from] NoAnswer),
    /// The frames cannot be folded.
    #[error("FS-BENCH-FOLD: the measurement stopped: {0}")]
    Fold(#[from] FoldError),
    /// The site did not do what it should.
    #[error("FS-BENCH-WRONG: the measurement stopped: {0}")]
    Wrong(String),
}

/// Runs all of it.
///
/// # Errors
/// [`BenchError`].
pub(crate) fn run(plan: &Plan) -> Result<Value, BenchError> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (live, last) = runtime.block_on(live(folder.path(), plan))?;
    drop(runtime);
    let reader = LogReader::open(folder.path())?;
    Ok(json!({
        "end_to_end": live,
        "must_per_second": 10_000,
        "folded": folded(&reader, &last)?,
        "aim_folded_per_second": 500_000,
        "decided_again": decided_again(&reader)?,
    }))
}

const LINEAGE: Lineage = Lineage([0xB2; 16]);
/// Messages of the peer that no ack has confirmed yet: less than a subscription holds.
const WINDOW: u64 = 2_048;

fn token(text: &str) -> Name {
    Name::parse(text).expect("it is a token")
}

fn site_name(text: &str) -> SiteName {
    SiteName::parse(text).expect("it is a token")
}

fn entity(kind: Kind, name: &str) -> EntityId {
    EntityId { kind, name: token(name) }
}

async fn live(dir: &Path, plan: &Plan) -> Result<(Value, FinalState), BenchError> {
    let bus = LocalBus::new();
    let options = Options { site: site_name("bench"), bus: Arc::new(bus.clone()), clock: Arc::new(WallClock) };
    let at = dir.to_owned();
    let handle =
        start(options, move || open(&at).map_err(|error| error.to_string())).await.map_err(BenchError::Wrong)?;
    prepare(&handle, plan).await?;
    let commands = commands(&handle, plan).await?;
    let messages = messages(&handle, &bus, plan).await?;
    let last = handle.shutdown().await.map_err(BenchError::Wrong)?;
    Ok((json!({ "commands": commands, "messages": messages }), last))
}

struct StoredView(View);

impl ViewSink for StoredView {
    fn apply(&self, batch: ViewBatch) {
        self.0.apply(batch.seq, batch.hash, batch.changes.into_iter().map(|(key, value)| (key, Some(value))).collect());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn open(dir: &Path) -> Result<Opened, LogError> {
    let site = site_name("bench");
    let opened = SegmentLog::open(&LogOptions::new(dir, &site, LINEAGE))?;
    let view = View::open(dir, &opened.log.reader())?.into_view();
    let rebuild = rebuild(opened.log.reader());
    Ok(Opened {
        site: Site::new(&site, LINEAGE),
        log: Box::new(opened.log),
        view: Box::new(StoredView(view)),
        rebuild,
        renew: None,
    })
}

fn rebuild(reader: LogReader) -> Rebuild {
    Arc::new(move |id: &EntityId, until: Seq| fold_one(&reader, id, until).map_err(|error| error.to_string()))
}

fn fold_one(reader: &LogReader, id: &EntityId, until: Seq) -> Result<Memory, BenchError> {
    let wrong = |error: &dyn std::fmt::Display| BenchError::Wrong(error.to_string());
    let mut actor = new_entity(id).ok_or_else(|| wrong(id))?;
    let mut frames = reader.frames_from(Seq(1))?;
    while let Some(stored) = frames.next()? {
        if stored.seq() > until {
            break;
        }
        let section = stored.raw.events_section().map_err(|error| wrong(&error))?;
        if section.actor == *id {
            actor.fold(&section).map_err(|error| wrong(&error))?;
        }
    }
    Ok(actor.memory())
}

async fn accepted(handle: &ControlHandle, to: &EntityId, message: Message) -> Result<(), BenchError> {
    match handle.command(to, message, "bench", None).await? {
        Answer::Accepted { .. } => Ok(()),
        Answer::Rejected { refusal, .. } => Err(BenchError::Wrong(format!("{}: {}", refusal.code, refusal.message))),
    }
}

/// The peer, a job for each caller, a mover without an agent yet.
async fn prepare(handle: &ControlHandle, plan: &Plan) -> Result<(), BenchError> {
    let peers = SiteSpec { peers: vec![site_name("peer")] };
    accepted(handle, &Site::site_actor(), Message::Site(site::Command::Define(peers))).await?;
    let mover = MoverSpec { roles: vec![Role::Source], slots: 1_000 };
    accepted(handle, &entity(Kind::Mover, "m1"), Message::Mover(mover::Command::Define(mover))).await?;
    let spec = job::JobSpec {
        work: job::Work::Backup { host: token("h1"), vms: Vec::new(), repository: token("r1") },
        schedule: job::Schedule::Manual,
        retry: job::Retry { attempts: 3, wait: Millis::from_mins(10) },
        keep: Keep::newest(7),
    };
    for caller in 0..plan.callers {
        let define = Message::Job(job::Command::Define(spec.clone()));
        accepted(handle, &entity(Kind::Job, &format!("job-{caller}")), define).await?;
    }
    Ok(())
}

/// Callers that switch a job off and on, each waiting for its answer.
async fn commands(handle: &ControlHandle, plan: &Plan) -> Result<Value, BenchError> {
    let each = plan.commands / plan.callers.max(1);
    let started = Instant::now();
    let callers: Vec<_> = (0..plan.callers)
        .map(|caller| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let job = entity(Kind::Job, &format!("job-{caller}"));
                let mut taken = Vec::new();
                for count in 0..each {
                    let begun = Instant::now();
                    accepted(&handle, &job, Message::Job(job::Command::Enable { enabled: count % 2 == 1 })).await?;
                    taken.push(begun.elapsed());
                }
                Ok::<_, BenchError>(taken)
            })
        })
        .collect();
    let mut taken = Vec::new();
    for caller in callers {
        taken.extend(caller.await.map_err(|error| BenchError::Wrong(error.to_string()))??);
    }
    let wall = started.elapsed();
    taken.sort_unstable();
    let at = |share: usize| taken.get(taken.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1e6;
    Ok(json!({
        "callers": plan.callers,
        "decisions": taken.len(),
        "per_second": rate(taken.len() as u64, wall),
        "p50_us": at(50),
        "p99_us": at(99),
    }))
}

/// A peer that asks the broker for slots and gives them back, and acks what it is granted.
async fn messages(handle: &ControlHandle, bus: &LocalBus, plan: &Plan) -> Result<Value, BenchError> {
    let capacity = NonZeroUsize::new(1 << 16).expect("not zero");
    let mut acks = bus.subscribe(&subjects::acks(&site_name("peer"), &Sender::Control), capacity).await?;
    let granted = bus.subscribe(&subjects::inboxes(&site_name("peer"), Kind::Session), capacity).await?;
    let acking = tokio::spawn(ack_all(bus.clone(), granted));
    publish(bus, &hello())?;
    while handle.memory(&entity(Kind::Broker, "broker")).await?.is_none_or(|memory| memory.actor_seq < 2) {
        tokio::task::yield_now().await;
    }
    let before = handle.status().await?.counters;
    let started = Instant::now();
    let (mut sent, mut acked) = (0, 0);
    while acked < plan.messages {
        while sent < plan.messages && sent - acked < WINDOW {
            sent += 1;
            publish(bus, &from_peer(sent))?;
        }
        if let Some((_, Ok(Wire::Ack { number, .. }))) = acks.next_wire().await {
            acked = number.max(acked);
        }
    }
    let wall = started.elapsed();
    let after = handle.status().await?.counters;
    acking.abort();
    Ok(json!({
        "decisions": after.decisions - before.decisions,
        "rejected": after.rejections - before.rejections,
        "per_second": rate(after.decisions - before.decisions, wall),
        "published": after.published - before.published,
    }))
}

fn publish(bus: &LocalBus, envelope: &Envelope) -> Result<(), BusError> {
    let subject = subjects::inbox(&envelope.to);
    send_wire(bus, &subject, &Wire::Deliver(Box::new(envelope.clone())))
}

async fn ack_all(bus: LocalBus, mut granted: Subscription) -> Result<(), BusError> {
    let subject = subjects::acks(&site_name("bench"), &Sender::Control);
    while let Some((_, wire)) = granted.next_wire().await {
        if let Ok(Wire::Deliver(envelope)) = wire {
            let Envelope { channel, to, number, .. } = *envelope;
            send_wire(&bus, &subject, &Wire::Ack { channel, receiver: to, number })?;
        }
    }
    Ok(())
}

fn envelope(from: Address, sender: Sender, number: u64, to: Address, body: Message) -> Envelope {
    let lineage = Lineage([0xB3; 16]);
    Envelope {
        channel: Channel { site: from.site.clone(), sender, lineage },
        id: MessageId { site: from.site.clone(), lineage, seq: Seq(number), index: 0 },
        principal: from.to_string(),
        from,
        to,
        number,
        floor: 1,
        sent: Hlc { wall: Timestamp(0), count: 0 },
        expires: None,
        supersede: None,
        trace: None,
        body: Some(body),
    }
}

fn hello() -> Envelope {
    let (bench, agent) = (site_name("bench"), token("m1"));
    let endpoint = Endpoint {
        site: bench.clone(),
        agent: agent.clone(),
        address: "127.0.0.1:7000".to_owned(),
        fingerprint: Digest([7; 32]),
    };
    let hello = mover::Command::Hello { incarnation: Lineage([0xB4; 16]), endpoint, version: "1".to_owned(), cores: 2 };
    let from = Address::new(&bench, Kind::Agent, &agent);
    let to = Address::new(&bench, Kind::Mover, &agent);
    envelope(from, Sender::Agent(agent), 1, to, Message::Mover(hello))
}

fn from_peer(number: u64) -> Envelope {
    let pair = (number - 1) / 2;
    let from = Address::new(&site_name("peer"), Kind::Session, &token(&format!("session-{}", pair % 8)));
    let to = Address::new(&site_name("bench"), Kind::Broker, &token("broker"));
    let slot = token(&format!("slot-{pair}"));
    let body = if number % 2 == 1 {
        broker::Command::RequestSlot { slot, role: Role::Source, must: None, priority: Priority::Normal }
    } else {
        broker::Command::ReleaseSlot { slot }
    };
    envelope(from, Sender::Control, number, to, Message::Broker(body))
}

/// Folds the states on one core, and checks that they are those that the live site had.
fn folded(reader: &LogReader, last: &FinalState) -> Result<Value, BenchError> {
    let mut site = Site::new(&last.site, LINEAGE);
    let (mut count, mut bytes) = (0, 0);
    let started = Instant::now();
    let mut frames = reader.frames_from(Seq(1))?;
    while let Some(stored) = frames.next()? {
        (count, bytes) = (count + 1, bytes + stored.bytes.len() as u64);
        let hash = stored.hash();
        site.fold(&stored.raw, hash, Depth::States)?;
    }
    let wall = started.elapsed();
    if (site.state_hash(), site.sequencer.tail()) != (last.state, (last.seq, last.frame)) {
        return Err(BenchError::Wrong("the frames fold to another state than the site had in memory".to_owned()));
    }
    Ok(json!({
        "frames": count,
        "per_second": rate(count, wall),
        "bytes_per_frame": bytes as f64 / count as f64,
    }))
}

/// Decides every frame again; there must be no difference.
fn decided_again(reader: &LogReader) -> Result<Value, BenchError> {
    let mut site = Site::new(&site_name("bench"), LINEAGE);
    let mut count = 0;
    let started = Instant::now();
    let mut frames = reader.frames_from(Seq(1))?;
    while let Some(stored) = frames.next()? {
        count += 1;
        let hash = stored.hash();
        if let Some(difference) = redecide(&mut site, &stored.raw, hash)? {
            return Err(BenchError::Wrong(format!("frame {} comes out otherwise: {difference:?}", stored.seq())));
        }
    }
    Ok(json!({ "frames": count, "per_second": rate(count, started.elapsed()) }))
}

fn rate(count: u64, wall: Duration) -> f64 {
    count as f64 / wall.as_secs_f64()
}
