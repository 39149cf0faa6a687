//! The demo's story: two sites, VMs that are backed up and replicated, the loss of a site, failover by plan, the return of
//! the site, failback, commit, and the restore of an old point. Afterwards everything is healed and must come to rest.

use crate::choices::Draw;
use crate::layout::{self, AGENTS, DR, HQ};
use crate::scenario::{by_override, replica_address};
use crate::sim::{Event, Sim};
use crate::story::Goal;
use farshore_core::{host, job, plan, replica, repository, session};
use farshore_schemas::ids::{Address, Kind, PointId};
use farshore_schemas::messages::host::{Driver, HostSpec};
use farshore_schemas::messages::job::{JobSpec, Retry, Schedule, Work};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::mover::{MoverSpec, Role};
use farshore_schemas::messages::plan::{Action, PlanSpec, Step};
use farshore_schemas::messages::replica::{PointChoice, Rest};
use farshore_schemas::messages::repository::{RepositorySpec, TRASH_HOLD};
use farshore_schemas::messages::site::SiteSpec;
use farshore_schemas::messages::{self, Message, SessionResult};
use farshore_schemas::units::{Millis, Timestamp};

fn at(site: usize, kind: Kind, name: &str) -> Address {
    layout::address(site, kind, name)
}

fn nightly() -> Address {
    at(HQ, Kind::Job, "nightly")
}

fn mirror() -> Address {
    at(DR, Kind::Job, "mirror")
}

fn evacuate() -> Address {
    at(DR, Kind::Plan, "evacuate")
}

fn job_spec(work: Work, keep: u32) -> JobSpec {
    JobSpec {
        work,
        schedule: Schedule::Manual,
        retry: Retry { attempts: 2, wait: Millis::from_mins(1) },
        keep: Keep::newest(keep),
    }
}

/// What the operator applies.
fn definitions(sim: &mut Sim) -> Vec<(&'static str, Address, Message)> {
    let keep = u32::try_from(sim.choices.between(Draw::Knob, 1, 4)).expect("few");
    let concurrency = u32::try_from(sim.choices.between(Draw::Knob, 1, 3)).expect("few");
    let mut all = Vec::new();
    for (site, peer) in [(HQ, DR), (DR, HQ)] {
        let spec = SiteSpec { peers: vec![layout::site(peer)] };
        let define = Message::Site(messages::site::Command::Define(spec));
        all.push(("define a site", at(site, Kind::Site, "site"), define));
    }
    for (index, (site, name)) in AGENTS.iter().enumerate() {
        let roles = if index == 1 { vec![Role::Repository] } else { vec![Role::Source, Role::Target] };
        let slots = u32::try_from(sim.choices.between(Draw::Knob, 1, 4)).expect("few");
        let define = Message::Mover(messages::mover::Command::Define(MoverSpec { roles, slots }));
        all.push(("define a mover", at(*site, Kind::Mover, name), define));
    }
    for (site, name, mover) in [(HQ, "host-a", "mover-a"), (DR, "host-b", "mover-b")] {
        let driver = Driver::Folder { path: format!("/{name}") };
        let spec = HostSpec { mover: layout::name(mover), driver, discovery_every: Millis::from_mins(240) };
        let define = Message::Host(messages::host::Command::Define(spec));
        all.push(("define a host", at(site, Kind::Host, name), define));
    }
    let holds = [Millis(0), Millis::from_mins(5), Millis::from_mins(60), TRASH_HOLD];
    let trash_hold = holds[keep as usize % holds.len()];
    let spec = RepositorySpec {
        mover: layout::name("mover-v"),
        path: "/vault".to_owned(),
        passphrase_file: None,
        trash_hold,
        immutable: None,
    };
    let define = Message::Repository(messages::repository::Command::Define(spec));
    all.push(("define the repository", at(HQ, Kind::Repository, "vault"), define));
    let backup = Work::Backup { host: layout::name("host-a"), vms: Vec::new(), repository: layout::name("vault") };
    let define = Message::Job(messages::job::Command::Define(job_spec(backup, keep)));
    all.push(("define the backup job", nightly(), define));
    let replication = Work::Replication {
        source_site: layout::site(HQ),
        source_host: layout::name("host-a"),
        vms: (0..sim.vms).map(layout::vm).collect(),
        digests: layout::name("vault"),
        target_host: layout::name("host-b"),
    };
    let define = Message::Job(messages::job::Command::Define(job_spec(replication, keep)));
    all.push(("define the replication job", mirror(), define));
    let steps = (0..sim.vms).map(|n| Step { replica: replica_address(n).entity.name, delay: Millis(500) }).collect();
    let define = Message::Plan(messages::plan::Command::Define(PlanSpec { steps, concurrency }));
    all.push(("define the plan", evacuate(), define));
    all
}

