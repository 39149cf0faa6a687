//! The end of a run: everything comes to rest without help, works once more in good order, and is then checked: disks byte
//! by byte, every restore point, both logs, what was acknowledged, the agents' memories, the stamps.

use super::api::Api;
use super::choices::Choices;
use super::disks::hashes;
use super::finding::count;
use super::jobs::unrest;
use super::operator::{Operator, restore};
use super::world::{Vm, World, lock, name, success, until};
use super::{Plan, Wrong};
use farshore_agent::RecordLog;
use farshore_core::repository;
use farshore_kernel::redecide::redecide;
use farshore_kernel::site::{Depth, Site};
use farshore_log::{LogReader, ReadLog};
use farshore_runtime::handle::FinalState;
use farshore_schemas::frame::Verdict;
use farshore_schemas::ids::{Kind, PointId, Seq, SiteName, TaskId};
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{PointChoice, Rest};
use farshore_schemas::messages::{Message, repository as repository_messages};
use farshore_tasks::Fact;
use std::collections::BTreeMap;
use std::path::Path;

/// What was counted on the way.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) frames: u64,
    pub(crate) tasks: u64,
    pub(crate) points: u64,
}

/// No more kills: everything ends by itself, comes home, and works in good order.
pub(crate) fn come_to_rest(world: &World, plan: &Plan, vms: &[Vm]) -> Result<(), Wrong> {
    let mut operators: Vec<Operator<'_>> =
        (20u64..).zip(vms).map(|(stream, vm)| Operator::new(world, vm, Choices::new(plan.seed, stream))).collect();
    for operator in &mut operators {
        operator.come_home()?;
    }
    at_rest(world)?;
    world.findings.say("everything rests; it must work in good order now");
    for (operator, vm) in operators.iter_mut().zip(vms) {
        operator.cold_backup()?;
        operator.come_home()?;
        let newest = lock(&world.cold).iter().rev().find(|(origin, _, _)| origin == &vm.origin).cloned();
        let held = newest.ok_or_else(|| format!("no backup of {} has succeeded", vm.name))?;
        if !restore(world, &held, &format!("{}-last", vm.name))? {
            world.findings.violation(&format!("{} cannot be restored though nothing is killed any more", vm.name));
        }
    }
    fail_over_once_more(world, vms)?;
    verify_points(world)?;
    at_rest(world)?;
    lock(&world.rig).stop().iter().for_each(|wrong| world.findings.violation(wrong));
    Ok(())
}

fn at_rest(world: &World) -> Result<(), Wrong> {
    let mut last = None;
    let rested = until("everything to rest", || {
        last = unrest(world, &world.hq, &name("hq-host"))?;
        if last.is_none() {
            last = unrest(world, &world.dr, &name("dr-host"))?;
        }
        Ok(last.is_none().then_some(()))
    });
    rested.map_err(|wrong| format!("{wrong}; {}", last.unwrap_or_default()).into())
}

/// A backup and a replication that must succeed, then a planned failover of all: each working VM's disks are what the disks
/// at hq hold.
fn fail_over_once_more(world: &World, vms: &[Vm]) -> Result<(), Wrong> {
    for (api, job) in [(&world.hq, "nightly"), (&world.dr, "offsite")] {
        let run = world.run_job(api, &name(job))?.ok_or_else(|| format!("{job} is refused"))?;
        success(&run).unwrap_or_else(|wrong| world.findings.violation(&wrong.to_string()));
    }
    let act = |action| {
        let run = plan::Command::Run { action, point: PointChoice::Newest, forced: None };
        world.run_plan(&name("all"), &Message::Plan(run))
    };
    act(Action::Failover)?;
    for vm in vms {
        count(&world.findings.failovers);
        let rest = world.rest(vm)?;
        if rest != Rest::Failover {
            world.findings.violation(&format!("replica {} stands at {rest:?} after a planned failover", vm.replica));
            continue;
        }
        let stamps = world.hq_host.stamps_area(&vm.name)?;
        let left = hashes(&world.hq_host, &vm.name, stamps.as_ref())?;
        let runs = hashes(&world.dr_host, &vm.working, stamps.as_ref())?;
        if left != runs {
            world.findings.violation(&format!("{} runs on {runs:?} at dr where hq holds {left:?}", vm.working));
        }
    }
    act(Action::Undo)?;
    for vm in vms {
        world.rest(vm)?;
    }
    Ok(())
}

/// Reads every chunk of every restore point.
fn verify_points(world: &World) -> Result<(), Wrong> {
    let repository = name("hq-repo");
    let points = || -> Result<BTreeMap<PointId, repository::Point>, Wrong> {
        match world.hq.state::<repository::State>(Kind::Repository, &repository)? {
            Some(repository::State::Defined(defined)) => Ok(defined.points),
            Some(repository::State::Undefined { .. }) | None => Err("hq-repo is not defined".into()),
        }
    };
    for point in points()?.into_keys() {
        let verify = repository_messages::Command::Verify { point: point.clone() };
        if let Err(refused) = world.hq.command(Kind::Repository, &repository, &Message::Repository(verify))? {
            return Err(format!("{point} cannot be verified: {} {}", refused.code, refused.message).into());
        }
        let verified = until(&format!("{point} to be verified"), || {
            Ok(points()?.remove(&point).and_then(|point| point.verified))
        })?;
        if verified.damaged > 0 {
            world.findings.violation(&format!("point {point} is damaged: {:?}", verified.damage));
        }
    }
    Ok(())
}

