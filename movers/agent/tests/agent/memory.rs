//! What an agent remembers over a restart, and what it refuses.

use crate::support::*;
use farshore_agent::{Agent, AgentError};
use farshore_bus::LocalBus;
use farshore_schemas::messages::agent::{DiskFacts, DiskSink, Outcome, TaskSpec};
use farshore_schemas::units::ByteCount;
use std::path::Path;
use std::sync::Arc;

fn power_on() -> TaskSpec {
    TaskSpec::PowerOn { host: name("lab"), vm: vm("web") }
}

fn code(outcome: Outcome) -> String {
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    failure.code
}

async fn fenced(hq: &Control, counter: u64, at: &str, spec: TaskSpec) -> Outcome {
    let task = hq.order_fenced("a", Some((origin(), epoch(counter, at))), spec);
    hq.outcome(&task).await
}

fn host(folder: &Path) -> std::path::PathBuf {
    let host = folder.join("host");
    make_vm(&host, "web");
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_epoch_is_refused_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::new();
    let hq = Control::start("hq", &bus).await;
    let agent = crate::support::agent(&hq, "a", folder.path()).await;
    assert_eq!(code(fenced(&hq, 1, "hq", power_on()).await), "FS-AGENT-NOT-WELCOME");
    hq.serve_host("a", "lab", &host(folder.path()));
    let off = TaskSpec::PowerOff { host: name("lab"), vm: vm("web") };
    assert_eq!(fenced(&hq, 5, "hq", off).await, Outcome::Done);
    assert_eq!(code(fenced(&hq, 4, "hq", power_on()).await), "FS-AGENT-STALE-EPOCH");
    assert_eq!(code(fenced(&hq, 5, "dr", power_on()).await), "FS-AGENT-EPOCH-CONFLICT");
    agent.stop().await.unwrap();
    let agent = crate::support::agent(&hq, "a", folder.path()).await;
    assert_eq!(code(fenced(&hq, 4, "hq", power_on()).await), "FS-AGENT-STALE-EPOCH");
    assert_eq!(code(hq.done("a", power_on()).await), "FS-AGENT-STALE-EPOCH", "an order without an epoch");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_on_after_the_receiving_agent_was_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::new();
    let hq = Control::start("hq", &bus).await;
    let source = crate::support::agent(&hq, "a", &folder.path().join("a")).await;
    let target = crate::support::agent(&hq, "b", &folder.path().join("b")).await;
    let image = host(folder.path()).join("web/system.raw");
    hq.serve_host("a", "lab", &folder.path().join("host"));
    let there = folder.path().join("host2");
    std::fs::create_dir(&there).unwrap();
    hq.serve_host("b", "lab2", &there);

    let size = ByteCount(std::fs::metadata(&image).unwrap().len());
    let disk_facts = DiskFacts { name: disk("system.raw"), size };
    let sink =
        DiskSink::ReplicaStore { host: name("lab2"), replica: name("web"), point: point("r1"), disk: disk_facts };
    let receive = hq.order("b", TaskSpec::ReceiveDisk { peer: source.fingerprint(), sink });
    hq.until("it waits for its sender", |_| (target.metrics().counts().started == 1).then_some(())).await;
    let endpoint = target.endpoint().clone();
    target.stop().await.unwrap();
    let peer = endpoint.clone();
    let source_disk = disk_of("lab", "web");
    let send =
        TaskSpec::SendDisk { source: source_disk, snapshot: None, peer, receive: receive.clone(), digests: None };
    let again = send.clone();
    let send = hq.order("a", send);
    hq.until("the sender has begun", |_| (source.metrics().counts().started == 1).then_some(())).await;

    let target = crate::support::agent(&hq, "b", &folder.path().join("b")).await;
    assert_eq!(*target.endpoint(), endpoint, "the same certificate and, though any port would do, the same port");
    let sent = hq.outcome(&send).await;
    assert!(matches!(sent, Outcome::DiskSent { .. }), "{sent:?}");
    let received = hq.outcome(&receive).await;
    assert!(matches!(received, Outcome::DiskReceived { .. }), "{received:?}");
    assert_eq!((hq.times_told(&send), hq.times_told(&receive)), (1, 1));

    // A sender that was killed before it kept the proof comes again, and finds a receiver that was restarted since.
    target.stop().await.unwrap();
    let target = crate::support::agent(&hq, "b", &folder.path().join("b")).await;
    let again = hq.done("a", again).await;
    assert!(matches!(again, Outcome::DiskSent { .. }), "{again:?}");
    source.stop().await.unwrap();
    target.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_has_ended_is_not_done_again_when_it_is_ordered_again() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::new();
    let hq = Control::start("hq", &bus).await;
    let agent = crate::support::agent(&hq, "a", folder.path()).await;
    hq.serve_host("a", "lab", &host(folder.path()));
    let task = hq.order("a", TaskSpec::Discover { host: name("lab") });
    hq.outcome(&task).await;
    agent.stop().await.unwrap();
    let agent = crate::support::agent(&hq, "a", folder.path()).await;
    let order = farshore_schemas::messages::agent::Order {
        task: task.clone(),
        fence: None,
        expires: None,
        spec: TaskSpec::Discover { host: name("lab") },
    };
    let run = farshore_schemas::messages::agent::Command::Run(Box::new(order));
    hq.say("a", farshore_schemas::ids::Kind::Mover, run);
    let next = hq.order("a", TaskSpec::Discover { host: name("lab") });
    hq.outcome(&next).await;
    assert_eq!(hq.times_told(&task), 1);
    assert_eq!(agent.metrics().counts().started, 1, "only the second task was started");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_control_is_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::new();
    let hq = Control::start("hq", &bus).await;
    let agent = crate::support::agent(&hq, "a", folder.path()).await;
    let dr = farshore_schemas::ids::Address::new(&site("dr"), farshore_schemas::ids::Kind::Host, &name("x"));
    let lineage = farshore_schemas::ids::Lineage([9; 16]);
    let body = farshore_schemas::messages::agent::Command::ServeHost {
        host: name("lab"),
        driver: farshore_schemas::messages::host::Driver::Folder { path: "/".into() },
        epochs: Vec::new(),
    };
    let envelope = farshore_schemas::envelope::Envelope {
        from: dr,
        channel: farshore_schemas::envelope::Channel {
            site: site("dr"),
            sender: farshore_schemas::envelope::Sender::Control,
            lineage,
        },
        to: farshore_schemas::ids::Address::new(&site("hq"), farshore_schemas::ids::Kind::Agent, &name("a")),
        number: 1,
        floor: 1,
        id: farshore_schemas::ids::MessageId {
            site: site("dr"),
            lineage,
            seq: farshore_schemas::ids::Seq(1),
            index: 0,
        },
        sent: farshore_schemas::units::Hlc::default(),
        expires: None,
        supersede: None,
        principal: "test".into(),
        trace: None,
        body: Some(farshore_schemas::messages::Message::Agent(body)),
    };
    let wire = farshore_schemas::envelope::Wire::Deliver(Box::new(envelope.clone()));
    farshore_bus::send_wire(&bus, &farshore_schemas::subjects::inbox(&envelope.to), &wire).unwrap();
    let refused = || agent.metrics().counts().refused_messages;
    hq.until("it is refused", |_| (refused() == 1).then_some(())).await;
    let discover = hq.done("a", TaskSpec::Discover { host: name("lab") }).await;
    assert_eq!(code(discover), "FS-AGENT-NOT-WELCOME");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_used_folder_are_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::new();
    let hq = Control::start("hq", &bus).await;
    let agent = crate::support::agent(&hq, "a", folder.path()).await;
    let begin = |config| Agent::start(config, Arc::new(bus.clone()));
    let used = begin(config("hq", "a", folder.path())).await.unwrap_err();
    assert!(matches!(used, AgentError::Locked { .. }) && used.to_string().starts_with("FS-AGENT-LOCKED"), "{used}");
    let mut taken = config("hq", "b", folder.path());
    taken.listen = agent.listening();
    let taken = begin(taken).await.unwrap_err();
    assert!(matches!(taken, AgentError::PortInUse { .. }), "{taken}");
    assert!(taken.to_string().starts_with("FS-AGENT-PORT-IN-USE"));
    agent.stop().await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("secrets/agent-a.pem")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    crate::support::agent(&hq, "a", folder.path()).await.stop().await.unwrap();
}
