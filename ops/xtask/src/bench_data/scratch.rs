//! The folder in which tools are measured, and how: a shell under `/usr/bin/time`, which tells processor time and peak
//! memory of everything that it started; wall time is taken here and includes making what was written durable.

use super::tools::{Step, Tool};
use super::{BenchError, Figure};
use farshore_repository::{RawSource, Source};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// See the module.
pub(crate) struct Scratch {
    folder: PathBuf,
    program: PathBuf,
}

impl Scratch {
    /// A scratch folder with these images of another folder, linked.
    pub(crate) fn new(folder: &Path, (images, names): (&Path, &[&str]), program: &Path) -> Result<Scratch, BenchError> {
        let scratch = Scratch { folder: folder.canonicalize()?, program: program.canonicalize()? };
        fs::create_dir(scratch.at("images"))?;
        for image in names {
            fs::hard_link(images.join(image), scratch.at("images").join(image))?;
        }
        Ok(scratch)
    }

    /// A place in the folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty place for a tool.
    fn clear(&self) -> Result<(), BenchError> {
        for name in ["repo", "out", "src", "home"] {
            if self.at(name).exists() {
                fs::remove_dir_all(self.at(name))?;
            }
        }
        for name in ["out", "src", "home"] {
            fs::create_dir(self.at(name))?;
        }
        Ok(())
    }

    /// Runs every step of a tool once.
    pub(crate) fn run(&self, tool: &Tool) -> Result<Vec<(Step, Figure)>, BenchError> {
        self.clear()?;
        self.time(&tool.init)?;
        let mut figures = Vec::new();
        for step in Step::ALL {
            let Some(command) = tool.command(step) else { continue };
            let disk = self.at("src/disk.raw");
            if disk.exists() {
                fs::remove_file(&disk)?;
            }
            fs::hard_link(self.at("images").join(step.image()), &disk)?;
            // Or a tool that goes by names and times would not look at it.
            File::options().write(true).open(&disk)?.set_modified(std::time::SystemTime::now())?;
            if step.reads_the_disk() {
                warm(&disk)?;
            }
            let mut figure = self.time(command)?;
            figure.stored_bytes = stored(&self.at("repo"))?;
            if step == Step::Restore {
                compare(&disk, &only_file(&self.at("out"))?)?;
                fs::remove_dir_all(self.at("out"))?;
                fs::create_dir(self.at("out"))?;
            }
            figures.push((step, figure));
        }
        self.clear()?;
        Ok(figures)
    }

    /// Runs a command and makes what it wrote durable. What others have written is durable before.
    pub(crate) fn time(&self, command: &str) -> Result<Figure, BenchError> {
        Command::new("sync").status()?;
        let (told, log) = (self.at("told"), File::create(self.at("log"))?);
        let begun = Instant::now();
        let mut timed = Command::new("/usr/bin/time");
        timed.args(["-q", "-f", "%U %S %M", "-o"]).arg(&told).args(["sh", "-c", command]);
        self.environment(&mut timed);
        let status = timed.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        for name in ["repo", "out"].iter().filter(|name| self.at(name).exists()) {
            Command::new("sync").arg("-f").arg(self.at(name)).status()?;
        }
        let wall_s = begun.elapsed().as_secs_f64();
        if !status.success() {
            let said = fs::read_to_string(self.at("log")).unwrap_or_default();
            let last = said.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
            return Err(BenchError::Tool { command: command.to_owned(), status: status.to_string(), last });
        }
        let told = fs::read_to_string(&told)?;
        let numbers: Vec<f64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [user, system, peak_kib] = numbers[..] else { return Err(BenchError::Time(told)) };
        Ok(Figure { wall_s, cpu_s: user + system, peak_mib: peak_kib / 1024.0, stored_bytes: 0 })
    }

    /// Passphrases for this folder's throw-away repositories, and places for what tools keep beside them.
    fn environment(&self, command: &mut Command) {
        let (repo, home) = (self.at("repo"), self.at("home"));
        command.current_dir(&self.folder).env("FARSHORE", &self.program).env("FARSHORE_PASSPHRASE", "bench");
        command.env("RESTIC_PASSWORD", "bench").env("RESTIC_REPOSITORY", &repo).env("RESTIC_CACHE_DIR", &home);
        command.env("RUSTIC_PASSWORD", "bench").env("RUSTIC_REPOSITORY", &repo).env("RUSTIC_CACHE_DIR", &home);
        command.env("RESTIC_PROGRESS_FPS", "0").env("RUSTIC_NO_PROGRESS", "true");
        command.env("BORG_PASSPHRASE", "bench").env("BORG_REPO", &repo).env("BORG_BASE_DIR", &home);
    }
}

/// Reads all that holds data and gives it to `each`.
pub(crate) fn read_all(path: &Path, each: &mut dyn FnMut(&[u8])) -> Result<(), BenchError> {
    let source = RawSource::open(path).map_err(|error| BenchError::Differs(error.to_string()))?;
    let mut buffer = vec![0; 1 << 20];
    for extent in source.extents() {
        let mut at = extent.start;
        while at < extent.end {
            let length = (extent.end - at).min(buffer.len() as u64);
            source.read_at(at, &mut buffer[..length as usize])?;
            each(&buffer[..length as usize]);
            at += length;
        }
    }
    Ok(())
}

/// Brings a disk into the page cache. It may have been there: systems that reclaim early drop what was not read for a minute.
pub(crate) fn warm(path: &Path) -> Result<(), BenchError> {
    read_all(path, &mut |_| ())
}

/// Bytes that a folder takes on its disk.
fn stored(folder: &Path) -> Result<u64, BenchError> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata()))?;
        bytes += if metadata?.is_dir() { stored(&path)? } else { fs::symlink_metadata(&path)?.blocks() * 512 };
    }
    Ok(bytes)
}

/// The one file below a folder: tools restore to paths of their own.
fn only_file(folder: &Path) -> Result<PathBuf, BenchError> {
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_file() {
                return Ok(path);
            }
            left.push(path);
        }
    }
    Err(BenchError::Differs("nothing was restored".to_owned()))
}

/// Whether two files are the same, byte for byte.
fn compare(wanted: &Path, found: &Path) -> Result<(), BenchError> {
    let differs = |what: String| Err(BenchError::Differs(what));
    let (wanted, found) = (File::open(wanted)?, File::open(found)?);
    let (size, other) = (wanted.metadata()?.len(), found.metadata()?.len());
    if size != other {
        return differs(format!("what was restored has {other} bytes, the disk {size}"));
    }
    let (mut wanted, mut found) = (BufReader::new(wanted), BufReader::new(found));
    let (mut one, mut two) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(one.len());
        wanted.read_exact(&mut one[..length])?;
        found.read_exact(&mut two[..length])?;
        if one[..length] != two[..length] {
            return differs(format!("what was restored differs from the disk in the MiB from byte {at} on"));
        }
        at += length as u64;
    }
    Ok(())
}
