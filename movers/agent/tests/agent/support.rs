//! A small control that says numbered messages to agents, acks what they say, and waits for outcomes.

use farshore_agent::{Agent, AgentConfig};
use farshore_bus::{Bus, LocalBus, send_wire};
use farshore_schemas::envelope::{Channel, Envelope, Sender, Wire};
use farshore_schemas::ids::{
    Address, DiskName, Kind, Lineage, MessageId, Name, PointId, Seq, SiteName, TaskId, VmName, VmRef,
};
use farshore_schemas::messages::agent::{Command, DiskRef, Order, Outcome, TaskSpec};
use farshore_schemas::messages::host::Driver;
use farshore_schemas::messages::{Epoch, Message, host, mover, replica, repository, session};
use farshore_schemas::subjects;
use farshore_schemas::units::{Hlc, Timestamp};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// Far beyond what anything here takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}
pub(crate) fn site(text: &str) -> SiteName {
    SiteName::parse(text).unwrap()
}
pub(crate) fn vm(text: &str) -> VmName {
    VmName::parse(text).unwrap()
}
pub(crate) fn disk(text: &str) -> DiskName {
    DiskName::parse(text).unwrap()
}
pub(crate) fn point(text: &str) -> PointId {
    PointId(name(text))
}
pub(crate) fn origin() -> VmRef {
    VmRef { site: site("hq"), host: name("lab"), vm: vm("web") }
}
pub(crate) fn epoch(counter: u64, at: &str) -> Epoch {
    Epoch { counter, site: site(at), frame: Seq(1) }
}
pub(crate) fn disk_of(host: &str, of: &str) -> DiskRef {
    DiskRef { host: name(host), vm: vm(of), disk: disk("system.raw") }
}

#[derive(Default)]
struct State {
    numbers: BTreeMap<Address, u64>,
    unacked: BTreeMap<(Address, u64), Envelope>,
    marks: BTreeMap<(Lineage, Address), u64>,
    tasks: u64,
    outcomes: BTreeMap<TaskId, Vec<Outcome>>,
    hellos: Vec<Name>,
}

