//! What all threads of the rig share: both sites' APIs, host folders and processes, and waits for what an operator waits for.

use super::Wrong;
use super::api::Api;
use super::disks::{Hashes, Witness};
use super::finding::{Findings, count};
use super::rig::Rig;
use farshore_core::{host, job, plan, replica, session};
use farshore_hosts::FolderHost;
use farshore_schemas::ids::{Kind, Name, PointId, SiteName, VmName, VmRef};
use farshore_schemas::messages::host::Work;
use farshore_schemas::messages::replica::Rest;
use farshore_schemas::messages::{Message, SessionResult, job as job_messages};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as stuck. Longer than the product's own waits between two tries.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(40);

/// A VM that is protected.
pub(crate) struct Vm {
    pub(crate) name: VmName,
    pub(crate) origin: VmRef,
    pub(crate) replica: Name,
    pub(crate) working: VmName,
    /// Its plan, of one step.
    pub(crate) plan: Name,
    /// The job that backs it up while it is off.
    pub(crate) cold: Name,
}

/// See the module.
pub(crate) struct World {
    pub(crate) hq: Api,
    pub(crate) dr: Api,
    pub(crate) hq_host: FolderHost,
    pub(crate) dr_host: FolderHost,
    pub(crate) rig: Mutex<Rig>,
    pub(crate) witness: Witness,
    pub(crate) findings: Findings,
    /// Restore points of VMs that were off, and what their disks held.
    pub(crate) cold: Mutex<Vec<(VmRef, PointId, Hashes)>>,
    /// Enough processes were killed: operators begin nothing more.
    pub(crate) enough: AtomicBool,
    /// Held by who has taken hq away.
    pub(crate) loss: Mutex<()>,
}

/// A legal name.
pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("the rig's names are legal")
}

/// The site of the production VMs.
pub(crate) fn hq() -> SiteName {
    SiteName::parse("hq").expect("a legal name")
}

/// A lock whose holder panicked still guards whole values here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks until `look` finds what is wanted.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>, Wrong>) -> Result<T, Wrong> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(LOOK);
    }
}

impl World {
    pub(crate) fn enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed) || self.findings.violations() > 0
    }

    /// Reads all stamps that there are now.
    pub(crate) fn look(&self) {
        let own = |vm: &VmName| VmRef { site: hq(), host: name("hq-host"), vm: vm.clone() };
        self.witness.look([&self.hq_host, &self.dr_host], &own);
    }

    /// Ends every guest.
    pub(crate) fn power_off(&self) {
        for host in [&self.hq_host, &self.dr_host] {
            for facts in host.list().map(|listing| listing.vms).unwrap_or_default() {
                let _off = host.power_off(&facts.vm);
            }
        }
    }

    /// A host that is defined.
    pub(crate) fn host(&self, api: &Api, name: &Name) -> Result<Option<Box<host::Defined>>, Wrong> {
        Ok(match api.state::<host::State>(Kind::Host, name)? {
            Some(host::State::Defined(defined)) => Some(defined),
            Some(host::State::Undefined { .. }) | None => None,
        })
    }

    /// A replica, once it exists.
    pub(crate) fn replica(&self, vm: &Vm) -> Result<Option<Box<replica::Known>>, Wrong> {
        Ok(match self.dr.state::<replica::State>(Kind::Replica, &vm.replica)? {
            Some(replica::State::Known(known)) => Some(known),
            Some(replica::State::New) | None => None,
        })
    }

    /// Waits until a replica rests; says where.
    pub(crate) fn rest(&self, vm: &Vm) -> Result<Rest, Wrong> {
        let mut last = None;
        let rest = until(&format!("replica {} to rest", vm.replica), || {
            let phase = self.replica(vm)?.map(|known| known.phase);
            Ok(match &phase {
                Some(replica::Phase::Rest { rest, .. }) => Some(*rest),
                Some(replica::Phase::Processing(_) | replica::Phase::Working(_)) | None => {
                    last = phase;
                    None
                }
            })
        });
        rest.map_err(|wrong| format!("{wrong}; it stands at {last:?}").into())
    }

    /// Whether a host has an order that it waits for.
    pub(crate) fn host_works(&self, api: &Api, host: &Name, what: impl Fn(&Work) -> bool) -> Result<bool, Wrong> {
        Ok(self.host(api, host)?.is_none_or(|host| host.orders.open.values().any(|open| what(&open.work))))
    }

    /// Has a plan do something with its group and waits for the end of it. A refusal ends it at once.
    pub(crate) fn run_plan(&self, plan: &Name, message: &Message) -> Result<(), Wrong> {
        if self.dr.command(Kind::Plan, plan, message)?.is_err() {
            return Ok(());
        }
        until(&format!("the end of plan {plan}"), || {
            Ok(match self.dr.state::<plan::State>(Kind::Plan, plan)? {
                Some(plan::State::Running { .. }) => None,
                Some(plan::State::Idle { .. } | plan::State::New) | None => Some(()),
            })
        })
    }

    /// The session that a job runs or ran last.
    fn session(&self, api: &Api, job: &Name) -> Result<Option<Name>, Wrong> {
        Ok(match api.state::<job::State>(Kind::Job, job)? {
            Some(job::State::Defined(job)) => job.running.map(|run| run.session).or(job.last.map(|last| last.session)),
            Some(job::State::New | job::State::Removed { .. }) | None => None,
        })
    }

    /// Runs a job and waits for its end; none when it was refused.
    pub(crate) fn run_job(&self, api: &Api, job: &Name) -> Result<Option<Box<session::Run>>, Wrong> {
        let run = Message::Job(job_messages::Command::Run);
        match api.command(Kind::Job, job, &run)? {
            Ok(()) => self.job_end(api, job).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Waits for the end of a job's run: of its session, and the job knows.
    pub(crate) fn job_end(&self, api: &Api, job: &Name) -> Result<Box<session::Run>, Wrong> {
        let session = self.session(api, job)?.ok_or_else(|| format!("job {job} names no session"))?;
        let mut last = None;
        let ended = until(&format!("the end of session {session}"), || {
            let Some(session::State::Begun(run)) = api.state::<session::State>(Kind::Session, &session)? else {
                return Ok(None);
            };
            if matches!(run.phase, session::Phase::Stopped { .. }) {
                return Ok(Some(run));
            }
            last = Some(run);
            Ok(None)
        });
        let run = ended.map_err(|wrong| format!("{wrong}; it stands at {last:?}"))?;
        count(&self.findings.jobs);
        if !matches!(run.phase, session::Phase::Stopped { result: SessionResult::Success, .. }) {
            count(&self.findings.jobs_failed);
        }
        until(&format!("job {job} to know that it has ended"), || {
            let Some(job::State::Defined(state)) = api.state::<job::State>(Kind::Job, job)? else { return Ok(None) };
            Ok(state.running.is_none_or(|running| running.session != session).then_some(()))
        })?;
        Ok(run)
    }
}

/// Whether a run has succeeded, and what failed otherwise.
pub(crate) fn success(run: &session::Run) -> Result<(), Wrong> {
    match &run.phase {
        session::Phase::Stopped { result: SessionResult::Success, .. } => Ok(()),
        phase @ (session::Phase::Starting { .. }
        | session::Phase::Working
        | session::Phase::RetryWait { .. }
        | session::Phase::Stopping
        | session::Phase::Stopped { .. }) => {
            let vms: Vec<_> = run.vms.iter().map(|(name, vm)| format!("{name}: {:?}", vm.step)).collect();
            Err(format!("job {} ended with {phase:?}, {:?}: {}", run.job, run.failure, vms.join("; ")).into())
        }
    }
}
