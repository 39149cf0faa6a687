//! Brings a site up on a thread of its own: one actix system, one arbiter, all actors.

use crate::entity_actor::{Deliver, Resume};
use crate::handle::{ControlHandle, FinalState, NoAnswer, Request, Status};
use crate::log_port::EventLog;
use crate::ports::{Clock, Rebuild, ViewSink};
use crate::release;
use crate::shared::{Shared, SharedRef};
use farshore_bus::Bus;
use farshore_kernel::entity::Memory;
use farshore_kernel::site::Site;
use farshore_schemas::envelope::{Channel, Envelope, Sender};
use farshore_schemas::ids::{Address, EntityId, Kind, Lineage, MessageId, Name, Seq, SiteName};
use farshore_schemas::messages::Message;
use farshore_schemas::units::Hlc;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Commands that wait for the arbiter.
const REQUESTS: usize = 1024;
/// Notices kept for slow listeners.
const NOTICES: usize = 4096;

/// A site as its log and view give it.
pub struct Opened {
    /// The actors, folded with the outbox, up to the log's tail.
    pub site: Site,
    /// The log, open at that tail.
    pub log: Box<dyn EventLog>,
    /// The view.
    pub view: Box<dyn ViewSink>,
    /// How an actor is folded anew after a panic.
    pub rebuild: Rebuild,
    /// When the log was restored from a copy or cut: the new lineage and why. Recorded before anything is decided.
    pub renew: Option<(Lineage, String)>,
}

/// What the site runs with.
#[derive(Clone)]
pub struct Options {
    /// The site.
    pub site: SiteName,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Starts a site. `open` runs on the site's thread (states need not be sendable); its error is given back.
///
/// # Errors
/// What `open` says, or why the bus could not be subscribed to.
pub async fn start(
    options: Options,
    open: impl FnOnce() -> Result<Opened, String> + Send + 'static,
) -> Result<ControlHandle, String> {
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let handle = ControlHandle {
        site: options.site.clone(),
        requests,
        frames: broadcast::channel(NOTICES).0,
        progress: broadcast::channel(NOTICES).0,
    };
    let (ready, up) = oneshot::channel();
    let inside = handle.clone();
    let name = format!("control-{}", options.site);
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let system = actix_rt::System::new();
            let ended = system.block_on(run(options, open, inside, inbox, ready));
            // Actors, log and view go with the system: who is told of the end may open the log again at once.
            drop(system);
            if let Some((reply, outcome)) = ended {
                let _gone = reply.send(outcome);
            }
        })
        .map_err(|error| format!("FS-CONTROL-THREAD: no thread for the site's control: {error}"))?;
    up.await.map_err(|_| "the site's control ended while it started".to_owned())??;
    Ok(handle)
}

async fn run(
    options: Options,
    open: impl FnOnce() -> Result<Opened, String>,
    handle: ControlHandle,
    inbox: mpsc::Receiver<Request>,
    ready: oneshot::Sender<Result<(), String>>,
) -> Option<Ended> {
    let subscribed = crate::inbound::subscribe(&*options.bus, &options.site).await.map_err(|error| error.to_string());
    let opened = subscribed.and_then(|subscriptions| open().map(|opened| (opened, subscriptions)));
    let (opened, subscriptions) = match opened {
        Ok(both) => both,
        Err(why) => {
            let _gone = ready.send(Err(why));
            return None;
        }
    };
    // The handle inside keeps no sender of requests: when all outside are gone the site ends.
    let (shared, reports) = share(&options, opened, &handle);
    drop(handle);
    actix_rt::spawn(release::follow_log(shared.clone(), reports));
    resume(&shared);
    for subscription in subscriptions {
        actix_rt::spawn(crate::inbound::listen(shared.clone(), subscription));
    }
    actix_rt::spawn(release::tick(shared.clone()));
    actix_rt::spawn(release::follow_link(shared.clone()));
    let _gone = ready.send(Ok(()));
    serve(shared, inbox).await
}

