//! What is measured: this program and the tools that people use in its place. Commands are run by `sh` in the scratch
//! folder with paths relative to it, so that no path needs quoting: images in `images/`, the disk that is backed up as
//! `src/disk.raw`, the repository in `repo`, what is restored below `out`.

use std::path::Path;
use std::process::Command;

/// What a tool does, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The first backup of the first VM.
    Full,
    /// The same disk a day later.
    SecondDay,
    /// Another VM, much of which the first has.
    SecondVm,
    /// The first backup, to a file.
    Restore,
    /// Proving that what is stored is sound.
    Verify,
}

impl Step {
    /// All of them.
    pub(crate) const ALL: [Step; 5] = [Step::Full, Step::SecondDay, Step::SecondVm, Step::Restore, Step::Verify];

    /// Its name in tables and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Step::Full => "full",
            Step::SecondDay => "second_day",
            Step::SecondVm => "second_vm",
            Step::Restore => "restore",
            Step::Verify => "verify",
        }
    }

    /// The image that `src/disk.raw` is at this step.
    pub(crate) fn image(self) -> &'static str {
        match self {
            Step::SecondDay => "vm1-day2.raw",
            Step::SecondVm => "vm2.raw",
            Step::Full | Step::Restore | Step::Verify => "vm1-day1.raw",
        }
    }

    /// Whether it is a backup.
    pub(crate) fn reads_the_disk(self) -> bool {
        matches!(self, Step::Full | Step::SecondDay | Step::SecondVm)
    }
}

/// A tool and how it is told to do each step.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    /// Its name in tables and JSON.
    pub(crate) name: &'static str,
    /// What it says its version is.
    pub(crate) version: String,
    /// Makes the repository; not timed.
    pub(crate) init: String,
    /// Full, second day, second VM.
    backups: [String; 3],
    restore: String,
    verify: Option<String>,
}

impl Tool {
    /// The command of a step; none when the tool has none.
    pub(crate) fn command(&self, step: Step) -> Option<&str> {
        match step {
            Step::Full => Some(&self.backups[0]),
            Step::SecondDay => Some(&self.backups[1]),
            Step::SecondVm => Some(&self.backups[2]),
            Step::Restore => Some(&self.restore),
            Step::Verify => self.verify.as_deref(),
        }
    }
}

/// This program, encrypting.
pub(crate) const OURS: &str = "farshore";
/// This program, not encrypting.
pub(crate) const OURS_PLAIN: &str = "farshore, not encrypted";
/// The peers, in the order in which they are measured.
pub(crate) const PEERS: [&str; 6] = ["restic", "rustic", "borg", "casync", "qemu-img", "cp"];

/// This program's two ways; it is found as `$FARSHORE`.
pub(crate) fn ours(program: &Path) -> [Tool; 2] {
    let version = version_of(program.as_os_str(), "--version").unwrap_or_default();
    [(OURS, ""), (OURS_PLAIN, "unset FARSHORE_PASSPHRASE; ")].map(|(name, before)| {
        let verb = |verb: &str| format!("{before}\"$FARSHORE\" -q repo {verb}");
        let backup = |vm, point| verb(&format!("backup repo src/disk.raw --vm {vm} --point {point}"));
        Tool {
            name,
            version: version.clone(),
            init: verb("init repo --name bench"),
            backups: [backup("vm1", "d1"), backup("vm1", "d2"), backup("vm2", "v2")],
            restore: verb("restore repo d1 --to out"),
            verify: Some(verb("verify repo")),
        }
    })
}

/// A peer, if it is installed.
pub(crate) fn peer(name: &'static str) -> Option<Tool> {
    let how = if name == "restic" { "version" } else { "--version" };
    let version = version_of(name.as_ref(), how)?;
    Some(match name {
        "restic" => restic(version),
        "rustic" => rustic(version),
        "borg" => borg(version),
        "casync" => casync(version),
        "qemu-img" => qemu_img(version),
        "cp" => cp(version),
        _ => return None,
    })
}

/// The first line that a program says of itself; none when it cannot be started.
fn version_of(program: &std::ffi::OsStr, how: &str) -> Option<String> {
    let said = Command::new(program).arg(how).output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().to_owned())
}

fn restic(version: String) -> Tool {
    let help = Command::new("restic").args(["restore", "--help"]).output();
    let sparse = help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--sparse"));
    let sparse = if sparse { " --sparse" } else { "" };
    let backup = |tag| format!("restic backup --compression auto --tag {tag} src/disk.raw");
    Tool {
        name: "restic",
        version,
        init: "restic init".into(),
        backups: [backup("d1"), backup("d2"), backup("v2")],
        restore: format!("restic restore latest --tag d1 --target out{sparse}"),
        verify: Some("restic check --read-data".into()),
    }
}

fn rustic(version: String) -> Tool {
    let backup = |label| format!("rustic backup --label {label} src/disk.raw");
    Tool {
        name: "rustic",
        version,
        init: "rustic init".into(),
        backups: [backup("d1"), backup("d2"), backup("v2")],
        restore: "rustic restore --filter-label d1 latest out".into(),
        verify: Some("rustic check --read-data".into()),
    }
}

fn borg(version: String) -> Tool {
    let create = |name| format!("borg create -C zstd,3 ::{name} src/disk.raw");
    Tool {
        name: "borg",
        version,
        init: "borg init -e repokey-blake2".into(),
        backups: [create("d1"), create("d2"), create("v2")],
        restore: "cd out && borg extract --sparse ::d1".into(),
        verify: Some("borg check --verify-data".into()),
    }
}

fn casync(version: String) -> Tool {
    let make = |name| format!("casync make --store=repo/s.castr --compression=zstd repo/{name}.caibx src/disk.raw");
    Tool {
        name: "casync",
        version,
        init: "mkdir repo".into(),
        backups: [make("d1"), make("d2"), make("v2")],
        restore: "casync extract --store=repo/s.castr repo/d1.caibx out/disk.raw".into(),
        verify: None,
    }
}

fn qemu_img(version: String) -> Tool {
    let options = "-O qcow2 -W -m 8 -c -o compression_type=zstd";
    let convert = |name| format!("qemu-img convert -f raw {options} src/disk.raw repo/{name}");
    Tool {
        name: "qemu-img",
        version,
        init: "mkdir repo".into(),
        backups: [convert("d1"), convert("d2"), convert("v2")],
        restore: "qemu-img convert -f qcow2 -O raw repo/d1 out/disk.raw".into(),
        verify: Some("qemu-img compare -f raw -F qcow2 src/disk.raw repo/d1".into()),
    }
}

fn cp(version: String) -> Tool {
    let copy = |name| format!("cp --sparse=always src/disk.raw repo/{name}");
    Tool {
        name: "cp",
        version,
        init: "mkdir repo".into(),
        backups: [copy("d1"), copy("d2"), copy("v2")],
        restore: "cp --sparse=always repo/d1 out/disk.raw".into(),
        verify: Some("cmp src/disk.raw repo/d1".into()),
    }
}
