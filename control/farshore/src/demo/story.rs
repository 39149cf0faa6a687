//! The demo's steps. Each says what it did and how that is proven; the first that cannot be proven ends the demo.

use crate::cli::DemoArgs;
use crate::client::Client;
use crate::demo::report::{Done, Moved, Report};
use crate::demo::rig::{Rig, SiteRig};
use crate::demo::vms::{self, Hashes, same};
use crate::demo::{logs, watch};
use crate::failure::{Exit, Failure};
use farshore_core::naming::{replica_name, working_vm};
use farshore_core::{replica, repository, session};
use farshore_hosts::{FolderHost, StampsArea};
use farshore_schemas::ids::{Kind, Name, PointId, SiteName, VmName, VmRef};
use farshore_schemas::messages::host;
use farshore_schemas::messages::job::{self, JobSpec, Retry, Schedule, Work};
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{PointChoice, Rest};
use farshore_schemas::messages::{Message, Override, keep::Keep};
use farshore_schemas::units::Millis;
use std::collections::BTreeMap;
use std::path::Path;

/// One VM as the story knows it.
struct Vm {
    name: VmName,
    replica: Name,
    /// Its VM at dr after a failover.
    working: VmName,
    /// Where its guest stamps.
    stamps: Option<StampsArea>,
}

/// Everything that the steps share.
struct Story<'a> {
    args: &'a DemoArgs,
    rig: Rig,
    hq: SiteRig,
    dr: SiteRig,
    hq_client: Client,
    dr_client: Client,
    hq_host: FolderHost,
    dr_host: FolderHost,
    vms: Vec<Vm>,
    /// The first backup's points and what the disks held then.
    old: BTreeMap<VmName, (PointId, Hashes)>,
    /// What the disks held when they were last replicated (stamps left out).
    replicated: BTreeMap<VmName, Hashes>,
}

/// However the demo ends, its guests end with it.
impl Drop for Story<'_> {
    fn drop(&mut self) {
        self.hq.kill();
        self.dr.kill();
        for vm in &self.vms {
            // Most are off already; one that is not there has no guest.
            let _off = (self.hq_host.pull_the_plug(&vm.name), self.dr_host.pull_the_plug(&vm.working));
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("the story's names are legal")
}

/// Tells the whole story.
pub(crate) fn tell(
    args: &DemoArgs,
    folder: &Path,
    runtime: &tokio::runtime::Handle,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut story = begin(args, folder, runtime, report)?;
    type Tell<'a> = fn(&mut Story<'a>) -> Result<Done, Failure>;
    let steps: [(&str, Tell<'_>); 18] = [
        ("discover", Story::discover),
        ("full backup", Story::full_backup),
        ("power on", Story::power_on),
        ("change in guests", |story| story.change(1)),
        ("incremental backup", |story| story.backup_again()),
        ("replicate, full", Story::replicate),
        ("change in guests", |story| story.change(2)),
        ("incremental backup", |story| story.backup_again()),
        ("replicate, changed", Story::replicate),
        ("lose hq", Story::lose_hq),
        ("failover by plan", Story::failover),
        ("change at dr", Story::change_at_dr),
        ("hq returns", Story::hq_returns),
        ("failback", Story::failback),
        ("switch to hq", Story::switch),
        ("commit", Story::commit),
        ("replicate again", Story::replicate),
        ("restore old point", Story::restore_old),
    ];
    for (step, tell) in steps {
        report.begin(step);
        let done = tell(&mut story).map_err(|mut failure| {
            failure.message = format!("in step {step:?}: {}", failure.message);
            failure
        })?;
        report.end(step, done);
    }
    report.begin("stop and replay");
    let done = story.stop_and_check()?;
    report.end("stop and replay", done);
    Ok(())
}

fn begin<'a>(
    args: &'a DemoArgs,
    folder: &Path,
    runtime: &tokio::runtime::Handle,
    report: &mut Report,
) -> Result<Story<'a>, Failure> {
    report.begin("make VMs");
    let hq_host = vms::open(&folder.join("hq/hosts/hq-host"))?;
    let dr_host = vms::open(&folder.join("dr/hosts/dr-host"))?;
    let names = match &args.from {
        Some(from) => vms::copy(from, &hq_host)?,
        None => vms::make(&hq_host, args.seed)?,
    };
    let site = SiteName::parse("hq").expect("a legal name");
    let mut all = Vec::new();
    for vm in &names {
        let origin = VmRef { site: site.clone(), host: name("hq-host"), vm: vm.clone() };
        let replica = replica_name(&name("offsite"), &origin);
        all.push(Vm { name: vm.clone(), working: working_vm(&replica), replica, stamps: vms::stamps(&hq_host, vm)? });
    }
    report.end("make VMs", Done::new(format!("{} VMs at hq", all.len()), ""));
    report.begin("start sites");
    let rig = Rig::new(args.nats.as_deref(), folder, runtime)?;
    let mut hq = SiteRig::new("hq", "hq-mover", folder, "dr");
    let mut dr = SiteRig::new("dr", "dr-mover", folder, "hq");
    let hq_client = rig.start(&mut hq)?;
    let dr_client = rig.start(&mut dr)?;
    let story = Story {
        args,
        rig,
        hq,
        dr,
        hq_client,
        dr_client,
        hq_host,
        dr_host,
        vms: all,
        old: BTreeMap::new(),
        replicated: BTreeMap::new(),
    };
    story.define()?;
    report.end("start sites", Done::new("hq and dr run", ""));
    Ok(story)
}

