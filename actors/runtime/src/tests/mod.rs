//! Tests of the runtime: a whole site on its thread, with a log, clock and view that the test holds in its hands.

mod answers;
mod channels;
mod endings;
mod panics;
mod presence;

use crate::handle::{ControlHandle, Status};
use crate::log_port::{EventLog, LogFailure, NewFrame, OnDurable};
use crate::ports::{Clock, NoView, Rebuild, ViewSink};
use crate::{Opened, Options, start};
use farshore_bus::{Bus, LocalBus, Subscription, send_wire};
use farshore_kernel::entity::{Entity, new_entity};
use farshore_kernel::site::{Depth, Site};
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::frame::{RawFrame, genesis_hash};
use farshore_schemas::ids::{Address, Digest, EntityId, Lineage, MessageId, Seq, SiteName};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::broker::Priority;
use farshore_schemas::messages::mover::{MoverSpec, Role};
use farshore_schemas::messages::site::SiteSpec;
use farshore_schemas::messages::{Message, broker, mover, site};
use farshore_schemas::subjects;
use farshore_schemas::units::{Hlc, Timestamp};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

pub(super) const LINEAGE: Lineage = Lineage([1; 16]);

#[derive(Default)]
struct Disk {
    durable: Vec<NewFrame>,
    queued: VecDeque<(NewFrame, OnDurable)>,
    held: bool,
    fails: bool,
    closed: bool,
}

/// A log in memory whose thread makes frames durable when the test lets it.
#[derive(Clone, Default)]
pub(super) struct TestLog(Arc<(Mutex<Disk>, Condvar)>);

impl TestLog {
    /// With frames that are durable already.
    pub(super) fn with(frames: Vec<NewFrame>) -> TestLog {
        let log = TestLog::default();
        log.0.0.lock().unwrap().durable = frames;
        log
    }

