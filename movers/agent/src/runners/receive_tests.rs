use super::*;
use crate::listener::Listener;
use crate::proto::{Hello, VERSION, Wants};
use crate::shared::{Kept, Receiving, Tables};
use crate::stop::Stop;
use crate::tls::Secrets;
use farshore_bus::LocalBus;
use farshore_schemas::ids::{Address, DiskName, EntityId, Kind, Lineage, Name, SiteName, VmName};
use farshore_schemas::messages::agent::{DiskRef, Order};
use farshore_schemas::messages::host::Driver;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const SIZE: u64 = 64 * 1024;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn task() -> TaskId {
    let site = SiteName::parse("hq").unwrap();
    let owner = Address { site, entity: EntityId { kind: Kind::Session, name: name("s") } };
    TaskId { owner, lineage: Lineage([1; 16]), ordinal: 1 }
}

fn receive_order(peer: Digest) -> Order {
    let (vm, disk) = (VmName::parse("web").unwrap(), DiskName::parse("disk.raw").unwrap());
    let sink = DiskSink::VmDisk(DiskRef { host: name("lab"), vm, disk }, ByteCount(SIZE));
    Order { task: task(), fence: None, expires: None, spec: TaskSpec::ReceiveDisk { peer, sink } }
}

/// An agent's data channel, whose engine is the test: it is handed each end of a task, and who waits for it to be kept.
fn receiver(folder: &Path, peer: Digest) -> (Arc<Shared>, Listener, String, Receiver<Sender<()>>) {
    let host = folder.join("host");
    std::fs::create_dir_all(host.join("web")).unwrap();
    File::create(host.join("web/disk.raw")).unwrap().set_len(SIZE).unwrap();
    let (ended, ends) = channel();
    let order = receive_order(peer);
    let phase = Phase::Waiting(Instant::now());
    let receiving = Receiving { order, peer, stop: Arc::new(Stop::default()), phase };
    let driver = Driver::Folder { path: host.to_str().unwrap().to_owned() };
    let tables =
        Tables { hosts: [(name("lab"), driver)].into(), receiving: [(task(), receiving)].into(), ..Tables::default() };
    let shared = Arc::new(Shared {
        site: SiteName::parse("hq").unwrap(),
        guest_program: "/nowhere".into(),
        secrets: Secrets::open(&folder.join("receiver"), "receiver").unwrap(),
        metrics: Arc::default(),
        bus: Arc::new(LocalBus::new()),
        ended: Box::new(move |_, _| {
            let (keeper, kept) = channel();
            ended.send(keeper).unwrap();
            Kept(kept)
        }),
        tables: Mutex::new(tables),
        open_repositories: Mutex::default(),
        open_replicas: Mutex::default(),
        began: std::time::Instant::now(),
    });
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let listener = Listener::start(&shared, shared.secrets.server().unwrap(), socket).unwrap();
    (shared, listener, address, ends)
}

fn offer(secrets: &Secrets, (shared, address): (&Shared, &str)) -> (Link, Reply) {
    let peer = (address, shared.secrets.fingerprint());
    let mut link = Link::connect(secrets, peer, &Arc::default(), &Arc::default()).unwrap();
    link.send(&Hello { version: VERSION, wants: Wants::Receiver { task: task() } }).unwrap();
    link.send(&Push::Offer { size: SIZE, base: None }).unwrap();
    link.patient(Duration::from_secs(600)).unwrap();
    let reply = link.receive().unwrap();
    (link, reply)
}

#[test]
fn a_sender_hears_of_the_end_only_once_the_end_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&folder.path().join("sender"), "sender").unwrap();
    let (shared, listener, address, ends) = receiver(folder.path(), secrets.fingerprint());
    let (mut link, reply) = offer(&secrets, (&shared, &address));
    assert_eq!(reply, Reply::Ready { same_base: false });
    link.send(&Push::Finish { allocation: Vec::new() }).unwrap();
    let keeper = ends.recv().unwrap();
    // All is done but its record: whoever comes now is not told that it has ended.
    let (_, early) = offer(&secrets, (&shared, &address));
    assert!(matches!(&early, Reply::Failed(failure) if failure.code == "FS-AGENT-NOT-OPEN"), "{early:?}");
    keeper.send(()).unwrap();
    let finished: Reply = link.receive().unwrap();
    assert!(matches!(finished, Reply::Finished { .. }), "{finished:?}");
    let (_, again) = offer(&secrets, (&shared, &address));
    assert_eq!(again, finished);
    listener.close();
}

#[test]
fn a_sender_hears_nothing_of_an_end_that_could_not_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&folder.path().join("sender"), "sender").unwrap();
    let (shared, listener, address, ends) = receiver(folder.path(), secrets.fingerprint());
    let (mut link, _) = offer(&secrets, (&shared, &address));
    link.send(&Push::Finish { allocation: Vec::new() }).unwrap();
    drop(ends.recv().unwrap());
    let closed = link.receive::<Reply>();
    assert!(matches!(closed, Err(LinkError::Closed | LinkError::Io(_))), "{closed:?}");
    listener.close();
}