fn moved(run: &session::Run) -> Moved {
    Moved { read: run.moved.read.0, changed: run.moved.changed.0, sent: run.moved.sent.0 }
}

impl<'a> Story<'a> {
    /// The resources of both sites.
    fn define(&self) -> Result<(), Failure> {
        let quoted = |path: &Path| serde_json::json!(path.to_string_lossy()).to_string();
        let head =
            |kind: &str, name: &str| format!("apiVersion: farshore/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n");
        let hq = [
            head("Site", "hq") + "spec: {peers: [dr]}\n",
            head("Mover", "hq-mover") + "spec: {roles: [source, target, repository], slots: 4}\n",
            head("Repository", "hq-repo")
                + &format!("spec: {{mover: hq-mover, path: {}}}\n", quoted(&self.hq.folder.join("repository"))),
            head("Host", "hq-host") + &format!("spec: {{mover: hq-mover, folder: {}}}\n", quoted(self.hq_host.path())),
            head("Job", "nightly") + "spec: {backup: {host: hq-host, repository: hq-repo}, keep: 7}\n",
        ];
        let steps: Vec<String> = self.vms.iter().map(|vm| format!("{{replica: {}}}", vm.replica)).collect();
        let dr = [
            head("Site", "dr") + "spec: {peers: [hq]}\n",
            head("Mover", "dr-mover") + "spec: {roles: [source, target], slots: 4}\n",
            head("Host", "dr-host") + &format!("spec: {{mover: dr-mover, folder: {}}}\n", quoted(self.dr_host.path())),
            head("Job", "offsite")
                + "spec: {replication: {sourceSite: hq, sourceHost: hq-host, digests: hq-repo, targetHost: dr-host}, keep: 7}\n",
            head("FailoverPlan", "all") + &format!("spec: {{steps: [{}]}}\n", steps.join(", ")),
        ];
        for (client, yaml) in [(&self.hq_client, hq.join("---\n")), (&self.dr_client, dr.join("---\n"))] {
            let refused = client.apply(yaml)?.into_iter().find_map(|one| one.refused.map(|error| (one.id, error)));
            if let Some((id, error)) = refused {
                return Err(Failure::new(&error.code, format!("{id}: {}", error.message), &error.advice));
            }
        }
        Ok(())
    }

    fn names(&self) -> Vec<VmName> {
        self.vms.iter().map(|vm| vm.name.clone()).collect()
    }

    fn working(&self) -> Vec<VmName> {
        self.vms.iter().map(|vm| vm.working.clone()).collect()
    }

    /// What each VM's disks at hq hold now, stamps left out.
    fn held_at_hq(&self) -> Result<BTreeMap<VmName, Hashes>, Failure> {
        self.vms
            .iter()
            .map(|vm| Ok((vm.name.clone(), vms::hashes(&self.hq_host, &vm.name, vm.stamps.as_ref())?)))
            .collect()
    }