/// The definitions as goals.
fn define(sim: &Sim) -> Vec<Goal> {
    sim.definitions.iter().map(|(what, to, message)| Goal::tell(what, to.clone(), message.clone())).collect()
}

/// The last run of a job that ended after `since`, if it was a success.
fn succeeded(sim: &Sim, job: &Address, since: Timestamp) -> bool {
    match sim.state::<job::State>(job) {
        Some(job::State::Defined(job)) => {
            let last = job.last.filter(|last| last.ended > since);
            job.running.is_none() && last.is_some_and(|last| last.result == SessionResult::Success)
        }
        Some(job::State::New | job::State::Removed { .. }) | None => false,
    }
}

fn run_job(what: &str, job: Address) -> Goal {
    let told = job.clone();
    Goal::reach(what, move |sim, since| succeeded(sim, &job, since))
        .by(move |_| vec![(told.clone(), Message::Job(messages::job::Command::Run))])
}

/// Where all replicas stand.
pub(crate) fn rests(sim: &Sim) -> Vec<Option<Rest>> {
    let rest = |n| match sim.state::<replica::State>(&replica_address(n)) {
        Some(replica::State::Known(known)) => match known.phase {
            replica::Phase::Rest { rest, .. } => Some(rest),
            replica::Phase::Processing(_) | replica::Phase::Working(_) => None,
        },
        Some(replica::State::New) | None => None,
    };
    (0..sim.vms).map(rest).collect()
}

fn run_plan(what: &str, action: Action, rest: Rest) -> Goal {
    let forced = (action == Action::Failover).then(by_override);
    let run = messages::plan::Command::Run { action, point: PointChoice::Newest, forced };
    Goal::reach(what, move |sim, _| rests(sim).iter().all(|there| *there == Some(rest)))
        .by(move |_| vec![(evacuate(), Message::Plan(run.clone()))])
}

fn write_in_guests(sim: &Sim, seed: u64) -> Vec<Goal> {
    let write = |n| {
        let command = messages::host::Command::GuestWrite { vm: layout::vm(n), seed: seed + n as u64 };
        Goal::tell("change a guest", at(HQ, Kind::Host, "host-a"), Message::Host(command))
    };
    (0..sim.vms).map(write).collect()
}

/// Any usable point of the repository.
pub(crate) fn some_point(sim: &Sim) -> Option<PointId> {
    match sim.state::<repository::State>(&at(HQ, Kind::Repository, "vault"))? {
        repository::State::Defined(vault) => vault.points.keys().next().cloned(),
        repository::State::Undefined { .. } => None,
    }
}

/// The whole story.
pub(crate) fn goals(sim: &mut Sim) -> Vec<Goal> {
    sim.definitions = definitions(sim);
    let mut goals = define(sim);
    let count = sim.vms;
    goals.push(Goal::reach("the VMs are found", move |sim, _| match sim.state(&at(HQ, Kind::Host, "host-a")) {
        Some(host::State::Defined(host)) => host.revision > 0 && host.inventory.len() >= count,
        Some(host::State::Undefined { .. }) | None => false,
    }));
    goals.push(run_job("back up", nightly()));
    goals.extend(write_in_guests(sim, 100));
    goals.push(run_job("back up what has changed", nightly()));
    goals.push(run_job("replicate", mirror()));
    goals.extend(write_in_guests(sim, 200));
    goals.push(run_job("back up once more", nightly()));
    goals.push(run_job("replicate what has changed", mirror()));
    let disks_too = sim.choices.below(Draw::Knob, 3) == 0;
    goals.push(Goal::act("hq is lost", move |sim| lose_hq(sim, disks_too)));
    goals.push(run_plan("fail over", Action::Failover, Rest::Failover));
    goals.push(Goal::pass("guests write at dr", 120));
    goals.push(Goal::act("hq returns", hq_returns));
    goals.push(Goal::pass("hq's guests stay down", 90));
    goals.push(run_plan("fail back", Action::Failback, Rest::ReadyToSwitch));
    goals.push(run_plan("switch", Action::Switch, Rest::Failback));
    goals.push(run_plan("commit", Action::Commit, Rest::Ready));
    goals.push(run_job("replicate again", mirror()));
    goals.push(run_job("back up again", nightly()));
    goals.push(restore("restore an old point", 1));
    goals
}