/// The control of one site.
pub(crate) struct Control {
    pub(crate) site: SiteName,
    bus: LocalBus,
    lineage: Lineage,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Control {
    pub(crate) async fn start(at: &str, bus: &LocalBus) -> Arc<Control> {
        let control = Arc::new(Control {
            site: site(at),
            bus: bus.clone(),
            lineage: Lineage(*b"a control's line"),
            state: Arc::default(),
            changed: watch::Sender::new(()),
        });
        let capacity = NonZeroUsize::new(1024).unwrap();
        let mut inbox = bus.subscribe(&format!("fs1.{at}.*.*"), capacity).await.unwrap();
        let pump = Arc::downgrade(&control);
        tokio::spawn(async move {
            loop {
                let next = tokio::time::timeout(Duration::from_millis(100), inbox.next_wire()).await;
                let Some(control) = pump.upgrade() else { return };
                match next {
                    Ok(Some((_, wire))) => control.take(wire.unwrap()),
                    Ok(None) => return,
                    Err(_) => control.repeat(),
                }
            }
        });
        control
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn repeat(&self) {
        let unacked: Vec<Envelope> = self.state().unacked.values().cloned().collect();
        for envelope in unacked {
            self.put(&envelope);
        }
    }

    fn put(&self, envelope: &Envelope) {
        let _ = send_wire(&self.bus, &subjects::inbox(&envelope.to), &Wire::Deliver(Box::new(envelope.clone())));
    }

    fn take(&self, wire: Wire) {
        match wire {
            Wire::Deliver(envelope) if envelope.to.entity.kind != Kind::Agent => {
                let key = (envelope.channel.lineage, envelope.to.clone());
                let at = self.state().marks.get(&key).copied().unwrap_or(0);
                let number = if envelope.number == at + 1 { at + 1 } else { at };
                if number > at {
                    self.state().marks.insert(key, number);
                    self.heard(&envelope);
                }
                let ack = Wire::Ack { channel: envelope.channel.clone(), receiver: envelope.to.clone(), number };
                let _ = send_wire(&self.bus, &subjects::acks(&envelope.channel.site, &envelope.channel.sender), &ack);
            }
            Wire::Ack { channel, receiver, number } if channel.sender == Sender::Control => {
                self.state().unacked.retain(|(to, at), _| *to != receiver || *at > number);
            }
            Wire::Deliver(_) | Wire::Ack { .. } | Wire::Probe { .. } | Wire::Progress { .. } => {}
            Wire::Fork { .. } => panic!("an agent saw a fork"),
        }
        self.changed.send_replace(());
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an agent says nothing else, whatever is added")]
    fn heard(&self, envelope: &Envelope) {
        match envelope.body.clone().unwrap() {
            Message::Mover(mover::Command::Hello { incarnation, endpoint, .. }) => {
                self.say(endpoint.agent.as_str(), Kind::Mover, Command::Welcome { incarnation });
                self.state().hellos.push(endpoint.agent);
            }
            Message::Host(host::Command::TaskEnded { task, outcome })
            | Message::Mover(mover::Command::TaskEnded { task, outcome })
            | Message::Repository(repository::Command::TaskEnded { task, outcome })
            | Message::Session(session::Command::TaskEnded { task, outcome })
            | Message::Replica(replica::Command::TaskEnded { task, outcome }) => {
                self.state().outcomes.entry(task).or_default().push(outcome);
            }
            // What a host's actor makes of the epochs that its agent remembers is decided in control, not here.
            Message::Host(host::Command::AgentEpochs { .. }) => {}
            other => panic!("an agent said {other:?}"),
        }
    }

    /// Says something to an agent, numbered.
    pub(crate) fn say(&self, agent: &str, from: Kind, command: Command) {
        let to = Address::new(&self.site, Kind::Agent, &name(agent));
        let mut state = self.state();
        let number = state.numbers.entry(to.clone()).or_default();
        *number += 1;
        let number = *number;
        let envelope = Envelope {
            from: Address::new(&self.site, from, &name(if from == Kind::Mover { agent } else { "owner" })),
            channel: Channel { site: self.site.clone(), sender: Sender::Control, lineage: self.lineage },
            to: to.clone(),
            number,
            floor: 1,
            id: MessageId { site: self.site.clone(), lineage: self.lineage, seq: Seq(number), index: 0 },
            sent: Hlc::default(),
            expires: None,
            supersede: None,
            principal: "test".into(),
            trace: None,
            body: Some(Message::Agent(command)),
        };
        state.unacked.insert((to, number), envelope.clone());
        drop(state);
        self.put(&envelope);
    }

    pub(crate) fn task(&self) -> TaskId {
        let mut state = self.state();
        state.tasks += 1;
        TaskId {
            owner: Address::new(&self.site, Kind::Session, &name("s1")),
            lineage: self.lineage,
            ordinal: state.tasks,
        }
    }

    pub(crate) fn order(&self, agent: &str, spec: TaskSpec) -> TaskId {
        self.order_fenced(agent, None, spec)
    }

    pub(crate) fn order_fenced(&self, agent: &str, fence: Option<(VmRef, Epoch)>, spec: TaskSpec) -> TaskId {
        let task = self.task();
        let order = Order { task: task.clone(), fence, expires: None, spec };
        self.say(agent, Kind::Mover, Command::Run(Box::new(order)));
        task
    }

    pub(crate) fn serve_host(&self, agent: &str, host: &str, folder: &Path) {
        let driver = Driver::Folder { path: folder.to_str().unwrap().to_owned() };
        self.say(agent, Kind::Host, Command::ServeHost { host: name(host), driver, epochs: Vec::new() });
    }

    pub(crate) fn serve_repository(&self, agent: &str, repository: &str, folder: &Path) {
        let path = folder.to_str().unwrap().to_owned();
        let passphrase_file = folder.with_extension("pass");
        let passphrase_file = passphrase_file.exists().then(|| passphrase_file.to_str().unwrap().to_owned());
        let (repository, lineage) = (name(repository), self.lineage);
        let command = Command::ServeRepository {
            repository,
            path,
            passphrase_file,
            lineage,
            formerly: Vec::new(),
            adopted: None,
        };
        self.say(agent, Kind::Repository, command);
    }

    /// Waits until something holds.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Control) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                // Counters of agents change without a message: look again soon in any case.
                let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// The outcomes of a task, once it has ended.
    pub(crate) async fn outcomes(&self, task: &TaskId) -> Vec<Outcome> {
        let open = |outcome: &Outcome| matches!(outcome, Outcome::Inventory { last: false, .. });
        self.until(&format!("the end of {task}"), |control| {
            let state = control.state();
            state.outcomes.get(task).filter(|all| all.last().is_some_and(|last| !open(last))).cloned()
        })
        .await
    }

    pub(crate) async fn outcome(&self, task: &TaskId) -> Outcome {
        self.outcomes(task).await.pop().unwrap()
    }

    /// Orders and waits.
    pub(crate) async fn done(&self, agent: &str, spec: TaskSpec) -> Outcome {
        let task = self.order(agent, spec);
        self.outcome(&task).await
    }

    pub(crate) fn times_told(&self, task: &TaskId) -> usize {
        self.state().outcomes.get(task).map_or(0, Vec::len)
    }
}

pub(crate) fn config(at: &str, agent: &str, data: &Path) -> AgentConfig {
    AgentConfig {
        site: site(at),
        name: name(agent),
        data: data.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertise: "127.0.0.1:0".into(),
        guest_program: "/nowhere/farshore".into(),
        slots: 4,
    }
}

/// Starts an agent, and waits until it was welcomed.
pub(crate) async fn agent(control: &Control, called: &str, data: &Path) -> Agent {
    start(control, config(control.site.as_str(), called, data)).await
}

pub(crate) async fn start(control: &Control, config: AgentConfig) -> Agent {
    let called = config.name.clone();
    let greeted = |control: &Control| control.state().hellos.iter().filter(|hello| **hello == called).count();
    let before = greeted(control);
    let agent = Agent::start(config, Arc::new(control.bus.clone())).await.unwrap();
    control.until("its hello", |control| (greeted(control) > before).then_some(())).await;
    agent
}

/// Content that does not compress, following from `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; length];
    reader.fill(&mut bytes);
    bytes
}

/// A VM with one sparse disk of 8 MiB and a bit: noise in the first 2 MiB and at 6 MiB, holes elsewhere.
pub(crate) fn make_vm(host: &Path, called: &str) -> std::path::PathBuf {
    use std::os::unix::fs::FileExt;
    let folder = host.join(called);
    std::fs::create_dir_all(&folder).unwrap();
    let image = folder.join("system.raw");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(8 * 1024 * 1024 + 512).unwrap();
    file.write_all_at(&noise(1, 2 * 1024 * 1024), 0).unwrap();
    file.write_all_at(&noise(2, 300_000), 6 * 1024 * 1024).unwrap();
    image
}

/// Overwrites whole blocks of an image.
pub(crate) fn change(image: &Path, blocks: &[u64], seed: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(image).unwrap();
    for block in blocks {
        file.write_all_at(&noise(seed + block, 4096), block * 4096).unwrap();
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp(1_800_000_000_000)
}