    fn discover(&mut self) -> Result<Done, Failure> {
        let names = self.names();
        watch::until("the VMs in hq-host's inventory", || {
            let found = watch::host(&self.hq_client, &name("hq-host"))?;
            Ok(found.filter(|host| names.iter().all(|vm| host.inventory.contains_key(vm))).map(drop))
        })?;
        watch::until("dr-host's inventory", || {
            let found = watch::host(&self.dr_client, &name("dr-host"))?;
            Ok(found.filter(|host| host.revision > 0).map(drop))
        })?;
        Ok(Done::new(format!("{} VMs in hq's inventory", names.len()), ""))
    }

    fn repository_points(&self) -> Result<BTreeMap<PointId, repository::Point>, Failure> {
        match watch::state::<repository::State>(&self.hq_client, Kind::Repository, &name("hq-repo"))? {
            Some(repository::State::Defined(defined)) => Ok(defined.points),
            Some(repository::State::Undefined { .. }) | None => Err(Failure::defect(&"hq-repo is not defined")),
        }
    }

    /// The guests are still off: what is backed up is what the disks hold, to the byte.
    fn full_backup(&mut self) -> Result<Done, Failure> {
        let mut held = BTreeMap::new();
        for vm in &self.vms {
            held.insert(vm.name.clone(), vms::hashes(&self.hq_host, &vm.name, None)?);
        }
        let run = watch::run_job(&self.hq_client, &name("nightly"))?;
        for (point, of) in self.repository_points()? {
            if let Some(hashes) = held.get(&of.facts.vm.vm) {
                self.old.insert(of.facts.vm.vm.clone(), (point, hashes.clone()));
            }
        }
        if self.old.len() != self.vms.len() {
            return Err(Failure::defect(&"the backup made no point for some VM"));
        }
        Ok(Done::new(format!("{} points", self.old.len()), "kept for the restore at the end").moving(moved(&run)))
    }

    fn power_on(&mut self) -> Result<Done, Failure> {
        for vm in &self.vms {
            let on = host::Command::PowerOn { vm: vm.name.clone(), forced: None };
            self.hq_client.command(Kind::Host, &name("hq-host"), &Message::Host(on))?;
        }
        watch::running(&self.hq_client, &name("hq-host"), &self.names(), true)?;
        Ok(Done::new(format!("{} guests run at hq", self.vms.len()), "stamps under the first epoch"))
    }

    /// Each guest writes files inside its file system.
    fn change(&mut self, round: u64) -> Result<Done, Failure> {
        let before = self.held_at_hq()?;
        for (number, vm) in (1u64..).zip(&self.vms) {
            let write = host::Command::GuestWrite {
                vm: vm.name.clone(),
                seed: self.args.seed.wrapping_mul(1_000).wrapping_add(round * 100 + number),
            };
            self.hq_client.command(Kind::Host, &name("hq-host"), &Message::Host(write))?;
        }
        self.orders_done(&self.hq_client, &name("hq-host"))?;
        let after = self.held_at_hq()?;
        let changed = before.iter().filter(|(vm, hashes)| after.get(*vm) != Some(*hashes)).count();
        if changed != self.vms.len() {
            return Err(Failure::defect(&format!("only {changed} of {} guests changed anything", self.vms.len())));
        }
        Ok(Done::new(format!("{changed} guests wrote files"), "sha256 of every VM changed"))
    }

    /// Waits until the agent has answered everything that a host ordered.
    fn orders_done(&self, client: &Client, host: &Name) -> Result<(), Failure> {
        watch::until(&format!("{host}'s orders"), || {
            Ok(watch::host(client, host)?.filter(|host| host.orders.open.is_empty()).map(drop))
        })
    }

    fn backup_again(&mut self) -> Result<Done, Failure> {
        let before = self.repository_points()?.len();
        let run = watch::run_job(&self.hq_client, &name("nightly"))?;
        let made = self.repository_points()?.len().saturating_sub(before);
        Ok(Done::new(format!("{made} points"), "chunks durable before each point").moving(moved(&run)))
    }

    fn replicate(&mut self) -> Result<Done, Failure> {
        let held = self.held_at_hq()?;
        let run = watch::run_job(&self.dr_client, &name("offsite"))?;
        self.replicated = held;
        let points = self.replica_points()?;
        Ok(Done::new(format!("{points} points at dr"), "checksum at hq = checksum at dr").moving(moved(&run)))
    }

    fn known(&self, vm: &Vm) -> Result<Box<replica::Known>, Failure> {
        match watch::state::<replica::State>(&self.dr_client, Kind::Replica, &vm.replica)? {
            Some(replica::State::Known(known)) => Ok(known),
            Some(replica::State::New) | None => Err(Failure::defect(&format!("replica {} does not exist", vm.replica))),
        }
    }