    fn change(&self, change: impl FnOnce(&mut Disk)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    pub(super) fn hold(&self) {
        self.change(|disk| disk.held = true);
    }

    pub(super) fn release(&self) {
        self.change(|disk| disk.held = false);
    }

    pub(super) fn fail(&self) {
        self.change(|disk| disk.fails = true);
    }

    /// Waits until so many frames wait for the disk.
    pub(super) async fn queued(&self, count: usize) {
        let log = self.0.clone();
        let wait = move || drop(log.1.wait_while(log.0.lock().unwrap(), |disk| disk.queued.len() < count).unwrap());
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    pub(super) fn closed(&self) -> bool {
        self.0.0.lock().unwrap().closed
    }

    pub(super) fn frames(&self) -> Vec<NewFrame> {
        self.0.0.lock().unwrap().durable.clone()
    }

    fn port(&self) -> Box<dyn EventLog> {
        let log = self.0.clone();
        std::thread::spawn(move || {
            loop {
                let mut disk = log.0.lock().unwrap();
                while !disk.closed && (disk.held || disk.queued.is_empty()) {
                    disk = log.1.wait(disk).unwrap();
                }
                if disk.closed {
                    return;
                }
                let Some((frame, on_durable)) = disk.queued.pop_front() else { continue };
                let outcome = if disk.fails { Err(LogFailure::Io("no space".into())) } else { Ok(()) };
                if outcome.is_ok() {
                    disk.durable.push(frame);
                }
                drop(disk);
                on_durable(outcome);
            }
        });
        Box::new(Port(self.clone()))
    }

    /// Folds all durable frames up to a seq.
    pub(super) fn fold(&self, until: Seq) -> Site {
        let mut folded = Site::new(&hq(), LINEAGE);
        for frame in self.frames().iter().filter(|frame| frame.seq <= until) {
            folded.fold(&RawFrame::decode(&frame.bytes).unwrap().0, frame.hash, Depth::Outbox).unwrap();
        }
        folded
    }

    fn rebuild(&self) -> Rebuild {
        let log = self.clone();
        Arc::new(move |id: &EntityId, until: Seq| {
            let site = log.fold(until);
            let fresh = || new_entity(id).map(|entity| entity.memory()).ok_or("no actor".to_owned());
            site.entity(id).map_or_else(fresh, |entity| Ok(entity.memory()))
        })
    }
}

struct Port(TestLog);

impl EventLog for Port {
    fn append(&self, frame: NewFrame, on_durable: OnDurable) {
        self.0.change(|disk| disk.queued.push_back((frame, on_durable)));
    }

    fn durable_tail(&self) -> (Seq, Digest) {
        let disk = self.0.0.0.lock().unwrap();
        disk.durable.last().map_or((Seq(0), genesis_hash(LINEAGE)), |frame| (frame.seq, frame.hash))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.0.change(|disk| disk.closed = true);
    }
}

#[derive(Clone)]
pub(super) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(super) fn forward(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A running site and everything around it.
pub(super) struct Rig {
    pub(super) handle: ControlHandle,
    pub(super) log: TestLog,
    pub(super) bus: LocalBus,
    pub(super) clock: TestClock,
}

impl Rig {
    pub(super) async fn new() -> Rig {
        Rig::with(TestLog::default(), Vec::new, || Box::new(NoView)).await
    }

    /// On a log, with actors of the test's own make, and a view.
    pub(super) async fn with(
        log: TestLog,
        place: impl FnOnce() -> Vec<Box<dyn Entity>> + Send + 'static,
        view: impl FnOnce() -> Box<dyn ViewSink> + Send + 'static,
    ) -> Rig {
        let bus = LocalBus::new();
        let clock = TestClock(Arc::new(AtomicI64::new(1_000_000)));
        let options = Options { site: hq(), bus: Arc::new(bus.clone()), clock: Arc::new(clock.clone()) };
        let on = log.clone();
        let open = move || {
            let mut site = on.fold(Seq(u64::MAX));
            place().into_iter().for_each(|entity| site.place(entity));
            Ok(Opened { site, log: on.port(), view: view(), rebuild: on.rebuild(), renew: None })
        };
        Rig { handle: start(options, open).await.unwrap(), log, bus, clock }
    }

    /// With the peer `dr` and a mover whose agent has said hello.
    pub(super) async fn with_mover(self) -> Rig {
        let peers = vec!["dr".parse().unwrap()];
        self.accepted("site/site", Message::Site(site::Command::Define(SiteSpec { peers }))).await;
        self.accepted("mover/m1", define()).await;
        let mut frames = self.handle.frames();
        self.say(&hello(1));
        while frames.recv().await.unwrap().actor != "broker/broker".parse().unwrap() {}
        self.until(|status| status.durable == status.last && status.last >= Seq(5)).await;
        self
    }

    pub(super) async fn accepted(&self, to: &str, message: Message) -> Seq {
        match self.handle.command(&to.parse().unwrap(), message, "ops", None).await.unwrap() {
            crate::handle::Answer::Accepted { seq } => seq,
            no @ crate::handle::Answer::Rejected { .. } => panic!("{no:?}"),
        }
    }

    pub(super) fn say(&self, envelope: &Envelope) {
        let subject = subjects::inbox(&envelope.to);
        send_wire(&self.bus, &subject, &Wire::Deliver(Box::new(envelope.clone()))).unwrap();
    }

    pub(super) async fn hear(&self, subject: &str) -> Subscription {
        self.bus.subscribe(subject, NonZeroUsize::new(10_000).unwrap()).await.unwrap()
    }

    /// Acks that `dr` gets.
    pub(super) async fn acks(&self) -> Subscription {
        self.hear(&subjects::acks(&"dr".parse().unwrap(), &Sender::Control)).await
    }

    /// Asks for the status until it is as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        loop {
            let status = self.handle.status().await.unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn hq() -> SiteName {
    "hq".parse().unwrap()
}

pub(super) fn define() -> Message {
    Message::Mover(mover::Command::Define(MoverSpec { roles: vec![Role::Source], slots: 10_000 }))
}

pub(super) fn request(slot: u64) -> Message {
    Message::Broker(broker::Command::RequestSlot {
        slot: format!("slot-{slot}").parse().unwrap(),
        role: Role::Source,
        must: None,
        priority: Priority::Normal,
    })
}

fn envelope(from: &str, to: &str, number: u64, body: Message) -> Envelope {
    let from: Address = from.parse().unwrap();
    let lineage = Lineage([2; 16]);
    Envelope {
        channel: Channel { site: from.site.clone(), sender: Sender::Control, lineage },
        to: to.parse().unwrap(),
        id: MessageId { site: from.site.clone(), lineage, seq: Seq(number), index: 0 },
        number,
        floor: 1,
        sent: Hlc { wall: Timestamp(1_000_000), count: 0 },
        expires: None,
        supersede: None,
        principal: from.to_string(),
        trace: None,
        body: Some(body),
        from,
    }
}

/// A session of the peer asks for a slot.
pub(super) fn ask(number: u64) -> Envelope {
    envelope("dr:session/s1", "hq:broker/broker", number, request(number))
}

pub(super) fn hello(number: u64) -> Envelope {
    let endpoint = Endpoint {
        site: hq(),
        agent: "m1".parse().unwrap(),
        address: "127.0.0.1:7000".to_owned(),
        fingerprint: Digest([7; 32]),
    };
    let incarnation = Lineage([9; 16]);
    let body = mover::Command::Hello { incarnation, endpoint, version: "1".to_owned(), cores: 2 };
    let mut envelope = envelope("hq:agent/m1", "hq:mover/m1", number, Message::Mover(body));
    envelope.channel.sender = Sender::Agent("m1".parse().unwrap());
    envelope
}

pub(super) async fn next(subscription: &mut Subscription) -> Wire {
    subscription.next_wire().await.unwrap().1.unwrap()
}

pub(super) async fn acked(subscription: &mut Subscription) -> u64 {
    match next(subscription).await {
        Wire::Ack { number, .. } => number,
        other @ (Wire::Deliver(_) | Wire::Probe { .. } | Wire::Fork { .. } | Wire::Progress { .. }) => {
            panic!("{other:?}")
        }
    }
}

/// Nothing but questions whether anybody is there has come so far.
#[track_caller]
pub(super) fn nothing_delivered(subscription: &mut Subscription) {
    while let Some(message) = subscription.try_next() {
        let wire = farshore_bus::decode_wire(&message.payload).unwrap();
        assert!(matches!(wire, Wire::Probe { .. }), "{wire:?}");
    }
}

pub(super) async fn delivered(subscription: &mut Subscription) -> Envelope {
    loop {
        match next(subscription).await {
            Wire::Deliver(envelope) => return *envelope,
            Wire::Probe { .. } => {}
            other @ (Wire::Ack { .. } | Wire::Fork { .. } | Wire::Progress { .. }) => panic!("{other:?}"),
        }
    }
}