/// hq loses power for good; its VMs' disks may be gone too.
fn lose_hq(sim: &mut Sim, disks_too: bool) {
    // A VM whose replication never came to its end would be gone for good.
    let disks_too = disks_too && (0..sim.vms).all(|n| has_point(sim, n));
    sim.crash_control(HQ, None);
    for agent in (0..AGENTS.len()).filter(|agent| AGENTS[*agent].0 == HQ) {
        sim.crash_agent(agent, None);
        if disks_too {
            sim.agents[agent].disk.replace(Vec::new());
            sim.checks.agent_forgets(agent);
        }
    }
    sim.controls[HQ].life += 1;
    sim.agents.iter_mut().filter(|agent| agent.site() == HQ).for_each(|agent| agent.life += 1);
    sim.world.guests_die(&layout::site(HQ));
    sim.checks.excuse_starts();
    if disks_too && let Some(host) = sim.world.hosts.get_mut(&layout::host_a()) {
        host.vms.clear();
    }
    sim.cut_link(None);
}

fn has_point(sim: &Sim, n: usize) -> bool {
    match sim.state::<replica::State>(&replica_address(n)) {
        Some(replica::State::Known(known)) => !known.points.is_empty(),
        Some(replica::State::New) | None => false,
    }
}

fn hq_returns(sim: &mut Sim) {
    sim.link_comes_back();
    sim.schedule.after(1, Event::ControlStarts { site: HQ, life: sim.controls[HQ].life });
    for agent in (0..AGENTS.len()).filter(|agent| AGENTS[*agent].0 == HQ) {
        let wait = sim.choices.between(Draw::Crash, 1, 20_000);
        sim.schedule.after(wait, Event::AgentStarts { agent, life: sim.agents[agent].life });
    }
}

/// Restores the oldest point of the first VM into a new VM. A restore is made once, so each try is another job.
fn restore(what: &str, first: u64) -> Goal {
    let name = move |sim: &Sim| {
        let tried = (first..).find(|n| {
            let job = at(HQ, Kind::Job, &format!("restore-{n}"));
            !matches!(sim.state::<job::State>(&job), Some(job::State::Defined(_)))
        });
        tried.unwrap_or(first)
    };
    Goal::reach(what, move |sim, since| {
        (first..name(sim)).any(|n| succeeded(sim, &at(HQ, Kind::Job, &format!("restore-{n}")), since))
    })
    .by(move |sim| {
        let Some(repository::State::Defined(vault)) = sim.state(&at(HQ, Kind::Repository, "vault")) else {
            return Vec::new();
        };
        let oldest = vault.points.values().map(|point| &point.facts).min_by_key(|facts| facts.taken);
        let Some(point) = oldest else { return Vec::new() };
        let n = name(sim);
        let work = Work::Restore {
            repository: layout::name("vault"),
            point: point.point.clone(),
            origin: point.vm.clone(),
            host: layout::name("host-a"),
            vm: format!("restored-{n}").parse().expect("a legal name"),
        };
        let define = Message::Job(messages::job::Command::Define(job_spec(work, 1)));
        vec![(at(HQ, Kind::Job, &format!("restore-{n}")), define)]
    })
}

/// After everything was healed: operators bring each replica back to Ready, then everything must work once more.
pub(crate) fn epilogue(sim: &Sim) -> Vec<Goal> {
    // What a log that was put back does not know is applied again: it is kept outside the logs.
    let mut goals = define(sim);
    goals.extend([
        Goal::reach("everything comes to rest", |sim, _| at_rest(sim)),
        Goal::reach("every replica is brought back", |sim, _| (0..sim.vms).all(|n| settled(sim, n)))
            .by(|sim| (0..sim.vms).filter_map(|n| bring_back(sim, n)).collect()),
        run_job("back up after all", nightly()),
        run_job("replicate after all", mirror()),
        restore("restore after all", 100),
        Goal::reach("everything is at rest", |sim, _| at_rest(sim)),
    ]);
    goals
}