/// How a site ended, and who wants to know.
type Ended = (oneshot::Sender<Result<FinalState, String>>, Result<FinalState, String>);

type Reports = mpsc::UnboundedReceiver<(Seq, Result<(), crate::log_port::LogFailure>)>;

/// Spreads the site's parts over actors.
fn share(options: &Options, opened: Opened, handle: &ControlHandle) -> (SharedRef, Reports) {
    let Opened { mut site, log, view, rebuild, renew } = opened;
    let (durable_reports, reports) = mpsc::unbounded_channel();
    let now = options.clock.now();
    let mut renewal = None;
    if let Some((lineage, reason)) = renew
        && let farshore_kernel::site::Step::Append { stamped, .. } = site.renew_lineage(lineage, &reason, now)
    {
        let alarm = format!(
            "FS-RUNTIME-RENEWED: the log goes on under the new lineage {lineage} from frame {}: {reason}",
            stamped.seq
        );
        renewal = Some((stamped.seq, stamped.bytes, stamped.hash, alarm));
    }
    let durable = log.durable_tail().0;
    let (sequencer, entities) = site.into_parts();
    let shared = Rc::new(RefCell::new(Shared {
        sequencer,
        slots: BTreeMap::new(),
        log,
        view,
        bus: options.bus.clone(),
        clock: options.clock.clone(),
        rebuild,
        durable,
        durable_reports,
        waiting: VecDeque::new(),
        dirty: BTreeSet::new(),
        view_batch: None,
        backlog: BTreeMap::new(),
        peers: BTreeSet::new(),
        hand_over_again: BTreeSet::new(),
        ahead: BTreeSet::new(),
        presence: crate::presence::Presence::default(),
        halted: None,
        stopping: false,
        rebuilding: 0,
        changed: Rc::default(),
        alarms: VecDeque::new(),
        counters: crate::handle::Counters::default(),
        frames: handle.frames.clone(),
        progress: handle.progress.clone(),
    }));
    if let Some((seq, bytes, hash, alarm)) = renewal {
        shared.borrow_mut().alarm(alarm);
        shared.borrow().write(seq, bytes, hash);
    }
    for (id, entity) in entities {
        for (channel, lost) in entity.memory().lost {
            shared.borrow_mut().alarm(crate::entity_actor::lost_text(&id, &channel, lost));
        }
        shared.borrow_mut().dirty.insert(id.clone());
        Shared::place(&shared, &id, entity);
    }
    let site_actor = shared.borrow().slots.get(&Site::site_actor()).map(|slot| slot.entity.clone());
    if let Some(entity) = site_actor {
        crate::inbound::learn_peers(&shared, &entity);
    }
    (shared, reports)
}

/// After a start: what was decided and not yet taken by actors of this site is handed over, receivers elsewhere are asked how
/// far they have heard us, and every actor says what it owes.
fn resume(shared: &SharedRef) {
    let local: Vec<Envelope> = {
        let shared = shared.borrow();
        let site = shared.sequencer.site().clone();
        shared.sequencer.outbox.local(&site).iter().map(|(to, entry)| shared.sequencer.envelope(to, entry)).collect()
    };
    local.into_iter().for_each(|envelope| Shared::route(shared, envelope));
    let addrs: Vec<_> = shared.borrow().slots.values().map(|slot| slot.addr.clone()).collect();
    addrs.iter().for_each(|addr| addr.do_send(Resume));
    let mut shared = shared.borrow_mut();
    release::probe(&mut shared);
}

