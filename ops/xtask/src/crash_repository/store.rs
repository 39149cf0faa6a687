//! A repository's folder as its users see it: verbs of the real program, and what must be there after each.

use super::image::{Image, sha256};
use crate::crash::{Choices, Wrong};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The disk of every point.
type Sha256 = [u8; 32];

/// What is done to a repository.
#[derive(Debug)]
pub(super) enum Verb<'a> {
    /// Reads a disk in.
    Backup { vm: String, image: &'a Image },
    /// Drops all but the newest points of each VM.
    Prune { keep: u64 },
    /// Restores a point.
    Restore { point: String },
    /// Mends what was spoilt, from the copy.
    Repair,
}

/// How a verb ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With success.
    Well,
    /// By SIGKILL.
    Killed,
    /// With an error, which it told.
    Badly(String),
}

/// A point that was announced, or may be there.
#[derive(Debug, Clone)]
pub(super) struct Point {
    vm: String,
    number: u64,
    disk: Sha256,
}

/// See the module.
pub(super) struct Store {
    /// Holds the repository `r`, what is restored, and what its users put there.
    pub(super) folder: PathBuf,
    program: PathBuf,
    passphrase: Option<&'static str>,
    /// Announced points.
    pub(super) points: BTreeMap<String, Point>,
    /// The one that the last backup would make.
    coming: Option<(String, Point)>,
    /// Points of killed backups that are there all the same. Until a writer has come to its end they may be missing: their
    /// backups never said that they were there.
    unannounced: BTreeSet<String>,
    next: u64,
}

impl Store {
    /// Makes a repository.
    pub(super) fn make(folder: &Path, program: &Path, passphrase: Option<&'static str>) -> Result<Store, Wrong> {
        fs::create_dir_all(folder)?;
        let (folder, program) = (folder.to_owned(), program.to_owned());
        let store = Store {
            folder,
            program,
            passphrase,
            points: BTreeMap::new(),
            coming: None,
            unannounced: BTreeSet::new(),
            next: 0,
        };
        store.must(&["init", "r", "--name", "crash"])?;
        Ok(store)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-q", "repo"]).args(arguments).current_dir(&self.folder);
        command.env_remove("FARSHORE_PASSPHRASE").stdin(Stdio::null());
        if let Some(passphrase) = self.passphrase {
            command.env("FARSHORE_PASSPHRASE", passphrase);
        }
        command
    }

