//! `cargo xtask crash`: two sites under work, their processes killed with SIGKILL at random moments and started again,
//! until every job has ended; then the promises are checked on logs, disks and restores. Real processes, real disks.
//!
//! `rig` runs the processes, `killer` kills them, `operator` and `jobs` give them work through their APIs (`api`, which
//! keeps what was acknowledged), `disks` makes, hashes and watches the VMs, `ends` brings everything to rest and checks it.

mod api;
mod choices;
mod disks;
mod ends;
mod finding;
mod jobs;
mod killer;
mod operator;
mod rig;
mod world;

use api::Api;
pub(crate) use choices::Choices;
use disks::{Hashes, Witness};
use farshore_core::naming::{replica_name, working_vm};
use farshore_schemas::ids::{PointId, VmName, VmRef};
use finding::{Findings, read};
use operator::Operator;
use rig::Rig;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use world::{Vm, World, hq, lock, name};

/// What cannot go on; violations are not among them.
pub(crate) type Wrong = Box<dyn std::error::Error + Send + Sync>;
/// A restore point and what the disks held.
pub(crate) type Held = (VmRef, PointId, Hashes);

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Processes to kill.
    pub(crate) kills: u64,
    /// Control and agents apart, over NATS.
    pub(crate) nats: bool,
    /// Of the choices.
    pub(crate) seed: u64,
    /// The binary; built when not named.
    pub(crate) program: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    kills: u64,
    restarts: u64,
    site_losses: u64,
    frames: u64,
    acknowledged: usize,
    tasks: u64,
    jobs: u64,
    jobs_not_successful: u64,
    failovers: u64,
    failbacks: u64,
    restores_byte_equal: u64,
    points_verified: u64,
    guests: usize,
    seconds: f64,
    seed: u64,
    pub(crate) violations: usize,
}

/// Runs it all. What it left is kept when something is wrong.
pub(crate) fn run(plan: &Plan) -> Result<Report, Wrong> {
    let program = match &plan.program {
        Some(program) => std::fs::canonicalize(program)?,
        None => build()?,
    };
    let temporary = tempfile::Builder::new().prefix("farshore-crash-").tempdir()?;
    let folder = temporary.path().to_owned();
    // A copy: whoever builds meanwhile does not change what runs here.
    let copy = folder.join("farshore");
    std::fs::copy(&program, &copy)?;
    let world = open(&folder, &copy, plan)?;
    let outcome = drive(&world, plan);
    if let Err(wrong) = &outcome {
        world.findings.violation(&format!("it did not come to its end: {wrong}"));
    }
    lock(&world.rig).panics().iter().for_each(|panic| world.findings.violation(panic));
    world.power_off();
    let sums = outcome.unwrap_or_default();
    let report = report(&world, plan, &sums);
    if report.violations > 0 {
        let kept = temporary.keep();
        world.findings.say(&format!("what it left is in {}", kept.display()));
    }
    Ok(report)
}

fn report(world: &World, plan: &Plan, sums: &ends::Sums) -> Report {
    let findings = &world.findings;
    Report {
        kills: read(&findings.kills),
        restarts: read(&findings.restarts),
        site_losses: read(&findings.losses),
        frames: sums.frames,
        acknowledged: world.hq.acknowledged() + world.dr.acknowledged(),
        tasks: sums.tasks,
        jobs: read(&findings.jobs),
        jobs_not_successful: read(&findings.jobs_failed),
        failovers: read(&findings.failovers),
        failbacks: read(&findings.failbacks),
        restores_byte_equal: read(&findings.restores),
        points_verified: sums.points,
        guests: world.witness.guests(),
        seconds: (findings.seconds() * 10.0).round() / 10.0,
        seed: plan.seed,
        violations: findings.violations(),
    }
}

/// Builds the binary; says where it is.
pub(crate) fn build() -> Result<PathBuf, Wrong> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let built =
        Command::new(&cargo).args(["build", "-q", "-p", "farshore", "--manifest-path"]).arg(&manifest).status()?;
    if !built.success() {
        return Err("farshore cannot be built".into());
    }
    let metadata = cargo_metadata::MetadataCommand::new().manifest_path(&manifest).no_deps().exec()?;
    Ok(metadata.target_directory.join("debug/farshore").into())
}

fn open(folder: &Path, program: &Path, plan: &Plan) -> Result<World, Wrong> {
    Ok(World {
        hq: Api::of(folder, 0)?,
        dr: Api::of(folder, 1)?,
        hq_host: disks::open_host(&folder.join("hq/hosts/hq-host"))?,
        dr_host: disks::open_host(&folder.join("dr/hosts/dr-host"))?,
        rig: Mutex::new(Rig::new(folder, program, plan.nats)?),
        witness: Witness::default(),
        findings: Findings::new(),
        cold: Mutex::default(),
        enough: AtomicBool::new(false),
        loss: Mutex::default(),
    })
}

/// Makes the VMs, starts and defines the sites.
fn begin(world: &World, plan: &Plan) -> Result<Vec<Vm>, Wrong> {
    let mut vms = Vec::new();
    for (number, vm) in (0u64..).zip(["web", "db", "files"]) {
        let vm = VmName::parse(vm)?;
        disks::make(&world.hq_host, &vm, plan.seed.wrapping_mul(16).wrapping_add(number))?;
        let origin = VmRef { site: hq(), host: name("hq-host"), vm: vm.clone() };
        let replica = replica_name(&name("offsite"), &origin);
        let (plan, cold) = (name(&format!("plan-{vm}")), name(&format!("cold-{vm}")));
        vms.push(Vm { working: working_vm(&replica), name: vm, origin, replica, plan, cold });
    }
    {
        let mut rig = lock(&world.rig);
        for index in 0..rig.count() {
            rig.start(index)?;
        }
    }
    jobs::define(world, &vms)?;
    Ok(vms)
}

fn drive(world: &World, plan: &Plan) -> Result<ends::Sums, Wrong> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| killer::watch(world, &|| ended.load(Ordering::Relaxed)));
        let witness = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                world.look();
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        });
        let done = begin(world, plan)
            .and_then(|vms| under_fire(world, plan, &vms).and_then(|()| ends::come_to_rest(world, plan, &vms)));
        ended.store(true, Ordering::Relaxed);
        for thread in [watcher, witness] {
            if thread.join().is_err() {
                world.findings.violation("a thread of the rig panicked");
            }
        }
        done
    })?;
    world.look();
    ends::check(world)
}

/// Operators and jobs at work while processes are killed.
fn under_fire(world: &World, plan: &Plan, vms: &[Vm]) -> Result<(), Wrong> {
    std::thread::scope(|scope| {
        let mut threads = vec![
            scope.spawn(|| jobs::repeat(world, &world.hq, &name("nightly"), Choices::new(plan.seed, 1))),
            scope.spawn(|| jobs::repeat(world, &world.dr, &name("offsite"), Choices::new(plan.seed, 2))),
        ];
        for (stream, vm) in (10u64..).zip(vms) {
            let mut operator = Operator::new(world, vm, Choices::new(plan.seed, stream));
            threads.push(scope.spawn(move || operator.work()));
        }
        let killed = killer::kill(world, plan.kills, &mut Choices::new(plan.seed, 0));
        world.enough.store(true, Ordering::Relaxed);
        world.findings.say("enough were killed; what is under way shall end");
        let mut first = killed;
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err("a thread of the rig panicked".into()));
            if let (Ok(()), Err(wrong)) = (&first, &ended) {
                world.findings.say(&format!("{wrong}"));
                first = ended;
            }
        }
        first
    })
}
