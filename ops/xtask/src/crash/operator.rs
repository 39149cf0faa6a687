//! One operator per VM, who does what its replica's state allows, by chance: writes in the guest, backs it up while it is
//! off, restores, fails over (planned, or after hq was lost), undoes, fails back, switches, commits.

use super::Wrong;
use super::api::Api;
use super::choices::Choices;
use super::disks::hashes;
use super::finding::count;
use super::world::{Vm, World, lock, name, success, until};
use farshore_hosts::FolderHost;
use farshore_schemas::ids::{Kind, Name, VmName};
use farshore_schemas::messages::host::{self, Work};
use farshore_schemas::messages::job::{self, JobSpec, Retry, Schedule, Work as JobWork};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{self, PointChoice, Rest};
use farshore_schemas::messages::{Message, Override};
use farshore_schemas::units::Millis;
use std::time::{Duration, Instant};

/// How long hq stays lost while a failover does not come to its end.
const LOST_AT_MOST: Duration = Duration::from_secs(5);
/// Points of a job that an operator's own backups keep.
pub(crate) const KEEP_COLD: u32 = 50;

/// An operator.
pub(crate) struct Operator<'a> {
    world: &'a World,
    vm: &'a Vm,
    choices: Choices,
    restores: u64,
}

impl<'a> Operator<'a> {
    pub(crate) fn new(world: &'a World, vm: &'a Vm, choices: Choices) -> Operator<'a> {
        Operator { world, vm, choices, restores: 0 }
    }

    /// Works until enough processes were killed.
    pub(crate) fn work(&mut self) -> Result<(), Wrong> {
        while !self.world.enough() {
            if self.world.replica(self.vm)?.is_none() {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            let rest = self.world.rest(self.vm)?;
            self.step(rest)?;
            std::thread::sleep(self.choices.millis(0..400));
        }
        Ok(())
    }

    /// Brings the VM home: its guest at hq, its replica ready.
    pub(crate) fn come_home(&mut self) -> Result<(), Wrong> {
        for _ in 0..12 {
            match self.world.rest(self.vm)? {
                Rest::Ready => return self.power_on(),
                Rest::Failover | Rest::FailedFailover => self.act(Action::Undo, None)?,
                Rest::ReadyToSwitch => self.act(Action::Switch, None)?,
                Rest::Failback => self.act(Action::Commit, None)?,
                rest @ (Rest::PermanentFailover | Rest::Removed) => return Err(format!("it ended at {rest:?}").into()),
            }
        }
        let at = self.world.replica(self.vm)?.map(|known| known.phase);
        Err(format!("replica {} cannot be brought back: {at:?}", self.vm.replica).into())
    }

    fn step(&mut self, rest: Rest) -> Result<(), Wrong> {
        let chance = self.choices.of(0..100);
        match rest {
            Rest::Ready => match chance {
                0..=19 => self.cold_backup(),
                20..=39 => self.restore(),
                40..=64 => self.write_at_hq(),
                65..=84 => self.act(Action::Failover, None),
                _ => self.failover_after_loss(),
            },
            Rest::Failover => match chance {
                0..=29 => self.write(&self.world.dr, &name("dr-host"), &self.vm.working.clone()),
                30..=54 => self.act(Action::Undo, None),
                _ => self.act(Action::Failback, None),
            },
            Rest::ReadyToSwitch if chance < 75 => self.act(Action::Switch, None),
            Rest::Failback if chance < 75 => self.act(Action::Commit, None),
            Rest::ReadyToSwitch | Rest::Failback => self.replica(&replica::Command::UndoFailback),
            Rest::FailedFailover if chance < 50 => self.act(Action::Failover, None),
            Rest::FailedFailover => self.act(Action::Undo, None),
            Rest::PermanentFailover | Rest::Removed => {
                Err(format!("it stands at {rest:?}, which nobody asked for").into())
            }
        }
    }

    /// Does something with the replica, by its plan or directly, and waits until it rests.
    fn act(&mut self, action: Action, forced: Option<Override>) -> Result<(), Wrong> {
        match action {
            Action::Failover => count(&self.world.findings.failovers),
            Action::Switch => count(&self.world.findings.failbacks),
            Action::Undo | Action::Failback | Action::Commit => {}
        }
        if self.choices.percent(50) {
            let run = plan::Command::Run { action, point: PointChoice::Newest, forced };
            self.world.run_plan(&self.vm.plan, &Message::Plan(run))?;
            return self.world.rest(self.vm).map(drop);
        }
        self.replica(&match action {
            Action::Failover => replica::Command::Failover { point: PointChoice::Newest, forced },
            Action::Undo => replica::Command::UndoFailover,
            Action::Failback => replica::Command::Failback,
            Action::Switch => replica::Command::Switch,
            Action::Commit => replica::Command::CommitFailback,
        })
    }

    fn replica(&self, command: &replica::Command) -> Result<(), Wrong> {
        // A refusal is an answer: what came between has changed the state.
        let _answer = self.world.dr.command(Kind::Replica, &self.vm.replica, &Message::Replica(command.clone()))?;
        self.world.rest(self.vm).map(drop)
    }

    /// Takes hq away, its processes and this VM's guest, and fails over with an override; hq comes back at its end or
    /// after a while, and its guest must stay down.
    fn failover_after_loss(&mut self) -> Result<(), Wrong> {
        let world = self.world;
        let lost = lock(&world.loss);
        let processes = {
            let mut rig = lock(&world.rig);
            let processes = rig.of_site(0);
            rig.kill(&processes).iter().for_each(|died| world.findings.violation(died));
            processes
        };
        count(&world.findings.losses);
        let unplugged = world.hq_host.pull_the_plug(&self.vm.name);
        let forced = Override { by: "crash rig".to_owned(), reason: "hq is lost".to_owned() };
        let failover = replica::Command::Failover { point: PointChoice::Newest, forced: Some(forced) };
        count(&world.findings.failovers);
        let answer = world.dr.command(Kind::Replica, &self.vm.replica, &Message::Replica(failover));
        let back = Instant::now() + LOST_AT_MOST;
        while Instant::now() < back {
            let known = world.replica(self.vm);
            if known.is_err() || matches!(known, Ok(Some(known)) if known.rest() == Some(Rest::Failover)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(40));
        }
        {
            let mut rig = lock(&world.rig);
            for index in processes {
                if !rig.runs(index) {
                    rig.start(index)?;
                }
            }
        }
        drop(lost);
        unplugged?;
        let _answer = answer?;
        world.rest(self.vm).map(drop)
    }

    /// Starts the guest at hq if it is off. A refusal is an answer (the right may be elsewhere still), and so is a no of the
    /// VM's replica, which hq asks first.
    fn power_on(&self) -> Result<(), Wrong> {
        let on = host::Command::PowerOn { vm: self.vm.name.clone(), forced: None };
        until(&format!("{} to run at hq", self.vm.name), || {
            if self.world.hq_host.status(&self.vm.name)?.is_running() {
                return Ok(Some(()));
            }
            let _answer = self.world.hq.command(Kind::Host, &name("hq-host"), &Message::Host(on.clone()))?;
            self.powered()?;
            Ok(None)
        })
    }

    /// Waits until no order to start or stop this VM is open at hq, and nobody is asked about it.
    fn powered(&self) -> Result<(), Wrong> {
        let vm = &self.vm.name;
        until(&format!("{vm} to be started or stopped"), || {
            let Some(host) = self.world.host(&self.world.hq, &name("hq-host"))? else { return Ok(None) };
            let mut works = host.orders.open.values().map(|open| &open.work);
            let powers =
                works.any(|work| matches!(work, Work::Start { vm: of, .. } | Work::Stop { vm: of, .. } if of == vm));
            Ok((!powers && !host.asked.contains_key(vm)).then_some(()))
        })
    }

    /// Whether hq takes this VM to be off.
    fn known_off(&self) -> Result<bool, Wrong> {
        let host = self.world.host(&self.world.hq, &name("hq-host"))?;
        Ok(host.is_some_and(|host| host.inventory.get(&self.vm.name).is_some_and(|facts| !facts.running)))
    }

    fn write_at_hq(&mut self) -> Result<(), Wrong> {
        self.power_on()?;
        let vm = self.vm.name.clone();
        self.write(&self.world.hq, &name("hq-host"), &vm)
    }

    fn write(&mut self, api: &Api, host: &Name, vm: &VmName) -> Result<(), Wrong> {
        let write = host::Command::GuestWrite { vm: vm.clone(), seed: self.choices.number() };
        if api.command(Kind::Host, host, &Message::Host(write))?.is_err() {
            return Ok(());
        }
        until(&format!("{vm} to have written"), || {
            let works = self.world.host_works(api, host, |work| matches!(work, Work::Write { vm: of } if of == vm))?;
            Ok((!works).then_some(()))
        })
    }

    /// Switches the VM off at hq, backs it up, and keeps what its disks held.
    pub(crate) fn cold_backup(&mut self) -> Result<(), Wrong> {
        let (world, vm) = (self.world, self.vm);
        let off = host::Command::PowerOff { vm: vm.name.clone() };
        until(&format!("{} to be off at hq", vm.name), || {
            self.powered()?;
            // A guest that went down with its host is off, but not switched off: hq starts it again.
            if self.known_off()? && !world.hq_host.status(&vm.name)?.is_running() {
                return Ok(Some(()));
            }
            let _answer = world.hq.command(Kind::Host, &name("hq-host"), &Message::Host(off.clone()))?;
            Ok(None)
        })?;
        let held = hashes(&world.hq_host, &vm.name, None)?;
        let run = world.run_job(&world.hq, &vm.cold)?;
        if world.hq_host.status(&vm.name)?.is_running() {
            world.findings.violation(&format!("{} was switched off and runs", vm.name));
        }
        if hashes(&world.hq_host, &vm.name, None)? != held {
            world.findings.violation(&format!("the disks of {} changed while it was off", vm.name));
        }
        if let Some(run) = run
            && success(&run).is_ok()
            && let Some(done) = run.vms.get(&vm.name)
        {
            lock(&world.cold).push((vm.origin.clone(), done.point.clone(), held));
        }
        if self.choices.percent(70) { self.power_on() } else { Ok(()) }
    }

    /// Restores a point whose content is known and compares every byte.
    fn restore(&mut self) -> Result<(), Wrong> {
        let known = {
            let cold = lock(&self.world.cold);
            if cold.is_empty() {
                return Ok(());
            }
            let index = usize::try_from(self.choices.of(0..cold.len() as u64))?;
            cold[index].clone()
        };
        self.restores += 1;
        let target = format!("{}-r{}", self.vm.name, self.restores);
        restore(self.world, &known, &target).map(drop)
    }
}