fn production_is_there(sim: &Sim, n: usize) -> bool {
    sim.world.hosts.get(&layout::host_a()).is_some_and(|host| host.vms.contains_key(&layout::vm(n)))
}

fn settled(sim: &Sim, n: usize) -> bool {
    match rests(sim)[n] {
        None | Some(Rest::Ready) => production_is_there(sim, n),
        Some(Rest::Failover | Rest::FailedFailover | Rest::ReadyToSwitch | Rest::Failback) => false,
        Some(Rest::PermanentFailover | Rest::Removed) => true,
    }
}

/// Whether the last thing that was tried with a replica failed.
fn failed(sim: &Sim, n: usize) -> bool {
    match sim.state::<replica::State>(&replica_address(n)) {
        Some(replica::State::Known(known)) => match &known.phase {
            replica::Phase::Rest { failure, .. } => failure.is_some(),
            replica::Phase::Processing(_) | replica::Phase::Working(_) => false,
        },
        Some(replica::State::New) | None => false,
    }
}

/// What operators do to have a VM back where it was: also when it was lost before it was failed over, or after its disks
/// had been brought back once.
fn bring_back(sim: &Sim, n: usize) -> Option<(Address, Message)> {
    let command = match rests(sim)[n]? {
        Rest::Ready if production_is_there(sim, n) => return None,
        Rest::Ready => messages::replica::Command::Failover { point: PointChoice::Newest, forced: Some(by_override()) },
        Rest::PermanentFailover | Rest::Removed => return None,
        Rest::Failover => messages::replica::Command::Failback,
        Rest::FailedFailover => messages::replica::Command::UndoFailover,
        Rest::ReadyToSwitch if failed(sim, n) => messages::replica::Command::UndoFailback,
        Rest::ReadyToSwitch => messages::replica::Command::Switch,
        Rest::Failback => messages::replica::Command::CommitFailback,
    };
    Some((replica_address(n), Message::Replica(command)))
}

/// Whether nothing is under way anywhere: no run, no task, no message that someone waits for.
pub(crate) fn at_rest(sim: &Sim) -> bool {
    restless(sim).is_empty()
}

/// What is still under way.
pub(crate) fn restless(sim: &Sim) -> Vec<String> {
    let mut why = Vec::new();
    for control in &sim.controls {
        let Some(live) = &control.live else {
            why.push(format!("control {} is down", control.site));
            continue;
        };
        if !live.is_idle() {
            why.push(format!("control {} has work inside", control.site));
        }
        for (to, count) in live.kernel.sequencer.outbox.waiting() {
            why.push(format!("{count} messages of {} wait for {to}", control.site));
        }
        for entity in live.kernel.entities() {
            let id = entity.id();
            let address = Address { site: control.site.clone(), entity: id.clone() };
            if id.kind == Kind::Session
                && let Some(session::State::Begun(run)) = sim.state::<session::State>(&address)
                && run.result() == SessionResult::None
            {
                why.push(format!("{address} has not ended"));
            }
            if id.kind == Kind::Plan && matches!(sim.state(&address), Some(plan::State::Running { .. })) {
                why.push(format!("{address} runs"));
            }
            if id.kind == Kind::Replica
                && matches!(sim.state(&address), Some(replica::State::Known(known)) if known.rest().is_none() || matches!(known.phase, replica::Phase::Working(_)))
            {
                why.push(format!("{address} has a transition under way"));
            }
        }
    }
    for agent in &sim.agents {
        match &agent.live {
            Some(live) if live.table.unacked() > 0 => why.push(format!("agent {} is not heard", AGENTS[agent.index].1)),
            Some(live) if live.table.open_tasks().count() > 0 => {
                why.push(format!("agent {} has open tasks", AGENTS[agent.index].1));
            }
            Some(_) => {}
            None => why.push(format!("agent {} is down", AGENTS[agent.index].1)),
        }
    }
    why
}
