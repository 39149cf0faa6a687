//! The verbs of `farshore repo`. They work on a repository's folder alone: no site, no agent, no network.

use crate::verbs::repo::adopt::parse_owner;
use crate::verbs::repo::hold::parse_until;
use clap::{Args, Subcommand, ValueEnum};
use farshore_schemas::ids::{DiskName, Name, VmName};
use farshore_schemas::messages::agent::FolderOwner;
use farshore_schemas::units::Timestamp;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

/// Which repository, and what opens it.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepoAt {
    /// The repository's folder.
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// What opens an encrypted repository. The passphrase itself is never an argument, which every user of the machine sees.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnlockArgs {
    /// A file that holds the passphrase; else the environment's FARSHORE_PASSPHRASE.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RepoVerb {
    /// Make a repository; encrypted when a passphrase is given.
    Init(RepoInitArgs),
    /// Read images of one VM in and make a restore point of them.
    Backup(RepoBackupArgs),
    /// List restore points.
    Points {
        #[command(flatten)]
        at: RepoAt,
    },
    /// Show what it holds and takes.
    Stats {
        #[command(flatten)]
        at: RepoAt,
    },
    /// Read everything, or a sample, and say what is damaged and which points that hurts. With --repair, mend it from a copy
    /// or an image.
    Verify(RepoVerifyArgs),
    /// Write the disks of a point to files. Nothing that exists is overwritten; a file has its name only once it is proven. Or
    /// write one disk to a block device.
    Restore(RepoRestoreArgs),
    /// Show points as files: a folder for each point, in it a raw image for each disk, to be read only. Nothing is restored
    /// before it is read. Ends when it is unmounted (fusermount3 -u) or stopped.
    Mount(RepoMountArgs),
    /// Drop points and what only they name. Shows what would go; --apply does it.
    ///
    /// Either --points names what goes, and all else stays; or --keep and --keep-* are rules, together as many as are given: of
    /// each VM a point stays that any of them keeps, and the others go.
    Prune(RepoPruneArgs),
    /// Take the folder from its owner. With a site that runs, for the repository of that name in it, and the decision is in its
    /// log; with --take-ownership from every site, on the folder alone. Who had it is shut out.
    Adopt(RepoAdoptArgs),
    /// Hold a point of a site's repository against retention; immutability needs no hold.
    ///
    /// Works through the site, which must run and is found by its data folder (--data): the hold is a decision in its log. The
    /// repository is named as in the site, not by its folder.
    Hold(RepoHoldArgs),
    /// Let a point go that is held.
    ///
    /// Works through the site, as a hold does (--data).
    Release {
        #[command(flatten)]
        held: HeldPoint,
    },
    /// Passphrases that open it.
    #[command(subcommand)]
    Key(KeyVerb),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoInitArgs {
    #[command(flatten)]
    pub(crate) at: RepoAt,
    /// Its name.
    #[arg(long)]
    pub(crate) name: Name,
    /// The name of its dedup domain; its own name without.
    #[arg(long)]
    pub(crate) domain: Option<Name>,
    /// Join the dedup domain of another repository: both then name and cut chunks alike.
    #[arg(long, value_name = "OTHER_REPO", conflicts_with = "domain")]
    pub(crate) domain_from: Option<PathBuf>,
    /// A file that holds the other repository's passphrase, if it is another than this one's.
    #[arg(long, value_name = "FILE", requires = "domain_from")]
    pub(crate) domain_passphrase_file: Option<PathBuf>,
    /// Pad what is stored to one of few lengths, so that these tell less of what it is; takes up to an eighth more.
    #[arg(long)]
    pub(crate) padding: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoVerifyArgs {
    #[command(flatten)]
    pub(crate) at: RepoAt,
    /// Threads; one for each processor by default.
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Read only about this part of what the packs hold, each MiB by chance; everything else in full. The answer says what was
    /// left out.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "repair")]
    pub(crate) sample: Option<u8>,
    /// What a sample's choice follows from, to read the same again; by chance without, and told.
    #[arg(long, requires = "sample")]
    pub(crate) seed: Option<u64>,
    /// Store anew what is damaged and points need, taken from what is left of it, from --from and from --from-image. What is damaged
    /// goes to the trash only then.
    #[arg(long)]
    pub(crate) repair: bool,
    /// A copy of the folder, or another repository of its dedup domain. May be given more than once.
    #[arg(long, value_name = "OTHER_REPO", requires = "repair")]
    pub(crate) from: Vec<PathBuf>,
    /// A file that holds the other repositories' passphrase, if it is another than this one's.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) from_passphrase_file: Option<PathBuf>,
    /// An image or block device that was backed up: what is still in it is taken. May be given more than once.
    #[arg(long, value_name = "IMAGE", requires = "repair")]
    pub(crate) from_image: Vec<PathBuf>,
    /// Take the folder from the site that owns it: its mover is refused from then on.
    #[arg(long, requires = "repair")]
    pub(crate) take_ownership: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoBackupArgs {
    #[command(flatten)]
    pub(crate) at: RepoAt,
    /// Images or block devices, which must not change meanwhile: the VM's disks, named after their files. What ends in .qcow2
    /// is a qcow2 image, everything else is raw.
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// What the images are, whatever their names say.
    #[arg(long)]
    pub(crate) format: Option<ImageFormat>,
    /// Let qcow2 images name other files that hold a part of their disk. Whoever made the image then chooses a file of this
    /// machine that is read.
    #[arg(long)]
    pub(crate) allow_backing: bool,
    /// How hard to compress what is new.
    #[arg(long, default_value = "balanced")]
    pub(crate) compression: CompressionClass,
    /// Whose disks they are.
    #[arg(long)]
    pub(crate) vm: VmName,
    /// The point's name; made from the VM and the time without.
    #[arg(long)]
    pub(crate) point: Option<Name>,
    /// Read only what this file lists: a line `offset length` in bytes for each range that may have changed since BASE.
    #[arg(long, value_name = "FILE", requires = "base")]
    pub(crate) changed: Option<PathBuf>,
    /// The point that --changed counts from.
    #[arg(long, value_name = "POINT", requires = "changed")]
    pub(crate) base: Option<Name>,
    /// For how many days nobody may drop the point, nor a pack that it names.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=9_999))]
    pub(crate) immutable: Option<u64>,
    /// Threads; one for each processor by default.
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// How a disk lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageFormat {
    /// Byte for byte.
    Raw,
    /// QEMU's copy-on-write image.
    Qcow2,
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionClass {
    /// Not at all.
    None,
    /// lz4.
    Fast,
    /// zstd, tuned for speed.
    Balanced,
    /// zstd level 9.
    High,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoMountArgs {
    #[command(flatten)]
    pub(crate) at: RepoAt,
    /// The empty folder to mount on.
    pub(crate) on: PathBuf,
    /// Only these points; all by default.
    #[arg(long = "point", value_name = "POINT", value_delimiter = ',')]
    pub(crate) points: Vec<Name>,
    /// Let every user of this machine read the disks, not only you.
    #[arg(long)]
    pub(crate) everybody: bool,
    /// Threads that answer; one for each processor by default.
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoRestoreArgs {
    #[command(flatten)]
    pub(crate) at: RepoAt,
    /// The point (`farshore repo points`).
    pub(crate) point: Name,
    /// The folder to write to; made if need be.
    #[arg(long, value_name = "DIR", required_unless_present = "to_device")]
    pub(crate) to: Option<PathBuf>,
    /// The block device to write the disk to. What it holds is lost; when it fails half-way, the device holds a part.
    #[arg(long, value_name = "DEVICE", requires = "disk", conflicts_with_all = ["to", "format"])]
    pub(crate) to_device: Option<PathBuf>,
    /// What the files will be.
    #[arg(long, default_value = "raw")]
    pub(crate) format: ImageFormat,
    /// Only this disk.
    #[arg(long)]
    pub(crate) disk: Option<DiskName>,
    /// Threads; three for each processor by default, since most of them wait for the disk.
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoPruneArgs {
    #[command(flatten)]
    pub(crate) at: RepoAt,
    #[command(flatten)]
    pub(crate) which: PruneWhich,
    /// The time zone in which days, weeks, months and years begin, such as Europe/Berlin. --keep asks for none.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) zone: String,
    /// Do it.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Take the folder from the site that owns it: its mover is refused from then on.
    #[arg(long, requires = "apply")]
    pub(crate) take_ownership: bool,
}

/// Which points go: those named, or those of each VM that none of the rules keeps.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct PruneWhich {
    /// Keep the newest so many of each VM.
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<NonZeroU32>,
    /// Keep those of today and of so many days before, and at least three.
    #[arg(long, value_name = "N")]
    pub(crate) keep_days: Option<NonZeroU32>,
    /// Keep the first of each of so many weeks that have a point.
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<NonZeroU32>,
    /// Keep the first of each of so many months that have a point.
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<NonZeroU32>,
    /// Keep the first of each of so many years that have a point.
    #[arg(long, value_name = "N")]
    pub(crate) keep_yearly: Option<NonZeroU32>,
    /// These go, and no others: it stands alone.
    #[arg(
        long,
        value_name = "POINT",
        value_delimiter = ',',
        conflicts_with_all = ["keep", "keep_days", "keep_weekly", "keep_monthly", "keep_yearly"]
    )]
    pub(crate) points: Vec<Name>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoAdoptArgs {
    /// The repository's name in the site; with --take-ownership its folder.
    pub(crate) repository: PathBuf,
    /// The data folder of the site, which runs.
    #[arg(long, env = "FARSHORE_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Whose it is now, as the refusal and `farshore repo stats` show it; it is taken from nobody else.
    #[arg(long, value_name = "LINEAGE/EPOCH", requires = "reason", value_parser = parse_owner)]
    pub(crate) from: Option<FolderOwner>,
    /// Why, for the log.
    #[arg(long, requires = "from")]
    pub(crate) reason: Option<String>,
    /// There is no site: take the folder from every one. No mover opens it until a site takes it over.
    #[arg(long, conflicts_with_all = ["from", "reason"])]
    pub(crate) take_ownership: bool,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// A point of a repository of a site that runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct HeldPoint {
    /// The repository's name in the site.
    pub(crate) repository: Name,
    /// The point (`farshore get points`).
    pub(crate) point: Name,
    /// The data folder of the site, which runs.
    #[arg(long, env = "FARSHORE_DATA")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RepoHoldArgs {
    #[command(flatten)]
    pub(crate) held: HeldPoint,
    /// Until when: 2026-12-31 (its beginning, UTC) or 2026-12-31T18:00:00+01:00; without it until it is released.
    #[arg(long, value_name = "DATE", value_parser = parse_until)]
    pub(crate) until: Option<Timestamp>,
    /// Why, for the log.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyVerb {
    /// Add a passphrase.
    Add {
        #[command(flatten)]
        at: RepoAt,
        /// A file that holds the new passphrase; else the environment's FARSHORE_NEW_PASSPHRASE.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// List key slots.
    List {
        /// The repository's folder.
        path: PathBuf,
    },
    /// Take a key slot away; the passphrase must be that of another slot.
    Remove {
        #[command(flatten)]
        at: RepoAt,
        /// The slot (`farshore repo key list`).
        slot: String,
    },
}