    /// Runs a verb that must succeed; answers what it printed.
    fn must(&self, arguments: &[&str]) -> Result<Vec<u8>, Wrong> {
        let output = self.command(arguments).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("repo {}: {}", arguments.join(" "), told(&output.stderr, output.status)).into())
    }

    fn arguments(&mut self, verb: &Verb<'_>) -> Result<Vec<String>, Wrong> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Ok(match verb {
            Verb::Backup { vm, image } => {
                self.next += 1;
                let name = format!("{vm}-{}", self.next);
                let point = Point { vm: vm.clone(), number: self.next, disk: sha256(&image.path)? };
                self.coming = Some((name.clone(), point));
                let path = image.path.to_str().ok_or("the temporary folder's name is no text")?;
                texts(&["backup", "r", path, "--vm", vm, "--point", &name])
            }
            Verb::Prune { keep } => texts(&["prune", "r", "--apply", "--keep", &keep.to_string()]),
            Verb::Restore { point } => {
                self.clear_out()?;
                texts(&["restore", "r", point, "--to", "out"])
            }
            Verb::Repair => texts(&["verify", "r", "--repair", "--from", "copy"]),
        })
    }

    /// Takes away what was restored.
    pub(super) fn clear_out(&self) -> Result<(), Wrong> {
        let out = self.folder.join("out");
        if out.exists() {
            fs::remove_dir_all(out)?;
        }
        Ok(())
    }

    /// Copies the folder, then damages a file of it or takes one away.
    pub(super) fn spoil(&self, choices: &mut Choices) -> Result<(), Wrong> {
        let (folder, copy) = (self.folder.join("r"), self.folder.join("copy"));
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        if !Command::new("cp").arg("-a").args([&folder, &copy]).status()?.success() {
            return Err("the repository could not be copied".into());
        }
        let mut files = vec![folder.join("roster")];
        for part in ["packs", "points", "index"] {
            files_below(&folder.join(part), &mut files)?;
        }
        let path = &files[choices.of(0..files.len() as u64) as usize];
        if choices.of(0..4) == 0 {
            return Ok(fs::remove_file(path)?);
        }
        let mut bytes = fs::read(path)?;
        let at = choices.of(0..bytes.len().max(1) as u64) as usize;
        bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        Ok(fs::write(path, bytes)?)
    }

    /// Runs a verb to its end; the model follows.
    pub(super) fn undisturbed(&mut self, verb: &Verb<'_>) -> Result<(), Wrong> {
        match self.tried(verb)? {
            Ended::Well => self.settle(verb).map(|_| ()),
            Ended::Killed => Err(format!("{verb:?} was killed by somebody else").into()),
            Ended::Badly(said) => Err(format!("{verb:?}: {said}").into()),
        }
    }

    /// Runs a verb to its end, whatever that is.
    pub(super) fn tried(&mut self, verb: &Verb<'_>) -> Result<Ended, Wrong> {
        let arguments = self.arguments(verb)?;
        let output = self.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output()?;
        Ok(self.ended(verb, output.status, &output.stderr))
    }

    /// Starts a verb and kills it after a while.
    pub(super) fn killed(&mut self, verb: &Verb<'_>, after: Duration) -> Result<Ended, Wrong> {
        let arguments = self.arguments(verb)?;
        let mut command = self.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(after);
        // It may have ended: then there is nothing to kill, and its status says how.
        child.kill()?;
        let output = child.wait_with_output()?;
        Ok(self.ended(verb, output.status, &output.stderr))
    }

    fn ended(&mut self, verb: &Verb<'_>, status: ExitStatus, stderr: &[u8]) -> Ended {
        if status.success() {
            if matches!(verb, Verb::Backup { .. } | Verb::Prune { .. }) {
                self.unannounced.clear();
            }
            if let Some((name, point)) = self.coming.take() {
                self.points.insert(name, point);
            }
            return Ended::Well;
        }
        if status.code().is_none() { Ended::Killed } else { Ended::Badly(told(stderr, status)) }
    }

    /// Compares the points that are listed with those that must be. One that its backup could not announce counts from now
    /// on if it is there; answers how many do.
    ///
    /// # Errors
    /// What is missing, or there without reason.
    pub(super) fn settle(&mut self, verb: &Verb<'_>) -> Result<u64, Wrong> {
        let listed = self.listed()?;
        let coming = self.coming.take();
        let mut kept = 0;
        if let Some((name, point)) = coming.filter(|(name, _)| listed.contains(name)) {
            self.unannounced.insert(name.clone());
            self.points.insert(name, point);
            kept = 1;
        }
        let gone: Vec<String> = self.points.keys().filter(|name| !listed.contains(name)).cloned().collect();
        let may_go = match verb {
            Verb::Prune { keep } => self.beyond(*keep),
            // It takes what it finds: a damage may have taken the one that nobody has announced.
            Verb::Repair => self.unannounced.iter().cloned().collect(),
            Verb::Backup { .. } | Verb::Restore { .. } => Vec::new(),
        };
        if let Some(lost) = gone.iter().find(|name| !may_go.contains(name)) {
            return Err(format!("point {lost} was announced and is gone after {verb:?}").into());
        }
        self.points.retain(|name, _| listed.contains(name));
        if let Some(strange) = listed.iter().find(|name| !self.points.contains_key(*name)) {
            return Err(format!("point {strange} is there after {verb:?} and nobody made it").into());
        }
        if let Verb::Restore { point } = verb {
            self.restored_is_right(point)?;
        }
        Ok(kept)
    }

    /// What a prune may drop.
    fn beyond(&self, keep: u64) -> Vec<String> {
        let newer =
            |point: &Point| self.points.values().filter(|o| o.vm == point.vm && o.number > point.number).count();
        self.points.iter().filter(|(_, point)| newer(point) as u64 >= keep).map(|(name, _)| name.clone()).collect()
    }

    fn listed(&self) -> Result<Vec<String>, Wrong> {
        let told: Value = serde_json::from_slice(&self.must(&["points", "r", "-o", "json"])?)?;
        let points = told.as_array().or_else(|| told["points"].as_array()).ok_or("`repo points` tells no list")?;
        let name = |point: &Value| point["point"].as_str().map(str::to_owned);
        points.iter().map(name).collect::<Option<_>>().ok_or_else(|| "a point has no name".into())
    }

    /// Under its name is only what is whole; there need not be anything.
    fn restored_is_right(&self, point: &str) -> Result<bool, Wrong> {
        let known = self.points.get(point).ok_or_else(|| format!("{point} is not known"))?;
        let disk = self.folder.join("out").join(format!("{}.raw", known.vm));
        if disk.exists() && sha256(&disk)? != known.disk {
            return Err(format!("what was restored of {point} is not what was backed up").into());
        }
        Ok(disk.exists())
    }

    /// Some point.
    pub(super) fn any_point(&self, choices: &mut Choices) -> Result<String, Wrong> {
        let at = choices.of(0..self.points.len().max(1) as u64) as usize;
        self.points.keys().nth(at).cloned().ok_or_else(|| "no point is left".into())
    }

    /// Reads everything and restores every point; answers how many.
    ///
    /// # Errors
    /// What is not as it was announced.
    pub(super) fn all_is_well(&self) -> Result<u64, Wrong> {
        self.must(&["verify", "r"])?;
        for point in self.points.keys() {
            self.clear_out()?;
            self.must(&["restore", "r", point, "--to", "out"])?;
            if !self.restored_is_right(point)? {
                return Err(format!("{point} was restored, they say, and no disk is there").into());
            }
        }
        Ok(self.points.len() as u64)
    }
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Wrong> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn told(stderr: &[u8], status: ExitStatus) -> String {
    let said = String::from_utf8_lossy(stderr);
    format!("{status}: {}", said.lines().take(3).collect::<Vec<_>>().join(" | "))
}