async fn serve(shared: SharedRef, mut inbox: mpsc::Receiver<Request>) -> Option<Ended> {
    let run = shared.borrow().now();
    let mut commands = 0u64;
    while let Some(request) = inbox.recv().await {
        match request {
            Request::Command { to, message, principal, trace, reply } => {
                commands += 1;
                // Unlike any of an earlier run: a million commands fit between two starts that are a millisecond apart.
                let id = Seq((u64::try_from(run.0).unwrap_or(0) << 20).saturating_add(commands));
                let envelope = api_envelope(&shared.borrow(), &to, *message, (principal, trace), id);
                submit(&shared, envelope, reply);
            }
            Request::Memories { kind, reply } => drop(reply.send(memories(&shared.borrow(), kind))),
            Request::Memory { id, reply } => {
                let memory = shared.borrow().slots.get(&id).map(|slot| slot.entity.borrow().memory());
                let _gone = reply.send(memory.filter(|memory| memory.actor_seq > 0));
            }
            Request::Status { reply } => drop(reply.send(status(&shared.borrow()))),
            Request::Shutdown { reply } => {
                let outcome = shutdown(&shared).await;
                return Some((reply, outcome));
            }
        }
    }
    if let Err(why) = shutdown(&shared).await {
        tracing::error!(why, "the site ended without a clean shutdown");
    }
    None
}

fn api_envelope(shared: &Shared, to: &EntityId, message: Message, who: (String, Option<String>), id: Seq) -> Envelope {
    let site = shared.sequencer.site().clone();
    let lineage = shared.sequencer.lineage();
    let api = Name::parse("local").expect("a legal name");
    Envelope {
        from: Address::new(&site, Kind::Api, &api),
        channel: Channel { site: site.clone(), sender: Sender::Api, lineage },
        to: Address { site: site.clone(), entity: to.clone() },
        number: 0,
        floor: 1,
        id: MessageId { site, lineage, seq: id, index: 0 },
        sent: Hlc { wall: shared.now(), count: 0 },
        expires: None,
        supersede: None,
        principal: who.0,
        trace: who.1,
        body: Some(message),
    }
}

fn submit(shared: &SharedRef, envelope: Envelope, reply: oneshot::Sender<Result<crate::handle::Answer, NoAnswer>>) {
    if let Some(why) = shared.borrow().refuses() {
        return drop(reply.send(Err(NoAnswer::Stopped(why))));
    }
    let to = envelope.to.entity.clone();
    let Some(addr) = Shared::addr(shared, &to) else {
        return drop(reply.send(Err(NoAnswer::NoActor(to))));
    };
    let deliver = Deliver { envelope: Box::new(envelope), reply: Some(reply), tries: 0 };
    if let Err(actix::dev::SendError::Full(back) | actix::dev::SendError::Closed(back)) = addr.try_send(deliver)
        && let Some(reply) = back.reply
    {
        let _gone = reply.send(Err(NoAnswer::Busy));
    }
}

fn memories(shared: &Shared, kind: Option<Kind>) -> Vec<Memory> {
    let wanted = shared.slots.iter().filter(|(id, _)| kind.is_none_or(|kind| kind == id.kind));
    wanted.map(|(_, slot)| slot.entity.borrow().memory()).filter(|memory| memory.actor_seq > 0).collect()
}

fn status(shared: &Shared) -> Status {
    Status {
        site: shared.sequencer.site().clone(),
        lineage: shared.sequencer.lineage(),
        last: shared.sequencer.tail().0,
        durable: shared.durable,
        actors: shared.slots.len(),
        waiting: shared.sequencer.outbox.waiting().map(|(to, count)| (to.to_string(), count)).collect(),
        bus_up: shared.bus.connected().borrow().up,
        halted: shared.halted.clone(),
        alarms: shared.alarms.iter().cloned().collect(),
        agents: shared.presence.agents(shared.now()),
        counters: shared.counters,
    }
}

/// Stops deciding and waits for the disk and the view.
async fn shutdown(this: &SharedRef) -> Result<FinalState, String> {
    // From here on nothing is decided: what comes in is refused, and the outbox holds what was not sent.
    this.borrow_mut().stopping = true;
    let (seq, frame) = this.borrow().sequencer.tail();
    Shared::settled(this, seq, 0).await?;
    let mut shared = this.borrow_mut();
    release::release(&mut shared);
    shared.take_view_batch();
    release::release(&mut shared);
    shared.view.flush();
    Ok(FinalState { site: shared.sequencer.site().clone(), seq, frame, state: shared.state_hash() })
}
