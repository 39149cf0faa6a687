//! The sites' processes: one `farshore up` each over a socket, or control and agent apart over NATS, the agent in a mount
//! namespace in which the other site's folder is not to be seen. Killed with SIGKILL when a site is lost.

use crate::client::Client;
use crate::failure::Failure;
use crate::site::data::DataFolder;
use farshore_bus::{LocalBus, SocketHub};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to come up or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the sites are joined.
pub(crate) enum Joined {
    /// Over a socket that this process serves.
    Socket { path: PathBuf, _hub: SocketHub },
    /// Over NATS.
    Nats(String),
}

/// One site's processes.
pub(crate) struct SiteRig {
    pub(crate) name: &'static str,
    pub(crate) agent: &'static str,
    pub(crate) folder: PathBuf,
    /// The other site's folder, hidden from this site's agent over NATS.
    hidden: PathBuf,
    processes: Vec<Child>,
}

/// Both sites' processes. Dropping it kills what still runs.
pub(crate) struct Rig {
    joined: Joined,
    program: PathBuf,
}

impl Rig {
    /// Readies the bus.
    pub(crate) fn new(nats: Option<&str>, folder: &Path, runtime: &tokio::runtime::Handle) -> Result<Rig, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::defect(&error))?;
        let joined = match nats {
            Some(url) => Joined::Nats(url.to_owned()),
            None => {
                let _inside = runtime.enter();
                let path = folder.join("bus");
                let _stale = std::fs::remove_file(&path);
                let hub = SocketHub::serve(LocalBus::new(), &path)
                    .map_err(|error| Failure::coded(&error.to_string(), "choose a folder with a shorter path"))?;
                Joined::Socket { path, _hub: hub }
            }
        };
        Ok(Rig { joined, program })
    }

    /// Starts a site's processes and waits until its API answers.
    pub(crate) fn start(&self, site: &mut SiteRig) -> Result<Client, Failure> {
        let _stale = std::fs::remove_file(site.folder.join("run/api.json"));
        std::fs::create_dir_all(site.folder.join("run")).map_err(|error| Failure::io("make", &site.folder, &error))?;
        match &self.joined {
            Joined::Socket { path, .. } => {
                let mut up = self.farshore("up", site);
                up.args(["--bare", "--agent", site.agent, "--join"]).arg(path);
                site.spawn("up", up)?;
            }
            Joined::Nats(url) => {
                let mut control = self.farshore("control", site);
                control.args(["--nats", url]);
                site.spawn("control", control)?;
                let mut agent = self.alone(site);
                agent.args(["--site", site.name, "--name", site.agent, "--nats", url]);
                site.spawn("agent", agent)?;
            }
        }
        site.wait_for_api()
    }

    fn farshore(&self, verb: &str, site: &SiteRig) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--data").arg(&site.folder).args(["--site", site.name]);
        command
    }

    /// An agent that cannot see the other site's folder.
    fn alone(&self, site: &SiteRig) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""]);
        command.arg(&site.hidden).arg(&self.program).args(["agent", "--data"]).arg(&site.folder);
        command
    }
}

impl SiteRig {
    pub(crate) fn new(name: &'static str, agent: &'static str, folder: &Path, other: &str) -> SiteRig {
        SiteRig { name, agent, folder: folder.join(name), hidden: folder.join(other), processes: Vec::new() }
    }

    fn spawn(&mut self, part: &str, mut command: Command) -> Result<(), Failure> {
        let path = self.folder.join(format!("run/{part}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Failure::io("write", &path, &error))?;
        let both = log.try_clone().map_err(|error| Failure::io("write", &path, &error))?;
        let child = command.stdin(Stdio::null()).stdout(both).stderr(log).spawn();
        let child = child.map_err(|error| {
            Failure::new(
                "FS-DEMO-START",
                format!("the {part} of {} cannot be started: {error}", self.name),
                "check that the program may be run",
            )
        })?;
        self.processes.push(child);
        Ok(())
    }

    fn wait_for_api(&mut self) -> Result<Client, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.still_up()?;
            if DataFolder::at(&self.folder).api().is_ok()
                && let Ok(client) = Client::of(&self.folder)
                && client.get::<serde_json::Value>("/api/v1/status").is_ok()
            {
                return Ok(client);
            }
            if Instant::now() > deadline {
                return Err(Failure::new(
                    "FS-DEMO-START",
                    format!("site {} did not come up", self.name),
                    &format!("see {}", self.folder.join("run").display()),
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether everything started still runs; says what the process wrote if not.
    pub(crate) fn still_up(&mut self) -> Result<(), Failure> {
        for child in &mut self.processes {
            if let Ok(Some(status)) = child.try_wait() {
                let said = last_words(&self.folder);
                return Err(Failure::new(
                    "FS-DEMO-DIED",
                    format!("a process of site {} ended ({status}): {said}", self.name),
                    "see the run folder of the site",
                ));
            }
        }
        Ok(())
    }

    /// The site is lost: everything is killed at once.
    pub(crate) fn kill(&mut self) {
        for child in &mut self.processes {
            let _gone = child.kill();
        }
        for mut child in self.processes.drain(..) {
            let _reaped = child.wait();
        }
    }

    /// Asks the processes to stop, agents first, and waits for them.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        for child in self.processes.iter_mut().rev() {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let deadline = Instant::now() + PATIENCE;
            loop {
                match child.try_wait() {
                    Ok(Some(status)) if status.success() => break,
                    Ok(Some(status)) => {
                        let said = last_words(&self.folder);
                        return Err(Failure::new(
                            "FS-DEMO-STOP",
                            format!("a process of site {} ended with {status}: {said}", self.name),
                            "see the run folder of the site",
                        ));
                    }
                    Ok(None) if Instant::now() > deadline => {
                        return Err(Failure::new(
                            "FS-DEMO-STOP",
                            format!("a process of site {} does not stop", self.name),
                            "see the run folder of the site",
                        ));
                    }
                    Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                    Err(error) => return Err(Failure::defect(&error)),
                }
            }
        }
        self.processes.clear();
        Ok(())
    }
}

impl Drop for SiteRig {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines that a site's processes wrote.
fn last_words(folder: &Path) -> String {
    let mut words = Vec::new();
    for part in ["up", "control", "agent"] {
        if let Ok(text) = std::fs::read_to_string(folder.join(format!("run/{part}.log"))) {
            let lines: Vec<&str> = text.lines().collect();
            words.extend(lines.iter().rev().take(3).rev().map(|line| (*line).to_owned()));
        }
    }
    words.join(" | ")
}