/// Checks what the stopped sites left.
pub(crate) fn check(world: &World) -> Result<Sums, Wrong> {
    let mut sums = Sums::default();
    for api in [&world.hq, &world.dr] {
        let frames = log(api).unwrap_or_else(|wrong| {
            world.findings.violation(&format!("log of {}: {wrong}", api.site));
            0
        });
        sums.frames += frames;
        api.missing(usize::MAX)?.iter().for_each(|missing| world.findings.violation(missing));
        sums.points += points(world, api)?;
        sums.tasks += tasks(world, &api.folder.join(format!("agents/{}-mover/log", api.site)))?;
    }
    world.witness.judge(&world.findings);
    Ok(sums)
}

/// Every byte, the fold against what was in memory, every decision decided again.
fn log(api: &Api) -> Result<u64, Wrong> {
    let report = farshore_log::verify(&api.folder)?;
    if !report.is_clean() {
        return Err(format!("{:?}, lost {:?}", report.problems, report.lost).into());
    }
    let reader = LogReader::open(&api.folder)?;
    let mut frames = reader.frames_from(Seq(1))?;
    let mut both: Option<(Site, Site)> = None;
    while let Some(stored) = frames.next()? {
        let (folded, again) = match &mut both {
            Some(both) => both,
            None => {
                let (name, lineage) = (SiteName::parse(api.site)?, stored.raw.header.lineage);
                both.insert((Site::new(&name, lineage), Site::new(&name, lineage)))
            }
        };
        folded.fold(&stored.raw, stored.hash(), Depth::States)?;
        if let Some(one) = redecide(again, &stored.raw, stored.hash())? {
            return Err(format!("frame {} of {} comes out otherwise: {}", one.seq, one.actor, one.what).into());
        }
    }
    let last: FinalState = serde_json::from_slice(&std::fs::read(api.folder.join("run/final-state.json"))?)?;
    let folded = both.map(|(folded, _)| folded.state_hash());
    if last.seq != reader.tail().0 || Some(last.state) != folded {
        return Err(
            format!("memory ended at frame {} with {}, the log folds to {folded:?}", last.seq, last.state).into()
        );
    }
    Ok(last.seq.0)
}

/// Points of a log: none is added twice, and no frame is poisoned. Gives how many there were.
fn points(world: &World, api: &Api) -> Result<u64, Wrong> {
    let reader = LogReader::open(&api.folder)?;
    let mut frames = reader.frames_from(Seq(1))?;
    let mut seen: BTreeMap<String, Seq> = BTreeMap::new();
    while let Some(stored) = frames.next()? {
        let section = stored.raw.events_section()?;
        if matches!(section.verdict, Verdict::Poisoned) {
            world.findings.violation(&format!("{}: frame {} is poisoned", api.site, stored.seq()));
        }
        for added in added_points(section.actor.kind, &section.events)? {
            let key = format!("{} {added}", section.actor);
            if let Some(first) = seen.insert(key.clone(), stored.seq()) {
                let text = format!("{}: point {key} was added in frame {first} and in {}", api.site, stored.seq());
                world.findings.violation(&text);
            }
        }
    }
    Ok(seen.len() as u64)
}

fn added_points(kind: Kind, events: &[u8]) -> Result<Vec<PointId>, Wrong> {
    use farshore_schemas::codec::decode_checked;
    use farshore_schemas::messages::replica;
    let mut added = Vec::new();
    if kind == Kind::Repository {
        let events: Vec<repository_messages::Event> = decode_checked(events)?;
        for event in events {
            if let repository_messages::Event::PointAdded { point, .. } = event {
                added.push(point.point);
            }
        }
    } else if kind == Kind::Replica {
        let events: Vec<replica::Event> = decode_checked(events)?;
        for event in events {
            if let replica::Event::PointAdded { point, .. } = event {
                added.push(point.point);
            }
        }
    }
    Ok(added)
}

/// An agent's memory: each task was accepted once and ended once at most. Gives how many ended.
fn tasks(world: &World, folder: &Path) -> Result<u64, Wrong> {
    let mut accepted: BTreeMap<TaskId, u64> = BTreeMap::new();
    let mut ended: BTreeMap<TaskId, u64> = BTreeMap::new();
    for record in RecordLog::open(folder)?.records {
        for fact in record.facts {
            if let Fact::Accepted { order, .. } = &fact {
                *accepted.entry(order.task.clone()).or_default() += 1;
            }
            if let Fact::Ended { task, .. } = fact {
                *ended.entry(task).or_default() += 1;
            }
        }
    }
    for (what, tasks) in [("accepted", &accepted), ("ended", &ended)] {
        for (task, times) in tasks.iter().filter(|&(_, &times)| times > 1) {
            world.findings.violation(&format!("{}: task {task} was {what} {times} times", folder.display()));
        }
    }
    if ended.is_empty() {
        world.findings.violation(&format!("{}: the agent remembers no task", folder.display()));
    }
    Ok(ended.len() as u64)
}
