//! The command line's words.

mod address;
mod log;
mod repo;
mod site;
mod vm;

pub(crate) use log::LogVerb;
pub(crate) use repo::{
    CompressionClass, HeldPoint, ImageFormat, KeyVerb, PruneWhich, RepoAdoptArgs, RepoAt, RepoBackupArgs, RepoHoldArgs,
    RepoInitArgs, RepoMountArgs, RepoPruneArgs, RepoRestoreArgs, RepoVerb, RepoVerifyArgs, UnlockArgs,
};

pub(crate) use site::{RecoverArgs, SiteVerb};
pub(crate) use vm::{PowerArgs, VmVerb};

use address::host_and_port;
use clap::{Args, Parser, Subcommand, ValueEnum};
use farshore_schemas::ids::{Name, PointId, SiteName, VmName};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Protects virtual machines across sites: backup, replication, failover, failback, restore; every decision in a log that
/// can be replayed.
#[derive(Debug, Parser)]
#[command(name = "farshore", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// How answers are written.
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Say less: no progress, no hints.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
    /// For both.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a whole site in this process: control, API, an agent, a folder host. No server, no configuration.
    Up(UpArgs),
    /// Run a site's control and API; its agents run elsewhere.
    Control(ControlArgs),
    /// Run an agent: the hands of a site on a host, proxy or repository server.
    Agent(AgentArgs),
    /// See it all: two sites, three VMs, backup, replication, loss of a site, failover, failback, restore, proven by SHA-256.
    Demo(DemoArgs),
    /// Define things from YAML.
    Apply {
        /// The file; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// List things, or show one.
    Get {
        /// site, host, mover, repository, broker, job, session, replica or plan; also `vms` and `points`.
        kind: String,
        /// Which one.
        name: Option<Name>,
        #[command(flatten)]
        at: At,
    },
    /// Show everything about one thing.
    Describe {
        /// Its kind.
        kind: String,
        /// Its name.
        name: Name,
        #[command(flatten)]
        at: At,
    },
    /// Forget a thing. Refused while something needs it.
    Delete {
        /// Its kind.
        kind: String,
        /// Its name.
        name: Name,
        #[command(flatten)]
        at: At,
    },
    /// How the site is: log, outbox, alarms, jobs.
    Status {
        #[command(flatten)]
        at: At,
    },
    /// List a host's VMs now instead of at the next turn (every 4 h).
    Discover {
        /// The host.
        host: Name,
        /// Come back at once instead of when they are listed.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        at: At,
    },
    /// Start or stop a VM.
    #[command(subcommand)]
    Vm(VmVerb),
    /// Run or stop a job.
    #[command(subcommand)]
    Job(JobVerb),
    /// Watch a run.
    #[command(subcommand)]
    Session(SessionVerb),
    /// Restore a point to a new VM.
    Restore(RestoreArgs),
    /// Run protected VMs at this site, from their replicas.
    Failover(FailoverArgs),
    /// Bring VMs back to their source site.
    Failback(FailbackArgs),
    /// Read, check and replay the event log of a data folder.
    #[command(subcommand)]
    Log(LogVerb),
    /// Work on a repository's folder alone, with no site: make it, read images in, restore, verify, prune.
    #[command(subcommand)]
    Repo(RepoVerb),
    /// Recover a site whose data folder is lost.
    #[command(subcommand)]
    Site(SiteVerb),
    /// Simulate.
    #[command(subcommand)]
    Sim(SimVerb),
    /// Check that this machine and a site's data folder are fit.
    Doctor {
        /// The site's data folder.
        #[arg(long, env = "FARSHORE_DATA")]
        data: Option<PathBuf>,
        /// A NATS server to check.
        #[arg(long)]
        nats: Option<String>,
    },
    /// Write a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// (internal) The process that stands for a folder host's running guest.
    #[command(hide = true)]
    Guest {
        /// As the folder host passes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Which running site.
#[derive(Debug, Clone, Args)]
pub(crate) struct At {
    /// The site's data folder.
    #[arg(long, env = "FARSHORE_DATA")]
    pub(crate) data: PathBuf,
}

/// How processes and sites are joined.
#[derive(Debug, Clone, Args)]
pub(crate) struct BusArgs {
    /// NATS servers, comma-separated: `nats://host:4222`.
    #[arg(long, env = "FARSHORE_NATS", conflicts_with = "join")]
    pub(crate) nats: Option<String>,
    /// Credentials file for NATS.
    #[arg(long, requires = "nats")]
    pub(crate) creds: Option<PathBuf>,
    /// A socket that another farshore process of this machine serves the in-process bus on.
    #[arg(long)]
    pub(crate) join: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ControlArgs {
    /// The site's data folder; made if need be.
    #[arg(long, env = "FARSHORE_DATA")]
    pub(crate) data: PathBuf,
    /// The site's name, for a new folder.
    #[arg(long)]
    pub(crate) site: Option<SiteName>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Port of the API on loopback; any that is free by default.
    #[arg(long, default_value_t = 0)]
    pub(crate) api_port: u16,
    /// Where the log is served to the agents that keep a copy of it in their repositories.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) log_listen: SocketAddr,
    /// The host and port under which those agents reach it, if another.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) log_advertise: Option<String>,
    /// The log was restored from a copy or cut: begin a new lineage, for this reason, before deciding anything.
    #[arg(long, value_name = "REASON")]
    pub(crate) renew_lineage: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,
    /// Start without the default mover, host and repository.
    #[arg(long)]
    pub(crate) bare: bool,
    /// Name of the agent.
    #[arg(long, default_value = "local")]
    pub(crate) agent: Name,
    /// Where the agent's data channel listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AgentArgs {
    /// The agent's data folder; made if need be.
    #[arg(long, env = "FARSHORE_DATA")]
    pub(crate) data: PathBuf,
    /// Its site.
    #[arg(long)]
    pub(crate) site: SiteName,
    /// Its name: that of a Mover resource.
    #[arg(long)]
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Where its data channel listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The host and port under which other agents reach it, if another.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) advertise: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave the sites' folders `DIR/hq` and `DIR/dr`.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Protect the VMs of this folder (a sub-folder per VM, or images beside each other) instead of made ones. Never written to.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Run control and agents of both sites as processes of their own over this NATS server.
    #[arg(long, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// What the made VMs hold follows from this.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The loss of hq takes its disks too.
    #[arg(long)]
    pub(crate) lose_disks: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// Run a job now.
    Run {
        /// The job.
        name: Name,
        /// Come back at once instead of when it has ended.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        at: At,
    },
    /// Stop its run.
    Stop {
        /// The job.
        name: Name,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// Follow a session until it has ended.
    Watch {
        /// The session.
        name: Name,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// The repository.
    #[arg(long)]
    pub(crate) repository: Name,
    /// The restore point (`farshore get points`).
    #[arg(long)]
    pub(crate) point: Name,
    /// The host to restore to.
    #[arg(long)]
    pub(crate) host: Name,
    /// The name of the VM to make.
    #[arg(long)]
    pub(crate) vm: VmName,
    #[command(flatten)]
    pub(crate) at: At,
}

impl RestoreArgs {
    pub(crate) fn point_id(&self) -> PointId {
        PointId(self.point.clone())
    }
}

/// A plan or one replica.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Group {
    /// A failover plan: all its VMs.
    #[arg(long)]
    pub(crate) plan: Option<Name>,
    /// One replica.
    #[arg(long)]
    pub(crate) replica: Option<Name>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    pub(crate) group: Group,
    /// Undo the failover: drop what the replicas wrote, give the right to run back to the source.
    #[arg(long, conflicts_with_all = ["point", "override_by", "reason", "permanent"])]
    pub(crate) undo: bool,
    /// Make the failover permanent (one replica).
    #[arg(long, conflicts_with_all = ["point", "override_by", "reason", "plan"])]
    pub(crate) permanent: bool,
    /// The point to fail over to; the newest without.
    #[arg(long)]
    pub(crate) point: Option<Name>,
    /// The source cannot give its VMs up (it is lost): your name, for the log. Two copies may run if it is not lost.
    #[arg(long, requires = "reason")]
    pub(crate) override_by: Option<String>,
    /// Why, for the log.
    #[arg(long, requires = "override_by")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) at: At,
}

/// The steps of a failback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailbackStep {
    /// Phase 1: bring the production disks up to the replicas', which keep running.
    Start,
    /// Stop the replicas, send the last changes, start the production VMs.
    Switch,
    /// It is good: replication resumes.
    Commit,
    /// Production off, replicas on again (one replica).
    Undo,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FailbackArgs {
    /// Which step.
    #[arg(value_enum)]
    pub(crate) step: FailbackStep,
    #[command(flatten)]
    pub(crate) group: Group,
    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SimVerb {
    /// Run a scenario over many seeds.
    Run {
        /// The scenario: `demo`, or `repository`.
        scenario: String,
        /// One seed, or a range like `1..2000` (both ends belong to it).
        #[arg(long, default_value = "1..100")]
        seeds: String,
        /// Tell what happens, step by step, in the run of one seed.
        #[arg(long)]
        story: bool,
    },
}