/// Restores a point to a new VM and compares its disks; whether the job has succeeded. The new VM is removed.
pub(crate) fn restore(world: &World, known: &super::Held, target: &str) -> Result<bool, Wrong> {
    let (origin, point, held) = known;
    let vm = VmName::parse(target)?;
    let work = JobWork::Restore {
        repository: name("hq-repo"),
        point: point.clone(),
        origin: origin.clone(),
        host: name("hq-host"),
        vm: vm.clone(),
    };
    let spec = JobSpec {
        work,
        schedule: Schedule::Manual,
        retry: Retry { attempts: 0, wait: Millis(0) },
        keep: Keep::newest(1),
    };
    let job = name(target);
    // Said again after a crash it is refused, since the job has run: the first one counts.
    let _answer = world.hq.command(Kind::Job, &job, &Message::Job(job::Command::Define(spec)))?;
    let run = world.job_end(&world.hq, &job)?;
    let done = success(&run);
    if done.is_ok() {
        let holds = hashes(&world.hq_host, &vm, None)?;
        if &holds != held {
            world.findings.violation(&format!("{vm} was restored from {point} as {holds:?} and should hold {held:?}"));
            return Ok(true);
        }
        count(&world.findings.restores);
    } else if let Err(why) = &done {
        world.findings.say(&format!("restore of {point}: {why}"));
    }
    remove(&world.hq_host, &vm);
    Ok(done.is_ok())
}

/// Removes a restored VM, which nothing else knows, to save room.
fn remove(host: &FolderHost, vm: &VmName) {
    let _gone = std::fs::remove_dir_all(host.path().join(vm.as_str()));
}