    fn replica_points(&self) -> Result<usize, Failure> {
        let mut points = 0;
        for vm in &self.vms {
            points += self.known(vm)?.points.len();
        }
        Ok(points)
    }

    fn lose_hq(&mut self) -> Result<Done, Failure> {
        self.hq.kill();
        for vm in &self.vms {
            let killed = self.hq_host.pull_the_plug(&vm.name);
            killed.map_err(|error| Failure::coded(&error.to_string(), error.advice()))?;
        }
        if !self.args.lose_disks {
            return Ok(Done::new("hq's processes and guests are killed", ""));
        }
        for vm in &self.vms {
            let path = self.hq_host.path().join(vm.name.as_str());
            std::fs::remove_dir_all(&path).map_err(|error| Failure::io("remove", &path, &error))?;
        }
        Ok(Done::new("hq's processes and guests are killed, its disks are gone", ""))
    }

    fn plan(&self, action: Action, forced: Option<Override>) -> Result<String, Failure> {
        let run = plan::Command::Run { action, point: PointChoice::Newest, forced };
        watch::run_plan(&self.dr_client, &name("all"), &Message::Plan(run))
    }

    /// With the source lost nobody can release the VMs: the override is named and logged.
    fn failover(&mut self) -> Result<Done, Failure> {
        let forced = Override { by: "demo".to_owned(), reason: "hq is lost".to_owned() };
        self.plan(Action::Failover, Some(forced))?;
        watch::running(&self.dr_client, &name("dr-host"), &self.working(), true)?;
        let proof = self.compare_at_dr("failed-over disks")?;
        let epoch = self.vms.first().map(|vm| self.known(vm)).transpose()?.map_or(0, |known| known.right.epoch.counter);
        Ok(Done::new(format!("{} guests run at dr, epoch {epoch}", self.vms.len()), proof))
    }

    fn compare_at_dr(&self, what: &str) -> Result<String, Failure> {
        let mut proof = String::new();
        for vm in &self.vms {
            let held = self.replicated.get(&vm.name).ok_or_else(|| Failure::defect(&"nothing was replicated"))?;
            proof = same(
                &format!("{what} of {}", vm.name),
                held,
                &vms::hashes(&self.dr_host, &vm.working, vm.stamps.as_ref())?,
            )?;
        }
        Ok(format!("{} VMs, {proof}", self.vms.len()))
    }

    fn change_at_dr(&mut self) -> Result<Done, Failure> {
        for (number, vm) in (1u64..).zip(&self.vms) {
            let seed = self.args.seed.wrapping_mul(1_000).wrapping_add(900 + number);
            let write = host::Command::GuestWrite { vm: vm.working.clone(), seed };
            self.dr_client.command(Kind::Host, &name("dr-host"), &Message::Host(write))?;
        }
        self.orders_done(&self.dr_client, &name("dr-host"))?;
        if self.compare_at_dr("disks").is_ok() {
            return Err(Failure::defect(&"the guests at dr changed nothing"));
        }
        Ok(Done::new(format!("{} guests wrote files at dr", self.vms.len()), "sha256 changed"))
    }

    /// hq is back; its guests must stay down, whoever asks.
    fn hq_returns(&mut self) -> Result<Done, Failure> {
        self.hq_client = self.rig.start(&mut self.hq)?;
        let host = name("hq-host");
        if !self.args.lose_disks {
            watch::until("hq-host to have asked who runs its VMs", || {
                let Some(defined) = watch::host(&self.hq_client, &host)? else { return Ok(None) };
                Ok((!defined.returning && defined.asked.is_empty()).then_some(()))
            })?;
        }
        for vm in &self.vms {
            let on = host::Command::PowerOn { vm: vm.name.clone(), forced: None };
            match self.hq_client.command(Kind::Host, &host, &Message::Host(on)) {
                Err(failure) if failure.exit == Exit::Refused => {}
                Err(failure) => return Err(failure),
                Ok(_) => {
                    return Err(Failure::defect(&format!(
                        "{} was allowed to start at hq while it runs at dr",
                        vm.name
                    )));
                }
            }
            let running =
                !self.args.lose_disks && self.hq_host.status(&vm.name).is_ok_and(|status| status.is_running());
            if running {
                return Err(Failure::defect(&format!("{} runs at hq and at dr", vm.name)));
            }
        }
        Ok(Done::new("hq is up, its guests stay down", "power-on refused: the epoch is held at dr"))
    }

