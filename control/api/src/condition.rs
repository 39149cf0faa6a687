//! How a site is, as operators see it: how its control is, which movers are there, and what its actors know to be wrong or wait
//! for. All of it is read from memories and from what the control hears; nothing is kept here.

use farshore_core::repository::LogKept;
use farshore_core::{host, mover, repository};
use farshore_kernel::entity::Memory;
use farshore_runtime::handle::{AgentHeard, Status};
use farshore_schemas::codec;
use farshore_schemas::ids::{Kind, Lineage, Name, Seq, VmName};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::host::{Command, Driver};
use farshore_schemas::messages::repository::Work;
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The control.
    #[serde(flatten)]
    pub control: Status,
    /// Every mover that the site defines.
    pub movers: Vec<MoverThere>,
    /// What is wrong and mends itself only if somebody does something about it.
    pub troubles: Vec<Trouble>,
    /// How far the site's log is safe, per repository that keeps a copy of it.
    pub log_copies: Vec<LogSafe>,
    /// VMs that are started once their replicas have said that they may run.
    pub questions: Vec<Asked>,
}

/// Whether a mover's agent is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoverThere {
    /// The mover, and its agent.
    pub mover: Name,
    /// Whether its agent was heard lately.
    pub connected: bool,
    /// When it was last heard, or last came when this control has not heard it yet; none if it never came.
    pub heard: Option<Timestamp>,
    /// Hosts and repositories that wait for it when it is not there, as `host/NAME`.
    pub serves: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// With what, as `host/NAME`.
    pub with: String,
    /// Its folder.
    pub folder: String,
    /// Since when it is known.
    pub at: Timestamp,
    /// A stable code.
    pub code: String,
    /// What happened, and why.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// How far the site's log is safe in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSafe {
    /// The repository, as `repository/NAME`.
    pub with: String,
    /// The last frame that is there, durable, as far as is known; none before the first shipment.
    pub kept: Option<LogKept>,
    /// The frame up to which more is ordered and not there yet.
    pub owed: Option<Seq>,
}

/// A VM that waits for leave to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its host.
    pub host: Name,
    /// The VM.
    pub vm: VmName,
    /// The replicas that have not said yes, as `site:replica/NAME`.
    pub awaited: Vec<String>,
    /// When they are asked again.
    pub again: Timestamp,
}

impl Condition {
    /// From the control's status and the memories of its movers, hosts and repositories.
    pub fn of(control: Status, memories: &[Memory]) -> Condition {
        let (movers, troubles, log_copies, questions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut condition = Condition { control, movers, troubles, log_copies, questions };
        for memory in memories {
            let name = &memory.actor.name;
            if memory.actor.kind == Kind::Mover
                && let Ok(mover::State::Defined(mover)) = codec::decode_checked(&memory.state)
            {
                condition.movers.push(there(name, &mover, &condition.control.agents));
            }
            if memory.actor.kind == Kind::Host
                && let Ok(host::State::Defined(host)) = codec::decode_checked(&memory.state)
            {
                condition.troubles.extend(trouble(name, &host));
                condition.questions.extend(host.asked.iter().map(|(vm, question)| asked(name, vm, question)));
            }
            if memory.actor.kind == Kind::Repository
                && let Ok(repository::State::Defined(repository)) = codec::decode_checked(&memory.state)
            {
                condition
                    .troubles
                    .extend(log_not_kept(name, &repository).into_iter().chain(log_gap(name, &repository)));
                condition.log_copies.extend(log_safe(name, &repository, condition.control.lineage));
            }
        }
        condition
    }
}

fn there(name: &Name, mover: &mover::Defined, agents: &[AgentHeard]) -> MoverThere {
    let heard = agents.iter().find(|agent| agent.agent == *name);
    MoverThere {
        mover: name.clone(),
        connected: heard.is_some_and(|agent| agent.there),
        heard: heard.map(|agent| agent.heard).or(mover.agent.as_ref().map(|agent| agent.seen)),
        serves: mover.registered.iter().map(|who| who.entity.to_string()).collect(),
    }
}

fn trouble(name: &Name, host: &host::Defined) -> Option<Trouble> {
    let Driver::Folder { path } = &host.spec.driver;
    let host::ListingFailed { failure, at } = host.listing_failed.clone()?;
    Some(Trouble {
        with: format!("host/{name}"),
        folder: path.clone(),
        at,
        code: failure.code,
        message: failure.message,
        advice: failure.advice,
    })
}

/// Nothing for a repository that was never to have a copy.
fn log_safe(name: &Name, repository: &repository::Defined, lineage: Lineage) -> Option<LogSafe> {
    let kept = repository.log.kept.clone();
    let ordered = repository
        .orders
        .open
        .values()
        .filter_map(|open| if let Work::KeepLog { least } = open.work { Some(least) } else { None });
    let reached = kept.as_ref().filter(|kept| kept.lineage == lineage).map(|kept| kept.seq);
    let owed = ordered.chain(repository.log.owed).max().filter(|least| Some(*least) > reached);
    (kept.is_some() || owed.is_some()).then(|| LogSafe { with: format!("repository/{name}"), kept, owed })
}

fn log_not_kept(name: &Name, repository: &repository::Defined) -> Option<Trouble> {
    let repository::LogNotKept { failure, at, again: _ } = repository.log.failed.clone()?;
    Some(Trouble {
        with: format!("repository/{name}"),
        folder: repository.spec.path.clone(),
        at,
        code: failure.code,
        message: format!("the site's log is not kept there: {}", failure.message),
        advice: failure.advice,
    })
}

/// Frames of the log that are safe nowhere but where the operator has put them.
fn log_gap(name: &Name, repository: &repository::Defined) -> Option<Trouble> {
    let LogKept { missing, at, .. } = repository.log.kept.as_ref().filter(|kept| kept.missing.frames > 0)?;
    let stretches: Vec<String> = missing.stretches.iter().map(|(first, last)| format!("{first} to {last}")).collect();
    let more = if missing.stretches.len() < 5 { "" } else { " and maybe others" };
    Some(Trouble {
        with: format!("repository/{name}"),
        folder: repository.spec.path.clone(),
        at: *at,
        code: "FS-REPO-LOG-GAP".to_owned(),
        message: format!(
            "{} frames of the site's log are damaged or missing there, and the log has archived them: {}{more}",
            missing.frames,
            stretches.join(", ")
        ),
        advice: "put the archived segments back into the log's folder until the next point, or let another repository of this \
                 site keep the log"
            .to_owned(),
    })
}

fn asked(host: &Name, vm: &VmName, question: &host::Question) -> Asked {
    Asked {
        host: host.clone(),
        vm: vm.clone(),
        awaited: question.awaited.iter().map(ToString::to_string).collect(),
        again: question.again,
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let awaited = self.awaited.join(" and ");
        write!(f, "the VM {} is started once {awaited} has said that it may run on the host {}", self.vm, self.host)
    }
}

/// The VM that a command wants to run.
pub(crate) fn starts(message: &Message) -> Option<&VmName> {
    if let Message::Host(Command::PowerOn { vm, forced: _ }) = message { Some(vm) } else { None }
}

/// What a VM's start waits for, by its host's memory.
pub(crate) fn waits(memory: &Memory, vm: &VmName) -> Option<String> {
    let Ok(host::State::Defined(host)) = codec::decode_checked(&memory.state) else { return None };
    host.asked.get(vm).map(|question| asked(&memory.actor.name, vm, question).to_string())
}