    fn rest(&self, wanted: Rest) -> Result<(), Failure> {
        for vm in &self.vms {
            watch::until(&format!("replica {} to be {wanted:?}", vm.replica), || {
                let known = self.known(vm)?;
                Ok(matches!(known.phase, replica::Phase::Rest { rest, .. } if rest == wanted).then_some(()))
            })?;
        }
        Ok(())
    }

    fn failback(&mut self) -> Result<Done, Failure> {
        self.plan(Action::Failback, None)?;
        self.rest(Rest::ReadyToSwitch)?;
        Ok(Done::new("production disks are close behind; the guests still run at dr", "only what differs was sent"))
    }

    fn switch(&mut self) -> Result<Done, Failure> {
        self.plan(Action::Switch, None)?;
        self.rest(Rest::Failback)?;
        watch::running(&self.hq_client, &name("hq-host"), &self.names(), true)?;
        let mut proof = String::new();
        for vm in &self.vms {
            let left = vms::hashes(&self.dr_host, &vm.working, vm.stamps.as_ref())?;
            let arrived = vms::hashes(&self.hq_host, &vm.name, vm.stamps.as_ref())?;
            proof = same(&format!("failed-back disks of {}", vm.name), &left, &arrived)?;
        }
        Ok(Done::new(
            format!("{} guests run at hq again, none at dr", self.vms.len()),
            format!("{} VMs, {proof}", self.vms.len()),
        ))
    }

    fn commit(&mut self) -> Result<Done, Failure> {
        self.plan(Action::Commit, None)?;
        self.rest(Rest::Ready)?;
        Ok(Done::new("replicas are ready again", "the state at the switch is their newest point"))
    }

    fn restore_old(&mut self) -> Result<Done, Failure> {
        let mut sum = Moved::default();
        let mut proof = String::new();
        for (vm, (point, held)) in &self.old {
            let restored = VmName::parse(&format!("{vm}-restored")).map_err(|bad| Failure::defect(&bad))?;
            let origin =
                VmRef { site: SiteName::parse("hq").expect("a legal name"), host: name("hq-host"), vm: vm.clone() };
            let work = Work::Restore {
                repository: name("hq-repo"),
                point: point.clone(),
                origin,
                host: name("hq-host"),
                vm: restored.clone(),
            };
            let (retry, keep) = (Retry { attempts: 0, wait: Millis(0) }, Keep::newest(1));
            let spec = JobSpec { work, schedule: Schedule::Manual, retry, keep };
            let job = farshore_core::naming::replica_name(
                &name("restore"),
                &VmRef { site: SiteName::parse("hq").expect("a legal name"), host: name("hq-host"), vm: vm.clone() },
            );
            let job =
                Name::parse(job.as_str().get(..job.as_str().len().min(40)).unwrap_or_default().trim_end_matches('-'))
                    .map_err(|bad| Failure::defect(&bad))?;
            self.hq_client.command(Kind::Job, &job, &Message::Job(job::Command::Define(spec)))?;
            let run = moved(&watch::job_end(&self.hq_client, &job)?);
            sum = Moved { read: sum.read + run.read, changed: sum.changed + run.changed, sent: sum.sent + run.sent };
            proof = same(&format!("restored disks of {vm}"), held, &vms::hashes(&self.hq_host, &restored, None)?)?;
        }
        Ok(Done::new(
            format!("{} VMs as they were at the first backup", self.old.len()),
            format!("{} VMs, {proof}", self.old.len()),
        )
        .moving(sum))
    }

    fn stop_and_check(&mut self) -> Result<Done, Failure> {
        self.hq.stop()?;
        self.dr.stop()?;
        for vm in &self.vms {
            let _off = self.hq_host.power_off(&vm.name);
        }
        let (hq, dr) = (logs::check(&self.hq.folder)?, logs::check(&self.dr.folder)?);
        let short = |state: &str| state.chars().take(12).collect::<String>();
        Ok(Done::new(
            format!("{} + {} frames verified, folded, decided again", hq.frames, dr.frames),
            format!("state hq {}…, dr {}… = memory; 0 differences", short(&hq.state), short(&dr.state)),
        ))
    }
}
